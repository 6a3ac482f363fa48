/* policy_file_open on arbitrary bytes: a clear refusal or a valid file, never a crash. */
#include "trainer/policy_file.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    void *copy = NULL;
    if (posix_memalign(&copy, 64, size) != 0) return 0; /* exact, so that reading past the end is seen */
    memcpy(copy, data, size);
    struct policy_file file;
    if (policy_file_open(span_of(copy, size), &file) == ERR_ok) BUG_IF(file.count != model_parameters(&file.config));
    free(copy);
    return 0;
}
