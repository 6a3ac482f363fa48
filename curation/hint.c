#include "curation/hint.h"

bool hint_wanted(double mean_reward, double threshold)
{
    return mean_reward <= threshold;
}

static err_t append_line(struct span text, struct buf *out)
{
    size_t from = out->size;
    TRY(buf_append(out, text.data, text.size));
    for (size_t i = from; i < out->size; i++) {
        if (out->data[i] == '\n' || out->data[i] == '\r') out->data[i] = ' ';
    }
    return ERR_ok;
}

err_t hint_render(struct span template, struct span hint, struct buf *out)
{
    const struct span mark = span_text(HINT_MARK);
    size_t from = out->size, at = 0, marks = 0;
    while (at < template.size) {
        if (template.size - at >= mark.size && memcmp(template.data + at, mark.data, mark.size) == 0) {
            TRY(append_line(hint, out));
            at += mark.size;
            marks++;
        } else {
            TRY(append_line(span_of(template.data + at, 1), out));
            at++;
        }
        if (out->size - from > HINT_BYTES)
            return err_set(ERR_too_large, "a hint of more than %d bytes, its template included", HINT_BYTES);
    }
    return marks ? ERR_ok : err_set(ERR_invalid, "the template has no " HINT_MARK);
}
