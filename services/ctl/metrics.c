/* pal metrics: figures of a job's updates, one line each. */
#include "services/ctl/ctl.h"

#include <stdio.h>
#include <stdlib.h>

#define NAMES_BYTES  1024
#define NAMES_MOST   32
#define NAMES_USUAL  "success,reward,no_signal_share,staleness_mean,loss,entropy,grad_norm"
#define COLUMN_WIDTH 15

struct columns {
    char text[NAMES_BYTES];
    const char *names[NAMES_MOST];
    size_t count;
};

/* Cuts at the commas; false after complaining. */
static bool cut(struct columns *columns, const char *names)
{
    int n = snprintf(columns->text, sizeof columns->text, "%s", names);
    bool good = n > 0 && (size_t)n < sizeof columns->text;
    for (char *at = columns->text, *next; good && at; at = next) {
        next = strchr(at, ',');
        if (next) *next++ = 0;
        good = columns->count < NAMES_MOST && strspn(at, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(at) && *at;
        if (good) columns->names[columns->count++] = at;
    }
    if (!good) (void)fprintf(stderr, "pal: --names wants at most %d names of docs/metrics.md, with commas\n", NAMES_MOST);
    return good;
}

static void print_rows(const json_t *rows, const struct columns *columns, bool all)
{
    size_t i = 0;
    json_t *row = NULL;
    (void)printf("%-8s%s", "UPDATE", all ? "LINEAGE " : "");
    for (size_t k = 0; k < columns->count; k++) (void)printf(" %*s", COLUMN_WIDTH, columns->names[k]);
    (void)printf("\n");
    json_array_foreach(rows, i, row)
    {
        (void)printf("%-8.0f", ctl_number(row, "update"));
        if (all) (void)printf("%-8.0f", ctl_number(row, "lineage"));
        for (size_t k = 0; k < columns->count; k++) {
            const json_t *value = json_object_get(json_object_get(row, "values"), columns->names[k]);
            if (value)
                (void)printf(" %*.6g", COLUMN_WIDTH, json_number_value(value));
            else
                (void)printf(" %*s", COLUMN_WIDTH, "-");
        }
        (void)printf("\n");
    }
}

int command_metrics(struct ctl *ctl)
{
    const char *names = ctl_option(ctl, "--names"), *from_text = ctl_option(ctl, "--from");
    bool all = ctl_flag(ctl, "--all-lineages");
    struct columns columns = {.count = 0};
    char path[NAMES_BYTES + 128], *end = NULL;
    int64_t job = 0;
    json_t *rows = NULL;
    long long from = from_text ? strtoll(from_text, &end, 10) : 0;
    if (from_text && (end == from_text || *end || from < 0)) {
        (void)fprintf(stderr, "pal: --from wants an update, a whole number from 0\n");
        return 2;
    }
    if (!cut(&columns, names ? names : NAMES_USUAL) || !ctl_id(ctl, &job)) return 2;
    (void)snprintf(path, sizeof path, "/v1/jobs/%lld/metrics?from=%lld&names=%s%s", (long long)job, from,
                   names || !ctl->json ? (names ? names : NAMES_USUAL) : "", all ? "&lineages=all" : "");
    err_t err = client_json(ctl, "GET", path, NULL, &rows);
    if (err != ERR_ok) return ctl_fail(err);
    if (ctl->json)
        (void)print_json(rows);
    else
        print_rows(rows, &columns, all);
    json_decref(rows);
    return 0;
}
