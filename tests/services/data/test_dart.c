/* LABELS: unit store
 * DART in the real pal-data: group sizes by success, step limits by the longest success, turns by their entropy, failed
 * groups saved from the pool, advantages over steps; each killed and read back, batches the same in another lineage. */
#include "tests/support/stage.h"

#include <math.h>

#define DART(keys) ", \"curation\": {\"dart\": {" keys "}}"
#define ONLY(keys) DART("\"count\": false, \"cap\": false, \"keep\": 1, \"pool\": \"off\"" keys)

struct cast {
    struct peer *gateway, *trainer, *worker;
};

static struct cast begin(const struct stage_job *job)
{
    struct cast c = {stage_join("gateway"), stage_join("trainer"), stage_join("rollout")};
    stage_begin(c.gateway, c.trainer, c.worker, job);
    worker_request(c.worker, 64);
    return c;
}

/* The next n leases, from *at on; *at moves past them. */
static struct lease *next_leases(struct cast *c, size_t *at, size_t n)
{
    WAIT_FOR(c->worker->lease_count >= *at + n);
    struct lease *first = &c->worker->leases[*at];
    for (size_t i = 0; i < n; i++) ck_assert_uint_eq(first[i].group, first[0].group);
    if (c->worker->lease_count > *at + n) ck_assert_uint_ne(first[n].group, first[0].group);
    *at += n;
    return first;
}

static void end_with(struct cast *c, struct lease *leases, const double *rewards, size_t n)
{
    for (size_t i = 0; i < n; i++) worker_end(c->worker, &leases[i], "ok", rewards[i]);
    WAIT_FOR(worker_acked(c->worker));
}

static void made(struct cast *c, int64_t update)
{
    trainer_apply(c->trainer, update);
    trainer_publish(c->trainer, update);
    WAIT_FOR(c->worker->wanted == update);
}

static void restart(const struct cast *c)
{
    uint64_t worker = c->worker->hellos_again, trainer = c->trainer->hellos_again;
    stage_restart();
    WAIT_FOR(c->worker->hellos_again > worker && c->trainer->hellos_again > trainer);
}

/* Thousandths of a figure; -1: it is not there. */
static int64_t figure(int64_t update, const char *sql)
{
    return ledger_ask(sql, update);
}

#define FIGURE(update, name)                                                                                                 \
    figure(update, "SELECT coalesce((SELECT round(1000 * value)::bigint FROM metric WHERE job = $1 AND update = $2"          \
                   " AND name = '" name "'), -1)")

static const double ALL[] = {1, 1, 1, 1, 1, 1, 1, 1}, NONE[8] = {0}, HALF[] = {0, 1, 0, 1};

/* ---- count ---- */

START_TEST(groups_shrink_with_success)
{
    const struct stage_job job = {.tasks = 1,
                                  .group_size = 8,
                                  .groups = 1,
                                  .updates = 9,
                                  .more = DART("\"cap\": false, \"keep\": 1, \"pool\": \"off\"")};
    struct cast c = begin(&job);
    size_t at = 0;
    end_with(&c, next_leases(&c, &at, 8), ALL, 8);
    ck_assert_uint_eq(trainer_fetch(c.trainer, 1)->count, 8);
    made(&c, 1);
    struct lease *two = next_leases(&c, &at, 2); /* s = 1 over the 8 */
    end_with(&c, two, HALF, 2);
    restart(&c); /* what it knows of the task it reads back */
    ck_assert_uint_eq(trainer_fetch(c.trainer, 2)->count, 2);
    made(&c, 2);
    struct lease *more = next_leases(&c, &at, 8); /* s = 1/2 over the 2 of last time */
    end_with(&c, more, (const double[]){1, 1, 1, 1, 1, 1, 0, 0}, 8);
    ck_assert_uint_eq(trainer_fetch(c.trainer, 3)->count, 8);
    made(&c, 3);
    (void)next_leases(&c, &at, 5); /* s = 3/4: floor(9 / .75 - 7) */
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM decision d JOIN episode_group g ON g.job = d.job AND g.id = d.key"
                                " WHERE d.job = $1 AND d.rule = 'count' AND (d.inputs ->> 'n')::int = g.size",
                                0),
                     4);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM decision WHERE job = $1 AND rule = 'count' AND verdict = 'fewer'"
                                " AND (inputs ->> 's')::float8 = 0.75 AND (inputs ->> 'm')::int = 8",
                                0),
                     1);
    ck_assert_int_eq(FIGURE(2, "rollouts_per_task"), 2000);
    ck_assert_int_eq(FIGURE(2, "hinted_groups"), -1);
}
END_TEST

/* ---- cap ---- */

START_TEST(limits_follow_the_longest_success)
{
    const struct stage_job job = {.tasks = 1,
                                  .group_size = 4,
                                  .groups = 1,
                                  .updates = 9,
                                  .evaluated = 2,
                                  .more = DART("\"count\": false, \"keep\": 1, \"pool\": \"off\"")};
    struct cast c = begin(&job);
    size_t at = 2;
    WAIT_FOR(c.worker->lease_count >= 2);
    struct lease *first = next_leases(&c, &at, 4);
    for (size_t i = 0; i < 4; i++) {
        ck_assert_uint_eq(first[i].max_steps, 10);
        first[i].steps = 2 + i; /* the successes: 3 and 5 steps; a failure has 4 */
    }
    first[2].steps = 9;
    first[3].steps = 4;
    end_with(&c, first, HALF, 4);
    end_with(&c, c.worker->leases, ALL, 2); /* evaluations say nothing of it */
    restart(&c);
    ck_assert_uint_eq(trainer_fetch(c.trainer, 1)->count, 4);
    made(&c, 1);
    struct lease *second = next_leases(&c, &at, 4);
    for (size_t i = 0; i < 4; i++) {
        ck_assert_uint_eq(second[i].max_steps, 7); /* ceil(4 * 1.25) + 2 */
        ck_assert_int_eq(
            ledger_ask("SELECT max_steps::bigint FROM episode WHERE job = $1 AND id = $2", (int64_t)second[i].episode), 7);
    }
    restart(&c); /* a lease that is granted again keeps its limit */
    worker_end(c.worker, &second[0], "env_error", 0);
    WAIT_FOR(c.worker->lease_count == at + 1);
    ck_assert_uint_eq(c.worker->leases[at].max_steps, 7);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM decision WHERE job = $1 AND rule = 'cap' AND verdict = 'capped' AND"
                                " (inputs ->> 'longest')::int = 4 AND (inputs ->> 'successes')::int = 2",
                                0),
                     1);
    worker_play(c.worker, true);
    ck_assert_uint_eq(trainer_fetch(c.trainer, 2)->count, 4);
    made(&c, 2);
    ck_assert_int_eq(FIGURE(1, "steps_capped"), 0);
    ck_assert_int_eq(FIGURE(2, "steps_capped"), 3000);
}
END_TEST

/* ---- entropy ---- */

static const float FLAT[][3] = {{0.9f, 0.1f, 0}, {0.2f, 0.8f, 0}, {0.3f, 0.7f, 0}, {0.4f, 0.6f, 0}};
static const float TOKENS[] = {3, 2, 0}; /* the last turn is an observation that nothing follows */

START_TEST(turns_of_low_entropy_are_dropped)
{
    const struct stage_job job = {.tasks = 1,
                                  .group_size = 4,
                                  .groups = 1,
                                  .updates = 4,
                                  .more = DART("\"count\": false, \"cap\": false, \"keep\": 0.5, \"pool\": \"off\"")};
    struct cast c = begin(&job);
    size_t at = 0;
    struct lease *leases = next_leases(&c, &at, 4);
    for (size_t i = 0; i < 4; i++) {
        leases[i].entropy = FLAT[i];
        leases[i].tokens = TOKENS;
        leases[i].turns = 3;
    }
    end_with(&c, leases, HALF, 4);
    restart(&c); /* chosen anew from the ledger */
    struct batch first = *trainer_fetch(c.trainer, 1);
    /* the median of .1 to .9 without .5 is .5: of each episode one turn stays */
    const uint64_t dropped[] = {2, 1, 1, 1}, tokens[] = {3, 2, 2, 2};
    for (size_t i = 0; i < 4; i++) {
        ck_assert_uint_eq(first.dropped[i], dropped[i]);
        ck_assert_uint_eq(first.tokens[i], tokens[i]);
    }
    ck_assert_uint_eq(first.norm_tokens, 9);
    const struct batch *again = trainer_fetch(c.trainer, 1);
    batch_same(&first, again);
    for (size_t i = 0; i < 4; i++) {
        ck_assert_uint_eq(again->dropped[i], dropped[i]);
        ck_assert_uint_eq(again->tokens[i], tokens[i]);
    }
    made(&c, 1);
    ck_assert_int_eq(
        ledger_ask("SELECT count(*) FROM decision WHERE job = $1 AND rule = 'entropy' AND verdict = 'dropped' AND"
                   " (inputs ->> 'turns')::int = 8 AND (inputs ->> 'dropped')::int = 4",
                   0),
        1);
    (void)next_leases(&c, &at, 4);
    worker_play(c.worker, true); /* without a word about tokens no turn can be chosen */
    const struct batch *second = trainer_fetch(c.trainer, 2);
    for (size_t i = 0; i < 4; i++) ck_assert_uint_eq(second->dropped[i], 0);
}
END_TEST

START_TEST(dropped_turns_are_a_figure)
{
    const struct stage_job job = {.tasks = 1,
                                  .group_size = 4,
                                  .groups = 1,
                                  .updates = 4,
                                  .more = DART("\"count\": false, \"cap\": false, \"keep\": 0.5, \"pool\": \"off\"")};
    struct cast c = begin(&job);
    size_t at = 0;
    struct lease *leases = next_leases(&c, &at, 4);
    for (size_t i = 0; i < 4; i++) {
        leases[i].entropy = FLAT[i];
        leases[i].tokens = TOKENS;
        leases[i].turns = 3;
    }
    end_with(&c, leases, NONE, 4); /* without signal: its tokens stay in the denominator, the dropped ones not */
    const struct batch *batch = trainer_fetch(c.trainer, 1);
    ck_assert_uint_eq(batch->norm_tokens, 9);
    made(&c, 1);
    ck_assert_int_eq(FIGURE(1, "turns_dropped_share"), 500);
}
END_TEST

/* ---- pool ---- */

/* The member that came from the pool; there is one. */
static size_t pooled(const struct batch *batch)
{
    size_t at = batch->count;
    for (size_t i = 0; i < batch->count; i++) {
        if (strcmp(batch->source[i], "pool") != 0) continue;
        ck_assert_uint_eq(at, batch->count);
        at = i;
    }
    ck_assert_uint_lt(at, batch->count);
    return at;
}

static void check_saved(const struct batch *batch, const struct lease *failed, const struct lease *earlier, size_t members)
{
    size_t at = pooled(batch);
    ck_assert_uint_eq(batch->count, members);
    ck_assert_uint_eq(batch->group[at], failed[0].group);
    ck_assert(batch->episode[at] == earlier[1].episode || batch->episode[at] == earlier[3].episode);
    ck_assert_uint_ge(batch->pass[at], 1);
    ck_assert_uint_ne(batch->payload[at], 0);
    double mean = 1.0 / (double)members;
    for (size_t i = 0; i < members; i++) {
        ck_assert(batch->signal[i]);
        ck_assert_double_eq_tol(batch->advantage[i], i == at ? 1 - mean : -mean, 1e-9);
        if (i != at) ck_assert_uint_eq(batch->pass[i], 0);
    }
}

START_TEST(an_earlier_success_saves_a_failed_group)
{
    const struct stage_job job = {.tasks = 1,
                                  .group_size = 4,
                                  .groups = 1,
                                  .updates = 9,
                                  .more = DART("\"count\": false, \"cap\": false, \"keep\": 1, \"pool_cap\": 1")};
    struct cast c = begin(&job);
    size_t at = 0;
    struct lease *earlier = next_leases(&c, &at, 4);
    end_with(&c, earlier, HALF, 4);
    (void)trainer_fetch(c.trainer, 1);
    made(&c, 1);
    trainer_commit(c.trainer, 1);
    struct batch twice[2];
    for (int64_t update = 2; update < 4; update++) { /* each of the two successes once */
        struct lease *failed = next_leases(&c, &at, 4);
        restart(&c);
        end_with(&c, failed, NONE, 4);
        restart(&c);
        struct batch *saved = &twice[update - 2];
        *saved = *trainer_fetch(c.trainer, update);
        check_saved(saved, failed, earlier, 4);
        for (size_t i = 0; i < 4; i++) ck_assert_uint_ne(saved->episode[i], failed[0].episode); /* the oldest is left out */
        ck_assert_int_eq((int64_t)saved->norm_tokens,
                         ledger_ask("SELECT sum(action_tokens)::bigint FROM episode e JOIN training_use u ON u.job = e.job"
                                    " AND u.episode = e.id WHERE u.job = $1 AND u.update = $2",
                                    update));
        batch_same(saved, trainer_fetch(c.trainer, update));
        made(&c, update);
        ck_assert_int_eq(FIGURE(update, "pool_members"), 1000);
        ck_assert_int_eq(FIGURE(update, "success"), 0);
    }
    ck_assert_uint_ne(twice[0].episode[pooled(&twice[0])], twice[1].episode[pooled(&twice[1])]);
    end_with(&c, next_leases(&c, &at, 4), NONE, 4);
    ck_assert_uint_eq(trainer_fetch(c.trainer, 4)->no_signal_groups, 1); /* pool_cap */
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM decision WHERE job = $1 AND rule = 'pool' AND verdict = 'replaced'", 0),
                     2);
    c.trainer->mute = true;
    struct peer *heir = stage_join("trainer"); /* from the checkpoint of version 1: the same again */
    WAIT_FOR(heir->job == (uint64_t)stage.job);
    ck_assert_int_eq(heir->resume_version, 1);
    for (int64_t update = 2; update < 4; update++) {
        const struct batch *again = trainer_fetch(heir, update);
        batch_same(&twice[update - 2], again);
        ck_assert_uint_eq(again->pass[pooled(again)], twice[update - 2].pass[pooled(again)]);
        trainer_apply(heir, update);
    }
}
END_TEST

START_TEST(a_success_is_added_within_its_own_update)
{
    const struct stage_job job = {
        .tasks = 1,
        .group_size = 4,
        .groups = 2,
        .updates = 4,
        .more = ", \"curation\": {\"dart\": {\"count\": false, \"cap\": false, \"keep\": 1, \"pool\": \"add\", \"pool_pick\":"
                " \"newest\"}, \"replay_ratio\": {\"low\": 2, \"high\": 2}}"};
    struct cast c = begin(&job);
    size_t at = 0;
    struct lease *good = next_leases(&c, &at, 4), *bad = next_leases(&c, &at, 4);
    end_with(&c, good, HALF, 4);
    end_with(&c, bad, NONE, 4);
    const struct batch *batch = trainer_fetch(c.trainer, 1);
    size_t place = pooled(batch);
    ck_assert_uint_eq(batch->count, 9);
    ck_assert_uint_eq(batch->extra_passes, 1);
    ck_assert_uint_eq(batch->episode[place], good[3].episode); /* the newest */
    ck_assert_uint_eq(batch->group[place], bad[0].group);
    ck_assert_uint_eq(batch->pass[place], 2); /* its own group's passes are 0 and 1 */
    ck_assert_double_eq_tol(batch->advantage[place], 0.8, 1e-9);
    ck_assert_int_eq(
        ledger_ask("SELECT count(*) FROM training_use WHERE job = $1 AND episode = $2", (int64_t)good[3].episode), 4);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM training_use WHERE job = $1 AND source = 'pool'", 0), 2);
}
END_TEST

START_TEST(the_pool_comes_after_the_hint)
{
    const struct stage_job job = {.tasks = 1,
                                  .group_size = 4,
                                  .groups = 1,
                                  .updates = 4,
                                  .more = ", \"curation\": {\"dart\": {\"count\": false, \"cap\": false, \"keep\": 1},"
                                          " \"guide\": {}}"};
    struct cast c = begin(&job);
    size_t at = 0;
    struct lease *earlier = next_leases(&c, &at, 4);
    end_with(&c, earlier, HALF, 4);
    (void)trainer_fetch(c.trainer, 1);
    made(&c, 1);
    end_with(&c, next_leases(&c, &at, 4), NONE, 4);
    struct lease *hinted = next_leases(&c, &at, 4);
    ck_assert_str_eq(hinted[0].source, "hinted");
    end_with(&c, hinted, NONE, 4);
    restart(&c);
    const struct batch *batch = trainer_fetch(c.trainer, 2);
    size_t place = pooled(batch);
    ck_assert_uint_eq(batch->count, 4);
    ck_assert_uint_eq(batch->group[place], hinted[0].group);
    for (size_t i = 0; i < 4; i++) { /* guide.advantage: mean 1/4, sample variance 1/4 */
        ck_assert_str_eq(batch->source[i], i == place ? "pool" : "hinted");
        ck_assert_double_eq_tol(batch->advantage[i], (i == place ? 0.75 : -0.25) / (0.5 + 1e-6), 1e-9);
    }
}
END_TEST

/* ---- steps ---- */

START_TEST(long_episodes_weigh_more)
{
    const struct stage_job job = {
        .tasks = 1, .group_size = 4, .groups = 1, .updates = 4, .more = ONLY(", \"advantage_over\": \"step\"")};
    struct cast c = begin(&job);
    size_t at = 0;
    struct lease *leases = next_leases(&c, &at, 4);
    leases[0].steps = 7;
    leases[1].steps = leases[2].steps = leases[3].steps = 1;
    end_with(&c, leases, HALF, 4);
    const struct batch *batch = trainer_fetch(c.trainer, 1);
    for (size_t i = 0; i < 4; i++) ck_assert_double_eq_tol(batch->advantage[i], HALF[i] - 0.2, 1e-9); /* 2 of 10 steps */
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        groups_shrink_with_success,
        limits_follow_the_longest_success,
        turns_of_low_entropy_are_dropped,
        dropped_turns_are_a_figure,
        an_earlier_success_saves_a_failed_group,
        a_success_is_added_within_its_own_update,
        the_pool_comes_after_the_hint,
        long_episodes_weigh_more,
    };
    return stage_main("dart", tests, sizeof tests / sizeof *tests);
}
