/* The intake of a batch: copied from its message, decompressed and decoded on the compute thread.
 *
 * A message lives only for a turn of the loop, so an intake owns a copy of what it needs. Sizes are bounded before memory is
 * taken: a payload by the wire, its raw form by INTAKE_RAW_BYTES, the whole batch by INTAKE_BATCH_BYTES. */
#ifndef PAL_SERVICES_TRAINER_INTAKE_H
#define PAL_SERVICES_TRAINER_INTAKE_H

#include "rollout/judge.h"
#include "services/common/base/arena.h"
#include "services/common/wire/wire.h"
#include "trainer/orm.h"
#include "trainer/update.h"

#define INTAKE_RAW_BYTES   ((size_t)32 << 20) /* of one sequence: SEQUENCE_MAX_TOKENS fit */
#define INTAKE_BATCH_BYTES ((size_t)2 << 30)
#define INTAKE_PASSES      64 /* most extra passes over a batch */

enum intake_kind { INTAKE_KIND_warmstart, INTAKE_KIND_update, INTAKE_KIND_end };

struct intake {
    enum intake_kind kind;
    int64_t update;
    double norm_tokens;
    size_t extra_passes;
    bool discarded;
    int64_t phase;
    bool phase_end;
    struct wire_batch_member *members; /* [count], payloads in the arena */
    size_t count;
    struct episode *episodes;   /* [count] after intake_decode */
    struct wire_judged *judged; /* [case_count], payloads in the arena */
    struct orm_case *cases;     /* [case_count] after intake_decode */
    size_t case_count;
    struct arena arena;
};

/* How episodes are read: what the outcome reward model sees of one. */
struct intake_reader {
    struct judge judge;
    uint32_t room; /* tokens of a verdict's sequence at most, without the verdict; 0: there is no reward model */
};

/* ERR_malformed: no such kind of batch. */
err_t intake_new(struct intake **ret, const struct wire_batch *batch) MUST_USE;
void intake_free(struct intake **intake);
/* Fills episodes and cases. ERR_malformed names the episode whose payload is broken. */
err_t intake_decode(struct intake *intake, const struct intake_reader *reader) MUST_USE;
/* What an update is made of; borrows from the intake. */
struct update_batch intake_update(const struct intake *intake);

#endif
