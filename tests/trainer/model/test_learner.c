/* LABELS: unit
 * learner: the whole model against the double reference and its finite differences; packing, padding, determinism,
 * recomputation. */
#include "tests/trainer/model/reference.h"

#include <stdio.h>

#define VOCAB 21
#define STEP  1e-5

static struct model_config config_of(int32_t kv_heads, bool bias, bool tied)
{
    return (struct model_config){
        .vocab = VOCAB,
        .vocab_padded = 32,
        .layers = 2,
        .width = 20,
        .heads = 4,
        .kv_heads = kv_heads,
        .head_dim = 6,
        .ff = 19,
        .max_positions = 64,
        .rope_theta = 100,
        .rms_eps = 1e-5f,
        .qkv_bias = bias,
        .tied = tied,
    };
}

/* three sequences of 5, 1 and 9 tokens; targets skip some positions */
static const uint32_t START[] = {0, 5, 6, 15};
static const int32_t TOKENS[] = {1, 7, 20, 3, 7, 4, 9, 9, 1, 0, 13, 2, 5, 20, 8};
static const uint32_t TARGETS[] = {1, 3, 4, 7, 8, 11, 14};
#define COUNT (sizeof TARGETS / sizeof *TARGETS)

static struct learner_batch batch_of(float temperature)
{
    return (struct learner_batch){3, START, TOKENS, COUNT, TARGETS, temperature};
}

struct loss {
    struct reference reference;
    struct learner_batch batch;
    const float *dlogp, *dentropy, *dhidden;
    double logp[COUNT], entropy[COUNT], *hidden;
};

static double loss_of(struct loss *l)
{
    ref_forward(&l->reference, &l->batch, l->logp, l->entropy, l->hidden);
    double sum = 0;
    size_t D = (size_t)l->reference.c->width;
    for (size_t i = 0; i < COUNT; i++) {
        sum += (double)l->dlogp[i] * l->logp[i] + (double)l->dentropy[i] * l->entropy[i];
        for (size_t j = 0; j < D; j++) sum += (double)l->dhidden[i * D + j] * l->hidden[i * D + j];
    }
    return sum;
}

static void assert_whole_gradient(struct loss *l, double *weights, const float *gradient)
{
    const struct model_config *c = l->reference.c;
    struct tensor t;
    for (struct tensor_iter iter = {0}; tensor_next(c, &iter, &t);) {
        size_t step = c->vocab > 100 ? 211 : 1; /* of a large model some */
        for (size_t i = t.offset; i < t.offset + t.rows * t.cols; i += step) {
            if (t.kind == TENSOR_KIND_embedding && (i - t.offset) / t.cols >= (size_t)c->vocab) {
                if (!(gradient[i] >= 0 && gradient[i] <= 0)) ck_abort_msg("%s: a padding row has a gradient", t.name);
                continue;
            }
            double keep = weights[i];
            weights[i] = keep + STEP;
            double up = loss_of(l);
            weights[i] = keep - STEP;
            double want = (up - loss_of(l)) / (2 * STEP);
            weights[i] = keep;
            if (!(fabs((double)gradient[i] - want) <= 1e-4 * (1 + fabs(want))))
                ck_abort_msg("%s[%zu]: %.9g, should be %.9g", t.name, i - t.offset, (double)gradient[i], want);
        }
    }
}

static void check_config(const struct model_config *c, float temperature)
{
    AUTO_PTR(model) model = NULL;
    AUTO_PTR(learner) learner = NULL;
    ck_assert_int_eq(model_new(&model, c), ERR_ok);
    spread_weights(model, 5);
    ck_assert_int_eq(learner_new(&learner, c, 1, 32, LEARNER_KIND_gradient), ERR_ok);
    size_t D = (size_t)c->width;
    float logp[COUNT], entropy[COUNT], dlogp[COUNT], dentropy[COUNT], *hidden = floats(COUNT * D),
                                                                      *dhidden = floats(COUNT * D);
    struct rng rng;
    rng_init(&rng, 9, 9);
    for (size_t i = 0; i < COUNT; i++) {
        dlogp[i] = (float)rng_normal(&rng);
        dentropy[i] = (float)rng_normal(&rng);
    }
    for (size_t i = 0; i < COUNT * D; i++) dhidden[i] = 0.2f * (float)rng_normal(&rng);

    double *weights = doubles(model->count);
    for (size_t i = 0; i < model->count; i++) weights[i] = (double)model->weights[i];
    struct loss l = {{c, layout_of(c), weights}, batch_of(temperature), dlogp, dentropy, dhidden, {0}, {0},
                     doubles(COUNT * D)};
    (void)loss_of(&l);
    struct learner_out out = {logp, entropy, hidden};
    ck_assert_int_eq(learner_forward(learner, 0, model, &l.batch, &out), ERR_ok);
    for (size_t i = 0; i < COUNT; i++) {
        ck_assert_double_eq_tol((double)logp[i], l.logp[i], 1e-5);
        ck_assert_double_eq_tol((double)entropy[i], l.entropy[i], 1e-5);
        for (size_t j = 0; j < D; j++) ck_assert_double_eq_tol((double)hidden[i * D + j], l.hidden[i * D + j], 2e-5);
    }
    struct learner_grad grad = {dlogp, dentropy, dhidden};
    learner_backward(learner, 0, model, &l.batch, &grad);
    assert_whole_gradient(&l, weights, learner_reduce(learner));
    free(hidden);
    free(dhidden);
    free(l.hidden);
    free(weights);
}

START_TEST(gradient_is_that_of_finite_differences)
{
    struct model_config grouped = config_of(2, false, true), biased = config_of(1, true, false),
                        full = config_of(4, false, true), large = config_of(2, false, true);
    large.vocab = 1050; /* its logits come in parts */
    large.vocab_padded = 1056;
    check_config(&grouped, 1);
    check_config(&biased, 0.7f);
    check_config(&full, 1.4f);
    check_config(&large, 0.9f);
}
END_TEST

/* a learner with a model of a preset and n random sequences of up to 70 tokens */
struct setting {
    struct model_config config;
    struct model *model;
    uint32_t start[9];
    int32_t tokens[8 * 70];
    uint32_t target[8 * 70];
    struct learner_batch batch;
};

static void setting_init(struct setting *s, uint64_t seed)
{
    struct rng rng;
    rng_init(&rng, seed, 1);
    ck_assert_int_eq(model_preset("tiny-0.1m", 279, &s->config), ERR_ok);
    ck_assert_int_eq(model_new(&s->model, &s->config), ERR_ok);
    spread_weights(s->model, seed);
    s->start[0] = 0;
    s->batch = (struct learner_batch){8, s->start, s->tokens, 0, s->target, 1};
    for (size_t i = 0; i < 8; i++) {
        uint32_t length = 1 + rng_below(&rng, 70);
        for (uint32_t t = 0; t < length; t++) {
            s->tokens[s->start[i] + t] = (int32_t)rng_below(&rng, 279);
            if (t > 0 && rng_below(&rng, 3) > 0) s->target[s->batch.targets++] = s->start[i] + t;
        }
        s->start[i + 1] = s->start[i] + length;
    }
}

static void setting_fini(struct setting *s)
{
    model_free(&s->model);
}

START_TEST(packed_sequences_are_those_one_by_one)
{
    AUTO(setting) s = {0};
    setting_init(&s, 3);
    AUTO_PTR(learner) learner = NULL;
    ck_assert_int_eq(learner_new(&learner, &s.config, 1, 560, LEARNER_KIND_forward), ERR_ok);
    float logp[560], entropy[560], one_logp[70], one_entropy[70];
    struct learner_out out = {logp, entropy, NULL}, one_out = {one_logp, one_entropy, NULL};
    ck_assert_int_eq(learner_forward(learner, 0, s.model, &s.batch, &out), ERR_ok);
    size_t next = 0;
    for (size_t i = 0; i < 8; i++) {
        uint32_t start[] = {0, s.start[i + 1] - s.start[i]}, target[70];
        size_t targets = 0, first = next;
        while (next < s.batch.targets && s.target[next] < s.start[i + 1]) target[targets++] = s.target[next++] - s.start[i];
        struct learner_batch one = {1, start, s.tokens + s.start[i], targets, target, 1};
        ck_assert_int_eq(learner_forward(learner, 0, s.model, &one, &one_out), ERR_ok);
        for (size_t t = 0; t < targets; t++) {
            ck_assert_double_eq_tol((double)one_logp[t], (double)logp[first + t], 1e-5);
            ck_assert_double_eq_tol((double)one_entropy[t], (double)entropy[first + t], 1e-5);
        }
    }
    ck_assert_uint_eq(next, s.batch.targets);
}
END_TEST

/* the probabilities of all ids in use sum to 1 whatever lies in the padding rows */
START_TEST(padding_ids_have_no_probability)
{
    AUTO(setting) s = {0};
    setting_init(&s, 4);
    for (size_t i = 279 * 64; i < 288 * 64; i++) s.model->weights[i] = 50;
    AUTO_PTR(learner) learner = NULL;
    ck_assert_int_eq(learner_new(&learner, &s.config, 1, 560, LEARNER_KIND_forward), ERR_ok);
    double sum = 0;
    for (int32_t id = 0; id < 279; id++) {
        int32_t tokens[] = {5, 8, id};
        uint32_t start[] = {0, 3}, target[] = {2};
        float logp, entropy;
        struct learner_batch batch = {1, start, tokens, 1, target, 1};
        struct learner_out out = {&logp, &entropy, NULL};
        ck_assert_int_eq(learner_forward(learner, 0, s.model, &batch, &out), ERR_ok);
        sum += exp((double)logp);
    }
    ck_assert_double_eq_tol(sum, 1.0, 1e-5);
}
END_TEST

static void train_once(struct learner *learner, const struct setting *s, float *ret_gradient)
{
    float logp[560], entropy[560], ones[560];
    for (size_t i = 0; i < 560; i++) ones[i] = 1;
    struct learner_out out = {logp, entropy, NULL};
    struct learner_grad grad = {ones, ones, NULL};
    learner_zero(learner);
    for (size_t w = 0; w < 2; w++) {
        for (int round = 0; round < 2; round++) {
            ck_assert_int_eq(learner_forward(learner, w, s->model, &s->batch, &out), ERR_ok);
            learner_backward(learner, w, s->model, &s->batch, &grad);
        }
    }
    memcpy(ret_gradient, learner_reduce(learner), s->model->count * sizeof *ret_gradient);
}

START_TEST(same_assignment_same_bits)
{
    AUTO(setting) s = {0};
    setting_init(&s, 6);
    AUTO_PTR(learner) learner = NULL;
    ck_assert_int_eq(learner_new(&learner, &s.config, 2, 560, LEARNER_KIND_gradient), ERR_ok);
    ck_assert_uint_gt(learner_bytes(learner), 2 * s.model->count * sizeof(float));
    float *first = floats(s.model->count), *second = floats(s.model->count);
    train_once(learner, &s, first);
    train_once(learner, &s, second);
    ck_assert_mem_eq(first, second, s.model->count * sizeof *first);
    double norm = 0;
    for (size_t i = 0; i < s.model->count; i++) norm += (double)first[i] * (double)first[i];
    ck_assert(norm > 1e-3 && isfinite(norm));
    free(first);
    free(second);
}
END_TEST

START_TEST(recomputation_changes_no_bit)
{
    AUTO(setting) s = {0};
    setting_init(&s, 7);
    AUTO_PTR(learner) keeping = NULL;
    AUTO_PTR(learner) computing = NULL;
    ck_assert_int_eq(learner_new(&keeping, &s.config, 2, 560, LEARNER_KIND_gradient), ERR_ok);
    ck_assert_int_eq(learner_new(&computing, &s.config, 2, 560, LEARNER_KIND_recompute), ERR_ok);
    float *first = floats(s.model->count), *second = floats(s.model->count);
    train_once(keeping, &s, first);
    train_once(computing, &s, second);
    ck_assert_mem_eq(first, second, s.model->count * sizeof *first);
    ck_assert_uint_lt(learner_bytes(computing), learner_bytes(keeping));
    ck_assert_uint_eq(learner_bytes(computing), learner_bytes_of(&s.config, 2, 560, LEARNER_KIND_recompute));
    free(first);
    free(second);
}
END_TEST

/* more targets than one block of logits, and a sequence of several attention blocks */
START_TEST(long_sequences_agree_with_the_reference)
{
    struct model_config config = config_of(2, false, true);
    config.max_positions = 400;
    AUTO_PTR(model) model = NULL;
    AUTO_PTR(learner) learner = NULL;
    ck_assert_int_eq(model_new(&model, &config), ERR_ok);
    spread_weights(model, 8);
    ck_assert_int_eq(learner_new(&learner, &config, 1, 330, LEARNER_KIND_forward), ERR_ok);
    enum { N = 330 };
    int32_t tokens[N];
    uint32_t target[N], start[] = {0, N};
    for (uint32_t i = 0; i < N; i++) tokens[i] = (int32_t)(i * i % VOCAB);
    for (uint32_t i = 0; i + 1 < N; i++) target[i] = i + 1;
    struct learner_batch batch = {1, start, tokens, N - 1, target, 1};
    float logp[N], entropy[N];
    struct learner_out out = {logp, entropy, NULL};
    ck_assert_int_eq(learner_forward(learner, 0, model, &batch, &out), ERR_ok);
    double *weights = doubles(model->count), *want = doubles(N), *want_entropy = doubles(N), *hidden = doubles(N * 20);
    for (size_t i = 0; i < model->count; i++) weights[i] = (double)model->weights[i];
    const struct reference reference = {&config, layout_of(&config), weights};
    ref_forward(&reference, &batch, want, want_entropy, hidden);
    for (size_t i = 0; i + 1 < N; i++) ck_assert_double_eq_tol((double)logp[i], want[i], 2e-5);
    free(weights);
    free(want);
    free(want_entropy);
    free(hidden);
}
END_TEST

START_TEST(wrong_batches_are_refused)
{
    struct model_config config = config_of(2, false, true);
    AUTO_PTR(model) model = NULL;
    AUTO_PTR(learner) learner = NULL;
    ck_assert_int_eq(model_new(&model, &config), ERR_ok);
    ck_assert_int_eq(learner_new(&learner, &config, 0, 15, LEARNER_KIND_gradient), ERR_invalid);
    ck_assert_int_eq(learner_new(&learner, &config, 1, 0, LEARNER_KIND_gradient), ERR_invalid);
    ck_assert_int_eq(learner_new(&learner, &config, 1, 15, LEARNER_KIND_gradient), ERR_ok);
    float logp[COUNT], entropy[COUNT];
    struct learner_out out = {logp, entropy, NULL};
    struct learner_batch good = batch_of(1), bad = good;
    ck_assert_int_eq(learner_forward(learner, 0, model, &good, &out), ERR_ok);
    const float temperatures[] = {0, -1, NAN, INFINITY};
    for (size_t i = 0; i < 4; i++) {
        bad.temperature = temperatures[i];
        ck_assert_int_eq(learner_forward(learner, 0, model, &bad, &out), ERR_invalid);
    }
    const uint32_t wrong_targets[][2] = {{0, 1}, {5, 7}, {3, 3}, {4, 3}, {1, 15}};
    for (size_t i = 0; i < 5; i++) {
        bad = good;
        bad.target = wrong_targets[i];
        bad.targets = 2;
        ck_assert_int_eq(learner_forward(learner, 0, model, &bad, &out), ERR_invalid);
    }
    const uint32_t wrong_starts[][3] = {{0, 5, 16}, {0, 0, 15}, {1, 5, 15}, {0, 9, 8}};
    for (size_t i = 0; i < 4; i++) {
        bad = good;
        bad.start = wrong_starts[i];
        bad.sequences = 2;
        bad.targets = 0;
        ck_assert_int_eq(learner_forward(learner, 0, model, &bad, &out), ERR_invalid);
    }
    int32_t tokens[15] = {0};
    bad = good;
    bad.tokens = tokens;
    tokens[14] = VOCAB; /* a padding id */
    ck_assert_int_eq(learner_forward(learner, 0, model, &bad, &out), ERR_invalid);
    tokens[14] = -1;
    ck_assert_int_eq(learner_forward(learner, 0, model, &bad, &out), ERR_invalid);
    good.targets = 0;
    ck_assert_int_eq(learner_forward(learner, 0, model, &good, &out), ERR_ok);
}
END_TEST

START_TEST(divergence_is_seen)
{
    AUTO(setting) s = {0};
    setting_init(&s, 6);
    s.model->weights[s.model->count - 1] = NAN;
    AUTO_PTR(learner) learner = NULL;
    ck_assert_int_eq(learner_new(&learner, &s.config, 1, 560, LEARNER_KIND_forward), ERR_ok);
    float logp[560], entropy[560];
    struct learner_out out = {logp, entropy, NULL};
    ck_assert_int_eq(learner_forward(learner, 0, s.model, &s.batch, &out), ERR_ok);
    ck_assert(isnan(logp[0]) && isnan(entropy[0]));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("learner");
    TCase *tcase = tcase_create("learner");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, gradient_is_that_of_finite_differences);
    tcase_add_test(tcase, packed_sequences_are_those_one_by_one);
    tcase_add_test(tcase, padding_ids_have_no_probability);
    tcase_add_test(tcase, same_assignment_same_bits);
    tcase_add_test(tcase, recomputation_changes_no_bit);
    tcase_add_test(tcase, long_sequences_agree_with_the_reference);
    tcase_add_test(tcase, wrong_batches_are_refused);
    tcase_add_test(tcase, divergence_is_seen);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
