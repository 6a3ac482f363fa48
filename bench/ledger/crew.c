#include "bench/ledger/crew.h"

#include "bench/support/rig.h"
#include "services/common/base/digest.h"
#include "services/common/base/rng.h"

#include <stdio.h>
#include <stdlib.h>

#define PATIENCE_S  60
#define NOISE_BYTES ((size_t)8 << 20)
#define SET_BYTES   ((size_t)16 << 20)
#define SAVE_EVERY  20 /* updates, as by default */

static double now_ms(const struct crew *crew)
{
    (void)crew;
    return (double)uv_hrtime() / 1e6;
}

static void say(struct member *m, enum wire_id id, const void *message)
{
    if (bus_send(m->bus, NULL, id, message) != ERR_ok) rig_die(m->identity, err_text());
}

static void hello(struct member *m)
{
    const struct wire_hello message = {
        .service = span_text(m->service), .host = span_text("bench"), .incarnation = 1, .pid = m->pid};
    say(m, WIRE_hello, &message);
}

static void beat(struct member *m)
{
    const struct wire_heartbeat message = {.incarnation = 1, .job = m->job, .lineage = m->lineage, .version = -1};
    say(m, WIRE_heartbeat, &message);
}

/* ---- worker ---- */

static void take_leases(struct member *m, const struct wire_leases *leases)
{
    struct crew *crew = m->crew;
    if (leases->job != m->job) return;
    for (size_t i = 0; i < leases->leases_count; i++) {
        const struct wire_lease *l = &leases->leases[i];
        if (m->count == CREW_RING) rig_die(m->identity, "too many leases");
        m->ready[(m->first + m->count++) % CREW_RING] =
            (struct crew_lease){l->episode, l->attempt, l->token, l->min_version < 0 ? 0 : l->min_version};
        m->leases++;
        crew->leases++;
    }
    m->ask = true;
}

static void take_acks(struct member *m, const struct wire_episodes_ack *ack)
{
    struct crew *crew = m->crew;
    double now = now_ms(crew);
    if (ack->job != m->job) return;
    for (size_t i = 0; i < ack->tokens.n; i++) {
        crew->took[crew->took_count++ % CREW_RING] = now - crew->sent[ack->tokens.v[i] % CREW_RING];
        crew->acked++;
    }
    m->unacked -= ack->tokens.n < m->unacked ? ack->tokens.n : m->unacked;
    m->ask = true;
}

static struct wire_episode_done end_of(struct crew *crew, const struct crew_lease *l)
{
    static const float entropy[CREW_TURNS] = {0.9f, 0.7f, 0.5f, 0.4f, 0.3f, 0.2f};
    static const float tokens[CREW_TURNS] = {3, 4, 3, 4, 3, 4};
    uint64_t at = l->token * 2654435761u % (NOISE_BYTES - crew->payload);
    return (struct wire_episode_done){
        .episode = l->episode,
        .attempt = l->attempt,
        .token = l->token,
        .outcome = span_text("ok"),
        .reward = (l->token * 2654435761u >> 7) % 2 ? 1.0 : 0.0,
        .steps = CREW_TURNS,
        .prompt_tokens = 48,
        .action_tokens = 21,
        .version_min = l->version,
        .version_max = l->version,
        .turn_entropy = {entropy, CREW_TURNS},
        .turn_tokens = {tokens, CREW_TURNS},
        .engine_ms = 1.5,
        .env_ms = 0.5,
        .payload = span_of(crew->noise + at, crew->payload),
        .payload_raw = crew->payload,
    };
}

static void send_ends(struct member *m)
{
    struct crew *crew = m->crew;
    size_t most = crew->payload * CREW_SET > SET_BYTES ? SET_BYTES / crew->payload : CREW_SET;
    while (crew->plays && m->count > 0 && (crew->rate <= 0 || crew->due >= 1)) {
        struct wire_episode_done ends[CREW_SET];
        size_t n = 0;
        for (; n < most && m->count > 0 && (crew->rate <= 0 || crew->due >= 1); n++) {
            const struct crew_lease *l = &m->ready[m->first];
            ends[n] = end_of(crew, l);
            crew->sent[l->token % CREW_RING] = now_ms(crew);
            m->first = (m->first + 1) % CREW_RING;
            m->count--;
            if (crew->rate > 0) crew->due -= 1;
        }
        const struct wire_episodes_done message = {m->job, ends, n};
        say(m, WIRE_episodes_done, &message);
        crew->said += n;
        m->unacked += n;
        m->ask = true;
    }
}

static void ask(struct member *m)
{
    if (!m->ask || !m->job || !m->crew->plays) return;
    m->ask = false;
    uint64_t room = m->slots > m->count ? m->slots - m->count : 0;
    const struct wire_lease_request message = {m->job, m->unacked >= CREW_OUTBOX ? 0 : room, m->leases};
    say(m, WIRE_lease_request, &message);
}

static void on_flush(uv_timer_t *timer)
{
    struct crew *crew = timer->data;
    crew->due += crew->rate * CREW_FLUSH_MS / 1e3;
    if (crew->due > crew->rate) crew->due = crew->rate;
    for (size_t i = 0; i < CREW_WORKERS; i++) {
        send_ends(&crew->workers[i]);
        ask(&crew->workers[i]);
    }
}

/* ---- trainer ---- */

static void want(struct member *m, int64_t update)
{
    const struct wire_batch_request message = {m->job, m->lineage, update};
    m->wants = update;
    say(m, WIRE_batch_request, &message);
}

static void tell_done(struct member *m, int64_t update)
{
    struct digest digest;
    if (digest_bytes(span_of(&update, sizeof update), &digest) != ERR_ok) rig_die("a digest", err_text());
    const struct wire_counter figures[] = {{span_text("loss"), 0.1}, {span_text("grad_norm"), 1}, {span_text("kl"), 0}};
    const struct wire_update_done done = {.job = m->job,
                                          .lineage = m->lineage,
                                          .update = update,
                                          .outcome = span_text("applied"),
                                          .version = update,
                                          .digest = span_text(digest.hex),
                                          .metrics = figures,
                                          .metrics_count = 3};
    say(m, WIRE_update_done, &done);
    const struct wire_policy_published published = {.job = m->job,
                                                    .lineage = m->lineage,
                                                    .version = update,
                                                    .digest = span_text(digest.hex),
                                                    .where = span_text("/dev/null")};
    say(m, WIRE_policy_published, &published);
    if (update % SAVE_EVERY) return;
    const struct wire_checkpoint_committed saved = {.job = m->job,
                                                    .lineage = m->lineage,
                                                    .version = update,
                                                    .update = update,
                                                    .path = span_text("/dev/null"),
                                                    .sha256 = span_text(digest.hex),
                                                    .size = 1,
                                                    .digest = span_text(digest.hex)};
    say(m, WIRE_checkpoint_committed, &saved);
}

static void take_batch(struct member *m, const struct wire_batch *batch)
{
    if (batch->job != m->job || batch->update != m->wants) return;
    for (size_t i = 0; i < batch->members_count; i++) m->crew->batch_bytes += batch->members[i].payload.size;
    m->crew->updates++;
    tell_done(m, batch->update);
    want(m, batch->update + 1);
}

/* ---- all ---- */

static void hear(void *ctx, const char *from, enum wire_id id, const void *message)
{
    struct member *m = ctx;
    (void)from;
    if (id == WIRE_heartbeat_ack) {
        const struct wire_heartbeat_ack *ack = message;
        m->epoch = ack->epoch;
        if (ack->hello_again) m->crew->restarts++;
        if (ack->hello_again) hello(m);
    } else if (id == WIRE_job_assign) {
        const struct wire_job_assign *assign = message;
        if (m->job == assign->job && m->lineage == assign->lineage) return;
        m->job = assign->job;
        m->lineage = assign->lineage;
        m->first = m->count = 0;
        m->unacked = 0;
        m->ask = true;
        if (m == &m->crew->trainer) want(m, assign->resume_version < 0 ? 0 : assign->resume_version + 1);
    } else if (id == WIRE_leases) {
        take_leases(m, message);
    } else if (id == WIRE_episodes_ack) {
        take_acks(m, message);
    } else if (id == WIRE_batch) {
        take_batch(m, message);
    } else if (id == WIRE_job_answer) {
        const struct wire_job_answer *answer = message;
        if (answer->error.size) rig_die("the job", "was refused");
        m->crew->job = answer->job;
        m->crew->over = true;
    }
}

static void on_bad(void *ctx, const char *from, const char *why)
{
    (void)from;
    rig_die(((struct member *)ctx)->identity, why);
}

static void on_beat(uv_timer_t *timer)
{
    struct crew *crew = timer->data;
    beat(&crew->gateway);
    beat(&crew->trainer);
    for (size_t i = 0; i < CREW_WORKERS; i++) beat(&crew->workers[i]);
}

static void on_end(uv_timer_t *timer)
{
    ((struct crew *)timer->data)->over = true;
}

void crew_run(struct crew *crew, double seconds)
{
    crew->plays = true;
    crew->over = false;
    (void)uv_timer_start(&crew->end, on_end, (uint64_t)(seconds * 1e3), 0);
    while (!crew->over) (void)uv_run(&crew->loop, UV_RUN_ONCE);
    (void)uv_timer_stop(&crew->end);
}

/* Turns until the condition holds. */
static void wait_for(struct crew *crew, bool (*holds)(const struct crew *), const char *what)
{
    double end = rig_now() + PATIENCE_S;
    while (!holds(crew)) {
        (void)uv_run(&crew->loop, UV_RUN_ONCE);
        if (rig_now() > end) rig_die("waited in vain for", what);
    }
}

static void join(struct crew *crew, struct member *m, const char *service, size_t number, const char *run_dir)
{
    char endpoint[600];
    *m = (struct member){
        .crew = crew, .service = service, .pid = 100000 + number, .slots = CREW_SLOTS, .lineage = -1, .wants = -1};
    (void)snprintf(m->identity, sizeof m->identity, "%s-%016zx", service, number + 1);
    (void)snprintf(endpoint, sizeof endpoint, "ipc://%s/data.sock", run_dir);
    const struct bus_events events = {.ctx = m, .on_message = hear, .on_bad = on_bad};
    if (bus_connect(&m->bus, &crew->loop, endpoint, m->identity, events) != ERR_ok) rig_die(endpoint, err_text());
    hello(m);
    beat(m);
}

static bool all_there(const struct crew *crew)
{
    bool there = crew->gateway.epoch && crew->trainer.epoch;
    for (size_t i = 0; i < CREW_WORKERS; i++) there = there && crew->workers[i].epoch;
    return there;
}

void crew_noise(uint8_t *ret, size_t size)
{
    struct rng rng;
    rng_init(&rng, 1, 0);
    for (size_t i = 0; i < size; i++) ret[i] = (uint8_t)rng_u32(&rng);
}

void crew_open(struct crew *crew, const char *run_dir)
{
    *crew = (struct crew){.payload = 400,
                          .noise = malloc(NOISE_BYTES),
                          .sent = calloc(CREW_RING, sizeof(double)),
                          .took = calloc(CREW_RING, sizeof(double))};
    if (!crew->noise || !crew->sent || !crew->took) rig_die("the crew", "no memory");
    crew_noise(crew->noise, NOISE_BYTES);
    (void)uv_loop_init(&crew->loop);
    uv_timer_t *const timers[] = {&crew->beat, &crew->flush, &crew->end};
    for (size_t i = 0; i < 3; i++) {
        (void)uv_timer_init(&crew->loop, timers[i]);
        timers[i]->data = crew;
    }
    join(crew, &crew->gateway, "gateway", 0, run_dir);
    join(crew, &crew->trainer, "trainer", 1, run_dir);
    for (size_t i = 0; i < CREW_WORKERS; i++) {
        join(crew, &crew->workers[i], "rollout", 2 + i, run_dir);
        crew->workers[i].ready = calloc(CREW_RING, sizeof(struct crew_lease));
        if (!crew->workers[i].ready) rig_die("the crew", "no memory");
    }
    (void)uv_timer_start(&crew->beat, on_beat, 200, 1000);
    (void)uv_timer_start(&crew->flush, on_flush, CREW_FLUSH_MS, CREW_FLUSH_MS);
    wait_for(crew, all_there, "the data manager");
}

void crew_close(struct crew *crew)
{
    bus_free(&crew->gateway.bus);
    bus_free(&crew->trainer.bus);
    for (size_t i = 0; i < CREW_WORKERS; i++) {
        bus_free(&crew->workers[i].bus);
        free(crew->workers[i].ready);
    }
    uv_close((uv_handle_t *)&crew->beat, NULL);
    uv_close((uv_handle_t *)&crew->flush, NULL);
    uv_close((uv_handle_t *)&crew->end, NULL);
    (void)uv_run(&crew->loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&crew->loop);
    free(crew->noise);
    free(crew->sent);
    free(crew->took);
}

static bool is_over(const struct crew *crew)
{
    return crew->over;
}

static bool has_begun(const struct crew *crew)
{
    return crew->trainer.job == crew->job && crew->trainer.wants >= 1 && crew->workers[0].job == crew->job;
}

void crew_begin(struct crew *crew, int groups, int staleness)
{
    char spec[1024];
    (void)snprintf(spec, sizeof spec,
                   "{\"name\": \"bench\", \"seed\": 3, \"environments\": [{\"name\": \"adventure\", \"max_steps\": 24,"
                   " \"tasks\": {\"generate\": {\"levels\": [1], \"count\": 1024, \"seed\": 7}, \"holdout\": 4}}],"
                   " \"policy\": {\"init\": {\"preset\": \"tiny-0.1m\"}, \"warmstart\": null},"
                   " \"rollout\": {\"group_size\": 8},"
                   " \"trainer\": {\"groups_per_update\": %d, \"updates\": 1000000, \"max_staleness\": %d},"
                   " \"evaluation\": {\"every\": 0, \"episodes\": 0}}",
                   groups, staleness);
    const struct wire_job_submit message = {.request = ++crew->requests, .remaining_ms = 10000, .spec = span_text(spec)};
    crew->over = false;
    say(&crew->gateway, WIRE_job_submit, &message);
    wait_for(crew, is_over, "an answer to the job");
    wait_for(crew, has_begun, "version 0");
}

void crew_resume(struct crew *crew, uint64_t job)
{
    crew->job = job;
    wait_for(crew, has_begun, "the job to go on");
}

void crew_cancel(struct crew *crew)
{
    const struct wire_job_command message = {
        .request = ++crew->requests, .remaining_ms = 10000, .job = crew->job, .command = span_text("cancel")};
    crew->over = crew->plays = false;
    say(&crew->gateway, WIRE_job_command, &message);
    wait_for(crew, is_over, "the end of the job");
}

double crew_lease(struct crew *crew, uint64_t count)
{
    uint64_t wanted = crew->leases + count;
    double begin = rig_now(), end = begin + PATIENCE_S;
    crew->plays = true;
    crew->rate = 1e-9; /* nothing ends */
    for (size_t i = 0; i < CREW_WORKERS; i++) {
        crew->workers[i].slots = count / CREW_WORKERS;
        crew->workers[i].ask = true;
        ask(&crew->workers[i]);
    }
    while (crew->leases < wanted && rig_now() < end) (void)uv_run(&crew->loop, UV_RUN_ONCE);
    if (crew->leases < wanted) rig_die("waited in vain for", "leases");
    double took = rig_now() - begin;
    for (size_t i = 0; i < CREW_WORKERS; i++) crew->workers[i].slots = CREW_SLOTS;
    crew->plays = false;
    crew->rate = 0;
    return took;
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

double crew_took_ms(struct crew *crew, double share)
{
    size_t count = crew->took_count < CREW_RING ? crew->took_count : CREW_RING;
    qsort(crew->took, count, sizeof *crew->took, by_value);
    return count ? crew->took[(size_t)(share * (double)(count - 1))] : 0;
}
