/* LABELS: unit
 * base: buffers stay within their maximum, arenas within theirs, random numbers are the published ones, pools run each
 * index once. */
#include "services/common/base/arena.h"
#include "services/common/base/buf.h"
#include "services/common/base/digest.h"
#include "services/common/base/pool.h"
#include "services/common/base/rng.h"

#include <check.h>
#include <stdatomic.h>
#include <stdlib.h>

START_TEST(buf_refuses_past_its_maximum)
{
    AUTO(buf) buf = {0};
    buf_init(&buf, 10);
    ck_assert_int_eq(buf_text(&buf, "12345678"), ERR_ok);
    ck_assert_int_eq(buf_text(&buf, "901"), ERR_too_large);
    ck_assert_str_eq(buf_chars(&buf), "12345678");
    ck_assert_int_eq(buf_printf(&buf, "%d", 42), ERR_ok);
    ck_assert_str_eq(buf_chars(&buf), "1234567842");
}
END_TEST

START_TEST(arena_refuses_past_its_maximum)
{
    AUTO(arena) arena = {0};
    arena_init(&arena, 4096);
    ck_assert_ptr_nonnull(arena_take(&arena, 100, 8));
    ck_assert_ptr_null(arena_take(&arena, SIZE_MAX / 4, 8));
    ck_assert_ptr_null(arena_take(&arena, 4096, 1));
    char *text = arena_printf(&arena, "%s-%d", "a", 7);
    ck_assert_str_eq(text, "a-7");
    for (int i = 0; i < 50; i++) {
        arena_clear(&arena);
        ck_assert_ptr_nonnull(arena_take(&arena, 2048, 1));
    }
}
END_TEST

/* the first outputs of pcg32-demo seeded with (42, 54) */
START_TEST(rng_matches_the_published_sequence)
{
    struct rng rng;
    rng_init(&rng, 42, 54);
    const uint32_t want[] = {0xa15c02b7, 0x7b47f409, 0xba1d3330, 0x83d2f293, 0xbfa4784b, 0xcbed606e};
    for (size_t i = 0; i < 6; i++) ck_assert_uint_eq(rng_u32(&rng), want[i]);
    double sum = 0, squares = 0;
    for (int i = 0; i < 20000; i++) {
        double x = rng_normal(&rng);
        sum += x;
        squares += x * x;
        ck_assert(rng_below(&rng, 3) < 3);
    }
    ck_assert_double_lt(sum * sum, 20000 * 16.0);
    ck_assert_double_eq_tol(squares / 20000, 1.0, 0.05);
}
END_TEST

START_TEST(digest_is_sha256)
{
    struct digest d;
    ck_assert_int_eq(digest_bytes(span_text("abc"), &d), ERR_ok);
    ck_assert_str_eq(d.hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}
END_TEST

struct tally {
    atomic_int hits[100];
    size_t worker[100];
};

static void hit(void *ctx, size_t index, size_t worker)
{
    struct tally *tally = ctx;
    atomic_fetch_add(&tally->hits[index], 1);
    tally->worker[index] = worker;
}

START_TEST(pool_runs_each_index_once)
{
    AUTO_PTR(pool) pool = NULL;
    ck_assert_int_eq(pool_new(&pool, 3), ERR_ok);
    for (int round = 0; round < 200; round++) {
        struct tally tally = {0};
        pool_run(pool, 100, round % 2 == 0, hit, &tally);
        for (size_t i = 0; i < 100; i++) {
            ck_assert_int_eq(atomic_load(&tally.hits[i]), 1);
            if (round % 2 == 0) ck_assert_uint_eq(tally.worker[i], i % 3);
        }
    }
    ck_assert_int_eq(pool_new(&pool, 0), ERR_invalid);
}
END_TEST

START_TEST(errors_carry_sentence_and_context)
{
    err_t err = err_set(ERR_invalid, "lr: %d", 3);
    ck_assert_int_eq(err_prefix(err, "/trainer"), ERR_invalid);
    ck_assert_str_eq(err_text(), "/trainer: lr: 3");
    ck_assert_int_eq(err_http(ERR_invalid), 422);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base");
    TCase *tcase = tcase_create("base");
    tcase_add_test(tcase, buf_refuses_past_its_maximum);
    tcase_add_test(tcase, arena_refuses_past_its_maximum);
    tcase_add_test(tcase, rng_matches_the_published_sequence);
    tcase_add_test(tcase, digest_is_sha256);
    tcase_add_test(tcase, pool_runs_each_index_once);
    tcase_add_test(tcase, errors_carry_sentence_and_context);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
