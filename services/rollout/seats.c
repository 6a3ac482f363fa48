/* Seats: from the lease to the end, and the vectors that go to the environment cluster. */
#include "services/common/run/log.h"
#include "services/rollout/rollout.h"

#include <stdio.h>
#include <stdlib.h>
#include <zstd.h>

#define TURNS_MOST 1024
#define ZSTD_LEVEL 1

static uint64_t env_deadline(const struct rollout *rollout, const struct seat *seat)
{
    const struct job_environment *env = &rollout->spec.environments[seat->environment];
    return rollout_now_ms(rollout) + (uint64_t)env->step_timeout_ms + ROLLOUT_ENV_SPARE_MS;
}

/* ---- vectors to the cluster ---- */

static void send_env(struct rollout *rollout, enum wire_id id, const void *message)
{
    err_t err = bus_send(rollout->env, NULL, id, message);
    if (err != ERR_ok) log_err(LOG_LEVEL_WARN, err, "telling the environment cluster");
}

static uint64_t patience(const struct rollout *rollout)
{
    uint64_t most = 0;
    for (size_t i = 0; i < rollout->spec.environment_count; i++) {
        uint64_t ms = (uint64_t)rollout->spec.environments[i].step_timeout_ms;
        most = ms > most ? ms : most;
    }
    return most + ROLLOUT_ENV_SPARE_MS;
}

static void flush_releases(struct rollout *rollout)
{
    if (rollout->released_count == 0) return;
    struct wire_env_release release = {rollout->job,
                                       {rollout->released_episodes, rollout->released_count},
                                       {rollout->released_tokens, rollout->released_count}};
    rollout->released_count = 0;
    send_env(rollout, WIRE_env_release, &release);
}

void seats_flush(struct rollout *rollout)
{
    if (rollout->reset_count) {
        struct wire_acquire_reset message = {rollout->job, patience(rollout), rollout->resets, rollout->reset_count};
        rollout->reset_count = 0;
        send_env(rollout, WIRE_acquire_reset, &message);
    }
    if (rollout->action_count) {
        struct wire_actions message = {rollout->job, patience(rollout), rollout->actions, rollout->action_count};
        rollout->action_count = 0;
        send_env(rollout, WIRE_actions, &message);
    }
    flush_releases(rollout);
}

void seats_action(struct rollout *rollout, const struct seat *seat)
{
    if (rollout->action_count == 1024) seats_flush(rollout); /* the message's maximum */
    rollout->actions[rollout->action_count++] = (struct wire_action_item){
        .episode = seat->episode, .token = seat->token, .step = seat->runner.steps, .action = buf_span(&seat->runner.action)};
}

void seats_reset(struct rollout *rollout, const struct seat *seat)
{
    if (rollout->reset_count == 1024) seats_flush(rollout);
    rollout->resets[rollout->reset_count++] = seat->reset;
}

static void act(struct rollout *rollout, struct seat *seat)
{
    seats_action(rollout, seat);
    seat->state = SEAT_ENV;
    seat->since_ms = rollout_now_ms(rollout);
    seat->deadline_ms = env_deadline(rollout, seat);
    again_await(rollout, seat);
}

static void release_env(struct rollout *rollout, const struct seat *seat)
{
    size_t most = sizeof rollout->released_tokens / sizeof *rollout->released_tokens;
    if (rollout->released_count == most) flush_releases(rollout);
    rollout->released_episodes[rollout->released_count] = seat->episode;
    rollout->released_tokens[rollout->released_count++] = seat->token;
}

/* ---- life of a seat ---- */

static void leave(struct rollout *rollout, struct seat *seat)
{
    if (seat->policy) seat->policy->users--;
    if (seat->slot >= 0) {
        decoder_reset(rollout->decoder, (uint32_t)seat->slot);
        rollout->free_slots[rollout->free_slot_count++] = seat->slot;
    }
    seat->policy = NULL;
    seat->slot = -1;
    seat->state = SEAT_FREE;
    rollout->used--;
    rollout->ask = true;
}

static err_t compress(struct buf *raw, struct buf *out)
{
    size_t bound = ZSTD_compressBound(raw->size);
    TRY(buf_reserve(out, bound));
    size_t n = ZSTD_compress(out->data, bound, raw->data, raw->size, ZSTD_LEVEL);
    if (ZSTD_isError(n)) return err_set(ERR_io, "zstd: %s", ZSTD_getErrorName(n));
    out->size = n;
    return ERR_ok;
}

/* The end of an episode that was played, in the outbox. */
static err_t hand_in(struct rollout *rollout, struct seat *seat)
{
    struct runner *runner = &seat->runner;
    const struct sequence sequence = runner_sequence(runner);
    float entropies[TURNS_MOST], tokens[TURNS_MOST];
    AUTO(buf) raw = {0};
    AUTO(buf) packed = {0};
    TRY(sequence_encode(&sequence, &raw));
    TRY(compress(&raw, &packed));
    size_t turns = runner_turns(runner, entropies, tokens, TURNS_MOST);
    if (seat->demonstration) turns = 0; /* nothing was sampled */
    struct wire_episode_done done = {
        .episode = seat->episode,
        .attempt = seat->attempt,
        .token = seat->token,
        .outcome = span_text(outcome_name(runner->outcome)),
        .reward = runner->reward,
        .steps = runner->steps,
        .version_min = -1,
        .version_max = -1,
        .engine_ms = seat->engine_ms,
        .env_ms = seat->env_ms,
        .payload = buf_span(&packed),
        .payload_raw = raw.size,
        .turn_entropy = {entropies, turns},
        .turn_tokens = {tokens, turns},
    };
    for (uint32_t i = 0; i < sequence.count; i++) {
        if (!sequence.target[i]) {
            done.prompt_tokens++;
            continue;
        }
        done.action_tokens++;
        int64_t version = sequence.version[i];
        if (version < 0) continue;
        if (done.version_min < 0 || version < done.version_min) done.version_min = version;
        if (version > done.version_max) done.version_max = version;
    }
    rollout->counters.episodes++;
    rollout->counters.demonstrations += seat->demonstration;
    rollout->counters.steps += runner->steps;
    rollout->counters.prompt_tokens += done.prompt_tokens;
    rollout->counters.action_tokens += done.action_tokens;
    return outbox_add(&rollout->outbox, &done);
}

void seats_end(struct rollout *rollout, struct seat *seat, enum outcome outcome, const char *error)
{
    rollout->counters.failures[outcome]++;
    struct wire_episode_done done = {.episode = seat->episode,
                                     .attempt = seat->attempt,
                                     .token = seat->token,
                                     .outcome = span_text(outcome_name(outcome)),
                                     .version_min = -1,
                                     .version_max = -1,
                                     .error = span_text(error)};
    if (done.error.size > 512) done.error.size = 512;
    err_t err = outbox_add(&rollout->outbox, &done);
    if (err != ERR_ok) log_err(LOG_LEVEL_ERROR, err, "an episode's end is lost; its lease will run out");
    leave(rollout, seat);
}

/* Moves a seat on after its runner did. */
static void follow(struct rollout *rollout, struct seat *seat)
{
    switch (seat->runner.state) {
    case RUNNER_RESET:
        return;
    case RUNNER_ACT:
        act(rollout, seat);
        return;
    case RUNNER_FEED:
        if (seat->state != SEAT_PLAY) {
            seat->state = SEAT_PLAY;
            seat->since_ms = rollout_now_ms(rollout);
            seat->deadline_ms = seat->since_ms + ROLLOUT_POLICY_WAIT_MS;
        }
        play_wake(rollout);
        return;
    case RUNNER_END:
        break;
    }
    if (seat->runner.outcome == OUTCOME_truncated) release_env(rollout, seat);
    if (!seat->demonstration) play_check(rollout, seat);
    err_t err = hand_in(rollout, seat);
    if (err != ERR_ok) {
        log_err(LOG_LEVEL_ERROR, err, "handing in an episode");
        seats_end(rollout, seat, OUTCOME_engine_error, "its sequence could not be packed");
    } else {
        leave(rollout, seat);
    }
}

void play_follow(struct rollout *rollout, struct seat *seat, err_t err)
{
    if (err == ERR_ok) {
        follow(rollout, seat);
        return;
    }
    log_err(LOG_LEVEL_WARN, err, "playing an episode");
    release_env(rollout, seat);
    seats_end(rollout, seat, OUTCOME_engine_error, err_text());
}

static struct seat *find(struct rollout *rollout, uint64_t episode)
{
    for (size_t i = 0; i < rollout->seat_count; i++) {
        if (rollout->seats[i].state != SEAT_FREE && rollout->seats[i].episode == episode) return &rollout->seats[i];
    }
    return NULL;
}

static struct seat *free_seat(struct rollout *rollout)
{
    for (size_t i = 0; i < rollout->seat_count; i++) {
        if (rollout->seats[i].state == SEAT_FREE) return &rollout->seats[i];
    }
    return NULL;
}

static err_t begin(struct rollout *rollout, struct seat *seat, const struct wire_lease *lease)
{
    if (lease->environment >= rollout->spec.environment_count)
        return err_set(ERR_invalid, "environment %llu of %zu", (unsigned long long)lease->environment,
                       rollout->spec.environment_count);
    const struct runner_config config = {.tokenizer = rollout->origin.tokenizer,
                                         .chat = rollout->origin.chat,
                                         .max_steps = (uint32_t)lease->max_steps,
                                         .max_new_tokens = (uint32_t)rollout->spec.rollout.max_new_tokens,
                                         .temperature = (float)rollout->spec.rollout.temperature,
                                         .expert = seat->demonstration};
    (void)snprintf(seat->hint, sizeof seat->hint, "%.*s", SPAN_ARG(lease->hint));
    seat->sampling_seed = lease->seed;
    if (strstr(seat->hint, ROLLOUT_HINT_OWN)) return runner_begin(&seat->runner, &config, lease->seed, (struct span){0});
    seat->hint[0] = 0;
    return runner_begin(&seat->runner, &config, lease->seed, lease->hint);
}

/* The environment has said its hint: the episode begins anew with it. */
static err_t begin_hinted(struct seat *seat, struct span own)
{
    AUTO(buf) hint = {0};
    const char *place = strstr(seat->hint, ROLLOUT_HINT_OWN);
    if (own.size == 0) return err_set(ERR_not_found, "a hint is wanted, but the environment has none");
    TRY(buf_append(&hint, seat->hint, (size_t)(place - seat->hint)));
    TRY(buf_append(&hint, own.data, own.size));
    TRY(buf_text(&hint, place + strlen(ROLLOUT_HINT_OWN)));
    seat->hint[0] = 0;
    const struct runner_config config = seat->runner.config;
    return runner_begin(&seat->runner, &config, seat->sampling_seed, buf_span(&hint));
}

void seats_lease(struct rollout *rollout, const struct wire_lease *lease)
{
    if (lease->token <= rollout->newest_token) return; /* a repetition: tokens only grow, and a link keeps its order */
    rollout->newest_token = lease->token;
    struct seat *old = find(rollout, lease->episode);
    if (old) leave(rollout, old); /* a newer grant of the same episode */
    struct seat *seat = free_seat(rollout);
    rollout->counters.leases++;
    if (!seat) {
        log_warn("no seat for episode %llu: its lease will run out", (unsigned long long)lease->episode);
        return;
    }
    uint64_t now = rollout_now_ms(rollout);
    struct runner runner = seat->runner;
    struct buf task = seat->task;
    *seat = (struct seat){.state = SEAT_ENV,
                          .episode = lease->episode,
                          .attempt = lease->attempt,
                          .token = lease->token,
                          .environment = lease->environment,
                          .demonstration = span_is(lease->source, "demonstration"),
                          .min_version = lease->min_version,
                          .pin_version = lease->pin_version,
                          .started_ms = now,
                          .ends_ms = now + lease->ttl_ms,
                          .since_ms = now,
                          .slot = -1,
                          .runner = runner,
                          .task = task};
    rollout->used++;
    buf_clear(&seat->task);
    err_t err = buf_append(&seat->task, lease->task_text.data, lease->task_text.size);
    if (err == ERR_ok) err = begin(rollout, seat, lease);
    if (err != ERR_ok) {
        seats_end(rollout, seat, OUTCOME_engine_error, err_text());
        return;
    }
    seat->deadline_ms = env_deadline(rollout, seat) + (uint64_t)rollout->spec.environments[seat->environment].step_timeout_ms;
    seat->reset = (struct wire_reset_item){.episode = lease->episode,
                                           .token = lease->token,
                                           .environment = lease->environment,
                                           .task_text = buf_span(&seat->task),
                                           .episode_seed = lease->episode_seed,
                                           .expert = seat->demonstration,
                                           .hint = seat->hint[0] != 0,
                                           .noise = lease->noise,
                                           .noise_seed = lease->seed,
                                           .ttl_ms = lease->ttl_ms};
    seats_reset(rollout, seat);
    again_await(rollout, seat);
}

void seats_observe(struct rollout *rollout, const struct wire_observation *observation)
{
    struct seat *seat = find(rollout, observation->episode);
    if (!seat || seat->token != observation->token || seat->state != SEAT_ENV) return; /* of an attempt that is over */
    if (observation->error.size) {
        enum outcome outcome = OUTCOME_env_error;
        bool known = outcome_find(observation->error, &outcome) && outcome_failure(outcome);
        char detail[512];
        (void)snprintf(detail, sizeof detail, "%.*s", SPAN_ARG(observation->detail));
        seats_end(rollout, seat, known ? outcome : OUTCOME_env_error, detail);
        return;
    }
    uint32_t expected = seat->runner.state == RUNNER_ACT ? seat->runner.steps + 1 : 0;
    if (observation->step != expected) return; /* a repetition */
    double waited = (double)(rollout_now_ms(rollout) - seat->since_ms);
    seat->env_ms += waited;
    rollout->counters.env_wait_ms += waited;
    if (seat->hint[0] && begin_hinted(seat, observation->hint) != ERR_ok) {
        release_env(rollout, seat);
        seats_end(rollout, seat, OUTCOME_env_error, err_text());
        return;
    }
    play_follow(
        rollout, seat,
        runner_observe(&seat->runner, observation->text, observation->reward, observation->terminated, observation->expert));
}

void seats_revoke(struct rollout *rollout, uint64_t episode)
{
    struct seat *seat = find(rollout, episode);
    if (!seat) return;
    rollout->counters.revoked++;
    release_env(rollout, seat);
    leave(rollout, seat);
}

void seats_env_lost(struct rollout *rollout)
{
    for (size_t i = 0; i < rollout->seat_count; i++) {
        struct seat *seat = &rollout->seats[i];
        if (seat->state == SEAT_FREE) continue;
        release_env(rollout, seat); /* its successor may have been asked for it */
        seats_end(rollout, seat, OUTCOME_env_crash, "the environment cluster died");
    }
}

void seats_sweep(struct rollout *rollout)
{
    uint64_t now = rollout_now_ms(rollout);
    for (size_t i = 0; i < rollout->seat_count; i++) {
        struct seat *seat = &rollout->seats[i];
        if (seat->state == SEAT_FREE) continue;
        if (now >= seat->ends_ms) {
            release_env(rollout, seat); /* the data manager has ended the lease by now */
            leave(rollout, seat);
        } else if (seat->state == SEAT_ENV && now >= seat->deadline_ms) {
            release_env(rollout, seat);
            seats_end(rollout, seat, OUTCOME_env_timeout, "the environment cluster did not answer in time");
        } else if (seat->state == SEAT_ENV) {
            again_look(rollout, seat);
        } else if (seat->state == SEAT_PLAY && !seat->policy && now >= seat->deadline_ms) {
            bool there =
                policies_get(&rollout->policies, seat->pin_version, seat->min_version, &rollout->origin.model) != NULL;
            release_env(rollout, seat);
            seats_end(rollout, seat, OUTCOME_engine_error, there ? "no engine slot became free" : err_text());
        }
    }
}

/* ---- for a job ---- */

err_t seats_open(struct rollout *rollout)
{
    size_t slots = 0;
    for (size_t i = 0; i < rollout->spec.environment_count; i++) slots += (size_t)rollout->spec.environments[i].slots;
    rollout->slots = slots;
    rollout->seat_count = slots;
    size_t vocab = (size_t)rollout->origin.model.vocab;
    rollout->seats = calloc(rollout->seat_count, sizeof *rollout->seats);
    rollout->free_slots = calloc(slots, sizeof *rollout->free_slots);
    rollout->logits = calloc(slots * vocab, sizeof *rollout->logits);
    rollout->scratch = calloc(vocab, sizeof *rollout->scratch);
    rollout->items = calloc(slots, sizeof *rollout->items);
    rollout->fed = calloc(slots, sizeof(struct seat *));
    rollout->resets = calloc(1024, sizeof *rollout->resets);
    rollout->actions = calloc(1024, sizeof *rollout->actions);
    if (!rollout->seats || !rollout->free_slots || !rollout->logits || !rollout->scratch || !rollout->items ||
        !rollout->fed || !rollout->resets || !rollout->actions)
        return err_set(ERR_memory, "%zu seats", rollout->seat_count);
    for (size_t i = 0; i < rollout->seat_count; i++)
        TRY(runner_init(&rollout->seats[i].runner, (uint32_t)rollout->spec.rollout.max_context));
    for (size_t i = 0; i < slots; i++) rollout->free_slots[i] = (int32_t)(slots - 1 - i);
    rollout->free_slot_count = slots;
    rollout->used = 0;
    rollout->ask = true;
    return ERR_ok;
}

void seats_close(struct rollout *rollout)
{
    for (size_t i = 0; rollout->seats && i < rollout->seat_count; i++) {
        struct seat *seat = &rollout->seats[i];
        if (seat->state != SEAT_FREE && rollout->env) release_env(rollout, seat);
        runner_fini(&seat->runner);
        buf_fini(&seat->task);
    }
    if (rollout->env) flush_releases(rollout);
    free(rollout->seats);
    free(rollout->free_slots);
    free(rollout->logits);
    free(rollout->scratch);
    free(rollout->items);
    free((void *)rollout->fed);
    free(rollout->resets);
    free(rollout->actions);
    rollout->seats = NULL;
    rollout->free_slots = NULL;
    rollout->logits = rollout->scratch = NULL;
    rollout->items = NULL;
    rollout->fed = NULL;
    rollout->resets = NULL;
    rollout->actions = NULL;
    rollout->seat_count = rollout->slots = rollout->used = rollout->reset_count = rollout->action_count = 0;
}
