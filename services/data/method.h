/* What the methods share: their state in the ledger, their figures, and numbers as JSON for their decisions.
 *
 * A method's state is a struct of doubles, one per row of its table; it goes to `method_state` with the commit of every
 * update and comes back from the newest row at or before the update recorded, so a rollback takes it back to the fork. */
#ifndef PAL_DATA_METHOD_H
#define PAL_DATA_METHOD_H

#include "services/common/base/arena.h"
#include "services/common/wire/wire.h"

struct data;

/* The name of a double in a state and where it is. */
struct method_field {
    const char *name;
    size_t offset;
};

/* NaN where the method is off or had nothing to say. */
struct method_figures {
#define FIGURE(name, doc) double name;
#include "services/data/method_figures.def"
#undef FIGURE
};

struct method_number {
    const char *name;
    double value;
};

/* Writes a state under the lineage and update of now, inside the turn's transaction. */
err_t method_put(struct data *data, const char *method, const struct method_field *fields, size_t count,
                 const void *state) MUST_USE;
/* Reads the state of now; *state stays as it is where there is none. Names that the row lacks keep their value. */
err_t method_get(struct data *data, const char *method, const struct method_field *fields, size_t count,
                 void *state) MUST_USE;
/* {"name": value, ...}, null for what is not finite; NULL when memory is out. */
const char *method_json(struct arena *arena, const struct method_number *numbers, size_t count);
/* A figure that the trainer told; NaN when it did not. */
double method_told(const struct wire_update_done *done, const char *name);

/* The seams: state after a start or a fork; after an update was recorded, before its figures are written. passes: over its
 * batch. */
err_t method_load(struct data *data) MUST_USE;
err_t method_update(struct data *data, const struct wire_update_done *done, int64_t passes) MUST_USE;
err_t method_advance(struct data *data) MUST_USE; /* in every turn of a running job */

/* ratio.c */
err_t ratio_load(struct data *data) MUST_USE;
/* Passes over the batch of the next update; 0: it is discarded, with a decision. 1 when the method is off. */
err_t ratio_passes(struct data *data, int64_t update, int64_t *ret) MUST_USE;
err_t ratio_update(struct data *data, const struct wire_update_done *done, int64_t passes) MUST_USE;

#endif
