/* Advantages and targets of a value head over the turns of one episode.
 *
 * The reward comes at the end: r_t = 0 but for the last turn, where it is the outcome R; past the last turn V is 0. Values
 * and rewards are in [0, 1]. Pure functions of V [n], the values of the states before each turn. */
#ifndef PAL_TRAINER_RETURNS_H
#define PAL_TRAINER_RETURNS_H

#include <stddef.h>

/* Generalised advantage estimation (Schulman et al. 2016, eq. 16):
 *     delta_t = r_t + discount V_(t+1) - V_t,  A_t = delta_t + discount lambda A_(t+1)
 * and the value's target A_t + V_t, cut to [0, 1]. */
void returns_gae(const float *value, size_t n, double reward, double discount, double lambda, float *advantage,
                 float *target);

/* WebRL (arXiv 2411.02337; ALGORITHMS B 2.4): A_t = lambda (r_t + V_(t+1) - V_t) + (1 - lambda) (R - V_t). */
void returns_webrl(const float *value, size_t n, double reward, double lambda, float *advantage);

/* Its released code (ALGORITHMS B 2.5): a_t = V_(t+1) - V_t - 0.05 + R + m_t, where every turn's reward is R and m_t is their
 * sum from t on, discounted by 0.9; cut to [-1, 1], then 1 where it is at least 0, else -0.6. */
void returns_webrl_released(const float *value, size_t n, double reward, float *advantage);

#endif
