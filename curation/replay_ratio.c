#include "curation/replay_ratio.h"

#include "services/common/base/err.h"

#include <math.h>

#define WHOLE 1e-9 /* credits this near to a whole number are one: fractions like 0.1 do not add up exactly */

const char *replay_ratio_why_name(enum replay_ratio_why why)
{
    static const char *const names[] = {
        [REPLAY_RATIO_MEASURES] = "warm-up",
        [REPLAY_RATIO_STAYS] = "none",
        [REPLAY_RATIO_QUIETED] = "FAU has settled",
        [REPLAY_RATIO_WEIGHT] = "the mean importance weight is below weight_low",
        [REPLAY_RATIO_CLIP] = "the clip share is above clip_high",
        [REPLAY_RATIO_VARIANCE] = "the explained variance fell for two windows",
    };
    return names[why];
}

double replay_ratio_now(const struct replay_ratio_config *config, const struct replay_ratio *state)
{
    return state->high > 0 ? config->high : config->low;
}

int64_t replay_ratio_passes(const struct replay_ratio_config *config, const struct replay_ratio *state)
{
    return (int64_t)fmax(0, floor(state->credits + replay_ratio_now(config, state) + WHOLE));
}

void replay_ratio_spend(const struct replay_ratio_config *config, struct replay_ratio *state, int64_t passes)
{
    state->credits += replay_ratio_now(config, state) - (double)passes;
}

static void sum_up(struct replay_ratio *s, const struct replay_ratio_reading *reading)
{
    s->readings += 1;
    s->fau += reading->fau;
    if (isfinite(reading->mean_w)) {
        s->weights += 1;
        s->weight += reading->mean_w;
    }
    if (isfinite(reading->clip_share)) {
        s->clips += 1;
        s->clip += reading->clip_share;
    }
    if (isfinite(reading->explained_variance)) {
        s->variances += 1;
        s->variance += reading->explained_variance;
    }
}

static double mean(double sum, double count)
{
    return count > 0 ? sum / count : (double)NAN;
}

/* max(tau, 2 std d) of the warm-up's differences; with fewer than two there is no deviation. */
static double quiet_below(const struct replay_ratio_config *config, const struct replay_ratio *s)
{
    if (!config->guarded || s->differences < 2) return config->tau;
    double square = (s->squares - s->difference * s->difference / s->differences) / (s->differences - 1);
    return fmax(config->tau, 2 * sqrt(fmax(square, 0)));
}

static enum replay_ratio_why paper(const struct replay_ratio *s, const struct replay_ratio_verdict *v)
{
    if (s->windows < 2) return REPLAY_RATIO_MEASURES;
    return s->high <= 0 && fabs(v->difference) < v->tau ? REPLAY_RATIO_QUIETED : REPLAY_RATIO_STAYS;
}

static enum replay_ratio_why guarded(const struct replay_ratio_config *config, struct replay_ratio *s,
                                     const struct replay_ratio_verdict *v)
{
    if (s->windows <= config->warmup || s->windows < 2) return REPLAY_RATIO_MEASURES;
    bool quiet = fabs(v->difference) < v->tau && v->fau > config->floor * s->first_fau;
    s->quiet = quiet ? s->quiet + 1 : 0;
    if (s->high <= 0) return s->quiet >= REPLAY_RATIO_QUIET ? REPLAY_RATIO_QUIETED : REPLAY_RATIO_STAYS;
    bool fell = s->has_variance > 0 && v->explained_variance < s->last_variance;
    s->falls = fell ? s->falls + 1 : 0;
    if (v->mean_w < config->weight_low) return REPLAY_RATIO_WEIGHT;
    if (v->clip_share > config->clip_high) return REPLAY_RATIO_CLIP;
    return s->falls >= REPLAY_RATIO_FALLS ? REPLAY_RATIO_VARIANCE : REPLAY_RATIO_STAYS;
}

/* The window that ended becomes the one before. */
static void next_window(const struct replay_ratio_config *config, struct replay_ratio *s,
                        const struct replay_ratio_verdict *v)
{
    if (s->windows < 2) {
        s->first_fau = v->fau;
    } else if (s->windows <= config->warmup) {
        s->differences += 1;
        s->difference += v->difference;
        s->squares += v->difference * v->difference;
    }
    s->last_fau = v->fau;
    s->has_variance = isfinite(v->explained_variance);
    s->last_variance = s->has_variance > 0 ? v->explained_variance : 0;
    s->readings = s->fau = s->weights = s->weight = s->clips = s->clip = s->variances = s->variance = 0;
}

bool replay_ratio_read(const struct replay_ratio_config *config, struct replay_ratio *state,
                       const struct replay_ratio_reading *reading, struct replay_ratio_verdict *ret)
{
    BUG_IF(config->window < 1);
    struct replay_ratio *s = state;
    if (!isfinite(reading->fau)) return false;
    sum_up(s, reading);
    if (s->readings < config->window) return false;
    s->windows += 1;
    *ret = (struct replay_ratio_verdict){
        .fau = s->fau / s->readings,
        .difference = (double)NAN,
        .tau = quiet_below(config, s),
        .mean_w = mean(s->weight, s->weights),
        .clip_share = mean(s->clip, s->clips),
        .explained_variance = mean(s->variance, s->variances),
    };
    if (s->windows >= 2) ret->difference = ret->fau - s->last_fau;
    ret->why = config->guarded ? guarded(config, s, ret) : paper(s, ret);
    if (ret->why > REPLAY_RATIO_STAYS) {
        s->high = ret->why == REPLAY_RATIO_QUIETED;
        s->quiet = s->falls = 0;
    }
    ret->high = s->high > 0;
    next_window(config, s, ret);
    return true;
}
