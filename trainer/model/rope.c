#include "trainer/model/rope.h"

#include <math.h>
#include <stdlib.h>

#define TAU 6.283185307179586

/* the frequency as the config's scaling stretches it */
static double scaled(const struct rope_scaling *s, double frequency)
{
    double factor = (double)s->factor, low = (double)s->low_freq_factor, high = (double)s->high_freq_factor;
    switch (s->kind) {
    case ROPE_SCALING_none:
        return frequency;
    case ROPE_SCALING_linear:
        return frequency / factor;
    case ROPE_SCALING_llama3:
        break;
    }
    double turns = (double)s->original_positions * frequency / TAU; /* within the original context */
    if (turns < low) return frequency / factor;
    if (turns > high) return frequency;
    double smooth = (turns - low) / (high - low);
    return (1 - smooth) * frequency / factor + smooth * frequency;
}

err_t rope_table(float **ret, const struct model_config *config, size_t positions)
{
    size_t E = (size_t)config->head_dim, half = E / 2;
    float *table = malloc(positions * E * sizeof *table);
    if (!table) return err_set(ERR_memory, "a table of %zu positions", positions);
    for (size_t i = 0; i < half; i++) {
        double step = scaled(&config->rope_scaling, pow((double)config->rope_theta, -2.0 * (double)i / (double)E));
        for (size_t p = 0; p < positions; p++) {
            table[p * E + i] = (float)cos((double)p * step);
            table[p * E + half + i] = (float)sin((double)p * step);
        }
    }
    *ret = table;
    return ERR_ok;
}
