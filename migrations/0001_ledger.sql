-- The ledger: everything that happened, so that it can be asked. Only the data manager writes (role pal); the gateway reads
-- (role pal_reader). Keys lead with job. States are checked here against the tables in curation/ (tests compare them).

CREATE TABLE data_epoch (
    one   boolean PRIMARY KEY DEFAULT true CHECK (one),
    epoch bigint NOT NULL CHECK (epoch >= 0)          -- incremented by each data manager that starts; checked in every write
);
INSERT INTO data_epoch (epoch) VALUES (0);

CREATE TABLE job (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name            text NOT NULL,
    state           text NOT NULL DEFAULT 'queued'
                    CHECK (state IN ('queued', 'starting', 'running', 'paused', 'succeeded', 'failed', 'cancelled')),
    reason          text,                             -- why it ended or is paused
    spec            jsonb NOT NULL,                   -- the resolved job
    priority        bigint NOT NULL DEFAULT 0,
    idempotency_key text UNIQUE,
    lineage         integer NOT NULL DEFAULT 0 CHECK (lineage >= 0),  -- the current one
    updates_done    bigint NOT NULL DEFAULT -1 CHECK (updates_done >= -1), -- last update recorded; 0 is the warm start
    version         bigint NOT NULL DEFAULT -1 CHECK (version >= -1 AND version <= updates_done),
    trainer         text,                             -- identity of the trainer that owns the current lineage
    created_at      timestamptz NOT NULL DEFAULT now(),
    started_at      timestamptz,                      -- first `running`
    trained_at      timestamptz,                      -- end of the last update
    ended_at        timestamptz,
    CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (ended_at IS NOT NULL))
);

CREATE TABLE job_event (
    job     bigint NOT NULL REFERENCES job,
    seq     bigint NOT NULL CHECK (seq >= 1),
    at      timestamptz NOT NULL DEFAULT now(),
    kind    text NOT NULL,                            -- state, evaluation, checkpoint, quarantine, lineage, alarm, ...
    message text NOT NULL,
    data    jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (job, seq)
);

CREATE TABLE task (
    job         bigint NOT NULL REFERENCES job,
    id          bigint NOT NULL CHECK (id >= 0),
    environment integer NOT NULL,                     -- index into the job's environments
    split       text NOT NULL CHECK (split IN ('train', 'holdout')),
    level       integer NOT NULL DEFAULT 0,
    body        text NOT NULL,                        -- as the environment understands it
    hash        text NOT NULL,                        -- SHA-256 of the initial state, or of the body where it is not known
    hint        text NOT NULL DEFAULT '',
    source      text NOT NULL CHECK (source IN ('generate', 'file', 'mutate')),
    state       text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'quarantined')),
    PRIMARY KEY (job, id),
    UNIQUE (job, environment, hash)                   -- held-out tasks are no training tasks, whatever their seeds
);

CREATE TABLE episode_group (
    job         bigint NOT NULL REFERENCES job,
    id          bigint NOT NULL CHECK (id >= 0),
    task        bigint NOT NULL,
    source      text NOT NULL CHECK (source IN ('fresh', 'demonstration', 'evaluation')),
    size        integer NOT NULL CHECK (size >= 1),
    update_for  bigint,                               -- fresh: the update it is reserved to; demonstration: 0
    pin_version bigint,                               -- evaluation: the version it plays with
    min_version bigint NOT NULL DEFAULT -1,
    replaces    bigint,                               -- the void, stale or refilled group in whose place it was drawn
    state       text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed', 'void')),
    verdict     text CHECK (verdict IN ('signal', 'no_signal', 'void', 'stale', 'refilled', 'measured')),
    done        integer NOT NULL DEFAULT 0,           -- slots that ended with an outcome
    reward_sum  double precision NOT NULL DEFAULT 0,
    advantage   double precision[],                   -- by slot, at the close of a fresh group; NULL where the slot is void
    planned_at  timestamptz NOT NULL DEFAULT now(),
    closed_at   timestamptz,
    PRIMARY KEY (job, id),
    FOREIGN KEY (job, task) REFERENCES task (job, id),
    CHECK ((state = 'open') = (verdict IS NULL)),
    CHECK (source <> 'fresh' OR (update_for >= 1) IS TRUE),
    CHECK ((source = 'evaluation') = (pin_version IS NOT NULL))
);
CREATE INDEX episode_group_open ON episode_group (job, id) WHERE state = 'open';
CREATE INDEX episode_group_update ON episode_group (job, update_for) WHERE update_for IS NOT NULL;
CREATE INDEX episode_group_pin ON episode_group (job, pin_version) WHERE pin_version IS NOT NULL;

CREATE TABLE episode (
    job           bigint NOT NULL,
    id            bigint NOT NULL CHECK (id >= 0),
    group_id      bigint NOT NULL,
    slot          integer NOT NULL CHECK (slot >= 0),
    state         text NOT NULL CHECK (state IN ('pending', 'leased', 'done', 'void')),
    attempt       integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    token         bigint NOT NULL DEFAULT 0,          -- fencing token of the newest lease; grows
    worker        text,                               -- identity of the rollout worker of the newest lease
    seed          bigint NOT NULL,                    -- sampling seed of the newest attempt
    max_steps     integer NOT NULL CHECK (max_steps >= 1),
    leased_at     timestamptz,
    ended_at      timestamptz,
    outcome       text CHECK (outcome IN ('ok', 'truncated', 'env_error', 'env_crash', 'env_timeout', 'engine_error',
                                          'judge_error', 'timeout', 'cancelled', 'stale', 'poisoned')),
    failures      text[] NOT NULL DEFAULT '{}',       -- outcome of each earlier attempt
    error         text,                               -- of the newest failure
    reward        double precision,
    steps         integer,
    prompt_tokens integer,
    action_tokens integer,
    version_min   bigint,
    version_max   bigint,
    turn_entropy  real[],                             -- mean token entropy of each turn, nats
    engine_ms     real,
    env_ms        real,
    PRIMARY KEY (job, id),
    UNIQUE (job, group_id, slot),                     -- a group slot is filled at most once
    FOREIGN KEY (job, group_id) REFERENCES episode_group (job, id),
    CHECK ((state = 'done') = (reward IS NOT NULL)),
    -- a failure is never a reward (IS TRUE: an unknown outcome would pass otherwise)
    CHECK (state <> 'done' OR (outcome IN ('ok', 'truncated')) IS TRUE),
    CHECK (state <> 'void' OR outcome NOT IN ('ok', 'truncated'))
) WITH (fillfactor = 60);

CREATE TABLE episode_payload (
    job      bigint NOT NULL,
    episode  bigint NOT NULL,
    raw_size integer NOT NULL CHECK (raw_size >= 0),
    bytes    bytea NOT NULL,                          -- zstd of rollout/sequence.h
    PRIMARY KEY (job, episode),
    FOREIGN KEY (job, episode) REFERENCES episode (job, id)
);
ALTER TABLE episode_payload ALTER COLUMN bytes SET STORAGE EXTERNAL;

CREATE TABLE decision (
    job     bigint NOT NULL REFERENCES job,
    id      bigint GENERATED ALWAYS AS IDENTITY,
    at      timestamptz NOT NULL DEFAULT now(),
    subject text NOT NULL CHECK (subject IN ('task', 'group', 'episode', 'update', 'job')),
    key     bigint NOT NULL,                          -- id of the subject
    rule    text NOT NULL,                            -- advantage, void, retry, quarantine, stale, refill, ...
    verdict text NOT NULL,
    inputs  jsonb NOT NULL,
    PRIMARY KEY (job, id)
);
CREATE INDEX decision_subject ON decision (job, subject, key);

CREATE TABLE batch (
    job               bigint NOT NULL REFERENCES job,
    lineage           integer NOT NULL,
    update            bigint NOT NULL CHECK (update >= 0),
    kind              text NOT NULL CHECK (kind IN ('warmstart', 'update')),
    state             text NOT NULL CHECK (state IN ('handed_out', 'applied', 'committed')),
    outcome           text CHECK (outcome IN ('applied', 'skipped', 'numeric')),
    groups            bigint[] NOT NULL,
    episodes          bigint[] NOT NULL,              -- members, in training order
    pass              smallint[] NOT NULL,            -- of each member; 0 is fresh
    advantage         double precision[] NOT NULL,
    norm_tokens       bigint NOT NULL,
    no_signal_groups  integer NOT NULL,
    version           bigint,                         -- the policy version after it
    digest            text,                           -- of the weights after it
    handed_out_at     timestamptz NOT NULL DEFAULT now(),
    applied_at        timestamptz,
    PRIMARY KEY (job, lineage, update),
    CHECK (cardinality(episodes) = cardinality(pass) AND cardinality(episodes) = cardinality(advantage)),
    CHECK ((state = 'handed_out') = (applied_at IS NULL))
);

-- (episode, pass) is used at most once in a lineage: the row that makes exactly-once checkable by key
CREATE TABLE training_use (
    job     bigint NOT NULL,
    episode bigint NOT NULL,
    pass    smallint NOT NULL CHECK (pass >= 0),
    lineage integer NOT NULL,
    update  bigint NOT NULL,
    source  text NOT NULL CHECK (source IN ('fresh', 'demonstration')),
    PRIMARY KEY (job, lineage, episode, pass),
    FOREIGN KEY (job, episode) REFERENCES episode (job, id),
    FOREIGN KEY (job, lineage, update) REFERENCES batch (job, lineage, update)
);

CREATE TABLE policy (
    job           bigint NOT NULL REFERENCES job,
    lineage       integer NOT NULL,
    version       bigint NOT NULL CHECK (version >= 0),
    role          text NOT NULL DEFAULT 'policy' CHECK (role IN ('policy', 'reference')),
    digest        text NOT NULL,
    where_now     text,                               -- the published weights while they can be pulled
    published_at  timestamptz NOT NULL DEFAULT now(),
    checkpoint    text,                               -- path, once committed
    update        bigint,                             -- last update in the checkpoint: at least the version
    sha256        text,
    size          bigint,
    committed_at  timestamptz,
    PRIMARY KEY (job, lineage, version, role),
    CHECK ((checkpoint IS NULL) = (sha256 IS NULL) AND (checkpoint IS NULL) = (committed_at IS NULL))
);

CREATE TABLE evaluation (
    job        bigint NOT NULL REFERENCES job,
    lineage    integer NOT NULL,
    version    bigint NOT NULL,
    episodes   integer NOT NULL,                      -- planned
    done       integer,                               -- ended with an outcome: the denominator
    successes  integer,
    by_level   jsonb,                                 -- {"1": {"done": n, "successes": n}, ...}
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at   timestamptz,
    PRIMARY KEY (job, lineage, version)
);

CREATE TABLE metric (
    job     bigint NOT NULL REFERENCES job,
    lineage integer NOT NULL,
    update  bigint NOT NULL,
    name    text NOT NULL,
    value   double precision NOT NULL,
    PRIMARY KEY (job, lineage, update, name)
);

CREATE TABLE service (
    identity    text PRIMARY KEY,                     -- name-incarnation
    name        text NOT NULL,
    host        text NOT NULL,
    pid         bigint NOT NULL,
    hello_at    timestamptz NOT NULL DEFAULT now(),
    gone_at     timestamptz
);

CREATE TABLE audit (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at     timestamptz NOT NULL DEFAULT now(),
    actor  text NOT NULL,
    action text NOT NULL,
    job    bigint,
    detail jsonb NOT NULL DEFAULT '{}'
);

GRANT SELECT ON ALL TABLES IN SCHEMA public TO pal_reader;
