/* Adaptive replay ratio: passes over each batch, and the switch between the low and the high ratio (curation/replay_ratio.h).
 */
#include "curation/replay_ratio.h"

#include "services/common/run/log.h"
#include "services/data/data.h"

#include <math.h>

#define METHOD "ratio"

static const struct method_field fields[] = {
#define STATE(name, doc) {#name, offsetof(struct replay_ratio, name)},
#include "curation/replay_ratio.def"
#undef STATE
};

static struct replay_ratio_config config_of(const struct plan *plan)
{
    const struct job_replay_ratio *spec = &plan->spec.replay_ratio;
    return (struct replay_ratio_config){.low = spec->low,
                                        .high = spec->high,
                                        .guarded = spec->rule == JOB_RATIO_RULE_GUARDED,
                                        .window = (double)spec->window,
                                        .tau = spec->tau,
                                        .warmup = (double)spec->warmup,
                                        .floor = spec->floor,
                                        .weight_low = spec->weight_low,
                                        .clip_high = spec->clip_high};
}

err_t ratio_load(struct data *data)
{
    struct plan *plan = data->plan;
    plan->ratio = (struct replay_ratio){0};
    if (!plan->spec.replay_ratio.on) return ERR_ok;
    return method_get(data, METHOD, fields, sizeof fields / sizeof *fields, &plan->ratio);
}

err_t ratio_passes(struct data *data, int64_t update, int64_t *ret)
{
    const struct plan *plan = data->plan;
    *ret = 1;
    if (!plan->spec.replay_ratio.on || update < 1) return ERR_ok;
    const struct replay_ratio_config config = config_of(plan);
    *ret = replay_ratio_passes(&config, &plan->ratio);
    if (*ret > 0) return ERR_ok;
    const struct method_number inputs[] = {{"credits", plan->ratio.credits},
                                           {"replay_ratio", replay_ratio_now(&config, &plan->ratio)}};
    return finish_decide(data, "update", update, METHOD, "discarded", method_json(&data->arena, inputs, 2));
}

/* The verdict on a window that ended. */
static err_t decide(struct data *data, int64_t update, double before, const struct replay_ratio_verdict *v)
{
    const struct plan *plan = data->plan;
    const struct replay_ratio_config config = config_of(plan);
    const struct method_number inputs[] = {
        {"window", plan->ratio.windows},
        {"fau", v->fau},
        {"difference", v->difference},
        {"tau", v->tau},
        {"first_fau", plan->ratio.first_fau},
        {"mean_w", v->mean_w},
        {"clip_share", v->clip_share},
        {"explained_variance", v->explained_variance},
        {"before", before},
        {"after", replay_ratio_now(&config, &plan->ratio)},
    };
    bool switched = v->why > REPLAY_RATIO_STAYS;
    const char *verdict = !switched ? "stays" : v->high ? "high" : "low";
    if (switched)
        log_info("job %lld, update %lld: passes go from %g to %g: %s", (long long)plan->job, (long long)update, before,
                 replay_ratio_now(&config, &plan->ratio), replay_ratio_why_name(v->why));
    return finish_decide(data, "update", update, METHOD, verdict,
                         method_json(&data->arena, inputs, sizeof inputs / sizeof *inputs));
}

err_t ratio_update(struct data *data, const struct wire_update_done *done, int64_t passes)
{
    struct plan *plan = data->plan;
    if (!plan->spec.replay_ratio.on) return ERR_ok;
    const struct replay_ratio_config config = config_of(plan);
    double before = replay_ratio_now(&config, &plan->ratio);
    replay_ratio_spend(&config, &plan->ratio, passes);
    struct replay_ratio_reading reading = {(double)NAN, (double)NAN, (double)NAN, (double)NAN};
    if (span_is(done->outcome, "applied")) /* what was skipped measured nothing */
        reading = (struct replay_ratio_reading){method_told(done, "fau"), method_told(done, "mean_w"),
                                                method_told(done, "clip_share"), method_told(done, "explained_variance")};
    struct replay_ratio_verdict verdict;
    if (replay_ratio_read(&config, &plan->ratio, &reading, &verdict)) TRY(decide(data, done->update, before, &verdict));
    plan->method_figures.replay_ratio = before;
    if (plan->ratio.windows > 0) plan->method_figures.fau_window = plan->ratio.last_fau;
    return method_put(data, METHOD, fields, sizeof fields / sizeof *fields, &plan->ratio);
}
