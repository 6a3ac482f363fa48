#include "trainer/policy_file.h"

#include "trainer/header.h"

static const char MAGIC[8] = {'P', 'A', 'L', 'P', 'O', 'L', 'C', 'Y'};

size_t policy_file_bytes(const struct model_config *config)
{
    return POLICY_FILE_HEADER_BYTES + model_parameters(config) * sizeof(float);
}

void policy_file_header(const struct policy_file *file, uint8_t ret[POLICY_FILE_HEADER_BYTES])
{
    memset(ret, 0, POLICY_FILE_HEADER_BYTES);
    struct header_writer w = {ret, POLICY_FILE_HEADER_BYTES, 0};
    header_put(&w, MAGIC, sizeof MAGIC);
    header_put_u32(&w, POLICY_FILE_FORMAT);
    header_put_u32(&w, POLICY_FILE_HEADER_BYTES);
    header_put_u64(&w, model_parameters(&file->config));
    header_put_u64(&w, file->job);
    header_put_u64(&w, (uint64_t)file->lineage);
    header_put_u64(&w, (uint64_t)file->version);
    header_put_config(&w, &file->config);
    header_put_digest(&w, &file->digest);
}

static err_t check_frame(struct span bytes)
{
    if (bytes.size < POLICY_FILE_HEADER_BYTES)
        return err_set(ERR_malformed, "a policy file of %zu bytes: its header alone has %d", bytes.size,
                       POLICY_FILE_HEADER_BYTES);
    if ((uintptr_t)bytes.data % POLICY_FILE_ALIGN != 0)
        return err_set(ERR_malformed, "a policy file must lie %d-byte aligned in memory", POLICY_FILE_ALIGN);
    return ERR_ok;
}

static err_t read_header(struct header_reader *r, struct policy_file *ret, uint64_t *ret_count)
{
    if (memcmp(header_get(r, sizeof MAGIC), MAGIC, sizeof MAGIC) != 0)
        return err_set(ERR_malformed, "not a policy file: bad magic");
    uint32_t format = header_get_u32(r), header_bytes = header_get_u32(r);
    if (format != POLICY_FILE_FORMAT)
        return err_set(ERR_malformed, "policy file format %u; this build reads %d", format, POLICY_FILE_FORMAT);
    if (header_bytes != POLICY_FILE_HEADER_BYTES)
        return err_set(ERR_malformed, "a policy header of %u bytes; format %d has %d", header_bytes, POLICY_FILE_FORMAT,
                       POLICY_FILE_HEADER_BYTES);
    *ret_count = header_get_u64(r);
    ret->job = header_get_u64(r);
    ret->lineage = (int64_t)header_get_u64(r);
    ret->version = (int64_t)header_get_u64(r);
    if (ret->lineage < 0 || ret->version < 0)
        return err_set(ERR_malformed, "lineage %ld, version %ld: neither may be below 0", (long)ret->lineage,
                       (long)ret->version);
    TRY(header_get_config(r, &ret->config));
    return header_get_digest(r, &ret->digest);
}

err_t policy_file_open(struct span bytes, struct policy_file *ret)
{
    TRY(check_frame(bytes));
    struct policy_file file = {0};
    struct header_reader r = {bytes.data, POLICY_FILE_HEADER_BYTES, 0};
    uint64_t count = 0;
    TRY(read_header(&r, &file, &count));
    file.count = model_parameters(&file.config);
    if (count != file.count)
        return err_set(ERR_malformed, "%lu weights; the config has %zu", (unsigned long)count, file.count);
    for (size_t i = r.at; i < POLICY_FILE_HEADER_BYTES; i++) {
        if (bytes.data[i] != 0) return err_set(ERR_malformed, "header byte %zu is not 0", i);
    }
    if (bytes.size != policy_file_bytes(&file.config))
        return err_set(ERR_malformed, "a policy file of %zu bytes; its config makes %zu", bytes.size,
                       policy_file_bytes(&file.config));
    file.weights = (const float *)(const void *)(bytes.data + POLICY_FILE_HEADER_BYTES);
    *ret = file;
    return ERR_ok;
}

err_t policy_file_model(const struct policy_file *file, struct model **ret)
{
    AUTO_PTR(model) model = NULL;
    /* model_wrap takes writable weights because a learner's are; nobody writes through this one */
    TRY(model_wrap(&model, &file->config, (float *)(uintptr_t)file->weights, file->count));
    struct digest digest;
    TRY(model_digest(model, &digest));
    if (strcmp(digest.hex, file->digest.hex) != 0)
        return err_set(ERR_malformed, "the weights of version %ld have digest %.12s..., their header says %.12s...",
                       (long)file->version, digest.hex, file->digest.hex);
    *ret = model;
    model = NULL;
    return ERR_ok;
}
