/* LABELS: unit
 * job: combinations of the methods that make no sense are refused with a pointer, those that do are not. */
#include "services/common/job/job.h"

#include <check.h>
#include <stdlib.h>

#define WORDS 6

struct combination {
    const char *assignments[WORDS]; /* ended by NULL */
    const char *pointer;            /* of the problem; NULL: there is none */
};

static const char BASE[] =
    "{\"name\": \"x\", \"environments\": [{\"name\": \"adventure\", \"tasks\": {\"generate\": {\"levels\": [1, 2]}}}]}";

static const struct combination combinations[] = {
    {{"curation.replay_ratio={}"}, NULL},
    {{"curation.replay_ratio={\"low\": 0.5, \"high\": 4}"}, NULL},
    {{"curation.replay_ratio={}", "trainer.epochs=2"}, "/trainer/epochs"},
    {{"curation.replay_ratio={\"low\": 3, \"high\": 2}"}, "/curation/replay_ratio/low"},
    {{"curriculum.kind=\"gain-rl\""}, NULL},
    {{"curriculum.kind=\"gain-rl\"", "environments.0.tasks.fresh=true"}, "/environments/0/tasks/fresh"},
    {{"curation.webrl={}"}, NULL},
    {{"curation.webrl={}", "environments.0.tasks.fresh=true"}, "/environments/0/tasks/fresh"},
    {{"curation.webrl={}", "environments.0.provider=\"process\"", "environments.0.command=[\"a\"]"},
     "/environments/0/provider"},
    {{"curation.webrl={\"value_low\": 0.8}"}, "/curation/webrl/value_low"},
    {{"curation.webrl={\"replay_low\": 3}"}, "/curation/webrl/replay_low"},
    {{"curriculum.kind=success-band"}, NULL},
    {{"curriculum.kind=success-band", "curriculum.low=0.8", "curriculum.high=0.2"}, "/curriculum/low"},
    {{"curriculum.kind=success-band", "environments.0.tasks.fresh=true"}, "/environments/0/tasks/fresh"},
    {{"curriculum.kind=adcl", "environments.0.tasks.fresh=true"}, "/environments/0/tasks/fresh"},
    {{"curriculum.kind=adcl", "curriculum.batch=8"}, NULL},
    {{"curation.guide={}"}, NULL},
    {{"curation.guide={\"correction\": \"hinted\"}"}, NULL},
    {{"curation.guide={\"correction\": \"in\"}"}, "/curation/guide/correction"},
    {{"curation.dart={}"}, NULL},
    {{"curation.dart={}", "environments.0.tasks.fresh=true"}, "/environments/0/tasks/fresh"},
    {{"curation.dart={\"pool_file\": \"demos.jsonl\"}"}, NULL},
    {{"curation.dart={\"pool_file\": \"demos.jsonl\", \"pool\": \"off\"}"}, "/curation/dart/pool_file"},
    {{"curation.dart={\"count_min\": 9}"}, "/curation/dart/count_min"},
    {{"curation.dart={\"count_min\": 9, \"count\": false}"}, NULL},
    {{"curation.guide={\"template\": \"try hard\"}"}, "/curation/guide/template"},
    {{"curation.guide={}", "environments=[{\"name\": \"webform\", \"tasks\": {\"generate\": {\"levels\": [4]}}}]"}, NULL},
    {{"curation.guide={}", "environments=[{\"name\": \"webform\", \"tasks\": {\"generate\": {\"levels\": [1]}}}]"},
     "/curation/guide"},
    {{"curation.guide={\"file\": \"hints.jsonl\"}",
      "environments=[{\"name\": \"webform\", \"tasks\": {\"generate\": {\"levels\": [1]}}}]"},
     NULL},
    {{"trainer.loss=\"ppo\""}, NULL},
    {{"trainer.loss=\"webrl\"", "curation.webrl={}", "trainer.aggregation=\"step_mean\""}, NULL},
    {{"trainer.loss=\"gspo\"", "trainer.old_policy=\"recompute\"", "trainer.importance.mode=\"tis\""}, NULL},
    {{"trainer.loss=\"webrl\"", "trainer.old_policy=\"recompute\"", "trainer.importance.mode=\"tis\""},
     "/trainer/importance/mode"},
    {{"trainer.loss=\"ppo\"", "curation.guide={\"positive_only\": true}"}, "/curation/guide/positive_only"},
    {{"trainer.loss=\"webrl\"", "curation.dart={\"advantage_over\": \"step\"}"}, "/curation/dart/advantage_over"},
};

static void apply(const struct combination *c, struct buf *text)
{
    ck_assert_int_eq(buf_text(text, BASE), ERR_ok);
    for (size_t i = 0; i < WORDS && c->assignments[i]; i++) {
        AUTO(buf) next = {0};
        err_t err = job_override(buf_span(text), c->assignments[i], &next);
        ck_assert_msg(err == ERR_ok, "%s: %s", c->assignments[i], err_text());
        buf_clear(text);
        ck_assert_int_eq(buf_append(text, next.data, next.size), ERR_ok);
    }
}

static bool has_problem(const struct job_problems *problems, const char *pointer)
{
    for (size_t i = 0; i < problems->count; i++) {
        if (strcmp(problems->rows[i].pointer, pointer) == 0) return true;
    }
    return false;
}

START_TEST(senseless_combinations_are_refused)
{
    const struct combination *c = &combinations[_i];
    AUTO(arena) arena = {0};
    AUTO(buf) text = {0};
    struct job_spec spec;
    struct job_problems problems = {0};
    apply(c, &text);
    err_t err = job_parse(buf_span(&text), &arena, &spec, &problems);
    if (!c->pointer)
        ck_assert_msg(err == ERR_ok, "%s: %s", buf_chars(&text), err_text());
    else
        ck_assert_msg(err == ERR_invalid && has_problem(&problems, c->pointer), "%s: no problem at %s (%s)", buf_chars(&text),
                      c->pointer, err == ERR_ok ? "none at all" : err_text());
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("job.methods");
    TCase *tcase = tcase_create("job.methods");
    tcase_add_loop_test(tcase, senseless_combinations_are_refused, 0, sizeof combinations / sizeof *combinations);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
