/* The rows that a turn will write, collected as sets and written in the order that foreign keys want. */
#ifndef PAL_DATA_WRITES_H
#define PAL_DATA_WRITES_H

#include "services/common/store/store_episode.h"
#include "services/common/store/store_group.h"
#include "services/common/store/store_note.h"
#include "services/common/store/store_score.h"

struct slot;
struct group;
struct plan;

/* A growable array of rows: data, count, room. */
#define WRITES_SET(type)                                                                                                     \
    struct {                                                                                                                 \
        type *rows;                                                                                                          \
        size_t count, room;                                                                                                  \
    }

struct writes {
    WRITES_SET(struct store_group) groups;
    WRITES_SET(struct slot *) leases;      /* granted in this turn, in order */
    WRITES_SET(struct group *) new_groups; /* their unwritten slots are inserted as they are at the end of the turn */
    WRITES_SET(struct store_episode_end) ends;
    WRITES_SET(struct store_group_close) closes;
    WRITES_SET(struct store_score) scores;
    WRITES_SET(struct store_decision) decisions;
};

/* Makes room for one more row; false when memory is out. */
bool writes_room(void **rows, size_t *room, size_t count, size_t size);
/* Appends a value to a set; fails into `good`. */
#define WRITES_ADD(set, value, good)                                                                                         \
    do {                                                                                                                     \
        void *rows_ = (set).rows;                                                                                            \
        (good) = writes_room(&rows_, &(set).room, (set).count, sizeof *(set).rows);                                          \
        (set).rows = rows_;                                                                                                  \
        if (good) (set).rows[(set).count++] = (value);                                                                       \
    } while (0)

void writes_fini(struct writes *writes);
void writes_clear(struct writes *writes);
bool writes_any(const struct writes *writes);
/* Writes all sets inside the open transaction. */
err_t writes_flush(struct writes *writes, struct store *store, const struct plan *plan, struct arena *arena) MUST_USE;

#endif
