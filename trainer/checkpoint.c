#include "trainer/checkpoint.h"

#include "trainer/header.h"

#include <math.h>

#define ROUND_UP(bytes) (((bytes) + CHECKPOINT_ALIGN - 1) / CHECKPOINT_ALIGN * CHECKPOINT_ALIGN)
#define HAS_REFERENCE   1u

static const char MAGIC[8] = {'P', 'A', 'L', 'C', 'K', 'P', 'N', 'T'};
static const uint8_t ZEROS[CHECKPOINT_ALIGN];

size_t checkpoint_bytes(const struct model_config *config, bool with_reference)
{
    size_t section = model_parameters(config) * sizeof(float);
    return CHECKPOINT_HEADER_BYTES + (with_reference ? 3 : 2) * ROUND_UP(section) + section;
}

static void write_header(const struct checkpoint *c, uint8_t *header)
{
    memset(header, 0, CHECKPOINT_HEADER_BYTES);
    struct header_writer w = {header, CHECKPOINT_HEADER_BYTES, 0};
    header_put(&w, MAGIC, sizeof MAGIC);
    header_put_u32(&w, CHECKPOINT_FORMAT);
    header_put_u32(&w, CHECKPOINT_HEADER_BYTES);
    header_put_u32(&w, c->reference ? HAS_REFERENCE : 0);
    header_put_u64(&w, model_parameters(&c->config));
    header_put_u64(&w, c->job);
    header_put_u64(&w, (uint64_t)c->lineage);
    header_put_u64(&w, (uint64_t)c->version);
    header_put_u64(&w, (uint64_t)c->update);
    header_put_u64(&w, c->seed);
    header_put_u64(&w, c->bad_updates);
    header_put_u64(&w, c->optimizer_step);
    header_put_u64(&w, c->rng.state);
    header_put_u64(&w, c->rng.increment);
    header_put_config(&w, &c->config);
    header_put_digest(&w, &c->digest);
}

void checkpoint_encode(const struct checkpoint *checkpoint, uint8_t *header, struct span ret[CHECKPOINT_SPANS],
                       size_t *ret_count)
{
    write_header(checkpoint, header);
    size_t section = model_parameters(&checkpoint->config) * sizeof(float), n = 0;
    const float *const sections[] = {checkpoint->weights, checkpoint->m, checkpoint->v, checkpoint->reference};
    ret[n++] = span_of(header, CHECKPOINT_HEADER_BYTES);
    for (size_t i = 0; i < 4 && sections[i]; i++) {
        if (i > 0 && ROUND_UP(section) > section) ret[n++] = span_of(ZEROS, ROUND_UP(section) - section);
        ret[n++] = span_of(sections[i], section);
    }
    *ret_count = n;
}

static err_t read_frame(struct header_reader *r, uint32_t *ret_flags)
{
    if (memcmp(header_get(r, sizeof MAGIC), MAGIC, sizeof MAGIC) != 0)
        return err_set(ERR_malformed, "not a checkpoint: bad magic");
    uint32_t format = header_get_u32(r), header_bytes = header_get_u32(r), flags = header_get_u32(r);
    if (format != CHECKPOINT_FORMAT)
        return err_set(ERR_malformed, "checkpoint format %u; this build reads %d", format, CHECKPOINT_FORMAT);
    if (header_bytes != CHECKPOINT_HEADER_BYTES)
        return err_set(ERR_malformed, "a checkpoint header of %u bytes; format %d has %d", header_bytes, CHECKPOINT_FORMAT,
                       CHECKPOINT_HEADER_BYTES);
    if (flags > HAS_REFERENCE) return err_set(ERR_malformed, "checkpoint flags %#x: only bit 0 has a meaning", flags);
    *ret_flags = flags;
    return ERR_ok;
}

static err_t read_fields(struct header_reader *r, struct checkpoint *c)
{
    uint64_t count = header_get_u64(r);
    c->job = header_get_u64(r);
    c->lineage = (int64_t)header_get_u64(r);
    c->version = (int64_t)header_get_u64(r);
    c->update = (int64_t)header_get_u64(r);
    c->seed = header_get_u64(r);
    c->bad_updates = header_get_u64(r);
    c->optimizer_step = header_get_u64(r);
    c->rng.state = header_get_u64(r);
    c->rng.increment = header_get_u64(r);
    if (c->lineage < 0 || c->version < 0 || c->update < c->version)
        return err_set(ERR_malformed, "lineage %ld, version %ld, update %ld: none below 0, no update below its version",
                       (long)c->lineage, (long)c->version, (long)c->update);
    if (c->rng.increment % 2 == 0) return err_set(ERR_malformed, "the random state's increment is even");
    TRY(header_get_config(r, &c->config));
    TRY(header_get_digest(r, &c->digest));
    c->count = model_parameters(&c->config);
    if (count != c->count)
        return err_set(ERR_malformed, "%lu parameters; the config has %zu", (unsigned long)count, c->count);
    return ERR_ok;
}

static err_t check_numbers(const char *name, const float *numbers, size_t count, bool may_be_negative)
{
    for (size_t i = 0; numbers && i < count; i++) {
        if (!isfinite(numbers[i])) return err_set(ERR_malformed, "%s[%zu] is not finite", name, i);
        if (numbers[i] < 0 && !may_be_negative) return err_set(ERR_malformed, "%s[%zu] is below 0", name, i);
    }
    return ERR_ok;
}

static err_t check_digest(const struct checkpoint *c)
{
    /* only read; model_wrap's weights are writable because a learner's are */
    AUTO_PTR(model) model = NULL;
    TRY(model_wrap(&model, &c->config, (float *)(uintptr_t)c->weights, c->count));
    struct digest digest;
    TRY(model_digest(model, &digest));
    if (strcmp(digest.hex, c->digest.hex) != 0)
        return err_set(ERR_malformed, "the weights have digest %.12s..., the header says %.12s...", digest.hex,
                       c->digest.hex);
    return ERR_ok;
}

/* the sections' places, once the whole size is known to fit */
static void place_sections(const uint8_t *at, bool with_reference, struct checkpoint *c)
{
    const float **const sections[] = {&c->weights, &c->m, &c->v, &c->reference};
    for (size_t i = 0; i < (with_reference ? 4 : 3); i++) {
        *sections[i] = (const float *)(const void *)at;
        at += ROUND_UP(c->count * sizeof(float));
    }
}

err_t checkpoint_open(struct span bytes, struct checkpoint *ret)
{
    if (bytes.size < CHECKPOINT_HEADER_BYTES)
        return err_set(ERR_malformed, "a checkpoint of %zu bytes: its header alone has %d", bytes.size,
                       CHECKPOINT_HEADER_BYTES);
    if ((uintptr_t)bytes.data % CHECKPOINT_ALIGN != 0)
        return err_set(ERR_malformed, "a checkpoint must lie %d-byte aligned in memory", CHECKPOINT_ALIGN);
    struct checkpoint c = {0};
    struct header_reader r = {bytes.data, CHECKPOINT_HEADER_BYTES, 0};
    uint32_t flags = 0;
    TRY(read_frame(&r, &flags));
    TRY(read_fields(&r, &c));
    if (bytes.size != checkpoint_bytes(&c.config, flags & HAS_REFERENCE))
        return err_set(ERR_malformed, "a checkpoint of %zu bytes; its config makes %zu", bytes.size,
                       checkpoint_bytes(&c.config, flags & HAS_REFERENCE));
    place_sections(bytes.data + CHECKPOINT_HEADER_BYTES, flags & HAS_REFERENCE, &c);
    TRY(check_numbers("weights", c.weights, c.count, true));
    TRY(check_numbers("m", c.m, c.count, true));
    TRY(check_numbers("v", c.v, c.count, false));
    TRY(check_numbers("reference", c.reference, c.count, true));
    TRY(check_digest(&c));
    *ret = c;
    return ERR_ok;
}
