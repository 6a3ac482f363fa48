/* LABELS: unit
 * policy_file and checkpoint: what is written is read back, every kind of damage is named. */
#include "trainer/checkpoint.h"
#include "trainer/policy_file.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const struct model_config CONFIG = {.vocab = 11,
                                           .vocab_padded = 16,
                                           .layers = 1,
                                           .width = 8,
                                           .heads = 2,
                                           .kv_heads = 1,
                                           .head_dim = 4,
                                           .ff = 12,
                                           .max_positions = 32,
                                           .rope_theta = 10000,
                                           .rms_eps = 1e-5f,
                                           .tied = true};

/* a file in memory aligned as a mapping is */
struct image {
    uint8_t *bytes;
    size_t size;
};

static struct image image_of(const struct span *spans, size_t count)
{
    struct image image = {0};
    for (size_t i = 0; i < count; i++) image.size += spans[i].size;
    image.bytes = aligned_alloc(64, (image.size + 127) / 64 * 64);
    BUG_IF(!image.bytes);
    for (size_t i = 0, at = 0; i < count; at += spans[i++].size) memcpy(image.bytes + at, spans[i].data, spans[i].size);
    return image;
}

static struct model *some_model(void)
{
    struct model *model = NULL;
    BUG_IF(model_new(&model, &CONFIG) != ERR_ok);
    model_init(model, 5);
    return model;
}

static struct image policy_image(const struct model *model, const struct value_head *value)
{
    struct policy_file file = {.config = CONFIG, .job = 7, .lineage = 2, .version = 41, .weights = model->weights};
    BUG_IF(model_digest(model, &file.digest) != ERR_ok);
    if (value) {
        BUG_IF(value_head_digest(value, &file.value_digest) != ERR_ok);
        file.value_units = value->units;
        file.value = value->weights;
        file.role = POLICY_FILE_orm;
    }
    uint8_t header[POLICY_FILE_HEADER_BYTES];
    struct span spans[POLICY_FILE_SPANS];
    size_t count = 0;
    policy_file_encode(&file, header, spans, &count);
    BUG_IF(count > POLICY_FILE_SPANS);
    return image_of(spans, count);
}

static struct value_head *some_value(void)
{
    struct value_head *head = NULL;
    BUG_IF(value_head_new(&head, (size_t)CONFIG.width, 3) != ERR_ok || !head);
    value_head_init(head, 4);
    return head;
}

START_TEST(policy_files_come_back)
{
    AUTO_PTR(model) model = some_model();
    struct image image = policy_image(model, NULL);
    ck_assert_uint_eq(image.size, policy_file_bytes(&CONFIG, 0));
    struct policy_file file;
    ck_assert_int_eq(policy_file_open(span_of(image.bytes, image.size), &file), ERR_ok);
    ck_assert_uint_eq(file.job, 7);
    ck_assert_int_eq(file.lineage, 2);
    ck_assert_int_eq(file.version, 41);
    ck_assert_int_eq(file.config.ff, 12);
    ck_assert(file.config.tied && !file.config.qkv_bias);
    ck_assert(file.role == POLICY_FILE_policy && file.value_units == 0);
    struct value_head *none = NULL;
    ck_assert_int_eq(policy_file_value(&file, &none), ERR_not_found);
    ck_assert_uint_eq((uintptr_t)file.weights % 64, 0);
    ck_assert_mem_eq(file.weights, model->weights, model->count * sizeof(float));
    AUTO_PTR(model) wrapped = NULL;
    ck_assert_int_eq(policy_file_model(&file, &wrapped), ERR_ok);
    ck_assert(wrapped->weights == file.weights);
    image.bytes[POLICY_FILE_HEADER_BYTES + 9] ^= 1;
    AUTO_PTR(model) other = NULL;
    ck_assert_int_eq(policy_file_model(&file, &other), ERR_malformed);
    free(image.bytes);
}
END_TEST

START_TEST(value_heads_travel_behind_the_weights)
{
    AUTO_PTR(model) model = some_model();
    AUTO_PTR(value_head) value = some_value();
    struct image image = policy_image(model, value);
    ck_assert_uint_eq(image.size, policy_file_bytes(&CONFIG, 3));
    struct policy_file file;
    ck_assert_int_eq(policy_file_open(span_of(image.bytes, image.size), &file), ERR_ok);
    ck_assert_int_eq(file.role, POLICY_FILE_orm);
    ck_assert_uint_eq(file.value_units, 3);
    ck_assert_uint_eq((uintptr_t)file.value % 64, 0);
    AUTO_PTR(value_head) read = NULL;
    ck_assert_int_eq(policy_file_value(&file, &read), ERR_ok);
    ck_assert(read->weights == file.value);
    ck_assert_mem_eq(read->weights, value->weights, value->count * sizeof(float));
    image.bytes[image.size - 3] ^= 1;
    AUTO_PTR(value_head) other = NULL;
    ck_assert_int_eq(policy_file_value(&file, &other), ERR_malformed);
    ck_assert_ptr_nonnull(strstr(err_text(), "value head"));
    ck_assert_int_eq(policy_file_open(span_of(image.bytes, image.size - 4), &file), ERR_malformed);
    image.bytes[180] = 2; /* role */
    ck_assert_int_eq(policy_file_open(span_of(image.bytes, image.size), &file), ERR_malformed);
    ck_assert_ptr_nonnull(strstr(err_text(), "role"));
    image.bytes[180] = 1;
    image.bytes[185] = 0xff; /* units */
    ck_assert_int_eq(policy_file_open(span_of(image.bytes, image.size), &file), ERR_malformed);
    ck_assert_ptr_nonnull(strstr(err_text(), "units"));
    free(image.bytes);
}
END_TEST

/* As the first version wrote them: without rope scaling in the config, and nothing after the digest. */
static void make_format_1(uint8_t *header, size_t size, size_t config_at)
{
    const uint8_t one = 1;
    memcpy(header + 8, &one, 1);
    memmove(header + config_at + 44, header + config_at + 64, size - config_at - 64);
    memset(header + size - 20, 0, 20);
}

START_TEST(files_of_format_1_are_read)
{
    AUTO_PTR(model) model = some_model();
    struct image image = policy_image(model, NULL);
    make_format_1(image.bytes, POLICY_FILE_HEADER_BYTES, 48);
    struct policy_file file;
    err_t err = policy_file_open(span_of(image.bytes, image.size), &file);
    ck_assert_msg(err == ERR_ok, "%s", err_text());
    ck_assert_int_eq(file.version, 41);
    ck_assert_int_eq(file.config.rope_scaling.kind, ROPE_SCALING_none);
    AUTO_PTR(model) wrapped = NULL;
    ck_assert_int_eq(policy_file_model(&file, &wrapped), ERR_ok);
    image.bytes[8] = 3;
    ck_assert_int_eq(policy_file_open(span_of(image.bytes, image.size), &file), ERR_malformed);
    ck_assert_ptr_nonnull(strstr(err_text(), "format 3"));
    free(image.bytes);
}
END_TEST

static void expect_policy(struct image image, size_t size, const char *why)
{
    struct policy_file file;
    ck_assert_int_eq(policy_file_open(span_of(image.bytes, size), &file), ERR_malformed);
    ck_assert_msg(strstr(err_text(), why) != NULL, "\"%s\" should speak of \"%s\"", err_text(), why);
}

START_TEST(damaged_policy_files_are_refused)
{
    AUTO_PTR(model) model = some_model();
    struct image image = policy_image(model, NULL);
    for (size_t size = 0; size < image.size; size += size < 300 ? 1 : 97) {
        struct policy_file file;
        ck_assert_int_eq(policy_file_open(span_of(image.bytes, size), &file), ERR_malformed);
    }
    struct policy_file file;
    ck_assert_int_eq(policy_file_open(span_of(image.bytes + 4, image.size - 4), &file), ERR_malformed); /* not aligned */
    expect_policy(image, image.size + 4, "bytes");
    const struct {
        size_t at;
        const char *why;
    } damages[] = {{0, "magic"},  {8, "format"}, {12, "header"}, {16, "weights"}, {39, "below 0"}, {48, "vocab"},
                   {84, "bytes"}, {92, "rope"},  {112, "flags"}, {116, "digest"}, {200, "not 0"}};
    for (size_t i = 2; i < sizeof damages / sizeof *damages; i++) {
        if (i == 6) continue; /* rope_theta: another valid number */
        uint8_t kept = image.bytes[damages[i].at];
        image.bytes[damages[i].at] = 0xff;
        expect_policy(image, image.size, damages[i].why);
        image.bytes[damages[i].at] = kept;
    }
    image.bytes[0] = 'X';
    expect_policy(image, image.size, "magic");
    free(image.bytes);
}
END_TEST

struct state {
    struct model *model;
    struct value_head *value;
    float *m, *v;
    struct checkpoint checkpoint;
};

/* everything: a reference, a value head, an outcome reward model */
static struct state some_state(bool everything)
{
    struct state s = {.model = some_model()};
    s.m = calloc(s.model->count, sizeof *s.m);
    s.v = calloc(s.model->count, sizeof *s.v);
    BUG_IF(!(s.m && s.v));
    for (size_t i = 0; i < s.model->count; i++) {
        s.m[i] = (float)i - 50;
        s.v[i] = (float)i;
    }
    s.checkpoint = (struct checkpoint){.config = CONFIG,
                                       .job = 3,
                                       .lineage = 1,
                                       .version = 20,
                                       .update = 22,
                                       .seed = 9,
                                       .bad_updates = 1,
                                       .optimizer_step = 20,
                                       .weights = s.model->weights,
                                       .m = s.m,
                                       .v = s.v};
    rng_init(&s.checkpoint.rng, 1, 2);
    if (everything) {
        s.value = some_value();
        s.checkpoint.reference = s.m;
        s.checkpoint.value_units = s.value->units;
        s.checkpoint.value_step = 17;
        s.checkpoint.value = s.checkpoint.value_m = s.value->weights;
        s.checkpoint.value_v = s.v;
        s.checkpoint.phase = 3;
        s.checkpoint.orm_version = 2;
        s.checkpoint.orm = s.v;
    }
    BUG_IF(model_digest(s.model, &s.checkpoint.digest) != ERR_ok);
    return s;
}

static void state_drop(struct state *s)
{
    model_free(&s->model);
    value_head_free(&s->value);
    free(s->m);
    free(s->v);
}

static struct image checkpoint_image(const struct state *s)
{
    uint8_t header[CHECKPOINT_HEADER_BYTES];
    struct span spans[CHECKPOINT_SPANS];
    size_t count = 0;
    checkpoint_encode(&s->checkpoint, header, spans, &count);
    BUG_IF(count > CHECKPOINT_SPANS);
    return image_of(spans, count);
}

START_TEST(checkpoints_come_back)
{
    for (int everything = 0; everything < 2; everything++) {
        struct state s = some_state(everything);
        struct image image = checkpoint_image(&s);
        const struct checkpoint_parts parts = checkpoint_parts(&s.checkpoint);
        ck_assert_uint_eq(image.size, checkpoint_bytes(&CONFIG, &parts));
        struct checkpoint c;
        ck_assert_int_eq(checkpoint_open(span_of(image.bytes, image.size), &c), ERR_ok);
        ck_assert_uint_eq(c.job, 3);
        ck_assert_int_eq(c.lineage, 1);
        ck_assert_int_eq(c.version, 20);
        ck_assert_int_eq(c.update, 22);
        ck_assert_uint_eq(c.seed, 9);
        ck_assert_uint_eq(c.bad_updates, 1);
        ck_assert_uint_eq(c.optimizer_step, 20);
        ck_assert(c.rng.state == s.checkpoint.rng.state && c.rng.increment == s.checkpoint.rng.increment);
        ck_assert_str_eq(c.digest.hex, s.checkpoint.digest.hex);
        size_t bytes = c.count * sizeof(float);
        ck_assert_mem_eq(c.weights, s.model->weights, bytes);
        ck_assert_mem_eq(c.m, s.m, bytes);
        ck_assert_mem_eq(c.v, s.v, bytes);
        ck_assert_int_eq(c.reference != NULL, everything);
        ck_assert_int_eq(c.orm != NULL, everything);
        ck_assert_uint_eq(c.value_units, everything ? 3 : 0);
        if (everything) {
            ck_assert_mem_eq(c.reference, s.m, bytes);
            ck_assert_mem_eq(c.orm, s.v, bytes);
            ck_assert_mem_eq(c.value, s.value->weights, s.value->count * sizeof(float));
            ck_assert_mem_eq(c.value_m, s.value->weights, s.value->count * sizeof(float));
            ck_assert_mem_eq(c.value_v, s.v, s.value->count * sizeof(float));
            ck_assert_uint_eq((uintptr_t)c.value_m % 64, 0);
            ck_assert_uint_eq(c.value_step, 17);
            ck_assert_int_eq(c.phase, 3);
            ck_assert_int_eq(c.orm_version, 2);
        }
        free(image.bytes);
        state_drop(&s);
    }
}
END_TEST

static void expect_checkpoint(struct image image, size_t size, const char *why)
{
    struct checkpoint c;
    ck_assert_int_eq(checkpoint_open(span_of(image.bytes, size), &c), ERR_malformed);
    ck_assert_msg(strstr(err_text(), why) != NULL, "\"%s\" should speak of \"%s\"", err_text(), why);
}

START_TEST(damaged_checkpoints_are_refused)
{
    struct state s = some_state(false);
    struct image image = checkpoint_image(&s);
    for (size_t size = 0; size < image.size; size += 101) expect_checkpoint(image, size, "bytes");
    size_t section = (s.model->count * sizeof(float) + 63) / 64 * 64, at = CHECKPOINT_HEADER_BYTES;
    const float bad = NAN, negative = -1;
    float *places[] = {(float *)(void *)(image.bytes + at), (float *)(void *)(image.bytes + at + section),
                       (float *)(void *)(image.bytes + at + 2 * section)};
    const char *const why[] = {"weights[3]", "m[3]", "v[3]"};
    for (size_t i = 0; i < 3; i++) {
        float kept = places[i][3];
        places[i][3] = bad;
        expect_checkpoint(image, image.size, why[i]);
        places[i][3] = kept;
    }
    places[2][5] = negative;
    expect_checkpoint(image, image.size, "below 0");
    places[2][5] = 5;
    places[0][7] += 1;
    expect_checkpoint(image, image.size, "digest");
    image.bytes[0] ^= 1;
    expect_checkpoint(image, image.size, "magic");
    free(image.bytes);
    state_drop(&s);
}
END_TEST

START_TEST(checkpoints_of_format_1_are_read)
{
    struct state s = some_state(false);
    s.checkpoint.reference = s.m;
    struct image image = checkpoint_image(&s);
    make_format_1(image.bytes, CHECKPOINT_HEADER_BYTES, 100);
    struct checkpoint c;
    err_t err = checkpoint_open(span_of(image.bytes, image.size), &c);
    ck_assert_msg(err == ERR_ok, "%s", err_text());
    ck_assert_int_eq(c.update, 22);
    ck_assert_int_eq(c.phase, 0);
    ck_assert(c.reference && !c.value && !c.orm);
    free(image.bytes);
    state_drop(&s);
}
END_TEST

START_TEST(damaged_methods_are_refused)
{
    struct state s = some_state(true);
    const struct {
        struct checkpoint change;
        const char *why;
    } rows[] = {{{.value_units = 5000, .phase = 3, .orm_version = 2}, "value head"},
                {{.value_units = 3, .phase = -1, .orm_version = 0}, "phase"},
                {{.value_units = 3, .phase = 1, .orm_version = 2}, "outcome reward model"},
                {{.value_units = 4, .phase = 3, .orm_version = 2}, "bytes"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct image image = checkpoint_image(&s);
        uint64_t units = rows[i].change.value_units;
        const size_t at = 100 + 68 + 64; /* behind config and digest */
        memcpy(image.bytes + at, &units, 8);
        memcpy(image.bytes + at + 16, &rows[i].change.phase, 8);
        memcpy(image.bytes + at + 24, &rows[i].change.orm_version, 8);
        expect_checkpoint(image, image.size, rows[i].why);
        free(image.bytes);
    }
    s.value->weights[2] = NAN;
    struct image image = checkpoint_image(&s);
    expect_checkpoint(image, image.size, "value[2]");
    free(image.bytes);
    state_drop(&s);
}
END_TEST

/* Called with a folder, the program writes the fuzz targets' seed inputs there: tests.trainer.files --corpus DIR */
static int write_image(const char *folder, const char *name, struct image image)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (!file) return 1;
    size_t wrote = fwrite(image.bytes, 1, image.size, file);
    free(image.bytes);
    return fclose(file) == 0 && wrote == image.size ? 0 : 1;
}

static int write_corpus(const char *folder)
{
    struct state plain = some_state(false), with = some_state(true);
    int failed = write_image(folder, "policy", policy_image(plain.model, NULL)) +
                 write_image(folder, "checkpoint", checkpoint_image(&plain)) +
                 write_image(folder, "policy_value", policy_image(plain.model, with.value)) +
                 write_image(folder, "checkpoint_everything", checkpoint_image(&with));
    state_drop(&plain);
    state_drop(&with);
    return failed;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--corpus") == 0) return write_corpus(argv[2]);
    Suite *suite = suite_create("files");
    TCase *tcase = tcase_create("files");
    tcase_add_test(tcase, policy_files_come_back);
    tcase_add_test(tcase, value_heads_travel_behind_the_weights);
    tcase_add_test(tcase, files_of_format_1_are_read);
    tcase_add_test(tcase, damaged_policy_files_are_refused);
    tcase_add_test(tcase, checkpoints_come_back);
    tcase_add_test(tcase, checkpoints_of_format_1_are_read);
    tcase_add_test(tcase, damaged_methods_are_refused);
    tcase_add_test(tcase, damaged_checkpoints_are_refused);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
