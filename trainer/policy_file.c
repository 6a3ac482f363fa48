#include "trainer/policy_file.h"

#include "trainer/header.h"

static const char MAGIC[8] = {'P', 'A', 'L', 'P', 'O', 'L', 'C', 'Y'};

static const uint8_t ZEROS[POLICY_FILE_ALIGN];

/* Zero bytes between the weights and the value head. */
static size_t padding(const struct model_config *config)
{
    size_t bytes = model_parameters(config) * sizeof(float);
    return (POLICY_FILE_ALIGN - bytes % POLICY_FILE_ALIGN) % POLICY_FILE_ALIGN;
}

size_t policy_file_bytes(const struct model_config *config, size_t value_units)
{
    size_t bytes = POLICY_FILE_HEADER_BYTES + model_parameters(config) * sizeof(float);
    if (value_units == 0) return bytes;
    return bytes + padding(config) + value_head_parameters((size_t)config->width, value_units) * sizeof(float);
}

static void write_header(const struct policy_file *file, uint8_t *header)
{
    memset(header, 0, POLICY_FILE_HEADER_BYTES);
    struct header_writer w = {header, POLICY_FILE_HEADER_BYTES, 0};
    header_put(&w, MAGIC, sizeof MAGIC);
    header_put_u32(&w, HEADER_FORMAT);
    header_put_u32(&w, POLICY_FILE_HEADER_BYTES);
    header_put_u64(&w, model_parameters(&file->config));
    header_put_u64(&w, file->job);
    header_put_u64(&w, (uint64_t)file->lineage);
    header_put_u64(&w, (uint64_t)file->version);
    header_put_config(&w, &file->config);
    header_put_digest(&w, &file->digest);
    header_put_u32(&w, (uint32_t)file->role);
    header_put_u32(&w, (uint32_t)file->value_units);
    if (file->value_units > 0) header_put_digest(&w, &file->value_digest);
}

void policy_file_encode(const struct policy_file *file, uint8_t header[POLICY_FILE_HEADER_BYTES],
                        struct span ret[POLICY_FILE_SPANS], size_t *ret_count)
{
    size_t n = 0;
    write_header(file, header);
    ret[n++] = span_of(header, POLICY_FILE_HEADER_BYTES);
    ret[n++] = span_of(file->weights, model_parameters(&file->config) * sizeof(float));
    if (file->value_units > 0) {
        if (padding(&file->config) > 0) ret[n++] = span_of(ZEROS, padding(&file->config));
        ret[n++] = span_of(file->value, value_head_parameters((size_t)file->config.width, file->value_units) * sizeof(float));
    }
    *ret_count = n;
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

/* What format 2 added. */
static err_t read_roles(struct header_reader *r, struct policy_file *ret)
{
    uint32_t role = header_get_u32(r), units = header_get_u32(r);
    if (role > POLICY_FILE_orm) return err_set(ERR_malformed, "role %u: 0 to %d have a meaning", role, POLICY_FILE_orm);
    if (units > VALUE_HEAD_UNITS_MOST)
        return err_set(ERR_malformed, "a value head of %u units; at most %d", units, VALUE_HEAD_UNITS_MOST);
    ret->role = (enum policy_file_role)role;
    ret->value_units = units;
    return units > 0 ? header_get_digest(r, &ret->value_digest) : ERR_ok;
}

static err_t read_header(struct header_reader *r, struct policy_file *ret, uint64_t *ret_count)
{
    if (memcmp(header_get(r, sizeof MAGIC), MAGIC, sizeof MAGIC) != 0)
        return err_set(ERR_malformed, "not a policy file: bad magic");
    uint32_t format = header_get_u32(r), header_bytes = header_get_u32(r);
    if (format < 1 || format > HEADER_FORMAT)
        return err_set(ERR_malformed, "policy file format %u; this build reads 1 to %d", format, HEADER_FORMAT);
    if (header_bytes != POLICY_FILE_HEADER_BYTES)
        return err_set(ERR_malformed, "a policy header of %u bytes; format %u has %d", header_bytes, format,
                       POLICY_FILE_HEADER_BYTES);
    *ret_count = header_get_u64(r);
    ret->job = header_get_u64(r);
    ret->lineage = (int64_t)header_get_u64(r);
    ret->version = (int64_t)header_get_u64(r);
    if (ret->lineage < 0 || ret->version < 0)
        return err_set(ERR_malformed, "lineage %ld, version %ld: neither may be below 0", (long)ret->lineage,
                       (long)ret->version);
    TRY(header_get_config(r, format, &ret->config));
    TRY(header_get_digest(r, &ret->digest));
    if (format > 1) TRY(read_roles(r, ret));
    return header_get_end(r);
}

err_t policy_file_open(struct span bytes, struct policy_file *ret)
{
    TRY(check_frame(bytes));
    struct policy_file file = {.role = POLICY_FILE_policy};
    struct header_reader r = {bytes.data, POLICY_FILE_HEADER_BYTES, 0};
    uint64_t count = 0;
    TRY(read_header(&r, &file, &count));
    file.count = model_parameters(&file.config);
    if (count != file.count)
        return err_set(ERR_malformed, "%lu weights; the config has %zu", (unsigned long)count, file.count);
    if (bytes.size != policy_file_bytes(&file.config, file.value_units))
        return err_set(ERR_malformed, "a policy file of %zu bytes; its config makes %zu", bytes.size,
                       policy_file_bytes(&file.config, file.value_units));
    const uint8_t *weights = bytes.data + POLICY_FILE_HEADER_BYTES;
    file.weights = (const float *)(const void *)weights;
    if (file.value_units > 0)
        file.value = (const float *)(const void *)(weights + file.count * sizeof(float) + padding(&file.config));
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

err_t policy_file_value(const struct policy_file *file, struct value_head **ret)
{
    if (file->value_units == 0)
        return err_set(ERR_not_found, "version %ld was published without a value head", (long)file->version);
    AUTO_PTR(value_head) head = NULL;
    size_t width = (size_t)file->config.width;
    TRY(value_head_wrap(&head, width, file->value_units, file->value, value_head_parameters(width, file->value_units)));
    struct digest digest;
    TRY(value_head_digest(head, &digest));
    if (strcmp(digest.hex, file->value_digest.hex) != 0)
        return err_set(ERR_malformed, "the value head of version %ld has digest %.12s..., its header says %.12s...",
                       (long)file->version, digest.hex, file->value_digest.hex);
    *ret = head;
    head = NULL;
    return ERR_ok;
}
