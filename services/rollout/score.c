/* Measurements with the learner's forward pass: of a task's start (angles, value), of a stored episode (perplexity), and of
 * played ones against what the sampler recorded. */
#include "rollout/angle.h"
#include "services/common/run/log.h"
#include "services/common/run/payload.h"
#include "services/rollout/rollout.h"

#include <math.h>

#define GAP_WARN      1e-4
#define GAP_WARN_HALF 5e-2 /* with a cache of halves */

/* Targets of one context, tokens [from, to): log-probs into logp, returns how many. */
static err_t forward(struct rollout *rollout, const struct model *model, const struct sequence *s, uint32_t from, uint32_t to,
                     float *logp, size_t *ret)
{
    AUTO(arena) arena = {0};
    uint32_t *target = arena_array(&arena, uint32_t, to - from);
    float *entropy = arena_array(&arena, float, to - from);
    if (!target || !entropy) return ERR_memory;
    size_t targets = 0;
    uint32_t last = 0;
    for (uint32_t i = from + 1; i < to; i++) {
        if (s->target[i]) target[targets++] = last = i - from;
    }
    *ret = targets;
    if (targets == 0) return ERR_ok;
    const uint32_t start[2] = {0, last + 1};
    const struct learner_batch batch = {1, start, s->token + from, targets, target, (float)rollout->spec.rollout.temperature};
    return learner_forward(rollout->checker, 0, model, &batch, &(struct learner_out){logp, entropy, NULL});
}

err_t score_targets(struct rollout *rollout, const struct model *model, const struct sequence *sequence, bool with_hint,
                    float *logp, size_t *ret)
{
    bool cut = sequence->segments > 1;
    *ret = 0;
    for (uint32_t i = 0; i < (cut ? sequence->segments : 1); i++) {
        uint32_t from = cut ? sequence->segment[i] : 0, to = cut ? sequence->segment[i + 1] : sequence->count;
        size_t n = 0;
        if (!with_hint) from += sequence->hint;
        if (from < to) TRY(forward(rollout, model, sequence, from, to, logp + *ret, &n));
        *ret += n;
    }
    return ERR_ok;
}

/* ---- sampler and learner ---- */

static err_t compare(struct rollout *rollout, const struct seat *seat, double *ret_gap)
{
    AUTO(arena) arena = {0};
    struct sequence s;
    size_t targets = 0, n = 0;
    TRY(end_sequence(seat, &arena, &s));
    float *logp = arena_array(&arena, float, s.count + 1);
    if (!logp) return ERR_memory;
    TRY(score_targets(rollout, seat->policy->model, &s, true, logp, &targets));
    for (uint32_t i = 0; i < s.count; i++) {
        if (!s.target[i]) continue;
        BUG_IF(n == targets); /* an action never begins a context */
        double gap = fabs((double)logp[n++] - (double)s.logp[i]);
        if (gap > *ret_gap) *ret_gap = gap;
    }
    return ERR_ok;
}

void score_check(struct rollout *rollout, const struct seat *seat)
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

/* ---- source score ---- */

/* Hidden states [T, D] behind each of the prompt's T tokens. The learner gives those that predict a token, so one more (any)
 * stands behind the last. */
static err_t hidden_states(struct rollout *rollout, const struct model *model, const struct sequence *s, struct arena *arena,
                           float **ret)
{
    uint32_t count = s->count;
    int32_t *tokens = arena_array(arena, int32_t, count + 1);
    uint32_t *target = arena_array(arena, uint32_t, count);
    float *numbers = arena_array(arena, float, 2 * (size_t)count);
    *ret = arena_array(arena, float, (size_t)count *(size_t)model->config.width);
    if (!tokens || !target || !numbers || !*ret) return ERR_memory;
    memcpy(tokens, s->token, count * sizeof *tokens);
    tokens[count] = s->token[0];
    for (uint32_t i = 0; i < count; i++) target[i] = i + 1;
    const uint32_t start[2] = {0, count + 1};
    const struct learner_batch batch = {1, start, tokens, count, target, 1};
    return learner_forward(rollout->checker, 0, model, &batch, &(struct learner_out){numbers, numbers + count, *ret});
}

/* Leading tokens of the prompt that every prompt of this model has: its opening, and of the message what it begins with
 * whatever it says. */
static err_t template_tokens(const struct runner *runner, uint32_t *ret)
{
    int32_t empty[64];
    size_t n = 0, same = 0;
    uint32_t from = runner->prefix;
    *ret = from;
    if (!runner->config.chat) return ERR_ok;
    TRY(chat_message(runner->config.chat, (struct span){0}, empty, sizeof empty / sizeof *empty, &n));
    while (same < n && from + same < runner->count && empty[same] == runner->token[from + same]) same++;
    *ret = from + (uint32_t)same;
    return ERR_ok;
}

/* V of the state before the first action: the last token of the prompt. */
static err_t start_value(const struct value_head *head, const float *hidden, struct arena *arena, double *ret)
{
    float value = 0, *active = arena_array(arena, float, head->units);
    if (!active) return ERR_memory;
    value_head_forward(head, hidden, 1, active, &value);
    *ret = (double)value;
    return ERR_ok;
}

static err_t measure_prompt(struct rollout *rollout, struct seat *seat, const struct policy *policy)
{
    AUTO(arena) arena = {0};
    const struct sequence s = runner_sequence(&seat->runner);
    size_t width = (size_t)policy->model->config.width;
    uint32_t template = 0;
    float *hidden = NULL;
    double *scratch = arena_array(&arena, double, 2 * width);
    if (!scratch) return ERR_memory;
    TRY(hidden_states(rollout, policy->model, &s, &arena, &hidden));
    TRY(template_tokens(&seat->runner, &template));
    struct angle angle = angle_measure(hidden, s.count, width, template, scratch);
    struct wire_counter scores[] = {{span_text("c_intra"), angle.intra},
                                    {span_text("c_inter"), angle.inter},
                                    {span_text("tokens"), (double)s.count},
                                    {span_text("value"), 0}};
    size_t count = sizeof scores / sizeof *scores;
    if (policy->value)
        TRY(start_value(policy->value, hidden + (s.count - 1) * width, &arena, &scores[count - 1].value));
    else
        count--;
    end_measured(rollout, seat, &s, scores, count);
    return ERR_ok;
}

static err_t measure_replay(struct rollout *rollout, struct seat *seat, const struct policy *policy)
{
    AUTO(arena) arena = {0};
    AUTO(buf) raw = {0};
    struct sequence s;
    size_t targets = 0;
    double sum = 0;
    TRY(payload_unpack(buf_span(&seat->given), seat->given_raw, &raw));
    TRY(sequence_decode(buf_span(&raw), &arena, &s));
    float *logp = arena_array(&arena, float, s.count + 1);
    if (!logp) return ERR_memory;
    TRY(score_targets(rollout, policy->model, &s, false, logp, &targets));
    if (targets == 0) return err_set(ERR_malformed, "the episode to measure has no action");
    for (size_t i = 0; i < targets; i++) sum += (double)logp[i];
    const struct wire_counter score = {span_text("perplexity"), exp(-sum / (double)targets)};
    end_measured(rollout, seat, NULL, &score, 1);
    return ERR_ok;
}

bool score_seat(struct rollout *rollout, struct seat *seat)
{
    struct policy *policy =
        policies_get(&rollout->policies, POLICY_FILE_policy, seat->pin_version, seat->min_version, &rollout->origin.model);
    if (!policy) return false;
    double start = rollout_clock_ms();
    err_t err = seat->replay ? measure_replay(rollout, seat, policy) : measure_prompt(rollout, seat, policy);
    rollout->counters.engine_ms += rollout_clock_ms() - start;
    if (err == ERR_ok) return true;
    log_err(LOG_LEVEL_WARN, err, "measuring");
    bool broken = err == ERR_malformed || err == ERR_invalid;
    end_failed(rollout, seat, broken ? OUTCOME_poisoned : OUTCOME_engine_error, err_text());
    return true;
}
