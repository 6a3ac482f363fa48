#include "trainer/value_head.h"

#include "services/common/base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RNG_STREAM   9 /* apart from the model's */
#define WIDTH_MOST   ((size_t)1 << 20)
#define OUTPUT_SCALE 0.1 /* of the output's weights: V begins near 1/2 */

size_t value_head_parameters(size_t width, size_t units)
{
    return width * units + 2 * units + 1;
}

static err_t make(struct value_head **ret, size_t width, size_t units)
{
    if (units < 1 || units > VALUE_HEAD_UNITS_MOST)
        return err_set(ERR_invalid, "a value head of %zu units; 1 to %d are allowed", units, VALUE_HEAD_UNITS_MOST);
    if (width < 1 || width > WIDTH_MOST) return err_set(ERR_invalid, "a value head on states of %zu numbers", width);
    struct value_head *head = calloc(1, sizeof *head);
    if (!head) return err_set(ERR_memory, "a value head");
    *head = (struct value_head){.width = width, .units = units, .count = value_head_parameters(width, units)};
    *ret = head;
    return ERR_ok;
}

err_t value_head_new(struct value_head **ret, size_t width, size_t units)
{
    struct value_head *head = NULL;
    TRY(make(&head, width, units));
    BUG_IF(!head);
    head->owns_weights = true;
    head->weights = calloc(head->count, sizeof *head->weights);
    if (!head->weights) {
        value_head_free(&head);
        return err_set(ERR_memory, "a value head of %zu units", units);
    }
    *ret = head;
    return ERR_ok;
}

err_t value_head_wrap(struct value_head **ret, size_t width, size_t units, const float *weights, size_t count)
{
    struct value_head *head = NULL;
    TRY(make(&head, width, units));
    BUG_IF(!head);
    if (head->count != count) {
        value_head_free(&head);
        return err_set(ERR_invalid, "%zu weights; a value head of %zu units on %zu has others", count, units, width);
    }
    head->weights = (float *)(uintptr_t)weights;
    *ret = head;
    return ERR_ok;
}

void value_head_free(struct value_head **head)
{
    struct value_head *h = *head;
    *head = NULL;
    if (!h) return;
    if (h->owns_weights) free(h->weights);
    free(h);
}

void value_head_init(struct value_head *head, uint64_t seed)
{
    struct rng rng;
    rng_init(&rng, seed, RNG_STREAM);
    size_t D = head->width, U = head->units;
    memset(head->weights, 0, head->count * sizeof *head->weights);
    for (size_t i = 0; i < D * U; i++) head->weights[i] = (float)(rng_normal(&rng) * sqrt(2.0 / (double)D));
    float *output = head->weights + D * U + U;
    for (size_t i = 0; i < U; i++) output[i] = (float)(rng_normal(&rng) * OUTPUT_SCALE / sqrt((double)U));
}

err_t value_head_digest(const struct value_head *head, struct digest *ret)
{
    const uint64_t sizes[] = {head->width, head->units};
    const struct span spans[] = {span_of(sizes, sizeof sizes), span_of(head->weights, head->count * sizeof *head->weights)};
    return digest_spans(spans, 2, ret);
}

/* Inputs outside, units inside: the inner loops run over neighbours. */
void value_head_forward(const struct value_head *head, const float *hidden, size_t n, float *active, float *value)
{
    size_t D = head->width, U = head->units;
    const float *bias = head->weights + D * U, *output = bias + U;
    for (size_t s = 0; s < n; s++) {
        float *restrict a = active + s * U;
        memcpy(a, bias, U * sizeof *a);
        for (size_t d = 0; d < D; d++) {
            const float *restrict row = head->weights + d * U;
            float h = hidden[s * D + d];
            for (size_t u = 0; u < U; u++) a[u] += h * row[u];
        }
        float z = output[U];
        for (size_t u = 0; u < U; u++) {
            a[u] = a[u] > 0 ? a[u] : 0;
            z += a[u] * output[u];
        }
        value[s] = (float)(1.0 / (1.0 + exp(-(double)z)));
    }
}

void value_head_backward(const struct value_head *head, const float *hidden, float *active, size_t n, const float *dz,
                         float *gradient, float *dhidden)
{
    size_t D = head->width, U = head->units;
    const float *output = head->weights + D * U + U;
    float *dbias = gradient + D * U, *doutput = dbias + U;
    for (size_t s = 0; s < n; s++) {
        float *restrict a = active + s * U;
        doutput[U] += dz[s];
        for (size_t u = 0; u < U; u++) {
            doutput[u] += dz[s] * a[u];
            a[u] = a[u] > 0 ? dz[s] * output[u] : 0; /* from here on the gradient before the ReLU */
            dbias[u] += a[u];
        }
        for (size_t d = 0; d < D; d++) {
            const float *restrict row = head->weights + d * U;
            float *restrict drow = gradient + d * U;
            float h = hidden[s * D + d], back = 0;
            for (size_t u = 0; u < U; u++) drow[u] += h * a[u];
            if (!dhidden) continue;
            for (size_t u = 0; u < U; u++) back += a[u] * row[u];
            dhidden[s * D + d] = back;
        }
    }
}
