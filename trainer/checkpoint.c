#include "trainer/checkpoint.h"

#include "trainer/header.h"
#include "trainer/value_head.h"

#include <math.h>

#define ROUND_UP(bytes) (((bytes) + CHECKPOINT_ALIGN - 1) / CHECKPOINT_ALIGN * CHECKPOINT_ALIGN)
#define HAS_REFERENCE   1u
#define HAS_VALUE       2u
#define HAS_ORM         4u

static const char MAGIC[8] = {'P', 'A', 'L', 'C', 'K', 'P', 'N', 'T'};
static const uint8_t ZEROS[CHECKPOINT_ALIGN];

struct section {
    const char *name;
    const float **at;
    size_t count;
    bool may_be_negative;
};

/* The sections in the order they are stored, those that are not there with a count of 0. */
static void list_sections(struct checkpoint *c, const struct checkpoint_parts *parts, struct section ret[CHECKPOINT_SECTIONS])
{
    size_t n = model_parameters(&c->config), reference = parts->reference ? n : 0, orm = parts->orm ? n : 0;
    size_t value = parts->value_units ? value_head_parameters((size_t)c->config.width, parts->value_units) : 0;
    const struct section sections[CHECKPOINT_SECTIONS] = {
        {"weights", &c->weights, n, true},
        {"m", &c->m, n, true},
        {"v", &c->v, n, false},
        {"reference", &c->reference, reference, true},
        {"value", &c->value, value, true},
        {"value m", &c->value_m, value, true},
        {"value v", &c->value_v, value, false},
        {"orm", &c->orm, orm, true},
    };
    memcpy(ret, sections, sizeof sections);
}

struct checkpoint_parts checkpoint_parts(const struct checkpoint *c)
{
    return (struct checkpoint_parts){c->reference != NULL, c->value_units, c->orm != NULL};
}

size_t checkpoint_bytes(const struct model_config *config, const struct checkpoint_parts *parts)
{
    struct checkpoint c = {.config = *config};
    struct section sections[CHECKPOINT_SECTIONS];
    size_t end = CHECKPOINT_HEADER_BYTES;
    list_sections(&c, parts, sections);
    for (size_t i = 0; i < CHECKPOINT_SECTIONS; i++) {
        if (sections[i].count > 0) end = ROUND_UP(end) + sections[i].count * sizeof(float);
    }
    return end;
}

static uint32_t flags_of(const struct checkpoint *c)
{
    return (c->reference ? HAS_REFERENCE : 0) | (c->value_units > 0 ? HAS_VALUE : 0) | (c->orm ? HAS_ORM : 0);
}

static void write_header(const struct checkpoint *c, uint8_t *header)
{
    memset(header, 0, CHECKPOINT_HEADER_BYTES);
    struct header_writer w = {header, CHECKPOINT_HEADER_BYTES, 0};
    header_put(&w, MAGIC, sizeof MAGIC);
    header_put_u32(&w, HEADER_FORMAT);
    header_put_u32(&w, CHECKPOINT_HEADER_BYTES);
    header_put_u32(&w, flags_of(c));
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
    header_put_u64(&w, c->value_units);
    header_put_u64(&w, c->value_step);
    header_put_u64(&w, (uint64_t)c->phase);
    header_put_u64(&w, (uint64_t)c->orm_version);
}

void checkpoint_encode(const struct checkpoint *checkpoint, uint8_t *header, struct span ret[CHECKPOINT_SPANS],
                       size_t *ret_count)
{
    struct checkpoint c = *checkpoint;
    const struct checkpoint_parts parts = checkpoint_parts(checkpoint);
    struct section sections[CHECKPOINT_SECTIONS];
    size_t n = 0, end = CHECKPOINT_HEADER_BYTES;
    write_header(checkpoint, header);
    list_sections(&c, &parts, sections);
    ret[n++] = span_of(header, CHECKPOINT_HEADER_BYTES);
    for (size_t i = 0; i < CHECKPOINT_SECTIONS; i++) {
        size_t bytes = sections[i].count * sizeof(float);
        if (bytes == 0) continue;
        if (ROUND_UP(end) > end) ret[n++] = span_of(ZEROS, ROUND_UP(end) - end);
        ret[n++] = span_of(*sections[i].at, bytes);
        end = ROUND_UP(end) + bytes;
    }
    *ret_count = n;
}

static err_t read_frame(struct header_reader *r, uint32_t *ret_format, uint32_t *ret_flags)
{
    if (memcmp(header_get(r, sizeof MAGIC), MAGIC, sizeof MAGIC) != 0)
        return err_set(ERR_malformed, "not a checkpoint: bad magic");
    uint32_t format = header_get_u32(r), header_bytes = header_get_u32(r), flags = header_get_u32(r);
    if (format < 1 || format > HEADER_FORMAT)
        return err_set(ERR_malformed, "checkpoint format %u; this build reads 1 to %d", format, HEADER_FORMAT);
    if (header_bytes != CHECKPOINT_HEADER_BYTES)
        return err_set(ERR_malformed, "a checkpoint header of %u bytes; format %u has %d", header_bytes, format,
                       CHECKPOINT_HEADER_BYTES);
    uint32_t known = format > 1 ? HAS_REFERENCE | HAS_VALUE | HAS_ORM : HAS_REFERENCE;
    if (flags & ~known) return err_set(ERR_malformed, "checkpoint flags %#x: only those in %#x have a meaning", flags, known);
    *ret_format = format;
    *ret_flags = flags;
    return ERR_ok;
}

/* What format 2 added. */
static err_t read_methods(struct header_reader *r, uint32_t flags, struct checkpoint *c)
{
    uint64_t units = header_get_u64(r);
    c->value_step = header_get_u64(r);
    c->phase = (int64_t)header_get_u64(r);
    c->orm_version = (int64_t)header_get_u64(r);
    if (units > VALUE_HEAD_UNITS_MOST || (units > 0) != ((flags & HAS_VALUE) != 0))
        return err_set(ERR_malformed, "a value head of %lu units, flags %#x", (unsigned long)units, flags);
    if (c->phase < 0 || c->orm_version < 0 || c->orm_version > c->phase)
        return err_set(ERR_malformed, "phase %ld, outcome reward model %ld: none below 0, no model past its phase",
                       (long)c->phase, (long)c->orm_version);
    c->value_units = (size_t)units;
    return ERR_ok;
}

static err_t read_fields(struct header_reader *r, uint32_t format, uint32_t flags, struct checkpoint *c)
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
    TRY(header_get_config(r, format, &c->config));
    TRY(header_get_digest(r, &c->digest));
    if (format > 1) TRY(read_methods(r, flags, c));
    TRY(header_get_end(r));
    c->count = model_parameters(&c->config);
    if (count != c->count)
        return err_set(ERR_malformed, "%lu parameters; the config has %zu", (unsigned long)count, c->count);
    return ERR_ok;
}

static err_t check_numbers(const struct section *section)
{
    const float *numbers = *section->at;
    for (size_t i = 0; i < section->count; i++) {
        if (!isfinite(numbers[i])) return err_set(ERR_malformed, "%s[%zu] is not finite", section->name, i);
        if (numbers[i] < 0 && !section->may_be_negative)
            return err_set(ERR_malformed, "%s[%zu] is below 0", section->name, i);
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

/* the sections' places, once the whole size is known to fit, and their numbers */
static err_t open_sections(const uint8_t *bytes, const struct checkpoint_parts *parts, struct checkpoint *c)
{
    struct section sections[CHECKPOINT_SECTIONS];
    size_t end = CHECKPOINT_HEADER_BYTES;
    list_sections(c, parts, sections);
    for (size_t i = 0; i < CHECKPOINT_SECTIONS; i++) {
        if (sections[i].count == 0) continue;
        *sections[i].at = (const float *)(const void *)(bytes + ROUND_UP(end));
        end = ROUND_UP(end) + sections[i].count * sizeof(float);
        TRY(check_numbers(&sections[i]));
    }
    return ERR_ok;
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
    uint32_t format = 0, flags = 0;
    TRY(read_frame(&r, &format, &flags));
    TRY(read_fields(&r, format, flags, &c));
    const struct checkpoint_parts parts = {(flags & HAS_REFERENCE) != 0, c.value_units, (flags & HAS_ORM) != 0};
    if (bytes.size != checkpoint_bytes(&c.config, &parts))
        return err_set(ERR_malformed, "a checkpoint of %zu bytes; its header makes %zu", bytes.size,
                       checkpoint_bytes(&c.config, &parts));
    TRY(open_sections(bytes.data, &parts, &c));
    TRY(check_digest(&c));
    *ret = c;
    return ERR_ok;
}
