/* LABELS: unit
 * memory_of: what a setting costs, and that the prediction is the sum of what the parts say they take. */
#include "services/common/job/job.h"
#include "services/ctl/memory.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 2

static struct memory memory_with(const char *rollout, const char *trainer)
{
    char text[1024];
    struct job_spec spec;
    struct job_problems problems = {0};
    struct model_config model;
    AUTO(arena) arena = {0};
    (void)snprintf(text, sizeof text,
                   "{\"name\": \"m\", \"environments\": [{\"provider\": \"builtin\", \"name\": \"adventure\", "
                   "\"tasks\": {\"generate\": {\"levels\": [1]}}}], \"policy\": {\"init\": {\"preset\": \"small-3m\"}}, "
                   "\"rollout\": {\"max_context\": 512%s}, \"trainer\": {\"tokens_per_microbatch\": 2048%s}}",
                   rollout, trainer);
    err_t err = job_parse(span_text(text), &arena, &spec, &problems);
    ck_assert_msg(err == ERR_ok, "%s %s", problems.count ? problems.rows[0].pointer : "", err_text());
    ck_assert_int_eq(model_preset(spec.init.preset, 279, &model), ERR_ok);
    return memory_of(&spec, &model, THREADS);
}

START_TEST(settings_cost_what_the_formula_says)
{
    struct model_config c;
    ck_assert_int_eq(model_preset("small-3m", 279, &c), ERR_ok);
    const size_t weights = model_parameters(&c) * sizeof(float);
    const struct memory plain = memory_with("", ""), half = memory_with(", \"kv_cache\": \"fp16\"", "");
    const struct memory kl = memory_with("", ", \"kl\": 0.1"), again = memory_with("", ", \"recompute\": true");
    const struct memory small = memory_with("", ", \"max_staleness\": 0");
    ck_assert_uint_eq(kl.trainer - plain.trainer, weights);
    /* 64 slots of 512 positions: keys and values of 4 layers of 4 heads of 32, two bytes less each */
    ck_assert_uint_eq(plain.rollout - half.rollout, (size_t)64 * 512 * 2 * 4 * 4 * 32 * 2);
    ck_assert_uint_eq(again.rollout, plain.rollout);
    /* what is inside of three of four layers, for two threads of 2048 tokens: docs/memory.md */
    const size_t D = 256, A = 256, S = 512, F = 768, H = 8;
    const size_t inside = D + S + A + 2 * F + H + 2;
    ck_assert_uint_eq(plain.trainer - again.trainer, 3 * 2048 * inside * sizeof(float) * THREADS);
    ck_assert_uint_gt(plain.rollout - small.rollout, 2 * weights); /* two versions less, and their packed matrices */
    ck_assert_uint_gt(plain.trainer, 8 * weights);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("memory");
    TCase *tcase = tcase_create("memory");
    tcase_add_test(tcase, settings_cost_what_the_formula_says);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
