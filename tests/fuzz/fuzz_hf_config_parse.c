/* hf_config_parse and hf_generation_parse on arbitrary bytes; a config that is taken reads back the same when written. */
#include "trainer/model/hf_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hf_config config, back;
    struct hf_ends ends = {.count = 0};
    AUTO(buf) json = {0};
    if (hf_generation_parse(span_of(data, size), &ends) == ERR_ok) BUG_IF(ends.count > HF_ENDS);
    if (hf_config_parse(span_of(data, size), &config) != ERR_ok) return 0;
    if (hf_config_write(&config, "float32", &json) != ERR_ok) return 0;
    BUG_IF(hf_config_parse(buf_span(&json), &back) != ERR_ok || !model_config_equal(&config.model, &back.model));
    return 0;
}
