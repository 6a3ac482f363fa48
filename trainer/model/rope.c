#include "trainer/model/rope.h"

#include <math.h>
#include <stdlib.h>

err_t rope_table(float **ret, const struct model_config *config, size_t positions)
{
    size_t E = (size_t)config->head_dim, half = E / 2;
    float *table = malloc(positions * E * sizeof *table);
    if (!table) return err_set(ERR_memory, "a table of %zu positions", positions);
    for (size_t i = 0; i < half; i++) {
        double step = pow((double)config->rope_theta, -2.0 * (double)i / (double)E);
        for (size_t p = 0; p < positions; p++) {
            table[p * E + i] = (float)cos((double)p * step);
            table[p * E + half + i] = (float)sin((double)p * step);
        }
    }
    *ret = table;
    return ERR_ok;
}
