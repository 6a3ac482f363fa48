/* Files of tests/golden, read whole. */
#ifndef PAL_TESTS_TRAINER_MODEL_GOLDEN_H
#define PAL_TESTS_TRAINER_MODEL_GOLDEN_H

#include "services/common/base/buf.h"

#include <check.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

/* name is a path within tests/golden/hf; the caller frees data */
static inline struct span golden_read(const char *name)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/tests/golden/hf/%s", PAL_SOURCE_DIR, name);
    FILE *file = fopen(path, "rb");
    ck_assert_msg(file != NULL, "%s", path);
    ck_assert_int_eq(fseek(file, 0, SEEK_END), 0);
    long size = ftell(file);
    ck_assert_int_ge(size, 0);
    rewind(file);
    uint8_t *bytes = malloc((size_t)size + 1);
    ck_assert_ptr_nonnull(bytes);
    ck_assert_uint_eq(fread(bytes, 1, (size_t)size, file), (size_t)size);
    bytes[size] = 0;
    (void)fclose(file);
    return span_of(bytes, (size_t)size);
}

static inline void golden_free(struct span bytes)
{
    free((void *)(uintptr_t)bytes.data);
}

static inline json_t *golden_json(const char *name)
{
    struct span bytes = golden_read(name);
    json_t *json = json_loadb((const char *)bytes.data, bytes.size, 0, NULL);
    ck_assert_msg(json != NULL, "%s", name);
    golden_free(bytes);
    return json;
}

#endif
