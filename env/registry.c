#include "env/builtin.h"

static const struct env_class *const classes[] = {&env_adventure, &env_webform, &env_lake};

const struct env_class *env_find(const char *name)
{
    for (size_t i = 0; name && i < env_count(); i++) {
        if (strcmp(classes[i]->name, name) == 0) return classes[i];
    }
    return NULL;
}

size_t env_count(void)
{
    return sizeof classes / sizeof *classes;
}

const struct env_class *env_at(size_t index)
{
    return index < env_count() ? classes[index] : NULL;
}
