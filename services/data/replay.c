/* WebRL: successes of earlier phases that are trained on again (curation/replay.h), and what the outcome reward model learns
 * from at the end of a phase. */
#include "curation/replay.h"

#include "services/common/base/rng.h"
#include "services/common/handout/handout.h"
#include "services/data/data.h"

#include <stdlib.h>

#define METHOD "replay"

err_t replay_load(struct data *data)
{
    struct plan *plan = data->plan;
    struct phase *phase = &plan->phase;
    struct store_replay *rows = NULL;
    size_t count = 0;
    free(phase->replays);
    phase->replays = NULL;
    phase->replay_count = 0;
    if (!plan->spec.webrl.replay || phase->now < 1) return ERR_ok;
    TRY(store_phase_replays(data->store, plan->job, (int64_t)phase->now, &data->arena, &rows, &count));
    phase->replays = malloc((count + 1) * sizeof *rows);
    if (!phase->replays) return err_set(ERR_memory, "%zu episodes to replay", count);
    memcpy(phase->replays, rows, count * sizeof *rows);
    phase->replay_count = count;
    return ERR_ok;
}

/* ---- measuring ---- */

err_t replay_measure(struct data *data, bool *ret_done)
{
    struct plan *plan = data->plan;
    struct phase *phase = &plan->phase;
    struct store_success *successes = NULL;
    size_t count = 0;
    if (plan->spec.webrl.replay && !phase->replays_asked) {
        int64_t next = (int64_t)phase->now + 1;
        TRY(store_phase_successes(data->store, plan->job, next, judge_by_value(&plan->spec), &data->arena, &successes,
                                  &count));
        for (size_t i = 0; i < count; i++) {
            phase->measuring++;
            TRY(score_plan(data, (size_t)successes[i].task, successes[i].episode, plan->published, next));
        }
        phase->replays_asked = true;
    }
    *ret_done = phase->measuring == 0;
    return ERR_ok;
}

static struct replay_config config_of(const struct plan *plan)
{
    const struct job_webrl *spec = &plan->spec.webrl;
    return (struct replay_config){
        .low = spec->replay_low, .high = spec->replay_high, .cap = spec->replay_cap, .updates_left = 1};
}

err_t replay_measured(struct data *data, const struct group *group, double perplexity)
{
    struct plan *plan = data->plan;
    const struct replay_config config = config_of(plan);
    const struct replay_candidate candidate = {.episode = group->of_episode, .perplexity = perplexity};
    if (plan->phase.measuring > 0) plan->phase.measuring--;
    const struct method_number inputs[] = {{"perplexity", perplexity},
                                           {"low", config.low},
                                           {"high", config.high},
                                           {"version", (double)group->pin_version},
                                           {"phase", (double)group->phase}};
    return finish_decide(data, "episode", group->of_episode, METHOD,
                         replay_eligible(&config, &candidate) ? "in_band" : "outside",
                         method_json(&data->arena, inputs, sizeof inputs / sizeof *inputs));
}

/* ---- into a batch ---- */

static void *grown(struct arena *arena, const void *from, size_t count, size_t more, size_t size)
{
    void *to = arena_take(arena, count + more + 1, size);
    if (to && count) memcpy(to, from, count * size);
    return to;
}

/* Room for so many more members. */
static err_t make_room(struct arena *arena, struct store_batch *b, struct wire_batch_member **members, size_t more)
{
    size_t n = b->episode_count;
    b->episodes = grown(arena, b->episodes, n, more, sizeof *b->episodes);
    b->pass = grown(arena, b->pass, n, more, sizeof *b->pass);
    b->advantage = grown(arena, b->advantage, n, more, sizeof *b->advantage);
    b->source = grown(arena, b->source, n, more, sizeof *b->source);
    b->member_group = grown(arena, b->member_group, n, more, sizeof *b->member_group);
    if (b->dropped) b->dropped = grown(arena, b->dropped, n, more, sizeof *b->dropped);
    *members = grown(arena, *members, n, more, sizeof **members);
    return b->episodes && b->pass && b->advantage && b->source && b->member_group && *members ? ERR_ok : ERR_memory;
}

static void add(const struct plan *plan, const struct store_replay *from, int64_t pass, struct store_batch *b,
                struct wire_batch_member *members)
{
    size_t n = b->episode_count++;
    bool by_value = judge_by_value(&plan->spec);
    b->episodes[n] = from->episode;
    b->pass[n] = pass;
    b->advantage[n] = by_value ? 0 : from->advantage;
    b->source[n] = "replay";
    b->member_group[n] = from->group;
    b->norm_tokens += from->action_tokens;
    members[n] = (struct wire_batch_member){
        .episode = (uint64_t)from->episode,
        .group = (uint64_t)from->group,
        .advantage = b->advantage[n],
        .signal = true,
        .action_tokens = (uint64_t)from->action_tokens,
        .pass = (uint64_t)pass,
        .age = from->version_min < 0 ? 0 : plan->version - from->version_min,
        .source = span_text("replay"),
        .reward = from->reward,
        .turns = (uint64_t)from->turns,
    };
}

static err_t choose(struct data *data, const struct store_batch *batch, size_t *ret, size_t *ret_count)
{
    const struct plan *plan = data->plan;
    const struct phase *phase = &plan->phase;
    struct replay_candidate *candidates = arena_array(&data->arena, struct replay_candidate, phase->replay_count + 1);
    if (!candidates) return ERR_memory;
    for (size_t i = 0; i < phase->replay_count; i++) {
        const struct store_replay *r = &phase->replays[i];
        candidates[i] = (struct replay_candidate){r->episode, r->perplexity, r->uses, r->action_tokens};
    }
    struct replay_config config = config_of(plan);
    config.most_tokens = plan->spec.webrl.replay_most * (double)batch->norm_tokens;
    config.updates_left = phase_last(batch->phase, plan->spec.webrl.phase_updates) - batch->update + 1;
    return replay_choose(&config, candidates, phase->replay_count,
                         rng_mix((uint64_t)plan->spec.seed ^ 0x7265706cU, (uint64_t)batch->update), ret, ret_count);
}

err_t replay_pack(struct data *data, struct store_batch *batch, struct wire_batch_member **members)
{
    struct plan *plan = data->plan;
    struct phase *phase = &plan->phase;
    size_t count = 0;
    plan->replayed = 0;
    plan->replayed_update = batch->update;
    if (phase->replay_count == 0 || batch->update < 1 || batch->passes == 0 || batch->phase != (int64_t)phase->now)
        return ERR_ok;
    size_t *chosen = arena_array(&data->arena, size_t, phase->replay_count);
    int64_t *episodes = arena_array(&data->arena, int64_t, 2 * phase->replay_count);
    if (!chosen || !episodes) return ERR_memory;
    TRY(choose(data, batch, chosen, &count));
    if (count == 0) return ERR_ok;
    int64_t *passes = episodes + count, before = batch->norm_tokens;
    for (size_t i = 0; i < count; i++) episodes[i] = phase->replays[chosen[i]].episode;
    TRY(store_batch_passes(data->store, plan->job, episodes, count, passes));
    TRY(make_room(&data->arena, batch, members, count));
    for (size_t i = 0; i < count; i++) {
        add(plan, &phase->replays[chosen[i]], passes[i], batch, *members);
        phase->replays[chosen[i]].uses++;
    }
    plan->replayed = count;
    const struct method_number inputs[] = {{"episodes", (double)count},
                                           {"tokens", (double)(batch->norm_tokens - before)},
                                           {"new_tokens", (double)before},
                                           {"phase", phase->now}};
    return finish_decide(data, "update", batch->update, METHOD, "replayed", method_json(&data->arena, inputs, 4));
}

/* ---- the outcome reward model ---- */

err_t replay_judge(struct data *data, struct store_batch *batch)
{
    const struct job_webrl *spec = &data->plan->spec.webrl;
    if (!spec->on || spec->orm == JOB_ORM_OFF || !batch->phase_end) return ERR_ok;
    return store_phase_verified(data->store, data->plan->job, batch->update, spec->orm_episodes, &data->arena, &batch->judged,
                                &batch->judged_count);
}

err_t replay_judged(struct data *data, const struct store_batch *batch, struct wire_judged **ret)
{
    return handout_judged(data->store, data->plan->job, &data->plan->spec, batch, &data->arena, ret);
}
