/* The engine's steps: all seats with tokens to feed, one decoder call per policy version, a token drawn for each. */
#include "services/common/run/log.h"
#include "services/rollout/prefix.h"

#include <math.h>
#include <stdlib.h>

#define GAP_WARN      1e-4
#define GAP_WARN_HALF 5e-2 /* with a cache of halves */

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
    policy->users++;
}

/* Gives the seat weights and a decoder slot when it lacks them; at a turn boundary newer weights where the job wants that, or
 * where it has held back an old version for too long. */
static bool prepare(struct rollout *rollout, struct seat *seat)
{
    bool turn = rollout->spec.rollout.refresh == JOB_REFRESH_TURN ||
                rollout_now_ms(rollout) - seat->started_ms > (uint64_t)rollout->spec.rollout.refresh_deadline_ms;
    bool boundary = seat->policy && seat->pin_version < 0 && turn && runner_at_turn(&seat->runner);
    if (!seat->policy || boundary) {
        struct policy *policy =
            policies_get(&rollout->policies, seat->pin_version, seat->min_version, &rollout->origin.model);
        if (!policy) return seat->policy != NULL;
        if (boundary && policy != seat->policy) {
            decoder_reset(rollout->decoder, (uint32_t)seat->slot);
            runner_refeed(&seat->runner);
        }
        if (policy != seat->policy) hold(seat, policy);
    }
    if (seat->slot >= 0) return true;
    if (rollout->free_slot_count == 0) return false;
    seat->slot = rollout->free_slots[--rollout->free_slot_count];
    decoder_reset(rollout->decoder, (uint32_t)seat->slot);
    return true;
}

/* One decoder call for the seats that play with this policy. */
static void feed(struct rollout *rollout, struct policy *policy, struct seat **seats, size_t count)
{
    size_t vocab = (size_t)rollout->origin.model.vocab;
    double start = rollout_clock_ms();
    for (size_t i = 0; i < count; i++) {
        struct runner *runner = &seats[i]->runner;
        rollout->items[i] = (struct decoder_item){(uint32_t)seats[i]->slot, runner->token + runner->fed,
                                                  runner->count - runner->fed, rollout->logits + i * vocab};
    }
    err_t err = decoder_step(rollout->decoder, policy->model, policy->id, rollout->items, count);
    double spent = rollout_clock_ms() - start;
    rollout->counters.engine_steps++;
    for (size_t i = 0; i < count; i++) {
        struct seat *seat = seats[i];
        seat->engine_ms += spent / (double)count;
        err_t drawn = err;
        if (err == ERR_ok)
            drawn =
                runner_token(&seat->runner, rollout->logits + i * vocab, vocab, rollout->scratch, (int32_t)policy->version);
        play_follow(rollout, seat, drawn);
    }
    rollout->counters.engine_ms += rollout_clock_ms() - start;
}

void play_step(struct rollout *rollout)
{
    size_t ready = 0;
    for (size_t i = 0; i < rollout->seat_count && ready < rollout->slots; i++) {
        struct seat *seat = &rollout->seats[i];
        if (seat->state != SEAT_PLAY) continue;
        if (prepare(rollout, seat)) rollout->fed[ready++] = seat;
    }
    if (ready == 0) {
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

/* What the sampler recorded against what the learner computes for the same tokens under the same weights. */
static err_t compare(struct rollout *rollout, const struct seat *seat, double *ret_gap)
{
    const struct sequence s = runner_sequence(&seat->runner);
    uint32_t start[2] = {0, s.count};
    uint32_t *target = calloc(s.count + 1, sizeof *target);
    float *out = calloc(2 * (size_t)s.count + 1, sizeof *out);
    size_t targets = 0;
    for (uint32_t i = 1; target && i < s.count; i++) {
        if (s.target[i]) target[targets++] = i;
    }
    struct learner_batch batch = {1, start, s.token, targets, target, (float)rollout->spec.rollout.temperature};
    struct learner_out result = {out, out ? out + s.count : NULL, NULL};
    err_t err = target && out ? learner_forward(rollout->checker, 0, seat->policy->model, &batch, &result)
                              : err_set(ERR_memory, "a comparison");
    for (size_t i = 0; err == ERR_ok && i < targets; i++) {
        double gap = fabs((double)out[i] - (double)s.logp[target[i]]);
        if (gap > *ret_gap) *ret_gap = gap;
    }
    free(target);
    free(out);
    return err;
}

void play_check(struct rollout *rollout, const struct seat *seat)
{
    const struct sequence s = runner_sequence(&seat->runner);
    bool mixed = !seat->policy;
    for (uint32_t i = 0; !mixed && i < s.count; i++) mixed = s.target[i] && s.version[i] != seat->policy->version;
    if (++rollout->since_check < ROLLOUT_CHECK_EVERY || mixed) return;
    rollout->since_check = 0;
    rollout->counters.checked++;
    double gap = 0;
    err_t err = compare(rollout, seat, &gap);
    if (err != ERR_ok) log_err(LOG_LEVEL_WARN, err, "comparing sampler and learner");
    if (gap > (rollout->spec.rollout.kv_cache == JOB_KV_CACHE_FP16 ? GAP_WARN_HALF : GAP_WARN))
        log_warn("sampler and learner differ by %.2g in log-prob (episode %llu)", gap, (unsigned long long)seat->episode);
    if (gap > rollout->counters.logp_gap_max) rollout->counters.logp_gap_max = gap;
}
