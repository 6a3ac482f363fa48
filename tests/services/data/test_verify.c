/* LABELS: unit store
 * Every invariant of the ledger (verify.def) notices its violation: a job is played to its end, then its rows are broken, one
 * rule at a time, past the schema's own constraints and triggers, and rolled back. */
#include "services/common/store/store_verify.h"
#include "tests/support/stage.h"

#include <stdio.h>

/* One row, or the rows of one group or batch, are enough. */
#define A_DONE            "(SELECT min(e.id) FROM episode e JOIN training_use u ON u.episode = e.id WHERE e.state = 'done')"
#define A_GROUP           "(SELECT min(id) FROM episode_group WHERE verdict = 'signal')"
#define SPEC(path, value) "UPDATE job SET spec = jsonb_set(spec, '" path "', '" value "');"

static const struct {
    const char *name;
    const char *sql;
} violations[] = {
    {"slots_filled_once", "UPDATE episode SET slot = 0 WHERE group_id = " A_GROUP},
    {"failures_have_no_reward", "UPDATE episode SET outcome = 'env_crash' WHERE id = " A_DONE},
    {"rewards_in_range", "UPDATE episode SET reward = 1.5 WHERE id = " A_DONE},
    {"ended_episodes_have_payload", "DELETE FROM episode_payload WHERE episode = " A_DONE},
    {"closed_groups_have_no_open_slot", "UPDATE episode SET state = 'leased', reward = NULL WHERE id = " A_DONE},
    {"closed_groups_have_enough", "UPDATE episode_group SET done = done - 1 WHERE id = " A_GROUP},
    {"signal_means_variance", "UPDATE episode_group SET verdict = 'no_signal' WHERE id = " A_GROUP},
    {"advantages_sum_to_zero", "UPDATE episode_group SET advantage[1] = advantage[1] + 1 WHERE id = " A_GROUP},
    {"left_out_for_a_reason", "UPDATE episode_group SET advantage[1] = NULL WHERE id = " A_GROUP},
    {"batches_hold_their_groups", "UPDATE episode_group SET update_for = update_for + 1 WHERE id = " A_GROUP},
    {"batches_are_full", "UPDATE batch SET groups = groups[1:1] WHERE update = 1"},
    {"members_are_those_of_the_groups",
     "UPDATE batch SET episodes = episodes[2:], pass = pass[2:], advantage = advantage[2:],"
     " source = source[2:], member_group = member_group[2:] WHERE update = 1"},
    {"batch_advantages_are_the_recorded", "UPDATE batch SET advantage[1] = advantage[1] + 1 WHERE update = 1"},
    {"norm_tokens_are_right", "UPDATE batch SET norm_tokens = norm_tokens + 1 WHERE update = 1"},
    {"used_as_recorded", "DELETE FROM training_use WHERE episode = " A_DONE},
    {"trained_once", "INSERT INTO training_use (job, episode, pass, lineage, update, source) SELECT job, episode, pass,"
                     " lineage + 1, update + 1, source FROM training_use WHERE episode = " A_DONE},
    {"redone_batches_are_the_same",
     "CREATE TEMP TABLE redone ON COMMIT DROP AS SELECT * FROM batch WHERE update = 1;"
     "UPDATE redone SET lineage = 1, episodes = episodes[2:] || episodes[1:1]; INSERT INTO batch SELECT * FROM redone"},
    {"passes_are_earned", SPEC("{curation,replay_ratio}", "{}") "SELECT 1"},
    {"gain_draws_without_replacement",
     SPEC("{curriculum,kind}", "\"gain-rl\"") "UPDATE episode_group SET task = 0 WHERE source = 'fresh'"},
    {"adcl_draws_each_once",
     SPEC("{curriculum,kind}", "\"adcl\"") "UPDATE episode_group SET task = 0 WHERE source = 'fresh'"},
    {"gain_mu_moves_on", "INSERT INTO method_state (job, lineage, update, method, state) SELECT id, 0, 1, 'gain-rl',"
                         " '{\"mu\": -1}' FROM job"},
    {"scores_are_of_their_version",
     "INSERT INTO episode_group (job, id, task, source, size, pin_version, state, verdict) SELECT id, 9000, 0, 'score', 1, 0,"
     " 'closed', 'measured' FROM job"},
    {"batches_have_their_phase", SPEC("{curation,webrl}", "{\"phase_updates\": 1}") "SELECT 1"},
    {"tasks_are_drawn_in_their_phase", "UPDATE task SET phase = 9"},
    {"phases_wait_for_their_checkpoint",
     SPEC("{curation,webrl}",
          "{\"phase_updates\": 100, \"overlap\": false}") "UPDATE episode_group SET phase = 1 WHERE source = 'fresh'"},
    {"generated_tasks_passed", "UPDATE task SET source = 'mutate', parent = 1 WHERE id = 0"},
    {"judged_rewards_are_known", "UPDATE episode SET verified = 1 WHERE id = " A_DONE},
    {"replays_are_in_the_band", "UPDATE batch SET source[1] = 'replay' WHERE update = 1"},
    {"replays_are_within_budget",
     SPEC("{curation,webrl}", "{\"replay_most\": 0}") "UPDATE batch SET source[1] = 'replay' WHERE update = 1"},
    {"updates_without_gap", "DELETE FROM batch WHERE update = 1"},
    {"held_out_is_never_trained", "UPDATE task SET split = 'holdout'"},
    {"staleness_within_bound", SPEC("{trainer,max_staleness}", "0") "UPDATE episode SET version_min = 0"},
    {"hinted_groups_replace_failed_ones", "UPDATE episode_group SET source = 'hinted' WHERE id = " A_GROUP},
    {"failed_groups_are_played_again", "UPDATE episode_group SET verdict = 'hinted' WHERE id = " A_GROUP},
    {"hints_are_never_measured", "UPDATE episode SET hinted = true"},
    {"pool_saves_failed_groups", "UPDATE episode_group SET pool = " A_DONE " WHERE id = " A_GROUP},
    {"groups_have_their_size", "UPDATE episode_group SET size = 1000 WHERE id = " A_GROUP},
    {"steps_within_their_limit", "UPDATE episode SET steps = 1000000 WHERE id = " A_DONE},
    {"evaluations_are_pinned", "UPDATE episode SET version_min = 77"},
    {"versions_are_published", "UPDATE episode SET version_max = 99 WHERE id = " A_DONE},
    {"committed_up_to_the_checkpoint", "UPDATE batch SET state = 'applied' WHERE update = 1"},
    {"ended_jobs_have_nothing_open", "UPDATE episode_group SET state = 'open', verdict = NULL WHERE id = " A_GROUP},
};

START_TEST(every_violation_is_noticed)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    const struct stage_job job = {.tasks = 8, .group_size = 4, .groups = 2, .updates = 2, .staleness = 1, .evaluated = 3};
    stage_begin(gateway, trainer, worker, &job);
    worker_request(worker, 64);
    WAIT_FOR(worker->lease_count == 19);
    for (int64_t update = 1; update <= 2; update++) stage_update(trainer, worker, update);
    ck_assert_str_eq(trainer_fetch(trainer, 3)->kind, "end");
    trainer_commit(trainer, 2);
    worker_request(worker, 64);
    WAIT_FOR((worker_play(worker, true), trainer->stopped_job == (uint64_t)stage.job));
    ledger_verify(stage.job);
    for (size_t i = 0; i < sizeof violations / sizeof *violations; i++) ledger_notices(violations[i].name, violations[i].sql);
}
END_TEST

START_TEST(every_invariant_is_broken_once)
{
    struct peer *gateway = stage_join("gateway");
    (void)stage_submit(gateway, &STAGE_SMALL, "");
    for (size_t k = 0; k < store_verify_count(); k++) {
        size_t i = 0, count = sizeof violations / sizeof *violations;
        while (i < count && strcmp(violations[i].name, store_verify_at(k)->name) != 0) i++;
        ck_assert_msg(i < count, "no violation of %s is tried", store_verify_at(k)->name);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {every_violation_is_noticed, every_invariant_is_broken_once};
    return stage_main("data.verify", tests, sizeof tests / sizeof *tests);
}
