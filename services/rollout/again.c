/* What makes up for messages that were lost: calls without an answer are sent again, and what is held here is said once a
 * second. Links keep their order, so whoever hears it knows that what is missing was lost and is not merely on its way. */
#include "services/common/run/log.h"
#include "services/rollout/rollout.h"

#include <stdlib.h>

void again_await(struct rollout *rollout, struct seat *seat)
{
    seat->again_wait_ms = ROLLOUT_AGAIN_MS;
    seat->again_ms = rollout_now_ms(rollout) + ROLLOUT_AGAIN_MS;
}

void again_look(struct rollout *rollout, struct seat *seat)
{
    if (rollout_now_ms(rollout) < seat->again_ms) return;
    seat->again_wait_ms *= 2;
    seat->again_ms += seat->again_wait_ms;
    rollout->counters.calls_resent++;
    if (seat->runner.state == RUNNER_RESET)
        seats_reset(rollout, seat);
    else
        seats_action(rollout, seat);
}

static void say_leases(struct rollout *rollout, uint64_t *tokens)
{
    size_t n = 0;
    for (size_t i = 0; i < rollout->seat_count; i++) {
        if (rollout->seats[i].state != SEAT_FREE) tokens[n++] = rollout->seats[i].token;
    }
    for (size_t i = 0; i < rollout->outbox.count; i++) tokens[n++] = rollout->outbox.ends[i].done.token;
    const struct wire_leases_held held = {rollout->job, rollout->counters.leases, rollout->newest_token, {tokens, n}};
    if (n <= ROLLOUT_HELD_MOST) service_tell(rollout->service, WIRE_leases_held, &held);
}

static void say_slots(struct rollout *rollout, uint64_t *tokens, uint64_t *episodes)
{
    size_t n = 0;
    for (size_t i = 0; i < rollout->seat_count; i++) {
        if (rollout->seats[i].state == SEAT_FREE) continue;
        episodes[n] = rollout->seats[i].episode;
        tokens[n++] = rollout->seats[i].token;
    }
    const struct wire_env_held held = {rollout->job, {episodes, n}, {tokens, n}};
    err_t err = n <= ROLLOUT_HELD_MOST ? bus_send(rollout->env, NULL, WIRE_env_held, &held) : ERR_ok;
    if (err != ERR_ok) log_err(LOG_LEVEL_WARN, err, "telling the environment cluster");
}

void again_say_held(struct rollout *rollout)
{
    size_t most = rollout->seat_count + rollout->outbox.count + 1;
    uint64_t *tokens = calloc(2 * most, sizeof *tokens);
    rollout->held_said_ms = rollout_now_ms(rollout);
    if (!tokens) return; /* the next second */
    say_leases(rollout, tokens);
    seats_flush(rollout); /* resets that wait here come before the account that names them */
    say_slots(rollout, tokens, tokens + most);
    free(tokens);
    rollout->ask = true;
}
