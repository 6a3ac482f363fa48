/* The angle signal of a prompt (GAIN-RL, arXiv 2506.02281, ALGORITHMS B 4.1): how much the hidden states of its tokens point
 * the same way.
 *
 * Of m tokens the first n are the template, what every prompt of its kind begins with; the others are the task's own.
 *     C_intra = 1 / (m - n)^2     sum_{i > n} sum_{j > n}  cos(x_i, x_j)
 *     C_inter = 1 / ((m - n) n)   sum_{i > n} sum_{j <= n} cos(x_i, x_j)          C = C_intra + C_inter
 * x_i are the last layer's hidden states (the final norm's output), cosines are true ones. With u_i = x_i / |x_i| the sums
 * are |U|^2 and U . V of U = sum u_i over the task and V = sum u_j over the template, which needs no m^2 cosines.
 *
 * Segments of our prompts: the template is what the prompt of every task begins with: a chat template's opening and the
 * header of its first message. A preset's prompt is only the first observation and "\n>": n is 0 there, C_inter is 0, and C
 * ranks by C_intra alone. What stands behind the task's text ("\n>", the header of the answer) belongs to the task's own
 * tokens, as everything behind the template does in the paper's formula. A hint is not measured: prompts are the plain ones.
 */
#ifndef PAL_ROLLOUT_ANGLE_H
#define PAL_ROLLOUT_ANGLE_H

#include <stddef.h>

struct angle {
    double intra; /* in [0, 1] */
    double inter; /* in [-1, 1] */
};

/* hidden [count, width]; the first `template` tokens are the template; scratch [2 width]. A state of length 0 has cosine 0
 * with every other; C_intra is 0 without a token of the task, C_inter without a token on either side. */
struct angle angle_measure(const float *hidden, size_t count, size_t width, size_t template, double *scratch);

#endif
