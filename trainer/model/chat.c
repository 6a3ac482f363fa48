#include "trainer/model/chat.h"

#include <stdio.h>
#include <stdlib.h>

struct row {
    const char *name;
    const char *marks;
    const char *hint;
    const char *opening;
    const char *turn;
    const char *close;
    const char *after;
    bool trim;
};

static const struct row ROWS[] = {
#define CHAT(name, marks, hint, opening, turn, close, after, trim) {name, marks, hint, opening, turn, close, after, trim},
#include "trainer/model/chat.def"
#undef CHAT
};
#define ROW_COUNT (sizeof ROWS / sizeof *ROWS)

struct chat {
    const struct row *row;
    const struct tokenizer *tokenizer;
    int32_t close;
};

/* ---- which one ---- */

static bool contains(struct span text, struct span what)
{
    return what.size <= text.size && memmem(text.data, text.size, what.data, what.size) != NULL;
}

/* "<|im_end|>|You are": marks are apart where a "|" is neither of "<|" nor of "|>" */
static struct span next_mark(const char **at)
{
    const char *begin = *at, *end = begin;
    while (*end && !(*end == '|' && end[1] != '>' && end > begin && end[-1] != '<')) end++;
    *at = *end ? end + 1 : end;
    return span_of(begin, (size_t)(end - begin));
}

static bool has_marks(struct span jinja, const char *marks)
{
    while (*marks) {
        if (!contains(jinja, next_mark(&marks))) return false;
    }
    return true;
}

static err_t find_row(struct span jinja, const struct row **ret)
{
    char known[128] = "";
    bool thinks = contains(jinja, span_text("<think>"));
    for (size_t i = 0; i < ROW_COUNT; i++) {
        size_t n = strlen(known);
        (void)snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", ROWS[i].name);
        if (thinks || !has_marks(jinja, ROWS[i].marks)) continue;
        *ret = &ROWS[i];
        return ERR_ok;
    }
    return err_set(ERR_unsupported, "the chat template %s\"%.*s...\" is not one of %s", thinks ? "(with <think>) " : "",
                   (int)(jinja.size < 100 ? jinja.size : 100), (const char *)jinja.data, known);
}

/* ---- rendering ---- */

struct rendering {
    const struct tokenizer *tokenizer;
    struct buf text; /* since the last token of the template */
    int32_t *ids;
    size_t capacity;
    size_t count;
};

static void rendering_fini(struct rendering *r)
{
    buf_fini(&r->text);
}

static err_t flush(struct rendering *r)
{
    size_t count = 0;
    TRY(tokenizer_encode(r->tokenizer, buf_span(&r->text), r->ids + r->count, r->capacity - r->count, &count));
    r->count += count;
    buf_clear(&r->text);
    return ERR_ok;
}

/* "<|im_end|>", if text begins with a token */
static size_t token_size(const char *text)
{
    const char *end = strncmp(text, "<|", 2) == 0 ? strstr(text, "|>") : NULL;
    return end ? (size_t)(end - text) + 2 : 0;
}

static err_t find_token(const struct tokenizer *tokenizer, const char *text, size_t size, int32_t *ret)
{
    char name[64];
    (void)snprintf(name, sizeof name, "%.*s", (int)size, text);
    *ret = tokenizer_special(tokenizer, name);
    return *ret >= 0 ? ERR_ok : err_set(ERR_malformed, "the tokenizer has no token %s, which the chat template needs", name);
}

static err_t render(struct rendering *r, const char *template, struct span observation)
{
    for (const char *at = template; *at;) {
        size_t size = token_size(at);
        int32_t id = -1;
        if (size > 0) {
            TRY(flush(r));
            TRY(find_token(r->tokenizer, at, size, &id));
            if (r->count == r->capacity) return err_set(ERR_too_large, "a turn takes more than %zu tokens", r->capacity);
            r->ids[r->count++] = id;
            at += size;
        } else if (strncmp(at, "{}", 2) == 0) {
            TRY(buf_append(&r->text, observation.data, observation.size));
            at += 2;
        } else {
            TRY(buf_append(&r->text, at++, 1));
        }
    }
    return flush(r);
}

/* as Jinja's trim: ASCII white space is what observations have at their ends */
static struct span trimmed(struct span text)
{
    static const char SPACES[] = " \t\n\r\f\v";
    while (text.size > 0 && memchr(SPACES, text.data[0], sizeof SPACES - 1)) text = span_of(text.data + 1, text.size - 1);
    while (text.size > 0 && memchr(SPACES, text.data[text.size - 1], sizeof SPACES - 1)) text.size--;
    return text;
}

err_t chat_hint(const struct chat *chat, struct span hint, int32_t *ids, size_t capacity, size_t *ret_count)
{
    AUTO(rendering) r = {.tokenizer = chat->tokenizer, .ids = ids, .capacity = capacity};
    TRY(render(&r, chat->row->hint, chat->row->trim ? trimmed(hint) : hint));
    *ret_count = r.count;
    return ERR_ok;
}

err_t chat_between(const struct chat *chat, int32_t last, int32_t *ids, size_t capacity, size_t *ret_count)
{
    AUTO(rendering) r = {.tokenizer = chat->tokenizer, .ids = ids, .capacity = capacity};
    const struct row *row = chat->row;
    struct span nothing = {0};
    if (last < 0) {
        TRY(render(&r, row->opening, nothing));
    } else {
        if (last != chat->close) TRY(render(&r, row->close, nothing));
        TRY(render(&r, row->after, nothing));
    }
    *ret_count = r.count;
    return ERR_ok;
}

err_t chat_message(const struct chat *chat, struct span observation, int32_t *ids, size_t capacity, size_t *ret_count)
{
    AUTO(rendering) r = {.tokenizer = chat->tokenizer, .ids = ids, .capacity = capacity};
    const struct row *row = chat->row;
    TRY(render(&r, row->turn, row->trim ? trimmed(observation) : observation));
    *ret_count = r.count;
    return ERR_ok;
}

err_t chat_turn(const struct chat *chat, int32_t last, struct span observation, int32_t *ids, size_t capacity,
                size_t *ret_count)
{
    size_t between = 0, message = 0;
    TRY(chat_between(chat, last, ids, capacity, &between));
    TRY(chat_message(chat, observation, ids + between, capacity - between, &message));
    *ret_count = between + message;
    return ERR_ok;
}

/* ---- life ---- */

static err_t check_tokens(const struct tokenizer *tokenizer, const char *template)
{
    for (const char *at = template; *at; at++) {
        size_t size = token_size(at);
        int32_t id = -1;
        if (size > 0) TRY(find_token(tokenizer, at, size, &id));
    }
    return ERR_ok;
}

err_t chat_new(struct chat **ret, struct span jinja, const struct tokenizer *tokenizer)
{
    struct chat chat = {.tokenizer = tokenizer, .close = -1};
    TRY(find_row(jinja, &chat.row));
    BUG_IF(!chat.row);
    TRY(check_tokens(tokenizer, chat.row->opening));
    TRY(check_tokens(tokenizer, chat.row->turn));
    TRY(find_token(tokenizer, chat.row->close, strlen(chat.row->close), &chat.close));
    struct chat *made = malloc(sizeof *made);
    if (!made) return err_set(ERR_memory, "a chat template");
    *made = chat;
    *ret = made;
    return ERR_ok;
}

void chat_free(struct chat **chat)
{
    free(*chat);
    *chat = NULL;
}

const char *chat_name(const struct chat *chat)
{
    return chat->row->name;
}

int32_t chat_close(const struct chat *chat)
{
    return chat->close;
}
