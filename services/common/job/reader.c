#include "services/common/job/reader.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#define POINTER_BYTES    256
#define SUGGEST_DISTANCE 3 /* edits within which a key is called a misspelling */

void job_place(char ret[JOB_POINTER_BYTES], const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(ret, JOB_POINTER_BYTES, fmt, args);
    va_end(args);
}

void job_problem(struct job_reader *reader, const char *pointer, const char *fmt, ...)
{
    if (reader->problems->count == JOB_PROBLEMS) return;
    char detail[512];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(detail, sizeof detail, fmt, args);
    va_end(args);
    const char *kept_pointer = arena_text(reader->arena, span_text(pointer));
    const char *kept_detail = arena_text(reader->arena, span_text(detail));
    if (!kept_pointer || !kept_detail) {
        reader->out_of_memory = true;
        return;
    }
    reader->problems->rows[reader->problems->count++] = (struct job_problem){kept_pointer, kept_detail};
}

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        return "null";
    }
    return "something else";
}

/* Levenshtein distance of two short words. */
static size_t distance(const char *a, const char *b)
{
    size_t n = strlen(b), row[64];
    if (n >= 64) return 64;
    for (size_t j = 0; j <= n; j++) row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t change = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            size_t best = row[j - 1] + 1 < row[j] + 1 ? row[j - 1] + 1 : row[j] + 1;
            row[j] = change < best ? change : best;
        }
    }
    return row[n];
}

struct suggestion {
    const char *word;
    const char *best;
    size_t distance;
};

static void consider(struct suggestion *s, const char *key)
{
    size_t d = distance(s->word, key);
    if (d >= s->distance) return;
    s->distance = d;
    s->best = key;
}

static void unknown_key(struct job_reader *reader, const char *pointer, const char *key, const char *best)
{
    char place[JOB_POINTER_BYTES];
    job_place(place, "%s/%s", pointer, key);
    if (best)
        job_problem(reader, place, "is not known; did you mean \"%s\"?", best);
    else
        job_problem(reader, place, "is not known");
}

static bool listed(const char *const *keys, const char *key)
{
    for (; keys && *keys; keys++) {
        if (strcmp(*keys, key) == 0) return true;
    }
    return false;
}

void job_unknown_keys(struct job_reader *reader, json_t *object, const char *pointer, const char *const *keys)
{
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(object, key, value)
    {
        if (key[0] == '_' || listed(keys, key)) continue;
        struct suggestion s = {key, NULL, SUGGEST_DISTANCE + 1};
        for (const char *const *k = keys; k && *k; k++) consider(&s, *k);
        unknown_key(reader, pointer, key, s.best);
    }
}

bool job_read_number(struct job_reader *reader, json_t *value, double min, double max, const char *pointer, double *ret)
{
    if (!json_is_number(value)) {
        job_problem(reader, pointer, "is %s; a number from %.10g to %.10g is wanted", type_name(value), min, max);
        return false;
    }
    double number = json_number_value(value);
    if (!isfinite(number) || number < min || number > max) {
        job_problem(reader, pointer, "is %.10g; allowed: %.10g to %.10g", number, min, max);
        return false;
    }
    *ret = number;
    return true;
}

bool job_read_int(struct job_reader *reader, json_t *value, double min, double max, const char *pointer, int64_t *ret)
{
    if (!json_is_integer(value)) {
        job_problem(reader, pointer, "is %s; an integer from %.16g to %.16g is wanted", type_name(value), min, max);
        return false;
    }
    int64_t number = json_integer_value(value);
    if ((double)number < min || (double)number > max) {
        job_problem(reader, pointer, "is %lld; allowed: %.16g to %.16g", (long long)number, min, max);
        return false;
    }
    *ret = number;
    return true;
}

bool job_read_text(struct job_reader *reader, json_t *value, size_t bytes, const char *pointer, char *ret)
{
    if (!json_is_string(value)) {
        job_problem(reader, pointer, "is %s; a string is wanted", type_name(value));
        return false;
    }
    size_t length = json_string_length(value);
    const char *text = json_string_value(value);
    if (length >= bytes || strlen(text) != length) {
        job_problem(reader, pointer, "has %zu bytes; at most %zu are allowed, none of them zero", length, bytes - 1);
        return false;
    }
    memcpy(ret, text, length + 1);
    return true;
}

static void read_choice(struct job_reader *reader, const struct job_key *key, json_t *value, const char *pointer, void *place)
{
    char name[64];
    for (size_t i = 0; json_is_string(value) && job_choice_name(key->text, i, name, sizeof name); i++) {
        if (strcmp(json_string_value(value), name) != 0) continue;
        int index = (int)i;
        memcpy(place, &index, sizeof index);
        return;
    }
    if (json_is_string(value))
        job_problem(reader, pointer, "is \"%.100s\"; allowed: %s", json_string_value(value), key->text);
    else
        job_problem(reader, pointer, "is %s; one of these strings is wanted: %s", type_name(value), key->text);
}

static void read_key(struct job_reader *reader, const struct job_key *key, json_t *value, const char *pointer, void *place)
{
    int64_t integer = 0;
    double number = 0;
    bool flag = json_is_true(value);
    switch (key->kind) {
    case JOB_INT:
        if (job_read_int(reader, value, key->min, key->max, pointer, &integer)) memcpy(place, &integer, sizeof integer);
        return;
    case JOB_NUM:
        if (job_read_number(reader, value, key->min, key->max, pointer, &number)) memcpy(place, &number, sizeof number);
        return;
    case JOB_FLAG:
        if (json_is_boolean(value))
            memcpy(place, &flag, sizeof flag);
        else
            job_problem(reader, pointer, "is %s; true or false is wanted", type_name(value));
        return;
    case JOB_CHOICE:
        read_choice(reader, key, value, pointer, place);
        return;
    case JOB_TEXT:
        (void)job_read_text(reader, value, key->bytes, pointer, place);
        return;
    }
}

void job_defaults(enum job_section_id id, void *section)
{
    const struct job_section *rows = job_section(id);
    for (size_t i = 0; i < rows->count; i++) {
        const struct job_key *key = &rows->keys[i];
        uint8_t *place = (uint8_t *)section + key->offset;
        int64_t integer = (int64_t)key->def;
        int choice = (int)key->def;
        bool flag = key->def > 0;
        if (key->kind == JOB_INT)
            memcpy(place, &integer, sizeof integer);
        else if (key->kind == JOB_NUM)
            memcpy(place, &key->def, sizeof key->def);
        else if (key->kind == JOB_FLAG)
            memcpy(place, &flag, sizeof flag);
        else if (key->kind == JOB_CHOICE)
            memcpy(place, &choice, sizeof choice);
        else
            memcpy(place, key->text, strlen(key->text) + 1);
    }
}

static const struct job_key *find(const struct job_section *rows, const char *name)
{
    for (size_t i = 0; i < rows->count; i++) {
        if (strcmp(rows->keys[i].name, name) == 0) return &rows->keys[i];
    }
    return NULL;
}

/* `clip: [low, high]` */
static void read_pair(struct job_reader *reader, const struct job_pair *pair, json_t *value, const char *pointer,
                      void *section)
{
    if (!json_is_array(value) || json_array_size(value) != 2) {
        job_problem(reader, pointer, "must be an array of two numbers");
        return;
    }
    const struct job_section *rows = job_section(pair->section);
    const char *const names[2] = {pair->first, pair->second};
    for (size_t i = 0; i < 2; i++) {
        char place[JOB_POINTER_BYTES];
        job_place(place, "%s/%zu", pointer, i);
        const struct job_key *key = find(rows, names[i]);
        BUG_IF(!key);
        read_key(reader, key, json_array_get(value, i), place, (uint8_t *)section + key->offset);
    }
}

static const struct job_pair *pair_named(enum job_section_id id, const char *name)
{
    size_t count = 0;
    const struct job_pair *pairs = job_pairs(&count);
    for (size_t i = 0; i < count; i++) {
        if (pairs[i].section == id && strcmp(pairs[i].name, name) == 0) return &pairs[i];
    }
    return NULL;
}

static const char *suggest(enum job_section_id id, const char *const *others, const char *word)
{
    const struct job_section *rows = job_section(id);
    struct suggestion s = {word, NULL, SUGGEST_DISTANCE + 1};
    for (size_t i = 0; i < rows->count; i++) {
        const struct job_pair *pair = job_pair_of(id, rows->keys[i].name);
        consider(&s, pair ? pair->name : rows->keys[i].name);
    }
    for (; others && *others; others++) consider(&s, *others);
    return s.best;
}

json_t *job_read(struct job_reader *reader, enum job_section_id id, json_t *object, void *section, const char *pointer,
                 const char *const *others)
{
    job_defaults(id, section);
    if (!object) return NULL;
    if (!json_is_object(object)) {
        job_problem(reader, pointer, "is %s; an object is wanted", type_name(object));
        return NULL;
    }
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach(object, name, value)
    {
        if (name[0] == '_' || listed(others, name)) continue;
        char place[JOB_POINTER_BYTES];
        job_place(place, "%s/%s", pointer, name);
        const struct job_key *key = find(job_section(id), name);
        const struct job_pair *pair = pair_named(id, name);
        if (pair)
            read_pair(reader, pair, value, place, section);
        else if (key && !job_pair_of(id, name))
            read_key(reader, key, value, place, (uint8_t *)section + key->offset);
        else
            unknown_key(reader, pointer, name, suggest(id, others, name));
    }
    return object;
}
