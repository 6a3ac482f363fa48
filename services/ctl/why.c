/* pal why: an episode's whole life, from its plan to the policy that came of it. */
#include "services/ctl/ctl.h"

#include <stdio.h>
#include <stdlib.h>

static void print_plan(const json_t *e, const json_t *group, const json_t *task)
{
    (void)printf("planned   group %.0f (%s), slot %.0f of %.0f, %s", ctl_number(group, "id"), ctl_text(group, "source"),
                 ctl_number(e, "slot"), ctl_number(group, "size"), ctl_text(group, "planned_at"));
    if (json_is_number(json_object_get(group, "update_for")))
        (void)printf(", reserved to update %.0f", ctl_number(group, "update_for"));
    if (json_is_number(json_object_get(group, "pin_version")))
        (void)printf(", pinned to version %.0f", ctl_number(group, "pin_version"));
    if (json_is_number(json_object_get(group, "replaces")))
        (void)printf(", in the place of group %.0f", ctl_number(group, "replaces"));
    (void)printf("\ntask      %.0f: environment %.0f, level %.0f, %s, from %s\n", ctl_number(task, "id"),
                 ctl_number(task, "environment"), ctl_number(task, "level"), ctl_text(task, "split"),
                 ctl_text(task, "source"));
}

static void print_attempts(const json_t *e)
{
    const json_t *failures = json_object_get(e, "failures");
    size_t i = 0;
    json_t *failure = NULL;
    json_array_foreach(failures, i, failure)
    {
        (void)printf("attempt   %zu failed: %s\n", i, json_string_value(failure));
    }
    if (*ctl_text(e, "leased_at"))
        (void)printf("leased    attempt %.0f, token %.0f, to %s, %s, sampling seed %.0f\n", ctl_number(e, "attempt"),
                     ctl_number(e, "token"), ctl_text(e, "worker"), ctl_text(e, "leased_at"), ctl_number(e, "seed"));
}

static void print_end(const json_t *e)
{
    (void)printf("state     %s", ctl_text(e, "state"));
    if (*ctl_text(e, "outcome")) (void)printf(", outcome %s", ctl_text(e, "outcome"));
    if (*ctl_text(e, "error")) (void)printf(" (%s)", ctl_text(e, "error"));
    if (json_is_number(json_object_get(e, "reward")))
        (void)printf(", reward %g, %.0f of %.0f steps, %.0f + %.0f tokens, engine %.0f ms, environment %.0f ms",
                     ctl_number(e, "reward"), ctl_number(e, "steps"), ctl_number(e, "max_steps"),
                     ctl_number(e, "prompt_tokens"), ctl_number(e, "action_tokens"), ctl_number(e, "engine_ms"),
                     ctl_number(e, "env_ms"));
    (void)printf("\n");
}

/* Which weights drew what: turns with the same version in a row are one line. */
static void print_versions(const json_t *e)
{
    const json_t *turns = json_object_get(e, "transcript");
    size_t first = 0, tokens = 0, t = 0, i = 0;
    double version = -1;
    json_t *turn = NULL, *drawn = NULL;
    json_array_foreach(turns, t, turn)
    {
        json_array_foreach(json_object_get(turn, "version"), i, drawn)
        {
            if (tokens && json_number_value(drawn) != version) {
                (void)printf("version   %.0f drew %zu tokens from turn %zu on\n", version, tokens, first);
                tokens = 0;
            }
            if (tokens++ == 0) first = t;
            version = json_number_value(drawn);
        }
    }
    if (tokens) (void)printf("version   %.0f drew %zu tokens from turn %zu on\n", version, tokens, first);
}

static void print_group(const json_t *e, const json_t *group)
{
    if (!*ctl_text(group, "closed_at")) return;
    (void)printf("group     %s: %s, %.0f of %.0f ended with an outcome, rewards sum to %g, %s", ctl_text(group, "state"),
                 ctl_text(group, "verdict"), ctl_number(group, "done"), ctl_number(group, "size"),
                 ctl_number(group, "reward_sum"), ctl_text(group, "closed_at"));
    if (json_is_number(json_object_get(e, "advantage"))) (void)printf("; advantage %.6g", ctl_number(e, "advantage"));
    (void)printf("\n");
}

static void print_decisions(const json_t *e)
{
    size_t i = 0;
    json_t *d = NULL;
    json_array_foreach(json_object_get(e, "decisions"), i, d)
    {
        char *inputs = json_dumps(json_object_get(d, "inputs"), JSON_COMPACT);
        (void)printf("decision  %.0f: %s of %s %.0f says %s, from %s\n", ctl_number(d, "id"), ctl_text(d, "rule"),
                     ctl_text(d, "subject"), ctl_number(d, "key"), ctl_text(d, "verdict"), inputs ? inputs : "{}");
        free(inputs);
    }
}

static void print_uses(const json_t *e)
{
    size_t i = 0;
    json_t *use = NULL;
    const json_t *uses = json_object_get(e, "trained");
    json_array_foreach(uses, i, use)
    {
        (void)printf("trained   update %.0f of lineage %.0f, pass %.0f as %s, batch %s %s", ctl_number(use, "update"),
                     ctl_number(use, "lineage"), ctl_number(use, "pass"), ctl_text(use, "source"), ctl_text(use, "state"),
                     *ctl_text(use, "applied_at") ? ctl_text(use, "applied_at") : ctl_text(use, "handed_out_at"));
        if (json_is_number(json_object_get(use, "version")))
            (void)printf("; %s, gave version %.0f, weights %.16s", ctl_text(use, "outcome"), ctl_number(use, "version"),
                         ctl_text(use, "digest"));
        (void)printf("\n");
        if (*ctl_text(use, "published_at"))
            (void)printf("policy    version %.0f published %s, %s\n", ctl_number(use, "version"),
                         ctl_text(use, "published_at"),
                         *ctl_text(use, "checkpoint") ? ctl_text(use, "checkpoint") : "no checkpoint of its own");
    }
    if (json_array_size(uses) == 0) (void)printf("trained   not (yet): no batch has it\n");
}

int command_why(struct ctl *ctl)
{
    const char *job_text = ctl_option(ctl, "--job");
    int64_t job = job_text ? strtoll(job_text, NULL, 10) : 0, episode = 0;
    char path[96];
    json_t *e = NULL;
    char *end = NULL;
    if (job_text && (strtoll(job_text, &end, 10) < 1 || *end)) {
        (void)fprintf(stderr, "pal: --job wants a job's number\n");
        return 2;
    }
    if (!ctl_id(ctl, &episode)) return 2;
    err_t err = job_text ? ERR_ok : ctl_newest_job(ctl, &job);
    (void)snprintf(path, sizeof path, "/v1/jobs/%lld/episodes/%lld", (long long)job, (long long)episode);
    if (err == ERR_ok) err = client_json(ctl, "GET", path, NULL, &e);
    if (err != ERR_ok) return ctl_fail(err);
    if (ctl->json) {
        (void)print_json(e);
    } else {
        const json_t *group = json_object_get(e, "group");
        (void)printf("episode %lld of job %lld\n", (long long)episode, (long long)job);
        print_plan(e, group, json_object_get(e, "task"));
        print_attempts(e);
        print_end(e);
        print_versions(e);
        print_group(e, group);
        print_decisions(e);
        print_uses(e);
    }
    json_decref(e);
    return 0;
}
