/* The outcome reward model: a model of the policy's shape that says whether an episode solved its task (WebRL, arXiv
 * 2411.02337, ALGORITHMS A5 and B 2.3).
 *
 * What it reads of an episode is its caller's (rollout/judge.h); here that is a row of tokens, behind which the verdict's
 * token stands. It learns by cross-entropy on that token, from the weights it has (version 0's policy at first), and is
 * measured on episodes of tasks that it never learns from: its score is P(yes) / (P(yes) + P(no)), solved at 0.5 or more.
 *
 *     balanced accuracy = (share of the solved that it says are + share of the others that it says are not) / 2
 *     AUROC             = the chance that a solved episode scores higher than another, ties one half (Mann and Whitney 1947)
 * Both are NaN where one of the two kinds is missing. */
#ifndef PAL_TRAINER_ORM_H
#define PAL_TRAINER_ORM_H

#include "trainer/diagnostics.h"
#include "trainer/trainee.h"

#define ORM_SOLVED 0.5

struct orm_config {
    size_t updates; /* optimizer steps */
    size_t batch;   /* episodes a step */
    double lr;
    size_t tokens_per_microbatch;
    int32_t yes, no; /* the verdict's tokens */
};

/* A verified episode. */
struct orm_case {
    uint64_t id;
    const int32_t *token; /* [count] what is read */
    uint32_t count;
    bool success;
    bool test; /* measured on, not learned from */
};

double orm_balanced_accuracy(const double *score, const bool *success, size_t count);
/* ERR_memory. */
err_t orm_auroc(const double *score, const bool *success, size_t count, double *ret) MUST_USE;

/* Scores of n cases under the trainee's model. */
err_t orm_score(struct trainee *trainee, const struct orm_config *config, const struct orm_case *cases, size_t count,
                const atomic_bool *cancel, double *ret) MUST_USE;

/* Trains on the cases that are no tests, measures on those that are and fills orm_*; phase seeds the shuffles. Without a case
 * to learn from nothing is learned, and *ret_trained is false. An error leaves the model as it was; the optimizer's and the
 * model's kept copies of the trainee are used up. */
err_t orm_run(struct trainee *trainee, const struct orm_config *config, int64_t phase, const struct orm_case *cases,
              size_t count, const atomic_bool *cancel, bool *ret_trained, struct diagnostics *figures) MUST_USE;

#endif
