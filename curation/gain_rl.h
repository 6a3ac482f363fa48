/* GAIN-RL (arXiv 2506.02281): tasks are ranked by how aligned the model's hidden states of their prompts are, and drawn from
 * a Gaussian over the ranks whose mean moves on as the model learns.
 *
 *     C = C_intra + C_inter          mean cosines among the task's tokens, and between them and the template's
 *     P(k) ~ exp(-(k - mu)^2 / (2 sigma^2))      without replacement within an update; sigma = sigma_fraction N
 *     mu += max(0, F + G),  F = n/2 tanh(alpha (acc - beta)),  G = n/2 tanh(gamma C)      mu in [0, N - 1]
 *
 * with n the groups of an update, acc the mean reward of its plain episodes, C that of its prompts under the weights that
 * were updated. From mu = N - 1 on the distribution is uniform over the tasks that are not solved yet. The ranking is per
 * environment (cosines of different templates do not compare); mu is over all tasks together, and an environment of N_e tasks
 * is drawn around mu (N_e - 1) / (N - 1), so that all are equally far. Unranked tasks come last.
 *
 * The draw itself is curriculum_gain_rl.c. */
#ifndef PAL_CURATION_GAIN_RL_H
#define PAL_CURATION_GAIN_RL_H

#include "services/common/base/err.h"

#include <stdint.h>

/* How tasks are ranked: RANK(name, doc), in the order of /curriculum/rank in the job file. */
enum gain_rl_rank {
#define RANK(name, scored, doc) GAIN_RL_RANK_##name,
#include "curation/gain_rl_rank.def"
#undef RANK
};

/* What is known of a task; NaN where it was not measured. */
struct gain_rl_task {
    double c;      /* C_intra + C_inter */
    double tokens; /* of its prompt */
    int64_t level;
};

/* Does a rank need the tasks to be scored by the model? */
bool gain_rl_scores(enum gain_rl_rank rank);
/* The order: ret[k] is the task of rank k; a permutation of [0, count), ties by index. */
err_t gain_rl_order(enum gain_rl_rank rank, const struct gain_rl_task *tasks, size_t count, uint64_t seed,
                    uint64_t *ret) MUST_USE;

struct gain_rl_config {
    double groups; /* of an update: n */
    double alpha, beta, gamma;
};

struct gain_rl_move {
    double before, after; /* mu */
    double f, g;
};

/* mu after an update. tasks: N; acc in [0, 1] and c are NaN where nothing was measured, their term is then 0. */
struct gain_rl_move gain_rl_move(const struct gain_rl_config *config, double mu, size_t tasks, double acc, double c);

#endif
