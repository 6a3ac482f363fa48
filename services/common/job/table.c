#include "services/common/job/table.h"

#include <stdio.h>

/* clang-format off */
#define SECTION(name, pointer, doc) static const struct job_key keys_##name[] = {
#define INT(section, key, def, min, max, doc) {#key, JOB_INT, offsetof(struct job_##section, key), def, min, max, 0, NULL, doc},
#define NUM(section, key, def, min, max, doc) {#key, JOB_NUM, offsetof(struct job_##section, key), def, min, max, 0, NULL, doc},
#define FLAG(section, key, def, doc) {#key, JOB_FLAG, offsetof(struct job_##section, key), def, 0, 1, 0, NULL, doc},
#define CHOICE(section, key, def, names, doc) {#key, JOB_CHOICE, offsetof(struct job_##section, key), def, 0, 0, 0, names, doc},
#define TEXT(section, key, bytes, def, doc) {#key, JOB_TEXT, offsetof(struct job_##section, key), 0, 0, 0, bytes, def, doc},
#define END_SECTION(name) };
#include "services/common/job/job.def"
#include "services/common/job/undef.h"

#define SECTION(name, pointer, doc) {#name, pointer, doc, keys_##name, sizeof keys_##name / sizeof *keys_##name},
#define INT(section, key, def, min, max, doc)
#define NUM(section, key, def, min, max, doc)
#define FLAG(section, key, def, doc)
#define CHOICE(section, key, def, names, doc)
#define TEXT(section, key, bytes, def, doc)
#define END_SECTION(name)
static const struct job_section sections[JOB_SECTION_COUNT] = {
#include "services/common/job/job.def"
};
/* clang-format on */

static const struct job_pair pairs[] = {
    {JOB_SECTION_trainer, "clip", "clip_low", "clip_high"},
    {JOB_SECTION_trainer, "betas", "beta1", "beta2"},
};

#define METHOD(name)                                                                                                         \
    {                                                                                                                        \
#name, JOB_SECTION_##name, offsetof(struct job_spec, name), offsetof(struct job_##name, on)                          \
    }
static const struct job_method methods[] = {METHOD(dart), METHOD(guide), METHOD(webrl), METHOD(replay_ratio)};

const struct job_method *job_methods(size_t *ret_count)
{
    *ret_count = sizeof methods / sizeof *methods;
    return methods;
}

const struct job_section *job_section(enum job_section_id id)
{
    return &sections[id];
}

const struct job_pair *job_pairs(size_t *ret_count)
{
    *ret_count = sizeof pairs / sizeof *pairs;
    return pairs;
}

const struct job_pair *job_pair_of(enum job_section_id section, const char *key)
{
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        if (pairs[i].section != section) continue;
        if (strcmp(pairs[i].first, key) == 0 || strcmp(pairs[i].second, key) == 0) return &pairs[i];
    }
    return NULL;
}

bool job_choice_name(const char *names, size_t index, char *ret, size_t size)
{
    for (const char *at = names; at; index--) {
        const char *bar = strchr(at, '|');
        size_t length = bar ? (size_t)(bar - at) : strlen(at);
        if (index == 0) return (void)snprintf(ret, size, "%.*s", (int)length, at), length < size;
        at = bar ? bar + 1 : NULL;
    }
    return false;
}
