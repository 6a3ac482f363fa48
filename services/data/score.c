/* Scores: a worker measures a task's start, or a stored episode, under one pinned version (docs/methods.md). A score is a
 * group of one episode of source `score`, granted after evaluations; it is retried like any other, and void it says nothing.
 */
#include "services/data/data.h"

#include <math.h>

err_t score_plan(struct data *data, size_t task, int64_t of_episode, int64_t version, int64_t phase)
{
    struct group *group = NULL;
    TRY(plan_add_group(data->plan, &group, GROUP_SCORE, task, 1));
    group->pin_version = version;
    group->of_episode = of_episode;
    group->phase = phase;
    return grant_note(data, group);
}

err_t score_lease(struct data *data, const struct group *group, struct wire_lease *lease)
{
    lease->score = span_text(group->of_episode < 0 ? "prompt" : "replay");
    if (group->of_episode < 0) return ERR_ok;
    struct store_payload payload;
    TRY(store_payload_read(data->store, data->plan->job, &group->of_episode, 1, &data->arena, &payload));
    lease->payload = payload.bytes;
    lease->payload_raw = (uint64_t)payload.raw_size;
    return ERR_ok;
}

static double measured(const struct wire_episode_done *done, const char *name)
{
    for (size_t i = 0; i < done->scores_count; i++) {
        if (span_is(done->scores[i].name, name)) return done->scores[i].value;
    }
    return (double)NAN;
}

/* Each name that may come, once, with the bounds of what it may be. */
static const struct {
    const char *name;
    bool replay, needed;
    double least, most;
} names[] = {
    {"c_intra", false, true, -1.001, 1.001}, {"c_inter", false, true, -1.001, 1.001},  {"tokens", false, true, 0, 1e9},
    {"value", false, false, -1e9, 1e9},      {"perplexity", true, true, 0.999, 1e300},
};

err_t score_end(struct data *data, struct group *group, const struct wire_episode_done *done, const char **ret_json)
{
    bool replay = group->of_episode >= 0;
    struct method_number numbers[sizeof names / sizeof *names];
    size_t n = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (names[i].replay != replay) continue;
        double value = measured(done, names[i].name);
        if (isnan(value) && !names[i].needed) continue;
        if (!(value >= names[i].least && value <= names[i].most))
            return err_set(ERR_malformed, "a score without a %s from %g to %g", names[i].name, names[i].least, names[i].most);
        numbers[n++] = (struct method_number){names[i].name, value};
    }
    *ret_json = method_json(&data->arena, numbers, n);
    group->perplexity = measured(done, "perplexity");
    if (!*ret_json || replay) return *ret_json ? ERR_ok : ERR_memory;
    struct plan_task *task = &data->plan->tasks[group->task];
    task->score = (struct store_score){.task = task->id,
                                       .version = group->pin_version,
                                       .c_intra = measured(done, "c_intra"),
                                       .c_inter = measured(done, "c_inter"),
                                       .tokens = measured(done, "tokens"),
                                       .value = measured(done, "value")};
    bool good = true;
    WRITES_ADD(data->writes.scores, task->score, good);
    return good ? ERR_ok : ERR_memory;
}

err_t score_judged(struct data *data, const struct wire_episode_done *done, const char **ret_json)
{
    const struct method_number score = {"score", measured(done, "score")};
    *ret_json = method_json(&data->arena, &score, 1);
    return *ret_json ? ERR_ok : ERR_memory;
}

err_t score_close(struct data *data, struct group *group, bool voided)
{
    size_t task = group->task;
    bool of_task = group->of_episode < 0;
    if (!voided) TRY(judge_close(data, group, "closed", "measured"));
    if (!of_task) TRY(replay_measured(data, group, voided ? (double)NAN : group->perplexity));
    plan_remove_group(data->plan, group);
    if (!of_task) return ERR_ok;
    return data->plan->tasks[task].candidate ? candidate_scored(data, task, voided) : gain_scored(data);
}

void score_drop(struct plan *plan)
{
    for (struct group *g = plan->groups, *next; g; g = next) {
        next = g->next;
        if (g->source == GROUP_SCORE) plan_remove_group(plan, g);
    }
}
