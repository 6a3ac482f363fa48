/* A safetensors file: named tensors behind a JSON header.
 *
 *     u64 N | N bytes of JSON | data
 *
 * Opening checks everything that a reader trusts later: the header lies within the file and is an object without duplicate
 * keys, every type is known, every size is its shape's, and the tensors cover the data without holes or overlap. Nothing of
 * the data is touched until a tensor is read, so a span may be a mapped file. F32, F16 and BF16 can be read (to fp32) and
 * written; other types are known by size and refused by name when they are asked for. */
#ifndef PAL_TRAINER_MODEL_SAFETENSORS_H
#define PAL_TRAINER_MODEL_SAFETENSORS_H

#include "services/common/base/buf.h"

#define SAFETENSORS_HEADER_BYTES ((size_t)32 << 20) /* longest header */
#define SAFETENSORS_TENSORS      65536              /* most of a file */
#define SAFETENSORS_RANK         8
#define SAFETENSORS_NAME_BYTES   256

enum safetensors_type {
#define DTYPE(name, bits) SAFETENSORS_##name,
#include "trainer/model/safetensors.def"
#undef DTYPE
    SAFETENSORS_TYPE_COUNT
};

const char *safetensors_type_name(enum safetensors_type type);
/* Looks "BF16" up; false when there is none such. */
bool safetensors_type_find(const char *name, enum safetensors_type *ret);

struct safetensor {
    char name[SAFETENSORS_NAME_BYTES];
    enum safetensors_type type;
    size_t rank;
    size_t shape[SAFETENSORS_RANK];
    size_t count; /* elements */
    size_t begin; /* bytes, from the beginning of the data */
    size_t end;
};

struct safetensors;

/* bytes outlive the result. ERR_malformed says what is wrong and with which tensor. */
err_t safetensors_open(struct span bytes, struct safetensors **ret) MUST_USE;
void safetensors_free(struct safetensors **file);

size_t safetensors_count(const struct safetensors *file);
const struct safetensor *safetensors_at(const struct safetensors *file, size_t index);       /* in the order of the data */
const struct safetensor *safetensors_find(const struct safetensors *file, const char *name); /* NULL: none */

/* The tensor's elements as fp32 to [count]. ERR_unsupported names a type that cannot be read, ERR_numeric an element that
 * is not finite. */
err_t safetensors_read(const struct safetensors *file, const struct safetensor *tensor, float *to) MUST_USE;

/* Appends what stands before the data: length, header with metadata {"format": "pt"}, spaces up to a multiple of 8. The
 * tensors' begin and end are set here, one behind the other in the order given; their data follows in that order. */
err_t safetensors_header(struct safetensor *tensors, size_t count, struct buf *out) MUST_USE;
/* fp32 elements as the type's bytes (round to nearest even) to [count * size]. Type: F32, F16 or BF16. */
void safetensors_write(enum safetensors_type type, const float *from, size_t count, uint8_t *to);
size_t safetensors_bits(enum safetensors_type type);

#endif
