/* LABELS: unit
 * judge: what it reads of an episode, whatever context it was played with, and what its logits say. */
#include "rollout/judge.h"

#include <check.h>
#include <math.h>

#define ROOM 64

static struct tokenizer *tokenizer;
static struct judge judge;

static void setup(void)
{
    ck_assert_int_eq(tokenizer_new_words(&tokenizer, NULL, 0), ERR_ok);
    ck_assert_int_eq(judge_init(&judge, tokenizer), ERR_ok);
}

static void teardown(void)
{
    tokenizer_free(&tokenizer);
}

/* "h|see|A|more|B" as tokens: a hint, an observation, an action, ...; small letters are observed, capitals are targets */
static struct sequence episode(const char *text, uint32_t hint, int32_t *token, uint8_t *target, uint16_t *turn)
{
    size_t count = 0;
    ck_assert_int_eq(tokenizer_encode(tokenizer, span_text(text), token, ROOM, &count), ERR_ok);
    ck_assert_uint_eq(count, strlen(text));
    for (size_t i = 0; i < count; i++) {
        target[i] = text[i] >= 'A' && text[i] <= 'Z';
        turn[i] = 0;
    }
    return (struct sequence){
        .count = (uint32_t)count, .turns = 1, .token = token, .target = target, .turn = turn, .hint = hint};
}

static void reads(const struct sequence *s, uint32_t room, const char *wanted)
{
    int32_t tokens[2 * ROOM];
    AUTO(buf) text = {0};
    uint32_t n = judge_layout(&judge, s, tokens, room);
    ck_assert_uint_le(n, room);
    ck_assert_int_eq(tokenizer_decode(tokenizer, tokens, n, &text), ERR_ok);
    ck_assert_str_eq(buf_chars(&text), wanted);
}

START_TEST(the_episode_and_the_question)
{
    int32_t token[ROOM];
    uint8_t target[ROOM];
    uint16_t turn[ROOM];
    struct sequence s = episode("hintseeAmoreBdone", 4, token, target, turn);
    reads(&s, ROOM, "seeAmoreBdone\nsolved?");
    s = episode("", 0, token, target, turn);
    reads(&s, ROOM, "\nsolved?");
}
END_TEST

/* the same from a context per turn: hint and repetitions are read once */
START_TEST(segments_are_read_once)
{
    int32_t token[ROOM];
    uint8_t target[ROOM];
    uint16_t turn[ROOM];
    struct sequence s = episode("hintseeAhintseeamoreBhintdone", 4, token, target, turn);
    const uint32_t segment[] = {0, 8, 21, 29}, own[] = {0, 16, 25};
    s.segments = 3;
    s.segment = segment;
    s.own = own;
    reads(&s, ROOM, "seeAmoreBdone\nsolved?");
}
END_TEST

/* the first observation stays (up to half of the room), and the end; what is in the middle goes */
START_TEST(a_long_episode_is_cut_in_the_middle)
{
    int32_t token[ROOM];
    uint8_t target[ROOM];
    uint16_t turn[ROOM];
    struct sequence s = episode("seeABCDEFGHIJKLdone", 0, token, target, turn);
    reads(&s, 8 + 19, "seeABCDEFGHIJKLdone\nsolved?");
    reads(&s, 8 + 10, "seeJKLdone\nsolved?");
    reads(&s, 8 + 4, "sene\nsolved?");
    reads(&s, 8 + 1, "e\nsolved?");
    int32_t tokens[ROOM];
    ck_assert_uint_eq(judge_layout(&judge, &s, tokens, 8), 0);
    ck_assert_uint_eq(judge_layout(&judge, &s, tokens, 0), 0);
}
END_TEST

START_TEST(the_score_is_of_two_letters)
{
    float logits[256] = {0};
    ck_assert_int_ne(judge.yes, judge.no);
    ck_assert_double_eq(judge_score(&judge, logits), 0.5);
    logits[judge.yes] = logf(3);
    logits[0] = 80; /* what else is likely does not matter */
    ck_assert_double_eq_tol(judge_score(&judge, logits), 0.75, 1e-6);
    logits[judge.no] = 1000;
    ck_assert_double_eq(judge_score(&judge, logits), 0);
    logits[judge.yes] = 3000;
    ck_assert_double_eq(judge_score(&judge, logits), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("judge");
    TCase *tcase = tcase_create("judge");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, the_episode_and_the_question);
    tcase_add_test(tcase, segments_are_read_once);
    tcase_add_test(tcase, a_long_episode_is_cut_in_the_middle);
    tcase_add_test(tcase, the_score_is_of_two_letters);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
