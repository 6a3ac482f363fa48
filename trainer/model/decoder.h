/* Playing with a model: ragged continuous batching over a slotted KV cache.
 *
 * A decoder owns `slots` independent KV caches of up to `max_context` positions. Each step takes any set of items: an item
 * feeds its slot's pending tokens (the token just sampled and/or a new observation of any length), and may ask for the
 * logits after its last token; prefill and decode are the same call. A cache belongs to one policy version: decoder_step
 * is told the version of the weights it is given and a slot filled under another one is a BUG, so a cache is never read
 * under other weights. The first step under a version packs its matrices (four versions are kept), so weights must not change
 * under a version's name; decoder_reset empties a slot for another episode or version. Not thread-safe; the work of a step is
 * spread over the pool that was passed in: by slots, and by the columns of each product where the model is large or the slots
 * are few. A slot's logits have the same bits however its tokens were cut into steps and
 * whatever was fed with them. Log-probs computed from these logits agree with learner_forward to 1e-4. */
#ifndef PAL_TRAINER_MODEL_DECODER_H
#define PAL_TRAINER_MODEL_DECODER_H

#include "services/common/base/pool.h"
#include "trainer/model/model.h"

struct decoder;

struct decoder_item {
    uint32_t slot;
    const int32_t *tokens; /* [count] ids to feed */
    uint32_t count;        /* >= 1 */
    float *logits;         /* [V] raw logits after the last token, or NULL */
};

struct decoder_options {
    uint32_t slots;
    uint32_t max_context;
    bool half_cache; /* keys and values as IEEE binary16: half the memory and traffic, log-probs then agree to about 1e-2 */
};

err_t decoder_new(struct decoder **ret, const struct model_config *config, const struct decoder_options *options,
                  struct pool *pool) MUST_USE;
void decoder_free(struct decoder **decoder);
size_t decoder_bytes(const struct decoder *decoder);
/* The same before it is made, with `versions` of weights in use; a checked config. */
size_t decoder_bytes_of(const struct model_config *config, const struct decoder_options *options, size_t threads,
                        size_t versions);
size_t decoder_token_bytes(const struct model_config *config, bool half_cache); /* of one cached position */

void decoder_reset(struct decoder *decoder, uint32_t slot);
/* Slot `to`, which is empty, gets the first `count` positions of `from`: what feeding the same tokens would give, to the bit.
 */
void decoder_share(struct decoder *decoder, uint32_t to, uint32_t from, uint32_t count);
/* Forgets what was fed after the first `count` tokens; count is at most decoder_used. */
void decoder_cut(struct decoder *decoder, uint32_t slot, uint32_t count);
uint32_t decoder_used(const struct decoder *decoder, uint32_t slot); /* positions in the cache */

/* Each slot at most once among the items. ERR_too_large when a slot would pass max_context, ERR_invalid for a bad id or a
 * repeated slot: then nothing was fed. version is the caller's name of these weights. */
err_t decoder_step(struct decoder *decoder, const struct model *model, uint64_t version, const struct decoder_item *items,
                   size_t count) MUST_USE;

#endif
