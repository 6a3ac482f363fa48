/* Policy versions: published, wanted, pinned, committed, and whether workers keep up. */
#include "services/common/run/log.h"
#include "services/common/store/store_batch.h"
#include "services/common/store/store_job.h"
#include "services/common/store/store_policy.h"
#include "services/data/data.h"

#include <stdio.h>
#include <stdlib.h>

#define PINS      64 /* most of one policy_ack */
#define LAG_SPARE 2  /* versions past max_staleness before a worker's lag is an alarm */

static void to_text(char *ret, size_t size, struct span text)
{
    (void)snprintf(ret, size, "%.*s", SPAN_ARG(text));
}

const struct wire_policy_wanted *policy_wanted(struct data *data)
{
    const struct plan *plan = data->plan;
    struct wire_policy_wanted *wanted = arena_array(&data->arena, struct wire_policy_wanted, 1);
    if (wanted)
        *wanted = (struct wire_policy_wanted){(uint64_t)plan->job,
                                              plan->lineage,
                                              plan->published,
                                              span_text(plan->published_digest),
                                              span_text(plan->published_where),
                                              span_text("")};
    return wanted;
}

void policy_take_weights(const struct plan *plan, struct evaluation *evaluation)
{
    struct published *weights = &evaluation->weights;
    *weights = (struct published){.lineage = plan->lineage, .version = plan->published};
    memcpy(weights->digest, plan->published_digest, sizeof weights->digest);
    memcpy(weights->where, plan->published_where, sizeof weights->where);
}

/* What evaluations are pinned to is in memory, what scores are pinned to in the ledger. */
static err_t find_weights(struct data *data, int64_t version, struct store_policy *ret)
{
    const struct evaluation *e = data->plan->evaluations;
    while (e && e->version != version) e = e->next;
    if (!e || !e->weights.where[0]) return store_policy_of_version(data->store, data->plan->job, version, &data->arena, ret);
    *ret = (struct store_policy){.lineage = e->weights.lineage,
                                 .version = version,
                                 .digest = arena_text(&data->arena, span_text(e->weights.digest)),
                                 .where = arena_text(&data->arena, span_text(e->weights.where))};
    return ret->digest && ret->where ? ERR_ok : ERR_memory;
}

err_t policy_announce(struct data *data, const char *worker, int64_t version)
{
    struct store_policy weights;
    if (version == data->plan->published) return ERR_ok; /* it is told of the newest anyway */
    err_t err = find_weights(data, version, &weights);
    if (err == ERR_not_found) return ERR_ok;
    TRY(err);
    struct wire_policy_wanted *wanted = arena_array(&data->arena, struct wire_policy_wanted, 1);
    if (wanted)
        *wanted = (struct wire_policy_wanted){.job = (uint64_t)data->plan->job,
                                              .lineage = weights.lineage,
                                              .version = version,
                                              .digest = span_text(weights.digest),
                                              .where = span_text(weights.where)};
    data_say(data, worker, NULL, WIRE_policy_wanted, wanted);
    return data->turn_err;
}

const struct wire_policy_wanted *policy_orm(struct data *data)
{
    const struct plan *plan = data->plan;
    struct wire_policy_wanted *wanted = arena_array(&data->arena, struct wire_policy_wanted, 1);
    /* copies: a fork in this turn forgets the model before the message is sent */
    const char *digest = arena_text(&data->arena, span_text(plan->phase.orm_digest));
    const char *where = arena_text(&data->arena, span_text(plan->phase.orm_where));
    if (!wanted || !digest || !where) return NULL;
    *wanted = (struct wire_policy_wanted){.job = (uint64_t)plan->job,
                                          .lineage = plan->lineage,
                                          .version = plan->phase.orm_version,
                                          .digest = span_text(digest),
                                          .where = span_text(where),
                                          .role = span_text("orm")};
    return wanted;
}

static void pin(uint64_t pinned[PINS], size_t *count, int64_t version)
{
    for (size_t i = 0; i < *count; i++) {
        if (pinned[i] == (uint64_t)version) return;
    }
    if (*count < PINS) pinned[(*count)++] = (uint64_t)version;
}

static void acknowledge(struct data *data, const char *peer)
{
    struct plan *plan = data->plan;
    size_t count = 0;
    uint64_t *pinned = arena_array(&data->arena, uint64_t, PINS);
    struct wire_policy_ack *ack = arena_array(&data->arena, struct wire_policy_ack, 1);
    if (!pinned || !ack) {
        data_fail(data, ERR_memory);
        return;
    }
    for (struct evaluation *e = plan->evaluations; e; e = e->next) pin(pinned, &count, e->version);
    for (const struct group *g = plan->groups; g; g = g->next) {
        if (g->source == GROUP_SCORE) pin(pinned, &count, g->pin_version);
    }
    *ack = (struct wire_policy_ack){(uint64_t)plan->job, {pinned, count}};
    data_say(data, peer, NULL, WIRE_policy_ack, ack);
}

static bool is_evaluated(const struct plan *plan, int64_t version)
{
    const struct job_evaluation *spec = &plan->spec.evaluation;
    int64_t newest = plan->last_evaluated;
    for (const struct evaluation *e = plan->evaluations; e; e = e->next) newest = e->version > newest ? e->version : newest;
    if (spec->episodes == 0 || version <= newest) return false;
    if (version == 0 || version >= plan->spec.trainer.updates) return true;
    /* a skipped update publishes nothing: the first version at or past each multiple */
    return spec->every > 0 && version / spec->every > (newest < 0 ? 0 : newest / spec->every);
}

static void publish_orm(struct data *data, const struct wire_policy_published *published)
{
    struct phase *phase = &data->plan->phase;
    if (published->version < phase->orm_version) return;
    phase->orm_version = published->version;
    to_text(phase->orm_digest, sizeof phase->orm_digest, published->digest);
    to_text(phase->orm_where, sizeof phase->orm_where, published->where);
    stall_over(data);
    data_say(data, NULL, "rollout", WIRE_policy_wanted, policy_orm(data));
}

static err_t publish(struct data *data, const struct wire_policy_published *published)
{
    struct plan *plan = data->plan;
    const char *digest = arena_text(&data->arena, published->digest), *where = arena_text(&data->arena, published->where);
    if (!digest || !where) return ERR_memory;
    bool orm = span_is(published->role, "orm");
    TRY(data_begin(data));
    const struct store_policy row = {published->lineage, published->version, digest, where, orm ? "orm" : "policy"};
    TRY(store_policy_publish(data->store, plan->job, &row));
    if (orm) {
        publish_orm(data, published);
        return ERR_ok;
    }
    if (published->version <= plan->published) return ERR_ok; /* said before */
    stall_over(data);
    plan->published = published->version;
    to_text(plan->published_digest, sizeof plan->published_digest, published->digest);
    to_text(plan->published_where, sizeof plan->published_where, published->where);
    for (struct evaluation *e = plan->evaluations; e; e = e->next) {
        if (e->version == plan->published) policy_take_weights(plan, e); /* a lineage begins at it */
    }
    data_say(data, NULL, "rollout", WIRE_policy_wanted, policy_wanted(data));
    return is_evaluated(plan, published->version) ? evaluate_start(data, published->version) : ERR_ok;
}

void policy_published(struct data *data, const char *peer, const struct wire_policy_published *published)
{
    struct plan *plan = data->plan;
    if (!plan || (uint64_t)plan->job != published->job || published->lineage != plan->lineage) return;
    err_t err = publish(data, published);
    if (err == ERR_ok)
        acknowledge(data, peer);
    else
        data_fail(data, err);
}

static err_t commit(struct data *data, const struct wire_checkpoint_committed *checkpoint)
{
    struct plan *plan = data->plan;
    const struct store_checkpoint row = {
        .lineage = checkpoint->lineage,
        .version = checkpoint->version,
        .update = checkpoint->update,
        .path = arena_text(&data->arena, checkpoint->path),
        .sha256 = arena_text(&data->arena, checkpoint->sha256),
        .size = (int64_t)checkpoint->size,
        .digest = arena_text(&data->arena, checkpoint->digest),
    };
    if (!row.path || !row.sha256 || !row.digest) return ERR_memory;
    TRY(data_begin(data));
    TRY(store_policy_commit(data->store, plan->job, &row));
    TRY(store_batch_commit(data->store, plan->job, checkpoint->lineage, checkpoint->update));
    if (checkpoint->update > plan->checkpoint_update) plan->checkpoint_update = checkpoint->update;
    if (checkpoint->version <= plan->checkpoint_version) return ERR_ok; /* said before */
    plan->checkpoint_version = checkpoint->version;
    const char *inputs = arena_printf(
        &data->arena, "{\"lineage\": %lld, \"version\": %lld, \"update\": %lld, \"size\": %llu}", (long long)row.lineage,
        (long long)row.version, (long long)row.update, (unsigned long long)checkpoint->size);
    const char *message = arena_printf(&data->arena, "version %lld is durable at %s", (long long)row.version, row.path);
    return inputs && message ? store_job_event(data->store, plan->job, "checkpoint", message, inputs) : ERR_memory;
}

void policy_checkpoint(struct data *data, const char *peer, const struct wire_checkpoint_committed *checkpoint)
{
    struct plan *plan = data->plan;
    if (!plan || (uint64_t)plan->job != checkpoint->job || checkpoint->lineage != plan->lineage) return;
    if (checkpoint->update > plan->updates_done) return; /* its update_done was lost: both come again */
    err_t err = commit(data, checkpoint);
    if (err != ERR_ok) {
        data_fail(data, err);
        return;
    }
    struct wire_trainer_ack *ack = arena_array(&data->arena, struct wire_trainer_ack, 1);
    if (ack)
        *ack = (struct wire_trainer_ack){checkpoint->job, checkpoint->lineage, WIRE_checkpoint_committed, checkpoint->update};
    data_say(data, peer, NULL, WIRE_trainer_ack, ack);
}

/* A worker that serves weights far older than the newest is said to lag, once per version it is stuck at. */
void policy_lag(struct data *data, const struct peer *worker)
{
    struct plan *plan = data->plan;
    if (!plan || !plan->running || plan->published < 0 || worker->lineage != plan->lineage || worker->version < 0) return;
    int64_t behind = plan->published - worker->version;
    if (behind <= plan->spec.trainer.max_staleness + LAG_SPARE || worker->version == plan->lag_said) return;
    plan->lag_said = worker->version;
    const char *message = arena_printf(&data->arena, "%s serves version %lld, %lld behind the newest", worker->identity,
                                       (long long)worker->version, (long long)behind);
    log_warn("%s", message ? message : "a worker lags");
    if (message && data->store && data_begin(data) == ERR_ok)
        data_fail(data, store_job_event(data->store, plan->job, "alarm", message, "{\"alarm\": \"policy_lag\"}"));
}
