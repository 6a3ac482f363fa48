-- The methods' state: hints, pools, scores, phases, passes. What a rule decides is a decision row; what it knows follows from
-- these rows, so killing any process keeps it.

ALTER TABLE task
    ADD COLUMN parent bigint,                         -- generated tasks: the failed task it was made from
    ADD COLUMN phase  integer NOT NULL DEFAULT 0,     -- WebRL: the first phase it may be drawn in
    ADD FOREIGN KEY (job, parent) REFERENCES task (job, id),
    ADD CHECK ((source = 'mutate') = (parent IS NOT NULL)),
    DROP CONSTRAINT task_state_check,
    -- candidate: generated, not scored yet; refused: by the critic
    ADD CONSTRAINT task_state_check CHECK (state IN ('active', 'quarantined', 'candidate', 'refused')),
    ADD CHECK (state IN ('active', 'quarantined') OR source = 'mutate');

ALTER TABLE episode_group
    DROP CONSTRAINT episode_group_source_check,
    ADD CONSTRAINT episode_group_source_check
        CHECK (source IN ('fresh', 'hinted', 'demonstration', 'import', 'evaluation', 'score')),
    DROP CONSTRAINT episode_group_verdict_check,
    ADD CONSTRAINT episode_group_verdict_check
        CHECK (verdict IN ('signal', 'no_signal', 'void', 'stale', 'refilled', 'measured', 'hinted')), -- hinted: replaced by its hinted group
    ADD COLUMN phase integer NOT NULL DEFAULT 0,
    ADD COLUMN of_episode bigint,                     -- score: the stored episode that is measured; NULL: the task's start
    ADD FOREIGN KEY (job, of_episode) REFERENCES episode (job, id),
    ADD CHECK (of_episode IS NULL OR source = 'score'),
    ADD COLUMN pool  bigint,                          -- DART: the episode that saved it; its advantage is element size + 1
    ADD CHECK (source <> 'hinted' OR (update_for >= 1) IS TRUE),
    DROP CONSTRAINT episode_group_check2;
CREATE INDEX episode_group_task ON episode_group (job, task, id);
-- scores are pinned to the version that measures, as evaluations are
ALTER TABLE episode_group ADD CONSTRAINT episode_group_pin_check CHECK ((source IN ('evaluation', 'score')) = (pin_version IS NOT NULL));

ALTER TABLE episode
    ADD COLUMN hinted   boolean NOT NULL DEFAULT false, -- played with a hint: in no success rate, no n(s), no curriculum
    ADD COLUMN verified double precision,               -- judged episodes: the environment's own reward, which trained nothing
    ADD COLUMN script   text,                           -- imported: the actions to play, one a line
    ADD COLUMN turn_tokens real[],                      -- sampled tokens of each turn
    ADD COLUMN scores   jsonb;                          -- score episodes and judged ones: what was measured

ALTER TABLE batch
    ADD COLUMN source       text[],                   -- of each member: fresh, demonstration, hinted, pool, replay
    ADD COLUMN member_group bigint[],                 -- of each member: a pool episode belongs to the group it saves
    ADD COLUMN dropped      jsonb,                    -- {"place among the members, from 0": [turns not trained on], ...}
    ADD COLUMN phase        integer NOT NULL DEFAULT 0,
    ADD COLUMN phase_end    boolean NOT NULL DEFAULT false,
    ADD COLUMN passes       smallint NOT NULL DEFAULT 1 CHECK (passes >= 0), -- over its fresh members; 0: discarded
    ADD COLUMN judged       bigint[];                 -- episodes that the outcome reward model learned from or was tested on

ALTER TABLE training_use
    DROP CONSTRAINT training_use_source_check,
    ADD CONSTRAINT training_use_source_check CHECK (source IN ('fresh', 'demonstration', 'hinted', 'pool', 'replay'));

ALTER TABLE policy
    DROP CONSTRAINT policy_role_check,
    ADD CONSTRAINT policy_role_check CHECK (role IN ('policy', 'reference', 'value', 'orm'));

-- what was measured of a task under a version: angles of its prompt (GAIN-RL), value of its start (WebRL)
CREATE TABLE task_score (
    job     bigint NOT NULL,
    task    bigint NOT NULL,
    lineage integer NOT NULL,
    version bigint NOT NULL,
    c_intra double precision,
    c_inter double precision,
    tokens  integer,
    value   double precision,
    PRIMARY KEY (job, task, lineage, version),
    FOREIGN KEY (job, task) REFERENCES task (job, id)
);

-- what a method knows after an update: mu of GAIN-RL, credits and windows of the replay ratio, the phase of WebRL. A trainer
-- that starts over from a checkpoint goes back to the newest row at or before it.
CREATE TABLE method_state (
    job     bigint NOT NULL REFERENCES job,
    lineage integer NOT NULL,
    update  bigint NOT NULL,
    method  text NOT NULL,
    state   jsonb NOT NULL,
    PRIMARY KEY (job, lineage, update, method)
);

-- what an update trains on of a group that closed with signal or without: its own episodes, those of the failed group in whose
-- place it stands, the one that saved it. An episode without an advantage is left out.
CREATE VIEW group_member AS
    SELECT g.job, g.id AS group_id, e.id AS episode, e.hinted, false AS pooled, e.reward, e.steps, g.advantage[e.slot + 1] AS advantage
    FROM episode_group g JOIN episode e ON e.job = g.job AND e.group_id = g.id
    WHERE g.verdict IN ('signal', 'no_signal') AND g.advantage[e.slot + 1] IS NOT NULL
    UNION ALL
    SELECT h.job, h.id, e.id, e.hinted, false, e.reward, e.steps, g.advantage[e.slot + 1]
    FROM episode_group h JOIN episode_group g ON g.job = h.job AND g.id = h.replaces AND g.verdict = 'hinted'
    JOIN episode e ON e.job = g.job AND e.group_id = g.id
    WHERE h.verdict IN ('signal', 'no_signal') AND g.advantage[e.slot + 1] IS NOT NULL
    UNION ALL
    SELECT g.job, g.id, e.id, e.hinted, true, e.reward, e.steps, g.advantage[g.size + 1]
    FROM episode_group g JOIN episode e ON e.job = g.job AND e.id = g.pool
    WHERE g.verdict IN ('signal', 'no_signal');

GRANT SELECT ON ALL TABLES IN SCHEMA public TO pal_reader;
