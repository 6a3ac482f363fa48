/* checkpoint_open on arbitrary bytes: a clear refusal or a valid file, never a crash. */
#include "trainer/checkpoint.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    void *copy = NULL;
    if (posix_memalign(&copy, 64, size) != 0) return 0; /* exact, so that reading past the end is seen */
    memcpy(copy, data, size);
    struct checkpoint file;
    if (checkpoint_open(span_of(copy, size), &file) == ERR_ok) BUG_IF(file.count != model_parameters(&file.config));
    free(copy);
    return 0;
}
