/* Seats: who sits where, deadlines, and the vectors that go to the environment cluster. */
#include "services/common/run/log.h"
#include "services/rollout/rollout.h"

#include <stdio.h>
#include <stdlib.h>

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

void seats_act(struct rollout *rollout, struct seat *seat)
{
    seats_action(rollout, seat);
    seat->state = SEAT_ENV;
    seat->since_ms = rollout_now_ms(rollout);
    seat->deadline_ms = env_deadline(rollout, seat);
    again_await(rollout, seat);
}

void seats_release(struct rollout *rollout, const struct seat *seat)
{
    size_t most = sizeof rollout->released_tokens / sizeof *rollout->released_tokens;
    if (rollout->released_count == most) flush_releases(rollout);
    rollout->released_episodes[rollout->released_count] = seat->episode;
    rollout->released_tokens[rollout->released_count++] = seat->token;
}

/* ---- life of a seat ---- */

void seats_leave(struct rollout *rollout, struct seat *seat)
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

struct seat *seats_take(struct rollout *rollout, uint64_t episode)
{
    struct seat *old = find(rollout, episode);
    if (old) seats_leave(rollout, old); /* a newer grant of the same episode */
    struct seat *seat = free_seat(rollout);
    if (!seat) return NULL;
    uint64_t now = rollout_now_ms(rollout);
    const struct seat kept = *seat;
    *seat = (struct seat){.state = SEAT_ENV,
                          .episode = episode,
                          .started_ms = now,
                          .since_ms = now,
                          .slot = -1,
                          .runner = kept.runner,
                          .given = kept.given,
                          .task = kept.task,
                          .verdict = kept.verdict};
    buf_clear(&seat->given);
    buf_clear(&seat->task);
    rollout->used++;
    return seat;
}

err_t seats_ask(struct rollout *rollout, struct seat *seat, const struct wire_lease *lease)
{
    TRY(buf_append(&seat->task, lease->task_text.data, lease->task_text.size));
    seat->deadline_ms = env_deadline(rollout, seat) + (uint64_t)rollout->spec.environments[seat->environment].step_timeout_ms;
    seat->reset = (struct wire_reset_item){.episode = lease->episode,
                                           .token = lease->token,
                                           .environment = lease->environment,
                                           .task_text = buf_span(&seat->task),
                                           .episode_seed = lease->episode_seed,
                                           .expert = seat->player == PLAYER_EXPERT,
                                           .hint = seat->hint[0] != 0,
                                           .noise = lease->noise,
                                           .noise_seed = lease->seed,
                                           .ttl_ms = lease->ttl_ms};
    seats_reset(rollout, seat);
    again_await(rollout, seat);
    return ERR_ok;
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
        end_failed(rollout, seat, known ? outcome : OUTCOME_env_error, detail);
        return;
    }
    uint32_t expected = seat->runner.state == RUNNER_ACT ? seat->runner.steps + 1 : 0;
    if (observation->step != expected) return; /* a repetition */
    double waited = (double)(rollout_now_ms(rollout) - seat->since_ms);
    seat->env_ms += waited;
    rollout->counters.env_wait_ms += waited;
    err_t err = lease_hint(seat, observation->hint);
    if (err != ERR_ok) {
        seats_release(rollout, seat);
        end_failed(rollout, seat, OUTCOME_env_error, err_text());
        return;
    }
    struct span action = seat->player == PLAYER_SCRIPT ? lease_action(seat) : observation->expert;
    play_follow(rollout, seat,
                runner_observe(&seat->runner, observation->text, observation->reward, observation->terminated, action));
}

void seats_revoke(struct rollout *rollout, uint64_t episode)
{
    struct seat *seat = find(rollout, episode);
    if (!seat) return;
    rollout->counters.revoked++;
    seats_release(rollout, seat);
    seats_leave(rollout, seat);
}

void seats_env_lost(struct rollout *rollout)
{
    for (size_t i = 0; i < rollout->seat_count; i++) {
        struct seat *seat = &rollout->seats[i];
        bool over = seat->state == SEAT_JUDGE || (seat->state == SEAT_PLAY && seat->player == PLAYER_NONE);
        if (seat->state == SEAT_FREE || over) continue;
        seats_release(rollout, seat); /* its successor may have been asked for it */
        end_failed(rollout, seat, OUTCOME_env_crash, "the environment cluster died");
    }
}

void seats_sweep(struct rollout *rollout)
{
    uint64_t now = rollout_now_ms(rollout);
    for (size_t i = 0; i < rollout->seat_count; i++) {
        struct seat *seat = &rollout->seats[i];
        if (seat->state == SEAT_FREE) continue;
        if (now >= seat->ends_ms) {
            seats_release(rollout, seat); /* the data manager has ended the lease by now */
            seats_leave(rollout, seat);
        } else if (seat->state == SEAT_ENV && now >= seat->deadline_ms) {
            seats_release(rollout, seat);
            end_failed(rollout, seat, OUTCOME_env_timeout, "the environment cluster did not answer in time");
        } else if (seat->state == SEAT_ENV) {
            again_look(rollout, seat);
        } else if (seat->state == SEAT_PLAY && !seat->policy && now >= seat->deadline_ms) {
            bool there = policies_get(&rollout->policies, POLICY_FILE_policy, seat->pin_version, seat->min_version,
                                      &rollout->origin.model) != NULL;
            if (seat->player != PLAYER_NONE) seats_release(rollout, seat);
            end_failed(rollout, seat, OUTCOME_engine_error, there ? "no engine slot became free" : err_text());
        } else if (seat->state == SEAT_JUDGE && !seat->policy && now >= seat->deadline_ms) {
            bool there = policies_get(&rollout->policies, POLICY_FILE_orm, seat->judge, 0, &rollout->origin.model) != NULL;
            end_failed(rollout, seat, OUTCOME_judge_error, there ? "no engine slot became free" : err_text());
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
        if (seat->state != SEAT_FREE && rollout->env) seats_release(rollout, seat);
        runner_fini(&seat->runner);
        buf_fini(&seat->given);
        buf_fini(&seat->task);
        free(seat->verdict);
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
