/* LABELS: unit
 * The engine against PyTorch and transformers (tests/golden/hf_models.py) on directories that transformers wrote: log-probs,
 * entropies, hidden states and logits to 1e-4, gradients to 1e-3 relative, from the learner and from the decoder. */
#include "services/common/base/pool.h"
#include "tests/trainer/model/hf_fixture.h"
#include "trainer/model/decoder.h"
#include "trainer/model/layout.h"
#include "trainer/model/learner.h"

#include <math.h>

#define TOKENS 64

static const struct {
    const char *folder;
    bool sharded;
} CASES[] = {{"llama3", true}, {"qwen2", false}};
#define CASE_COUNT ((int)(sizeof CASES / sizeof *CASES))

struct parity {
    struct hf_fixture *f;
    json_t *golden;
    uint32_t start[TOKENS], target[TOKENS];
    int32_t tokens[TOKENS];
    struct learner_batch batch;
    float logp[TOKENS], entropy[TOKENS], *hidden;
};

static size_t read_numbers(const json_t *golden, const char *name, double *ret, size_t room)
{
    const json_t *list = json_object_get(golden, name);
    size_t n = json_array_size(list);
    ck_assert_uint_gt(n, 0);
    ck_assert_uint_le(n, room);
    for (size_t i = 0; i < n; i++) ret[i] = json_number_value(json_array_get(list, i));
    return n;
}

static struct parity open_parity(int index)
{
    struct parity p = {.f = hf_fixture_open(CASES[index].folder, CASES[index].sharded)};
    char name[64];
    double numbers[TOKENS];
    (void)snprintf(name, sizeof name, "%s/golden.json", CASES[index].folder);
    p.golden = golden_json(name);
    size_t count = read_numbers(p.golden, "starts", numbers, TOKENS);
    for (size_t i = 0; i < count; i++) p.start[i] = (uint32_t)numbers[i];
    size_t tokens = read_numbers(p.golden, "tokens", numbers, TOKENS);
    for (size_t i = 0; i < tokens; i++) p.tokens[i] = (int32_t)numbers[i];
    size_t targets = 0;
    for (size_t s = 0; s + 1 < count; s++) {
        for (uint32_t t = p.start[s] + 1; t < p.start[s + 1]; t++) p.target[targets++] = t;
    }
    /* rows past the tokenizer's vocabulary are masked */
    p.f->model->config.vocab = (int32_t)json_integer_value(json_object_get(p.golden, "vocab"));
    p.batch = (struct learner_batch){.sequences = count - 1,
                                     .targets = targets,
                                     .temperature = (float)json_number_value(json_object_get(p.golden, "temperature"))};
    p.hidden = calloc(TOKENS * (size_t)p.f->model->config.width, sizeof *p.hidden);
    return p;
}

static void close_parity(struct parity *p)
{
    free(p->hidden);
    json_decref(p->golden);
    hf_fixture_close(p->f);
}

static struct learner *forward(struct parity *p, bool with_gradient)
{
    struct learner *learner = NULL;
    p->batch.start = p->start;
    p->batch.tokens = p->tokens;
    p->batch.target = p->target;
    MUST(learner_new(&learner, &p->f->model->config, 1, TOKENS, with_gradient));
    const struct learner_out out = {p->logp, p->entropy, p->hidden};
    MUST(learner_forward(learner, 0, p->f->model, &p->batch, &out));
    return learner;
}

static void compare(const struct parity *p, const char *name, const float *got, size_t count, double tolerance)
{
    const json_t *list = json_object_get(p->golden, name);
    ck_assert_uint_eq(json_array_size(list), count);
    double worst = 0;
    for (size_t i = 0; i < count; i++) {
        double gap = fabs(json_number_value(json_array_get(list, i)) - (double)got[i]);
        ck_assert_msg(gap <= tolerance, "%s[%zu]: %.9g, golden %.9g", name, i, (double)got[i],
                      json_number_value(json_array_get(list, i)));
        if (gap > worst) worst = gap;
    }
    (void)printf("%s: largest difference %.2g\n", name, worst);
}

START_TEST(forward_agrees)
{
    struct parity p = open_parity(_i);
    struct learner *learner = forward(&p, false);
    size_t D = (size_t)p.f->model->config.width, rows = 0;
    size_t step = (size_t)json_integer_value(json_object_get(p.golden, "hidden_step"));
    compare(&p, "logp", p.logp, p.batch.targets, 1e-4);
    compare(&p, "entropy", p.entropy, p.batch.targets, 1e-4);
    for (size_t r = 0; r < p.batch.targets; r += step) memmove(p.hidden + rows++ * D, p.hidden + r * D, D * sizeof *p.hidden);
    compare(&p, "hidden", p.hidden, rows * D, 1e-4);
    learner_free(&learner);
    close_parity(&p);
}
END_TEST

static void compare_tensor(const struct tensor *t, const float *gradient, const json_t *golden)
{
    const json_t *values = json_object_get(golden, "values");
    size_t step = (size_t)json_integer_value(json_object_get(golden, "step"));
    double norm = json_number_value(json_object_get(golden, "norm")), square = 0, gap = 0;
    ck_assert_msg(golden != NULL, "no golden gradient of %s", t->name);
    ck_assert_uint_eq(json_array_size(values), (t->rows * t->cols + step - 1) / step);
    for (size_t i = 0; i < t->rows * t->cols; i++) square += (double)gradient[i] * (double)gradient[i];
    for (size_t i = 0; i < json_array_size(values); i++) {
        double d = json_number_value(json_array_get(values, i)) - (double)gradient[i * step];
        gap += d * d;
    }
    ck_assert_msg(fabs(sqrt(square) - norm) <= 1e-3 * norm, "%s: norm %.6g, golden %.6g", t->name, sqrt(square), norm);
    ck_assert_msg(sqrt(gap) <= 1e-3 * norm, "%s: differs by %.3g of %.3g", t->name, sqrt(gap), norm);
}

START_TEST(gradients_agree)
{
    struct parity p = open_parity(_i);
    struct learner *learner = forward(&p, true);
    double numbers[TOKENS];
    float dlogp[TOKENS], dentropy[TOKENS];
    size_t n = read_numbers(p.golden, "dlogp", numbers, TOKENS);
    for (size_t i = 0; i < n; i++) dlogp[i] = (float)numbers[i];
    ck_assert_uint_eq(read_numbers(p.golden, "dentropy", numbers, TOKENS), n);
    for (size_t i = 0; i < n; i++) dentropy[i] = (float)numbers[i];
    const struct learner_grad grad = {dlogp, dentropy, NULL};
    learner_backward(learner, 0, p.f->model, &p.batch, &grad);
    const float *gradient = learner_reduce(learner);
    struct tensor t;
    size_t tensors = 0;
    for (struct tensor_iter iter = {0}; tensor_next(&p.f->model->config, &iter, &t); tensors++)
        compare_tensor(&t, gradient + t.offset, json_object_get(json_object_get(p.golden, "gradient"), t.name));
    ck_assert_uint_eq(tensors, json_object_size(json_object_get(p.golden, "gradient")));
    learner_free(&learner);
    close_parity(&p);
}
END_TEST

/* the last logits of each sequence, its tokens fed in two parts */
START_TEST(decoding_agrees)
{
    struct parity p = open_parity(_i);
    struct pool *pool = NULL;
    struct decoder *decoder = NULL;
    size_t V = (size_t)p.f->model->config.vocab, kept = 0;
    size_t step = (size_t)json_integer_value(json_object_get(p.golden, "logits_step"));
    float *logits = calloc(V, sizeof *logits), *some = calloc(p.batch.sequences * V, sizeof *some);
    const struct decoder_options options = {(uint32_t)p.batch.sequences, TOKENS, false};
    MUST(pool_new(&pool, 1));
    MUST(decoder_new(&decoder, &p.f->model->config, &options, pool));
    for (uint32_t s = 0; s < p.batch.sequences; s++) {
        uint32_t n = p.start[s + 1] - p.start[s] - 1, first = n / 2; /* the last token is a target only */
        const struct decoder_item parts[2] = {{s, p.tokens + p.start[s], first, NULL},
                                              {s, p.tokens + p.start[s] + first, n - first, logits}};
        if (first > 0) MUST(decoder_step(decoder, p.f->model, 1, &parts[0], 1));
        MUST(decoder_step(decoder, p.f->model, 1, &parts[1], 1));
        for (size_t i = 0; i < V; i += step) some[kept++] = logits[i];
    }
    compare(&p, "logits", some, kept, 1e-4);
    free(logits);
    free(some);
    decoder_free(&decoder);
    pool_free(&pool);
    close_parity(&p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hf golden");
    TCase *tcase = tcase_create("hf golden");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, forward_agrees, 0, CASE_COUNT);
    tcase_add_loop_test(tcase, gradients_agree, 0, CASE_COUNT);
    tcase_add_loop_test(tcase, decoding_agrees, 0, CASE_COUNT);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
