/* tokenizer_open on arbitrary bytes: a clear refusal, or a tokenizer that encodes and decodes. */
#include "trainer/model/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "I'll take  2 keys\r\n\tfrom \xc3\xa9\xff\xe2\x82<mask> <|im_end|>";
    AUTO_PTR(tokenizer) t = NULL;
    AUTO(buf) back = {0};
    int32_t ids[256];
    size_t count = 0;
    if (tokenizer_open(span_of(data, size), &t) != ERR_ok) return 0;
    BUG_IF(!t);
    if (tokenizer_encode_special(t, span_of(text, sizeof text - 1), ids, 256, &count) != ERR_ok) return 0;
    for (size_t i = 0; i < count; i++) BUG_IF(ids[i] < 0 || ids[i] >= tokenizer_vocab(t));
    BUG_IF(tokenizer_decode(t, ids, count, &back) != ERR_ok);
    return 0;
}
