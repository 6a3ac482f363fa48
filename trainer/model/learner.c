#include "trainer/model/learner.h"

#include "trainer/model/learner_impl.h"
#include "trainer/model/rope.h"

#include <math.h>
#include <stdlib.h>

#define MAX_WORKERS 256
#define MAX_TOKENS  ((size_t)1 << 22)
#define HEAD_COLS   512 /* ids whose logits are computed together */
#define ROUND_UP(n) (((n) + 15) / 16 * 16)

enum work_kept { WORK_one, WORK_input, WORK_inner };

static bool keeps(enum learner_kind kind, enum work_kept kept)
{
    if (kind == LEARNER_KIND_forward) return false;
    return kept == WORK_input || (kept == WORK_inner && kind == LEARNER_KIND_gradient);
}

/* Sets the arrays' strides and, given the block, where they lie. Returns the floats of the block. */
static size_t place_arrays(const struct learner *l, struct work *w)
{
    const struct model_config *c = &l->config;
    size_t T = l->max_tokens, D = (size_t)c->width, H = (size_t)c->heads, E = (size_t)c->head_dim, F = (size_t)c->ff;
    size_t A = H * E, S = A + 2 * (size_t)c->kv_heads * E, head_cols = l->head_cols;
    size_t attention_floats = attention_scratch_floats(H, (size_t)c->kv_heads, E, T);
    size_t at = 0;
#define WORK(name, kept, backward, floats)                                                                                   \
    if (l->kind != LEARNER_KIND_forward || !(backward)) {                                                                    \
        size_t size_ = ROUND_UP(floats);                                                                                     \
        bool many_ = keeps(l->kind, WORK_##kept);                                                                            \
        w->name = (struct array){w->block ? w->block + at : NULL, many_ ? size_ : 0};                                        \
        at += size_ * (many_ ? (size_t)c->layers : 1);                                                                       \
    }
#include "trainer/model/work.def"
#undef WORK
    return at;
}

static err_t work_init(struct learner *l, struct work *w)
{
    size_t floats = place_arrays(l, w), weights = ROUND_UP(l->layout.count) * sizeof(float);
    w->block = aligned_alloc(64, floats * sizeof(float));
    w->position = calloc(l->max_tokens, sizeof *w->position);
    w->row = calloc(l->max_tokens, sizeof *w->row);
    w->head = calloc(l->max_tokens, sizeof *w->head);
    bool good = w->block && w->position && w->row && w->head;
    if (good && l->kind != LEARNER_KIND_forward) {
        w->gradient = aligned_alloc(64, weights);
        good = w->gradient != NULL;
        if (good) memset(w->gradient, 0, weights);
    }
    if (!good) return err_set(ERR_memory, "a learner for %zu tokens", l->max_tokens);
    (void)place_arrays(l, w);
    return ERR_ok;
}

static struct learner learner_of(const struct model_config *config, size_t workers, size_t max_tokens, enum learner_kind kind)
{
    size_t ids = ROUND_UP((size_t)config->vocab), positions = (size_t)config->max_positions;
    return (struct learner){
        .config = *config,
        .layout = layout_of(config),
        .kernels = kernels(),
        .workers = workers,
        .max_tokens = max_tokens,
        .kind = kind,
        .head_cols = ids < HEAD_COLS ? ids : HEAD_COLS,
        .rope_rows = positions < max_tokens ? positions : max_tokens,
    };
}

size_t learner_bytes_of(const struct model_config *config, size_t workers, size_t max_tokens, enum learner_kind kind)
{
    const struct learner l = learner_of(config, workers, max_tokens, kind);
    struct work w = {0};
    size_t each = place_arrays(&l, &w) * sizeof(float) + max_tokens * (sizeof *w.position + sizeof *w.row + sizeof *w.head);
    if (kind != LEARNER_KIND_forward) each += ROUND_UP(l.layout.count) * sizeof(float);
    return sizeof l + l.rope_rows * (size_t)config->head_dim * sizeof(float) + workers * (sizeof w + each);
}

static err_t learner_init(struct learner *l)
{
    TRY(rope_table(&l->rope, &l->config, l->rope_rows));
    l->work = calloc(l->workers, sizeof *l->work);
    if (!l->work) return err_set(ERR_memory, "a learner");
    for (size_t i = 0; i < l->workers; i++) TRY(work_init(l, &l->work[i]));
    return ERR_ok;
}

err_t learner_new(struct learner **ret, const struct model_config *config, size_t workers, size_t max_tokens,
                  enum learner_kind kind)
{
    TRY(model_config_check(config));
    if (workers < 1 || workers > MAX_WORKERS)
        return err_set(ERR_invalid, "a learner of %zu workers; 1 to %d are allowed", workers, MAX_WORKERS);
    if (max_tokens < 2 || max_tokens > MAX_TOKENS)
        return err_set(ERR_invalid, "a learner for %zu tokens; 2 to %zu are allowed", max_tokens, MAX_TOKENS);
    struct learner *l = calloc(1, sizeof *l);
    if (!l) return err_set(ERR_memory, "a learner");
    *l = learner_of(config, workers, max_tokens, kind);
    err_t err = learner_init(l);
    if (err != ERR_ok)
        learner_free(&l);
    else
        *ret = l;
    return err;
}

void learner_free(struct learner **learner)
{
    struct learner *l = *learner;
    *learner = NULL;
    if (!l) return;
    for (size_t i = 0; l->work && i < l->workers; i++) {
        struct work *w = &l->work[i];
        free(w->block);
        free(w->position);
        free(w->row);
        free(w->head);
        free(w->gradient);
    }
    free(l->work);
    free(l->rope);
    free(l);
}

size_t learner_bytes(const struct learner *learner)
{
    return learner_bytes_of(&learner->config, learner->workers, learner->max_tokens, learner->kind);
}

/* every sequence within its bounds; fills positions within the sequences */
static err_t check_sequences(const struct learner *l, const struct learner_batch *b, int32_t *position)
{
    if (b->sequences == 0 || b->start[0] != 0) return err_set(ERR_invalid, "a batch without sequences");
    for (size_t s = 0; s < b->sequences; s++) {
        if (b->start[s + 1] <= b->start[s] || b->start[s + 1] > l->max_tokens)
            return err_set(ERR_invalid, "sequence %zu ends at token %u; it must end after %u and by %zu", s, b->start[s + 1],
                           b->start[s], l->max_tokens);
        uint32_t length = b->start[s + 1] - b->start[s];
        if (length > l->rope_rows)
            return err_set(ERR_invalid, "sequence %zu has %u tokens, the model takes %zu", s, length, l->rope_rows);
        for (uint32_t i = 0; i < length; i++) position[b->start[s] + i] = (int32_t)i;
    }
    for (uint32_t t = 0; t < b->start[b->sequences]; t++) {
        if (b->tokens[t] < 0 || b->tokens[t] >= l->config.vocab)
            return err_set(ERR_invalid, "token %d at %u is not within the vocabulary of %d", b->tokens[t], t,
                           l->config.vocab);
    }
    return ERR_ok;
}

static err_t check_targets(const struct learner_batch *b, const int32_t *position, uint32_t *row)
{
    uint32_t T = b->start[b->sequences];
    for (size_t i = 0; i < b->targets; i++) {
        if (b->target[i] >= T || (i > 0 && b->target[i] <= b->target[i - 1]))
            return err_set(ERR_invalid, "target %zu: position %u is not ascending below %u", i, b->target[i], T);
        if (position[b->target[i]] == 0)
            return err_set(ERR_invalid, "target %zu: nothing stands before the first token of a sequence", i);
        row[i] = b->target[i] - 1;
    }
    if (!(b->temperature > 0) || !isfinite(b->temperature))
        return err_set(ERR_invalid, "temperature: %g is not above 0", (double)b->temperature);
    return ERR_ok;
}

err_t learner_forward(struct learner *learner, size_t worker, const struct model *model, const struct learner_batch *batch,
                      const struct learner_out *out)
{
    BUG_IF(worker >= learner->workers || !model_config_equal(&learner->config, &model->config));
    struct work *w = &learner->work[worker];
    w->tokens = 0;
    TRY(check_sequences(learner, batch, w->position));
    TRY(check_targets(batch, w->position, w->row));
    w->tokens = batch->start[batch->sequences];
    w->targets = batch->targets;
    if (batch->targets > 0) learner_pass_forward(learner, w, model->weights, batch, out);
    return ERR_ok;
}

void learner_backward(struct learner *learner, size_t worker, const struct model *model, const struct learner_batch *batch,
                      const struct learner_grad *grad)
{
    BUG_IF(worker >= learner->workers || !model_config_equal(&learner->config, &model->config));
    struct work *w = &learner->work[worker];
    /* the activations are those of the last forward: it must have been this batch */
    BUG_IF(!w->gradient || w->tokens == 0 || w->tokens != batch->start[batch->sequences] || w->targets != batch->targets);
    if (batch->targets > 0) learner_pass_backward(learner, w, model->weights, batch, grad);
    w->tokens = 0; /* backward overwrites activations: once per forward */
}

void learner_zero(struct learner *learner)
{
    for (size_t i = 0; i < learner->workers; i++) {
        struct work *w = &learner->work[i];
        BUG_IF(!w->gradient);
        memset(w->gradient, 0, learner->layout.count * sizeof(float));
    }
}

float *learner_reduce(struct learner *learner)
{
    BUG_IF(!learner->work[0].gradient);
    for (size_t i = 1; i < learner->workers; i++)
        learner->kernels->add(learner->work[0].gradient, learner->work[i].gradient, learner->layout.count);
    return learner->work[0].gradient;
}
