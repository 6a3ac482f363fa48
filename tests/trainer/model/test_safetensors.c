/* LABELS: unit
 * safetensors: the 16-bit floats, files that come back bit for bit, and everything that is wrong with a file named. */
#include "services/common/base/rng.h"
#include "tests/trainer/model/hf_fixture.h"
#include "trainer/model/half.h"
#include "trainer/model/layout.h"

#include <math.h>

/* ---- 16-bit floats ---- */

START_TEST(every_half_comes_back)
{
    for (uint32_t h = 0; h < 0x10000; h++) {
        float b = half_from_bf16((uint16_t)h), f = half_from_fp16((uint16_t)h);
        if (isnan(b))
            ck_assert(isnan(half_from_bf16(half_to_bf16(b))));
        else
            ck_assert_uint_eq(half_to_bf16(b), h);
        if (isnan(f))
            ck_assert(isnan(half_from_fp16(half_to_fp16(f))));
        else
            ck_assert_uint_eq(half_to_fp16(f), h);
    }
    ck_assert_double_eq((double)half_from_fp16(0x3c00), 1.0);
    ck_assert_double_eq((double)half_from_fp16(0x0001), 0x1p-24);
    ck_assert_double_eq((double)half_from_fp16(0xfbff), -65504.0);
    ck_assert(isnan(half_from_bf16(half_to_bf16(half_from_bits(0x7f800001u))))); /* rounding would make it an infinity */
}
END_TEST

/* to the nearest, and to the even one of two that are equally near */
static void check_rounding(float x, uint16_t (*to)(float), float (*from)(uint16_t))
{
    uint16_t h = to(x);
    double gap = fabs((double)from(h) - (double)x);
    for (int side = -1; side <= 1; side += 2) {
        uint16_t neighbour = (uint16_t)(h + side);
        double other = fabs((double)from(neighbour) - (double)x);
        if (isnan(other) || (neighbour & 0x7fff) > 0x7f80) continue;
        ck_assert_msg(gap < other || (gap == other && h % 2 == 0), "%a became %a, not %a", (double)x, (double)from(h),
                      (double)from(neighbour));
    }
}

START_TEST(halves_round_to_nearest_even)
{
    struct rng rng;
    rng_init(&rng, 3, 1);
    (void)printf("half seed 3\n");
    for (int i = 0; i < 40000; i++) {
        uint32_t bits = rng_u32(&rng);
        float x = half_from_bits(bits), small = (float)ldexp((double)(int32_t)bits, -46 + (int)(bits % 20));
        if (isfinite(x) && fabs((double)x) < 3e38) check_rounding(x, half_to_bf16, half_from_bf16);
        if (fabs((double)small) < 65000) check_rounding(small, half_to_fp16, half_from_fp16);
    }
    ck_assert_uint_eq(half_to_bf16(half_from_bits(0x3f808000u)), 0x3f80); /* ties */
    ck_assert_uint_eq(half_to_bf16(half_from_bits(0x3f818000u)), 0x3f82);
    ck_assert_uint_eq(half_to_fp16(65519.0f), 0x7bff);
    ck_assert_uint_eq(half_to_fp16(65520.0f), 0x7c00);
}
END_TEST

/* ---- whole models ---- */

/* what `pal export` writes: header, then the tensors in storage order */
static struct buf save(const struct model *model, enum safetensors_type type)
{
    struct safetensor tensors[64];
    struct tensor t;
    size_t count = 0, bytes = safetensors_bits(type) / 8;
    struct buf out = {0};
    for (struct tensor_iter iter = {0}; tensor_next(&model->config, &iter, &t); count++)
        hf_weights_describe(&t, type, &tensors[count]);
    MUST(safetensors_header(tensors, count, &out));
    for (struct tensor_iter iter = {0}; tensor_next(&model->config, &iter, &t);) {
        size_t n = t.rows * t.cols;
        MUST(buf_reserve(&out, n * bytes));
        safetensors_write(type, model->weights + t.offset, n, out.data + out.size);
        out.size += n * bytes;
    }
    return out;
}

static struct model *load(const struct buf *file, const struct model_config *config)
{
    struct safetensors *st = NULL;
    struct model *model = NULL;
    MUST(safetensors_open(buf_span(file), &st));
    const struct hf_shard shard = {"model.safetensors", st};
    MUST(hf_weights_check(&shard, 1, config));
    MUST(model_new(&model, config));
    MUST(hf_weights_load(&shard, 1, model));
    safetensors_free(&st);
    return model;
}

START_TEST(models_come_back_bit_for_bit)
{
    const char *const folders[] = {"llama3", "qwen2"};
    struct hf_fixture *f = hf_fixture_open(folders[_i], _i == 0);
    struct buf file = save(f->model, SAFETENSORS_F32);
    ck_assert_ptr_nonnull(memmem(file.data, 256, "\"__metadata__\":{\"format\":\"pt\"}", 30));
    ck_assert_uint_eq((uint64_t)file.data[0] % 8, 0);
    AUTO_PTR(model) back = load(&file, &f->model->config);
    ck_assert_mem_eq(back->weights, f->model->weights, back->count * sizeof(float));
    struct buf again = save(back, SAFETENSORS_F32);
    ck_assert(span_equal(buf_span(&file), buf_span(&again)));
    buf_fini(&file);
    buf_fini(&again);
    hf_fixture_close(f);
}
END_TEST

/* bf16 and fp16 lose what they must and nothing more: a second trip changes nothing */
START_TEST(halves_are_stable)
{
    const enum safetensors_type types[] = {SAFETENSORS_BF16, SAFETENSORS_F16};
    struct hf_fixture *f = hf_fixture_open("llama3", true);
    struct buf file = save(f->model, types[_i]);
    AUTO_PTR(model) back = load(&file, &f->model->config);
    double worst = 0;
    for (size_t i = 0; i < back->count; i++) {
        double gap = fabs((double)back->weights[i] - (double)f->model->weights[i]) / (fabs((double)back->weights[i]) + 1e-3);
        worst = gap > worst ? gap : worst;
    }
    ck_assert_double_gt(worst, 0);
    ck_assert_double_lt(worst, _i == 0 ? 0x1p-8 : 0x1p-10);
    struct buf again = save(back, types[_i]);
    ck_assert(span_equal(buf_span(&file), buf_span(&again)));
    buf_fini(&file);
    buf_fini(&again);
    hf_fixture_close(f);
}
END_TEST

/* ---- what is wrong with a file ---- */

static struct buf file_of(const char *header, size_t data)
{
    struct buf file = {0};
    uint64_t length = strlen(header);
    MUST(buf_append(&file, &length, sizeof length));
    MUST(buf_text(&file, header));
    for (size_t i = 0; i < data; i++) MUST(buf_append(&file, "", 1));
    return file;
}

static void refused(const char *header, size_t data, const char *why)
{
    struct safetensors *st = NULL;
    struct buf file = file_of(header, data);
    ck_assert_msg(safetensors_open(buf_span(&file), &st) == ERR_malformed, "%s: %s", header, st ? "taken" : err_text());
    ck_assert_msg(strstr(err_text(), why) != NULL, "%s: \"%s\" should speak of \"%s\"", header, err_text(), why);
    ck_assert_ptr_null(st);
    buf_fini(&file);
}

#define T(type, shape, begin, end)                                                                                           \
    "{\"dtype\": \"" type "\", \"shape\": [" shape "], \"data_offsets\": [" #begin ", " #end "]}"

START_TEST(headers_are_checked)
{
    struct safetensors *st = NULL;
    struct buf good = file_of(
        "{\"__metadata__\": {\"format\": \"pt\"}, \"b\": " T("I64", "", 8, 16) ", \"a\": " T("BF16", "2, 2", 0, 8) "}  ", 16);
    MUST(safetensors_open(buf_span(&good), &st));
    ck_assert_uint_eq(safetensors_count(st), 2);
    ck_assert_str_eq(safetensors_at(st, 0)->name, "a");
    ck_assert_uint_eq(safetensors_find(st, "b")->count, 1);
    ck_assert_ptr_null(safetensors_find(st, "c"));
    float none[4];
    ck_assert_int_eq(safetensors_read(st, safetensors_find(st, "b"), none), ERR_unsupported);
    ck_assert_ptr_nonnull(strstr(err_text(), "tensor b: its type is I64"));
    safetensors_free(&st);
    for (size_t size = 0; size < good.size; size++)
        ck_assert_int_eq(safetensors_open(span_of(good.data, size), &st), ERR_malformed);
    good.data[3] = 0x80; /* a header of 2 GB */
    ck_assert_int_eq(safetensors_open(buf_span(&good), &st), ERR_malformed);
    ck_assert_ptr_nonnull(strstr(err_text(), "at most"));
    buf_fini(&good);
    refused("", 0, "does not begin with {");
    refused("[]", 0, "does not begin with {");
    refused("{\"a\": 1", 0, "not JSON");
    refused("{\"a\": 1}", 0, "tensor a");
    refused("{\"a\": {}}", 0, "dtype, shape and data_offsets");
    refused("{\"a\": " T("F32", "1", 0, 4) ", \"a\": " T("F32", "1", 0, 4) "}", 4, "duplicate");
    refused("{\"a\": " T("F31", "1", 0, 4) "}", 4, "dtype F31");
    refused("{\"a\": " T("F32", "-1", 0, 4) "}", 4, "shape");
    refused("{\"a\": " T("F32", "1.5", 0, 4) "}", 4, "shape");
    refused("{\"a\": " T("F32", "1,1,1,1,1,1,1,1,1", 0, 4) "}", 4, "at most 8");
    refused("{\"a\": " T("F32", "4294967296, 4294967296, 2", 0, 4) "}", 4, "cannot be counted");
    refused("{\"a\": " T("F32", "4611686018427387904", 0, 4) "}", 4, "4 bytes of data for");
    refused("{\"a\": " T("F32", "2", 0, 4) "}", 4, "4 bytes of data for 2 elements of F32");
    refused("{\"a\": " T("F4", "1", 0, 1) "}", 1, "1 bytes of data for 1 elements of F4");
    refused("{\"a\": " T("F32", "1", 4, 0) "}", 4, "not within");
    refused("{\"a\": " T("F32", "2", 0, 8) "}", 4, "not within the 4 bytes");
    refused("{\"a\": " T("F32", "1", 0, 4) "}", 8, "end at byte 4 of 8");
    refused("{\"a\": " T("F32", "1", 0, 4) ", \"b\": " T("F32", "1", 8, 12) "}", 12, "tensor b: begins at byte 8");
    refused("{\"a\": " T("F32", "2", 0, 8) ", \"b\": " T("F32", "2", 4, 12) "}", 12,
            "tensor b: begins at byte 4 of the data, before");
}
END_TEST

/* one tensor replaced: its name, the file's and the reason are in the sentence */
static void spoiled(const char *from, const char *to, err_t want, const char *why)
{
    struct hf_fixture *f = hf_fixture_open("qwen2", false);
    struct buf file = save(f->model, SAFETENSORS_F32);
    struct safetensors *st = NULL;
    uint8_t *place = memmem(file.data, file.size, from, strlen(from));
    ck_assert_uint_eq(strlen(from), strlen(to));
    ck_assert_msg(place != NULL, "%s", from);
    memcpy(place, to, strlen(to));
    MUST(safetensors_open(buf_span(&file), &st));
    const struct hf_shard shard = {"model.safetensors", st};
    ck_assert_int_eq(hf_weights_check(&shard, 1, &f->model->config), want);
    ck_assert_ptr_nonnull(strstr(err_text(), "model.safetensors: tensor "));
    ck_assert_msg(strstr(err_text(), why) != NULL, "\"%s\" should speak of \"%s\"", err_text(), why);
    safetensors_free(&st);
    buf_fini(&file);
    hf_fixture_close(f);
}

START_TEST(weights_are_checked)
{
    spoiled("layers.1.self_attn.k_proj.weight", "layers.1.self_attn.k_prox.weight", ERR_malformed,
            "k_proj.weight is missing");
    spoiled("\"shape\":[28,16]", "\"shape\":[16,28]", ERR_malformed, "shape [16, 28], the config makes it [28, 16]");
    spoiled("{\"dtype\":\"F32\"", "{\"dtype\":\"I32\"", ERR_unsupported, "has type I32; F32, F16 and BF16 can be read");
}
END_TEST

START_TEST(strangers_doubles_and_nans_are_named)
{
    struct hf_fixture *f = hf_fixture_open("qwen2", false);
    struct model_config c = f->model->config;
    const struct hf_shard two[2] = {{"one.safetensors", f->files[0]}, {"two.safetensors", f->files[0]}};
    ck_assert_int_eq(hf_weights_check(two, 2, &c), ERR_malformed);
    ck_assert_ptr_nonnull(strstr(err_text(), "model.embed_tokens.weight is in one.safetensors and in two.safetensors"));
    c.qkv_bias = false;
    ck_assert_int_eq(hf_weights_check(two, 1, &c), ERR_unsupported);
    ck_assert_ptr_nonnull(strstr(err_text(), "self_attn.k_proj.bias is not one of this model's (6 such)"));
    c.qkv_bias = true;
    c.tied = true; /* then the head is only stored */
    ck_assert_int_eq(hf_weights_check(two, 1, &c), ERR_ok);
    hf_weights_settle_head(two, 1, &c);
    ck_assert(c.tied);
    f->model->weights[5] = NAN;
    struct buf file = save(f->model, SAFETENSORS_BF16);
    struct safetensors *st = NULL;
    MUST(safetensors_open(buf_span(&file), &st));
    const struct hf_shard shard = {"model.safetensors", st};
    ck_assert_int_eq(hf_weights_load(&shard, 1, f->model), ERR_numeric);
    ck_assert_str_eq(err_text(), "model.safetensors: tensor model.embed_tokens.weight: element 5 is NaN");
    safetensors_free(&st);
    buf_fini(&file);
    hf_fixture_close(f);
}
END_TEST

START_TEST(indexes_are_checked)
{
    static struct hf_shard shards[HF_SHARDS];
    size_t count = 0;
    MUST(hf_index_parse(
        span_text("{\"weight_map\": {\"a\": \"x.safetensors\", \"b\": \"y.safetensors\", \"c\": \"x.safetensors\"}}"), shards,
        &count));
    ck_assert_uint_eq(count, 2);
    const char *const bad[] = {"",
                               "[]",
                               "{}",
                               "{\"weight_map\": {}}",
                               "{\"weight_map\": {\"a\": 1}}",
                               "{\"weight_map\": {\"a\": \"\"}}",
                               "{\"weight_map\": {\"a\": \"../x\"}}",
                               "{\"weight_map\": {\"a\": \"/etc/passwd\"}}",
                               "{\"weight_map\": {\"a\": \".x\"}}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(hf_index_parse(span_text(bad[i]), shards, &count) == ERR_malformed, "%s", bad[i]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("safetensors");
    TCase *tcase = tcase_create("safetensors");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, every_half_comes_back);
    tcase_add_test(tcase, halves_round_to_nearest_even);
    tcase_add_loop_test(tcase, models_come_back_bit_for_bit, 0, 2);
    tcase_add_loop_test(tcase, halves_are_stable, 0, 2);
    tcase_add_test(tcase, headers_are_checked);
    tcase_add_test(tcase, weights_are_checked);
    tcase_add_test(tcase, strangers_doubles_and_nans_are_named);
    tcase_add_test(tcase, indexes_are_checked);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
