/* LABELS: unit
 * model: what configurations are refused, where tensors lie, what initialisation and digest promise. */
#include "trainer/model/layout.h"
#include "trainer/model/model.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

static struct model_config tiny(void)
{
    struct model_config config;
    ck_assert_int_eq(model_preset("tiny-0.4m", 279, &config), ERR_ok);
    return config;
}

START_TEST(presets_have_their_size)
{
    struct model_config c;
    ck_assert_int_eq(model_preset("tiny-0.4m", 300, &c), ERR_ok);
    ck_assert_int_eq(c.vocab_padded, 304);
    ck_assert_uint_le(model_parameters(&c), 500000);
    ck_assert_uint_ge(model_parameters(&c), 400000);
    const struct {
        const char *name;
        double millions;
    } others[] = {{"tiny-0.1m", 0.1}, {"small-3m", 3}, {"small-10m", 10}};
    for (size_t i = 0; i < 3; i++) {
        ck_assert_int_eq(model_preset(others[i].name, 300, &c), ERR_ok);
        ck_assert_double_eq_tol((double)model_parameters(&c) / 1e6, others[i].millions, 0.15 * others[i].millions);
    }
    ck_assert_int_eq(model_preset("huge", 300, &c), ERR_not_found);
    ck_assert_ptr_nonnull(strstr(err_text(), "tiny-0.1m tiny-0.4m small-3m small-10m"));
    ck_assert_int_eq(model_preset("tiny-0.4m", 1, &c), ERR_invalid);
}
END_TEST

START_TEST(wrong_configurations_are_named)
{
    const struct model_config good = tiny();
    ck_assert_int_eq(model_config_check(&good), ERR_ok);
#define REFUSED(field, wrong)                                                                                                \
    do {                                                                                                                     \
        struct model_config bad_ = good;                                                                                     \
        bad_.field = (wrong);                                                                                                \
        ck_assert_int_eq(model_config_check(&bad_), ERR_invalid);                                                            \
        ck_assert_ptr_nonnull(strstr(err_text(), #field));                                                                   \
        struct model *none_ = NULL;                                                                                          \
        ck_assert_int_eq(model_new(&none_, &bad_), ERR_invalid);                                                             \
        ck_assert_ptr_null(none_);                                                                                           \
    } while (0)
    REFUSED(vocab, 1);
    REFUSED(vocab, (1 << 20) + 1);
    REFUSED(vocab_padded, 278);
    REFUSED(layers, 0);
    REFUSED(layers, 257);
    REFUSED(width, -4);
    REFUSED(heads, 0);
    REFUSED(kv_heads, 3);
    REFUSED(head_dim, 31);
    REFUSED(ff, 0);
    REFUSED(max_positions, 0);
    REFUSED(rope_theta, 0);
    REFUSED(rope_theta, NAN);
    REFUSED(rms_eps, -1e-6f);
    REFUSED(rope_scaling, ((struct rope_scaling){ROPE_SCALING_linear, 0.5f, 0, 0, 0}));
    REFUSED(rope_scaling, ((struct rope_scaling){ROPE_SCALING_llama3, 8, 4, 1, 8192}));
    REFUSED(rope_scaling, ((struct rope_scaling){ROPE_SCALING_llama3, 8, 1, 4, 0}));
}
END_TEST

/* tensors follow one another without gaps; q, k, v and gate, up are neighbours */
static void check_layout(const struct model_config *c)
{
    struct layout layout = layout_of(c);
    struct tensor t;
    size_t at = 0, count = 0;
    for (struct tensor_iter iter = {0}; tensor_next(c, &iter, &t); count++) {
        ck_assert_uint_eq(t.offset, at);
        at += t.rows * t.cols;
    }
    ck_assert_uint_eq(at, layout.count);
    ck_assert_uint_eq(at, model_parameters(c));
    ck_assert_uint_eq(count, (size_t)(2 + !c->tied + c->layers * (c->qkv_bias ? 12 : 9)));
    size_t D = (size_t)c->width, E = (size_t)c->head_dim;
    ck_assert_uint_eq(layout.offset[TENSOR_k_proj], layout.offset[TENSOR_q_proj] + (size_t)c->heads * E * D);
    ck_assert_uint_eq(layout.offset[TENSOR_v_proj], layout.offset[TENSOR_k_proj] + (size_t)c->kv_heads * E * D);
    ck_assert_uint_eq(layout.offset[TENSOR_up_proj], layout.offset[TENSOR_gate_proj] + (size_t)c->ff * D);
    if (c->tied) ck_assert_uint_eq(layout.offset[TENSOR_head], 0);
}

START_TEST(tensors_fill_the_block)
{
    struct model_config c = tiny();
    check_layout(&c);
    c.qkv_bias = true;
    c.tied = false;
    check_layout(&c);
    c.layers = 1;
    check_layout(&c);
    c.layers = 2;
    struct tensor t;
    struct tensor_iter iter = {0};
    for (int i = 0; i < 14; i++) ck_assert(tensor_next(&c, &iter, &t));
    ck_assert_str_eq(t.name, "model.layers.1.input_layernorm.weight");
}
END_TEST

START_TEST(the_same_seed_is_the_same_policy)
{
    struct model_config c = tiny();
    AUTO_PTR(model) a = NULL;
    AUTO_PTR(model) b = NULL;
    struct digest da, db;
    ck_assert_int_eq(model_new(&a, &c), ERR_ok);
    ck_assert_int_eq(model_new(&b, &c), ERR_ok);
    model_init(a, 1);
    model_init(b, 1);
    ck_assert_int_eq(model_digest(a, &da), ERR_ok);
    ck_assert_int_eq(model_digest(b, &db), ERR_ok);
    ck_assert_str_eq(da.hex, db.hex);
    model_init(b, 2);
    ck_assert_int_eq(model_digest(b, &db), ERR_ok);
    ck_assert_str_ne(da.hex, db.hex);
    a->config.rms_eps = 1e-6f;
    ck_assert_int_eq(model_digest(a, &db), ERR_ok);
    ck_assert_str_ne(da.hex, db.hex);
}
END_TEST

START_TEST(initial_weights_have_their_spread)
{
    struct model_config c = tiny();
    AUTO_PTR(model) m = NULL;
    ck_assert_int_eq(model_new(&m, &c), ERR_ok);
    model_init(m, 7);
    struct tensor t;
    for (struct tensor_iter iter = {0}; tensor_next(&c, &iter, &t);) {
        size_t rows = t.kind == TENSOR_KIND_embedding ? (size_t)c.vocab : t.rows, n = rows * t.cols;
        double squares = 0;
        for (size_t i = 0; i < n; i++) squares += (double)m->weights[t.offset + i] * (double)m->weights[t.offset + i];
        double want = t.kind == TENSOR_KIND_norm ? 1 : t.kind == TENSOR_KIND_residual ? 0.02 / sqrt(6) : 0.02;
        ck_assert_double_eq_tol(sqrt(squares / (double)n), want, 0.03 * want);
        for (size_t i = n; i < t.rows * t.cols; i++) ck_assert(fabsf(m->weights[t.offset + i]) <= 0);
    }
}
END_TEST

START_TEST(wrapped_weights_are_borrowed)
{
    struct model_config c = tiny();
    float *weights = calloc(model_parameters(&c), sizeof *weights);
    struct model *m = NULL;
    ck_assert_int_eq(model_wrap(&m, &c, weights, model_parameters(&c) - 1), ERR_invalid);
    ck_assert_int_eq(model_wrap(&m, &c, weights, model_parameters(&c)), ERR_ok);
    ck_assert(!m->owns_weights);
    model_free(&m);
    ck_assert_ptr_null(m);
    model_free(&m);
    free(weights);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model");
    TCase *tcase = tcase_create("model");
    tcase_add_test(tcase, presets_have_their_size);
    tcase_add_test(tcase, wrong_configurations_are_named);
    tcase_add_test(tcase, tensors_fill_the_block);
    tcase_add_test(tcase, the_same_seed_is_the_same_policy);
    tcase_add_test(tcase, initial_weights_have_their_spread);
    tcase_add_test(tcase, wrapped_weights_are_borrowed);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
