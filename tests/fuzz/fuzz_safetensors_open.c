/* safetensors_open on arbitrary bytes: a clear refusal, or tensors that can be read or are refused by type. */
#include "trainer/model/safetensors.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_PTR(safetensors) file = NULL;
    uint8_t *copy = malloc(size + 1); /* exact but for one byte, so that reading past the end is seen */
    if (!copy) return 0;
    if (size > 0) memcpy(copy + 1, data, size);
    if (safetensors_open(span_of(copy + 1, size), &file) == ERR_ok) {
        BUG_IF(!file);
        for (size_t i = 0; i < safetensors_count(file); i++) {
            const struct safetensor *t = safetensors_at(file, i);
            BUG_IF(safetensors_find(file, t->name) != t || t->end > size);
            float *to = malloc(t->count * sizeof *to + 1);
            if (to && t->count <= size) (void)!safetensors_read(file, t, to);
            free(to);
        }
    }
    safetensors_free(&file);
    free(copy);
    return 0;
}
