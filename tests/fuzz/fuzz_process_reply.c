/* The process protocol on arbitrary bytes: a reply is read or refused, an action and a task become exactly one line. */
#include "env/process_codec.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_one_line(const struct buf *out)
{
    BUG_IF(out->size == 0 || memchr(out->data, '\n', out->size) != out->data + out->size - 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span bytes = span_of(data, size);
    AUTO(arena) arena = {0};
    arena_init(&arena, 1 << 20);
    struct process_reply reply;
    if (process_read_reply(bytes, &arena, &reply) == ERR_ok) {
        BUG_IF(!isfinite(reply.reward) || reply.text.size > PROCESS_LINE_BYTES || reply.expert.size > PROCESS_EXPERT_BYTES);
        BUG_IF(reply.error.size && (reply.text.size || reply.terminated));
    }

    AUTO(buf) out = {0};
    buf_init(&out, 1 << 20);
    if (process_write_step(bytes, &out) == ERR_ok) check_one_line(&out);
    buf_clear(&out);
    struct process_reset reset = {.task_text = bytes, .expert = true, .hint = true, .noise = .5};
    if (process_write_reset(&reset, &out) == ERR_ok) check_one_line(&out);
    return 0;
}
