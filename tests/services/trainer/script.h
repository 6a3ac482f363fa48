/* A script that plays the data manager's side of a job for pal-trainer and writes down what the trainer says.
 * Batches are the same for the same update; test_trainer.c and test_crash.c are its only readers. */
#ifndef PAL_TESTS_TRAINER_SCRIPT_H
#define PAL_TESTS_TRAINER_SCRIPT_H

#include "rollout/sequence.h"
#include "services/common/base/digest.h"
#include "services/common/base/rng.h"
#include "tests/support/data_peer.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <zstd.h>

#define SCRIPT_JOB      7
#define SCRIPT_UPDATES  16
#define SCRIPT_TEXT     512
#define SCRIPT_EPISODES 8 /* of a batch: two groups of four */
#define SCRIPT_TOKENS   24
#define SCRIPT_JUDGED   16
#define SCRIPT_WAIT_MS  20000

/* The job of the tests: the smallest model, a warm start of 5 steps, a checkpoint every second update. */
static const char SCRIPT_SPEC[] =
    "{\"name\": \"script\", \"seed\": 5, \"environments\": [{\"name\": \"adventure\"}],"
    " \"policy\": {\"init\": {\"preset\": \"tiny-0.1m\"},"
    "             \"warmstart\": {\"demonstrations\": 8, \"updates\": 5, \"batch\": 4}},"
    " \"rollout\": {\"group_size\": 4},"
    " \"trainer\": {\"groups_per_update\": 2, \"updates\": 6, \"checkpoint_every\": 2, \"max_bad_updates\": 1}}";

struct script_update {
    int times; /* update_done was heard */
    int64_t lineage, version;
    char outcome[16];
    struct digest digest;
    double kl_first_pass, tokens_trained, grad_norm, passes;
    double fau, orm_auroc, hinted_targets; /* NaN: was not told */
    int checkpoints;                       /* heard before it */
};

struct script_policy {
    int64_t lineage;
    struct digest digest;
    char where[SCRIPT_TEXT];
};

struct script_checkpoint {
    int times;
    int64_t lineage, update;
    uint64_t size;
    struct digest digest, sha256;
    char path[SCRIPT_TEXT];
};

struct script {
    struct data_peer peer;
    /* what the script does */
    int64_t last_update;   /* batches after it are of kind `end` */
    int64_t lineage;       /* assigned last; what older ones still say is not heard */
    bool mute;             /* requests and reports are not answered */
    int64_t no_signal;     /* this update's groups have no signal */
    int64_t poisoned;      /* a payload of this update is broken */
    int64_t explosive;     /* from this update on an advantage overflows */
    uint64_t pinned;       /* named in policy_ack */
    int64_t phase_updates; /* of a phase, 0: there are none; its last batch brings judged episodes */
    int64_t discarded;     /* this update's batch is */
    bool methods;          /* members are hinted, lose a turn, or come without signal; there are extra passes */
    /* what the trainer said */
    struct script_update updates[SCRIPT_UPDATES];
    struct script_policy policies[SCRIPT_UPDATES];
    struct script_policy rewards[SCRIPT_UPDATES]; /* outcome reward models */
    int reward_times, checkpoint_times;
    struct script_checkpoint checkpoints[SCRIPT_UPDATES];
    int64_t newest_policy, asked_update, asked_lineage;
    int requests;
    int64_t beat_version;
    uint64_t beat_job;
    double ignored, computing;
    char failure[SCRIPT_TEXT];
    int64_t goal; /* of the wait that runs */
};

/* ---- batches ---- */

static inline uint32_t script_sequence(struct rng *rng, bool sampled, uint32_t hint, struct buf *out)
{
    int32_t token[SCRIPT_TOKENS], version[SCRIPT_TOKENS];
    uint8_t target[SCRIPT_TOKENS];
    uint16_t turn[SCRIPT_TOKENS];
    float logp[SCRIPT_TOKENS], entropy[SCRIPT_TOKENS];
    uint32_t count = 12 + rng_below(rng, SCRIPT_TOKENS - 12), targets = 0;
    for (uint32_t i = 0; i < count; i++) {
        bool action = i % 6 >= 4; /* two turns and more: four observed, two sampled */
        token[i] = (int32_t)(1 + rng_below(rng, 90));
        target[i] = action;
        turn[i] = (uint16_t)(i / 6);
        logp[i] = action && sampled ? -4.5f - (float)(0.2 * rng_unit(rng)) : 0;
        entropy[i] = action && sampled ? 4.0f : 0;
        version[i] = action && sampled ? 0 : -1;
        targets += action;
    }
    const struct sequence sequence = {.count = count,
                                      .turns = (count + 5) / 6,
                                      .token = token,
                                      .target = target,
                                      .turn = turn,
                                      .logp = logp,
                                      .entropy = entropy,
                                      .version = version,
                                      .sampled = sampled,
                                      .hint = hint};
    ck_assert_int_eq(sequence_encode(&sequence, out), ERR_ok);
    return targets;
}

struct script_payload {
    uint8_t bytes[4096];
    size_t size;
};

static inline void script_pack(const struct buf *raw, struct script_payload *payload)
{
    payload->size = ZSTD_compress(payload->bytes, sizeof payload->bytes, raw->data, raw->size, 1);
    ck_assert(!ZSTD_isError(payload->size));
}

static inline void script_member(const struct script *script, int64_t update, size_t index, struct rng *rng,
                                 struct script_payload *payload, struct wire_batch_member *member)
{
    static const uint64_t first_turn = 0;
    AUTO(buf) raw = {0};
    bool methods = script->methods && update > 0, signal = update == 0 || script->no_signal != update;
    uint32_t targets = script_sequence(rng, update > 0, methods && index == 1 ? 2 : 0, &raw);
    script_pack(&raw, payload);
    *member = (struct wire_batch_member){.episode = (uint64_t)(1000 * update) + index,
                                         .group = index / 4,
                                         .advantage = rng_unit(rng) - 0.5,
                                         .signal = signal && !(methods && index == 5),
                                         .action_tokens = update == 0 ? 0 : targets,
                                         .payload_raw = raw.size,
                                         .reward = (double)(index % 2),
                                         .source = span_text(methods && index == 1 ? "hinted" : "")};
    if (signal) member->payload = span_of(payload->bytes, payload->size);
    if (methods && index == 2) {
        member->dropped = (struct wire_u64s){&first_turn, 1};
        member->action_tokens -= 2;
    }
    if (script->poisoned == update && index == 3) payload->bytes[payload->size / 2] ^= 0x55;
    if (script->explosive && update >= script->explosive && index == 2) member->advantage = 1e300;
}

/* Verified episodes for the outcome reward model: the same at the end of every phase. */
static inline size_t script_judged(struct script_payload *payloads, struct wire_judged *judged)
{
    struct rng rng;
    rng_init(&rng, 78, 0);
    for (size_t i = 0; i < SCRIPT_JUDGED; i++) {
        AUTO(buf) raw = {0};
        (void)script_sequence(&rng, true, 0, &raw);
        script_pack(&raw, &payloads[i]);
        judged[i] = (struct wire_judged){.episode = i,
                                         .success = i % 2 == 0,
                                         .test = i % 4 >= 2,
                                         .payload = span_of(payloads[i].bytes, payloads[i].size),
                                         .payload_raw = raw.size};
    }
    return SCRIPT_JUDGED;
}

static inline void script_send_batch(struct script *script, int64_t lineage, int64_t update)
{
    static struct script_payload payloads[SCRIPT_EPISODES], judged_payloads[SCRIPT_JUDGED];
    struct wire_batch_member members[SCRIPT_EPISODES];
    struct wire_judged judged[SCRIPT_JUDGED];
    struct wire_batch batch = {.job = SCRIPT_JOB, .lineage = lineage, .update = update, .groups = 2, .members = members};
    batch.kind = span_text(update > script->last_update ? "end" : update == 0 ? "warmstart" : "update");
    struct rng rng;
    rng_init(&rng, 77, (uint64_t)update);
    for (size_t i = 0; i < SCRIPT_EPISODES && update <= script->last_update; i++) {
        script_member(script, update, i, &rng, &payloads[i], &members[i]);
        batch.norm_tokens += members[i].action_tokens;
        batch.members_count++;
    }
    batch.discarded = script->discarded > 0 && update == script->discarded;
    batch.extra_passes = script->methods && update > 0 ? 1 : 0;
    if (script->phase_updates > 0 && update > 0 && update <= script->last_update) {
        batch.phase = (uint64_t)((update - 1) / script->phase_updates);
        batch.phase_end = update % script->phase_updates == 0;
        batch.judged = judged;
        if (batch.phase_end) batch.judged_count = script_judged(judged_payloads, judged);
    }
    data_peer_send(&script->peer, WIRE_batch, &batch);
}

/* ---- what the trainer says ---- */

static inline void script_keep(char *to, size_t size, struct span text)
{
    (void)snprintf(to, size, "%.*s", SPAN_ARG(text));
}

static inline double script_figure(const struct wire_counter *counters, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (span_is(counters[i].name, name)) return counters[i].value;
    }
    ck_abort_msg("there is no figure %s", name);
    return 0;
}

static inline double script_figure_or_none(const struct wire_counter *counters, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (span_is(counters[i].name, name)) return counters[i].value;
    }
    return (double)NAN;
}

static inline void script_acknowledge(struct script *script, enum wire_id what, int64_t lineage, int64_t update)
{
    const struct wire_trainer_ack ack = {SCRIPT_JOB, lineage, (uint64_t)what, update};
    if (!script->mute) data_peer_send(&script->peer, WIRE_trainer_ack, &ack);
}

static inline void script_on_update(struct script *script, const struct wire_update_done *done)
{
    ck_assert_int_lt(done->update, SCRIPT_UPDATES);
    if (done->lineage < script->lineage) return;
    struct script_update *u = &script->updates[done->update];
    u->times++;
    u->lineage = done->lineage;
    u->version = done->version;
    script_keep(u->outcome, sizeof u->outcome, done->outcome);
    script_keep(u->digest.hex, sizeof u->digest.hex, done->digest);
    u->kl_first_pass = script_figure(done->metrics, done->metrics_count, "kl_first_pass");
    u->tokens_trained = script_figure(done->metrics, done->metrics_count, "tokens_trained");
    u->grad_norm = script_figure(done->metrics, done->metrics_count, "grad_norm");
    u->passes = script_figure(done->metrics, done->metrics_count, "passes");
    u->hinted_targets = script_figure(done->metrics, done->metrics_count, "hinted_targets");
    u->fau = script_figure_or_none(done->metrics, done->metrics_count, "fau");
    u->orm_auroc = script_figure_or_none(done->metrics, done->metrics_count, "orm_auroc");
    u->checkpoints = script->checkpoint_times;
    script_acknowledge(script, WIRE_update_done, done->lineage, done->update);
}

static inline void script_on_policy(struct script *script, const struct wire_policy_published *published)
{
    ck_assert_int_lt(published->version, SCRIPT_UPDATES);
    if (published->lineage < script->lineage) return;
    bool reward = span_is(published->role, "orm");
    struct script_policy *p = reward ? &script->rewards[published->version] : &script->policies[published->version];
    p->lineage = published->lineage;
    script_keep(p->digest.hex, sizeof p->digest.hex, published->digest);
    script_keep(p->where, sizeof p->where, published->where);
    script->reward_times += reward;
    if (reward) return;
    script->newest_policy = published->version;
    const struct wire_policy_ack ack = {SCRIPT_JOB, {&script->pinned, 1}};
    if (!script->mute) data_peer_send(&script->peer, WIRE_policy_ack, &ack);
}

static inline void script_on_checkpoint(struct script *script, const struct wire_checkpoint_committed *committed)
{
    ck_assert_int_lt(committed->version, SCRIPT_UPDATES);
    if (committed->lineage < script->lineage) return;
    struct script_checkpoint *c = &script->checkpoints[committed->version];
    script->checkpoint_times++;
    c->times++;
    c->lineage = committed->lineage;
    c->update = committed->update;
    c->size = committed->size;
    script_keep(c->digest.hex, sizeof c->digest.hex, committed->digest);
    script_keep(c->sha256.hex, sizeof c->sha256.hex, committed->sha256);
    script_keep(c->path, sizeof c->path, committed->path);
    script_acknowledge(script, WIRE_checkpoint_committed, committed->lineage, committed->update);
}

static inline void script_on_beat(struct script *script, const struct wire_heartbeat *beat)
{
    script->beat_job = beat->job;
    script->beat_version = beat->version;
    script->ignored = script_figure(beat->counters, beat->counters_count, "messages_ignored");
    script->computing = script_figure(beat->counters, beat->counters_count, "computing");
}

static inline void script_on_message(void *ctx, enum wire_id id, const void *message)
{
    struct script *script = ctx;
    if (id == WIRE_heartbeat) script_on_beat(script, message);
    if (id == WIRE_update_done) script_on_update(script, message);
    if (id == WIRE_policy_published) script_on_policy(script, message);
    if (id == WIRE_checkpoint_committed) script_on_checkpoint(script, message);
    if (id == WIRE_job_failed) script_keep(script->failure, SCRIPT_TEXT, ((const struct wire_job_failed *)message)->reason);
    if (id == WIRE_batch_request) {
        const struct wire_batch_request *request = message;
        if (request->lineage < script->lineage) return;
        script->asked_update = request->update;
        script->asked_lineage = request->lineage;
        script->requests++;
        if (!script->mute) script_send_batch(script, request->lineage, request->update);
    }
}

/* ---- waits: the test fails past SCRIPT_WAIT_MS ---- */

static inline void script_wait(struct script *script, bool (*holds)(void *ctx), int64_t goal)
{
    script->goal = goal;
    if (data_peer_wait(&script->peer, holds, SCRIPT_WAIT_MS)) return;
    ck_abort_msg("waited in vain (goal %ld); the trainer's failure: \"%s\"", (long)goal, script->failure);
}

static inline bool script_heard_hello(void *ctx)
{
    return ((struct script *)ctx)->peer.hellos > 0 && ((struct script *)ctx)->peer.peer[0];
}

static inline bool script_heard_update(void *ctx)
{
    const struct script *script = ctx;
    return script->updates[script->goal].times > 0;
}

static inline bool script_heard_policy(void *ctx)
{
    const struct script *script = ctx;
    return script->policies[script->goal].where[0] != 0;
}

static inline bool script_heard_checkpoint(void *ctx)
{
    const struct script *script = ctx;
    return script->checkpoints[script->goal].times > 0;
}

static inline bool script_heard_request(void *ctx)
{
    const struct script *script = ctx;
    return script->asked_update == script->goal;
}

static inline bool script_heard_beats(void *ctx)
{
    const struct script *script = ctx;
    return script->peer.beats >= (uint64_t)script->goal;
}

static inline bool script_heard_failure(void *ctx)
{
    return ((struct script *)ctx)->failure[0] != 0;
}

/* ---- life cycle ---- */

static inline void script_start(struct script *script)
{
    script->peer.ctx = script;
    script->peer.on_message = script_on_message;
    script->newest_policy = script->asked_update = -1;
    script->poisoned = script->no_signal = -1;
    script->last_update = SCRIPT_UPDATES;
    data_peer_start(&script->peer, "pal-trainer");
    script_wait(script, script_heard_hello, 0);
}

/* kill -9, a new process, and nothing of what was heard before but the policies and checkpoints */
static inline void script_restart(struct script *script)
{
    script->peer.hellos = 0;
    script->asked_update = -1;
    memset(script->updates, 0, sizeof script->updates);
    data_peer_restart(&script->peer, "pal-trainer");
    script_wait(script, script_heard_hello, 0);
}

/* a new process after a clean stop */
static inline void script_again(struct script *script)
{
    script->peer.hellos = 0;
    script->asked_update = -1;
    data_peer_again(&script->peer, "pal-trainer");
    script_wait(script, script_heard_hello, 0);
}

/* the same after it killed itself at its crash point; what it had said before its death was heard */
static inline void script_crashed(struct script *script)
{
    script->peer.hellos = 0;
    ck_assert_msg(data_peer_crashed(&script->peer, "pal-trainer", SCRIPT_WAIT_MS), "it passed no crash point");
    script_wait(script, script_heard_hello, 0);
    script->asked_update = -1;
}

static inline void script_assign(struct script *script, const char *spec, int64_t lineage,
                                 const struct script_checkpoint *from, int64_t version)
{
    const struct wire_job_assign assign = {.job = SCRIPT_JOB,
                                           .lineage = lineage,
                                           .spec = span_text(spec),
                                           .resume_version = from ? version : -1,
                                           .resume_path = span_text(from ? from->path : ""),
                                           .resume_sha256 = span_text(from ? from->sha256.hex : "")};
    script->lineage = lineage;
    data_peer_send(&script->peer, WIRE_job_assign, &assign);
}

static inline void script_stop_job(struct script *script)
{
    const struct wire_job_stop stop = {SCRIPT_JOB, span_text("the test says so")};
    data_peer_send(&script->peer, WIRE_job_stop, &stop);
}

#endif
