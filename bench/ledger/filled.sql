-- A job that has come far: U updates of G groups of 8 episodes, written as rows at once (filled.c puts the numbers in and runs
-- statement by statement). Foreign keys are not looked at: the rows agree by construction.
SET session_replication_role = replica;

INSERT INTO episode_group (job, id, task, source, size, update_for, min_version, state, verdict, done, reward_sum, advantage, closed_at)
SELECT :job, g, g % 1024, 'fresh', 8, g / :g + 1, g / :g, 'closed', 'signal', 8, 4, '{-0.5,0.5,-0.5,0.5,-0.5,0.5,-0.5,0.5}', now()
FROM generate_series(0, :u * :g - 1) AS g;

INSERT INTO episode (job, id, group_id, slot, state, token, worker, seed, max_steps, leased_at, ended_at, outcome, reward, steps,
                     prompt_tokens, action_tokens, version_min, version_max, turn_entropy, turn_tokens, engine_ms, env_ms)
SELECT :job, e, e / 8, e % 8, 'done', e + 1, 'rollout-0000000000000003', e, 24, now(), now(), 'ok', e % 2, 6,
       48, 21, e / (8 * :g), e / (8 * :g), '{0.9,0.7,0.5,0.4,0.3,0.2}', '{3,4,3,4,3,4}', 1.5, 0.5
FROM generate_series(0, :u * :g * 8 - 1) AS e;

INSERT INTO episode_payload (job, episode, raw_size, bytes)
SELECT :job, e, 400, convert_to(repeat(md5(e::text), 13), 'UTF8') FROM generate_series(0, :u * :g * 8 - 1) AS e;

INSERT INTO batch (job, lineage, update, kind, state, outcome, groups, episodes, pass, advantage, norm_tokens, no_signal_groups,
                   version, digest, applied_at, source, member_group)
SELECT :job, 0, u, 'update', 'committed', 'applied', ARRAY(SELECT generate_series((u - 1) * :g, u * :g - 1)),
       ARRAY(SELECT generate_series((u - 1) * :g * 8, u * :g * 8 - 1)), array_fill(0::smallint, ARRAY[:g * 8]),
       array_fill(0.5::float8, ARRAY[:g * 8]), 21 * 8 * :g, 0, u, md5(u::text), now(), array_fill('fresh'::text, ARRAY[:g * 8]),
       ARRAY(SELECT e / 8 FROM generate_series((u - 1) * :g * 8, u * :g * 8 - 1) AS e)
FROM generate_series(1, :u) AS u;

INSERT INTO training_use (job, episode, pass, lineage, update, source)
SELECT :job, e, 0, 0, e / (8 * :g) + 1, 'fresh' FROM generate_series(0, :u * :g * 8 - 1) AS e;

INSERT INTO decision (job, subject, key, rule, verdict, inputs)
SELECT :job, 'group', g, 'dr_grpo', 'signal', jsonb_build_object('task', g % 1024, 'update', g / :g + 1, 'done', 8, 'reward_sum', 4)
FROM generate_series(0, :u * :g - 1) AS g;

INSERT INTO metric (job, lineage, update, name, value)
SELECT :job, 0, u, n, 0.5 FROM generate_series(1, :u) AS u,
       unnest('{loss,kl,grad_norm,success,reward,staleness_mean,staleness_max,prompt_tokens,action_tokens,episodes}'::text[]) AS n;

INSERT INTO policy (job, lineage, version, digest, where_now, checkpoint, update, sha256, size, committed_at)
SELECT :job, 0, u, md5(u::text), '/dev/null', CASE WHEN c THEN '/dev/null' END, CASE WHEN c THEN u END, CASE WHEN c THEN '0' END,
       CASE WHEN c THEN 1 END, CASE WHEN c THEN now() END
FROM generate_series(1, :u) AS u, LATERAL (SELECT u % 20 = 0 OR u = :u) AS s(c);

UPDATE job SET updates_done = :u, version = :u WHERE id = :job;

VACUUM ANALYZE;

CHECKPOINT;
