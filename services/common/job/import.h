/* Demonstrations that are handed in: what to play for the experience pool (curation.dart), by REST or from a file.
 *
 *     {"task": {...}, "actions": ["go east", "take gem"]}      a task by what it is, as the environment understands it
 *     {"task_id": 17, "actions": [...], "environment": 0}      or by its number; environment: where two have the same task
 *
 * A file has one object a line (JSONL), a request an array of them. Every problem is collected, with a JSON pointer into the
 * array: "/3/actions/0" is of the fourth object. Nothing else is checked here: whether the job has such a task is the data
 * manager's to say. */
#ifndef PAL_JOB_IMPORT_H
#define PAL_JOB_IMPORT_H

#include "services/common/job/job.h"

#define IMPORT_ITEMS        1024  /* most of one request */
#define IMPORT_ACTIONS      1000  /* most actions of one */
#define IMPORT_ACTION_BYTES 4096  /* most bytes of an action */
#define IMPORT_SCRIPT_BYTES 65536 /* most bytes of all its actions, line ends included */
#define IMPORT_TASK_BYTES   4096

struct import_item {
    int64_t task;        /* its number, -1: by body */
    int64_t environment; /* -1: the first one that has it */
    const char *body;    /* the task as compact JSON, "" when it is given by number */
    const char *script;  /* the actions, one a line */
};

/* An array of at most IMPORT_ITEMS; items and texts in the arena. ERR_malformed: no JSON (one problem at "");
 * ERR_invalid: ret_problems has at least one row. */
err_t import_parse(struct span json, struct arena *arena, struct import_item **ret, size_t *ret_count,
                   struct job_problems *ret_problems) MUST_USE;
/* One line of a file; problems as above, with pointers into the object. */
err_t import_line(struct span line, struct arena *arena, struct import_item *ret, struct job_problems *ret_problems) MUST_USE;

#endif
