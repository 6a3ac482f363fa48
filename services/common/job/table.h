/* job.def as rows: what parse, dump, schema and documents walk. Internal to this folder. */
#ifndef PAL_JOB_TABLE_H
#define PAL_JOB_TABLE_H

#include "services/common/job/job.h"

enum job_kind { JOB_INT, JOB_NUM, JOB_FLAG, JOB_CHOICE, JOB_TEXT };

struct job_key {
    const char *name;
    enum job_kind kind;
    size_t offset;    /* in the section's struct */
    double def;       /* INT, NUM, FLAG, CHOICE (the index) */
    double min, max;  /* INT, NUM */
    size_t bytes;     /* TEXT, terminator included */
    const char *text; /* TEXT: the default; CHOICE: "a|b|c" */
    const char *doc;
};

struct job_section {
    const char *name;
    const char *pointer;
    const char *doc;
    const struct job_key *keys;
    size_t count;
};

enum job_section_id {
#define SECTION(name, pointer, doc) JOB_SECTION_##name,
#define INT(section, key, def, min, max, doc)
#define NUM(section, key, def, min, max, doc)
#define FLAG(section, key, def, doc)
#define CHOICE(section, key, def, names, doc)
#define TEXT(section, key, bytes, def, doc)
#define END_SECTION(name)
#include "services/common/job/job.def"
#include "services/common/job/undef.h"
    JOB_SECTION_COUNT
};

const struct job_section *job_section(enum job_section_id id);

/* Two keys that are one array of two numbers in the file: `clip: [low, high]`. NULL when the key is no half of a pair. */
struct job_pair {
    enum job_section_id section;
    const char *name;
    const char *first, *second;
};
const struct job_pair *job_pairs(size_t *ret_count);
const struct job_pair *job_pair_of(enum job_section_id section, const char *key);

/* A method of /curation that a job may leave out: null, or an object of its own section. */
struct job_method {
    const char *name;
    enum job_section_id section;
    size_t offset; /* of its struct in job_spec */
    size_t on;     /* of its flag in that struct */
};
const struct job_method *job_methods(size_t *ret_count);

/* The index-th name of "a|b|c"; false past the end. */
bool job_choice_name(const char *names, size_t index, char *ret, size_t size);

#endif
