/* The stage for a real pal-rollout: a scripted data manager that grants leases and hears ends, an environment cluster of the
 * real built-in environments, and policies in files. test_rollout.c is its only reader.
 *
 * One job, on lake. Policies are random weights: stage_publish writes a version of a role and announces it. */
#ifndef PAL_TESTS_ROLLOUT_STAGE_H
#define PAL_TESTS_ROLLOUT_STAGE_H

#include "env/env.h"
#include "rollout/sequence.h"
#include "services/common/job/job.h"
#include "services/common/run/payload.h"
#include "services/common/run/rundir.h"
#include "tests/support/data_peer.h"
#include "trainer/model/learner.h"
#include "trainer/model/tokenizer.h"
#include "trainer/policy_file.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define STAGE_JOB      3
#define STAGE_EPISODES 16
#define STAGE_WAIT_MS  20000
#define STAGE_SCORES   8

struct stage_end {
    bool there, judged;
    char outcome[16], error[128];
    double reward, verified;
    uint64_t steps, prompt_tokens, action_tokens, payload_raw;
    int64_t version_min, version_max;
    size_t turns;
    float turn_tokens[32];
    struct buf payload;
    size_t score_count;
    char score_name[STAGE_SCORES][32];
    double score[STAGE_SCORES];
};

struct stage {
    struct data_peer peer;
    struct bus *env_bus;
    const struct env_class *env;
    void *states[STAGE_EPISODES];
    struct rng noise[STAGE_EPISODES];
    size_t resets;
    struct arena arena;
    struct job_spec spec;
    struct tokenizer *tokenizer;
    struct model_config config;
    uint64_t next_token, asked;
    struct stage_end ends[STAGE_EPISODES];
    uint64_t awaited; /* the episode of the wait that runs */
};

/* ---- the environment cluster ---- */

static inline void stage_observe(struct stage *stage, const char *peer, uint64_t episode, uint64_t token, uint64_t step,
                                 const struct env_obs *obs, bool expert, bool hint)
{
    char action[ENV_ACTION_BYTES] = "", text[ENV_HINT_BYTES] = "";
    if (expert && !obs->terminated) stage->env->expert(stage->states[episode], 0, &stage->noise[episode], action);
    if (hint) stage->env->hint(stage->states[episode], text);
    struct wire_observation item = {.episode = episode,
                                    .token = token,
                                    .step = step,
                                    .text = span_text(obs->text),
                                    .reward = obs->reward,
                                    .terminated = obs->terminated,
                                    .expert = span_text(action),
                                    .hint = span_text(text)};
    const struct wire_observations message = {STAGE_JOB, &item, 1};
    ck_assert_int_eq(bus_send(stage->env_bus, peer, WIRE_observations, &message), ERR_ok);
}

static inline void stage_on_env(void *ctx, const char *peer, enum wire_id id, const void *message)
{
    struct stage *stage = ctx;
    struct env_obs obs;
    if (id == WIRE_acquire_reset) {
        const struct wire_acquire_reset *m = message;
        for (size_t i = 0; i < m->items_count; i++) {
            const struct wire_reset_item *item = &m->items[i];
            ck_assert_uint_lt(item->episode, STAGE_EPISODES);
            free(stage->states[item->episode]);
            stage->states[item->episode] = aligned_alloc(64, (stage->env->state_bytes + 63) / 64 * 64);
            memset(stage->states[item->episode], 0, stage->env->state_bytes);
            err_t err = stage->env->reset(stage->states[item->episode], item->task_text, item->episode_seed, &obs);
            ck_assert_msg(err == ERR_ok, "%s", err_text());
            stage->resets++;
            stage_observe(stage, peer, item->episode, item->token, 0, &obs, item->expert, item->hint);
        }
    } else if (id == WIRE_actions) {
        const struct wire_actions *m = message;
        for (size_t i = 0; i < m->items_count; i++) {
            const struct wire_action_item *item = &m->items[i];
            ck_assert_int_eq(stage->env->step(stage->states[item->episode], item->action, &obs), ERR_ok);
            stage_observe(stage, peer, item->episode, item->token, item->step + 1, &obs, false, false);
        }
    }
}

/* ---- the data manager ---- */

static inline void stage_keep_end(struct stage *stage, const struct wire_episode_done *done)
{
    ck_assert_uint_lt(done->episode, STAGE_EPISODES);
    struct stage_end *end = &stage->ends[done->episode];
    if (end->there) return; /* sent again before the acknowledgement came */
    end->there = true;
    end->judged = done->judged;
    (void)snprintf(end->outcome, sizeof end->outcome, "%.*s", SPAN_ARG(done->outcome));
    (void)snprintf(end->error, sizeof end->error, "%.*s", SPAN_ARG(done->error));
    end->reward = done->reward;
    end->verified = done->verified;
    end->steps = done->steps;
    end->prompt_tokens = done->prompt_tokens;
    end->action_tokens = done->action_tokens;
    end->payload_raw = done->payload_raw;
    end->version_min = done->version_min;
    end->version_max = done->version_max;
    end->turns = done->turn_tokens.n;
    ck_assert_uint_eq(done->turn_entropy.n, end->turns);
    for (size_t i = 0; i < end->turns && i < 32; i++) end->turn_tokens[i] = done->turn_tokens.v[i];
    ck_assert_int_eq(buf_append(&end->payload, done->payload.data, done->payload.size), ERR_ok);
    ck_assert_uint_le(done->scores_count, STAGE_SCORES);
    for (size_t i = 0; i < done->scores_count; i++) {
        (void)snprintf(end->score_name[i], sizeof end->score_name[i], "%.*s", SPAN_ARG(done->scores[i].name));
        end->score[i] = done->scores[i].value;
    }
    end->score_count = done->scores_count;
}

static inline void stage_on_data(void *ctx, enum wire_id id, const void *message)
{
    struct stage *stage = ctx;
    if (id == WIRE_lease_request) stage->asked++;
    ck_assert_msg(id != WIRE_job_failed, "the worker refused the job");
    if (id != WIRE_episodes_done) return;
    const struct wire_episodes_done *m = message;
    for (size_t i = 0; i < m->episodes_count; i++) {
        stage_keep_end(stage, &m->episodes[i]);
        const struct wire_episodes_ack ack = {STAGE_JOB, {&m->episodes[i].token, 1}};
        data_peer_send(&stage->peer, WIRE_episodes_ack, &ack);
    }
}

static inline bool stage_heard_hello(void *ctx)
{
    return ((struct stage *)ctx)->peer.hellos > 0;
}

static inline bool stage_heard_end(void *ctx)
{
    const struct stage *stage = ctx;
    return stage->ends[stage->awaited].there;
}

/* ---- what tests do ---- */

static inline void stage_open(struct stage *stage, const char *spec)
{
    struct job_problems problems;
    const char *const *words = NULL;
    size_t count = 0;
    char run_dir[DATA_PEER_PATH_BYTES], endpoint[DATA_PEER_PATH_BYTES + 32];
    *stage = (struct stage){.next_token = 100};
    arena_init(&stage->arena, 0);
    ck_assert_msg(job_parse(span_text(spec), &stage->arena, &stage->spec, &problems) == ERR_ok, "%s", err_text());
    stage->env = env_find(stage->spec.environments[0].name);
    ck_assert_int_eq(job_words(&stage->spec, &stage->arena, &words, &count), ERR_ok);
    ck_assert_int_eq(tokenizer_new_words(&stage->tokenizer, words, count), ERR_ok);
    ck_assert_int_eq(model_preset(stage->spec.init.preset, tokenizer_vocab(stage->tokenizer), &stage->config), ERR_ok);
    stage->peer.ctx = stage;
    stage->peer.on_message = stage_on_data;
    data_peer_start(&stage->peer, "pal-rollout");
    ck_assert_int_eq(rundir_path(stage->peer.state_dir, run_dir, sizeof run_dir), ERR_ok);
    (void)snprintf(endpoint, sizeof endpoint, "ipc://%s/env.sock", run_dir);
    const struct bus_events events = {.ctx = stage, .on_message = stage_on_env};
    ck_assert_int_eq(bus_listen(&stage->env_bus, &stage->peer.loop, endpoint, events), ERR_ok);
    ck_assert(data_peer_wait(&stage->peer, stage_heard_hello, STAGE_WAIT_MS));
    const struct wire_job_assign assign = {.job = STAGE_JOB, .spec = span_text(spec), .resume_version = -1};
    data_peer_send(&stage->peer, WIRE_job_assign, &assign);
}

static inline void stage_close(struct stage *stage)
{
    bus_free(&stage->env_bus);
    data_peer_stop(&stage->peer);
    for (size_t i = 0; i < STAGE_EPISODES; i++) {
        free(stage->states[i]);
        buf_fini(&stage->ends[i].payload);
    }
    tokenizer_free(&stage->tokenizer);
    arena_fini(&stage->arena);
}

/* Random weights of a seed as a version of a role, with a value head or NULL, announced; the model is the caller's to free.
 */
static inline struct model *stage_publish(struct stage *stage, bool orm, int64_t version, uint64_t seed,
                                          const struct value_head *value)
{
    struct model *model = NULL;
    uint8_t header[POLICY_FILE_HEADER_BYTES];
    struct span spans[POLICY_FILE_SPANS];
    size_t count = 0;
    char path[DATA_PEER_PATH_BYTES + 64];
    ck_assert_int_eq(model_new(&model, &stage->config), ERR_ok);
    model_init(model, seed);
    for (size_t i = 0; i < model->count; i++) model->weights[i] *= 3; /* far from uniform */
    struct policy_file file = {.job = STAGE_JOB,
                               .version = version,
                               .role = orm ? POLICY_FILE_orm : POLICY_FILE_policy,
                               .config = stage->config,
                               .weights = model->weights};
    ck_assert_int_eq(model_digest(model, &file.digest), ERR_ok);
    if (value) {
        file.value_units = value->units;
        file.value = value->weights;
        ck_assert_int_eq(value_head_digest(value, &file.value_digest), ERR_ok);
    }
    policy_file_encode(&file, header, spans, &count);
    (void)snprintf(path, sizeof path, "%s/%s-%d", stage->peer.state_dir, orm ? "orm" : "policy", (int)version);
    FILE *out = fopen(path, "wb");
    ck_assert_ptr_nonnull(out);
    for (size_t i = 0; i < count; i++) ck_assert_uint_eq(fwrite(spans[i].data, 1, spans[i].size, out), spans[i].size);
    ck_assert_int_eq(fclose(out), 0);
    const struct wire_policy_wanted wanted = {.job = STAGE_JOB,
                                              .version = version,
                                              .digest = span_text(file.digest.hex),
                                              .where = span_text(path),
                                              .role = span_text(orm ? "orm" : "")};
    data_peer_send(&stage->peer, WIRE_policy_wanted, &wanted);
    return model;
}

static inline struct model *stage_policy(struct stage *stage, int64_t version, uint64_t seed)
{
    return stage_publish(stage, false, version, seed, NULL);
}

static inline void stage_grant(struct stage *stage, struct wire_lease lease)
{
    lease.token = stage->next_token++;
    lease.ttl_ms = 60000;
    if (lease.max_steps == 0) lease.max_steps = 24;
    const struct wire_leases leases = {STAGE_JOB, &lease, 1};
    data_peer_send(&stage->peer, WIRE_leases, &leases);
}

static inline const struct stage_end *stage_await(struct stage *stage, uint64_t episode)
{
    stage->awaited = episode;
    ck_assert_msg(data_peer_wait(&stage->peer, stage_heard_end, STAGE_WAIT_MS), "no end of episode %d", (int)episode);
    return &stage->ends[episode];
}

static inline const struct stage_end *stage_play(struct stage *stage, struct wire_lease lease)
{
    stage_grant(stage, lease);
    return stage_await(stage, lease.episode);
}

static inline double stage_score(const struct stage_end *end, const char *name)
{
    for (size_t i = 0; i < end->score_count; i++) {
        if (strcmp(end->score_name[i], name) == 0) return end->score[i];
    }
    ck_abort_msg("no score %s", name);
    return 0;
}

/* The end's payload; arrays live in the stage's arena. */
static inline struct sequence stage_sequence(struct stage *stage, const struct stage_end *end)
{
    AUTO(buf) raw = {0};
    struct sequence s;
    ck_assert_msg(payload_unpack(buf_span(&end->payload), end->payload_raw, &raw) == ERR_ok, "%s", err_text());
    ck_assert_msg(sequence_decode(buf_span(&raw), &stage->arena, &s) == ERR_ok, "%s", err_text());
    return s;
}

#endif
