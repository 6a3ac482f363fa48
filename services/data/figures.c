/* What is said about the batch of an update (figures.def); NaN is not said. */
#include "curation/admission.h"
#include "services/data/data.h"

#include <math.h>

/* What was played for the update, trained on or not. */
struct played {
    double plain, plain_reward, plain_successes;
    double hinted, hinted_successes;
    double members, ages;
    double turns, dropped; /* of those that turns are chosen from */
};

static void count_slots(const struct plan *plan, const struct group *group, struct batch_figures *f, struct played *p)
{
    for (size_t i = 0; i < group->size; i++) {
        const struct slot *slot = &group->slots[i];
        if (slot->state != SLOT_DONE) continue;
        double success = slot->reward >= 0.5;
        *(slot->hinted ? &p->hinted : &p->plain) += 1;
        *(slot->hinted ? &p->hinted_successes : &p->plain_successes) += success;
        if (!slot->hinted) p->plain_reward += slot->reward;
        if (!slot->member) continue;
        double age = slot->version_min < 0 ? 0 : (double)admission_age(plan->version, slot->version_min);
        f->prompt_tokens += (double)slot->prompt_tokens;
        f->action_tokens += (double)slot->action_tokens;
        p->members += 1;
        for (size_t t = 0; t < slot->turn_count; t++) {
            p->turns += slot->turn[t].tokens > 0;
            p->dropped += slot->turn[t].dropped;
        }
        p->ages += age;
        if (age > f->staleness_max) f->staleness_max = age;
    }
}

static double share(double part, double whole)
{
    return whole > 0 ? part / whole : 0;
}

static void take_dart(const struct plan *plan, struct group **groups, size_t count, const struct played *p,
                      struct batch_figures *f)
{
    f->rollouts_per_task = f->steps_capped = f->turns_dropped_share = f->pool_members = plan->spec.dart.on ? 0 : (double)NAN;
    for (size_t g = 0; plan->spec.dart.on && g < count; g++) {
        const struct job_environment *env = &plan->spec.environments[plan->tasks[groups[g]->task].environment];
        f->rollouts_per_task += (double)groups[g]->size / (double)count;
        f->steps_capped += (double)(env->max_steps - groups[g]->max_steps) / (double)count;
        f->pool_members += groups[g]->pool >= 0;
    }
    if (plan->spec.dart.on) f->turns_dropped_share = share(p->dropped, p->turns);
}

void figures_take(struct plan *plan, int64_t update, struct group **groups, size_t count)
{
    struct batch_figures f = {.update = update};
    struct played p = {0};
    double without = 0;
    for (size_t g = 0; g < count; g++) {
        without += !groups[g]->signal;
        f.hinted_groups += groups[g]->source == GROUP_HINTED;
        count_slots(plan, groups[g], &f, &p);
        if (groups[g]->plain) count_slots(plan, groups[g]->plain, &f, &p);
    }
    f.episodes = p.members;
    f.reward = share(p.plain_reward, p.plain);
    f.success = share(p.plain_successes, p.plain);
    f.hinted_success = p.hinted > 0 ? p.hinted_successes / p.hinted : (double)NAN;
    f.hint_rate = share(p.hinted, p.hinted + p.plain);
    if (!plan->spec.guide.on) f.hinted_groups = f.hint_rate = (double)NAN;
    take_dart(plan, groups, count, &p, &f);
    f.staleness_mean = share(p.ages, p.members);
    f.no_signal_share = share(without, (double)count);
    plan->figures = f;
}
