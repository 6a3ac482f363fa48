/* What episodes begin with alike is computed once: the prompts of a group, the words before every task. A slot that is still
 * empty takes the beginning from one that holds it under the same weights; of several that begin together, one goes first. */
#include "services/rollout/prefix.h"

#define LEAST 8 /* fewer tokens are not worth a copy */

/* Tokens that both begin with, of the other's first `most`; of its own all but the last, which must be fed for what follows
 * it. */
static uint32_t common(struct seat_context own, struct seat_context other, uint32_t most)
{
    uint32_t n = 0;
    if (most > own.count - 1) most = own.count - 1;
    while (n < most && own.token[n] == other.token[n]) n++;
    return n < LEAST ? 0 : n;
}

static uint32_t find_held(const struct rollout *rollout, const struct seat *seat, const struct seat **ret)
{
    uint32_t best = 0;
    for (size_t i = 0; i < rollout->seat_count; i++) {
        const struct seat *other = &rollout->seats[i];
        if (other == seat || other->state == SEAT_FREE || other->slot < 0 || other->policy != seat->policy) continue;
        struct seat_context held = play_context(other);
        uint32_t n = common(play_context(seat), held, held.fed); /* a context that has moved on holds nothing of its own */
        if (n <= best) continue;
        best = n;
        *ret = other;
    }
    return best;
}

static void take(struct rollout *rollout, struct seat *seat, const struct seat *other, uint32_t n)
{
    decoder_share(rollout->decoder, (uint32_t)seat->slot, (uint32_t)other->slot, n);
    *(seat->state == SEAT_JUDGE ? &seat->verdict_fed : &seat->runner.fed) = n;
    rollout->counters.shared_tokens += n;
}

size_t prefix_share(struct rollout *rollout, struct seat **seats, size_t count)
{
    size_t first = 0; /* seats that go now come to the front */
    for (size_t i = 0; i < count; i++) {
        struct seat *seat = seats[i];
        struct seat_context context = play_context(seat);
        uint32_t ahead = 0;
        if (context.fed == 0 && context.count > LEAST) {
            const struct seat *other = NULL;
            uint32_t held = find_held(rollout, seat, &other);
            for (size_t k = 0; k < first; k++) {
                struct seat_context before = play_context(seats[k]);
                uint32_t n = common(context, before, before.count);
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
