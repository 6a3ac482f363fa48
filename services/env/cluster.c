#include "services/env/cluster_impl.h"

#include <stdio.h>
#include <stdlib.h>

static struct home *home_of(struct cluster *cluster, uint64_t job, size_t environment)
{
    for (size_t i = 0; i < CLUSTER_HOMES; i++) {
        struct home *home = &cluster->homes[i];
        if (home->class && home->job == job && home->environment == environment) return home;
    }
    return NULL;
}

static bool job_known(const struct cluster *cluster, uint64_t job)
{
    for (size_t i = 0; i < CLUSTER_HOMES; i++) {
        if (cluster->homes[i].class && cluster->homes[i].job == job) return true;
    }
    return false;
}

/* ---- requests ---- */

static void set_peer(struct slot *slot, const char *peer)
{
    (void)snprintf(slot->peer, sizeof slot->peer, "%s", peer);
}

static uint64_t or_default(uint64_t ms, uint64_t most)
{
    return ms == 0 || ms > most ? most : ms;
}

static void repeat(struct cluster *cluster, struct slot *slot, const char *peer)
{
    set_peer(slot, peer);
    cluster->counters.repeated++;
    cluster_emit(cluster, slot);
}

static err_t fill(struct cluster *cluster, struct slot *slot, const char *peer, const struct wire_reset_item *item,
                  uint64_t remaining_ms)
{
    uint64_t now = uv_now(cluster->loop);
    slot->cluster = cluster;
    slot->token = item->token;
    slot->environment = (size_t)item->environment;
    slot->asker_ms = now + or_default(remaining_ms, CLUSTER_DEADLINE_MS);
    slot->expires_ms = now + or_default(item->ttl_ms, CLUSTER_TTL_MS);
    slot->reset = (struct provider_reset){.episode_seed = item->episode_seed,
                                          .expert = item->expert,
                                          .hint = item->hint,
                                          .noise = item->noise,
                                          .noise_seed = item->noise_seed};
    set_peer(slot, peer);
    return buf_append(&slot->task, item->task_text.data, item->task_text.size);
}

void cluster_acquire_reset(struct cluster *cluster, const char *peer, uint64_t job, const struct wire_reset_item *item,
                           uint64_t remaining_ms)
{
    struct slot *slot = slots_find(&cluster->slots, job, item->episode);
    if (slot && item->token < slot->token) {
        cluster_refuse(cluster, peer, job, item->episode, item->token, 0, OUTCOME_cancelled,
                       "a newer token holds this episode");
        return;
    }
    if (slot && item->token == slot->token) {
        bool in_flight = slot->state != SLOT_STATE_READY && slot->state != SLOT_STATE_ENDED;
        if (in_flight)
            set_peer(slot, peer); /* the answer comes */
        else if (slot->last.there)
            repeat(cluster, slot, peer);
        else
            cluster_refuse(cluster, peer, job, item->episode, item->token, 0, OUTCOME_cancelled, "this token's slot is gone");
        return;
    }
    if (slot) {
        cluster_end(cluster, slot);
        slots_forget(&cluster->slots, slot);
    }
    if (slots_add(&cluster->slots, job, item->episode, &slot) != ERR_ok) {
        cluster_refuse(cluster, peer, job, item->episode, item->token, 0, OUTCOME_cancelled, err_text());
        return;
    }
    err_t err = fill(cluster, slot, peer, item, remaining_ms);
    slot->home = home_of(cluster, job, slot->environment);
    cluster_arm(cluster, cluster_due(slot));
    if (err != ERR_ok)
        cluster_fail(slot, OUTCOME_env_crash, err_text());
    else if (!slot->home && job_known(cluster, job))
        cluster_fail(slot, OUTCOME_env_error, "the job has no environment of this number");
    cluster_pump(cluster);
}

static bool refuse_action(struct cluster *cluster, const char *peer, uint64_t job, const struct wire_action_item *item,
                          const struct slot *slot)
{
    enum outcome outcome = OUTCOME_cancelled;
    const char *detail = NULL;
    if (!slot || item->token > slot->token) {
        outcome = OUTCOME_env_crash;
        detail = "the cluster does not know this episode; it may have been restarted";
    } else if (item->token < slot->token) {
        detail = "a newer token holds this episode";
    } else if (slot->state == SLOT_STATE_ENDED || slot->state == SLOT_STATE_WAITING || slot->state == SLOT_STATE_RESETTING) {
        detail = slot->state == SLOT_STATE_ENDED ? "the episode is over" : "the episode has not begun";
    } else if (item->step != slot->step) {
        detail = "this is not the next step";
    }
    if (detail) cluster_refuse(cluster, peer, job, item->episode, item->token, item->step, outcome, detail);
    return detail != NULL;
}

void cluster_action(struct cluster *cluster, const char *peer, uint64_t job, const struct wire_action_item *item,
                    uint64_t remaining_ms)
{
    struct slot *slot = slots_find(&cluster->slots, job, item->episode);
    bool ours = slot && slot->token == item->token;
    if (ours && slot->state == SLOT_STATE_STEPPING && item->step == slot->step) {
        set_peer(slot, peer); /* the answer comes */
        return;
    }
    bool answered = ours && (slot->state == SLOT_STATE_READY || slot->state == SLOT_STATE_ENDED);
    if (answered && slot->last.there && (item->step + 1 == slot->last.step || slot->last.outcome != OUTCOME_ok)) {
        repeat(cluster, slot, peer);
        return;
    }
    if (refuse_action(cluster, peer, job, item, slot)) return;
    set_peer(slot, peer);
    slot->asker_ms = uv_now(cluster->loop) + or_default(remaining_ms, CLUSTER_DEADLINE_MS);
    cluster_begin_call(cluster, slot, SLOT_STATE_STEPPING, slot->home->step_timeout_ms);
    slot->home->class->step(slot->seat, item->action);
}

static void drop(struct cluster *cluster, struct slot *slot)
{
    slot->last.there = false;
    cluster_end(cluster, slot);
}

void cluster_release(struct cluster *cluster, uint64_t job, uint64_t episode, uint64_t token)
{
    struct slot *slot = slots_find(&cluster->slots, job, episode);
    if (!slot || token < slot->token || slot->state == SLOT_STATE_ENDED) return;
    cluster->counters.released++;
    drop(cluster, slot);
    cluster_pump(cluster);
}

struct holding {
    uint64_t episode, token;
};

static int by_episode(const void *a, const void *b)
{
    const struct holding *x = a, *y = b;
    return (x->episode > y->episode) - (x->episode < y->episode);
}

void cluster_held(struct cluster *cluster, const char *peer, uint64_t job, const uint64_t *episodes, const uint64_t *tokens,
                  size_t count)
{
    struct slot_list *const lists[] = {&cluster->slots.waiting, &cluster->slots.seated};
    struct holding *held = calloc(count + 1, sizeof *held);
    if (!held) return; /* the next second */
    for (size_t i = 0; i < count; i++) held[i] = (struct holding){episodes[i], tokens[i]};
    qsort(held, count, sizeof *held, by_episode);
    for (size_t i = 0; i < 2; i++) {
        for (struct slot *slot = lists[i]->first, *after; slot; slot = after) {
            after = slot->next;
            if (slot->job != job || strcmp(slot->peer, peer) != 0) continue;
            const struct holding key = {slot->episode, 0};
            const struct holding *found = bsearch(&key, held, count, sizeof *held, by_episode);
            if (found && found->token >= slot->token) continue;
            cluster->counters.released++;
            drop(cluster, slot);
        }
    }
    free(held);
    cluster_pump(cluster);
}

void cluster_peer_lost(struct cluster *cluster, const char *peer)
{
    struct slot_list *const lists[] = {&cluster->slots.waiting, &cluster->slots.seated};
    for (size_t i = 0; i < 2; i++) {
        for (struct slot *slot = lists[i]->first, *after; slot; slot = after) {
            after = slot->next;
            if (strcmp(slot->peer, peer) != 0) continue;
            cluster->counters.peer_lost++;
            drop(cluster, slot);
        }
    }
    cluster_pump(cluster);
}

/* ---- jobs ---- */

static err_t open_home(struct cluster *cluster, uint64_t job, size_t index, const struct job_environment *environment)
{
    static const struct provider_class *const classes[] = {
        [JOB_PROVIDER_BUILTIN] = &provider_builtin, [JOB_PROVIDER_PROCESS] = &provider_process};
    struct home *home = NULL;
    for (size_t i = 0; i < CLUSTER_HOMES && !home; i++) {
        if (!cluster->homes[i].class) home = &cluster->homes[i];
    }
    if (!home) return err_set(ERR_busy, "the cluster hosts %d environments already", CLUSTER_HOMES);
    const struct provider_class *class = classes[environment->provider];
    const struct provider_setup setup = {cluster->loop, environment->name, environment->command, cluster->children};
    struct provider *provider = NULL;
    TRY(class->open(&setup, &provider));
    *home = (struct home){
        .job = job,
        .environment = index,
        .class = class,
        .provider = provider,
        .slots = (size_t)environment->slots,
        .step_timeout_ms = (uint64_t)environment->step_timeout_ms,
    };
    return ERR_ok;
}

err_t cluster_job_start(struct cluster *cluster, uint64_t job, const struct job_spec *spec)
{
    if (job_known(cluster, job)) return ERR_ok;
    for (size_t i = 0; i < spec->environment_count; i++) {
        err_t err = open_home(cluster, job, i, &spec->environments[i]);
        if (err != ERR_ok) {
            cluster_job_stop(cluster, job);
            return err_prefix(err, "/environments/%zu", i);
        }
    }
    for (struct slot *slot = cluster->slots.waiting.first, *after; slot; slot = after) {
        after = slot->next;
        if (slot->job != job) continue;
        slot->home = home_of(cluster, job, slot->environment);
        if (!slot->home) cluster_fail(slot, OUTCOME_env_error, "the job has no environment of this number");
    }
    cluster_pump(cluster);
    return ERR_ok;
}

static void stop(struct cluster *cluster, uint64_t job, bool all)
{
    struct slot_list *const lists[] = {&cluster->slots.waiting, &cluster->slots.seated, &cluster->slots.ended};
    for (size_t i = 0; i < 3; i++) {
        for (struct slot *slot = lists[i]->first, *after; slot; slot = after) {
            after = slot->next;
            if (!all && slot->job != job) continue;
            if (slot->seat) slot->home->class->leave(&slot->seat);
            slots_forget(&cluster->slots, slot);
        }
    }
    for (size_t i = 0; i < CLUSTER_HOMES; i++) {
        struct home *home = &cluster->homes[i];
        if (!home->class || (!all && home->job != job)) continue;
        home->class->close(&home->provider);
        *home = (struct home){0};
    }
}

void cluster_job_stop(struct cluster *cluster, uint64_t job)
{
    stop(cluster, job, false);
}

/* ---- life ---- */

err_t cluster_new(struct cluster **ret, uv_loop_t *loop, struct provider_counters *children, struct cluster_events events)
{
    struct cluster *cluster = calloc(1, sizeof *cluster);
    if (!cluster) return err_set(ERR_memory, "the cluster");
    cluster->loop = loop;
    cluster->children = children;
    cluster->events = events;
    (void)uv_timer_init(loop, &cluster->janitor);
    cluster->janitor.data = cluster;
    *ret = cluster;
    return ERR_ok;
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void cluster_free(struct cluster **cluster)
{
    struct cluster *c = *cluster;
    *cluster = NULL;
    if (!c) return;
    c->closing = true;
    stop(c, 0, true);
    uv_close((uv_handle_t *)&c->janitor, on_closed);
}

void cluster_read_counters(const struct cluster *cluster, struct cluster_counters *ret)
{
    *ret = cluster->counters;
    ret->seated = cluster->slots.seated.count;
    ret->waiting = cluster->slots.waiting.count;
    ret->children = cluster->children->children;
    ret->children_started = cluster->children->started;
    ret->children_killed = cluster->children->killed;
    ret->stderr_dropped = cluster->children->stderr_dropped;
}
