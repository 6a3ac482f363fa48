/* LABELS: unit
 * The engine against numpy (tests/golden/llama.py): log-probs, entropies and gradients to 1e-4. */
#include "trainer/model/layout.h"
#include "trainer/model/learner.h"

#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#define MAX 32

static int32_t integer(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    ck_assert_msg(json_is_integer(value), "%s", name);
    return (int32_t)json_integer_value(value);
}

static float real(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    ck_assert_msg(json_is_number(value), "%s", name);
    return (float)json_number_value(value);
}

static struct model_config config_of(const json_t *c)
{
    return (struct model_config){
        .vocab = integer(c, "vocab"),
        .vocab_padded = integer(c, "vocab_padded"),
        .layers = integer(c, "layers"),
        .width = integer(c, "width"),
        .heads = integer(c, "heads"),
        .kv_heads = integer(c, "kv_heads"),
        .head_dim = integer(c, "head_dim"),
        .ff = integer(c, "ff"),
        .max_positions = MAX,
        .rope_theta = real(c, "theta"),
        .rms_eps = real(c, "eps"),
        .tied = true,
    };
}

/* the weights that llama.py makes */
static void fill(struct model *model)
{
    struct tensor t;
    for (struct tensor_iter iter = {0}; tensor_next(&model->config, &iter, &t);) {
        for (size_t i = t.offset; i < t.offset + t.rows * t.cols; i++) {
            float x = (float)(0.4 * sin(0.7 * (double)i + 0.3));
            if (t.kind == TENSOR_KIND_norm) x = (float)(1 + 0.5 * (double)x);
            bool padding = t.kind == TENSOR_KIND_embedding && (i - t.offset) / t.cols >= (size_t)model->config.vocab;
            model->weights[i] = padding ? 0 : x;
        }
    }
}

static void compare(const json_t *list, const float *got, size_t count, const char *what)
{
    ck_assert_uint_eq(json_array_size(list), count);
    for (size_t i = 0; i < count; i++) {
        double want = json_number_value(json_array_get(list, i));
        ck_assert_msg(fabs((double)got[i] - want) < 1e-4, "%s[%zu]: %.7f, numpy %.7f", what, i, (double)got[i], want);
    }
}

START_TEST(numpy_agrees)
{
    json_error_t error;
    json_t *golden = json_load_file(PAL_SOURCE_DIR "/tests/golden/llama.json", 0, &error);
    ck_assert_msg(golden != NULL, "%s", error.text);
    struct model_config config = config_of(json_object_get(golden, "config"));
    AUTO_PTR(model) model = NULL;
    AUTO_PTR(learner) learner = NULL;
    ck_assert_int_eq(model_new(&model, &config), ERR_ok);
    ck_assert_int_eq((int32_t)model->count, integer(golden, "count"));
    fill(model);
    ck_assert_int_eq(learner_new(&learner, &config, 1, MAX, LEARNER_KIND_gradient), ERR_ok);

    const json_t *ids = json_object_get(golden, "tokens"), *starts = json_object_get(golden, "starts");
    int32_t tokens[MAX];
    uint32_t start[MAX], target[MAX];
    size_t count = json_array_size(ids), sequences = json_array_size(starts) - 1, targets = 0;
    ck_assert(count <= MAX && sequences < MAX);
    for (size_t i = 0; i < count; i++) tokens[i] = (int32_t)json_integer_value(json_array_get(ids, i));
    for (size_t i = 0; i <= sequences; i++) start[i] = (uint32_t)json_integer_value(json_array_get(starts, i));
    for (size_t s = 0; s < sequences; s++) {
        for (uint32_t t = start[s] + 1; t < start[s + 1]; t++) target[targets++] = t;
    }
    struct learner_batch batch = {sequences, start, tokens, targets, target, real(golden, "temperature")};
    float logp[MAX], entropy[MAX], ones[MAX], halves[MAX];
    struct learner_out out = {logp, entropy, NULL};
    struct learner_grad grad = {ones, halves, NULL};
    for (size_t i = 0; i < MAX; i++) {
        ones[i] = 1;
        halves[i] = 0.5f;
    }
    ck_assert_int_eq(learner_forward(learner, 0, model, &batch, &out), ERR_ok);
    compare(json_object_get(golden, "logp"), logp, targets, "logp");
    compare(json_object_get(golden, "entropy"), entropy, targets, "entropy");
    learner_backward(learner, 0, model, &batch, &grad);
    const float *gradient = learner_reduce(learner);
    const json_t *list = json_object_get(golden, "gradient");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *pair = json_array_get(list, i);
        size_t at = (size_t)json_integer_value(json_array_get(pair, 0));
        double want = json_number_value(json_array_get(pair, 1));
        ck_assert_msg(fabs((double)gradient[at] - want) < 1e-4 * (1 + fabs(want)), "gradient[%zu]: %.7f, numpy %.7f", at,
                      (double)gradient[at], want);
    }
    json_decref(golden);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("golden");
    TCase *tcase = tcase_create("golden");
    tcase_add_test(tcase, numpy_agrees);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
