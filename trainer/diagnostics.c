#include "trainer/diagnostics.h"

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

void diagnostics_from_sums(struct diagnostics *d, const struct loss_sums *s, double steps)
{
    d->loss = share(s->loss, steps);
    d->entropy = share(s->entropy, s->targets);
    d->ratio_mean = share(s->ratio, s->targets);
    d->clip_share = share(s->clipped, s->targets);
    d->kl_reference = share(s->reference, s->targets);
    d->kl_first_pass = share(s->behave_kl, s->recorded);
    d->mean_w = share(s->weight, s->recorded);
    d->truncated_share = share(s->truncated, s->recorded);
    d->ess = share(s->rho * s->rho, s->rho_square * s->recorded);
    d->logp_gap_p50 = loss_gap_quantile(s, 0.5);
    d->logp_gap_p99 = loss_gap_quantile(s, 0.99);
    d->own_targets = s->own;
    d->own_gap_max = s->own_gap;
    d->targets = s->targets;
    d->optimizer_steps = steps;
}
