/* From a lease to a seat: what is to be played, by whom, and with which hint or script. */
#include "services/common/run/log.h"
#include "services/rollout/rollout.h"

#include <stdio.h>

static enum seat_player player_of(const struct wire_lease *lease)
{
    if (span_is(lease->source, "demonstration")) return PLAYER_EXPERT;
    if (span_is(lease->source, "import")) return PLAYER_SCRIPT;
    return span_is(lease->source, "score") ? PLAYER_NONE : PLAYER_POLICY;
}

/* Actions of a script, one a line; the last line may end without a newline. */
static err_t count_actions(struct span script, uint64_t *ret)
{
    uint64_t actions = 0;
    for (size_t at = 0; at < script.size; actions++) {
        const uint8_t *newline = memchr(script.data + at, '\n', script.size - at);
        size_t size = newline ? (size_t)(newline - script.data) - at : script.size - at;
        if (size > RUNNER_ACTION_BYTES)
            return err_set(ERR_malformed, "action %llu of the script has %zu bytes; %d are allowed",
                           (unsigned long long)actions + 1, size, RUNNER_ACTION_BYTES);
        at += size + 1;
    }
    *ret = actions;
    return ERR_ok;
}

struct span lease_action(struct seat *seat)
{
    struct span script = buf_span(&seat->given);
    size_t from = seat->given_at < script.size ? seat->given_at : script.size;
    const uint8_t *newline = script.size > from ? memchr(script.data + from, '\n', script.size - from) : NULL;
    size_t size = newline ? (size_t)(newline - script.data) - from : script.size - from;
    seat->given_at = from + size + 1;
    return span_of(script.data + from, size);
}

/* A script as a step limit: where it ends before the episode does, the outcome is `truncated`. */
static err_t limit(struct seat *seat, const struct wire_lease *lease, uint32_t *ret_steps)
{
    uint64_t steps = lease->max_steps, actions = 0;
    if (seat->player == PLAYER_SCRIPT) {
        TRY(buf_append(&seat->given, lease->script.data, lease->script.size));
        TRY(count_actions(buf_span(&seat->given), &actions));
        steps = actions < steps ? actions : steps;
    }
    *ret_steps = (uint32_t)steps;
    return ERR_ok;
}

static err_t begin(struct rollout *rollout, struct seat *seat, const struct wire_lease *lease)
{
    const struct job_rollout *job = &rollout->spec.rollout;
    if (lease->environment >= rollout->spec.environment_count)
        return err_set(ERR_invalid, "environment %llu of %zu", (unsigned long long)lease->environment,
                       rollout->spec.environment_count);
    struct runner_config config = {.tokenizer = rollout->origin.tokenizer,
                                   .chat = rollout->origin.chat,
                                   .max_new_tokens = (uint32_t)job->max_new_tokens,
                                   .max_context = (uint32_t)job->max_context,
                                   .temperature = (float)job->temperature,
                                   .shown = seat->player == PLAYER_EXPERT || seat->player == PLAYER_SCRIPT,
                                   .step = job->context == JOB_CONTEXT_STEP,
                                   .history = (uint32_t)job->history};
    TRY(limit(seat, lease, &config.max_steps));
    (void)snprintf(seat->hint, sizeof seat->hint, "%.*s", SPAN_ARG(lease->hint));
    if (strstr(seat->hint, ROLLOUT_HINT_OWN)) return runner_begin(&seat->runner, &config, lease->seed, (struct span){0});
    seat->hint[0] = 0;
    return runner_begin(&seat->runner, &config, lease->seed, lease->hint);
}

err_t lease_hint(struct seat *seat, struct span own)
{
    AUTO(buf) hint = {0};
    const char *place = strstr(seat->hint, ROLLOUT_HINT_OWN);
    if (!place) return ERR_ok;
    if (own.size == 0) return err_set(ERR_not_found, "a hint is wanted, but the environment has none");
    TRY(buf_append(&hint, seat->hint, (size_t)(place - seat->hint)));
    TRY(buf_append(&hint, own.data, own.size));
    TRY(buf_text(&hint, place + strlen(ROLLOUT_HINT_OWN)));
    seat->hint[0] = 0;
    const struct runner_config config = seat->runner.config;
    return runner_begin(&seat->runner, &config, seat->sampling_seed, buf_span(&hint));
}

/* A stored episode to measure: nothing is played. */
static void take_payload(struct rollout *rollout, struct seat *seat, const struct wire_lease *lease)
{
    seat->given_raw = lease->payload_raw;
    if (buf_append(&seat->given, lease->payload.data, lease->payload.size) != ERR_ok)
        end_failed(rollout, seat, OUTCOME_engine_error, err_text());
    else
        play_begin(rollout, seat, SEAT_PLAY);
}

void lease_take(struct rollout *rollout, const struct wire_lease *lease)
{
    if (lease->token <= rollout->newest_token) return; /* a repetition: tokens only grow, and a link keeps its order */
    rollout->newest_token = lease->token;
    struct seat *seat = seats_take(rollout, lease->episode);
    rollout->counters.leases++;
    if (!seat) {
        log_warn("no seat for episode %llu: its lease will run out", (unsigned long long)lease->episode);
        return;
    }
    seat->attempt = lease->attempt;
    seat->token = lease->token;
    seat->environment = lease->environment;
    seat->player = player_of(lease);
    seat->sampling_seed = lease->seed;
    seat->judge = lease->judge;
    seat->min_version = lease->min_version;
    seat->pin_version = lease->pin_version;
    seat->ends_ms = seat->started_ms + lease->ttl_ms;
    if (seat->player == PLAYER_NONE && span_is(lease->score, "replay")) {
        seat->replay = true;
        take_payload(rollout, seat, lease);
        return;
    }
    err_t err = begin(rollout, seat, lease);
    if (err == ERR_ok) err = seats_ask(rollout, seat, lease);
    if (err != ERR_ok) end_failed(rollout, seat, err == ERR_malformed ? OUTCOME_poisoned : OUTCOME_engine_error, err_text());
}
