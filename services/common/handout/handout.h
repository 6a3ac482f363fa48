/* A batch that is in the ledger, as the trainer gets it: members with their payloads, judged episodes, the message.
 *
 * Everything lives in the arena. Which payloads travel follows from the job: those of members with signal, of all where there
 * is a value head, and one of each group where GAIN-RL measures prompts. */
#ifndef PAL_HANDOUT_HANDOUT_H
#define PAL_HANDOUT_HANDOUT_H

#include "services/common/job/job.h"
#include "services/common/store/store_batch.h"
#include "services/common/wire/wire.h"

/* Does the trainer read this member's tokens? first: it is the first of its group in the batch. */
bool handout_reads(const struct job_spec *spec, bool signal, bool first);

/* Source on the wire: what is fresh, or shown for the warm start, needs no word. */
struct span handout_source(const char *source);

/* Member i by what the ledger has of it, without payload and age. */
void handout_member(const struct store_batch *batch, size_t i, const struct store_member *kept,
                    struct wire_batch_member *ret);

/* Fills the payloads that are read and not there yet. */
err_t handout_payloads(struct store *store, int64_t job, const struct job_spec *spec, struct wire_batch_member *members,
                       size_t count, struct arena *arena) MUST_USE;

/* All members of the batch, with payloads; kept [members] is what the ledger has of them. */
err_t handout_members(struct store *store, int64_t job, const struct job_spec *spec, const struct store_batch *batch,
                      struct arena *arena, struct wire_batch_member **ret, struct store_member **ret_kept) MUST_USE;

/* The judged episodes of a batch that ends a phase; NULL without any. */
err_t handout_judged(struct store *store, int64_t job, const struct job_spec *spec, const struct store_batch *batch,
                     struct arena *arena, struct wire_judged **ret) MUST_USE;

struct wire_batch handout_message(int64_t job, const struct store_batch *batch, const struct wire_batch_member *members,
                                  const struct wire_judged *judged);

#endif
