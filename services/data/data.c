#include "services/data/data.h"

#include "services/common/run/crash.h"
#include "services/common/run/log.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define RETRY_FIRST_MS 100
#define RETRY_LAST_MS  5000
#define SETTLE_MS      1000 /* without trouble for this long past the last wait: it is over */
#define DEAF_MS        1000 /* between two looks of the janitor: more than that was spent elsewhere */
#define ANALYZE_FIRST  128  /* episodes */

uint64_t data_now_ms(const struct data *data)
{
    return uv_now(&data->service->loop);
}

void data_fail(struct data *data, err_t err)
{
    if (err != ERR_ok && data->turn_err == ERR_ok) data->turn_err = err_prefix(err, "turn %lu", (unsigned long)data->turns);
}

struct peer *data_peer(struct data *data, const char *identity)
{
    for (size_t i = 0; i < DATA_PEERS; i++) {
        if (data->peers[i].identity[0] && strcmp(data->peers[i].identity, identity) == 0) return &data->peers[i];
    }
    return NULL;
}

static void say_one(struct data *data, const char *peer, enum wire_id id, const void *message)
{
    if (data->saying_count == data->saying_room) {
        size_t room = data->saying_room ? data->saying_room * 2 : 64;
        struct saying *more = realloc(data->sayings, room * sizeof *more);
        if (!more) {
            data_fail(data, err_set(ERR_memory, "the answers of a turn"));
            return;
        }
        data->sayings = more;
        data->saying_room = room;
    }
    struct saying *saying = &data->sayings[data->saying_count++];
    *saying = (struct saying){.id = id, .message = message};
    (void)snprintf(saying->peer, sizeof saying->peer, "%s", peer);
}

void data_say(struct data *data, const char *peer, const char *service, enum wire_id id, const void *message)
{
    if (!message) {
        data_fail(data, ERR_memory);
    } else if (peer) {
        say_one(data, peer, id, message);
    } else {
        for (size_t i = 0; i < DATA_PEERS; i++) {
            const struct peer *p = &data->peers[i];
            if (p->identity[0] && !p->gone && strcmp(p->service, service) == 0) say_one(data, p->identity, id, message);
        }
    }
}

err_t data_begin(struct data *data)
{
    if (data->in_transaction) return ERR_ok;
    if (!data->store) return err_set(ERR_unavailable, "PostgreSQL cannot be reached");
    TRY(store_begin(data->store, data->epoch));
    data->in_transaction = true;
    return ERR_ok;
}

/* ---- connection ---- */

static err_t connect_ledger(struct data *data)
{
    char conninfo[SERVICE_PATH_BYTES * 2];
    TRY(store_conninfo(data->service->run_dir, "pal", conninfo, sizeof conninfo));
    TRY(store_open(&data->store, conninfo));
    if (data->epoch == 0) {
        TRY(store_migrate(data->store, data->migrations));
        TRY(store_take_epoch(data->store, &data->epoch));
        log_info("data epoch %lu", (unsigned long)data->epoch);
    }
    TRY(store_plan_by_key(data->store));
    TRY(store_episode_rows(data->store, &data->rows));
    data->analyze_at = 2 * data->rows;
    return jobs_load(data);
}

/* Waits longer each time until the trouble is over (settle). */
static void disconnect(struct data *data)
{
    store_close(&data->store);
    plan_free(&data->plan);
    data->retry_ms = data->retry_ms ? data->retry_ms * 2 : RETRY_FIRST_MS;
    if (data->retry_ms > RETRY_LAST_MS) data->retry_ms = RETRY_LAST_MS;
    data->trouble_ms = data_now_ms(data);
    data->retry_at_ms = data->trouble_ms + data->retry_ms;
}

static void on_fenced(uv_timer_t *timer)
{
    struct data *data = timer->data;
    service_quit(data->service, 3);
}

static void end_fenced(struct data *data)
{
    log_error("another data manager has taken over: this one (epoch %lu) ends", (unsigned long)data->epoch);
    /* not from here: the bus may be in the middle of a turn */
    (void)uv_timer_start(&data->janitor, on_fenced, 0, 0);
}

static void reconnect(struct data *data)
{
    if (data->store || data_now_ms(data) < data->retry_at_ms) return;
    err_t err = connect_ledger(data);
    if (err == ERR_ok) {
        log_info("connected to the ledger");
        data->look_for_job = true;
        peers_say_again(data);
        peers_miss_again(data);
        return;
    }
    data->moved_job = 0;
    if (data->retry_ms == 0) (void)snprintf(data->trouble, sizeof data->trouble, "%s", err_text());
    log_err(err_retry(err) ? LOG_LEVEL_WARN : LOG_LEVEL_ERROR, err, "the ledger");
    disconnect(data);
    if (err == ERR_stale)
        end_fenced(data);
    else if (err == ERR_conflict || err == ERR_malformed)
        service_quit(data->service, SERVICE_HOPELESS); /* a changed migration, a newer schema: people must look */
}

/* The trouble is over: work was committed, or there was none for a while. */
static void settle(struct data *data)
{
    data->retry_ms = 0;
    data->trouble[0] = 0;
}

static bool is_quiet(const struct data *data)
{
    return data->store && data_now_ms(data) - data->trouble_ms > 2 * data->retry_ms + SETTLE_MS;
}

/* ---- a turn ---- */

static void drop_turn(struct data *data)
{
    writes_clear(&data->writes);
    data->saying_count = 0;
    data->turn_err = ERR_ok;
    data->in_transaction = false;
    arena_clear(&data->arena);
    while (data->over) {
        struct plan *over = data->over;
        data->over = over->next_over;
        plan_free(&over);
    }
}

/* What is in memory may be ahead of the ledger now: it is read again after a while. Unacknowledged messages come again by
 * themselves; at once they would only fail again while a disk is full. */
static void recover(struct data *data)
{
    err_t err = data->turn_err;
    data->failed_turns++;
    (void)snprintf(data->trouble, sizeof data->trouble, "%s", err_text());
    log_err(LOG_LEVEL_ERROR, err, "a turn was rolled back");
    /* the watchdog's clock stands still for the ledger's troubles, not for ours */
    data->moved_job = !err_retry(err) && data->plan ? data->plan->job : 0;
    data->moved_ms = data->moved_job ? data->plan->moved_ms : 0;
    if (data->in_transaction && data->store && store_alive(data->store)) store_rollback(data->store);
    drop_turn(data);
    disconnect(data);
    if (err == ERR_stale) end_fenced(data);
}

static err_t advance(struct data *data)
{
    bool works = data->in_transaction || writes_any(&data->writes);
    TRY(peers_write(data));
    TRY(jobs_advance(data));
    if (data->plan && data->plan->running) {
        TRY(batch_advance(data));
        TRY(method_advance(data));
        TRY(grant_advance(data));
    }
    if (data->plan && writes_any(&data->writes)) {
        TRY(data_begin(data));
        TRY(writes_flush(&data->writes, data->store, data->plan, &data->arena));
    }
    if (data->in_transaction) {
        crash_here(CRASH_turn_written);
        TRY(store_commit(data->store));
        crash_here(CRASH_turn_committed);
    }
    if (works) settle(data);
    return ERR_ok;
}

static double wall_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

/* Query plans made while the ledger is small are slow when it has grown. */
static void analyze(struct data *data)
{
    if (data->rows < data->analyze_at) return;
    data->analyze_at = data->rows < ANALYZE_FIRST ? ANALYZE_FIRST : 2 * data->rows;
    err_t err = store_analyze(data->store);
    if (err != ERR_ok) log_err(LOG_LEVEL_WARN, err, "statistics of the ledger");
}

static void turn(struct data *data)
{
    if (!data->store) {
        drop_turn(data);
        return;
    }
    crash_count((int64_t)data->epoch, (int64_t)++data->turns);
    double start = wall_ms();
    size_t ends = data->writes.ends.count;
    if (data->turn_err == ERR_ok) data_fail(data, advance(data));
    if (data->turn_err != ERR_ok) {
        recover(data);
        return;
    }
    bool wrote = data->in_transaction;
    data->in_transaction = false;
    data->written_episodes += ends;
    data->rows += ends;
    for (size_t i = 0; i < data->saying_count; i++) {
        const struct saying *saying = &data->sayings[i];
        err_t err = bus_send(data->bus, saying->peer, saying->id, saying->message);
        if (err != ERR_ok) log_err(LOG_LEVEL_WARN, err, saying->peer);
    }
    if (wrote) crash_here(CRASH_turn_told);
    if (ends) data->ack_ms = wall_ms() - start;
    drop_turn(data);
    if (ends) analyze(data);
}

void data_turn(struct data *data)
{
    double start = wall_ms();
    turn(data);
    double took = wall_ms() - start;
    if (took > data->longest_turn_ms) data->longest_turn_ms = took;
}

/* ---- messages ---- */

static void answer_status(struct data *data, const char *peer, const struct wire_status_request *request)
{
    AUTO(buf) json = {0};
    err_t err = status_write(data, &json);
    if (err != ERR_ok) {
        log_err(LOG_LEVEL_WARN, err, "status");
        return;
    }
    struct wire_status status = {.request = request->request, .json = buf_span(&json)};
    err = bus_send(data->bus, peer, WIRE_status, &status);
    if (err != ERR_ok) log_err(LOG_LEVEL_WARN, err, "answering a status request");
}

static void refuse_without_store(struct data *data, const char *peer, enum wire_id id, const void *message)
{
    static const char detail[] = "PostgreSQL cannot be reached; try again";
    uint64_t request = 0;
    if (id == WIRE_pool_import) {
        const struct wire_pool_import *import = message;
        const struct wire_pool_answer refused = {
            .request = import->request, .job = import->job, .error = span_text("unavailable"), .detail = span_text(detail)};
        err_t told = bus_send(data->bus, peer, WIRE_pool_answer, &refused);
        if (told != ERR_ok) log_err(LOG_LEVEL_WARN, told, "answering the gateway");
        return;
    }
    if (id == WIRE_job_submit)
        request = ((const struct wire_job_submit *)message)->request;
    else if (id == WIRE_job_command)
        request = ((const struct wire_job_command *)message)->request;
    else
        return; /* it will be sent again */
    struct wire_job_answer answer = {.request = request, .error = span_text("unavailable"), .detail = span_text(detail)};
    err_t err = bus_send(data->bus, peer, WIRE_job_answer, &answer);
    if (err != ERR_ok) log_err(LOG_LEVEL_WARN, err, "answering the gateway");
}

/* A question that comes twice is answered once: submitting again would make a second job. */
static void from_gateway(struct data *data, const char *identity, enum wire_id id, const void *message)
{
    const struct wire_job_submit *submit = message;
    const struct wire_job_command *command = message;
    struct peer *peer = data_peer(data, identity);
    uint64_t request = id == WIRE_job_submit ? submit->request : command->request;
    if (peer && request <= peer->request) return;
    if (peer) peer->request = request;
    if (id == WIRE_job_submit)
        jobs_submit(data, identity, submit);
    else
        jobs_command(data, identity, command);
}

static void job_failed(struct data *data, const struct wire_job_failed *failed)
{
    struct plan *plan = data->plan;
    if (!plan || (uint64_t)plan->job != failed->job) return;
    const char *reason = arena_printf(&data->arena, "%.*s: %.*s", SPAN_ARG(failed->service), SPAN_ARG(failed->reason));
    data_fail(data, reason ? jobs_end(data, "failed", reason) : ERR_memory);
}

/* What was granted and not seen yet is on its way to the worker and will fill slots it believes free. */
static void lease_request(struct data *data, const char *identity, const struct wire_lease_request *request)
{
    struct peer *peer = data_peer(data, identity);
    if (!peer || !data->plan || (uint64_t)data->plan->job != request->job) return;
    if (!peer->in_step) peer->granted = request->leases_seen;
    peer->in_step = true;
    uint64_t on_the_way = peer->granted - request->leases_seen;
    peer->demand = request->free_slots > on_the_way ? request->free_slots - on_the_way : 0;
}

static void on_message(void *ctx, const char *peer, enum wire_id id, const void *message)
{
    struct data *data = ctx;
    if (id == WIRE_hello)
        peers_hello(data, peer, message);
    else if (id == WIRE_heartbeat)
        peers_heartbeat(data, peer, message);
    else if (id == WIRE_status_request)
        answer_status(data, peer, message);
    else if (!data->store)
        refuse_without_store(data, peer, id, message);
    else if (data->turn_err != ERR_ok)
        return; /* this turn is lost already */
    else if (id == WIRE_job_submit || id == WIRE_job_command)
        from_gateway(data, peer, id, message);
    else if (id == WIRE_pool_import)
        import_request(data, peer, message);
    else if (id == WIRE_episodes_done)
        finish_episodes(data, peer, message);
    else if (id == WIRE_update_done)
        batch_update_done(data, peer, message);
    else if (id == WIRE_policy_published)
        policy_published(data, peer, message);
    else if (id == WIRE_checkpoint_committed)
        policy_checkpoint(data, peer, message);
    else if (id == WIRE_job_failed)
        job_failed(data, message);
    else if (id == WIRE_leases_held)
        finish_held(data, peer, message);
    else if (id == WIRE_lease_request) {
        lease_request(data, peer, message);
    } else if (id == WIRE_batch_request) {
        const struct wire_batch_request *request = message;
        struct peer *p = data_peer(data, peer);
        if (!p || !data->plan || (uint64_t)data->plan->job != request->job || request->lineage != data->plan->lineage) return;
        p->waits = p->asked = true;
        p->wanted_lineage = request->lineage;
        p->wanted_update = request->update;
    } else {
        log_warn("message %d from %s is not for the data manager", (int)id, peer);
    }
}

static void on_turn(void *ctx)
{
    data_turn(ctx);
}

static void on_bad(void *ctx, const char *peer, const char *why)
{
    (void)ctx;
    log_warn("a bad frame from %s: %s (further ones are only counted)", peer, why);
}

static void on_continue(uv_signal_t *handle, int number)
{
    struct data *data = handle->data;
    (void)number;
    data->continued = true;
}

/* one timer for all expiry */
static void on_janitor(uv_timer_t *timer)
{
    struct data *data = timer->data;
    uint64_t now = data_now_ms(data), since = now - data->looked_ms;
    if (data->looked_ms && since > DEAF_MS) peers_forgive(data, since);
    alarm_deaf(data, data->looked_ms ? since : 0);
    data->longest_turn_ms = data->deaf_ms ? data->longest_turn_ms : 0;
    data->looked_ms = now;
    reconnect(data);
    if (data->retry_ms && is_quiet(data)) settle(data);
    peers_expire(data);
    if (!data->store) return;
    finish_expired(data);
    stall_look(data);
    data_turn(data);
}

/* ---- life cycle ---- */

static bool option(struct service *service, const char *name, const char *value)
{
    if (strcmp(name, "--migrations") != 0 || !value) return false;
    static const char key[] = "PAL_MIGRATIONS";
    (void)service;
    return setenv(key, value, 1) == 0;
}

static err_t init(struct service *service)
{
    struct data *data = calloc(1, sizeof *data);
    if (!data) return err_set(ERR_memory, "the data manager");
    service->self = data;
    data->service = service;
    arena_init(&data->arena, 0);
    const char *migrations = getenv("PAL_MIGRATIONS");
    (void)snprintf(data->migrations, sizeof data->migrations, "%s", migrations ? migrations : PAL_MIGRATIONS_DIR);
    char endpoint[SERVICE_PATH_BYTES + 32];
    service_endpoint(service, "data", endpoint, sizeof endpoint);
    TRY(bus_listen(&data->bus, &service->loop, endpoint, (struct bus_events){data, on_message, on_turn, on_bad}));
    (void)uv_timer_init(&service->loop, &data->janitor);
    (void)uv_signal_init(&service->loop, &data->on_continue);
    data->janitor.data = data->on_continue.data = data;
    (void)uv_signal_start(&data->on_continue, on_continue, SIGCONT);
    return uv_timer_start(&data->janitor, on_janitor, 0, DATA_JANITOR_MS) == 0 ? ERR_ok : err_set(ERR_io, "a timer");
}

static void heartbeat(struct service *service, struct service_pulse *pulse)
{
    (void)service;
    (void)pulse; /* data hears heartbeats, it sends none */
}

static void stop(struct service *service)
{
    struct data *data = service->self;
    if (!data || !data->bus) return;
    uv_close((uv_handle_t *)&data->janitor, NULL);
    uv_close((uv_handle_t *)&data->on_continue, NULL);
    bus_free(&data->bus);
}

static void fini(struct service *service)
{
    struct data *data = service->self;
    if (!data) return;
    plan_free(&data->plan);
    store_close(&data->store);
    writes_fini(&data->writes);
    arena_fini(&data->arena);
    free(data->sayings);
    free(data);
}

const struct service_class data_class = {
    .name = "data",
    .doc = "The data manager: plans groups, grants leases, closes groups, packs batches; the only writer of the ledger.",
    .init = init,
    .heartbeat = heartbeat,
    .stop = stop,
    .fini = fini,
    .option = option,
    .options_help = "  --migrations DIR   the folder with the ledger's migrations\n",
};
