/* lake: cross the ice to the flag without falling into a hole, seeing only the four cells around:
 * `north ice east hole south wall west ice, flag south east`. Actions: go DIRECTION. Moves are certain. */
#include "env/builtin.h"
#include "env/kit.h"

#define MAGIC  0x4c414b45u
#define LEVELS 3
#define SIDE   6
#define CELLS  (SIDE * SIDE)
#define DRAWS  20000

static const struct shape {
    uint8_t side, holes;
    uint8_t path_min, path_max;
} shapes[LEVELS] = {{4, 2, 2, 5}, {5, 5, 4, 8}, {6, 9, 5, 12}};

struct lake {
    uint32_t magic;
    bool over;
    uint8_t side;
    uint8_t start, here, flag; /* y * side + x */
    bool hole[CELLS];
};

static const char *const ways[4] = {"north", "east", "south", "west"};
static const char *const words[] = {"north", "east", "south", "west", "ice",    "hole", "wall",
                                    "flag",  "go",   "no",    "done", "splash", NULL};
static const struct kit_rules rules = {"lake", LEVELS, LEVELS, NULL};

static const struct lake *of(const void *state)
{
    const struct lake *self = state;
    BUG_IF(self->magic != MAGIC);
    return self;
}

/* The cell one step away, -1 outside. */
static int beside(const struct lake *self, int cell, size_t way)
{
    int x = cell % self->side, y = cell / self->side;
    x += way == 1 ? 1 : way == 3 ? -1 : 0;
    y += way == 2 ? 1 : way == 0 ? -1 : 0;
    return x < 0 || y < 0 || x >= self->side || y >= self->side ? -1 : y * self->side + x;
}

/* Steps from every cell to the flag over ice, 255 where there is no way. */
static void distances(const struct lake *self, uint8_t *ret)
{
    uint8_t queue[CELLS];
    size_t head = 0, tail = 0;
    memset(ret, 255, CELLS);
    ret[self->flag] = 0;
    queue[tail++] = self->flag;
    while (head < tail) {
        uint8_t cell = queue[head++];
        for (size_t way = 0; way < 4; way++) {
            int to = beside(self, cell, way);
            if (to < 0 || self->hole[to] || ret[to] != 255) continue;
            ret[to] = (uint8_t)(ret[cell] + 1);
            queue[tail++] = (uint8_t)to;
        }
    }
}

/* The way that is nearest to the flag, the first of equals in the order of `ways`; 4 when there is none. */
static size_t best_way(const struct lake *self, const uint8_t *distance, int from)
{
    size_t best = 4;
    unsigned least = 255;
    for (size_t way = 0; way < 4; way++) {
        int to = beside(self, from, way);
        if (to >= 0 && distance[to] < least) {
            least = distance[to];
            best = way;
        }
    }
    return best;
}

static err_t draw(const struct kit_task *task, struct lake *ret)
{
    const struct shape *shape = &shapes[task->level - 1];
    struct rng rng;
    kit_rng(task, 3, &rng);
    for (int i = 0; i < DRAWS; i++) {
        uint8_t cells[CELLS], distance[CELLS];
        uint8_t count = (uint8_t)(shape->side * shape->side);
        *ret = (struct lake){.magic = MAGIC, .side = shape->side};
        for (uint8_t c = 0; c < count; c++) cells[c] = c;
        kit_shuffle(&rng, cells, count);
        ret->start = ret->here = cells[0];
        ret->flag = cells[1];
        for (size_t h = 0; h < shape->holes; h++) ret->hole[cells[2 + h]] = true;
        distances(ret, distance);
        if (distance[ret->start] >= shape->path_min && distance[ret->start] <= shape->path_max) return ERR_ok;
    }
    return err_set(ERR_environment, "lake: no lake for this seed");
}

static void view(const struct lake *self, struct env_obs *ret)
{
    int side = self->side;
    int dx = self->flag % side - self->here % side, dy = self->flag / side - self->here / side;
    kit_answer(ret, "");
    for (size_t way = 0; way < 4; way++) {
        int to = beside(self, self->here, way);
        const char *what = to < 0 ? "wall" : self->hole[to] ? "hole" : "ice";
        kit_text(ret->text, sizeof ret->text, "%s%s %s", way ? " " : "", ways[way], what);
    }
    kit_text(ret->text, sizeof ret->text, ", flag%s%s",
             dy < 0   ? " north"
             : dy > 0 ? " south"
                      : "",
             dx < 0   ? " west"
             : dx > 0 ? " east"
                      : "");
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
    struct lake *self = state;
    TRY(draw(&task, self));
    view(self, ret);
    return ERR_ok;
}

static err_t step(void *state, struct span action, struct env_obs *ret)
{
    struct lake *self = state;
    BUG_IF(self->magic != MAGIC);
    if (self->over) return err_set(ERR_conflict, "lake: the episode is over");
    struct span rest = kit_trim(action);
    struct span verb = kit_word(&rest);
    int to = -1;
    for (size_t way = 0; way < 4; way++) {
        if (span_is(verb, "go") && span_is(rest, ways[way])) to = beside(self, self->here, way);
    }
    if (to < 0) {
        kit_answer(ret, "no");
        return ERR_ok;
    }
    self->here = (uint8_t)to;
    self->over = self->hole[to] || to == self->flag;
    if (self->over)
        kit_end(ret, self->hole[to] ? "splash" : "done", self->hole[to] ? 0 : 1);
    else
        view(self, ret);
    return ERR_ok;
}

static void expert(const void *state, double noise, struct rng *rng, char *action)
{
    const struct lake *self = of(state);
    uint8_t distance[CELLS];
    size_t way = rng_below(rng, 4);
    if (rng_unit(rng) >= noise) {
        distances(self, distance);
        size_t best = best_way(self, distance, self->here);
        if (best < 4) way = best;
    } else {
        while (beside(self, self->here, way) < 0) way = rng_below(rng, 4);
    }
    action[0] = '\0';
    kit_text(action, ENV_ACTION_BYTES, "go %s", ways[way]);
}

static void hint(const void *state, char *text)
{
    const struct lake *self = of(state);
    uint8_t distance[CELLS];
    text[0] = '\0';
    distances(self, distance);
    if (self->over || distance[self->here] == 255) return;
    for (int at = self->here; at != self->flag;) {
        size_t way = best_way(self, distance, at);
        kit_text(text, ENV_HINT_BYTES, "%sgo %s", at == self->here ? "" : ", ", ways[way]);
        at = beside(self, at, way);
    }
}

static err_t digest(const void *state, struct digest *ret)
{
    const struct lake *self = of(state);
    char text[128] = "lake";
    kit_text(text, sizeof text, " %u %u %u ", self->side, self->start, self->flag);
    for (size_t i = 0; i < (size_t)self->side * self->side; i++) kit_text(text, sizeof text, "%c", self->hole[i] ? 'O' : '.');
    return digest_bytes(span_text(text), ret);
}

const struct env_class env_lake = {
    .name = "lake",
    .doc = "ice with holes, seen one cell around, and a flag to reach",
    .levels = LEVELS,
    .max_steps = 24,
    .state_bytes = sizeof(struct lake),
    .words = words,
    .generate = generate,
    .mutate = mutate,
    .reset = reset,
    .step = step,
    .expert = expert,
    .hint = hint,
    .digest = digest,
};
