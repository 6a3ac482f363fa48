/* Life of the rollout service: jobs, messages, timers, heartbeats. */
#include "services/rollout/rollout.h"

#include "services/common/run/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SWEEP_MS 200

uint64_t rollout_now_ms(const struct rollout *rollout)
{
    return uv_now(&rollout->service->loop);
}

double rollout_clock_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

/* ---- jobs ---- */

static void close_job(struct rollout *rollout)
{
    seats_close(rollout);
    decoder_free(&rollout->decoder);
    learner_free(&rollout->checker);
    origin_fini(&rollout->origin);
    policies_fini(&rollout->policies);
    outbox_clear(&rollout->outbox);
    arena_fini(&rollout->arena);
    rollout->job = 0;
    rollout->newest_token = 0;
    rollout->since_check = ROLLOUT_CHECK_EVERY - 1; /* the first episode is looked at */
}

static err_t open_job(struct rollout *rollout, const struct wire_job_assign *assign)
{
    struct job_problems problems;
    arena_init(&rollout->arena, 0);
    policies_init(&rollout->policies, assign->job);
    TRY(job_parse(assign->spec, &rollout->arena, &rollout->spec, &problems));
    TRY(origin_open(&rollout->spec, &rollout->origin));
    if (judge_init(&rollout->judge, rollout->origin.tokenizer) != ERR_ok)
        rollout->judge.prompt_count = 0; /* nothing is judged */
    TRY(seats_open(rollout));
    uint32_t context = (uint32_t)rollout->spec.rollout.max_context;
    const struct decoder_options options = {(uint32_t)rollout->slots, context,
                                            rollout->spec.rollout.kv_cache == JOB_KV_CACHE_FP16};
    TRY(decoder_new(&rollout->decoder, &rollout->origin.model, &options, rollout->pool));
    return learner_new(&rollout->checker, &rollout->origin.model, 1, context, LEARNER_KIND_forward);
}

static void job_assign(struct rollout *rollout, const struct wire_job_assign *assign)
{
    if (rollout->job == assign->job) { /* the data manager was restarted, or a new lineage began */
        rollout->lineage = assign->lineage;
        rollout->ask = true;
        return;
    }
    close_job(rollout);
    err_t err = open_job(rollout, assign);
    if (err != ERR_ok) {
        log_err(LOG_LEVEL_ERROR, err, "the job cannot be played");
        struct wire_job_failed failed = {assign->job, span_text("rollout"), span_text(err_text())};
        service_tell(rollout->service, WIRE_job_failed, &failed);
        close_job(rollout);
        return;
    }
    rollout->job = rollout->outbox.job = assign->job;
    rollout->lineage = assign->lineage;
    rollout->idle_since_ms = rollout_now_ms(rollout);
    log_info("job %llu: %zu slots, %d ids, %zu parameters", (unsigned long long)assign->job, rollout->slots,
             rollout->origin.model.vocab, model_parameters(&rollout->origin.model));
}

/* ---- what leaves every few milliseconds ---- */

static void flush_ends(struct rollout *rollout)
{
    struct wire_episode_done due[OUTBOX_SET];
    for (size_t n = outbox_due(&rollout->outbox, rollout_now_ms(rollout), due); n > 0;
         n = outbox_due(&rollout->outbox, rollout_now_ms(rollout), due)) {
        struct wire_episodes_done message = {rollout->job, due, n};
        service_tell(rollout->service, WIRE_episodes_done, &message);
    }
}

static void ask_for_leases(struct rollout *rollout)
{
    if (!rollout->ask) return;
    rollout->ask = false;
    uint64_t room = rollout->used < rollout->slots ? rollout->slots - rollout->used : 0;
    if (outbox_is_full(&rollout->outbox)) room = 0;
    struct wire_lease_request request = {rollout->job, room, rollout->counters.leases};
    service_tell(rollout->service, WIRE_lease_request, &request);
}

static void on_flush(uv_timer_t *timer)
{
    struct rollout *rollout = timer->data;
    if (!rollout->job) return;
    flush_ends(rollout);
    if (rollout_now_ms(rollout) - rollout->held_said_ms >= ROLLOUT_HELD_MS) again_say_held(rollout);
    ask_for_leases(rollout);
}

static void on_sweep(uv_timer_t *timer)
{
    struct rollout *rollout = timer->data;
    if (!rollout->job) return;
    seats_sweep(rollout);
    seats_flush(rollout);
    if (rollout->outbox.count) rollout->ask = true; /* it may have been full */
}

/* ---- messages ---- */

static void on_message(struct service *service, enum wire_id id, const void *message)
{
    struct rollout *rollout = service->self;
    if (id == WIRE_job_assign) {
        job_assign(rollout, message);
    } else if (id == WIRE_job_stop) {
        const struct wire_job_stop *stop = message;
        if (stop->job != rollout->job) return;
        log_info("job %llu: stopped: %.*s", (unsigned long long)stop->job, SPAN_ARG(stop->reason));
        close_job(rollout);
    } else if (id == WIRE_leases) {
        const struct wire_leases *leases = message;
        if (leases->job != rollout->job) return;
        for (size_t i = 0; i < leases->leases_count; i++) lease_take(rollout, &leases->leases[i]);
    } else if (id == WIRE_lease_revoke) {
        const struct wire_lease_revoke *revoked = message;
        for (size_t i = 0; revoked->job == rollout->job && i < revoked->episodes.n; i++)
            seats_revoke(rollout, revoked->episodes.v[i]);
    } else if (id == WIRE_env_lost) {
        if (((const struct wire_env_lost *)message)->job == rollout->job) seats_env_lost(rollout);
    } else if (id == WIRE_policy_wanted) {
        const struct wire_policy_wanted *wanted = message;
        if (wanted->job != rollout->job || !rollout->job) return;
        if (!policies_announce(&rollout->policies, wanted))
            log_warn("weights for an unknown role: %.*s", SPAN_ARG(wanted->role));
        play_wake(rollout);
    } else if (id == WIRE_episodes_ack) {
        const struct wire_episodes_ack *ack = message;
        if (ack->job == rollout->job) outbox_acknowledge(&rollout->outbox, &ack->tokens);
    } else {
        log_warn("message %d is not for a rollout worker", (int)id);
    }
}

static void on_turn(struct service *service)
{
    seats_flush(service->self); /* what borrows from this turn's messages leaves with it */
}

static void on_observations(void *ctx, const char *peer, enum wire_id id, const void *message)
{
    (void)peer;
    struct rollout *rollout = ctx;
    const struct wire_observations *observations = message;
    if (id != WIRE_observations || observations->job != rollout->job || !rollout->job) return;
    for (size_t i = 0; i < observations->items_count; i++) seats_observe(rollout, &observations->items[i]);
}

static void on_env_turn(void *ctx)
{
    seats_flush(ctx);
}

static void on_hello_again(struct service *service)
{
    struct rollout *rollout = service->self;
    outbox_forget_sent(&rollout->outbox);
    rollout->held_said_ms = 0; /* at once */
    rollout->ask = true;
}

static void on_bad(void *ctx, const char *peer, const char *why)
{
    (void)ctx;
    (void)peer;
    log_warn("a bad frame from the environment cluster: %s", why);
}

/* ---- life cycle ---- */

static err_t init(struct service *service)
{
    struct rollout *rollout = calloc(1, sizeof *rollout);
    if (!rollout) return err_set(ERR_memory, "the rollout service");
    service->self = rollout;
    rollout->service = service;
    char endpoint[SERVICE_PATH_BYTES + 32], identity[BUS_PEER_BYTES];
    service_endpoint(service, "env", endpoint, sizeof endpoint);
    (void)snprintf(identity, sizeof identity, "rollout-%016lx", (unsigned long)service->incarnation);
    TRY(pool_new(&rollout->pool, service->threads));
    TRY(bus_connect(&rollout->env, &service->loop, endpoint, identity,
                    (struct bus_events){rollout, on_observations, on_env_turn, on_bad}));
    (void)uv_idle_init(&service->loop, &rollout->idle);
    (void)uv_timer_init(&service->loop, &rollout->flush);
    (void)uv_timer_init(&service->loop, &rollout->sweep);
    rollout->idle.data = rollout->flush.data = rollout->sweep.data = rollout;
    (void)uv_timer_start(&rollout->flush, on_flush, ROLLOUT_FLUSH_MS, ROLLOUT_FLUSH_MS);
    (void)uv_timer_start(&rollout->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
    rollout->idle_since_ms = rollout_now_ms(rollout);
    return ERR_ok;
}

static void heartbeat(struct service *service, struct service_pulse *pulse)
{
    struct rollout *rollout = service->self;
    const struct rollout_counters *n = &rollout->counters;
    const struct policy *served = policies_served(&rollout->policies);
    pulse->beat.job = rollout->job;
    pulse->beat.lineage = rollout->lineage;
    if (served) {
        pulse->beat.version = served->version;
        pulse->beat.digest = span_text(served->digest);
    }
    double idle = n->idle_ms;
    if (rollout->idle_since_ms) idle += (double)(rollout_now_ms(rollout) - rollout->idle_since_ms);
    pulse_counter(pulse, "slots", (double)rollout->slots);
    pulse_counter(pulse, "slots_used", (double)rollout->used);
    pulse_counter(pulse, "episodes", (double)n->episodes);
    pulse_counter(pulse, "demonstrations", (double)n->demonstrations);
    pulse_counter(pulse, "imports", (double)n->imports);
    pulse_counter(pulse, "scores", (double)n->scores);
    pulse_counter(pulse, "judged", (double)n->judged);
    pulse_counter(pulse, "steps", (double)n->steps);
    pulse_counter(pulse, "prompt_tokens", (double)n->prompt_tokens);
    pulse_counter(pulse, "shared_tokens", (double)n->shared_tokens);
    pulse_counter(pulse, "action_tokens", (double)n->action_tokens);
    pulse_counter(pulse, "leases", (double)n->leases);
    pulse_counter(pulse, "revoked", (double)n->revoked);
    pulse_counter(pulse, "engine_ms", n->engine_ms);
    pulse_counter(pulse, "engine_steps", (double)n->engine_steps);
    pulse_counter(pulse, "idle_ms", idle);
    pulse_counter(pulse, "env_wait_ms", n->env_wait_ms);
    pulse_counter(pulse, "unacknowledged", (double)rollout->outbox.count);
    pulse_counter(pulse, "ends_resent", (double)rollout->outbox.resent);
    pulse_counter(pulse, "calls_resent", (double)n->calls_resent);
    pulse_counter(pulse, "policies_resident", (double)policies_resident(&rollout->policies));
    pulse_counter(pulse, "policy_loads", (double)rollout->policies.loads);
    pulse_counter(pulse, "policy_load_failures", (double)rollout->policies.load_failures);
    pulse_counter(pulse, "logp_checks", (double)n->checked);
    pulse_counter(pulse, "logp_gap_max", n->logp_gap_max);
    static const char *const names[OUTCOME_COUNT] = {
#define OUTCOME(name, failure, retries, doc) "ends_" #name,
#include "rollout/outcome.def"
#undef OUTCOME
    };
    for (int i = 0; i < OUTCOME_COUNT; i++) {
        if (outcome_failure((enum outcome)i)) pulse_counter(pulse, names[i], (double)n->failures[i]);
    }
}

static void stop(struct service *service)
{
    struct rollout *rollout = service->self;
    if (!rollout || !rollout->env) return;
    uv_close((uv_handle_t *)&rollout->idle, NULL);
    uv_close((uv_handle_t *)&rollout->flush, NULL);
    uv_close((uv_handle_t *)&rollout->sweep, NULL);
    bus_free(&rollout->env);
}

static void fini(struct service *service)
{
    struct rollout *rollout = service->self;
    if (!rollout) return;
    close_job(rollout);
    pool_free(&rollout->pool);
    free(rollout);
}

const struct service_class rollout_class = {
    .name = "rollout",
    .doc = "The rollout service: plays leased episodes through the environment cluster with the embedded engine.",
    .links_to_data = true,
    .init = init,
    .on_message = on_message,
    .on_turn = on_turn,
    .on_hello_again = on_hello_again,
    .heartbeat = heartbeat,
    .stop = stop,
    .fini = fini,
};
