/* LABELS: unit
 * intake and prompts: members of a batch as episodes (hints, contexts, dropped turns, rewards), judged episodes as what the
 * reward model reads, bad ones named; the angle of a batch's prompts is that of their hidden states. */
#include "rollout/angle.h"
#include "rollout/sequence.h"
#include "services/trainer/prompts.h"
#include "tests/trainer/trainer_fixture.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <zstd.h>

struct packed {
    uint8_t bytes[1024];
    size_t size, raw;
};

/* Two turns: tokens 0 1 2 then action 3 4, token 5 6 then action 7 8 9; the vocabulary of the fixture is 13 ids. */
static const uint8_t TARGET[10] = {0, 0, 0, 1, 1, 0, 0, 1, 1, 1};
static const uint16_t TURN[10] = {0, 0, 0, 0, 0, 1, 1, 1, 1, 1};
static int32_t token[10];
static const float LOGP[10] = {0, 0, 0, -1, -1, 0, 0, -1, -1, -1}, ENTROPY[10] = {0, 0, 0, 1, 1, 0, 0, 1, 1, 1};
static const int32_t VERSION[10] = {-1, -1, -1, 4, 4, -1, -1, 5, 5, 5};

static struct sequence two_turns(uint32_t hint)
{
    for (int32_t i = 0; i < 10; i++) token[i] = 1 + (i * 5) % 11;
    return (struct sequence){.count = 10,
                             .turns = 2,
                             .token = token,
                             .target = TARGET,
                             .turn = TURN,
                             .logp = LOGP,
                             .entropy = ENTROPY,
                             .version = VERSION,
                             .sampled = true,
                             .hint = hint};
}

static struct packed pack(const struct sequence *sequence)
{
    AUTO(buf) raw = {0};
    struct packed p = {.size = 0};
    ck_assert_int_eq(sequence_encode(sequence, &raw), ERR_ok);
    p.raw = raw.size;
    p.size = ZSTD_compress(p.bytes, sizeof p.bytes, raw.data, raw.size, 1);
    ck_assert(!ZSTD_isError(p.size));
    return p;
}

static struct wire_batch_member member_of(const struct packed *p, uint64_t id)
{
    return (struct wire_batch_member){.episode = id,
                                      .group = 7,
                                      .advantage = 0.5,
                                      .signal = true,
                                      .action_tokens = 5,
                                      .payload = span_of(p->bytes, p->size),
                                      .payload_raw = p->raw,
                                      .reward = 1};
}

static struct wire_batch batch_of(const struct wire_batch_member *members, size_t count)
{
    return (struct wire_batch){
        .update = 3, .kind = span_text("update"), .norm_tokens = 10, .members = members, .members_count = count};
}

static const struct intake_reader NO_READER = {.room = 0};

START_TEST(members_become_episodes)
{
    const struct sequence plain = two_turns(0), with_hint = two_turns(2);
    const struct packed a = pack(&plain), b = pack(&with_hint);
    const uint64_t first = 0;
    char source[] = "hinted";
    struct wire_batch_member members[] = {member_of(&a, 1), member_of(&b, 2), member_of(&a, 3), member_of(&a, 4)};
    members[1].source = span_text(source);
    members[1].turns = 2;
    members[2].dropped = (struct wire_u64s){&first, 1};
    members[2].action_tokens = 3;
    members[3].signal = false; /* for the value head */
    struct wire_batch batch = batch_of(members, 4);
    batch.extra_passes = 2;
    struct intake *intake = NULL;
    ck_assert_int_eq(intake_new(&intake, &batch), ERR_ok);
    memset(members, 0xee, sizeof members); /* the message is gone */
    memset(source, 'x', sizeof source - 1);
    err_t err = intake_decode(intake, &NO_READER);
    ck_assert_msg(err == ERR_ok, "%s", err_text());
    const struct episode *e = intake->episodes;
    ck_assert_uint_eq(e[0].count, 10);
    ck_assert_uint_eq(e[0].turns, 2);
    ck_assert_uint_eq(e[0].action_turns, 2); /* counted where it was not told */
    ck_assert_uint_eq(e[0].hint, 0);
    ck_assert_double_eq(e[0].reward, 1);
    ck_assert_uint_eq(e[1].hint, 2);
    ck_assert(span_is(intake->members[1].source, "hinted"));
    ck_assert(episode_drops(&e[2], 0) && !episode_drops(&e[2], 1));
    ck_assert_uint_eq(e[2].action_turns, 1);
    ck_assert(!e[3].signal && e[3].count == 10);
    for (size_t i = 0; i < 4; i++) ck_assert_int_eq(episode_check(&e[i], 13, 64), ERR_ok);
    const struct update_batch update = intake_update(intake);
    ck_assert_uint_eq(update.extra_passes, 2);
    ck_assert(!update.discarded);
    intake_free(&intake);
}
END_TEST

START_TEST(contexts_per_turn_are_episodes_of_several)
{
    /* the second context repeats all of the first turn */
    int32_t tokens[15];
    uint8_t target[15] = {0};
    uint16_t turn[15];
    float logp[15] = {0}, entropy[15] = {0};
    int32_t version[15];
    (void)two_turns(0);
    for (uint32_t i = 0; i < 15; i++) {
        uint32_t from = i < 5 ? i : i - 5;
        tokens[i] = token[from];
        turn[i] = i >= 5;
        target[i] = i < 5 || from >= 5 ? TARGET[from] : 0;
        logp[i] = target[i] ? LOGP[from] : 0;
        entropy[i] = target[i] ? ENTROPY[from] : 0;
        version[i] = target[i] ? VERSION[from] : -1;
    }
    const uint32_t segment[] = {0, 5, 15}, own[] = {0, 10};
    const struct sequence stepwise = {.count = 15,
                                      .turns = 2,
                                      .token = tokens,
                                      .target = target,
                                      .turn = turn,
                                      .logp = logp,
                                      .entropy = entropy,
                                      .version = version,
                                      .sampled = true,
                                      .segments = 2,
                                      .segment = segment,
                                      .own = own};
    const struct packed p = pack(&stepwise);
    const struct wire_batch_member member = member_of(&p, 9);
    const struct wire_batch batch = batch_of(&member, 1);
    struct intake *intake = NULL;
    ck_assert_int_eq(intake_new(&intake, &batch), ERR_ok);
    err_t err = intake_decode(intake, &NO_READER);
    ck_assert_msg(err == ERR_ok, "%s", err_text());
    const struct episode *e = intake->episodes;
    ck_assert_uint_eq(episode_contexts(e), 2);
    ck_assert_uint_eq(episode_context(e, 1, false).from, 5);
    ck_assert_uint_eq(episode_context(e, 1, false).to, 15);
    ck_assert_uint_eq(e->action_tokens, 5);
    ck_assert_int_eq(episode_check(e, 13, 64), ERR_ok);
    intake_free(&intake);
}
END_TEST

static void expect(const struct wire_batch *batch, const struct intake_reader *reader, const char *why)
{
    struct intake *intake = NULL;
    err_t err = intake_new(&intake, batch);
    if (err == ERR_ok) err = intake_decode(intake, reader);
    ck_assert_int_eq(err, ERR_malformed);
    ck_assert_msg(strstr(err_text(), why) != NULL, "\"%s\" should speak of \"%s\"", err_text(), why);
    intake_free(&intake);
}

START_TEST(bad_ones_are_named)
{
    const struct sequence plain = two_turns(0);
    struct packed p = pack(&plain);
    const uint64_t far = 2;
    struct wire_batch_member member = member_of(&p, 77);
    struct wire_batch batch = batch_of(&member, 1);
    batch.extra_passes = 1000;
    expect(&batch, &NO_READER, "extra_passes");
    batch.extra_passes = 0;
    member.dropped = (struct wire_u64s){&far, 1};
    expect(&batch, &NO_READER, "episode 77 is poisoned: turn 2");
    member.dropped.n = 0;
    member.payload_raw++;
    expect(&batch, &NO_READER, "episode 77");
    member.payload_raw--;
    member.turns = UINT64_MAX;
    expect(&batch, &NO_READER, "turns");
    member.turns = 0;
    const struct wire_judged judged = {.episode = 5, .payload = span_of(p.bytes, p.size), .payload_raw = p.raw};
    batch.judged = &judged;
    batch.judged_count = 1;
    expect(&batch, &NO_READER, "no outcome reward model");
    const struct intake_reader narrow = {.judge = {.prompt = {1, 2}, .prompt_count = 2}, .room = 2};
    expect(&batch, &narrow, "judged episode 5");
}
END_TEST

START_TEST(judged_episodes_are_read_as_rollout_workers_do)
{
    const struct sequence with_hint = two_turns(2);
    const struct packed p = pack(&with_hint);
    const struct intake_reader reader = {.judge = {.prompt = {11, 12}, .prompt_count = 2, .yes = 3, .no = 4}, .room = 32};
    const struct wire_judged judged = {
        .episode = 5, .success = true, .test = true, .payload = span_of(p.bytes, p.size), .payload_raw = p.raw};
    struct wire_batch batch = batch_of(NULL, 0);
    batch.judged = &judged;
    batch.judged_count = 1;
    batch.phase = 4;
    batch.phase_end = true;
    struct intake *intake = NULL;
    ck_assert_int_eq(intake_new(&intake, &batch), ERR_ok);
    ck_assert_int_eq(intake_decode(intake, &reader), ERR_ok);
    ck_assert(intake->phase == 4 && intake->phase_end && intake->case_count == 1);
    int32_t layout[32];
    uint32_t count = judge_layout(&reader.judge, &with_hint, layout, 32);
    const struct orm_case *c = intake->cases;
    ck_assert_uint_eq(c->count, count);
    ck_assert_uint_eq(count, 10 - 2 + 2); /* the hint left out, the prompt behind it */
    ck_assert_mem_eq(c->token, layout, count * sizeof *layout);
    ck_assert(c->success && c->test && c->id == 5);
    intake_free(&intake);
}
END_TEST

START_TEST(the_angle_is_that_of_the_prompts)
{
    AUTO_PTR(pool) pool = NULL;
    ck_assert_int_eq(pool_new(&pool, 2), ERR_ok);
    AUTO_PTR(trainee) trainee = fixture_trainee(pool);
    const struct sequence plain = two_turns(0), with_hint = two_turns(1);
    const struct packed a = pack(&plain), b = pack(&with_hint);
    struct wire_batch_member members[] = {member_of(&a, 1), member_of(&a, 2), member_of(&b, 3), member_of(&b, 4)};
    members[2].group = 8;
    members[3].group = 9;
    members[3].source = span_text("replay"); /* none of this update's prompts */
    const struct wire_batch batch = batch_of(members, 4);
    struct intake *intake = NULL;
    ck_assert_int_eq(intake_new(&intake, &batch), ERR_ok);
    ck_assert_int_eq(intake_decode(intake, &NO_READER), ERR_ok);
    /* the template is the first of the prompt's three tokens; of the hinted one two are left, and it begins otherwise */
    struct prompts prompts = {.on = true, .opening = {token[0], 12}, .opening_count = 2};
    double angle = 0, scratch[32], expected = 0;
    ck_assert_int_eq(prompts_angle(&prompts, trainee, intake, &angle), ERR_ok);
    for (uint32_t hint = 0; hint < 2; hint++) {
        float logp[3], entropy[3], hidden[3 * 16];
        const uint32_t n = 3 - hint, start[] = {0, n + 1}, target[] = {1, 2, 3};
        const struct learner_batch one = {1, start, token + hint, n, target, 1};
        const struct learner_out out = {logp, entropy, hidden};
        ck_assert_int_eq(learner_forward(trainee->learner, 0, trainee->model, &one, &out), ERR_ok);
        struct angle c = angle_measure(hidden, n, 16, hint ? 0 : 1, scratch);
        expected += (c.intra + c.inter) / 2;
    }
    ck_assert_double_eq_tol(angle, expected, 1e-6);
    intake_free(&intake);
    const struct wire_batch empty = batch_of(NULL, 0);
    ck_assert_int_eq(intake_new(&intake, &empty), ERR_ok);
    ck_assert_int_eq(intake_decode(intake, &NO_READER), ERR_ok);
    ck_assert_int_eq(prompts_angle(&prompts, trainee, intake, &angle), ERR_ok);
    ck_assert(isnan(angle));
    intake_free(&intake);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("intake");
    TCase *tcase = tcase_create("intake");
    tcase_add_test(tcase, members_become_episodes);
    tcase_add_test(tcase, contexts_per_turn_are_episodes_of_several);
    tcase_add_test(tcase, bad_ones_are_named);
    tcase_add_test(tcase, judged_episodes_are_read_as_rollout_workers_do);
    tcase_add_test(tcase, the_angle_is_that_of_the_prompts);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
