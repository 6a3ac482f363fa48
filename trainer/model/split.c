#include "trainer/model/split.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>

#define MATCH_STEPS 10000000 /* of one match: a runaway expression is an error, not a hang */
#define MATCH_KIB   65536
#define SPACES      "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"

struct split {
    pcre2_code *code;
    pcre2_match_context *limits;
};

/* ---- Oniguruma to PCRE2 ---- */

struct translation {
    struct span pattern;
    size_t at;
    bool in_class;
    struct buf *out;
};

static bool next_is(const struct translation *t, const char *text)
{
    size_t n = strlen(text);
    return t->pattern.size - t->at >= n && memcmp(t->pattern.data + t->at, text, n) == 0;
}

static bool is_alnum(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static err_t translate_escape(struct translation *t)
{
    if (t->pattern.size - t->at < 2) return err_set(ERR_malformed, "pattern: it ends with a backslash");
    uint8_t c = t->pattern.data[t->at + 1];
    t->at += 2;
    if (c == 's') return buf_text(t->out, t->in_class ? SPACES : "[" SPACES "]");
    if (c == 'S' && !t->in_class) return buf_text(t->out, "[^" SPACES "]");
    if (is_alnum(c) && (!strchr("pPdDrntfx", c)))
        return err_set(ERR_unsupported, "pattern: \\%c%s means different things in different engines", c,
                       t->in_class ? " within a class" : "");
    return buf_printf(t->out, "\\%c", c);
}

static err_t translate_group(struct translation *t)
{
    static const char *const groups[] = {"(?i:", "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        if (!next_is(t, groups[i])) continue;
        t->at += strlen(groups[i]);
        return buf_text(t->out, groups[i]);
    }
    if (next_is(t, "(?"))
        return err_set(ERR_unsupported, "pattern: the group at byte %zu is not translated: %.4s", t->at,
                       (const char *)t->pattern.data + t->at);
    t->at++;
    return buf_text(t->out, "(?:");
}

static err_t translate_class(struct translation *t)
{
    bool negated = next_is(t, "[^");
    t->at += negated ? 2 : 1;
    t->in_class = true;
    TRY(buf_text(t->out, negated ? "[^" : "["));
    /* "[]abc]": a bracket that stands first is a character in one engine only */
    return next_is(t, "]") ? err_set(ERR_unsupported, "pattern: an empty class at byte %zu", t->at) : ERR_ok;
}

static err_t translate_one(struct translation *t)
{
    uint8_t c = t->pattern.data[t->at];
    if (c == '\\') return translate_escape(t);
    if (t->in_class && (c == '[' || next_is(t, "&&")))
        return err_set(ERR_unsupported, "pattern: a class within a class at byte %zu", t->at);
    if (!t->in_class && (c == '^' || c == '$'))
        return err_set(ERR_unsupported, "pattern: the anchor %c at byte %zu", c, t->at);
    if (!t->in_class && c == '(') return translate_group(t);
    if (!t->in_class && c == '[') return translate_class(t);
    if (!t->in_class && next_is(t, "{,")) return err_set(ERR_unsupported, "pattern: {, at byte %zu", t->at);
    if (c == ']') t->in_class = false;
    t->at++;
    return buf_append(t->out, &c, 1);
}

err_t split_translate(struct span pattern, struct buf *out)
{
    struct translation t = {pattern, 0, false, out};
    while (t.at < pattern.size) TRY(translate_one(&t));
    return ERR_ok;
}

/* ---- life ---- */

static err_t compile(struct split *s, struct span pattern)
{
    AUTO(buf) translated = {0};
    int code = 0;
    PCRE2_SIZE at = 0;
    if (pattern.size > SPLIT_PATTERN_BYTES)
        return err_set(ERR_too_large, "a pattern of %zu bytes; at most %d are allowed", pattern.size, SPLIT_PATTERN_BYTES);
    TRY(split_translate(pattern, &translated));
    s->code = pcre2_compile((PCRE2_SPTR)buf_chars(&translated), translated.size,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &at, NULL);
    if (!s->code) {
        PCRE2_UCHAR why[128] = "";
        (void)pcre2_get_error_message(code, why, sizeof why);
        return err_set(ERR_malformed, "pattern: %s at byte %zu of %.100s", (const char *)why, (size_t)at,
                       buf_chars(&translated));
    }
    s->limits = pcre2_match_context_create(NULL);
    if (!s->limits) return err_set(ERR_memory, "a pattern");
    (void)pcre2_set_match_limit(s->limits, MATCH_STEPS);
    (void)pcre2_set_heap_limit(s->limits, MATCH_KIB);
    return ERR_ok;
}

err_t split_new(struct split **ret, struct span pattern)
{
    struct split *s = calloc(1, sizeof *s);
    if (!s) return err_set(ERR_memory, "a pattern");
    err_t err = compile(s, pattern);
    if (err != ERR_ok)
        split_free(&s);
    else
        *ret = s;
    return err;
}

void split_free(struct split **split)
{
    struct split *s = *split;
    *split = NULL;
    if (!s) return;
    pcre2_code_free(s->code);
    pcre2_match_context_free(s->limits);
    free(s);
}

/* ---- cutting ---- */

struct cut {
    struct split *const *splits;
    pcre2_match_data *data[SPLIT_MOST]; /* of each level */
    size_t count;
    err_t (*piece)(void *ctx, struct span piece);
    void *ctx;
};

/* the next match at or after `from`, or size when there is none */
static err_t match(const struct split *s, pcre2_match_data *data, struct span text, size_t from, size_t *begin, size_t *end)
{
    int rc = pcre2_match(s->code, text.data, text.size, from, PCRE2_NO_UTF_CHECK, data, s->limits);
    *begin = *end = text.size;
    if (rc == PCRE2_ERROR_NOMATCH) return ERR_ok;
    if (rc < 0) return err_set(ERR_too_large, "splitting a text of %zu bytes: PCRE2 gives up (%d)", text.size, rc);
    const PCRE2_SIZE *place = pcre2_get_ovector_pointer(data);
    *begin = place[0];
    *end = place[1];
    return ERR_ok;
}

static err_t cut_level(const struct cut *cut, size_t level, struct span text)
{
    size_t done = 0, from = 0, begin = 0, end = 0;
    if (level == cut->count) return cut->piece(cut->ctx, text);
    while (from < text.size) {
        TRY(match(cut->splits[level], cut->data[level], text, from, &begin, &end));
        if (end == begin && end < text.size) { /* an empty match cuts, and the search goes on at the next character */
            from = begin + 1;
            while (from < text.size && (text.data[from] & 0xc0) == 0x80) from++;
        } else {
            from = end;
        }
        if (begin > done) TRY(cut_level(cut, level + 1, span_of(text.data + done, begin - done)));
        if (end > begin) TRY(cut_level(cut, level + 1, span_of(text.data + begin, end - begin)));
        done = end > begin ? end : begin;
    }
    return done < text.size ? cut_level(cut, level + 1, span_of(text.data + done, text.size - done)) : ERR_ok;
}

err_t split_each(struct split *const *splits, size_t count, struct span text, err_t (*piece)(void *ctx, struct span piece),
                 void *ctx)
{
    struct cut cut = {.splits = splits, .count = count, .piece = piece, .ctx = ctx};
    BUG_IF(count > SPLIT_MOST);
    if (text.size == 0) return ERR_ok;
    bool good = true;
    for (size_t i = 0; i < count; i++) good = (cut.data[i] = pcre2_match_data_create(1, NULL)) != NULL && good;
    err_t err = good ? cut_level(&cut, 0, text) : err_set(ERR_memory, "splitting a text");
    for (size_t i = 0; i < count; i++) pcre2_match_data_free(cut.data[i]);
    return err;
}
