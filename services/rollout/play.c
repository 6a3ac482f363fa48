/* The engine's steps: all seats with tokens to feed, one decoder call per policy version, a token drawn for each. */
#include "services/common/run/log.h"
#include "services/rollout/prefix.h"

#include <math.h>
#include <stdlib.h>

#define MEASURED_MOST     8                 /* measurements between two looks at the sockets */
#define STEP_WORK         ((size_t)8 << 30) /* tokens times parameters: about a sixth of a second on two cores */
#define STEP_TOKENS_LEAST 16

static void on_idle(uv_idle_t *idle)
{
    play_step(idle->data);
}

void play_wake(struct rollout *rollout)
{
    if (uv_is_active((const uv_handle_t *)&rollout->idle)) return;
    if (rollout->idle_since_ms) rollout->counters.idle_ms += (double)(rollout_now_ms(rollout) - rollout->idle_since_ms);
    rollout->idle_since_ms = 0;
    (void)uv_idle_start(&rollout->idle, on_idle);
}

static void sleep_until_work(struct rollout *rollout)
{
    (void)uv_idle_stop(&rollout->idle);
    rollout->idle_since_ms = rollout_now_ms(rollout);
}

static void hold(struct seat *seat, struct policy *policy)
{
    if (seat->policy) seat->policy->users--;
    seat->policy = policy;
    if (policy) policy->users++;
}

void play_begin(struct rollout *rollout, struct seat *seat, enum seat_state state)
{
    seat->state = state;
    seat->since_ms = rollout_now_ms(rollout);
    seat->deadline_ms = seat->since_ms + ROLLOUT_POLICY_WAIT_MS;
    play_wake(rollout);
}

/* ---- the verdict of an outcome reward model ---- */

static void begin_verdict(struct rollout *rollout, struct seat *seat)
{
    const struct sequence whole = runner_sequence(&seat->runner);
    uint32_t room = (uint32_t)rollout->spec.rollout.max_context;
    if (!seat->verdict) seat->verdict = calloc(room, sizeof *seat->verdict);
    seat->verdict_count = seat->verdict ? judge_layout(&rollout->judge, &whole, seat->verdict, room) : 0;
    if (seat->verdict_count == 0 || rollout->judge.prompt_count == 0) {
        end_failed(rollout, seat, OUTCOME_judge_error, "the verdict cannot be asked for: its prompt does not fit");
        return;
    }
    hold(seat, NULL); /* it played with other weights */
    seat->verdict_fed = 0;
    play_begin(rollout, seat, SEAT_JUDGE);
}

static void take_verdict(struct rollout *rollout, struct seat *seat, const float *logits, err_t err)
{
    seat->verdict_score = err == ERR_ok ? judge_score(&rollout->judge, logits) : (double)NAN;
    if (isfinite(seat->verdict_score)) {
        end_played(rollout, seat);
        return;
    }
    end_failed(rollout, seat, OUTCOME_judge_error, err == ERR_ok ? "its verdict is not a number" : err_text());
}

/* ---- moving on ---- */

static void follow(struct rollout *rollout, struct seat *seat)
{
    switch (seat->runner.state) {
    case RUNNER_RESET:
        return;
    case RUNNER_ACT:
        seats_act(rollout, seat);
        return;
    case RUNNER_FEED:
        if (seat->player == PLAYER_NONE) seats_release(rollout, seat);
        if (seat->state != SEAT_PLAY) play_begin(rollout, seat, SEAT_PLAY);
        play_wake(rollout);
        return;
    case RUNNER_END:
        break;
    }
    if (seat->runner.outcome == OUTCOME_truncated) seats_release(rollout, seat);
    if (seat->player == PLAYER_POLICY) score_check(rollout, seat);
    if (seat->player == PLAYER_NONE)
        end_failed(rollout, seat, OUTCOME_env_error,
                   "the task has no start to measure: it is over, or longer than max_context");
    else if (seat->judge > 0)
        begin_verdict(rollout, seat);
    else
        end_played(rollout, seat);
}

void play_follow(struct rollout *rollout, struct seat *seat, err_t err)
{
    if (err == ERR_ok) {
        follow(rollout, seat);
        return;
    }
    log_err(LOG_LEVEL_WARN, err, "playing an episode");
    seats_release(rollout, seat);
    end_failed(rollout, seat, OUTCOME_engine_error, err_text());
}

/* ---- the engine ---- */

static struct policy *weights_for(struct rollout *rollout, const struct seat *seat)
{
    if (seat->state == SEAT_JUDGE)
        return policies_get(&rollout->policies, POLICY_FILE_orm, seat->judge, 0, &rollout->origin.model);
    return policies_get(&rollout->policies, POLICY_FILE_policy, seat->pin_version, seat->min_version, &rollout->origin.model);
}

/* Gives the seat weights and a decoder slot when it lacks them; at a turn boundary newer weights where the job wants that, or
 * where it has held back an old version for too long. */
static bool prepare(struct rollout *rollout, struct seat *seat)
{
    bool turn = rollout->spec.rollout.refresh == JOB_REFRESH_TURN ||
                rollout_now_ms(rollout) - seat->started_ms > (uint64_t)rollout->spec.rollout.refresh_deadline_ms;
    bool boundary =
        seat->policy && seat->state == SEAT_PLAY && seat->pin_version < 0 && turn && runner_at_turn(&seat->runner);
    if (!seat->policy || boundary) {
        struct policy *policy = weights_for(rollout, seat);
        if (!policy) return seat->policy != NULL;
        if (boundary && policy != seat->policy) runner_refeed(&seat->runner);
        if (policy != seat->policy) hold(seat, policy);
    }
    if (seat->slot < 0 && rollout->free_slot_count == 0) return false;
    if (seat->slot < 0) seat->slot = rollout->free_slots[--rollout->free_slot_count];
    if (play_context(seat).fed == 0) decoder_reset(rollout->decoder, (uint32_t)seat->slot); /* a context that begins anew */
    return true;
}

struct seat_context play_context(const struct seat *seat)
{
    if (seat->state == SEAT_JUDGE) return (struct seat_context){seat->verdict, seat->verdict_count, seat->verdict_fed};
    struct seat_context context = {.fed = seat->runner.fed};
    context.count = runner_context(&seat->runner, &context.token);
    return context;
}

/* Tokens of one step: a large model's prompts are fed in parts, so that sockets are served and heartbeats leave between. */
static size_t step_tokens(const struct rollout *rollout)
{
    size_t most = STEP_WORK / model_parameters(&rollout->origin.model);
    return most > STEP_TOKENS_LEAST ? most : STEP_TOKENS_LEAST;
}

/* logits become NULL when only a part of what is pending is fed: nothing can be drawn yet */
static struct decoder_item item_of(const struct rollout *rollout, const struct seat *seat, float *logits)
{
    struct seat_context c = play_context(seat);
    uint32_t pending = c.count - c.fed, most = (uint32_t)step_tokens(rollout);
    bool part = pending > most;
    return (struct decoder_item){(uint32_t)seat->slot, c.token + c.fed, part ? most : pending, part ? NULL : logits};
}

/* One decoder call for the seats that play with this policy. */
static void feed(struct rollout *rollout, struct policy *policy, struct seat **seats, size_t count)
{
    size_t vocab = (size_t)rollout->origin.model.vocab;
    double start = rollout_clock_ms();
    for (size_t i = 0; i < count; i++) rollout->items[i] = item_of(rollout, seats[i], rollout->logits + i * vocab);
    err_t err = decoder_step(rollout->decoder, policy->model, policy->id, rollout->items, count);
    double spent = rollout_clock_ms() - start;
    rollout->counters.engine_steps++;
    for (size_t i = 0; i < count; i++) {
        struct seat *seat = seats[i];
        const float *logits = rollout->logits + i * vocab;
        seat->engine_ms += spent / (double)count;
        if (err == ERR_ok && !rollout->items[i].logits) {
            *(seat->state == SEAT_JUDGE ? &seat->verdict_fed : &seat->runner.fed) += rollout->items[i].count;
            continue;
        }
        if (seat->state == SEAT_JUDGE) {
            take_verdict(rollout, seat, logits, err);
            continue;
        }
        err_t drawn = err;
        if (err == ERR_ok) drawn = runner_token(&seat->runner, logits, vocab, rollout->scratch, (int32_t)policy->version);
        play_follow(rollout, seat, drawn);
    }
    rollout->counters.engine_ms += rollout_clock_ms() - start;
}

/* The seats that can be fed, into rollout->fed; the first one that is too much for this step comes first in the next.
 * Measurements are made on the way. */
static size_t gather(struct rollout *rollout, size_t *ret_measured)
{
    size_t ready = 0, tokens = 0, first = rollout->first_seat, most = step_tokens(rollout);
    rollout->first_seat = 0;
    for (size_t k = 0; k < rollout->seat_count && ready < rollout->slots; k++) {
        size_t i = (first + k) % rollout->seat_count;
        struct seat *seat = &rollout->seats[i];
        if (seat->state != SEAT_PLAY && seat->state != SEAT_JUDGE) continue;
        if (seat->player == PLAYER_NONE) {
            if (*ret_measured < MEASURED_MOST) *ret_measured += score_seat(rollout, seat);
        } else if (prepare(rollout, seat)) {
            struct seat_context c = play_context(seat);
            tokens += c.count - c.fed;
            if (ready > 0 && tokens > most) {
                rollout->first_seat = i;
                break;
            }
            rollout->fed[ready++] = seat;
        }
    }
    return ready;
}

void play_step(struct rollout *rollout)
{
    size_t measured = 0, ready = rollout->seat_count ? gather(rollout, &measured) : 0; /* none: the job has stopped */
    if (ready + measured == 0) {
        sleep_until_work(rollout); /* seats that wait for weights are woken by their announcement, or swept */
        return;
    }
    /* by policy: the first seat's group moves to the front, then the next one's */
    for (size_t from = 0; from < ready;) {
        struct policy *policy = rollout->fed[from]->policy;
        size_t to = from;
        for (size_t i = from; i < ready; i++) {
            if (rollout->fed[i]->policy != policy) continue;
            struct seat *swap = rollout->fed[to];
            rollout->fed[to++] = rollout->fed[i];
            rollout->fed[i] = swap;
        }
        while (from < to) {
            size_t now = prefix_share(rollout, rollout->fed + from, to - from);
            feed(rollout, policy, rollout->fed + from, now);
            from += now;
        }
    }
    seats_flush(rollout);
}
