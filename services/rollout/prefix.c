/* What episodes begin with alike is computed once: the prompts of a group, the words before every task. A slot that is still
 * empty takes the beginning from one that holds it under the same weights; of several that begin together, one goes first. */
#include "services/rollout/prefix.h"

#define LEAST 8 /* fewer tokens are not worth a copy */

/* tokens that `seat` may take from `other`: all but its last, which must be fed for what follows it */
static uint32_t common(const struct seat *seat, const struct seat *other, uint32_t most)
{
    uint32_t n = 0;
    if (most > seat->runner.count - 1) most = seat->runner.count - 1;
    while (n < most && seat->runner.token[n] == other->runner.token[n]) n++;
    return n < LEAST ? 0 : n;
}

static bool is_fresh(const struct rollout *rollout, const struct seat *seat)
{
    return seat->runner.fed == 0 && seat->runner.count > LEAST && decoder_used(rollout->decoder, (uint32_t)seat->slot) == 0;
}

static uint32_t find_held(const struct rollout *rollout, const struct seat *seat, const struct seat **ret)
{
    uint32_t best = 0;
    for (size_t i = 0; i < rollout->seat_count; i++) {
        const struct seat *other = &rollout->seats[i];
        if (other == seat || other->state == SEAT_FREE || other->slot < 0 || other->policy != seat->policy) continue;
        uint32_t n = common(seat, other, decoder_used(rollout->decoder, (uint32_t)other->slot));
        if (n <= best) continue;
        best = n;
        *ret = other;
    }
    return best;
}

static void take(struct rollout *rollout, struct seat *seat, const struct seat *other, uint32_t n)
{
    decoder_share(rollout->decoder, (uint32_t)seat->slot, (uint32_t)other->slot, n);
    seat->runner.fed = n;
    rollout->counters.shared_tokens += n;
}

size_t prefix_share(struct rollout *rollout, struct seat **seats, size_t count)
{
    size_t first = 0; /* seats that go now come to the front */
    for (size_t i = 0; i < count; i++) {
        struct seat *seat = seats[i];
        uint32_t ahead = 0;
        if (is_fresh(rollout, seat)) {
            const struct seat *other = NULL;
            uint32_t held = find_held(rollout, seat, &other);
            for (size_t k = 0; k < first; k++) {
                uint32_t n = common(seat, seats[k], seats[k]->runner.count);
                if (n > ahead) ahead = n;
            }
            if (ahead > held) continue;
            if (other) take(rollout, seat, other, held);
        }
        seats[i] = seats[first];
        seats[first++] = seat;
    }
    return first;
}
