/* pal replay: updates made again from the ledger, their weights compared with what was recorded, bit for bit. */
#include "services/common/handout/handout.h"
#include "services/common/store/store_read.h"
#include "services/ctl/ctl.h"
#include "services/trainer/apply.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct replay {
    struct store *store;
    struct pool *pool;
    int64_t job;
    struct buf spec;
    json_t *checkpoints;
    struct assignment *assignment;
    bool json;
    json_t *rows; /* what is printed with --json */
};

static err_t read_job(struct replay *r)
{
    AUTO(buf) text = {0};
    err_t err = store_read_spec(r->store, r->job, &r->spec);
    if (err == ERR_not_found) return err_set(ERR_not_found, "there is no job %lld", (long long)r->job);
    TRY(err);
    TRY(store_read_checkpoints(r->store, r->job, &text));
    r->checkpoints = json_loadb(buf_chars(&text), text.size, 0, NULL);
    return r->checkpoints ? ERR_ok : err_set(ERR_database, "the list of checkpoints is not JSON");
}

/* The newest checkpoint before the update whose file is still there (older ones are deleted, trainer.checkpoints_kept). */
static err_t load(struct replay *r, int64_t update)
{
    const json_t *best = NULL;
    json_t *row = NULL;
    size_t i = 0;
    json_array_foreach(r->checkpoints, i, row)
    {
        if (ctl_number(row, "update") >= (double)update || access(ctl_text(row, "path"), R_OK) != 0) continue;
        if (!best || ctl_number(row, "update") >= ctl_number(best, "update")) best = row;
    }
    if (!best) return err_set(ERR_not_found, "no checkpoint before update %lld is on disk", (long long)update);
    const struct wire_job_assign message = {.job = (uint64_t)r->job,
                                            .lineage = (int64_t)ctl_number(best, "lineage"),
                                            .spec = buf_span(&r->spec),
                                            .resume_version = (int64_t)ctl_number(best, "version"),
                                            .resume_path = span_text(ctl_text(best, "path")),
                                            .resume_sha256 = span_text(ctl_text(best, "sha256"))};
    TRY(assignment_new(&r->assignment, &message));
    TRY(assignment_load(r->assignment, r->pool));
    if (!r->json) (void)printf("from %s (update %lld)\n", ctl_text(best, "path"), (long long)r->assignment->trainee->update);
    return ERR_ok;
}

/* The batch as it was handed out. */
static err_t fetch(struct replay *r, int64_t update, struct arena *arena, struct store_batch *batch, struct wire_batch *ret)
{
    struct wire_batch_member *members = NULL;
    struct store_member *kept = NULL;
    struct wire_judged *judged = NULL;
    const struct job_spec *spec = &r->assignment->spec;
    TRY(store_batch_read(r->store, r->job, update, arena, batch));
    TRY(handout_members(r->store, r->job, spec, batch, arena, &members, &kept));
    TRY(handout_judged(r->store, r->job, spec, batch, arena, &judged));
    *ret = handout_message(r->job, batch, members, judged);
    return ERR_ok;
}

static err_t redo(struct replay *r, const struct wire_batch *message, const char **ret_outcome, struct digest *ret_digest)
{
    struct assignment *a = r->assignment;
    struct apply_result result;
    TRY(intake_new(&a->batch, message));
    err_t err = apply_batch(a, NULL, &result);
    intake_free(&a->batch);
    *ret_outcome = result.outcome;
    return err == ERR_ok ? model_digest(a->trainee->model, ret_digest) : err;
}

static err_t one(struct replay *r, int64_t update, bool *ret_same)
{
    AUTO(arena) arena = {0};
    struct store_batch batch;
    struct wire_batch message;
    struct digest digest;
    const char *outcome = "";
    arena_init(&arena, (size_t)4 << 30);
    err_t err = fetch(r, update, &arena, &batch, &message);
    if (err == ERR_ok && !*batch.outcome) err = err_set(ERR_not_found, "it was handed out and never reported");
    if (err == ERR_ok) err = redo(r, &message, &outcome, &digest);
    if (err != ERR_ok) return err_prefix(err, "update %lld", (long long)update);
    *ret_same = strcmp(outcome, batch.outcome) == 0 && strcmp(digest.hex, batch.digest) == 0;
    if (!r->json)
        (void)printf("update %-6lld %-8s %.16s %s\n", (long long)update, outcome, digest.hex,
                     *ret_same ? "as recorded" : "DIFFERS");
    (void)json_array_append_new(r->rows,
                                json_pack("{s:I, s:s, s:s, s:s, s:b}", "update", (json_int_t)update, "outcome", outcome,
                                          "digest", digest.hex, "recorded", batch.digest, "same", (int)*ret_same));
    return ERR_ok;
}

static err_t run(struct replay *r, int64_t update, bool *ret_same)
{
    TRY(read_job(r));
    TRY(load(r, update));
    *ret_same = true;
    for (int64_t u = r->assignment->trainee->update + 1; u <= update && *ret_same; u++) TRY(one(r, u, ret_same));
    return ERR_ok;
}

/* A whole number from `least`; -1 after complaining. */
static long long whole(const char *name, const char *text, long long least)
{
    char *end = NULL;
    long long value = text ? strtoll(text, &end, 10) : -1;
    if (text && end != text && !*end && value >= least) return value;
    (void)fprintf(stderr, "pal: %s wants a whole number from %lld\n", name, least);
    return -1;
}

int command_replay(struct ctl *ctl)
{
    const char *update_text = ctl_option(ctl, "--update"), *threads_text = ctl_option(ctl, "--threads");
    struct replay r = {.json = ctl->json};
    bool same = false;
    long long update = whole("--update", update_text, 1);
    long long threads = threads_text ? whole("--threads", threads_text, 1) : sysconf(_SC_NPROCESSORS_ONLN);
    if (update < 0 || threads < 1 || threads > 256 || !ctl_id(ctl, &r.job)) return 2;
    r.rows = json_array();
    err_t err = ctl_ledger(ctl, &r.store);
    if (err == ERR_ok) err = pool_new(&r.pool, (size_t)threads);
    if (err == ERR_ok) err = run(&r, update, &same);
    int code = err == ERR_ok ? !same : ctl_fail(err);
    if (err == ERR_ok && r.json) (void)print_json(r.rows);
    if (err == ERR_ok && !r.json)
        (void)printf(
            same ? "the weights after update %lld are those recorded, bit for bit\n"
                 : "update %lld gives other weights (other threads than the trainer's, or another build?)\n",
            (long long)json_number_value(json_object_get(json_array_get(r.rows, json_array_size(r.rows) - 1), "update")));
    assignment_free(&r.assignment);
    pool_free(&r.pool);
    store_close(&r.store);
    json_decref(r.rows);
    json_decref(r.checkpoints);
    buf_fini(&r.spec);
    return code;
}
