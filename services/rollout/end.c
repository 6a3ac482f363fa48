/* Ends of episodes, played, measured or failed: into the outbox, and the seat is free. */
#include "rollout/segments.h"
#include "services/common/run/log.h"
#include "services/common/run/payload.h"
#include "services/rollout/rollout.h"

static struct wire_episode_done end_of(const struct seat *seat, enum outcome outcome)
{
    return (struct wire_episode_done){.episode = seat->episode,
                                      .attempt = seat->attempt,
                                      .token = seat->token,
                                      .outcome = span_text(outcome_name(outcome)),
                                      .version_min = -1,
                                      .version_max = -1,
                                      .engine_ms = seat->engine_ms,
                                      .env_ms = seat->env_ms};
}

void end_failed(struct rollout *rollout, struct seat *seat, enum outcome outcome, const char *error)
{
    rollout->counters.failures[outcome]++;
    struct wire_episode_done done = end_of(seat, outcome);
    done.error = span_text(error);
    done.engine_ms = done.env_ms = 0;
    if (done.error.size > 512) done.error.size = 512;
    err_t err = outbox_add(&rollout->outbox, &done);
    if (err != ERR_ok) log_err(LOG_LEVEL_ERROR, err, "an episode's end is lost; its lease will run out");
    seats_leave(rollout, seat);
}

err_t end_sequence(const struct seat *seat, struct arena *arena, struct sequence *ret)
{
    const struct runner *runner = &seat->runner;
    *ret = runner_sequence(runner);
    const struct sequence whole = *ret;
    return runner->config.step ? segments_cut(&whole, runner->prefix, runner->window, arena, ret) : ERR_ok;
}

/* Counts of a sequence, and its bytes, which `packed` holds. */
static err_t put_sequence(const struct sequence *sequence, struct buf *packed, struct wire_episode_done *done)
{
    AUTO(buf) raw = {0};
    TRY(sequence_encode(sequence, &raw));
    TRY(payload_pack(buf_span(&raw), packed));
    done->payload = buf_span(packed);
    done->payload_raw = raw.size;
    for (uint32_t i = 0; i < sequence->count; i++) {
        if (!sequence->target[i]) {
            done->prompt_tokens++;
            continue;
        }
        done->action_tokens++;
        int64_t version = sequence->version[i];
        if (version < 0) continue;
        if (done->version_min < 0 || version < done->version_min) done->version_min = version;
        if (version > done->version_max) done->version_max = version;
    }
    return ERR_ok;
}

static void count(struct rollout *rollout, const struct seat *seat, const struct wire_episode_done *done)
{
    struct rollout_counters *n = &rollout->counters;
    n->episodes += seat->player != PLAYER_NONE;
    n->demonstrations += seat->player == PLAYER_EXPERT;
    n->imports += seat->player == PLAYER_SCRIPT;
    n->scores += seat->player == PLAYER_NONE;
    n->judged += done->judged;
    n->steps += done->steps;
    n->prompt_tokens += done->prompt_tokens;
    n->action_tokens += done->action_tokens;
}

static err_t hand_in(struct rollout *rollout, struct seat *seat)
{
    const struct runner *runner = &seat->runner;
    float entropies[RUNNER_TURNS_MOST], tokens[RUNNER_TURNS_MOST];
    const struct wire_counter verdict = {span_text("score"), seat->verdict_score};
    struct sequence sequence;
    AUTO(arena) arena = {0};
    AUTO(buf) packed = {0};
    struct wire_episode_done done = end_of(seat, runner->outcome);
    done.reward = runner->reward;
    done.steps = runner->steps;
    TRY(end_sequence(seat, &arena, &sequence));
    TRY(put_sequence(&sequence, &packed, &done));
    if (sequence.sampled) {
        done.turn_entropy = (struct wire_f32s){entropies, runner_turns(runner, entropies, tokens, RUNNER_TURNS_MOST)};
        done.turn_tokens = (struct wire_f32s){tokens, done.turn_entropy.n};
    }
    if (seat->state == SEAT_JUDGE) {
        done.judged = true;
        done.verified = runner->reward;
        done.reward = seat->verdict_score >= JUDGE_SOLVED;
        done.scores = &verdict;
        done.scores_count = 1;
    }
    count(rollout, seat, &done);
    return outbox_add(&rollout->outbox, &done);
}

void end_played(struct rollout *rollout, struct seat *seat)
{
    err_t err = hand_in(rollout, seat);
    if (err == ERR_ok) {
        seats_leave(rollout, seat);
        return;
    }
    log_err(LOG_LEVEL_ERROR, err, "handing in an episode");
    end_failed(rollout, seat, OUTCOME_engine_error, "its sequence could not be packed");
}

void end_measured(struct rollout *rollout, struct seat *seat, const struct sequence *sequence,
                  const struct wire_counter *scores, size_t scores_count)
{
    AUTO(buf) packed = {0};
    struct wire_episode_done done = end_of(seat, OUTCOME_ok);
    done.scores = scores;
    done.scores_count = scores_count;
    err_t err = sequence ? put_sequence(sequence, &packed, &done) : ERR_ok;
    if (err == ERR_ok) err = outbox_add(&rollout->outbox, &done);
    if (err != ERR_ok) {
        end_failed(rollout, seat, OUTCOME_engine_error, err_text());
        return;
    }
    count(rollout, seat, &done);
    seats_leave(rollout, seat);
}
