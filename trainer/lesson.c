#include "trainer/lesson.h"

err_t lesson_make(struct lesson *ret, const struct episode *e, struct arena *arena)
{
    struct lesson l = {.episode = e, .policy = e->signal};
    l.turn_size = arena_array(arena, uint32_t, e->turns);
    l.weight = arena_array(arena, float, e->turns);
    l.advantage = arena_array(arena, float, e->turns);
    if (!l.turn_size || !l.weight || !l.advantage) return ERR_memory;
    for (uint32_t i = 0; i < e->count; i++) {
        if (!e->target[i]) continue;
        l.turn_size[episode_turn(e, i)]++;
        l.targets++;
    }
    for (uint32_t t = 0; t < e->turns; t++) l.advantage[t] = (float)e->advantage;
    *ret = l;
    return ERR_ok;
}

bool lesson_recorded(const struct lesson *lesson)
{
    return lesson->episode->sampled && (lesson->hinted || lesson->episode->hint == 0);
}

void lesson_weigh(struct lesson *lesson, enum loss_aggregation aggregation, const struct loss_norm *norm)
{
    const struct episode *e = lesson->episode;
    for (uint32_t t = 0; t < e->turns; t++) {
        bool live = lesson->turn_size[t] > 0 && !episode_drops(e, t);
        lesson->weight[t] = live ? (float)loss_weight(aggregation, norm, e->action_tokens, lesson->turn_size[t]) : 0;
    }
}
