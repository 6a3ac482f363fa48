#include "env/env.h"
#include "services/common/job/job.h"

err_t job_words(const struct job_spec *spec, struct arena *arena, const char *const **ret, size_t *ret_count)
{
    size_t most = 0, count = 0;
    for (size_t i = 0; i < spec->environment_count; i++) {
        const struct env_class *class = env_find(spec->environments[i].name);
        for (const char *const *word = class ? class->words : NULL; word && *word; word++) most++;
    }
    const char **words = arena_array(arena, const char *, most + 1);
    if (!words) return ERR_memory;
    for (size_t i = 0; i < spec->environment_count; i++) {
        const struct job_environment *env = &spec->environments[i];
        const struct env_class *class = env->provider == JOB_PROVIDER_BUILTIN ? env_find(env->name) : NULL;
        for (const char *const *word = class ? class->words : NULL; word && *word; word++) {
            bool known = false;
            for (size_t k = 0; k < count && !known; k++) known = strcmp(words[k], *word) == 0;
            if (!known) words[count++] = *word;
        }
    }
    *ret = words;
    *ret_count = count;
    return ERR_ok;
}
