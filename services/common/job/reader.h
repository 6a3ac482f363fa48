/* Reading JSON objects by the rows of job.def, collecting problems. Internal to this folder. */
#ifndef PAL_JOB_READER_H
#define PAL_JOB_READER_H

#include "services/common/job/table.h"

#include <jansson.h>

struct job_reader {
    struct arena *arena;
    struct job_problems *problems;
    bool out_of_memory;
};

#define JOB_POINTER_BYTES 256

/* Writes a JSON pointer; what does not fit is cut (keys come from outside). */
void job_place(char ret[JOB_POINTER_BYTES], const char *fmt, ...) PRINTF(2, 3);

/* One problem; the texts go to the arena. */
void job_problem(struct job_reader *reader, const char *pointer, const char *fmt, ...) PRINTF(3, 4);

/* Sets every key of the section to its default. */
void job_defaults(enum job_section_id id, void *section);
/* Reads an object's keys into the section's struct; keys in `others` (NULL-terminated) are the caller's. object NULL or
 * not an object: defaults, and a problem for the latter. Returns the object to go on with, or NULL. */
json_t *job_read(struct job_reader *reader, enum job_section_id id, json_t *object, void *section, const char *pointer,
                 const char *const *others);
/* Complains about keys of an object that are in neither list (both NULL-terminated, either may be NULL). */
void job_unknown_keys(struct job_reader *reader, json_t *object, const char *pointer, const char *const *keys);
/* Checks a number and stores it. */
bool job_read_int(struct job_reader *reader, json_t *value, double min, double max, const char *pointer, int64_t *ret);
bool job_read_number(struct job_reader *reader, json_t *value, double min, double max, const char *pointer, double *ret);
bool job_read_text(struct job_reader *reader, json_t *value, size_t bytes, const char *pointer, char *ret);

#endif
