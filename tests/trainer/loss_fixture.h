/* What the tests of losses share: targets in turns and sequences, and central finite differences of a loss. */
#ifndef PAL_TESTS_TRAINER_LOSS_FIXTURE_H
#define PAL_TESTS_TRAINER_LOSS_FIXTURE_H

#include "services/common/base/rng.h"
#include "trainer/loss.h"

#include <check.h>
#include <math.h>

#define N        400
#define SEED     11
#define TURN     4 /* targets of a turn */
#define SEQUENCE 3 /* turns of a sequence */

struct data {
    float weight[N], advantage[N], theta[N], entropy[N], prox[N], behave[N], reference[N], scratch[N];
    float dlogp[N], dentropy[N];
    struct loss_turn turn[N];
    struct loss_sequence sequence[N];
};

static const struct loss_terms TERMS = {
    .clip_low = 0.2, .clip_high = 0.28, .importance = LOSS_IMPORTANCE_tis, .cap = 1.0, .entropy = 0.01, .kl = 0.3};

/* The first targets, in turns of TURN and sequences of SEQUENCE turns. */
static inline struct loss_batch view(struct data *d, size_t targets)
{
    struct loss_batch batch = {.targets = targets,
                               .weight = d->weight,
                               .advantage = d->advantage,
                               .theta = d->theta,
                               .entropy = d->entropy,
                               .prox = d->prox,
                               .behave = d->behave,
                               .reference = d->reference,
                               .turn = d->turn,
                               .sequence = d->sequence,
                               .scratch = d->scratch};
    for (size_t i = 0; i < targets; i += TURN) {
        uint32_t count = targets - i < TURN ? (uint32_t)(targets - i) : TURN, turn = (uint32_t)batch.turns;
        d->turn[batch.turns++] = (struct loss_turn){(uint32_t)i, count};
        if (turn % SEQUENCE == 0) d->sequence[batch.sequences++] = (struct loss_sequence){.first = turn};
        d->sequence[batch.sequences - 1].count++;
    }
    return batch;
}

static inline double run(enum loss_kind kind, const struct loss_terms *terms, struct data *d, const struct loss_batch *batch,
                         struct loss_sums *ret)
{
    struct loss_sums sums = {0};
    const struct loss_grad grad = {d->dlogp, d->dentropy};
    memset(d->dlogp, 0, sizeof d->dlogp);
    memset(d->dentropy, 0, sizeof d->dentropy);
    loss_of(kind)(terms, batch, &grad, &sums);
    if (ret) *ret = sums;
    return sums.loss;
}

/* Advantages are a sequence's, so that losses on sequences may be asked, too. */
static inline void fill(struct data *d, struct rng *rng)
{
    for (size_t i = 0; i < N; i++) {
        d->weight[i] = (float)(0.5 + rng_unit(rng));
        d->advantage[i] = i % (TURN * SEQUENCE) == 0 ? (float)rng_normal(rng) : d->advantage[i - 1];
        d->theta[i] = (float)(-3 * rng_unit(rng) - 0.01);
        d->entropy[i] = (float)(2 * rng_unit(rng));
        d->prox[i] = d->theta[i] + (float)(0.4 * rng_normal(rng));
        d->behave[i] = i % 17 == 0 ? LOSS_UNRECORDED : fminf(d->prox[i] + (float)(0.4 * rng_normal(rng)), -1e-4f);
        d->reference[i] = d->theta[i] + (float)(0.5 * rng_normal(rng));
    }
}

/* dL/dx of target i by central differences; x lies in d */
static inline double slope(enum loss_kind kind, const struct loss_terms *terms, struct data *d,
                           const struct loss_batch *batch, float *x)
{
    static struct data kept_d;
    kept_d = *d; /* gradients are written over */
    float kept = *x, high = kept + 1e-3f, low = kept - 1e-3f;
    *x = high;
    double above = run(kind, terms, d, batch, NULL);
    *x = low;
    double below = run(kind, terms, d, batch, NULL);
    *d = kept_d;
    return (above - below) / ((double)high - (double)low);
}

/* Both derivatives of target i against central differences. */
static inline void check_target(enum loss_kind kind, const struct loss_terms *terms, struct data *d,
                                const struct loss_batch *batch, size_t i)
{
    double by_logp = slope(kind, terms, d, batch, &d->theta[i]);
    double by_entropy = slope(kind, terms, d, batch, &d->entropy[i]);
    ck_assert_msg(fabs(by_logp - (double)d->dlogp[i]) < 3e-4 * fmax(1, fabs(by_logp)),
                  "target %zu (seed %d): dlogp %g, differences %g", i, SEED, (double)d->dlogp[i], by_logp);
    ck_assert_msg(fabs(by_entropy - (double)d->dentropy[i]) < 3e-4, "target %zu: dentropy %g, differences %g", i,
                  (double)d->dentropy[i], by_entropy);
}

#endif
