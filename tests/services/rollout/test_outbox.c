/* rollout outbox: ends are kept until they are acknowledged, due again after a while, and bounded in number and bytes. */
#include "services/rollout/outbox.c" /* other services have an outbox too, and a test is linked with all of them */

#include <check.h>

static struct outbox outbox;
static struct wire_episode_done due[OUTBOX_SET];

static void teardown(void)
{
    outbox_clear(&outbox);
}

static void add(uint64_t token, size_t payload)
{
    static const float tokens[] = {1, 2};
    char *bytes = malloc(payload + 1);
    ck_assert_ptr_nonnull(bytes);
    memset(bytes, 'x', payload);
    const struct wire_episode_done done = {.episode = token,
                                           .token = token,
                                           .outcome = span_text("ok"),
                                           .turn_tokens = {tokens, 2},
                                           .payload = span_of(bytes, payload)};
    ck_assert_int_eq(outbox_add(&outbox, &done), ERR_ok);
    free(bytes); /* it keeps its own */
}

START_TEST(ends_are_kept_until_they_are_acknowledged)
{
    const uint64_t first[] = {1, 7}, both[] = {2, 3};
    for (uint64_t token = 1; token <= 3; token++) add(token, 10);
    ck_assert_uint_eq(outbox_due(&outbox, 1000, due), 3);
    ck_assert_uint_eq(due[0].payload.size, 10);
    ck_assert_int_eq(due[0].payload.data[9], 'x');
    ck_assert_double_eq((double)due[0].turn_tokens.v[1], 2);
    ck_assert_uint_eq(outbox_due(&outbox, 1001, due), 0);
    outbox_acknowledge(&outbox, &(struct wire_u64s){first, 2}); /* one that is not known is nothing */
    ck_assert_uint_eq(outbox_due(&outbox, 1000 + OUTBOX_RESEND_MS, due), 2);
    ck_assert_uint_eq(outbox.resent, 2);
    outbox_forget_sent(&outbox);
    ck_assert_uint_eq(outbox_due(&outbox, 1001 + OUTBOX_RESEND_MS, due), 2);
    outbox_acknowledge(&outbox, &(struct wire_u64s){both, 2});
    ck_assert_uint_eq(outbox.count, 0);
    ck_assert_uint_eq(outbox.bytes, 0);
}
END_TEST

START_TEST(a_message_has_a_bound)
{
    size_t all = 0, messages = 0;
    for (uint64_t token = 1; token <= 40; token++) add(token, (size_t)1 << 20);
    for (size_t n = outbox_due(&outbox, 1, due); n > 0; n = outbox_due(&outbox, 1, due)) {
        size_t bytes = 0;
        for (size_t i = 0; i < n; i++) bytes += due[i].payload.size;
        ck_assert_uint_lt(bytes, OUTBOX_SET_BYTES + ((size_t)1 << 20));
        all += n;
        messages++;
    }
    ck_assert_uint_eq(all, 40);
    ck_assert_uint_eq(messages, 3);
}
END_TEST

START_TEST(it_is_full_by_number_or_by_bytes)
{
    uint64_t token = 1;
    while (!outbox_is_full(&outbox)) add(token++, 1);
    ck_assert_uint_eq(outbox.count, OUTBOX_MOST);
    outbox_acknowledge(&outbox, &(struct wire_u64s){&(uint64_t){1}, 1});
    ck_assert(!outbox_is_full(&outbox));
    outbox_clear(&outbox);
    while (!outbox_is_full(&outbox)) add(token++, (size_t)4 << 20);
    ck_assert_uint_eq(outbox.count, OUTBOX_BYTES / ((size_t)4 << 20));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("outbox");
    TCase *tcase = tcase_create("outbox");
    tcase_add_checked_fixture(tcase, NULL, teardown);
    tcase_add_test(tcase, ends_are_kept_until_they_are_acknowledged);
    tcase_add_test(tcase, a_message_has_a_bound);
    tcase_add_test(tcase, it_is_full_by_number_or_by_bytes);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
