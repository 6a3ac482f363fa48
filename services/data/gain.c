/* GAIN-RL: the training tasks are scored and ranked before the first fresh group and again when that is due; mu moves with
 * every update. Nothing waits for a later ranking: groups are drawn by the one there is. */
#include "services/data/gain.h"

#include "curation/gain_rl.h"
#include "services/common/base/rng.h"
#include "services/common/run/log.h"
#include "services/data/data.h"

#include <math.h>
#include <stdlib.h>

#define METHOD "gain-rl"

static const struct method_field fields[] = {
    {"mu", offsetof(struct gain, mu)},
    {"ranked", offsetof(struct gain, ranked)},
    {"rank_lineage", offsetof(struct gain, rank_lineage)},
    {"rank_version", offsetof(struct gain, rank_version)},
    {"rank_update", offsetof(struct gain, rank_update)},
    {"rank_phase", offsetof(struct gain, rank_phase)},
};

static bool is_on(const struct plan *plan)
{
    return plan->spec.curriculum.kind == JOB_CURRICULUM_GAIN_RL;
}

static enum gain_rl_rank rank_of(const struct plan *plan)
{
    return (enum gain_rl_rank)plan->spec.curriculum.rank;
}

static err_t put(struct data *data)
{
    return method_put(data, METHOD, fields, sizeof fields / sizeof *fields, &data->plan->gain);
}

void gain_free(struct gain *gain)
{
    for (size_t e = 0; e < JOB_ENVIRONMENTS; e++) free(gain->order[e]);
    *gain = (struct gain){0};
}

/* ---- the ranking ---- */

/* Tasks that are ranked and drawn: those of environments with a weight. */
static size_t count_tasks(const struct plan *plan)
{
    size_t count = 0;
    for (size_t e = 0; e < plan->spec.environment_count; e++) count += plan->draws[e].weight > 0 ? plan->train_count[e] : 0;
    return count;
}

/* Orders each environment's tasks by their scores under a version (-2: by none). */
static err_t order_tasks(struct data *data, int64_t version)
{
    struct plan *plan = data->plan;
    for (size_t e = 0; e < plan->spec.environment_count; e++) {
        size_t n = plan->train_count[e];
        struct gain_rl_task *tasks = arena_array(&data->arena, struct gain_rl_task, n + 1);
        uint64_t *order = malloc((n + 1) * sizeof *order);
        free(plan->gain.order[e]);
        plan->gain.order[e] = order;
        if (!tasks || !order) return err_set(ERR_memory, "a ranking of %zu tasks", n);
        for (size_t i = 0; i < n; i++) {
            const struct plan_task *task = &plan->tasks[plan->train[e][i]];
            bool scored = version >= 0 && task->score.version == version;
            tasks[i] = (struct gain_rl_task){.c = scored ? task->score.c_intra + task->score.c_inter : (double)NAN,
                                             .tokens = scored ? task->score.tokens : (double)NAN,
                                             .level = version < -1 ? 0 : task->level};
        }
        TRY(gain_rl_order(rank_of(plan), tasks, n, rng_mix((uint64_t)plan->spec.seed, 0x6761696eU + e), order));
    }
    return ERR_ok;
}

static err_t rank(struct data *data, int64_t version)
{
    struct plan *plan = data->plan;
    struct gain *gain = &plan->gain;
    size_t scored = 0;
    for (size_t i = 0; i < plan->task_count; i++) scored += version >= 0 && plan->tasks[i].score.version == version;
    TRY(order_tasks(data, version));
    gain->ranked = 1;
    gain->rank_lineage = (double)plan->lineage;
    gain->rank_version = (double)version;
    gain->rank_update = (double)plan->updates_done;
    gain->rank_phase = plan->phase.now;
    const struct method_number inputs[] = {{"version", gain->rank_version},
                                           {"update", gain->rank_update},
                                           {"tasks", (double)count_tasks(plan)},
                                           {"scored", (double)scored}};
    log_info("job %lld: %zu tasks are ranked, %zu by their scores under version %lld", (long long)plan->job,
             count_tasks(plan), scored, (long long)version);
    TRY(finish_decide(data, "job", plan->job, METHOD, "ranked", method_json(&data->arena, inputs, 4)));
    return put(data);
}

static bool is_due(const struct plan *plan)
{
    const struct gain *gain = &plan->gain;
    double every = (double)plan->spec.curriculum.rerank_every;
    if (gain->ranked <= 0 || gain->rank_phase < plan->phase.now) return true;
    return every > 0 && floor((double)plan->updates_done / every) > floor(gain->rank_update / every);
}

err_t gain_reindex(struct data *data)
{
    const struct gain *gain = &data->plan->gain;
    return is_on(data->plan) ? order_tasks(data, gain->ranked > 0 ? (int64_t)gain->rank_version : -2) : ERR_ok;
}

err_t gain_advance(struct data *data)
{
    struct plan *plan = data->plan;
    struct gain *gain = &plan->gain;
    if (!is_on(plan) || plan->ending || plan->paused || gain->open > 0 || !is_due(plan)) return ERR_ok;
    if (plan->published < 0 || plan->published < plan->version) return ERR_ok; /* the newest version is to measure */
    if (!gain_rl_scores(rank_of(plan))) return rank(data, -1);
    gain->asked_version = plan->published;
    for (size_t e = 0; e < plan->spec.environment_count; e++) {
        for (size_t i = 0; plan->draws[e].weight > 0 && i < plan->train_count[e]; i++, gain->open++)
            TRY(score_plan(data, plan->train[e][i], -1, plan->published, 0));
    }
    return gain->open ? ERR_ok : rank(data, gain->asked_version);
}

err_t gain_scored(struct data *data)
{
    struct gain *gain = &data->plan->gain;
    if (gain->open == 0 || --gain->open > 0) return ERR_ok;
    return rank(data, gain->asked_version);
}

/* ---- reading the mirror ---- */

static err_t load_scores(struct data *data, int64_t lineage, int64_t version)
{
    struct plan *plan = data->plan;
    struct store_score *scores = NULL;
    size_t count = 0;
    TRY(store_score_list(data->store, plan->job, lineage, version, &data->arena, &scores, &count));
    for (size_t i = 0; i < count; i++) {
        if ((size_t)scores[i].task < plan->task_count) plan->tasks[scores[i].task].score = scores[i];
    }
    return ERR_ok;
}

static err_t load_solved(struct data *data)
{
    struct plan *plan = data->plan;
    int64_t *solved = NULL;
    size_t count = 0;
    TRY(store_score_solved(data->store, plan->job, &data->arena, &solved, &count));
    for (size_t i = 0; i < count; i++) {
        if ((size_t)solved[i] < plan->task_count) plan->tasks[solved[i]].solved = true;
    }
    return ERR_ok;
}

err_t gain_load(struct data *data)
{
    struct plan *plan = data->plan;
    struct gain *gain = &plan->gain;
    gain_free(gain);
    if (!is_on(plan)) return ERR_ok;
    TRY(method_get(data, METHOD, fields, sizeof fields / sizeof *fields, gain));
    int64_t version = gain->ranked > 0 ? (int64_t)gain->rank_version : -2;
    if (version >= 0) TRY(load_scores(data, (int64_t)gain->rank_lineage, version));
    TRY(order_tasks(data, version));
    TRY(load_solved(data));
    for (const struct group *g = plan->groups; g; g = g->next) {
        if (g->source != GROUP_SCORE || g->of_episode >= 0 || plan->tasks[g->task].candidate) continue;
        gain->open++;
        gain->asked_version = g->pin_version;
    }
    return gain->open ? load_scores(data, plan->lineage, gain->asked_version) : ERR_ok;
}

/* ---- drawing ---- */

bool gain_ready(const struct plan *plan)
{
    return !is_on(plan) || plan->gain.ranked > 0;
}

static bool may_draw(void *ctx, size_t environment, uint64_t task)
{
    const struct gain_draw *draw = ctx;
    return grant_may_draw(draw->plan, environment, task);
}

static bool is_taken(void *ctx, size_t environment, uint64_t task)
{
    const struct gain_draw *draw = ctx;
    return draw->taken[draw->plan->train[environment][task]];
}

static bool is_solved(void *ctx, size_t environment, uint64_t task)
{
    const struct gain_draw *draw = ctx;
    return draw->plan->tasks[draw->plan->train[environment][task]].solved;
}

err_t gain_curriculum(struct data *data, int64_t update, struct gain_draw *ret, struct curriculum *curriculum)
{
    struct plan *plan = data->plan;
    *ret = (struct gain_draw){.plan = plan, .taken = arena_array(&data->arena, bool, plan->task_count + 1)};
    if (!ret->taken) return ERR_memory;
    for (const struct group *g = plan->groups; g; g = g->next) {
        if (plan_is_for_update(g->source) && g->update_for == update) ret->taken[g->task] = true;
    }
    ret->ranking = (struct curriculum_ranking){
        .mu = plan->gain.mu, .sigma_fraction = plan->spec.curriculum.sigma_fraction, .taken = is_taken, .solved = is_solved};
    for (size_t e = 0; e < plan->spec.environment_count; e++) ret->ranking.order[e] = plan->gain.order[e];
    curriculum->ranking = &ret->ranking;
    curriculum->may_draw = may_draw;
    curriculum->ctx = ret;
    return ERR_ok;
}

void gain_closed(struct plan *plan, const struct group *group)
{
    if (!is_on(plan) || group->source != GROUP_FRESH) return;
    bool some = false, all = true;
    for (size_t i = 0; i < group->size; i++) {
        const struct slot *slot = &group->slots[i];
        if (slot->state != SLOT_DONE || slot->hinted) continue;
        some = true;
        all &= slot->reward >= 0.5;
    }
    if (some) plan->tasks[group->task].solved = all;
}

/* ---- after an update ---- */

/* C of the update's prompts: what the trainer measured; where it made no forward pass, the mean of the last scores. */
static double angle_of(const struct plan *plan, const struct wire_update_done *done, const struct store_plain *plain)
{
    double told = method_told(done, "angle"), sum = 0, count = 0;
    if (isfinite(told)) return told;
    for (size_t i = 0; i < plain->task_count; i++) {
        if ((size_t)plain->tasks[i] >= plan->task_count) continue;
        const struct store_score *score = &plan->tasks[plain->tasks[i]].score;
        double c = score->c_intra + score->c_inter;
        if (score->version < 0 || !isfinite(c)) continue;
        sum += c;
        count += 1;
    }
    return count > 0 ? sum / count : (double)NAN;
}

err_t gain_update(struct data *data, const struct wire_update_done *done)
{
    struct plan *plan = data->plan;
    const struct job_curriculum *spec = &plan->spec.curriculum;
    if (!is_on(plan)) return ERR_ok;
    const struct gain_rl_config config = {.groups = (double)plan->spec.trainer.groups_per_update,
                                          .alpha = spec->alpha,
                                          .beta = spec->beta,
                                          .gamma = spec->gamma};
    struct store_plain plain;
    TRY(store_score_plain(data->store, plan->job, done->update, &data->arena, &plain));
    double c = angle_of(plan, done, &plain);
    struct gain_rl_move move = gain_rl_move(&config, plan->gain.mu, count_tasks(plan), plain.reward, c);
    plan->gain.mu = move.after;
    plan->method_figures.gain_mu = move.after;
    plan->method_figures.gain_acc_term = move.f;
    plan->method_figures.gain_angle_term = move.g;
    const struct method_number inputs[] = {{"before", move.before}, {"after", move.after}, {"acc", plain.reward}, {"c", c},
                                           {"f", move.f},           {"g", move.g}};
    TRY(finish_decide(data, "update", done->update, METHOD, move.after > move.before ? "moved" : "stays",
                      method_json(&data->arena, inputs, sizeof inputs / sizeof *inputs)));
    return put(data);
}
