#include "curation/gain_rl.h"

#include "curation/curriculum.h"

#include <math.h>
#include <stdlib.h>

bool gain_rl_scores(enum gain_rl_rank rank)
{
    static const bool scored[] = {
#define RANK(name, needs, doc) (needs) != 0,
#include "curation/gain_rl_rank.def"
#undef RANK
    };
    return scored[rank];
}

/* The task's key: smaller is earlier; what was not measured is last. */
static double key_of(enum gain_rl_rank rank, const struct gain_rl_task *task)
{
    double key = 0;
    switch (rank) {
    case GAIN_RL_RANK_angle:
        key = -task->c;
        break;
    case GAIN_RL_RANK_reversed:
        key = task->c;
        break;
    case GAIN_RL_RANK_length:
        key = task->tokens;
        break;
    case GAIN_RL_RANK_level:
        key = (double)task->level;
        break;
    case GAIN_RL_RANK_random:
        break;
    }
    return isnan(key) ? (double)INFINITY : key;
}

struct keyed {
    double key;
    uint64_t task;
};

static int by_key(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return (x->task > y->task) - (x->task < y->task);
}

err_t gain_rl_order(enum gain_rl_rank rank, const struct gain_rl_task *tasks, size_t count, uint64_t seed, uint64_t *ret)
{
    if (rank == GAIN_RL_RANK_random) {
        for (size_t k = 0; k < count; k++) ret[k] = curriculum_permute(seed, count, k);
        return ERR_ok;
    }
    struct keyed *keyed = malloc((count + 1) * sizeof *keyed);
    if (!keyed) return err_set(ERR_memory, "ranks of %zu tasks", count);
    for (size_t i = 0; i < count; i++) keyed[i] = (struct keyed){key_of(rank, &tasks[i]), i};
    qsort(keyed, count, sizeof *keyed, by_key);
    for (size_t k = 0; k < count; k++) ret[k] = keyed[k].task;
    free(keyed);
    return ERR_ok;
}

struct gain_rl_move gain_rl_move(const struct gain_rl_config *config, double mu, size_t tasks, double acc, double c)
{
    struct gain_rl_move move = {.before = mu, .after = mu};
    double half = config->groups / 2, last = tasks > 0 ? (double)(tasks - 1) : 0;
    if (isfinite(acc)) move.f = half * tanh(config->alpha * (acc - config->beta));
    if (isfinite(c)) move.g = half * tanh(config->gamma * c);
    move.after = fmin(fmax(mu + fmax(0, move.f + move.g), 0), last);
    return move;
}
