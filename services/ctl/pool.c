/* pal pool: demonstrations into the experience pool of a running job, and what is in it. */
#include "services/common/job/import.h"
#include "services/ctl/ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PART_ITEMS 256                 /* of one request */
#define PART_BYTES ((size_t)400 << 10) /* likewise: below what the gateway takes */
#define LINE_BYTES ((size_t)128 << 10)
#define PAGE       500

/* The lines of a file, good ones, on their way to the stack. */
struct importing {
    struct ctl *ctl;
    const char *file;
    int64_t job;
    json_t *items; /* of the next request */
    size_t lines[PART_ITEMS], bytes;
    size_t problems, planned, known;
};

static void complain(struct importing *im, size_t line, const char *pointer, const char *detail)
{
    im->problems++;
    (void)fprintf(stderr, "%s:%zu: %s%s%s\n", im->file, line, pointer, *pointer ? " " : "", detail);
}

/* Pointers into the request become lines of the file: "/3/actions/0" is of its fourth line. */
static void explain(struct importing *im, const json_t *problem)
{
    json_t *error = NULL;
    size_t i = 0;
    json_array_foreach(json_object_get(problem, "errors"), i, error)
    {
        char *rest = NULL;
        const char *pointer = ctl_text(error, "pointer");
        unsigned long at = *pointer == '/' ? strtoul(pointer + 1, &rest, 10) : PART_ITEMS;
        if (at < json_array_size(im->items))
            complain(im, im->lines[at], rest, ctl_text(error, "detail"));
        else
            (void)fprintf(stderr, "%s %s\n", pointer, ctl_text(error, "detail"));
    }
}

static err_t send(struct importing *im)
{
    char path[64];
    AUTO(reply) reply = {0};
    if (json_array_size(im->items) == 0) return ERR_ok;
    (void)snprintf(path, sizeof path, "/v1/jobs/%lld/pool", (long long)im->job);
    char *body = json_dumps(im->items, JSON_COMPACT);
    err_t err = body ? client_call(im->ctl, "POST", path, body, NULL, 10000, &reply) : err_set(ERR_memory, "a request");
    free(body);
    TRY(err);
    json_t *root = json_loadb(buf_chars(&reply.body), reply.body.size, 0, NULL);
    if (reply.status == 202) {
        im->planned += (size_t)ctl_number(root, "planned");
        im->known += (size_t)ctl_number(root, "known");
    } else {
        explain(im, root);
        err = err_set(reply.status == 404 ? ERR_not_found : ERR_invalid, "%s (HTTP %ld)",
                      root ? ctl_text(root, "detail") : "refused", reply.status);
    }
    json_decref(root);
    (void)json_array_clear(im->items);
    im->bytes = 0;
    return err;
}

static err_t take_line(struct importing *im, const char *line, size_t size, size_t number, bool send_now)
{
    AUTO(arena) arena = {0};
    struct import_item item;
    struct job_problems problems = {0};
    err_t err =
        size > LINE_BYTES ? err_set(ERR_too_large, "a line") : import_line(span_of(line, size), &arena, &item, &problems);
    if (err == ERR_too_large) complain(im, number, "", "is longer than any demonstration may be");
    for (size_t i = 0; i < problems.count; i++) complain(im, number, problems.rows[i].pointer, problems.rows[i].detail);
    if (err != ERR_ok) return err == ERR_invalid || err == ERR_too_large ? ERR_ok : err;
    if (!send_now) return ERR_ok;
    size_t count = json_array_size(im->items);
    if (count == PART_ITEMS || im->bytes + size > PART_BYTES) {
        TRY(send(im));
        count = 0;
    }
    im->lines[count] = number;
    im->bytes += size + 1;
    return json_array_append_new(im->items, json_loadb(line, size, 0, NULL)) == 0 ? ERR_ok : err_set(ERR_memory, "a request");
}

/* Once to look at every line, so that a file with a problem imports nothing, and once to send. */
static err_t walk(struct importing *im, FILE *file, bool send_now)
{
    char *line = NULL;
    size_t room = 0, number = 0;
    err_t err = ERR_ok;
    for (ssize_t size = 0; err == ERR_ok && (size = getline(&line, &room, file)) > 0;) {
        number++;
        if (strspn(line, " \t\r\n") < (size_t)size) err = take_line(im, line, (size_t)size, number, send_now);
    }
    free(line);
    return err == ERR_ok && send_now ? send(im) : err;
}

static int import(struct ctl *ctl, int64_t job, const char *path)
{
    struct importing im = {.ctl = ctl, .file = path, .job = job, .items = json_array()};
    FILE *file = fopen(path, "re");
    err_t err = file ? walk(&im, file, false) : err_set(ERR_not_found, "%s cannot be opened", path);
    if (err == ERR_ok && im.problems) err = err_set(ERR_invalid, "%zu problems: nothing is imported", im.problems);
    if (err == ERR_ok) {
        rewind(file);
        err = walk(&im, file, true);
    }
    if (file) (void)fclose(file);
    json_decref(im.items);
    if (err != ERR_ok) return ctl_fail(err);
    if (ctl->json)
        (void)printf("{\"planned\": %zu, \"known\": %zu}\n", im.planned, im.known);
    else
        (void)printf("%zu demonstrations are played for the pool of job %lld, %zu were imported before\n", im.planned,
                     (long long)job, im.known);
    return 0;
}

/* ---- list and export ---- */

static void print_row(const json_t *row)
{
    (void)printf("%-10.0f %-8.0f %-6.0f %-8s %-7.3g %-6.0f %-8.0f %.0f\n", ctl_number(row, "episode"),
                 ctl_number(row, "task_id"), ctl_number(row, "level"), ctl_text(row, "source"), ctl_number(row, "reward"),
                 ctl_number(row, "steps"), json_is_number(json_object_get(row, "version")) ? ctl_number(row, "version") : -1,
                 ctl_number(row, "drawn"));
}

/* A line that import reads back. */
static void print_line(const json_t *row)
{
    json_t *line = json_pack("{s:O, s:O, s:O}", "task", json_object_get(row, "task"), "environment",
                             json_object_get(row, "environment"), "actions", json_object_get(row, "actions"));
    char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
    if (text && json_array_size(json_object_get(row, "actions"))) (void)printf("%s\n", text);
    free(text);
    json_decref(line);
}

static err_t pages(struct ctl *ctl, int64_t job, bool export, json_t *all)
{
    json_int_t after = -1;
    for (size_t count = PAGE; count == PAGE;) {
        char path[160];
        json_t *rows = NULL, *row = NULL;
        size_t i = 0;
        (void)snprintf(path, sizeof path, "/v1/jobs/%lld/pool?limit=%d&after=%lld%s", (long long)job, PAGE, (long long)after,
                       export ? "&actions=true" : "");
        TRY(client_json(ctl, "GET", path, NULL, &rows));
        count = json_array_size(rows);
        json_array_foreach(rows, i, row)
        {
            after = json_integer_value(json_object_get(row, "episode"));
            if (all)
                (void)json_array_append(all, row);
            else if (export)
                print_line(row);
            else
                print_row(row);
        }
        json_decref(rows);
    }
    return ERR_ok;
}

static int print_pool(struct ctl *ctl, int64_t job, bool export)
{
    json_t *all = ctl->json && !export ? json_array() : NULL;
    if (!export && !all)
        (void)printf("%-10s %-8s %-6s %-8s %-7s %-6s %-8s %s\n", "EPISODE", "TASK", "LEVEL", "SOURCE", "REWARD", "STEPS",
                     "VERSION", "DRAWN");
    err_t err = pages(ctl, job, export, all);
    if (err == ERR_ok && all) (void)print_json(all);
    json_decref(all);
    return err == ERR_ok ? 0 : ctl_fail(err);
}

int command_pool(struct ctl *ctl)
{
    const char *verb = ctl->argc > 0 ? ctl->argv[0] : "";
    char *end = NULL;
    long long job = ctl->argc > 1 ? strtoll(ctl->argv[1], &end, 10) : 0;
    bool good = ctl->argc > 1 && end != ctl->argv[1] && !*end && job > 0;
    if (good && ctl->argc == 3 && strcmp(verb, "import") == 0) return import(ctl, job, ctl->argv[2]);
    if (good && ctl->argc == 2 && strcmp(verb, "list") == 0) return print_pool(ctl, job, false);
    if (good && ctl->argc == 2 && strcmp(verb, "export") == 0) return print_pool(ctl, job, true);
    (void)fprintf(stderr, "pal: pool import JOB FILE.jsonl, pool list JOB, or pool export JOB; see `pal pool --help`\n");
    return 2;
}
