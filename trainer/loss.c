#include "trainer/loss.h"

#include "trainer/loss_grpo.h"
#include "trainer/loss_gspo.h"
#include "trainer/loss_imitation.h"
#include "trainer/loss_ppo.h"
#include "trainer/loss_webrl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define GAP_LOWEST_DECADE  (-9.0)
#define GAP_BUCKETS_DECADE 8.0

struct loss_row {
    const char *name;
    const char *doc;
    loss_t loss;
};

static const struct loss_row rows[LOSS_COUNT] = {
#define LOSS(name, doc) {#name, doc, loss_##name},
#include "trainer/loss.def"
#undef LOSS
};

loss_t loss_of(enum loss_kind kind)
{
    BUG_IF(kind >= LOSS_COUNT);
    return rows[kind].loss;
}

const char *loss_name(enum loss_kind kind)
{
    BUG_IF(kind >= LOSS_COUNT);
    return rows[kind].name;
}

const char *loss_doc(enum loss_kind kind)
{
    BUG_IF(kind >= LOSS_COUNT);
    return rows[kind].doc;
}

err_t loss_find(const char *name, enum loss_kind *ret)
{
    char known[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < LOSS_COUNT; i++) {
        if (strcmp(rows[i].name, name) == 0) {
            *ret = (enum loss_kind)i;
            return ERR_ok;
        }
        int n = snprintf(known + used, sizeof known - used, " %s", rows[i].name);
        if (n > 0 && used + (size_t)n < sizeof known) used += (size_t)n;
    }
    return err_set(ERR_not_found, "loss \"%.40s\": there are%s", name, known);
}

static err_t check_guide(const struct loss_guide *g)
{
    if (g->shaping == LOSS_SHAPING_constant && !(g->gamma > 0 && isfinite(g->gamma)))
        return err_set(ERR_invalid, "guide gamma: %g is not above 0", g->gamma);
    if (g->shaping == LOSS_SHAPING_quantile && !(g->quantile >= 0 && g->quantile <= 1))
        return err_set(ERR_invalid, "guide quantile: %g is not in [0, 1]", g->quantile);
    if (g->shaping == LOSS_SHAPING_power && !(g->power > 0 && g->power <= 1))
        return err_set(ERR_invalid, "guide power: %g is not in (0, 1]", g->power);
    if (!(g->clip >= 0)) return err_set(ERR_invalid, "guide clip: %g is below 0", g->clip);
    return ERR_ok;
}

err_t loss_terms_check(const struct loss_terms *t)
{
    if (!(t->clip_low >= 0 && t->clip_low <= 1)) return err_set(ERR_invalid, "clip low: %g is not in [0, 1]", t->clip_low);
    if (!(t->clip_high >= 0) || !isfinite(t->clip_high))
        return err_set(ERR_invalid, "clip high: %g is below 0", t->clip_high);
    if (!(t->dual_clip == 0 || t->dual_clip > 1))
        return err_set(ERR_invalid, "dual_clip: %g is neither 0 (off) nor above 1", t->dual_clip);
    if (!(t->cap > 0)) return err_set(ERR_invalid, "importance cap: %g is not above 0", t->cap);
    if (!(t->entropy >= 0)) return err_set(ERR_invalid, "entropy: coefficient %g is below 0", t->entropy);
    if (!(t->kl >= 0)) return err_set(ERR_invalid, "kl: coefficient %g is below 0", t->kl);
    if (!(t->regression.beta >= 0) || !isfinite(t->regression.beta))
        return err_set(ERR_invalid, "beta: %g is below 0", t->regression.beta);
    return check_guide(&t->guide);
}

double loss_weight(enum loss_aggregation aggregation, const struct loss_norm *norm, double own_tokens, double own_turn)
{
    switch (aggregation) {
    case LOSS_AGGREGATION_token_mean:
        return 1.0 / norm->tokens;
    case LOSS_AGGREGATION_seq_mean:
        return 1.0 / (norm->sequences * own_tokens);
    case LOSS_AGGREGATION_step_mean:
        return 1.0 / (norm->turns * own_turn);
    }
    return 0;
}

void loss_sums_add(struct loss_sums *sums, const struct loss_sums *more)
{
    sums->loss += more->loss;
    sums->targets += more->targets;
    sums->clipped += more->clipped;
    sums->plain += more->plain;
    sums->ratio += more->ratio;
    sums->entropy += more->entropy;
    sums->reference += more->reference;
    sums->recorded += more->recorded;
    sums->weight += more->weight;
    sums->truncated += more->truncated;
    sums->rho += more->rho;
    sums->rho_square += more->rho_square;
    sums->behave_kl += more->behave_kl;
    sums->hinted += more->hinted;
    sums->hint_log_ratio += more->hint_log_ratio;
    sums->hint_weight += more->hint_weight;
    sums->hint_sequences += more->hint_sequences;
    sums->hint_gamma += more->hint_gamma;
    sums->own += more->own;
    if (!(sums->own_gap >= more->own_gap)) sums->own_gap = more->own_gap;
    for (size_t i = 0; i < LOSS_GAP_BUCKETS; i++) sums->gap[i] += more->gap[i];
}

void loss_gap_add(struct loss_sums *sums, double gap)
{
    double at = gap > 0 ? ceil((log10(gap) - GAP_LOWEST_DECADE) * GAP_BUCKETS_DECADE) : 0;
    if (!(at > 0)) at = 0;
    if (at > LOSS_GAP_BUCKETS - 1) at = LOSS_GAP_BUCKETS - 1;
    sums->gap[(size_t)at]++;
}

double loss_gap_quantile(const struct loss_sums *sums, double share)
{
    uint64_t all = 0, below = 0;
    for (size_t i = 0; i < LOSS_GAP_BUCKETS; i++) all += sums->gap[i];
    for (size_t i = 0; i < LOSS_GAP_BUCKETS; i++) {
        below += sums->gap[i];
        if (all > 0 && (double)below >= share * (double)all)
            return i == 0 ? 0 : pow(10.0, GAP_LOWEST_DECADE + (double)i / GAP_BUCKETS_DECADE);
    }
    return 0;
}
