#include "services/trainer/prompts.h"

#include "rollout/angle.h"

#include <math.h>
#include <stdio.h>

err_t prompts_init(struct prompts *prompts, const struct tokenizer *tokenizer, const struct chat *chat)
{
    *prompts = (struct prompts){.on = true};
    if (!chat) {
        const int32_t *ids = tokenizer_opening(tokenizer, &prompts->opening_count);
        if (prompts->opening_count > PROMPTS_TEMPLATE)
            return err_set(ERR_too_large, "the model's prompts begin with %zu tokens", prompts->opening_count);
        if (prompts->opening_count > 0) memcpy(prompts->opening, ids, prompts->opening_count * sizeof *ids);
        return ERR_ok;
    }
    return chat_turn(chat, -1, (struct span){0}, prompts->opening, PROMPTS_TEMPLATE, &prompts->opening_count);
}

/* the prompts of one update, each measured by some worker */
struct measuring {
    const struct prompts *prompts;
    struct trainee *trainee;
    const struct episode **episodes;
    size_t count;
    double *angles; /* [count] */
    err_t *errors;  /* [count] */
    char (*texts)[ERR_TEXT_BYTES];
};

/* Tokens before the first action, in the plain context; 0 without an action. */
static uint32_t prompt_tokens(const struct episode *e)
{
    struct episode_context context = episode_context(e, 0, false);
    for (uint32_t i = context.from; i < context.to; i++) {
        if (e->target[i]) return i - context.from;
    }
    return 0;
}

static size_t template_tokens(const struct prompts *prompts, const int32_t *token, size_t count)
{
    size_t n = 0;
    while (n < prompts->opening_count && n < count && prompts->opening[n] == token[n]) n++;
    return n;
}

/* The learner gives the states that predict a token: behind a prompt stands the first token of its action. */
static err_t measure_one(const struct measuring *m, const struct episode *e, size_t worker, double *ret)
{
    const struct model *model = m->trainee->model;
    size_t width = (size_t)model->config.width;
    uint32_t n = prompt_tokens(e);
    const int32_t *token = e->token + episode_context(e, 0, false).from;
    AUTO(arena) arena = {0};
    arena_init(&arena, 0);
    uint32_t *target = arena_array(&arena, uint32_t, n);
    float *hidden = arena_array(&arena, float, n *width), *numbers = arena_array(&arena, float, 2 * (size_t)n);
    double *scratch = arena_array(&arena, double, 2 * width);
    if (!target || !hidden || !numbers || !scratch) return ERR_memory;
    for (uint32_t i = 0; i < n; i++) target[i] = i + 1;
    const uint32_t start[2] = {0, n + 1};
    const struct learner_batch batch = {
        .sequences = 1, .start = start, .tokens = token, .targets = n, .target = target, .temperature = 1};
    const struct learner_out out = {.logp = numbers, .entropy = numbers + n, .hidden = hidden};
    TRY(learner_forward(m->trainee->learner, worker, model, &batch, &out));
    struct angle angle = angle_measure(hidden, n, width, template_tokens(m->prompts, token, n), scratch);
    *ret = angle.intra + angle.inter;
    return ERR_ok;
}

static void measure(void *ctx, size_t index, size_t worker)
{
    const struct measuring *m = ctx;
    m->errors[index] = measure_one(m, m->episodes[index], worker, &m->angles[index]);
    if (m->errors[index] != ERR_ok) (void)snprintf(m->texts[index], ERR_TEXT_BYTES, "%s", err_text());
}

/* One episode with tokens of each group. */
static size_t pick(const struct intake *intake, const struct episode **ret)
{
    size_t n = 0;
    for (size_t i = 0; i < intake->count; i++) {
        const struct episode *e = &intake->episodes[i];
        bool known = n > 0 && ret[n - 1]->group == e->group;
        if (known || e->count == 0 || span_is(intake->members[i].source, "replay") || prompt_tokens(e) == 0) continue;
        ret[n++] = e;
    }
    return n;
}

err_t prompts_angle(const struct prompts *prompts, struct trainee *trainee, const struct intake *intake, double *ret)
{
    AUTO(arena) arena = {0};
    arena_init(&arena, 0);
    struct measuring m = {.prompts = prompts,
                          .trainee = trainee,
                          .episodes = arena_array(&arena, const struct episode *, intake->count + 1),
                          .angles = arena_array(&arena, double, intake->count + 1),
                          .errors = arena_array(&arena, err_t, intake->count + 1),
                          .texts = arena_take(&arena, intake->count + 1, ERR_TEXT_BYTES)};
    if (!m.episodes || !m.angles || !m.errors || !m.texts) return ERR_memory;
    double sum = 0;
    *ret = (double)NAN;
    m.count = pick(intake, m.episodes);
    pool_run(trainee->pool, m.count, false, measure, &m);
    for (size_t i = 0; i < m.count; i++) {
        if (m.errors[i] != ERR_ok) return err_set(m.errors[i], "%s", m.texts[i]);
        sum += m.angles[i];
    }
    if (m.count > 0) *ret = sum / (double)m.count;
    return ERR_ok;
}
