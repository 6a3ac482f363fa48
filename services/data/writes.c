#include "services/data/writes.h"

#include "services/data/plan.h"

#include <stdlib.h>

bool writes_room(void **rows, size_t *room, size_t count, size_t size)
{
    if (count < *room) return true;
    size_t more = *room ? *room * 2 : 64;
    void *grown = realloc(*rows, more * size);
    if (!grown) {
        (void)err_set(ERR_memory, "%zu rows", more);
        return false;
    }
    *rows = grown;
    *room = more;
    return true;
}

void writes_fini(struct writes *writes)
{
    free(writes->groups.rows);
    free(writes->leases.rows);
    free(writes->new_groups.rows);
    free(writes->ends.rows);
    free(writes->closes.rows);
    free(writes->scores.rows);
    free(writes->decisions.rows);
    *writes = (struct writes){0};
}

void writes_clear(struct writes *writes)
{
    writes->groups.count = writes->leases.count = writes->new_groups.count = 0;
    writes->ends.count = writes->closes.count = writes->scores.count = writes->decisions.count = 0;
}

bool writes_any(const struct writes *writes)
{
    return writes->groups.count || writes->leases.count || writes->new_groups.count || writes->ends.count ||
           writes->closes.count || writes->scores.count || writes->decisions.count;
}

static struct store_episode row_of(const struct plan *plan, const struct slot *slot)
{
    return (struct store_episode){.id = slot->episode,
                                  .group = slot->group->id,
                                  .slot = slot->index,
                                  .leased = slot->state == SLOT_LEASED,
                                  .attempt = slot->attempt,
                                  .token = slot->token,
                                  .worker = slot->worker,
                                  .seed = plan_seed(plan, slot->episode, slot->attempt),
                                  .max_steps = slot->group->max_steps,
                                  .hinted = slot->hinted,
                                  .script = slot->group->script};
}

/* Slots of new groups, leased or not, and leases of slots that were written before. */
static err_t flush_slots(struct writes *writes, struct store *store, const struct plan *plan, struct arena *arena)
{
    size_t count = 0, n = 0;
    for (size_t g = 0; g < writes->new_groups.count; g++) count += writes->new_groups.rows[g]->size;
    struct store_episode *rows = arena_array(arena, struct store_episode, count + writes->leases.count + 1);
    if (!rows) return ERR_memory;
    for (size_t g = 0; g < writes->new_groups.count; g++) {
        struct group *group = writes->new_groups.rows[g];
        for (size_t i = 0; i < group->size; i++) {
            rows[n++] = row_of(plan, &group->slots[i]);
            group->slots[i].written = true;
        }
    }
    if (n) TRY(store_episode_insert(store, plan->job, rows, n));
    size_t leased = 0;
    for (size_t i = 0; i < writes->leases.count; i++) rows[n + leased++] = row_of(plan, writes->leases.rows[i]);
    return leased ? store_episode_lease(store, plan->job, rows + n, leased) : ERR_ok;
}

err_t writes_flush(struct writes *writes, struct store *store, const struct plan *plan, struct arena *arena)
{
    if (writes->ends.count) TRY(store_episode_end(store, plan->job, writes->ends.rows, writes->ends.count));
    if (writes->groups.count) TRY(store_group_insert(store, plan->job, writes->groups.rows, writes->groups.count));
    if (writes->new_groups.count || writes->leases.count) {
        TRY(flush_slots(writes, store, plan, arena));
    }
    if (writes->closes.count) TRY(store_group_close(store, plan->job, writes->closes.rows, writes->closes.count));
    if (writes->scores.count)
        TRY(store_score_insert(store, plan->job, plan->lineage, writes->scores.rows, writes->scores.count));
    if (writes->decisions.count)
        TRY(store_decision_insert(store, plan->job, writes->decisions.rows, writes->decisions.count));
    return ERR_ok;
}
