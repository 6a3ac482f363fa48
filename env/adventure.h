/* The adventure's world: rooms on a small grid that form a tree, locked edges, items. Internal to env/adventure*.c.
 *
 * A lock opens with the key, a gate with the card. Every world is solvable, needs all its keys, and its shortest solution
 * lies within the level's bounds (checked by search when it is drawn). */
#ifndef PAL_ENV_ADVENTURE_H
#define PAL_ENV_ADVENTURE_H

#include "env/kit.h"

#define ADVENTURE_LEVELS 4
#define ADVENTURE_ROOMS  12
#define ADVENTURE_PLAN   32
#define ADVENTURE_NAMES  16

enum adventure_item {
    ADVENTURE_ITEM_KEY,
    ADVENTURE_ITEM_CARD,
    ADVENTURE_ITEM_GEM,
    ADVENTURE_ITEM_LAMP,
    ADVENTURE_ITEM_COIN,
    ADVENTURE_ITEM_ROPE,
    ADVENTURE_ITEM_COUNT
};

/* ADVENTURE_DOOR_LOCK - 1 is the item that opens it */
enum adventure_door { ADVENTURE_DOOR_OPEN, ADVENTURE_DOOR_LOCK, ADVENTURE_DOOR_GATE };

struct adventure_room {
    uint8_t name;
    int8_t exit[4];  /* the room north, east, south, west, or -1 */
    uint8_t door[4]; /* enum adventure_door */
    uint8_t items;   /* bit per enum adventure_item */
};

struct adventure_world {
    uint8_t room_count;
    uint8_t here;
    uint8_t held; /* bit per item */
    struct adventure_room rooms[ADVENTURE_ROOMS];
};

/* An action as a number: go 0-3, open + kind of door, take + item. */
#define ADVENTURE_ACTION_OPEN 3 /* + ADVENTURE_DOOR_LOCK is 4 */
#define ADVENTURE_ACTION_TAKE 6
#define ADVENTURE_ACTIONS     (ADVENTURE_ACTION_TAKE + ADVENTURE_ITEM_COUNT)

struct adventure_plan {
    size_t count;
    uint8_t actions[ADVENTURE_PLAN];
};

/* The world of a task. ERR_environment if none is found within many draws. */
err_t adventure_draw(const struct kit_task *task, struct adventure_world *ret) MUST_USE;
/* The light lasts this many actions. */
size_t adventure_steps(int32_t level);
/* The way of a room's lock or gate (there is one of each at most), 4 when it has none. */
size_t adventure_way(const struct adventure_room *room, size_t door);
/* Does an action; false when it is not possible. Taking the gem is an ordinary take. */
bool adventure_do(struct adventure_world *world, size_t action);
/* The shortest way from here to the gem in the hand; false when there is none of at most ADVENTURE_PLAN actions. */
bool adventure_solve(const struct adventure_world *world, struct adventure_plan *ret);

#endif
