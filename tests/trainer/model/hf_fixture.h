/* A golden directory opened as the services do it: config, shards, weights. */
#ifndef PAL_TESTS_TRAINER_MODEL_HF_FIXTURE_H
#define PAL_TESTS_TRAINER_MODEL_HF_FIXTURE_H

#include "tests/trainer/model/golden.h"
#include "trainer/model/hf_config.h"
#include "trainer/model/hf_weights.h"

#define HF_FIXTURE_SHARDS 4

struct hf_fixture {
    struct hf_config config;
    struct hf_shard shards[HF_SHARDS];
    struct safetensors *files[HF_FIXTURE_SHARDS];
    struct span bytes[HF_FIXTURE_SHARDS];
    size_t count;
    struct model *model;
};

#define MUST(call) ck_assert_msg((call) == ERR_ok, "%s: %s", #call, err_text())

static inline struct hf_fixture *hf_fixture_open(const char *folder, bool sharded)
{
    struct hf_fixture *f = calloc(1, sizeof *f);
    char name[256];
    ck_assert_ptr_nonnull(f);
    (void)snprintf(name, sizeof name, "%s/config.json", folder);
    struct span json = golden_read(name);
    MUST(hf_config_parse(json, &f->config));
    golden_free(json);
    if (sharded) {
        (void)snprintf(name, sizeof name, "%s/model.safetensors.index.json", folder);
        json = golden_read(name);
        MUST(hf_index_parse(json, f->shards, &f->count));
        golden_free(json);
    } else {
        f->count = 1;
        (void)snprintf(f->shards[0].name, sizeof f->shards[0].name, "model.safetensors");
    }
    ck_assert_uint_le(f->count, HF_FIXTURE_SHARDS);
    for (size_t i = 0; i < f->count; i++) {
        (void)snprintf(name, sizeof name, "%s/%s", folder, f->shards[i].name);
        f->bytes[i] = golden_read(name);
        MUST(safetensors_open(f->bytes[i], &f->files[i]));
        f->shards[i].file = f->files[i];
    }
    hf_weights_settle_head(f->shards, f->count, &f->config.model);
    MUST(hf_weights_check(f->shards, f->count, &f->config.model));
    MUST(model_new(&f->model, &f->config.model));
    MUST(hf_weights_load(f->shards, f->count, f->model));
    return f;
}

static inline void hf_fixture_close(struct hf_fixture *f)
{
    model_free(&f->model);
    for (size_t i = 0; i < f->count; i++) {
        safetensors_free(&f->files[i]);
        golden_free(f->bytes[i]);
    }
    free(f);
}

#endif
