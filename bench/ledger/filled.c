#include "bench/ledger/filled.h"

#include "bench/ledger/raw.h"
#include "bench/support/rig.h"

#include <stdio.h>

/* %1$llu job, %2$d updates, %3$d groups of an update. Foreign keys are not looked at: the rows agree by construction. */
static const char *const statements[] = {
    "SET session_replication_role = replica;"
    "INSERT INTO episode_group (job, id, task, source, size, update_for, min_version, state, verdict, done, reward_sum, "
    "advantage,"
    " closed_at) SELECT %1$llu, g, g %% 1024, 'fresh', 8, g / %3$d + 1, g / %3$d, 'closed', 'signal', 8, 4,"
    " '{-0.5,0.5,-0.5,0.5,-0.5,0.5,-0.5,0.5}', now() FROM generate_series(0, %2$d * %3$d - 1) AS g",
    "SET session_replication_role = replica;"
    "INSERT INTO episode (job, id, group_id, slot, state, token, worker, seed, max_steps, leased_at, ended_at, outcome, "
    "reward, steps,"
    " prompt_tokens, action_tokens, version_min, version_max, turn_entropy, turn_tokens, engine_ms, env_ms)"
    " SELECT %1$llu, e, e / 8, e %% 8, 'done', e + 1, 'rollout-0000000000000003', e, 24, now(), now(), 'ok', e %% 2, 6, 48, "
    "21,"
    " e / (8 * %3$d), e / (8 * %3$d), '{0.9,0.7,0.5,0.4,0.3,0.2}', '{3,4,3,4,3,4}', 1.5, 0.5"
    " FROM generate_series(0, %2$d * %3$d * 8 - 1) AS e",
    "SET session_replication_role = replica;"
    "INSERT INTO episode_payload (job, episode, raw_size, bytes) SELECT %1$llu, e, 400, convert_to(repeat(md5(e::text), 13), "
    "'UTF8')"
    " FROM generate_series(0, %2$d * %3$d * 8 - 1) AS e",
    "SET session_replication_role = replica;"
    "INSERT INTO batch (job, lineage, update, kind, state, outcome, groups, episodes, pass, advantage, norm_tokens, "
    "no_signal_groups,"
    " version, digest, applied_at) SELECT %1$llu, 0, u, 'update', 'committed', 'applied',"
    " ARRAY(SELECT generate_series((u - 1) * %3$d, u * %3$d - 1)), ARRAY(SELECT generate_series((u - 1) * %3$d * 8, u * %3$d "
    "* 8 - 1)),"
    " array_fill(0::smallint, ARRAY[%3$d * 8]), array_fill(0.5::float8, ARRAY[%3$d * 8]), 21 * 8 * %3$d, 0, u, md5(u::text), "
    "now()"
    " FROM generate_series(1, %2$d) AS u",
    "SET session_replication_role = replica;"
    "INSERT INTO training_use (job, episode, pass, lineage, update, source) SELECT %1$llu, e, 0, 0, e / (8 * %3$d) + 1, "
    "'fresh'"
    " FROM generate_series(0, %2$d * %3$d * 8 - 1) AS e",
    "INSERT INTO decision (job, subject, key, rule, verdict, inputs) SELECT %1$llu, 'group', g, 'dr_grpo', 'signal',"
    " jsonb_build_object('task', g %% 1024, 'update', g / %3$d + 1, 'done', 8, 'reward_sum', 4)"
    " FROM generate_series(0, %2$d * %3$d - 1) AS g",
    "INSERT INTO metric (job, lineage, update, name, value) SELECT %1$llu, 0, u, n, 0.5 FROM generate_series(1, %2$d) AS u,"
    " unnest('{loss,kl,grad_norm,success,reward,staleness_mean,staleness_max,prompt_tokens,action_tokens,episodes}'::text[]) "
    "AS n",
    "INSERT INTO policy (job, lineage, version, digest, where_now, checkpoint, update, sha256, size, committed_at) SELECT "
    "%1$llu, 0, u,"
    " md5(u::text), '/dev/null', c.path, CASE WHEN c.path IS NOT NULL THEN u END, c.path, CASE WHEN c.path IS NOT NULL THEN "
    "1 END,"
    " CASE WHEN c.path IS NOT NULL THEN now() END FROM generate_series(1, %2$d) AS u,"
    " LATERAL (SELECT CASE WHEN u %% 20 = 0 OR u = %2$d THEN '/dev/null' END AS path) AS c",
    "UPDATE job SET updates_done = %2$d, version = %2$d WHERE id = %1$llu",
    "VACUUM ANALYZE",
    "CHECKPOINT",
};

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* the table above, and numbered arguments */
static void text_of(size_t i, uint64_t job, char *ret, size_t size)
{
    (void)snprintf(ret, size, statements[i], (unsigned long long)job, FILLED_UPDATES, FILLED_GROUPS);
}
#pragma GCC diagnostic pop

double filled_make(const struct place *place, uint64_t job)
{
    char conninfo[PLACE_TEXT], sql[2048], none[8];
    double begin = rig_now();
    place_conninfo(place, "postgres", conninfo, sizeof conninfo);
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        text_of(i, job, sql, sizeof sql);
        raw_ask(conninfo, sql, none, sizeof none);
    }
    return rig_now() - begin;
}
