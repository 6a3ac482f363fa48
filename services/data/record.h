/* What is known of a task from its plain episodes: outcomes, steps of its successes, how often it was last played.
 *
 * Only episodes of closed fresh groups that were played without a hint count (docs/methods.md); they are kept by episode, the
 * newest ones, so the records are the same whichever group closed first and whoever read them back from the ledger. */
#ifndef PAL_DATA_RECORD_H
#define PAL_DATA_RECORD_H

#include "services/common/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct plan;
struct group;
struct data;

#define RECORD_WINS 32 /* successes of a task that the pool can draw from, at most dart.cap_window if that is more */

/* A plain episode that ended with an outcome; or one that was imported. */
struct outcome_row {
    int64_t episode;
    double reward;
    int64_t steps;
    int64_t update; /* that its group was reserved to; imports: 0 */
    int64_t drawn;  /* successes: times it came from the pool */
};

/* Rows by episode, ascending; the oldest goes when `most` are there. */
struct outcome_rows {
    struct outcome_row *rows; /* owned */
    size_t count, room;
};

struct record {
    int64_t assigned; /* size of the newest fresh group planned; 0: none yet */
    struct outcome_rows outcomes, wins, imports;
};

void record_free(struct record *record);
err_t record_add(struct outcome_rows *rows, size_t most, const struct outcome_row *row) MUST_USE;
/* Mean reward of the newest m outcomes; *ret_count says how many there are of them. 0 without any. */
double record_success(const struct record *record, size_t m, size_t *ret_count);

/* The episodes of a fresh group that closed. */
err_t record_group(struct plan *plan, const struct group *group) MUST_USE;
/* An imported episode that succeeded. */
err_t record_import(struct plan *plan, const struct group *group) MUST_USE;
/* All of them from the ledger, as far as the job's methods look at them. */
err_t record_load(struct data *data) MUST_USE;

#endif
