#include "trainer/model/model.h"

#include "trainer/model/layout.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define VOCAB_ALIGN 16

/* what one field may be */
struct bound {
    const char *name;
    int32_t value;
    int32_t min;
    int32_t max;
};

static err_t check_rope_scaling(const struct rope_scaling *s)
{
    switch (s->kind) {
    case ROPE_SCALING_none:
        return ERR_ok;
    case ROPE_SCALING_linear:
    case ROPE_SCALING_llama3:
        break;
    }
    if (!(s->factor >= 1) || !isfinite(s->factor))
        return err_set(ERR_invalid, "model rope_scaling factor: %g is below 1", (double)s->factor);
    if (s->kind == ROPE_SCALING_linear) return ERR_ok;
    if (!(s->low_freq_factor > 0) || !(s->high_freq_factor > s->low_freq_factor) || !isfinite(s->high_freq_factor))
        return err_set(ERR_invalid, "model rope_scaling low_freq_factor, high_freq_factor: %g, %g are not 0 < low < high",
                       (double)s->low_freq_factor, (double)s->high_freq_factor);
    if (s->original_positions < 1)
        return err_set(ERR_invalid, "model rope_scaling original positions: %d is below 1", s->original_positions);
    return ERR_ok;
}

err_t model_config_check(const struct model_config *c)
{
    const struct bound bounds[] = {
        {"vocab", c->vocab, 2, 1 << 20},
        {"vocab_padded", c->vocab_padded, 2, 1 << 21},
        {"layers", c->layers, 1, 256},
        {"width", c->width, 1, 1 << 16},
        {"heads", c->heads, 1, 1024},
        {"kv_heads", c->kv_heads, 1, 1024},
        {"head_dim", c->head_dim, 2, 1024},
        {"ff", c->ff, 1, 1 << 18},
        {"max_positions", c->max_positions, 1, 1 << 20},
    };
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        const struct bound *b = &bounds[i];
        if (b->value < b->min || b->value > b->max)
            return err_set(ERR_invalid, "model %s: %d is not within %d to %d", b->name, b->value, b->min, b->max);
    }
    if (c->vocab_padded < c->vocab)
        return err_set(ERR_invalid, "model vocab_padded: %d is below vocab %d", c->vocab_padded, c->vocab);
    if (c->heads % c->kv_heads != 0)
        return err_set(ERR_invalid, "model kv_heads: %d does not divide heads %d", c->kv_heads, c->heads);
    if (c->head_dim % 2 != 0) return err_set(ERR_invalid, "model head_dim: %d is odd", c->head_dim);
    if (!(c->rope_theta > 0) || !isfinite(c->rope_theta))
        return err_set(ERR_invalid, "model rope_theta: %g is not above 0", (double)c->rope_theta);
    if (!(c->rms_eps > 0) || !isfinite(c->rms_eps))
        return err_set(ERR_invalid, "model rms_eps: %g is not above 0", (double)c->rms_eps);
    return check_rope_scaling(&c->rope_scaling);
}

bool model_config_equal(const struct model_config *a, const struct model_config *b)
{
    const struct rope_scaling *r = &a->rope_scaling, *s = &b->rope_scaling;
    bool shape = a->vocab == b->vocab && a->vocab_padded == b->vocab_padded && a->layers == b->layers &&
                 a->width == b->width && a->heads == b->heads && a->kv_heads == b->kv_heads && a->head_dim == b->head_dim &&
                 a->ff == b->ff && a->qkv_bias == b->qkv_bias && a->tied == b->tied;
    bool scaling = r->kind == s->kind && r->factor == s->factor && r->low_freq_factor == s->low_freq_factor &&
                   r->high_freq_factor == s->high_freq_factor && r->original_positions == s->original_positions;
    return shape && scaling && a->max_positions == b->max_positions && a->rope_theta == b->rope_theta &&
           a->rms_eps == b->rms_eps;
}

struct preset {
    const char *name;
    int32_t layers, width, heads, kv_heads, head_dim, ff, max_positions;
};

err_t model_preset(const char *name, int32_t vocab, struct model_config *ret)
{
    static const struct preset presets[] = {
#define PRESET(name, layers, width, heads, kv_heads, head_dim, ff, max_positions, doc)                                       \
    {name, layers, width, heads, kv_heads, head_dim, ff, max_positions},
#include "trainer/model/presets.def"
#undef PRESET
    };
    char known[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < sizeof presets / sizeof *presets; i++) {
        const struct preset *p = &presets[i];
        if (strcmp(p->name, name) != 0) {
            int n = snprintf(known + used, sizeof known - used, " %s", p->name);
            if (n > 0 && used + (size_t)n < sizeof known) used += (size_t)n;
            continue;
        }
        struct model_config config = {
            .vocab = vocab,
            .layers = p->layers,
            .width = p->width,
            .heads = p->heads,
            .kv_heads = p->kv_heads,
            .head_dim = p->head_dim,
            .ff = p->ff,
            .max_positions = p->max_positions,
            .rope_theta = 10000.0f,
            .rms_eps = 1e-5f,
            .tied = true,
        };
        if (vocab > 0 && vocab <= 1 << 20) config.vocab_padded = (vocab + VOCAB_ALIGN - 1) / VOCAB_ALIGN * VOCAB_ALIGN;
        TRY(model_config_check(&config));
        *ret = config;
        return ERR_ok;
    }
    return err_set(ERR_not_found, "model preset \"%.40s\": there are%s", name, known);
}

size_t model_parameters(const struct model_config *config)
{
    return layout_of(config).count;
}

err_t model_new(struct model **ret, const struct model_config *config)
{
    TRY(model_config_check(config));
    size_t count = model_parameters(config);
    size_t bytes = (count * sizeof(float) + 63) / 64 * 64;
    float *weights = aligned_alloc(64, bytes);
    if (!weights) return err_set(ERR_memory, "a model of %zu parameters", count);
    memset(weights, 0, bytes);
    err_t err = model_wrap(ret, config, weights, count);
    if (err != ERR_ok) {
        free(weights);
        return err;
    }
    (*ret)->owns_weights = true;
    return ERR_ok;
}

err_t model_wrap(struct model **ret, const struct model_config *config, float *weights, size_t count)
{
    TRY(model_config_check(config));
    size_t want = model_parameters(config);
    if (count != want) return err_set(ERR_invalid, "model weights: %zu floats where the shape has %zu", count, want);
    struct model *model = malloc(sizeof *model);
    if (!model) return err_set(ERR_memory, "a model");
    *model = (struct model){.config = *config, .count = count, .weights = weights};
    *ret = model;
    return ERR_ok;
}

void model_free(struct model **model)
{
    struct model *m = *model;
    *model = NULL;
    if (!m) return;
    if (m->owns_weights) free(m->weights);
    free(m);
}

static void fill(float *to, size_t count, float value)
{
    for (size_t i = 0; i < count; i++) to[i] = value;
}

void model_init(struct model *model, uint64_t seed)
{
    const struct model_config *c = &model->config;
    struct tensor t;
    for (struct tensor_iter iter = {0}; tensor_next(c, &iter, &t);) {
        float *to = model->weights + t.offset;
        if (t.kind == TENSOR_KIND_norm || t.kind == TENSOR_KIND_bias) {
            fill(to, t.cols, t.kind == TENSOR_KIND_norm ? 1.0f : 0.0f);
            continue;
        }
        /* GPT-2's rule: each of the 2L branches adds to the residual stream */
        double scale = t.kind == TENSOR_KIND_residual ? 0.02 / sqrt(2.0 * (double)c->layers) : 0.02;
        size_t rows = t.kind == TENSOR_KIND_embedding ? (size_t)c->vocab : t.rows;
        struct rng rng;
        rng_init(&rng, seed, t.offset);
        for (size_t i = 0; i < rows * t.cols; i++) to[i] = (float)(scale * rng_normal(&rng));
        fill(to + rows * t.cols, (t.rows - rows) * t.cols, 0);
    }
}

err_t model_digest(const struct model *model, struct digest *ret)
{
    const struct model_config *c = &model->config;
    const struct rope_scaling *s = &c->rope_scaling;
    char text[480]; /* field by field: a struct's padding is not part of a policy */
    int n = snprintf(text, sizeof text, "pal-model-1 %d %d %d %d %d %d %d %d %d %a %a %d %d", c->vocab, c->vocab_padded,
                     c->layers, c->width, c->heads, c->kv_heads, c->head_dim, c->ff, c->max_positions, (double)c->rope_theta,
                     (double)c->rms_eps, c->qkv_bias, c->tied);
    if (s->kind != ROPE_SCALING_none) /* models without keep the digests they had before there was scaling */
        n += snprintf(text + n, sizeof text - (size_t)n, " %d %a %a %a %d", (int)s->kind, (double)s->factor,
                      (double)s->low_freq_factor, (double)s->high_freq_factor, s->original_positions);
    n += snprintf(text + n, sizeof text - (size_t)n, "\n");
    BUG_IF(n <= 0 || (size_t)n >= sizeof text);
    const struct span spans[] = {span_of(text, (size_t)n), span_of(model->weights, model->count * sizeof(float))};
    return digest_spans(spans, 2, ret);
}
