/* What scripted peers say and hear. */
#include "services/common/base/rng.h"
#include "services/common/run/rundir.h"
#include "tests/support/stage.h"

#include <stdio.h>
#include <stdlib.h>

#define MESSAGE 64 /* ends in one message */

/* ---- what peers say ---- */

static void send_frame(struct peer *peer, enum wire_id id, const void *message)
{
    err_t err = bus_send(peer->bus, NULL, id, message);
    ck_assert_msg(err == ERR_ok, "%s sends message %d: %s", peer->identity, (int)id, err_text());
}

void peer_send(struct peer *peer, enum wire_id id, const void *message)
{
    for (int i = 0; i <= stage.twice; i++) send_frame(peer, id, message);
    if (id == WIRE_heartbeat) return;
    AUTO(buf) frame = {0};
    buf_init(&frame, WIRE_MAX_BYTES);
    ck_assert_int_eq(wire_encode(id, message, &frame), ERR_ok);
    ck_assert_int_eq(buf_append(&peer->said, &frame.size, sizeof frame.size), ERR_ok);
    ck_assert_int_eq(buf_append(&peer->said, frame.data, frame.size), ERR_ok);
}

void peer_replay(struct peer *peer)
{
    AUTO(arena) arena = {0};
    arena_init(&arena, 0);
    for (size_t at = 0; at < peer->said.size;) {
        enum wire_id id = 0;
        const void *message = NULL;
        size_t size = 0;
        memcpy(&size, peer->said.data + at, sizeof size);
        at += sizeof size;
        ck_assert_int_eq(wire_decode(span_of(peer->said.data + at, size), &arena, &id, &message), ERR_ok);
        send_frame(peer, id, message);
        at += size;
    }
}

void peer_hello(struct peer *peer)
{
    const struct wire_hello hello = {
        .service = span_text(peer->service), .host = span_text("stage"), .incarnation = 1, .pid = peer->pid};
    peer_send(peer, WIRE_hello, &hello);
}

void peer_beat(struct peer *peer)
{
    const struct wire_heartbeat beat = {.incarnation = 1,
                                        .job = peer->stopped_job == peer->job ? 0 : peer->job,
                                        .lineage = peer->lineage,
                                        .version = peer->wanted};
    peer_send(peer, WIRE_heartbeat, &beat);
}

void worker_request(struct peer *worker, uint64_t free_slots)
{
    const struct wire_lease_request request = {worker->job, free_slots, worker->lease_count};
    worker->free_slots = free_slots;
    peer_send(worker, WIRE_lease_request, &request);
}

/* Any bytes for the data manager: a text, then noise that does not compress. */
static struct span payload_of(const struct peer *worker, uint64_t episode, struct arena *arena)
{
    struct rng rng;
    size_t size = worker->payload_bytes < 64 ? 64 : worker->payload_bytes;
    char *bytes = arena_take(arena, size, 1);
    ck_assert_ptr_nonnull(bytes);
    size_t n = (size_t)snprintf(bytes, size, "payload of %llu", (unsigned long long)episode);
    rng_init(&rng, episode, 0);
    for (; n < worker->payload_bytes; n++) bytes[n] = (char)rng_u32(&rng);
    return span_of(bytes, n);
}

static size_t score_anything(const struct lease *lease, struct wire_counter ret[STAGE_SCORES])
{
    if (strcmp(lease->score, "replay") == 0) {
        ret[0] = (struct wire_counter){span_text("perplexity"), 1.5};
        return 1;
    }
    ret[0] = (struct wire_counter){span_text("c_intra"), 0.5 - 0.01 * (double)lease->task};
    ret[1] = (struct wire_counter){span_text("c_inter"), 0.25};
    ret[2] = (struct wire_counter){span_text("tokens"), 10 + (double)lease->task};
    ret[3] = (struct wire_counter){span_text("value"), 0.5};
    return 4;
}

/* The worker's account of a lease's end. */
static void worker_account(const struct peer *worker, const struct lease *lease, struct arena *arena,
                           struct wire_counter scores[STAGE_SCORES], struct wire_episode_done *ret)
{
    static const float entropy[] = {0.5f, 0.25f};
    bool good = strcmp(lease->outcome, "ok") == 0 || strcmp(lease->outcome, "truncated") == 0;
    int64_t version = lease->pin_version >= 0 ? lease->pin_version : worker->wanted;
    *ret = (struct wire_episode_done){.episode = lease->episode,
                                      .attempt = lease->attempt,
                                      .token = lease->token,
                                      .outcome = span_text(lease->outcome),
                                      .reward = lease->reward,
                                      .version_min = good ? version : -1,
                                      .version_max = good ? version : -1,
                                      .error = span_text(good ? "" : "the script says so")};
    if (!good) return;
    ret->judged = lease->judge > 0;
    ret->verified = lease->verified;
    ret->prompt_tokens = 20;
    if (lease->score[0]) {
        ret->scores = scores;
        ret->scores_count = (worker->scorer ? worker->scorer : score_anything)(lease, scores);
        return;
    }
    ret->steps = lease->idle ? 0 : lease->steps ? lease->steps : 2;
    ret->action_tokens = 5 + lease->episode % 3;
    ret->turn_entropy = (struct wire_f32s){entropy, 2};
    if (lease->turns) {
        ret->turn_entropy = (struct wire_f32s){lease->entropy, lease->turns};
        ret->turn_tokens = (struct wire_f32s){lease->tokens, lease->turns};
        ret->action_tokens = 0;
        for (size_t t = 0; t < lease->turns; t++) ret->action_tokens += (uint64_t)lease->tokens[t];
    }
    ret->payload = payload_of(worker, lease->episode, arena);
    ret->payload_raw = 100;
}

/* Sends the ends of some leases in one message, whatever was said of them before. */
void worker_tell(struct peer *worker, struct lease *const *leases, size_t count)
{
    struct wire_episode_done ends[MESSAGE];
    struct wire_counter scores[MESSAGE][STAGE_SCORES];
    AUTO(arena) arena = {0};
    arena_init(&arena, 0);
    ck_assert_uint_le(count, MESSAGE);
    for (size_t i = 0; i < count; i++) {
        leases[i]->said = true;
        worker_account(worker, leases[i], &arena, scores[i], &ends[i]);
    }
    const struct wire_episodes_done done = {.job = leases[0]->job, .episodes = ends, .episodes_count = count};
    peer_send(worker, WIRE_episodes_done, &done);
}

void worker_end(struct peer *worker, struct lease *lease, const char *outcome, double reward)
{
    lease->outcome = outcome;
    lease->reward = reward;
    worker_tell(worker, &lease, 1);
}

bool worker_acked(const struct peer *worker)
{
    for (size_t i = 0; i < worker->lease_count; i++) {
        if (worker->leases[i].said && !worker->leases[i].acked) return false;
    }
    return true;
}

static void worker_hold(struct peer *worker)
{
    uint64_t tokens[STAGE_LEASES], newest = 0;
    size_t n = 0;
    for (size_t i = 0; i < worker->lease_count; i++) {
        if (worker->leases[i].job != worker->job) continue;
        if (worker->leases[i].token > newest) newest = worker->leases[i].token;
        if (!worker->leases[i].acked) tokens[n++] = worker->leases[i].token;
    }
    const struct wire_leases_held held = {worker->job, worker->lease_count, newest, {tokens, n}};
    peer_send(worker, WIRE_leases_held, &held);
}

void worker_resend(struct peer *worker)
{
    struct lease *again[MESSAGE];
    size_t count = 0;
    for (size_t i = 0; i < worker->lease_count; i++) {
        if (worker->leases[i].said && !worker->leases[i].acked) again[count++] = &worker->leases[i];
        if (count == MESSAGE || (count && i + 1 == worker->lease_count)) {
            worker_tell(worker, again, count);
            count = 0;
        }
    }
    if (worker->free_slots) worker_request(worker, worker->free_slots);
}

void worker_play(struct peer *worker, bool signal)
{
    for (size_t i = 0; i < worker->lease_count; i++) {
        struct lease *lease = &worker->leases[i];
        if (!lease->said && lease->min_version <= worker->wanted)
            worker_end(worker, lease, "ok", signal && lease->episode % 2 ? 1.0 : 0.0);
    }
}

void worker_play_but(struct peer *worker, uint64_t task)
{
    for (size_t i = 0; i < worker->lease_count; i++) {
        struct lease *lease = &worker->leases[i];
        if (lease->said || lease->min_version > worker->wanted) continue;
        bool bad = lease->task == task;
        worker_end(worker, lease, bad ? "poisoned" : "ok", !bad && lease->episode % 2 ? 1.0 : 0.0);
    }
}

bool worker_delivered(struct peer *worker, uint64_t *next_ms)
{
    uint64_t now = uv_now(&stage.loop);
    if (*next_ms == 0) *next_ms = now + 200;
    if (now >= *next_ms) {
        worker_resend(worker);
        *next_ms += 200;
    }
    return worker_acked(worker);
}

void trainer_ask(struct peer *trainer, int64_t update)
{
    const struct wire_batch_request request = {trainer->job, trainer->lineage, update};
    trainer->asked = update;
    peer_send(trainer, WIRE_batch_request, &request);
}

/* ---- what peers hear ---- */

static void peer_keep(char *to, size_t size, struct span text)
{
    (void)snprintf(to, size, "%.*s", SPAN_ARG(text));
}

static uint64_t sum_of(struct span payload)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < payload.size; i++) sum = sum * 31 + payload.data[i];
    return sum;
}

static void hear_beat(struct peer *peer, const struct wire_heartbeat_ack *ack)
{
    peer->epoch = ack->epoch;
    if (!ack->hello_again || peer->mute) return;
    peer->hellos_again++;
    peer_hello(peer);
    if (strcmp(peer->service, "rollout") == 0) {
        worker_hold(peer);
        worker_resend(peer);
    }
    if (strcmp(peer->service, "trainer") == 0) trainer_resend(peer);
}

static void hear_assign(struct peer *peer, const struct wire_job_assign *assign)
{
    if (peer->job != assign->job || peer->lineage != assign->lineage) {
        peer->published = peer->published_orm = peer->asked = -1;
        peer->done.open = peer->saved.open = false;
    }
    peer->job = assign->job;
    peer->lineage = assign->lineage;
    peer->resume_version = assign->resume_version;
    peer_keep(peer->resume_path, sizeof peer->resume_path, assign->resume_path);
    peer->assigns++;
}

static void hear_leases(struct peer *peer, const struct wire_leases *leases)
{
    for (size_t i = 0; i < leases->leases_count; i++) {
        const struct wire_lease *from = &leases->leases[i];
        ck_assert_uint_lt(peer->lease_count, STAGE_LEASES);
        struct lease *to = &peer->leases[peer->lease_count++];
        *to = (struct lease){.job = leases->job,
                             .episode = from->episode,
                             .attempt = from->attempt,
                             .token = from->token,
                             .group = from->group,
                             .task = from->task,
                             .max_steps = from->max_steps,
                             .min_version = from->min_version,
                             .pin_version = from->pin_version};
        peer_keep(to->source, sizeof to->source, from->source);
        peer_keep(to->hint, sizeof to->hint, from->hint);
        peer_keep(to->script, sizeof to->script, from->script);
        peer_keep(to->score, sizeof to->score, from->score);
        to->measured = sum_of(from->payload);
        to->judge = from->judge;
    }
}

static void hear_acks(struct peer *peer, const struct wire_episodes_ack *ack)
{
    peer->acks += ack->tokens.n;
    for (size_t i = 0; i < ack->tokens.n; i++) {
        for (size_t k = 0; k < peer->lease_count; k++) {
            struct lease *lease = &peer->leases[k];
            if (lease->job == ack->job && lease->token == ack->tokens.v[i]) lease->acked = true;
        }
    }
}

static void hear_batch(struct peer *peer, const struct wire_batch *from)
{
    ck_assert_uint_lt(peer->batch_count, STAGE_BATCHES);
    ck_assert_uint_le(from->members_count, STAGE_MEMBERS);
    struct batch *to = &peer->batches[peer->batch_count++];
    *to = (struct batch){.lineage = from->lineage,
                         .update = from->update,
                         .norm_tokens = from->norm_tokens,
                         .groups = from->groups,
                         .no_signal_groups = from->no_signal_groups,
                         .extra_passes = from->extra_passes,
                         .discarded = from->discarded,
                         .phase = from->phase,
                         .phase_end = from->phase_end,
                         .judged = from->judged_count,
                         .count = from->members_count};
    peer_keep(to->kind, sizeof to->kind, from->kind);
    for (size_t i = 0; i < from->judged_count; i++) {
        ck_assert_uint_gt(from->judged[i].payload.size, 0);
        to->judged_tests += from->judged[i].test;
        to->judged_successes += from->judged[i].success;
    }
    for (size_t i = 0; i < from->members_count; i++) {
        const struct wire_batch_member *m = &from->members[i];
        to->episode[i] = m->episode;
        to->group[i] = m->group;
        to->advantage[i] = m->advantage;
        to->signal[i] = m->signal;
        to->tokens[i] = m->action_tokens;
        to->pass[i] = m->pass;
        peer_keep(to->source[i], sizeof to->source[i], m->source);
        for (size_t k = 0; k < m->dropped.n; k++) to->dropped[i] |= UINT64_C(1) << m->dropped.v[k];
        to->payload[i] = sum_of(m->payload);
    }
    if (peer->asked == from->update) peer->asked = -1;
}

static void hear_answer(struct peer *peer, const struct wire_job_answer *answer)
{
    peer->answer_job = answer->job;
    peer->answer_created = answer->created;
    peer_keep(peer->answer_error, sizeof peer->answer_error, answer->error);
    peer->answers++;
}

static void hear_more(struct peer *peer, enum wire_id id, const void *message)
{
    if (id == WIRE_trainer_ack) {
        const struct wire_trainer_ack *ack = message;
        bool done = ack->what == WIRE_update_done;
        *(done ? &peer->applied_ack : &peer->committed_ack) = ack->update;
        if (done && ack->update == peer->done.update) peer->done.open = false;
        if (!done && ack->update == peer->saved.update) peer->saved.open = false;
    } else if (id == WIRE_policy_wanted) {
        const struct wire_policy_wanted *wanted = message;
        *(span_is(wanted->role, "orm") ? &peer->wanted_orm : &peer->wanted) = wanted->version;
        peer->seen++;
    } else if (id == WIRE_job_stop) {
        peer->stopped_job = ((const struct wire_job_stop *)message)->job;
        peer->stops++;
    } else if (id == WIRE_lease_revoke) {
        const struct wire_lease_revoke *revoke = message;
        for (size_t i = 0; i < revoke->episodes.n && peer->revoked_count < STAGE_LEASES; i++)
            peer->revoked[peer->revoked_count++] = revoke->episodes.v[i];
    } else if (id == WIRE_status) {
        struct span json = ((const struct wire_status *)message)->json;
        peer->ready = memmem(json.data, json.size, "\"database\":true", 15) != NULL;
        peer->statuses++;
    } else if (id == WIRE_pool_answer) {
        const struct wire_pool_answer *answer = message;
        peer_keep(peer->answer_error, sizeof peer->answer_error, answer->error);
        peer_keep(peer->answer_detail, sizeof peer->answer_detail,
                  answer->problems_count ? answer->problems[0].detail : answer->detail);
        peer->planned = answer->planned;
        peer->known = answer->known;
        peer->refused = answer->problems_count ? answer->problems[0].item + 1 : 0;
        peer->answers++;
    } else if (id == WIRE_policy_ack) {
        peer->policy_acks++;
    }
}

static void hear(void *ctx, const char *from, enum wire_id id, const void *message)
{
    struct peer *peer = ctx;
    (void)from;
    if (id == WIRE_heartbeat_ack)
        hear_beat(peer, message);
    else if (id == WIRE_job_assign)
        hear_assign(peer, message);
    else if (id == WIRE_leases)
        hear_leases(peer, message);
    else if (id == WIRE_episodes_ack)
        hear_acks(peer, message);
    else if (id == WIRE_batch)
        hear_batch(peer, message);
    else if (id == WIRE_job_answer)
        hear_answer(peer, message);
    else
        hear_more(peer, id, message);
}

static void hear_bad(void *ctx, const char *from, const char *why)
{
    (void)from;
    ck_abort_msg("a bad frame for %s: %s", ((struct peer *)ctx)->identity, why);
}

/* ---- peers come and go ---- */

/* `as`: the identity and process to be again, on another manager; NULL for a new one. */
struct peer *peer_join(const struct manager *manager, const char *service, const struct peer *as)
{
    char run_dir[STAGE_TEXT], endpoint[STAGE_TEXT + 32];
    ck_assert_uint_lt(stage.peer_count, STAGE_PEERS);
    struct peer *peer = calloc(1, sizeof *peer);
    ck_assert_ptr_nonnull(peer);
    stage.peers[stage.peer_count++] = peer;
    buf_init(&peer->said, (size_t)256 << 20);
    peer->service = service;
    peer->pid = as ? as->pid : 100000 + stage.peer_count;
    peer->asked = peer->wanted = peer->published = peer->published_orm = peer->resume_version = peer->applied_ack =
        peer->committed_ack = -1;
    (void)snprintf(peer->identity, sizeof peer->identity, "%s-%016zx", service, stage.peer_count);
    if (as) memcpy(peer->identity, as->identity, sizeof peer->identity);
    ck_assert_int_eq(rundir_path(manager->state_dir, run_dir, sizeof run_dir), ERR_ok);
    (void)snprintf(endpoint, sizeof endpoint, "ipc://%s/data.sock", run_dir);
    const struct bus_events events = {.ctx = peer, .on_message = hear, .on_bad = hear_bad};
    ck_assert_int_eq(bus_connect(&peer->bus, &stage.loop, endpoint, peer->identity, events), ERR_ok);
    peer_hello(peer);
    peer_beat(peer);
    WAIT_FOR(peer->epoch > 0);
    return peer;
}

struct peer *stage_join(const char *service)
{
    return peer_join(&stage.managers[0], service, NULL);
}
