/* DART (docs/methods.md): how many episodes a group gets and how long they may be, fixed when it is planned; which of its
 * turns are trained on, when it closes. */
#include "curation/dart.h"
#include "services/data/data.h"

#include <stdlib.h>

size_t dart_size(struct data *data, size_t task)
{
    const struct job_spec *spec = &data->plan->spec;
    struct record *record = &data->plan->tasks[task].record;
    size_t most = (size_t)spec->rollout.group_size, known = 0;
    if (!spec->dart.on || !spec->dart.count) return most;
    double success = record_success(record, (size_t)record->assigned, &known);
    return dart_count(success, most, (size_t)spec->dart.count_min, spec->dart.count_threshold);
}

static err_t decide_count(struct data *data, const struct group *group)
{
    const struct record *record = &data->plan->tasks[group->task].record;
    size_t known = 0;
    double success = record_success(record, (size_t)record->assigned, &known);
    const struct method_number inputs[] = {{"task", (double)data->plan->tasks[group->task].id},
                                           {"s", success},
                                           {"m", (double)record->assigned},
                                           {"known", (double)known},
                                           {"n", (double)group->size}};
    return finish_decide(data, "group", group->id, "count",
                         group->size < (size_t)data->plan->spec.rollout.group_size ? "fewer" : "all",
                         method_json(&data->arena, inputs, sizeof inputs / sizeof *inputs));
}

/* The step limit of the task's next group; the longest success it comes from, and of how many. */
static err_t cap(struct data *data, struct group *group, int64_t *ret_longest, size_t *ret_known)
{
    const struct job_dart *dart = &data->plan->spec.dart;
    const struct outcome_rows *wins = &data->plan->tasks[group->task].record.wins;
    size_t n = wins->count < (size_t)dart->cap_window ? wins->count : (size_t)dart->cap_window;
    int64_t *steps = arena_array(&data->arena, int64_t, n + 1);
    if (!steps) return ERR_memory;
    *ret_longest = 0;
    *ret_known = n;
    for (size_t i = 0; i < n; i++) {
        steps[i] = wins->rows[wins->count - n + i].steps;
        if (steps[i] > *ret_longest) *ret_longest = steps[i];
    }
    group->max_steps = dart_cap(steps, n, dart->cap_slack, dart->cap_plus, group->max_steps);
    return ERR_ok;
}

static err_t decide_cap(struct data *data, struct group *group)
{
    int64_t before = group->max_steps, longest = 0;
    size_t known = 0;
    TRY(cap(data, group, &longest, &known));
    if (group->max_steps == before) return ERR_ok; /* the environment's own limit */
    const struct method_number inputs[] = {{"task", (double)data->plan->tasks[group->task].id},
                                           {"longest", (double)longest},
                                           {"successes", (double)known},
                                           {"max_steps", (double)before},
                                           {"cap", (double)group->max_steps}};
    return finish_decide(data, "group", group->id, "cap", "capped",
                         method_json(&data->arena, inputs, sizeof inputs / sizeof *inputs));
}

err_t dart_planned(struct data *data, struct group *group)
{
    const struct job_dart *dart = &data->plan->spec.dart;
    if (!dart->on) return ERR_ok;
    if (dart->count) TRY(decide_count(data, group));
    if (dart->cap) TRY(decide_cap(data, group));
    data->plan->tasks[group->task].record.assigned = (int64_t)group->size;
    return ERR_ok;
}

/* ---- high-entropy turns ---- */

bool dart_selects(const struct plan *plan)
{
    return plan->spec.dart.on && plan->spec.dart.keep < 1;
}

err_t dart_keep_turns(struct slot *slot, const struct wire_episode_done *done)
{
    size_t n = done->turn_entropy.n;
    if (n == 0 || done->turn_tokens.n != n) return ERR_ok; /* not told: none can be chosen */
    slot->turn = calloc(n, sizeof *slot->turn);
    if (!slot->turn) return err_set(ERR_memory, "%zu turns", n);
    slot->turn_count = n;
    for (size_t i = 0; i < n; i++)
        slot->turn[i] = (struct slot_turn){(double)done->turn_entropy.v[i], (int64_t)done->turn_tokens.v[i], false};
    return ERR_ok;
}

/* Marks what lies below the quantile; how many turns there are, how many are dropped. */
static void mark(struct slot *const *members, size_t n, double least, size_t *ret_turns, size_t *ret_dropped)
{
    *ret_turns = *ret_dropped = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t t = 0; t < members[i]->turn_count; t++) {
            struct slot_turn *turn = &members[i]->turn[t];
            if (turn->tokens == 0) continue;
            turn->dropped = turn->entropy < least;
            *ret_turns += 1;
            *ret_dropped += turn->dropped;
        }
    }
}

err_t dart_select(struct data *data, struct group *group, struct slot *const *members, size_t n, bool decide)
{
    if (!dart_selects(data->plan)) return ERR_ok;
    size_t most = 0, count = 0, turns = 0, dropped = 0;
    for (size_t i = 0; i < n; i++) most += members[i]->turn_count;
    double *entropy = arena_array(&data->arena, double, most + 1);
    if (!entropy) return ERR_memory;
    for (size_t i = 0; i < n; i++) {
        for (size_t t = 0; t < members[i]->turn_count; t++) {
            if (members[i]->turn[t].tokens > 0) entropy[count++] = members[i]->turn[t].entropy;
        }
    }
    double least = dart_floor(entropy, count, data->plan->spec.dart.keep);
    mark(members, n, least, &turns, &dropped);
    if (!decide || turns == 0) return ERR_ok;
    const struct method_number inputs[] = {
        {"keep", data->plan->spec.dart.keep}, {"least", least}, {"turns", (double)turns}, {"dropped", (double)dropped}};
    return finish_decide(data, "group", group->id, "entropy", dropped ? "dropped" : "kept",
                         method_json(&data->arena, inputs, sizeof inputs / sizeof *inputs));
}
