/* The JSON lines spoken with an environment that is a program of its own (examples/environments/README.md).
 *
 * One JSON object a line, one reply to each request, nothing unasked. Requests:
 *   {"op":"reset","task":{...},"seed":7,"expert":false}           with an expert also "noise":0.5,"noise_seed":9;
 *                                                                 where a hint is wanted, "hint":true
 *   {"op":"step","action":"go north"}
 *   {"op":"close"}
 * Replies: {"text":"...","reward":0,"terminated":false,"expert":"...","hint":"..."}, all but text optional, or
 * {"error":"..."}. Keys that begin with "_" are comments; any other key is a mistake that is named, because a misspelt
 * "terminated" would otherwise be an episode that never ends. Seeds keep 53 bits, so that every JSON reader holds them. */
#ifndef PAL_ENV_PROCESS_CODEC_H
#define PAL_ENV_PROCESS_CODEC_H

#include "services/common/base/arena.h"
#include "services/common/base/buf.h"

#define PROCESS_LINE_BYTES   65536 /* longest reply, newline not counted */
#define PROCESS_EXPERT_BYTES 4096  /* longest suggested action and longest hint */

struct process_reset {
    struct span task_text; /* a JSON object */
    uint64_t seed;
    bool expert; /* asks for the expert's next action in every reply */
    bool hint;   /* asks for a hint in the first reply */
    double noise;
    uint64_t noise_seed;
};

struct process_reply {
    struct span error; /* of an error reply; everything else is then empty */
    struct span text;
    double reward; /* finite */
    bool terminated;
    struct span expert, hint; /* empty when not given */
};

/* Append one line with its newline. ERR_malformed when the task is no JSON object. Bytes of an action that are not UTF-8
 * become question marks. */
err_t process_write_reset(const struct process_reset *reset, struct buf *out) MUST_USE;
err_t process_write_step(struct span action, struct buf *out) MUST_USE;
err_t process_write_close(struct buf *out) MUST_USE;

/* Reads a reply without its newline; texts live in the arena. ERR_malformed says what is wrong, ERR_too_large past a limit.
 */
err_t process_read_reply(struct span line, struct arena *arena, struct process_reply *ret) MUST_USE;

#endif
