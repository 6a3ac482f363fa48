#include "trainer/orm.h"

#include "trainer/imitation.h"
#include "trainer/pass.h"

#include <math.h>
#include <stdlib.h>

#define RNG_STREAM 100 /* and the phase: apart from all others */

double orm_balanced_accuracy(const double *score, const bool *success, size_t count)
{
    double of[2] = {0}, right[2] = {0};
    for (size_t i = 0; i < count; i++) {
        of[success[i]] += 1;
        right[success[i]] += (score[i] >= ORM_SOLVED) == success[i] ? 1 : 0;
    }
    return of[0] > 0 && of[1] > 0 ? (right[0] / of[0] + right[1] / of[1]) / 2 : (double)NAN;
}

struct rank {
    double score;
    bool success;
};

static int by_score(const void *left, const void *right)
{
    const struct rank *a = left, *b = right;
    return (a->score > b->score) - (a->score < b->score);
}

err_t orm_auroc(const double *score, const bool *success, size_t count, double *ret)
{
    struct rank *ranks = calloc(count + 1, sizeof *ranks);
    if (!ranks) return err_set(ERR_memory, "%zu scores", count);
    for (size_t i = 0; i < count; i++) ranks[i] = (struct rank){score[i], success[i]};
    qsort(ranks, count, sizeof *ranks, by_score);
    double solved = 0, sum = 0;
    for (size_t i = 0; i < count;) {
        size_t end = i, ties = 0;
        for (; end < count && ranks[end].score == ranks[i].score; end++) ties += ranks[end].success;
        solved += (double)ties;
        sum += (double)ties * ((double)(i + end + 1) / 2); /* mean rank of the tied, from 1 */
        i = end;
    }
    double others = (double)count - solved;
    *ret = solved > 0 && others > 0 ? (sum - solved * (solved + 1) / 2) / (solved * others) : (double)NAN;
    free(ranks);
    return ERR_ok;
}

/* The case with a verdict behind it, as an episode of one target. */
static err_t make_episode(const struct orm_case *c, int32_t verdict, struct arena *arena, struct episode *ret)
{
    int32_t *token = arena_array(arena, int32_t, c->count + 1);
    uint8_t *target = arena_array(arena, uint8_t, c->count + 1);
    if (!token || !target) return ERR_memory;
    memcpy(token, c->token, c->count * sizeof *token);
    token[c->count] = verdict;
    target[c->count] = 1;
    *ret = (struct episode){.id = c->id,
                            .signal = true,
                            .count = c->count + 1,
                            .action_tokens = 1,
                            .action_turns = 1,
                            .token = token,
                            .target = target,
                            .turns = 1};
    return ERR_ok;
}

/* log P of one verdict behind each case */
static err_t verdicts(struct trainee *t, const struct model *model, const struct orm_config *config,
                      const struct orm_case *cases, size_t count, int32_t verdict, const atomic_bool *cancel, double *ret)
{
    struct arena *arena = &t->arena;
    struct episode *episodes = arena_array(arena, struct episode, count);
    struct lesson *lessons = arena_array(arena, struct lesson, count);
    struct lesson **all = arena_array(arena, struct lesson *, count);
    if (!episodes || !lessons || !all) return ERR_memory;
    for (size_t i = 0; i < count; i++) {
        TRY(make_episode(&cases[i], verdict, arena, &episodes[i]));
        TRY(episode_check(&episodes[i], model->config.vocab, t->max_tokens));
        TRY(lesson_make(&lessons[i], &episodes[i], arena));
        all[i] = &lessons[i];
    }
    const struct packing_options options = {.version = -1,
                                            .tokens_per_microbatch = config->tokens_per_microbatch,
                                            .workers = pool_threads(t->pool),
                                            .temperature = 1};
    struct packing packing;
    TRY(packing_make(all, count, &options, arena, &packing));
    TRY(pass_score(t, model, &packing, cancel));
    for (size_t b = 0; b < packing.count; b++) {
        const struct microbatch *m = &packing.microbatches[b];
        for (size_t s = 0; s < m->batch.sequences; s++) ret[m->lesson[s] - lessons] = (double)m->theta[s];
    }
    return ERR_ok;
}

static err_t score(struct trainee *t, const struct model *model, const struct orm_config *config,
                   const struct orm_case *cases, size_t count, const atomic_bool *cancel, double *ret)
{
    double *no = arena_array(&t->arena, double, count + 1);
    if (!no) return ERR_memory;
    if (count == 0) return ERR_ok;
    TRY(verdicts(t, model, config, cases, count, config->yes, cancel, ret));
    TRY(verdicts(t, model, config, cases, count, config->no, cancel, no));
    for (size_t i = 0; i < count; i++) ret[i] = 1 / (1 + exp(no[i] - ret[i]));
    return ERR_ok;
}

err_t orm_score(struct trainee *trainee, const struct orm_config *config, const struct orm_case *cases, size_t count,
                const atomic_bool *cancel, double *ret)
{
    err_t err = score(trainee, trainee->orm, config, cases, count, cancel, ret);
    arena_clear(&trainee->arena);
    return err;
}

/* Learns into the trainee's kept model, so that an error leaves the reward model alone. */
static err_t learn(struct trainee *t, const struct orm_config *config, int64_t phase, const struct episode *episodes,
                   size_t count, const atomic_bool *cancel, struct diagnostics *figures)
{
    const struct imitation_config imitation = {.updates = config->updates,
                                               .batch = config->batch,
                                               .lr = config->lr,
                                               .tokens_per_microbatch = config->tokens_per_microbatch,
                                               .temperature = 1,
                                               .stream = RNG_STREAM + (uint64_t)phase};
    struct imitation_result result;
    size_t bytes = t->orm->count * sizeof(float);
    memcpy(t->kept_model->weights, t->orm->weights, bytes);
    TRY(imitation_run(t, t->kept_model, t->kept_adamw, &imitation, episodes, count, cancel, &result));
    memcpy(t->orm->weights, t->kept_model->weights, bytes);
    figures->orm_train_loss = result.late_loss;
    return ERR_ok;
}

static err_t measure(struct trainee *t, const struct orm_config *config, const struct orm_case *tests, size_t count,
                     const atomic_bool *cancel, struct arena *arena, struct diagnostics *figures)
{
    double *scores = arena_array(arena, double, count + 1);
    bool *success = arena_array(arena, bool, count + 1);
    if (!scores || !success) return ERR_memory;
    TRY(orm_score(t, config, tests, count, cancel, scores));
    for (size_t i = 0; i < count; i++) success[i] = tests[i].success;
    figures->orm_balanced_accuracy = orm_balanced_accuracy(scores, success, count);
    return orm_auroc(scores, success, count, &figures->orm_auroc);
}

err_t orm_run(struct trainee *trainee, const struct orm_config *config, int64_t phase, const struct orm_case *cases,
              size_t count, const atomic_bool *cancel, bool *ret_trained, struct diagnostics *figures)
{
    BUG_IF(!trainee->orm);
    AUTO(arena) arena = {0};
    arena_init(&arena, trainee->arena.max_bytes);
    struct orm_case *tests = arena_array(&arena, struct orm_case, count + 1);
    struct episode *episodes = arena_array(&arena, struct episode, count + 1);
    size_t test_count = 0, n = 0;
    if (!tests || !episodes) return ERR_memory;
    for (size_t i = 0; i < count; i++) {
        if (cases[i].test)
            tests[test_count++] = cases[i];
        else
            TRY(make_episode(&cases[i], cases[i].success ? config->yes : config->no, &arena, &episodes[n++]));
    }
    *ret_trained = n > 0;
    if (n == 0) return ERR_ok;
    TRY(learn(trainee, config, phase, episodes, n, cancel, figures));
    return measure(trainee, config, tests, test_count, cancel, &arena, figures);
}
