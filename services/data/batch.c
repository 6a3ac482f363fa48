/* Batches: what an update consumes, handed out once and the same whenever it is asked for again. */
#include "curation/admission.h"
#include "services/common/handout/handout.h"
#include "services/common/run/log.h"
#include "services/common/store/store_job.h"
#include "services/common/store/store_policy.h"
#include "services/data/data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define SKIPS_TO_END 50 /* updates without any signal in a row */

static int by_id(const void *a, const void *b)
{
    const struct group *const *x = a, *const *y = b;
    return ((*x)->id > (*y)->id) - ((*x)->id < (*y)->id);
}

static bool is_of(const struct group *group, int64_t update)
{
    bool consumed = update == 0 ? group->source == GROUP_DEMONSTRATION : plan_is_for_update(group->source);
    return consumed && group->state == GROUP_CLOSED && group->update_for == update;
}

/* Closed groups of an update, by id; for update 0 the demonstrations. */
static err_t collect(struct data *data, int64_t update, struct group ***ret, size_t *ret_count)
{
    struct plan *plan = data->plan;
    size_t count = 0;
    for (struct group *g = plan->groups; g; g = g->next) count += is_of(g, update);
    struct group **groups = arena_array(&data->arena, struct group *, count + 1);
    if (!groups) return ERR_memory;
    count = 0;
    for (struct group *g = plan->groups; g; g = g->next) {
        if (is_of(g, update)) groups[count++] = g;
    }
    qsort(groups, count, sizeof *groups, by_id);
    *ret = groups;
    *ret_count = count;
    return ERR_ok;
}

static bool is_ready(const struct plan *plan, int64_t update, size_t closed)
{
    if (update == 0) return !plan->spec.warmstart.on || (plan->demonstrations_open == 0 && plan->demonstrations > 0);
    return closed == (size_t)plan->spec.trainer.groups_per_update;
}

static void answer(struct data *data, const struct peer *peer, const struct store_batch *batch,
                   const struct wire_batch_member *members, const struct wire_judged *judged)
{
    struct wire_batch *message = arena_array(&data->arena, struct wire_batch, 1);
    if (message) {
        *message = handout_message(data->plan->job, batch, members, judged);
        message->lineage = data->plan->lineage;
    }
    data_say(data, peer->identity, NULL, WIRE_batch, message);
}

/* A batch that was handed out before, in this lineage or an older one: the same members in the same order. */
static err_t again(struct data *data, const struct peer *peer, struct store_batch *batch)
{
    struct plan *plan = data->plan;
    if (batch->lineage != plan->lineage) {
        batch->lineage = plan->lineage;
        TRY(store_batch_insert(data->store, plan->job, batch));
    }
    struct wire_batch_member *members = NULL;
    TRY(pack_stored(data, batch, &members));
    plan->replayed = 0;
    plan->replayed_update = batch->update;
    for (size_t i = 0; i < batch->episode_count; i++) plan->replayed += strcmp(batch->source[i], "replay") == 0;
    struct wire_judged *judged = NULL;
    TRY(replay_judged(data, batch, &judged));
    answer(data, peer, batch, members, judged);
    struct group **groups = NULL;
    size_t count = 0;
    TRY(collect(data, batch->update, &groups, &count)); /* after a restart they are in memory once more */
    if (count && plan->figures.update != batch->update) figures_take(plan, batch->update, groups, count);
    for (size_t g = 0; g < count; g++) plan_remove_group(plan, groups[g]);
    return phase_handed_out(data, batch->update);
}

/* Nothing more is handed out; open work is dropped when the job ends. */
static void say_end(struct data *data, const struct peer *peer, int64_t update)
{
    const struct store_batch end = {.update = update, .kind = "end", .passes = 1};
    answer(data, peer, &end, NULL, NULL);
    data->plan->end_said = true;
}

/* how many the tables have */
enum {
#define FIGURE(name, doc) FIGURE_##name,
#include "services/data/figures.def"
#include "services/data/method_figures.def"
#undef FIGURE
    FIGURES
};

/* With the batch, so that they outlive this process. */
static err_t note_figures(struct data *data, int64_t update)
{
    struct plan *plan = data->plan;
    struct batch_figures *f = &plan->figures;
    struct store_metric *metrics = arena_array(&data->arena, struct store_metric, FIGURES);
    size_t n = 0;
    if (!metrics) return ERR_memory;
    if (f->episodes == 0) return ERR_ok;
    f->tokens_spent = (double)plan->tokens_spent;
    f->groups_void = (double)plan->voided;
    f->episodes_retried = (double)plan->retried;
#define FIGURE(name, doc)                                                                                                    \
    if (isfinite(f->name)) metrics[n++] = (struct store_metric){#name, f->name};
#include "services/data/figures.def"
#undef FIGURE
    return store_metric_insert(data->store, plan->job, plan->lineage, update, metrics, n);
}

static err_t serve(struct data *data, struct peer *peer)
{
    struct plan *plan = data->plan;
    int64_t update = peer->wanted_update;
    if (update != plan->updates_done + 1) {
        if (update > plan->updates_done + 1) return ERR_ok; /* its update_done is still to come */
    } else if (plan->ending || update > plan->spec.trainer.updates) {
        if (!plan->ending) plan->ending = "updates";
        say_end(data, peer, update);
        peer->waits = false;
        return ERR_ok;
    }
    TRY(data_begin(data));
    struct store_batch batch;
    err_t err = store_batch_read(data->store, plan->job, update, &data->arena, &batch);
    peer->asked = false;
    if (err == ERR_ok) {
        peer->waits = false;
        return again(data, peer, &batch);
    }
    if (err != ERR_not_found) return err;
    struct group **groups = NULL;
    size_t count = 0;
    TRY(collect(data, update, &groups, &count));
    if (!is_ready(plan, update, count)) return ERR_ok;
    struct wire_batch_member *members = NULL;
    TRY(pack_groups(data, update, groups, count, &batch, &members));
    TRY(ratio_passes(data, update, &batch.passes));
    batch.phase = phase_of_update(plan, update);
    batch.phase_end = plan->spec.webrl.on && phase_ends(update, plan->spec.webrl.phase_updates);
    TRY(replay_pack(data, &batch, &members));
    /* what the batch refers to must be there first */
    TRY(writes_flush(&data->writes, data->store, plan, &data->arena));
    writes_clear(&data->writes);
    TRY(pack_pooled(data, &batch, members));
    TRY(replay_judge(data, &batch));
    TRY(store_batch_insert(data->store, plan->job, &batch));
    struct wire_judged *judged = NULL;
    TRY(replay_judged(data, &batch, &judged));
    TRY(pack_payloads(data, members, batch.episode_count));
    figures_take(plan, update, groups, count);
    TRY(note_figures(data, update));
    answer(data, peer, &batch, members, judged);
    TRY(phase_handed_out(data, update));
    for (size_t g = 0; g < count; g++) plan_remove_group(plan, groups[g]);
    peer->waits = false;
    stall_over(data);
    return ERR_ok;
}

/* Reading for every open request at every turn would cost a statement each; only what can be answered is looked at. */
static bool worth_a_look(const struct plan *plan, const struct peer *peer)
{
    int64_t update = peer->wanted_update;
    if (update <= plan->updates_done) return true;
    if (update > plan->updates_done + 1) return false;
    if (plan->ending || update > plan->spec.trainer.updates || update == 0) return true;
    return peer->asked || plan_closed_for(plan, update) == (size_t)plan->spec.trainer.groups_per_update;
}

err_t batch_advance(struct data *data)
{
    if (data->plan->paused) return ERR_ok;
    for (size_t i = 0; i < DATA_PEERS; i++) {
        struct peer *peer = &data->peers[i];
        if (!peer->identity[0] || !peer->waits || peer->gone) continue;
        if (strcmp(peer->identity, data->plan->trainer) != 0 || peer->wanted_lineage != data->plan->lineage) {
            peer->waits = false; /* an older trainer */
            continue;
        }
        if (worth_a_look(data->plan, peer)) TRY(serve(data, peer));
    }
    return ERR_ok;
}

err_t batch_load_ending(struct data *data)
{
    struct plan *plan = data->plan;
    bool reached = false;
    TRY(store_batch_skips(data->store, plan->job, plan->updates_done, SKIPS_TO_END, &plan->skipped_in_a_row));
    TRY(store_evaluation_reached(data->store, plan->job, plan->version, plan->spec.stop.holdout_success, &reached));
    plan->ending = NULL;
    if (reached)
        plan->ending = "holdout_success";
    else if (plan->skipped_in_a_row >= SKIPS_TO_END)
        plan->ending = "nothing_left_to_learn";
    else if (plan->updates_done >= plan->spec.trainer.updates)
        plan->ending = "updates";
    else if (plan->spec.stop.tokens > 0 && plan->tokens_spent >= plan->spec.stop.tokens)
        plan->ending = "tokens";
    return ERR_ok;
}

/* As the trainer reports it. What else was said of the update, by the lineage in which its batch was first handed out, this
 * lineage says too: each tells its own history whole. */
static err_t note_metrics(struct data *data, const struct wire_update_done *done)
{
    struct plan *plan = data->plan;
    struct store_metric *metrics = arena_array(&data->arena, struct store_metric, done->metrics_count + FIGURES);
    if (!metrics) return ERR_memory;
    size_t n = 0;
    for (size_t i = 0; i < done->metrics_count; i++) {
        metrics[n].name = arena_text(&data->arena, done->metrics[i].name);
        metrics[n++].value = done->metrics[i].value;
        if (!metrics[n - 1].name) return ERR_memory;
    }
#define FIGURE(name, doc)                                                                                                    \
    if (isfinite(plan->method_figures.name)) metrics[n++] = (struct store_metric){#name, plan->method_figures.name};
#include "services/data/method_figures.def"
#undef FIGURE
    if (n) TRY(store_metric_insert(data->store, plan->job, done->lineage, done->update, metrics, n));
    return done->lineage > 0 ? store_metric_inherit(data->store, plan->job, done->lineage, done->update) : ERR_ok;
}

static err_t apply(struct data *data, const struct wire_update_done *done)
{
    struct plan *plan = data->plan;
    int64_t passes = -1;
    const char *outcome = arena_text(&data->arena, done->outcome), *digest = arena_text(&data->arena, done->digest);
    if (!outcome || !digest) return ERR_memory;
    TRY(data_begin(data));
    TRY(store_batch_apply(data->store, plan->job, done->lineage, done->update, outcome, done->version, digest, &passes));
    if (passes < 0) return ERR_ok; /* said before */
    if (done->update != plan->updates_done + 1)
        return err_set(ERR_conflict, "update %lld is done, %lld was expected", (long long)done->update,
                       (long long)plan->updates_done + 1);
    plan->updates_done = done->update;
    plan->version = done->version;
    bool skipped = strcmp(outcome, "skipped") == 0;
    if (passes > 0) plan->skipped_in_a_row = skipped ? plan->skipped_in_a_row + 1 : 0; /* what was discarded says nothing */
    if (plan->skipped_in_a_row >= SKIPS_TO_END && !plan->ending) plan->ending = "nothing_left_to_learn";
    if (done->update >= plan->spec.trainer.updates && !plan->ending) plan->ending = "updates";
    if (plan->spec.stop.tokens > 0 && plan->tokens_spent >= plan->spec.stop.tokens && !plan->ending) plan->ending = "tokens";
    TRY(store_job_progress(data->store, plan->job, plan->lineage, plan->updates_done, plan->version, true));
    stall_over(data);
    TRY(method_update(data, done, passes));
    return note_metrics(data, done);
}

void batch_update_done(struct data *data, const char *peer, const struct wire_update_done *done)
{
    struct plan *plan = data->plan;
    if (!plan || (uint64_t)plan->job != done->job || done->lineage != plan->lineage) return; /* an older lineage */
    err_t err = apply(data, done);
    if (err != ERR_ok) {
        data_fail(data, err);
        return;
    }
    struct wire_trainer_ack *ack = arena_array(&data->arena, struct wire_trainer_ack, 1);
    if (ack) *ack = (struct wire_trainer_ack){done->job, done->lineage, WIRE_update_done, done->update};
    data_say(data, peer, NULL, WIRE_trainer_ack, ack);
}
