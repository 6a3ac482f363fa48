#include "env/adventure.h"

#define DRAWS 20000

/* What a level is made of. Growing sizes make the search long; the plan bounds keep levels apart and within the step limit.
 */
static const struct shape {
    uint8_t rooms_min, rooms_max;
    uint8_t width, height;
    uint8_t locks;
    uint8_t distractors;
    uint8_t plan_min, plan_max;
    uint8_t steps;
} shapes[ADVENTURE_LEVELS] = {
    {3, 4, 3, 2, 0, 0, 2, 4, 7},
    {4, 5, 3, 2, 1, 0, 5, 9, 14},
    {6, 8, 3, 3, 1, 2, 8, 14, 24},
    {9, 12, 4, 3, 2, 3, 13, 21, 24},
};

size_t adventure_steps(int32_t level)
{
    return shapes[level - 1].steps;
}

static const int8_t step_x[4] = {0, 1, 0, -1};
static const int8_t step_y[4] = {-1, 0, 1, 0};

/* Rooms in the order they grow; room i > 0 hangs on parent[i] by the parent's exit side[i]. */
static void grow(const struct shape *shape, struct rng *rng, struct adventure_world *world, uint8_t *parent, uint8_t *side)
{
    int8_t cells[4][4]; /* y, x -> room or -1 */
    int8_t xs[ADVENTURE_ROOMS], ys[ADVENTURE_ROOMS];
    memset(cells, -1, sizeof cells);
    uint8_t names[ADVENTURE_NAMES];
    for (uint8_t i = 0; i < ADVENTURE_NAMES; i++) names[i] = i;
    kit_shuffle(rng, names, ADVENTURE_NAMES);

    uint8_t count = (uint8_t)(shape->rooms_min + rng_below(rng, 1u + shape->rooms_max - shape->rooms_min));
    for (uint8_t n = 0; n < count;) {
        int8_t x = (int8_t)rng_below(rng, shape->width), y = (int8_t)rng_below(rng, shape->height);
        uint8_t from = 0, way = 0;
        if (n > 0) {
            from = (uint8_t)rng_below(rng, n);
            way = (uint8_t)rng_below(rng, 4);
            x = (int8_t)(xs[from] + step_x[way]);
            y = (int8_t)(ys[from] + step_y[way]);
            if (x < 0 || y < 0 || x >= shape->width || y >= shape->height || cells[y][x] >= 0) continue;
        }
        struct adventure_room *room = &world->rooms[n];
        *room = (struct adventure_room){.name = names[n], .exit = {-1, -1, -1, -1}};
        cells[y][x] = (int8_t)n;
        xs[n] = x;
        ys[n] = y;
        parent[n] = from;
        side[n] = way;
        if (n > 0) {
            world->rooms[from].exit[way] = (int8_t)n;
            room->exit[(way + 2) % 4] = (int8_t)from;
        }
        n++;
    }
    world->room_count = count;
}

/* Locks and items anywhere: adventure_draw keeps the worlds where that makes sense. */
static void furnish(const struct shape *shape, struct rng *rng, struct adventure_world *world, const uint8_t *parent,
                    const uint8_t *side)
{
    uint8_t count = world->room_count;
    world->here = (uint8_t)rng_below(rng, count);
    for (uint8_t lock = 0; lock < shape->locks; lock++) {
        uint8_t child = (uint8_t)(1 + rng_below(rng, count - 1u));
        uint8_t door = (uint8_t)(ADVENTURE_DOOR_LOCK + lock);
        world->rooms[parent[child]].door[side[child]] = door;
        world->rooms[child].door[(side[child] + 2) % 4] = door;
        world->rooms[rng_below(rng, count)].items |= (uint8_t)(1u << (ADVENTURE_ITEM_KEY + lock));
    }
    world->rooms[rng_below(rng, count)].items |= 1u << ADVENTURE_ITEM_GEM;
    for (uint8_t i = 0; i < shape->distractors; i++)
        world->rooms[rng_below(rng, count)].items |= (uint8_t)(1u << (ADVENTURE_ITEM_LAMP + i));
}

static size_t opens(const struct adventure_plan *plan)
{
    size_t n = 0;
    for (size_t i = 0; i < plan->count; i++) n += plan->actions[i] >= 4 && plan->actions[i] < ADVENTURE_ACTION_TAKE;
    return n;
}

err_t adventure_draw(const struct kit_task *task, struct adventure_world *ret)
{
    const struct shape *shape = &shapes[task->level - 1];
    struct rng rng;
    kit_rng(task, 1, &rng);
    for (int i = 0; i < DRAWS; i++) {
        uint8_t parent[ADVENTURE_ROOMS], side[ADVENTURE_ROOMS];
        struct adventure_plan plan;
        *ret = (struct adventure_world){0};
        grow(shape, &rng, ret, parent, side);
        furnish(shape, &rng, ret, parent, side);
        if (!adventure_solve(ret, &plan)) continue;
        if (opens(&plan) == shape->locks && plan.count >= shape->plan_min && plan.count <= shape->plan_max) return ERR_ok;
    }
    return err_set(ERR_environment, "adventure: no world for this seed");
}

size_t adventure_way(const struct adventure_room *room, size_t door)
{
    for (size_t way = 0; way < 4; way++) {
        if (room->exit[way] >= 0 && room->door[way] == door) return way;
    }
    return 4;
}

bool adventure_do(struct adventure_world *world, size_t action)
{
    struct adventure_room *room = &world->rooms[world->here];
    if (action >= ADVENTURE_ACTION_TAKE) {
        unsigned bit = 1u << (action - ADVENTURE_ACTION_TAKE);
        if (!(room->items & bit)) return false;
        room->items = (uint8_t)(room->items & ~bit);
        world->held = (uint8_t)(world->held | bit);
        return true;
    }
    if (action < 4) {
        if (room->exit[action] < 0 || room->door[action] != ADVENTURE_DOOR_OPEN) return false;
        world->here = (uint8_t)room->exit[action];
        return true;
    }
    size_t door = action - ADVENTURE_ACTION_OPEN, way = adventure_way(room, door);
    if (way == 4 || !(world->held >> (door - ADVENTURE_DOOR_LOCK) & 1)) return false;
    room->door[way] = ADVENTURE_DOOR_OPEN;
    world->rooms[room->exit[way]].door[(way + 2) % 4] = ADVENTURE_DOOR_OPEN;
    return true;
}

/* ---- search: breadth first over (room, key, card held, lock, gate opened) ---- */

#define KEYS   2
#define STATES (ADVENTURE_ROOMS * 16)

struct search {
    int16_t from[STATES]; /* -1: not seen */
    uint8_t by[STATES];   /* the action that led here */
    uint8_t queue[STATES];
    size_t head, tail;
};

/* The state after an action, -1 when it is not possible or of no use. */
static int next_state(const struct adventure_world *world, unsigned state, unsigned action)
{
    unsigned here = state / 16, held = state & 3, opened = state >> 2 & 3;
    const struct adventure_room *room = &world->rooms[here];
    if (action >= ADVENTURE_ACTION_TAKE) {
        unsigned item = action - ADVENTURE_ACTION_TAKE;
        if (item >= KEYS || (held >> item & 1) || !(room->items >> item & 1)) return -1;
        return (int)(state | 1u << item);
    }
    if (action < 4) {
        if (room->exit[action] < 0) return -1;
        unsigned door = room->door[action];
        bool shut = door != ADVENTURE_DOOR_OPEN && !(opened >> (door - 1) & 1);
        return shut ? -1 : (int)((unsigned)room->exit[action] * 16 + (state & 15));
    }
    unsigned key = action - ADVENTURE_ACTION_OPEN - ADVENTURE_DOOR_LOCK;
    if ((opened >> key & 1) || !(held >> key & 1) || adventure_way(room, key + ADVENTURE_DOOR_LOCK) == 4) return -1;
    return (int)(state | 4u << key);
}

static void unroll(const struct search *search, unsigned state, struct adventure_plan *ret)
{
    for (int s = (int)state; search->from[s] != s; s = search->from[s]) ret->count++;
    size_t i = ret->count;
    for (int s = (int)state; search->from[s] != s; s = search->from[s]) {
        i--;
        if (i < ADVENTURE_PLAN) ret->actions[i] = search->by[s];
    }
}

bool adventure_solve(const struct adventure_world *world, struct adventure_plan *ret)
{
    struct search search;
    memset(search.from, -1, sizeof search.from);
    search.head = search.tail = 0;
    *ret = (struct adventure_plan){0};
    unsigned start = world->here * 16u + (world->held & 3u);
    search.from[start] = (int16_t)start;
    search.queue[search.tail++] = (uint8_t)start;
    while (search.head < search.tail) {
        unsigned state = search.queue[search.head++];
        if (world->rooms[state / 16].items >> ADVENTURE_ITEM_GEM & 1) {
            unroll(&search, state, ret);
            if (ret->count >= ADVENTURE_PLAN) return false;
            ret->actions[ret->count++] = ADVENTURE_ACTION_TAKE + ADVENTURE_ITEM_GEM;
            return true;
        }
        for (unsigned action = 0; action < ADVENTURE_ACTION_TAKE + KEYS; action++) {
            int next = next_state(world, state, action);
            if (next < 0 || search.from[next] >= 0) continue;
            search.from[next] = (int16_t)state;
            search.by[next] = (uint8_t)action;
            search.queue[search.tail++] = (uint8_t)next;
        }
    }
    return false;
}
