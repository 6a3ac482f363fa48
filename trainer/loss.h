/* Losses: plain functions on log-probs and entropies, outside the engine.
 *
 * A loss sees the targets of one micro-batch: what the policy says of them now (theta, entropy), what it said at the update's
 * start (prox), what the sampler recorded (behave), what the reference says, and each target's advantage and weight. It
 * returns the micro-batch's part of the loss and its derivatives by theta and entropy, and adds to sums from which the
 * update's figures are made. How targets are averaged is in their weights (loss_weight), so a loss need not know.
 * Targets lie in sequences of turns: a turn is one action, a sequence what was one context. A target outside of every turn
 * takes no part (the value head reads the state before it). In a hinted sequence (Guide) theta, entropy and reference are of
 * the context without the hint, prox and behave of the one with it.
 * All log-probs are tempered, full-vocabulary, in nats. Sums are in double. */
#ifndef PAL_TRAINER_LOSS_H
#define PAL_TRAINER_LOSS_H

#include "services/common/base/err.h"

#include <stdint.h>

#define LOSS_LOG_RATIO_MAX 20.0 /* log-ratios are clamped to +-this; past it the derivative is 0 */
#define LOSS_MASK_RATIO    2.0  /* importance masked: prox/behave outside [1/2, 2] is dropped */
#define LOSS_UNRECORDED    1.0f /* behave of a target that no sampler drew: no log-prob is above 0 */
#define LOSS_GAP_BUCKETS   96   /* of the histogram of |prox - behave|: 8 to a decade from 1e-9 */

enum loss_kind {
#define LOSS(name, doc) LOSS_##name,
#include "trainer/loss.def"
#undef LOSS
    LOSS_COUNT
};

enum loss_importance { LOSS_IMPORTANCE_off, LOSS_IMPORTANCE_tis, LOSS_IMPORTANCE_masked };
enum loss_aggregation { LOSS_AGGREGATION_token_mean, LOSS_AGGREGATION_seq_mean, LOSS_AGGREGATION_step_mean };
enum loss_shaping { LOSS_SHAPING_none, LOSS_SHAPING_constant, LOSS_SHAPING_quantile, LOSS_SHAPING_power };

/* Of hinted sequences (loss_guide.h). */
struct loss_guide {
    enum loss_shaping shaping;
    double gamma;    /* constant */
    double quantile; /* quantile: which of the sequence's ratios is gamma */
    double power;
    double certain; /* targets more probable than this in both contexts are left out of the quantile */
    double clip;    /* of the ratio, 0: none */
};

/* Of loss webrl (loss_webrl.h). */
struct loss_regression {
    double beta;
    bool mean;     /* the log-ratio is a turn's mean, not its sum */
    bool released; /* the authors' code instead of the paper */
};

struct loss_terms {
    double clip_low;  /* ratio is clipped below 1 - clip_low */
    double clip_high; /* and above 1 + clip_high */
    double dual_clip; /* c > 1: with A < 0 the surrogate is at least c A; 0: off */
    enum loss_importance importance;
    double cap;        /* of prox/behave */
    bool behave_ratio; /* ratio = theta/behave and w = 1, instead of theta/prox */
    double entropy;    /* coefficient of the bonus */
    double kl;         /* coefficient of the KL to the reference */
    struct loss_guide guide;
    struct loss_regression regression;
};

/* One action: consecutive targets. */
struct loss_turn {
    uint32_t first;
    uint32_t count; /* >= 1 */
};

/* One context: consecutive turns. */
struct loss_sequence {
    uint32_t first; /* turn */
    uint32_t count;
    bool hinted;
};

struct loss_batch {
    size_t targets;
    const float *weight;    /* [targets] share in the loss, >= 0 */
    const float *advantage; /* [targets] */
    const float *theta;     /* [targets] log-prob now */
    const float *entropy;   /* [targets] now, nats */
    const float *prox;      /* [targets] log-prob at the update's start; where it is theta without gradient, a copy of it */
    const float *behave;    /* [targets] recorded log-prob, or LOSS_UNRECORDED */
    const float *reference; /* [targets] log-prob under the reference; NULL: none */
    const uint8_t *own;     /* [targets] 1: behave is of the very weights that prox is of; NULL: not known */
    size_t turns;
    const struct loss_turn *turn; /* [turns] ascending */
    size_t sequences;
    const struct loss_sequence *sequence; /* [sequences], every turn in one */
    float *scratch;                       /* [targets] for the loss's own use */
};

struct loss_grad {
    float *dlogp;    /* [targets] dL/dtheta; both are 0 when the loss is called */
    float *dentropy; /* [targets] dL/dentropy */
};

/* What the figures of an update are made of; zeroed, added to, merged in a fixed order. */
struct loss_sums {
    double loss;                    /* the loss itself: weights are in it */
    double targets;                 /* targets seen */
    double clipped;                 /* where the clip took the gradient */
    double plain;                   /* targets without a hint's ratio, */
    double ratio;                   /* and the sum of their theta/prox */
    double entropy;                 /* nats */
    double reference;               /* k3 KL to the reference */
    double recorded;                /* targets with a recorded log-prob: the denominators of what follows */
    double weight;                  /* sum of w */
    double truncated;               /* where w was cut or masked */
    double rho;                     /* sum of prox/behave */
    double rho_square;              /* sum of its square: effective sample size = rho^2 / rho_square */
    double behave_kl;               /* k3 of behave and prox: 0 on on-policy data */
    double hinted;                  /* targets with a hint's ratio r = theta without / prox with it, */
    double hint_log_ratio;          /* the sum of log r */
    double hint_weight;             /* of w r f'(r): what of the advantage reaches the gradient */
    double hint_sequences;          /* sequences of them, */
    double hint_gamma;              /* and the sum of their gammas */
    double own;                     /* targets drawn by the weights that prox is of, */
    double own_gap;                 /* and the largest |prox - behave| among them: only rounding */
    uint64_t gap[LOSS_GAP_BUCKETS]; /* histogram of |prox - behave| */
};

/* Adds to *sums and writes grad. Never fails: what is not finite comes out as it went in and is refused by the update. */
typedef void (*loss_t)(const struct loss_terms *terms, const struct loss_batch *batch, const struct loss_grad *grad,
                       struct loss_sums *sums);

loss_t loss_of(enum loss_kind kind);
const char *loss_name(enum loss_kind kind);
const char *loss_doc(enum loss_kind kind);
/* ERR_not_found names those there are. */
err_t loss_find(const char *name, enum loss_kind *ret) MUST_USE;

/* ERR_invalid naming the field: a clip below 0, a dual clip in (0, 1], a cap that is not above 0, a coefficient below 0, a
 * shaping without its number. */
err_t loss_terms_check(const struct loss_terms *terms) MUST_USE;

/* What the targets that are averaged over have in common, and those of one turn. */
struct loss_norm {
    double tokens;    /* norm_tokens */
    double sequences; /* episodes, and the following: those without signal too */
    double turns;
};

/* The weight of a target whose episode has own_tokens targets, own_turn of them in its turn. token_mean: 1/tokens. seq_mean:
 * 1/(sequences own_tokens). step_mean: 1/(turns own_turn). */
double loss_weight(enum loss_aggregation aggregation, const struct loss_norm *norm, double own_tokens, double own_turn);

void loss_sums_add(struct loss_sums *sums, const struct loss_sums *more);
/* Records |log prox - log behave| of a target. */
void loss_gap_add(struct loss_sums *sums, double gap);
/* The gap below which `share` of the targets lie: upper edge of its bucket, 0 in the lowest one. */
double loss_gap_quantile(const struct loss_sums *sums, double share);

#endif
