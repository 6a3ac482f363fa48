/* LABELS: unit store
 * Curricula by success rate in the real pal-data: tasks inside the band, batches of adcl in the order of success, killed in
 * the middle of both; a job that is killed and forked draws what one draws that is left in peace. */
#include "tests/support/stage.h"

#define TASKS 8

static const struct stage_job BAND = {.tasks = TASKS,
                                      .group_size = 2,
                                      .groups = 1,
                                      .updates = 30,
                                      .more =
                                          ", \"curriculum\": {\"kind\": \"success-band\", \"outside\": 0, \"window\": 2}"};
static const struct stage_job ADCL = {.tasks = TASKS,
                                      .group_size = 2,
                                      .groups = 1,
                                      .updates = 30,
                                      .more = ", \"curriculum\": {\"kind\": \"adcl\", \"batch\": 4, \"window\": 2}"};

struct cast {
    struct peer *gateway, *trainer, *worker;
};

static struct cast begin(const struct stage_job *job)
{
    struct cast c = {stage_join("gateway"), stage_join("trainer"), stage_join("rollout")};
    stage_begin(c.gateway, c.trainer, c.worker, job);
    return c;
}

static void restart(const struct cast *c)
{
    uint64_t worker = c->worker->hellos_again, trainer = c->trainer->hellos_again;
    stage_restart();
    WAIT_FOR(c->worker->hellos_again > worker && c->trainer->hellos_again > trainer);
}

/* Plays the group of an update, the two episodes with these rewards, and makes the update; returns its task. */
static uint64_t play(struct cast *c, int64_t update, double first, double second)
{
    size_t at = 2 * ((size_t)update - 1);
    worker_request(c->worker, 2);
    WAIT_FOR(c->worker->lease_count == at + 2);
    struct lease *leases = &c->worker->leases[at];
    ck_assert_uint_eq(leases[0].group, leases[1].group);
    worker_end(c->worker, &leases[0], "ok", first);
    worker_end(c->worker, &leases[1], "ok", second);
    (void)trainer_fetch(c->trainer, update);
    trainer_apply(c->trainer, update);
    trainer_publish(c->trainer, update);
    WAIT_FOR(c->worker->wanted == update);
    return leases[0].task;
}

/* The task that an update's group will be of. */
static uint64_t next_task(struct cast *c, int64_t update)
{
    size_t at = 2 * ((size_t)update - 1);
    worker_request(c->worker, 2);
    WAIT_FOR(c->worker->lease_count == at + 2);
    return c->worker->leases[at].task;
}

static double odd(uint64_t task)
{
    return task % 2 ? 1 : 0;
}

START_TEST(tasks_that_vary_are_preferred)
{
    struct cast c = begin(&BAND);
    bool seen[TASKS] = {false};
    int64_t update = 1;
    for (; update <= TASKS; update++) { /* those never played are inside: each comes once */
        if (update == 4) restart(&c);
        uint64_t task = next_task(&c, update);
        ck_assert(!seen[task]);
        seen[task] = true;
        (void)play(&c, update, odd(task), odd(task)); /* always or never solved: outside from now on */
    }
    uint64_t varied = play(&c, update++, 0, 1); /* the band is empty: any; 1/2 now */
    restart(&c);
    for (; update < TASKS + 6; update++) ck_assert_uint_eq(play(&c, update, 0, 1), varied);
    ck_assert_uint_eq(play(&c, update++, 1, 1), varied);
    varied = play(&c, update++, 0, 1); /* empty again: any */
    ck_assert_uint_eq(play(&c, update, 0, 1), varied);
}
END_TEST

/* Plays a batch of four; its tasks, in order. */
static void play_batch(struct cast *c, int64_t *update, uint64_t *ret, bool killed)
{
    for (size_t i = 0; i < 4; i++, ++*update) {
        ret[i] = next_task(c, *update);
        if (killed && i % 2) restart(c);
        (void)play(c, *update, odd(ret[i]), odd(ret[i]));
    }
}

START_TEST(batches_are_in_the_order_of_success)
{
    struct cast c = begin(&ADCL);
    uint64_t first[8], second[8];
    int64_t update = 1;
    play_batch(&c, &update, first, false);
    play_batch(&c, &update, first + 4, true);
    for (size_t i = 0; i < 8; i++) {
        for (size_t k = 0; k < i; k++) ck_assert_uint_ne(first[i], first[k]); /* a pass has each once */
    }
    for (size_t b = 0; b < 8; b += 4) {
        play_batch(&c, &update, second + b, true);
        for (size_t i = b; i < b + 4; i++) {
            bool same = false;
            for (size_t k = b; k < b + 4; k++) same |= second[i] == first[k];
            ck_assert(same); /* the batches keep their tasks, and are sorted anew */
            if (i > b) ck_assert_uint_ge(second[i - 1] % 2, second[i] % 2);
        }
    }
    (void)play(&c, update, 0, 1);
    ck_assert_int_ge(ledger_ask("SELECT count(*) FROM decision WHERE job = $1 AND rule = 'adcl' AND verdict = 'sorted'", 0),
                     5);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM decision WHERE job = $1 AND rule = 'adcl' AND inputs ->> 'pass' = '1'"
                                " AND (inputs ->> 'known')::int = 4",
                                0),
                     2);
}
END_TEST

/* ---- two jobs ---- */

#define UPDATES 9
#define SAVED   3 /* version of the checkpoint that the next trainer goes back to */
#define FORKED  5

static const struct stage_job PAIRS[] = {
    {.tasks = TASKS,
     .group_size = 2,
     .groups = 2,
     .updates = 99,
     .more = ", \"curriculum\": {\"kind\": \"success-band\", \"outside\": 0.25, \"window\": 4}"},
    {.tasks = TASKS,
     .group_size = 2,
     .groups = 2,
     .updates = 99,
     .more = ", \"curriculum\": {\"kind\": \"adcl\", \"batch\": 4, \"window\": 4}"},
};

/* Never solved, always, or one time out of two: by the task's number. */
static double outcome_of(const struct lease *lease, size_t i)
{
    return lease->task % 3 == 1 || (lease->task % 3 == 2 && i % 2) ? 1 : 0;
}

static void make(const struct cast *c, struct peer *trainer, int64_t update)
{
    (void)trainer_fetch(trainer, update);
    trainer_apply(trainer, update);
    trainer_publish(trainer, update);
    if (update == SAVED) trainer_commit(trainer, update);
    WAIT_FOR(c->worker->wanted == update);
}

/* A trainer that knows only the checkpoint makes the updates after it again. */
static struct peer *fork_at(const struct cast *c)
{
    c->trainer->mute = true;
    struct peer *next = stage_join("trainer");
    WAIT_FOR(next->job == (uint64_t)stage.job && next->lineage == 1);
    next->version = SAVED;
    trainer_publish(next, SAVED);
    c->worker->wanted = SAVED;
    for (int64_t update = SAVED + 1; update <= FORKED; update++) make(c, next, update);
    return next;
}

/* A digest of the tasks that are drawn for so many updates, in their order. */
static int64_t draws(struct cast *c, const struct stage_job *job, bool killed)
{
    size_t at = c->worker->lease_count;
    struct peer *trainer = c->trainer;
    stage_begin(c->gateway, trainer, c->worker, job);
    for (int64_t update = 1; update <= UPDATES; update++, at += 4) {
        worker_request(c->worker, 4);
        WAIT_FOR(c->worker->lease_count == at + 4);
        for (size_t i = 0; i < 4; i++) {
            if (killed && i == 2 && update % 2) restart(c); /* one group is closed, the other is open */
            worker_end(c->worker, &c->worker->leases[at + i], "ok", outcome_of(&c->worker->leases[at + i], i));
            if (killed) WAIT_FOR(worker_acked(c->worker));
        }
        make(c, trainer, update);
        if (killed && update == FORKED) c->trainer = trainer = fork_at(c);
    }
    return ledger_ask("SELECT hashtextextended(string_agg(task::text, ',' ORDER BY id), 0) FROM episode_group WHERE job = $1"
                      " AND source = 'fresh' AND update_for <= $2",
                      UPDATES);
}

START_TEST(kills_and_forks_change_no_draw)
{
    struct cast c = {stage_join("gateway"), stage_join("trainer"), stage_join("rollout")};
    int64_t calm = draws(&c, &PAIRS[_i], false);
    ledger_verify(stage.job);
    stage_command(c.gateway, stage.job, "cancel", "");
    ck_assert_int_eq(draws(&c, &PAIRS[_i], true), calm);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {tasks_that_vary_are_preferred, batches_are_in_the_order_of_success,
                                  kills_and_forks_change_no_draw, kills_and_forks_change_no_draw};
    return stage_main("rates", tests, sizeof tests / sizeof *tests);
}
