/* LABELS: unit
 * the outcome reward model: its measures by hand, that it learns what it is shown and says so on episodes it was not shown,
 * the end of a phase. */
#include "tests/trainer/trainer_fixture.h"

#include "trainer/phase.h"

#include <check.h>
#include <math.h>

#define CASES 120
#define SEED  5
#define YES   11
#define NO    12

static int32_t tokens[CASES][16];
static struct orm_case cases[CASES];
static struct pool *pool;

static const struct orm_config CONFIG = {
    .updates = 120, .batch = 16, .lr = 5e-3, .tokens_per_microbatch = 256, .yes = YES, .no = NO};

/* Solved where token 3 stands somewhere in it; every fifth is a test. */
static void setup(void)
{
    struct rng rng;
    rng_init(&rng, SEED, 0);
    for (size_t i = 0; i < CASES; i++) {
        uint32_t n = 8 + rng_below(&rng, 8);
        bool success = i % 3 == 0;
        for (uint32_t k = 0; k < n; k++) tokens[i][k] = (int32_t)(4 + rng_below(&rng, 6));
        if (success) tokens[i][rng_below(&rng, n - 1)] = 3;
        cases[i] = (struct orm_case){.id = i, .token = tokens[i], .count = n, .success = success, .test = i % 5 == 0};
    }
    ck_assert_int_eq(pool_new(&pool, 2), ERR_ok);
}

static void teardown(void)
{
    pool_free(&pool);
}

START_TEST(measures_by_hand)
{
    const double score[] = {0.9, 0.6, 0.4, 0.7, 0.2, 0.1};
    const bool success[] = {true, true, true, false, false, false};
    double auroc = 0;
    ck_assert_double_eq_tol(orm_balanced_accuracy(score, success, 6), (2.0 / 3 + 2.0 / 3) / 2, 1e-12);
    ck_assert_int_eq(orm_auroc(score, success, 6, &auroc), ERR_ok);
    ck_assert_double_eq_tol(auroc, 7.0 / 9, 1e-12); /* .6 and .4 are under .7 */
    const double tied[] = {0.5, 0.5, 0.5, 0.5};
    const bool half[] = {true, false, true, false};
    ck_assert_int_eq(orm_auroc(tied, half, 4, &auroc), ERR_ok);
    ck_assert_double_eq_tol(auroc, 0.5, 1e-12);
    ck_assert_double_eq_tol(orm_balanced_accuracy(tied, half, 4), 0.5, 1e-12);
    const bool all[] = {true, true};
    ck_assert(isnan(orm_balanced_accuracy(score, all, 2)));
    ck_assert_int_eq(orm_auroc(score, all, 2, &auroc), ERR_ok);
    ck_assert(isnan(auroc));
    ck_assert_int_eq(orm_auroc(score, all, 0, &auroc), ERR_ok);
    ck_assert(isnan(auroc));
}
END_TEST

START_TEST(it_learns_and_generalises)
{
    AUTO_PTR(trainee) trainee = fixture_trainee(pool);
    ck_assert_int_eq(trainee_set_orm(trainee), ERR_ok);
    struct diagnostics d;
    struct digest policy, after;
    bool trained = false;
    diagnostics_clear(&d);
    ck_assert_int_eq(model_digest(trainee->model, &policy), ERR_ok);
    err_t err = orm_run(trainee, &CONFIG, 0, cases, CASES, NULL, &trained, &d);
    ck_assert_msg(err == ERR_ok, "%s", err_text());
    ck_assert(trained);
    ck_assert_double_gt(d.orm_balanced_accuracy, 0.9);
    ck_assert_double_gt(d.orm_auroc, 0.95);
    ck_assert_double_lt(d.orm_train_loss, 0.3);
    double score[2];
    ck_assert_int_eq(orm_score(trainee, &CONFIG, cases, 2, NULL, score), ERR_ok);
    ck_assert(score[0] >= 0.5 && score[1] < 0.5);
    ck_assert_int_eq(model_digest(trainee->model, &after), ERR_ok); /* the policy has nothing to do with it */
    ck_assert_str_eq(policy.hex, after.hex);
}
END_TEST

START_TEST(the_same_phase_learns_the_same_bits)
{
    AUTO_PTR(trainee) a = fixture_trainee(pool);
    AUTO_PTR(trainee) b = fixture_trainee(pool);
    struct orm_config config = CONFIG;
    struct diagnostics d;
    bool trained = false;
    config.updates = 10;
    struct trainee *both[] = {a, b};
    for (size_t i = 0; i < 2; i++) {
        ck_assert_int_eq(trainee_set_orm(both[i]), ERR_ok);
        ck_assert_int_eq(orm_run(both[i], &config, 2, cases, CASES, NULL, &trained, &d), ERR_ok);
    }
    ck_assert_mem_eq(a->orm->weights, b->orm->weights, a->orm->count * sizeof(float));
    ck_assert_int_eq(orm_run(a, &config, 3, cases, CASES, NULL, &trained, &d), ERR_ok);
    ck_assert_int_eq(orm_run(b, &config, 4, cases, CASES, NULL, &trained, &d), ERR_ok); /* another shuffle */
    ck_assert_int_ne(memcmp(a->orm->weights, b->orm->weights, a->orm->count * sizeof(float)), 0);
}
END_TEST

START_TEST(phases_end)
{
    AUTO_PTR(trainee) trainee = fixture_trainee(pool);
    ck_assert_int_eq(trainee_set_orm(trainee), ERR_ok);
    ck_assert_int_eq(trainee_set_reference(trainee), ERR_ok);
    AUTO_PTR(trainee) young = fixture_trainee(pool);
    ck_assert_int_eq(trainee_set_orm(young), ERR_ok);
    struct phase_config config = {.reference = true, .orm = true, .reward = CONFIG};
    struct diagnostics d;
    bool diverged = true;
    config.reward.updates = 4;
    diagnostics_clear(&d);
    ck_assert_int_eq(phase_end(young, &config, cases, 1, NULL, &diverged, &d), ERR_ok); /* only a test */
    ck_assert(young->phase == 1 && young->orm_version == 0);
    trainee->model->weights[7] += 1;
    ck_assert(trainee->reference->weights[7] != trainee->model->weights[7]);
    ck_assert_int_eq(phase_end(trainee, &config, cases, CASES, NULL, &diverged, &d), ERR_ok);
    ck_assert(!diverged);
    ck_assert_int_eq(trainee->phase, 1);
    ck_assert_int_eq(trainee->orm_version, 1);
    ck_assert(trainee->reference->weights[7] == trainee->model->weights[7]);
    ck_assert(!isnan(d.orm_auroc));
    /* nothing to learn from: the model stays, under a new number */
    diagnostics_clear(&d);
    float kept = trainee->orm->weights[3];
    ck_assert_int_eq(phase_end(trainee, &config, cases, 1, NULL, &diverged, &d), ERR_ok);
    ck_assert_int_eq(trainee->phase, 2);
    ck_assert_int_eq(trainee->orm_version, 2);
    ck_assert(isnan(d.orm_train_loss) && trainee->orm->weights[3] == kept);
    /* one that diverges stays as it was, too, and the phase ends all the same */
    config.reward.lr = 1e38;
    ck_assert_int_eq(phase_end(trainee, &config, cases, CASES, NULL, &diverged, &d), ERR_ok);
    ck_assert(diverged);
    ck_assert_int_eq(trainee->phase, 3);
    ck_assert_int_eq(trainee->orm_version, 3);
    ck_assert(trainee->orm->weights[3] == kept);
    const atomic_bool cancel = true;
    config.reward.lr = 1e-3;
    ck_assert_int_eq(phase_end(trainee, &config, cases, CASES, &cancel, &diverged, &d), ERR_conflict);
    ck_assert_int_eq(trainee->phase, 3);
    tokens[1][2] = 99;
    ck_assert_int_eq(phase_end(trainee, &config, cases, CASES, NULL, &diverged, &d), ERR_malformed);
    ck_assert_ptr_nonnull(strstr(err_text(), "episode 1:"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("orm");
    TCase *tcase = tcase_create("orm");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, measures_by_hand);
    tcase_add_test(tcase, it_learns_and_generalises);
    tcase_add_test(tcase, the_same_phase_learns_the_same_bits);
    tcase_add_test(tcase, phases_end);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
