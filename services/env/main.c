/* pal-env: the bus in front of the cluster. Requests of a turn are done as they come; observations leave together before
 * the loop sleeps. */
#include "services/common/run/log.h"
#include "services/common/run/service.h"
#include "services/env/cluster.h"
#include "services/env/launch.h"
#include "services/env/outbox.h"

#include <stdlib.h>

#define SPEC_ARENA_BYTES ((size_t)8 << 20)

_Static_assert(BUS_PEER_BYTES <= 64, "a slot keeps 64 bytes of its peer's name");

struct env_service {
    struct bus *bus;
    struct cluster *cluster;
    struct provider_counters children; /* outlives the loop's last turn */
    struct outbox outbox;
    uv_prepare_t prepare;
    bool prepared;
    uint64_t job; /* of the latest assignment, for the heartbeat */
};

static void on_observation(void *ctx, const char *peer, uint64_t job, const struct wire_observation *observation)
{
    struct env_service *self = ctx;
    outbox_add(&self->outbox, peer, job, observation);
}

static err_t send_observations(void *ctx, const char *peer, const struct wire_observations *message)
{
    struct env_service *self = ctx;
    return bus_send(self->bus, peer, WIRE_observations, message);
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct env_service *self = prepare->data;
    outbox_flush(&self->outbox);
}

/* ---- the rollout workers ---- */

static void release(struct env_service *self, const struct wire_env_release *message)
{
    size_t count = message->episodes.n < message->tokens.n ? message->episodes.n : message->tokens.n;
    for (size_t i = 0; i < count; i++)
        cluster_release(self->cluster, message->job, message->episodes.v[i], message->tokens.v[i]);
}

static void on_request(void *ctx, const char *peer, enum wire_id id, const void *message)
{
    struct service *service = ctx;
    struct env_service *self = service->self;
    if (id == WIRE_acquire_reset) {
        const struct wire_acquire_reset *m = message;
        for (size_t i = 0; i < m->items_count; i++)
            cluster_acquire_reset(self->cluster, peer, m->job, &m->items[i], m->remaining_ms);
    } else if (id == WIRE_actions) {
        const struct wire_actions *m = message;
        for (size_t i = 0; i < m->items_count; i++)
            cluster_action(self->cluster, peer, m->job, &m->items[i], m->remaining_ms);
    } else if (id == WIRE_env_release) {
        release(self, message);
    } else if (id == WIRE_env_held) {
        const struct wire_env_held *m = message;
        size_t count = m->episodes.n < m->tokens.n ? m->episodes.n : m->tokens.n;
        cluster_held(self->cluster, peer, m->job, m->episodes.v, m->tokens.v, count);
    } else {
        log_warn("%s sent message %d, which the environment cluster does not take", peer, (int)id);
    }
}

static void on_bad(void *ctx, const char *peer, const char *why)
{
    (void)ctx;
    log_warn("a bad frame from %s: %s (further ones are only counted)", peer, why);
}

/* ---- the data manager ---- */

static err_t start_job(struct env_service *self, const struct wire_job_assign *assign)
{
    AUTO(arena) arena = {0};
    struct job_problems problems = {0};
    arena_init(&arena, SPEC_ARENA_BYTES);
    struct job_spec *spec = arena_array(&arena, struct job_spec, 1);
    if (!spec) return ERR_memory;
    err_t err = job_parse(assign->spec, &arena, spec, &problems);
    if (err != ERR_ok) return problems.count ? err_set(err, "%s %s", problems.rows[0].pointer, problems.rows[0].detail) : err;
    return cluster_job_start(self->cluster, assign->job, spec);
}

static void assign(struct service *service, const struct wire_job_assign *message)
{
    struct env_service *self = service->self;
    self->job = message->job;
    err_t err = start_job(self, message);
    if (err == ERR_ok) {
        log_info("hosting job %lu", (unsigned long)message->job);
        return;
    }
    log_err(LOG_LEVEL_ERROR, err, "hosting a job");
    struct wire_job_failed failed = {
        .job = message->job, .service = span_text(service->class->name), .reason = span_text(err_text())};
    service_tell(service, WIRE_job_failed, &failed);
}

static void on_message(struct service *service, enum wire_id id, const void *message)
{
    struct env_service *self = service->self;
    if (id == WIRE_job_assign) {
        assign(service, message);
    } else if (id == WIRE_job_stop) {
        const struct wire_job_stop *m = message;
        cluster_job_stop(self->cluster, m->job);
        if (self->job == m->job) self->job = 0;
        log_info("job %lu stops: %.*s", (unsigned long)m->job, SPAN_ARG(m->reason));
    } else if (id == WIRE_lease_revoke) {
        const struct wire_lease_revoke *m = message;
        for (size_t i = 0; i < m->episodes.n; i++) cluster_release(self->cluster, m->job, m->episodes.v[i], UINT64_MAX);
    }
    /* policy_wanted and the like go to every service */
}

static void heartbeat(struct service *service, struct service_pulse *pulse)
{
    struct env_service *self = service->self;
    struct cluster_counters counters;
    cluster_read_counters(self->cluster, &counters);
    pulse->beat.job = self->job;
#define COUNTER(name, doc) pulse_counter(pulse, #name, (double)counters.name);
#define GAUGE(name, doc)   COUNTER(name, doc)
#include "services/env/counters.def"
#undef COUNTER
#undef GAUGE
    const struct bus_counters *bus = bus_stats(self->bus);
    pulse_counter(pulse, "observations_lost", (double)self->outbox.lost);
    pulse_counter(pulse, "bus_given_up", (double)bus->given_up);
    pulse_counter(pulse, "bus_bad", (double)bus->bad);
}

/* ---- life ---- */

static err_t init(struct service *service)
{
    char endpoint[SERVICE_PATH_BYTES + 32];
    struct env_service *self = calloc(1, sizeof *self);
    if (!self) return err_set(ERR_memory, "the environment service");
    service->self = self;
    TRY(outbox_init(&self->outbox, send_observations, self));
    TRY(cluster_new(&self->cluster, &service->loop, &self->children, (struct cluster_events){self, on_observation}));
    (void)uv_prepare_init(&service->loop, &self->prepare);
    self->prepare.data = self;
    self->prepared = true;
    (void)uv_prepare_start(&self->prepare, on_prepare);
    service_endpoint(service, "env", endpoint, sizeof endpoint);
    return bus_listen(&self->bus, &service->loop, endpoint, (struct bus_events){service, on_request, NULL, on_bad});
}

static void stop(struct service *service)
{
    struct env_service *self = service->self;
    if (!self) return;
    cluster_free(&self->cluster);
    bus_free(&self->bus);
    if (self->prepared) uv_close((uv_handle_t *)&self->prepare, NULL);
}

static void fini(struct service *service)
{
    struct env_service *self = service->self;
    if (!self) return;
    outbox_fini(&self->outbox);
    free(self);
    service->self = NULL;
}

int main(int argc, char **argv)
{
    launch_main(argc, argv);
    static const struct service_class class = {
        .name = "env",
        .doc = "The environment cluster: hosts the running environments of every job.",
        .links_to_data = true,
        .init = init,
        .on_message = on_message,
        .heartbeat = heartbeat,
        .stop = stop,
        .fini = fini,
    };
    return service_main(argc, argv, &class);
}
