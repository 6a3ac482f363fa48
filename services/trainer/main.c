/* pal-trainer: computes updates from batches, publishes policies, keeps checkpoints. */
#include "services/trainer/cycle.h"

#include "services/common/run/log.h"

#include <stdlib.h>

#define TICK_MS 500

struct trainer {
    struct pool *pool;
    struct cycle cycle;
    uv_timer_t tick;
};

static void on_tick(uv_timer_t *timer)
{
    cycle_tick(timer->data);
}

static err_t init(struct service *service)
{
    struct trainer *trainer = calloc(1, sizeof *trainer);
    if (!trainer) return err_set(ERR_memory, "the trainer");
    service->self = trainer;
    TRY(pool_new(&trainer->pool, service->threads));
    cycle_init(&trainer->cycle, service, trainer->pool);
    (void)uv_timer_init(&service->loop, &trainer->tick);
    trainer->tick.data = &trainer->cycle;
    (void)uv_timer_start(&trainer->tick, on_tick, TICK_MS, TICK_MS);
    return ERR_ok;
}

static void on_message(struct service *service, enum wire_id id, const void *message)
{
    struct cycle *cycle = &((struct trainer *)service->self)->cycle;
    if (id == WIRE_job_assign)
        cycle_assign(cycle, message);
    else if (id == WIRE_job_stop)
        cycle_stop_job(cycle, message);
    else if (id == WIRE_batch)
        cycle_batch(cycle, message);
    else if (id == WIRE_policy_ack)
        cycle_policy_ack(cycle, message);
    else if (id == WIRE_trainer_ack)
        cycle_trainer_ack(cycle, message);
    else
        log_debug("message %d is not for the trainer", (int)id);
}

static void on_hello_again(struct service *service)
{
    cycle_hello_again(&((struct trainer *)service->self)->cycle);
}

static void heartbeat(struct service *service, struct service_pulse *pulse)
{
    cycle_pulse(&((struct trainer *)service->self)->cycle, pulse);
}

static bool drain(struct service *service)
{
    struct trainer *trainer = service->self;
    if (!cycle_drain(&trainer->cycle)) return false;
    (void)uv_timer_start(&trainer->tick, on_tick, 0, CYCLE_DRAIN_TICK_MS);
    return true;
}

static void stop(struct service *service)
{
    struct trainer *trainer = service->self;
    if (!trainer) return;
    cycle_quit(&trainer->cycle);
    if (trainer->tick.data) uv_close((uv_handle_t *)&trainer->tick, NULL);
}

static void fini(struct service *service)
{
    struct trainer *trainer = service->self;
    if (!trainer) return;
    cycle_fini(&trainer->cycle);
    pool_free(&trainer->pool);
    free(trainer);
}

static const struct service_class trainer_class = {
    .name = "trainer",
    .doc = "The trainer: asks the data manager for batches, computes updates, publishes policies and keeps checkpoints.",
    .links_to_data = true,
    .init = init,
    .on_message = on_message,
    .on_hello_again = on_hello_again,
    .heartbeat = heartbeat,
    .drain = drain,
    .stop = stop,
    .fini = fini,
};

int main(int argc, char **argv)
{
    return service_main(argc, argv, &trainer_class);
}
