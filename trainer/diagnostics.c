#include "trainer/diagnostics.h"

#include <math.h>
#include <string.h>

static const char *const names[] = {
#define FIGURE(name, doc) #name,
#include "trainer/diagnostics.def"
#undef FIGURE
};

static const char *const docs[] = {
#define FIGURE(name, doc) doc,
#include "trainer/diagnostics.def"
#undef FIGURE
};

_Static_assert(sizeof(struct diagnostics) == DIAGNOSTICS_COUNT * sizeof(double), "figures are doubles without gaps");

const char *diagnostics_name(enum diagnostics_figure figure)
{
    BUG_IF(figure >= DIAGNOSTICS_COUNT);
    return names[figure];
}

const char *diagnostics_doc(enum diagnostics_figure figure)
{
    BUG_IF(figure >= DIAGNOSTICS_COUNT);
    return docs[figure];
}

double diagnostics_value(const struct diagnostics *diagnostics, enum diagnostics_figure figure)
{
    BUG_IF(figure >= DIAGNOSTICS_COUNT);
    double value;
    memcpy(&value, (const char *)diagnostics + (size_t)figure * sizeof value, sizeof value);
    return value;
}

static double share(double part, double whole)
{
    return whole > 0 ? part / whole : 0;
}

/* NaN where nothing was measured */
static double mean(double sum, double count)
{
    return count > 0 ? sum / count : (double)NAN;
}

void diagnostics_clear(struct diagnostics *d)
{
    double none = (double)NAN;
    *d = (struct diagnostics){.mean_w = none,
                              .truncated_share = none,
                              .ess = none,
                              .guide_ratio_mean = none,
                              .guide_weight_mean = none,
                              .guide_gamma = none,
                              .value_loss = none,
                              .explained_variance = none,
                              .fau = none,
                              .orm_balanced_accuracy = none,
                              .orm_auroc = none,
                              .orm_train_loss = none,
                              .angle = none};
}

void diagnostics_from_sums(struct diagnostics *d, const struct loss_sums *s, double steps)
{
    d->loss = share(s->loss, steps);
    d->entropy = share(s->entropy, s->targets);
    d->ratio_mean = share(s->ratio, s->plain);
    d->clip_share = share(s->clipped, s->targets);
    d->kl_reference = share(s->reference, s->targets);
    d->kl_first_pass = share(s->behave_kl, s->recorded);
    d->mean_w = mean(s->weight, s->recorded);
    d->truncated_share = mean(s->truncated, s->recorded);
    d->ess = mean(s->rho * s->rho, s->rho_square * s->recorded);
    d->logp_gap_p50 = loss_gap_quantile(s, 0.5);
    d->logp_gap_p99 = loss_gap_quantile(s, 0.99);
    d->unrecorded_share = share(s->targets - s->recorded, s->targets);
    d->hinted_targets = s->hinted;
    d->guide_ratio_mean = mean(s->hint_log_ratio, s->hinted);
    d->guide_weight_mean = mean(s->hint_weight, s->hinted);
    d->guide_gamma = mean(s->hint_gamma, s->hint_sequences);
    d->own_targets = s->own;
    d->own_gap_max = s->own_gap;
    d->targets = s->targets;
    d->optimizer_steps = steps;
}

void diagnostics_from_values(struct diagnostics *d, const struct value_sums *s)
{
    if (!(s->states > 0)) return;
    d->value_loss = s->loss / s->states;
    d->explained_variance = value_explained_variance(s);
    d->fau = s->active / s->units;
}
