#include "env/kit.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define KIT_KEY_BYTES 32

void kit_text(char *text, size_t size, const char *fmt, ...)
{
    size_t used = strlen(text);
    va_list args;
    va_start(args, fmt);
    if (used < size) (void)vsnprintf(text + used, size - used, fmt, args);
    va_end(args);
}

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

struct span kit_trim(struct span text)
{
    while (text.size && is_space(text.data[0])) text = span_of(text.data + 1, text.size - 1);
    while (text.size && is_space(text.data[text.size - 1])) text.size--;
    return text;
}

struct span kit_word(struct span *rest)
{
    struct span text = kit_trim(*rest);
    size_t n = 0;
    while (n < text.size && !is_space(text.data[n])) n++;
    *rest = n < text.size ? kit_trim(span_of(text.data + n, text.size - n)) : (struct span){NULL, 0};
    return span_of(text.data, n);
}

void kit_answer(struct env_obs *ret, const char *text)
{
    *ret = (struct env_obs){0};
    kit_text(ret->text, sizeof ret->text, "%s", text);
}

void kit_end(struct env_obs *ret, const char *text, double reward)
{
    kit_answer(ret, text);
    ret->reward = reward;
    ret->terminated = true;
}

void kit_rng(const struct kit_task *task, uint64_t salt, struct rng *ret)
{
    rng_init(ret, rng_mix(task->seed, (uint64_t)task->level), salt);
}

void kit_shuffle(struct rng *rng, uint8_t *items, size_t count)
{
    for (size_t i = count; i > 1; i--) {
        size_t j = rng_below(rng, (uint32_t)i);
        uint8_t t = items[i - 1];
        items[i - 1] = items[j];
        items[j] = t;
    }
}

static const char *find_variant(const struct kit_rules *rules, struct span name)
{
    for (const char *const *v = rules->variants; v && *v; v++) {
        if (span_is(name, *v)) return *v;
    }
    return NULL;
}

err_t kit_generate(const struct kit_rules *rules, int32_t level, uint64_t seed, const char *variant, struct env_task *ret)
{
    if (level < 1 || level > rules->levels)
        return err_set(ERR_invalid, "level: %s has levels 1 to %d, not %d", rules->name, rules->levels, level);
    if (variant && !find_variant(rules, span_text(variant)))
        return err_set(ERR_invalid, "variant: %s has no \"%.64s\"", rules->name, variant);
    *ret = (struct env_task){.level = level, .seed = seed & KIT_SEED_MAX};
    kit_text(ret->text, sizeof ret->text, "{\"level\":%d,\"seed\":%" PRIu64, level, ret->seed);
    if (variant) kit_text(ret->text, sizeof ret->text, ",\"variant\":\"%s\"", variant);
    kit_text(ret->text, sizeof ret->text, "}");
    return ERR_ok;
}

err_t kit_mutate(const struct kit_rules *rules, const struct env_task *task, enum env_mutation kind, uint64_t seed,
                 struct env_task *ret)
{
    struct kit_task from;
    TRY(kit_parse(rules, span_text(task->text), &from));
    int32_t level = from.level;
    if (level <= rules->last_step) {
        if (kind == ENV_MUTATION_HARDER && level < rules->last_step) level++;
        if (kind == ENV_MUTATION_EASIER && level > 1) level--;
    }
    return kit_generate(rules, level, rng_mix(from.seed, seed), from.variant, ret);
}

/* ---- the reader ---- */

static void skip_spaces(struct span *in)
{
    while (in->size && is_space(in->data[0])) *in = span_of(in->data + 1, in->size - 1);
}

static bool take_char(struct span *in, char c)
{
    skip_spaces(in);
    if (!in->size || in->data[0] != (uint8_t)c) return false;
    *in = span_of(in->data + 1, in->size - 1);
    return true;
}

/* A string without escapes: our keys and variants have none. */
static bool take_string(struct span *in, struct span *ret)
{
    if (!take_char(in, '"')) return false;
    size_t n = 0;
    while (n < in->size && in->data[n] != '"') {
        if (in->data[n] == '\\' || in->data[n] < 0x20 || in->data[n] > 0x7e) return false;
        n++;
    }
    if (n == in->size) return false;
    *ret = span_of(in->data, n);
    *in = span_of(in->data + n + 1, in->size - n - 1);
    return true;
}

/* A whole number without sign, fraction or exponent, at most KIT_SEED_MAX. */
static bool take_number(struct span *in, uint64_t *ret)
{
    skip_spaces(in);
    uint64_t value = 0;
    size_t n = 0;
    while (n < in->size && in->data[n] >= '0' && in->data[n] <= '9') {
        value = value * 10 + (uint64_t)(in->data[n] - '0');
        if (++n > 16 || value > KIT_SEED_MAX) return false;
    }
    if (n == 0 || (n > 1 && in->data[0] == '0')) return false;
    *ret = value;
    *in = span_of(in->data + n, in->size - n);
    return true;
}

enum key { KEY_LEVEL = 1, KEY_SEED = 2, KEY_VARIANT = 4 };

static err_t read_member(const struct kit_rules *rules, struct span *in, unsigned *seen, struct kit_task *ret)
{
    struct span name, text;
    uint64_t number;
    if (!take_string(in, &name) || !take_char(in, ':')) return err_set(ERR_malformed, "task: not a JSON object");
    unsigned key = span_is(name, "level")                                ? KEY_LEVEL
                   : span_is(name, "seed")                               ? KEY_SEED
                   : span_is(name, "variant") && rules->variants != NULL ? KEY_VARIANT
                                                                         : 0;
    int shown = name.size > KIT_KEY_BYTES ? KIT_KEY_BYTES : (int)name.size;
    if (!key) return err_set(ERR_malformed, "%.*s: %s tasks have no such field", shown, (const char *)name.data, rules->name);
    if (*seen & key) return err_set(ERR_malformed, "%.*s: twice", shown, (const char *)name.data);
    *seen |= key;
    if (key == KEY_VARIANT) {
        if (!take_string(in, &text)) return err_set(ERR_malformed, "variant: not a plain string");
        ret->variant = find_variant(rules, text);
        return ret->variant ? ERR_ok : err_set(ERR_malformed, "variant: %s has no such variant", rules->name);
    }
    if (!take_number(in, &number))
        return err_set(ERR_malformed, "%s: not a whole number up to 2^53 - 1", key == KEY_SEED ? "seed" : "level");
    if (key == KEY_SEED) {
        ret->seed = number;
        return ERR_ok;
    }
    if (number < 1 || number > (uint64_t)rules->levels)
        return err_set(ERR_malformed, "level: %s has levels 1 to %d", rules->name, rules->levels);
    ret->level = (int32_t)number;
    return ERR_ok;
}

err_t kit_parse(const struct kit_rules *rules, struct span text, struct kit_task *ret)
{
    *ret = (struct kit_task){0};
    if (text.size >= ENV_TASK_BYTES) return err_set(ERR_malformed, "task: longer than %d bytes", ENV_TASK_BYTES - 1);
    unsigned seen = 0;
    if (!take_char(&text, '{')) return err_set(ERR_malformed, "task: not a JSON object");
    do {
        TRY(read_member(rules, &text, &seen, ret));
    } while (take_char(&text, ','));
    if (!take_char(&text, '}')) return err_set(ERR_malformed, "task: not a JSON object");
    skip_spaces(&text);
    if (text.size) return err_set(ERR_malformed, "task: bytes after the object");
    if (!(seen & KEY_LEVEL)) return err_set(ERR_malformed, "level: missing");
    if (!(seen & KEY_SEED)) return err_set(ERR_malformed, "seed: missing");
    return ERR_ok;
}
