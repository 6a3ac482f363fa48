#include "trainer/header.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "weights are written as they lie in memory");
_Static_assert(sizeof(float) == 4, "fp32");

void header_put(struct header_writer *writer, const void *bytes, size_t size)
{
    BUG_IF(size > writer->size - writer->at);
    memcpy(writer->bytes + writer->at, bytes, size);
    writer->at += size;
}

void header_put_u32(struct header_writer *writer, uint32_t value)
{
    header_put(writer, &value, sizeof value);
}

void header_put_u64(struct header_writer *writer, uint64_t value)
{
    header_put(writer, &value, sizeof value);
}

void header_put_digest(struct header_writer *writer, const struct digest *digest)
{
    header_put(writer, digest->hex, DIGEST_HEX_BYTES - 1);
}

void header_put_config(struct header_writer *writer, const struct model_config *config)
{
    const struct model_config *c = config;
    const int32_t sizes[] = {c->vocab,    c->vocab_padded, c->layers, c->width,        c->heads,
                             c->kv_heads, c->head_dim,     c->ff,     c->max_positions};
    header_put(writer, sizes, sizeof sizes);
    header_put(writer, &c->rope_theta, sizeof c->rope_theta);
    header_put(writer, &c->rms_eps, sizeof c->rms_eps);
    const struct rope_scaling *s = &c->rope_scaling;
    header_put_u32(writer, (uint32_t)s->kind);
    header_put(writer, &s->factor, sizeof s->factor);
    header_put(writer, &s->low_freq_factor, sizeof s->low_freq_factor);
    header_put(writer, &s->high_freq_factor, sizeof s->high_freq_factor);
    header_put(writer, &s->original_positions, sizeof s->original_positions);
    header_put_u32(writer, (c->qkv_bias ? 1u : 0u) | (c->tied ? 2u : 0u));
}

const uint8_t *header_get(struct header_reader *reader, size_t size)
{
    BUG_IF(size > reader->size - reader->at);
    const uint8_t *at = reader->bytes + reader->at;
    reader->at += size;
    return at;
}

uint32_t header_get_u32(struct header_reader *reader)
{
    uint32_t value;
    memcpy(&value, header_get(reader, sizeof value), sizeof value);
    return value;
}

uint64_t header_get_u64(struct header_reader *reader)
{
    uint64_t value;
    memcpy(&value, header_get(reader, sizeof value), sizeof value);
    return value;
}

err_t header_get_digest(struct header_reader *reader, struct digest *ret)
{
    struct digest digest = {0};
    memcpy(digest.hex, header_get(reader, DIGEST_HEX_BYTES - 1), DIGEST_HEX_BYTES - 1);
    if (strspn(digest.hex, "0123456789abcdef") != DIGEST_HEX_BYTES - 1)
        return err_set(ERR_malformed, "the digest is not 64 lower-case hex digits");
    *ret = digest;
    return ERR_ok;
}

static err_t get_rope_scaling(struct header_reader *reader, struct rope_scaling *ret)
{
    struct rope_scaling s = {.kind = ROPE_SCALING_none};
    uint32_t kind = header_get_u32(reader);
    float *const factors[] = {&s.factor, &s.low_freq_factor, &s.high_freq_factor};
    for (size_t i = 0; i < sizeof factors / sizeof *factors; i++) memcpy(factors[i], header_get(reader, 4), 4);
    memcpy(&s.original_positions, header_get(reader, 4), 4);
    if (kind > ROPE_SCALING_llama3)
        return err_set(ERR_malformed, "rope scaling %u: 0 to %d have a meaning", kind, ROPE_SCALING_llama3);
    s.kind = (enum rope_scaling_kind)kind;
    *ret = s;
    return ERR_ok;
}

err_t header_get_config(struct header_reader *reader, uint32_t format, struct model_config *ret)
{
    struct model_config c = {0};
    int32_t *const sizes[] = {&c.vocab,    &c.vocab_padded, &c.layers, &c.width,        &c.heads,
                              &c.kv_heads, &c.head_dim,     &c.ff,     &c.max_positions};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) memcpy(sizes[i], header_get(reader, 4), 4);
    memcpy(&c.rope_theta, header_get(reader, 4), 4);
    memcpy(&c.rms_eps, header_get(reader, 4), 4);
    if (format > 1) TRY(get_rope_scaling(reader, &c.rope_scaling));
    uint32_t flags = header_get_u32(reader);
    if (flags > 3) return err_set(ERR_malformed, "model flags %#x: only bits 0 and 1 have a meaning", flags);
    c.qkv_bias = (flags & 1) != 0;
    c.tied = (flags & 2) != 0;
    if (model_config_check(&c) != ERR_ok) return err_prefix(ERR_malformed, "model config");
    *ret = c;
    return ERR_ok;
}

err_t header_get_end(struct header_reader *reader)
{
    for (size_t i = reader->at; i < reader->size; i++) {
        if (reader->bytes[i] != 0) return err_set(ERR_malformed, "header byte %zu is not 0", i);
    }
    return ERR_ok;
}
