/* The experience pool of DART: a success of the task saves a group that failed as a whole (docs/methods.md). */
#include "curation/advantage.h"
#include "curation/dart.h"
#include "services/data/data.h"

/* All its members failed, as the authors have it: a mean of 0. */
static bool failed(struct slot *const *members, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (members[i]->reward > ADVANTAGE_EQUAL) return false;
    }
    return n > 0;
}

/* Successes that may be drawn for a group of this update, by episode: imported ones first. Own ones must have been consumed
 * by then, so that the passes they take come after those of their own group. */
static size_t list_successes(const struct plan *plan, const struct group *group, struct outcome_row **ret)
{
    struct record *record = &plan->tasks[group->task].record;
    struct outcome_rows *const both[] = {&record->imports, &record->wins};
    size_t n = 0;
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 0; i < both[k]->count; i++) {
            struct outcome_row *row = &both[k]->rows[i];
            if (row->drawn < plan->spec.dart.pool_cap && row->update <= group->update_for) ret[n++] = row;
        }
    }
    return n;
}

/* The newest of all, whichever list it is in. */
static size_t newest(struct outcome_row *const *rows, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++) {
        if (rows[i]->episode > rows[best]->episode) best = i;
    }
    return best;
}

/* The oldest member: of the oldest weights, then the first. */
static struct slot *oldest(struct slot *const *members, size_t n)
{
    struct slot *best = members[0];
    for (size_t i = 1; i < n; i++) {
        if (members[i]->version_min < best->version_min) best = members[i];
    }
    return best;
}

static err_t decide(struct data *data, const struct group *group, const struct outcome_row *row, size_t of,
                    const struct slot *left_out)
{
    const struct method_number inputs[] = {{"task", (double)data->plan->tasks[group->task].id},
                                           {"update", (double)group->update_for},
                                           {"episode", (double)row->episode},
                                           {"drawn", (double)row->drawn},
                                           {"of", (double)of},
                                           {"left_out", left_out ? (double)left_out->episode : -1}};
    return finish_decide(data, "group", group->id, "pool", left_out ? "replaced" : "added",
                         method_json(&data->arena, inputs, sizeof inputs / sizeof *inputs));
}

err_t pool_save(struct data *data, struct group *group)
{
    struct plan *plan = data->plan;
    const struct job_dart *dart = &plan->spec.dart;
    if (!dart->on || dart->pool == JOB_POOL_OFF) return ERR_ok;
    const struct record *record = &plan->tasks[group->task].record;
    size_t most = record->imports.count + record->wins.count, n = 0;
    if (most == 0) return ERR_ok;
    struct slot **members = NULL;
    struct outcome_row **rows = arena_array(&data->arena, struct outcome_row *, most);
    if (!rows) return ERR_memory;
    TRY(judge_list(data, group, &members, &n));
    if (!failed(members, n)) return ERR_ok;
    size_t of = list_successes(plan, group, rows);
    if (of == 0) return ERR_ok;
    bool is_newest = dart->pool_pick == JOB_POOL_PICK_NEWEST;
    struct outcome_row *row = rows[is_newest ? newest(rows, of) : dart_pick(of, (uint64_t)plan->spec.seed, group->id)];
    struct slot *left_out = dart->pool == JOB_POOL_REPLACE ? oldest(members, n) : NULL;
    if (left_out) left_out->member = false;
    row->drawn++;
    group->pool = row->episode;
    group->pool_reward = row->reward;
    group->pool_steps = row->steps;
    return decide(data, group, row, of, left_out);
}
