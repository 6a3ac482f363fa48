/* One episode as a state machine, without I/O.
 *
 *     reset --observation--> FEED --logits--> FEED ... --last token of an action--> ACT --observation--> FEED ... END
 *
 * What the model sees, turn by turn: the observation, "\n>", then the action's tokens; or, with a chat template, the
 * observation as a message of the user and the action as the answer to it. An action ends with a token that contains a
 * newline or ends the model's turn (eos), which is sampled and a target like the others, or after max_new_tokens without
 * one; its text is what stands before. A hint is a line, or a message of the system, of its own before all else, so that what
 * follows it is exactly the episode without it. The last observation is there too, as tokens that no target follows (learners
 * trim them). The caller feeds pending tokens (runner_context) to an engine, draws from its logits (runner_token), sends the
 * action when the state is ACT, and hands in the observation (runner_observe). What is shown (an expert's or a script's
 * actions) never needs logits: the actions come with the observations and become targets without log-probs. An episode ends
 * by its environment (ok) or at the step or context limit (truncated): outcome and reward are then set.
 *
 * Context: by default the whole episode, which may then have max_context tokens. With `step` each turn has a context of its
 * own: the prefix (the hint, and what every context of the model begins with), the last `history` turns as far as they leave
 * room for the longest action, and this turn; the whole episode is kept beside it and cut into these contexts at the end
 * (segments_cut, with `prefix` and `window`). As long as the window does not move, a context goes on from the last one and
 * the engine keeps its cache; else `fed` is 0 and everything is pending. */
#ifndef PAL_ROLLOUT_RUNNER_H
#define PAL_ROLLOUT_RUNNER_H

#include "rollout/outcome.h"
#include "rollout/sampler.h"
#include "rollout/sequence.h"
#include "trainer/model/chat.h"

enum runner_state {
    RUNNER_RESET, /* waits for the first observation */
    RUNNER_FEED,  /* pending tokens to feed, then a token to draw */
    RUNNER_ACT,   /* an action to send, then waits for its observation */
    RUNNER_END,
};

#define RUNNER_ACTION_BYTES 4096 /* longest action */
#define RUNNER_TURNS_MOST   1024 /* as many as an episode's end can tell of */

struct runner_config {
    const struct tokenizer *tokenizer;
    const struct chat *chat; /* NULL: raw */
    uint32_t max_steps;
    uint32_t max_new_tokens;
    uint32_t max_context; /* tokens */
    float temperature;
    bool shown;       /* the actions are given with the observations */
    bool step;        /* a context per turn */
    uint32_t history; /* step: earlier turns in it, at most */
};

struct runner {
    struct runner_config config;
    enum runner_state state;
    struct rng rng;
    uint32_t count; /* tokens so far */
    uint32_t hint;  /* of them the hint's line, its newline included */
    uint32_t fed;   /* of the context, in the engine's cache */
    uint32_t steps; /* actions done */
    uint32_t turn;
    uint32_t action_start; /* first token of the action under way */
    uint32_t room;         /* of the arrays by token */
    int32_t *token;        /* [room], owned, as the following */
    uint8_t *target;
    uint16_t *turns;
    float *logp, *entropy;
    int32_t *version;
    uint32_t begin[RUNNER_TURNS_MOST];  /* first token of each turn so far */
    uint32_t prefix;                    /* step: leading tokens of every context, the hint first */
    uint32_t window[RUNNER_TURNS_MOST]; /* step: first earlier token that the turn's context repeats behind the prefix */
    int32_t *context;                   /* step: [max_context] the context under way */
    uint32_t context_count;
    uint32_t cut; /* step: tokens of all contexts so far */
    enum outcome outcome;
    double reward;
    struct buf action; /* text to send */
    struct buf prompt; /* the text that is made into tokens */
};

/* Allocates for max_context; a runner is used for many episodes. */
err_t runner_init(struct runner *runner, uint32_t max_context) MUST_USE;
void runner_fini(struct runner *runner);

/* Begins an episode. hint may be empty. */
err_t runner_begin(struct runner *runner, const struct runner_config *config, uint64_t seed, struct span hint) MUST_USE;
/* What the environment answered. action: the next one, where they are shown. Moves to FEED, ACT (shown) or END. */
err_t runner_observe(struct runner *runner, struct span text, double reward, bool terminated, struct span action) MUST_USE;
/* The tokens of the context under way, borrowed; returns how many. Those from `fed` on are pending. */
uint32_t runner_context(const struct runner *runner, const int32_t **ret);
/* Draws the next token from logits [vocab] that followed the pending ones; version is the policy's. Moves to FEED, ACT or
 * END. */
err_t runner_token(struct runner *runner, const float *logits, size_t vocab, float *scratch, int32_t version) MUST_USE;
/* Everything is to be fed again (other weights, an emptied cache). */
void runner_refeed(struct runner *runner);
/* At a turn boundary no token of the action under way has been drawn. */
bool runner_at_turn(const struct runner *runner);

/* The episode as a sequence of one context, whatever it was played with; borrows the runner's arrays. */
struct sequence runner_sequence(const struct runner *runner);
/* Of each turn: the mean entropy of its drawn tokens, nats (0 for a turn without), and how many tokens are targets, both
 * [turns]. They hold `room`; returns the turns written. */
size_t runner_turns(const struct runner *runner, float *entropy, float *tokens, size_t room);

#endif
