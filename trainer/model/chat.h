/* A model's chat template: observations as messages of the user, actions as answers of the assistant.
 *
 * No Jinja: the rows of chat.def are the templates of the families that this engine computes, recognised by what the
 * directory's own template contains. A template that is none of them, or one that thinks aloud, is refused by name. Turns are
 * appended as ids: what was sampled stays verbatim, only the new message is tokenised. */
#ifndef PAL_TRAINER_MODEL_CHAT_H
#define PAL_TRAINER_MODEL_CHAT_H

#include "trainer/model/tokenizer.h"

struct chat;

/* jinja: the directory's template. ERR_unsupported says what it begins with and which ones are known; ERR_malformed names a
 * token of the template that the tokenizer, which must outlive the chat, does not have. */
err_t chat_new(struct chat **ret, struct span jinja, const struct tokenizer *tokenizer) MUST_USE;
void chat_free(struct chat **chat);

const char *chat_name(const struct chat *chat);
int32_t chat_close(const struct chat *chat); /* the token that ends an answer */

/* A hint as a message of the system, before everything else (opening included): an episode without it is the same without
 * these ids. As chat_turn otherwise. */
err_t chat_hint(const struct chat *chat, struct span hint, int32_t *ids, size_t capacity, size_t *ret_count) MUST_USE;
/* The ids that bring the model from what it has seen (last: its last token, -1 at the beginning) to where a message of the
 * user may begin: what every conversation begins with, or the end of an answer. As chat_turn otherwise. */
err_t chat_between(const struct chat *chat, int32_t last, int32_t *ids, size_t capacity, size_t *ret_count) MUST_USE;
/* The observation as a message of the user, to the point where the model answers it. */
err_t chat_message(const struct chat *chat, struct span observation, int32_t *ids, size_t capacity,
                   size_t *ret_count) MUST_USE;
/* Both. Writes at most capacity ids; ERR_too_large when they do not fit. */
err_t chat_turn(const struct chat *chat, int32_t last, struct span observation, int32_t *ids, size_t capacity,
                size_t *ret_count) MUST_USE;

#endif
