#include "services/data/record.h"

#include "services/common/store/store_record.h"
#include "services/data/data.h"

#include <stdlib.h>

#define IMPORTS_MOST 1024 /* of one task */
#define SUCCESS      0.5

void record_free(struct record *record)
{
    free(record->outcomes.rows);
    free(record->wins.rows);
    free(record->imports.rows);
    *record = (struct record){0};
}

err_t record_add(struct outcome_rows *rows, size_t most, const struct outcome_row *row)
{
    if (most == 0) return ERR_ok;
    bool full = rows->count == most;
    if (full && rows->rows[0].episode > row->episode) return ERR_ok; /* older than all that are kept */
    if (!full && rows->count == rows->room) {
        size_t room = rows->room ? 2 * rows->room : 8;
        struct outcome_row *more = realloc(rows->rows, room * sizeof *more);
        if (!more) return err_set(ERR_memory, "%zu outcomes of a task", room);
        rows->rows = more;
        rows->room = room;
    }
    if (full) memmove(rows->rows, rows->rows + 1, (rows->count - 1) * sizeof *rows->rows);
    size_t at = rows->count - full;
    while (at > 0 && rows->rows[at - 1].episode > row->episode) {
        rows->rows[at] = rows->rows[at - 1];
        at--;
    }
    rows->rows[at] = *row;
    rows->count += !full;
    return ERR_ok;
}

double record_success(const struct record *record, size_t m, size_t *ret_count)
{
    const struct outcome_rows *rows = &record->outcomes;
    size_t n = m < rows->count ? m : rows->count;
    double sum = 0;
    for (size_t i = rows->count - n; i < rows->count; i++) sum += rows->rows[i].reward;
    *ret_count = n;
    return n ? sum / (double)n : 0;
}

/* How many outcomes, and how many successes, the job's methods look at. */
static size_t outcomes_most(const struct job_spec *spec)
{
    size_t most = spec->dart.on && spec->dart.count ? (size_t)spec->rollout.group_size : 0;
    bool rated = spec->curriculum.kind == JOB_CURRICULUM_SUCCESS_BAND || spec->curriculum.kind == JOB_CURRICULUM_ADCL;
    return rated && (size_t)spec->curriculum.window > most ? (size_t)spec->curriculum.window : most;
}

static size_t wins_most(const struct job_spec *spec)
{
    size_t most = spec->dart.on && spec->dart.pool != JOB_POOL_OFF ? RECORD_WINS : 0;
    bool capped = spec->dart.on && spec->dart.cap;
    return capped && (size_t)spec->dart.cap_window > most ? (size_t)spec->dart.cap_window : most;
}

static err_t add(struct plan *plan, size_t task, const struct outcome_row *row)
{
    struct record *record = &plan->tasks[task].record;
    TRY(record_add(&record->outcomes, outcomes_most(&plan->spec), row));
    return row->reward >= SUCCESS ? record_add(&record->wins, wins_most(&plan->spec), row) : ERR_ok;
}

err_t record_group(struct plan *plan, const struct group *group)
{
    if (group->source != GROUP_FRESH) return ERR_ok;
    for (size_t i = 0; i < group->size; i++) {
        const struct slot *slot = &group->slots[i];
        if (slot->state != SLOT_DONE || slot->hinted) continue;
        const struct outcome_row row = {slot->episode, slot->reward, slot->steps, group->update_for, 0};
        TRY(add(plan, group->task, &row));
    }
    return ERR_ok;
}

err_t record_import(struct plan *plan, const struct group *group)
{
    const struct slot *slot = &group->slots[0];
    const struct outcome_row row = {slot->episode, slot->reward, slot->steps, 0, 0};
    return record_add(&plan->tasks[group->task].record.imports, IMPORTS_MOST, &row);
}

/* ---- from the ledger ---- */

static void load_drawn(struct outcome_rows *rows, const struct store_drawn *drawn)
{
    for (size_t i = 0; i < rows->count; i++) {
        if (rows->rows[i].episode == drawn->episode) rows->rows[i].drawn = drawn->times;
    }
}

static err_t load_rows(struct data *data, enum store_record_kind kind, size_t most)
{
    struct plan *plan = data->plan;
    struct store_record *rows = NULL;
    size_t count = 0;
    if (most == 0) return ERR_ok;
    TRY(store_record_list(data->store, plan->job, kind, (int64_t)most, &data->arena, &rows, &count));
    for (size_t i = 0; i < count; i++) {
        if ((size_t)rows[i].task >= plan->task_count) continue;
        struct record *record = &plan->tasks[rows[i].task].record;
        struct outcome_rows *const to = kind == STORE_RECORD_OUTCOMES ? &record->outcomes
                                        : kind == STORE_RECORD_WINS   ? &record->wins
                                                                      : &record->imports;
        const struct outcome_row row = {rows[i].episode, rows[i].reward, rows[i].steps, rows[i].update, 0};
        TRY(record_add(to, most, &row));
    }
    return ERR_ok;
}

static err_t load_pool(struct data *data)
{
    struct plan *plan = data->plan;
    struct store_drawn *drawn = NULL;
    size_t count = 0;
    TRY(load_rows(data, STORE_RECORD_IMPORTS, IMPORTS_MOST));
    TRY(store_record_drawn(data->store, plan->job, &data->arena, &drawn, &count));
    for (size_t i = 0; i < count; i++) {
        if ((size_t)drawn[i].task >= plan->task_count) continue;
        load_drawn(&plan->tasks[drawn[i].task].record.wins, &drawn[i]);
        load_drawn(&plan->tasks[drawn[i].task].record.imports, &drawn[i]);
    }
    return ERR_ok;
}

static err_t load_assigned(struct data *data)
{
    struct plan *plan = data->plan;
    struct store_assigned *rows = NULL;
    size_t count = 0;
    TRY(store_record_assigned(data->store, plan->job, &data->arena, &rows, &count));
    for (size_t i = 0; i < count; i++) {
        if ((size_t)rows[i].task < plan->task_count) plan->tasks[rows[i].task].record.assigned = rows[i].size;
    }
    return ERR_ok;
}

err_t record_load(struct data *data)
{
    const struct job_spec *spec = &data->plan->spec;
    TRY(load_rows(data, STORE_RECORD_OUTCOMES, outcomes_most(spec)));
    TRY(load_rows(data, STORE_RECORD_WINS, wins_most(spec)));
    if (!spec->dart.on) return ERR_ok;
    if (spec->dart.pool != JOB_POOL_OFF) TRY(load_pool(data));
    return spec->dart.count ? load_assigned(data) : ERR_ok;
}
