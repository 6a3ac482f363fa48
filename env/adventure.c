/* adventure: find the gem in a house of rooms. An observation is `hall key, north lock east`: the room, what lies here,
 * the exits, and last those behind a `lock` or `gate`. Actions: go DIRECTION, take ITEM, open lock, open gate. The light
 * lasts a number of actions by level; then it is `dark` and over. */
#include "env/adventure.h"
#include "env/builtin.h"

#define MAGIC 0x41445645u

struct adventure {
    uint32_t magic;
    bool over;
    uint8_t light; /* actions left */
    struct adventure_world world;
    struct adventure_world start; /* for the digest */
};

static const char *const names[ADVENTURE_NAMES] = {"hall",  "attic", "cellar", "kitchen", "garden", "library",
                                                   "study", "porch", "tower",  "vault",   "chapel", "pantry",
                                                   "cabin", "loft",  "stable", "garage"};
static const char *const items[ADVENTURE_ITEM_COUNT] = {"key", "card", "gem", "lamp", "coin", "rope"};
static const char *const ways[4] = {"north", "east", "south", "west"};
static const char *const doors[] = {"", "lock", "gate"};

static const char *const words[] = {"hall",  "attic", "cellar", "kitchen", "garden", "library", "study",  "porch",
                                    "tower", "vault", "chapel", "pantry",  "cabin",  "loft",    "stable", "garage",
                                    "key",   "card",  "gem",    "lamp",    "coin",   "rope",    "north",  "east",
                                    "south", "west",  "lock",   "gate",    "go",     "take",    "open",   "find",
                                    "no",    "ok",    "done",   "dark",    NULL};

static const struct kit_rules rules = {"adventure", ADVENTURE_LEVELS, ADVENTURE_LEVELS, NULL};

static const struct adventure *of(const void *state)
{
    const struct adventure *self = state;
    BUG_IF(self->magic != MAGIC);
    return self;
}

static void action_text(size_t action, char *text, size_t size)
{
    if (action < 4)
        kit_text(text, size, "go %s", ways[action]);
    else if (action < ADVENTURE_ACTION_TAKE)
        kit_text(text, size, "open %s", doors[action - ADVENTURE_ACTION_OPEN]);
    else
        kit_text(text, size, "take %s", items[action - ADVENTURE_ACTION_TAKE]);
}

/* The number of an action, ADVENTURE_ACTIONS when it is none. */
static size_t action_read(struct span text)
{
    struct span verb = kit_word(&text);
    for (size_t i = 0; i < 4; i++) {
        if (span_is(verb, "go") && span_is(text, ways[i])) return i;
    }
    for (size_t door = ADVENTURE_DOOR_LOCK; door <= ADVENTURE_DOOR_GATE; door++) {
        if (span_is(verb, "open") && span_is(text, doors[door])) return ADVENTURE_ACTION_OPEN + door;
    }
    for (size_t i = 0; i < ADVENTURE_ITEM_COUNT; i++) {
        if (span_is(verb, "take") && span_is(text, items[i])) return ADVENTURE_ACTION_TAKE + i;
    }
    return ADVENTURE_ACTIONS;
}

static void view(const struct adventure_world *world, char *text, size_t size)
{
    const struct adventure_room *room = &world->rooms[world->here];
    kit_text(text, size, "%s", names[room->name]);
    for (size_t i = 0; i < ADVENTURE_ITEM_COUNT; i++) {
        if (room->items >> i & 1) kit_text(text, size, " %s", items[i]);
    }
    kit_text(text, size, ",");
    for (uint8_t door = ADVENTURE_DOOR_OPEN; door <= ADVENTURE_DOOR_GATE; door++) {
        for (size_t i = 0; i < 4; i++) {
            if (room->exit[i] >= 0 && room->door[i] == door)
                kit_text(text, size, "%s%s %s", door ? " " : "", doors[door], ways[i]);
        }
    }
}

static err_t generate(int32_t level, uint64_t seed, const char *variant, struct env_task *ret)
{
    return kit_generate(&rules, level, seed, variant, ret);
}

static err_t mutate(const struct env_task *task, enum env_mutation kind, uint64_t seed, struct env_task *ret)
{
    return kit_mutate(&rules, task, kind, seed, ret);
}

static err_t reset(void *state, struct span task_text, uint64_t episode_seed, struct env_obs *ret)
{
    (void)episode_seed;
    struct kit_task task;
    TRY(kit_parse(&rules, task_text, &task));
    struct adventure *self = state;
    *self = (struct adventure){.magic = MAGIC};
    TRY(adventure_draw(&task, &self->world));
    self->start = self->world;
    self->light = (uint8_t)adventure_steps(task.level);
    kit_answer(ret, "find gem\n");
    view(&self->world, ret->text, sizeof ret->text);
    return ERR_ok;
}

static err_t step(void *state, struct span action, struct env_obs *ret)
{
    struct adventure *self = state;
    BUG_IF(self->magic != MAGIC);
    if (self->over) return err_set(ERR_conflict, "adventure: the episode is over");
    size_t number = action_read(kit_trim(action));
    if (number == ADVENTURE_ACTIONS || !adventure_do(&self->world, number)) {
        kit_answer(ret, "no");
    } else if (number == ADVENTURE_ACTION_TAKE + ADVENTURE_ITEM_GEM) {
        self->over = true;
        kit_end(ret, "done", 1);
    } else if (number < 4) {
        kit_answer(ret, "");
        view(&self->world, ret->text, sizeof ret->text);
    } else {
        kit_answer(ret, "ok");
    }
    self->light--;
    if (self->light == 0 && !self->over) {
        self->over = true;
        kit_end(ret, "dark", 0);
    }
    return ERR_ok;
}

static void expert(const void *state, double noise, struct rng *rng, char *action)
{
    const struct adventure *self = of(state);
    action[0] = '\0';
    size_t number = 0;
    struct adventure_plan plan;
    if (rng_unit(rng) < noise || !adventure_solve(&self->world, &plan)) {
        const struct adventure_room *room = &self->world.rooms[self->world.here];
        size_t legal[ADVENTURE_ACTIONS], count = 0;
        for (size_t i = 0; i < 4; i++) {
            if (room->exit[i] < 0) continue;
            if (room->door[i] == ADVENTURE_DOOR_OPEN)
                legal[count++] = i;
            else if (self->world.held >> (room->door[i] - ADVENTURE_DOOR_LOCK) & 1)
                legal[count++] = ADVENTURE_ACTION_OPEN + room->door[i];
        }
        for (size_t i = 0; i < ADVENTURE_ITEM_COUNT; i++) {
            if (room->items >> i & 1) legal[count++] = ADVENTURE_ACTION_TAKE + i;
        }
        if (count > 0) number = legal[rng_below(rng, (uint32_t)count)];
    } else {
        number = plan.actions[0];
    }
    action_text(number, action, ENV_ACTION_BYTES);
}

/* The whole shortest plan: rooms alone would leave the agent to find its way. */
static void hint(const void *state, char *text)
{
    const struct adventure *self = of(state);
    struct adventure_plan plan;
    text[0] = '\0';
    if (self->over || !adventure_solve(&self->world, &plan)) return;
    for (size_t i = 0; i < plan.count; i++) {
        if (i) kit_text(text, ENV_HINT_BYTES, ", ");
        action_text(plan.actions[i], text, ENV_HINT_BYTES);
    }
}

/* Room names are unique in a world, so listing the rooms by name makes the text canonical. */
static err_t digest(const void *state, struct digest *ret)
{
    const struct adventure_world *world = &of(state)->start;
    char text[1024] = "adventure";
    kit_text(text, sizeof text, " %s", names[world->rooms[world->here].name]);
    for (uint8_t name = 0; name < ADVENTURE_NAMES; name++) {
        for (size_t i = 0; i < world->room_count; i++) {
            const struct adventure_room *room = &world->rooms[i];
            if (room->name != name) continue;
            kit_text(text, sizeof text, "\n%s %u", names[name], room->items);
            for (size_t way = 0; way < 4; way++) {
                int to = room->exit[way];
                kit_text(text, sizeof text, " %s/%u", to < 0 ? "-" : names[world->rooms[to].name], room->door[way]);
            }
        }
    }
    return digest_bytes(span_text(text), ret);
}

const struct env_class env_adventure = {
    .name = "adventure",
    .doc = "a text game: rooms, locked doors, keys, and a gem to find",
    .levels = ADVENTURE_LEVELS,
    .max_steps = 24,
    .state_bytes = sizeof(struct adventure),
    .words = words,
    .generate = generate,
    .mutate = mutate,
    .reset = reset,
    .step = step,
    .expert = expert,
    .hint = hint,
    .digest = digest,
};
