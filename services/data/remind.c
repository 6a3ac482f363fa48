/* What a service should know and, by its heartbeat, does not: the message was lost, and is sent again. */
#include "services/data/data.h"

static void stop_again(struct data *data, const struct peer *peer, uint64_t job)
{
    struct wire_job_stop *stop = arena_array(&data->arena, struct wire_job_stop, 1);
    if (stop) *stop = (struct wire_job_stop){job, span_text("it has ended")};
    data_say(data, peer->identity, NULL, WIRE_job_stop, stop);
}

void remind(struct data *data, const struct peer *peer, const struct wire_heartbeat *beat)
{
    const struct plan *plan = data->plan;
    uint64_t job = plan && plan->running ? (uint64_t)plan->job : 0;
    bool trains = strcmp(peer->service, "trainer") == 0, plays = strcmp(peer->service, "rollout") == 0;
    if (!data->store || (plan && !plan->running)) return; /* what is on stage is not known yet */
    if (!trains && !plays && strcmp(peer->service, "env") != 0) return;
    if (beat->job != 0 && beat->job != job) stop_again(data, peer, beat->job);
    if (job == 0) return;
    bool ours = !trains || strcmp(plan->trainer, peer->identity) == 0;
    if (ours && (beat->job != job || (trains && beat->lineage < plan->lineage))) jobs_assign(data, peer);
    bool old = beat->lineage != plan->lineage || beat->version != plan->published;
    if (plays && beat->job == job && plan->published >= 0 && old)
        data_say(data, peer->identity, NULL, WIRE_policy_wanted, policy_wanted(data));
}
