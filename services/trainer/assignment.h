/* An assignment: one job in one lineage, from job_assign until it is stopped or replaced.
 *
 * It is made from the message on the loop and prepared (job parsed, model made or resumed) on the compute thread. While a
 * compute work runs, the thread alone touches trainee, batch and configs; the loop only raises `cancel`. */
#ifndef PAL_SERVICES_TRAINER_ASSIGNMENT_H
#define PAL_SERVICES_TRAINER_ASSIGNMENT_H

#include "services/common/job/job.h"
#include "services/common/wire/wire.h"
#include "services/trainer/archive.h"
#include "services/trainer/intake.h"
#include "services/trainer/prompts.h"
#include "services/trainer/shelf.h"
#include "trainer/phase.h"
#include "trainer/update.h"
#include "trainer/warmstart.h"

struct assignment {
    uint64_t job;
    int64_t lineage;
    int64_t resume_version; /* -1: from the start */
    const char *spec_text;  /* in the arena, and so are the following */
    const char *resume_path;
    const char *resume_sha256;
    struct arena arena;

    struct job_spec spec; /* from here on: made by assignment_prepare */
    struct update_config update;
    struct warmstart_config warmstart;
    struct phase_config phase;
    bool reward_only; /* generated tasks are rewarded by the outcome reward model alone */
    struct intake_reader reader;
    struct prompts prompts;
    struct trainee *trainee;
    struct shelf shelf;
    struct archive archive;

    atomic_bool cancel; /* raised by the loop, looked at between micro-batches */
    bool dropped;       /* stopped or replaced: freed when no work uses it */
    bool stopped;       /* by job_stop: its published policies go too */
    bool prepared;
    bool failed; /* job_failed was sent: it waits to be stopped */
    bool ended;  /* a batch of kind end came */
    char reason[ERR_TEXT_BYTES];

    int64_t want; /* the update whose batch is asked for or worked on */
    bool asked;   /* batch_request was sent and not answered */
    struct intake *batch;
    struct digest digest; /* of the newest published weights */
    struct digest reward; /* of the outcome reward model on the shelf, empty: there is none */
    int64_t reward_version;
    uint64_t told_ms;       /* when batch_request or job_failed was last sent */
    uint64_t idle_since_ns; /* nothing to do but to wait for the batch since, or 0 */
    double waited_ms;       /* for the batch that is worked on */
    bool save_due;
    uint64_t save_at_ms; /* not before */
    size_t save_attempts;
    int64_t saved_version; /* newest version with a checkpoint, -1: none */
};

err_t assignment_new(struct assignment **ret, const struct wire_job_assign *message) MUST_USE;
void assignment_free(struct assignment **assignment);

/* What a trainee of this job is made with; the model is set by the caller. */
void assignment_trainee_config(const struct job_spec *spec, struct trainee_config *config);

/* Parses the job, makes the tokenizer's vocabulary, the model and the optimizer, or resumes them from the checkpoint after
 * its SHA-256 was compared. Blocks; touches nothing outside this process. */
err_t assignment_load(struct assignment *assignment, struct pool *pool) MUST_USE;
/* assignment_load, and the job's places for policies and checkpoints. Every error is a reason to fail the job. */
err_t assignment_prepare(struct assignment *assignment, const char *state_dir, struct pool *pool) MUST_USE;

#endif
