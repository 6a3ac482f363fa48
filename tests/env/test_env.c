/* LABELS: unit
 * env: every built-in environment keeps the contract: the same task and actions give the same texts, the expert solves
 * everything, tasks are many and different, mutants are solvable, broken tasks are refused. Prints how hard the levels are.
 */
#include "env/env.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) /* several times slower */
#define SEEDS 100
#define MANY  500
#else
#define SEEDS 300
#define MANY  2000
#endif

struct play {
    int steps;
    double reward;
    uint64_t trace; /* of every text seen */
    size_t tokens;
};

static void *state_new(const struct env_class *env)
{
    size_t size = (env->state_bytes + 63) & ~(size_t)63;
    void *state = aligned_alloc(64, size);
    ck_assert_ptr_nonnull(state);
    memset(state, 0, size);
    return state;
}

/* Printable, and every word of it known to the tokenizer. */
static void check_text(const struct env_class *env, const char *text, bool all_words)
{
    for (const char *c = text; *c;) {
        size_t letters = strspn(c, "abcdefghijklmnopqrstuvwxyz");
        bool known = letters < 2;
        for (const char *const *word = env->words; !known && *word; word++)
            known = strlen(*word) == letters && strncmp(*word, c, letters) == 0;
        ck_assert_msg(known || !all_words, "unknown word in: %s", text);
        c += letters ? letters : 1;
    }
    size_t n = strlen(text);
    for (size_t i = 0; i < n; i++) ck_assert_msg(text[i] == '\n' || (text[i] >= 0x20 && text[i] < 0x7f), "byte in: %s", text);
    ck_assert(n == 0 || text[n - 1] != '\n');
}

/* What the presets' tokenizer would count: greedy longest match of words with or without a space before, else bytes. */
static size_t tokens(const struct env_class *env, const char *text)
{
    size_t count = 0;
    for (size_t at = 0, n = strlen(text); at < n; count++) {
        size_t longest = 1;
        for (const char *const *word = env->words; *word; word++) {
            size_t size = strlen(*word), space = text[at] == ' ';
            if (size + space > longest && strncmp(text + at + space, *word, size) == 0) longest = size + space;
        }
        at += longest;
    }
    return count;
}

static uint64_t fold(uint64_t trace, const char *text)
{
    for (; *text; text++) trace = rng_mix(trace, (uint64_t)(unsigned char)*text);
    return trace;
}

/* Plays the expert, or with noise 1 a random agent, to the end or the step limit. */
static struct play play(const struct env_class *env, const char *task, double noise, uint64_t seed)
{
    struct play play = {0};
    struct env_obs obs;
    struct rng rng;
    void *state = state_new(env);
    rng_init(&rng, seed, 9);
    ck_assert_msg(env->reset(state, span_text(task), seed, &obs) == ERR_ok, "%s: %s", task, err_text());
    check_text(env, obs.text, true);
    play.tokens = tokens(env, obs.text) + 1;
    while (!obs.terminated && play.steps < env->max_steps) {
        char action[ENV_ACTION_BYTES];
        env->expert(state, noise, &rng, action);
        ck_assert_int_eq(env->step(state, span_text(action), &obs), ERR_ok);
        check_text(env, obs.text, true);
        check_text(env, action, true);
        play.steps++;
        play.trace = fold(fold(play.trace, action), obs.text);
        play.tokens += tokens(env, action) + tokens(env, obs.text) + 2;
    }
    if (obs.terminated) ck_assert_int_eq(env->step(state, span_text("go north"), &obs), ERR_conflict);
    play.reward = obs.terminated ? obs.reward : 0;
    ck_assert(play.reward <= 0 || play.reward >= 1);
    free(state);
    return play;
}

static const struct env_class *env_of(int i)
{
    const struct env_class *env = env_at((size_t)i);
    ck_assert_ptr_nonnull(env);
    ck_assert_ptr_eq(env_find(env->name), env);
    return env;
}

START_TEST(expert_solves_and_repeats)
{
    const struct env_class *env = env_of(_i);
    for (int32_t level = 1; level <= env->levels; level++) {
        double rate[2] = {0}, steps = 0, count = 0;
        int longest = 0;
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            struct env_task task;
            ck_assert_int_eq(env->generate(level, seed, NULL, &task), ERR_ok);
            struct play sure = play(env, task.text, 0, seed), again = play(env, task.text, 0, seed);
            ck_assert_msg(sure.reward >= 1, "%s level %d seed %d", env->name, level, (int)seed);
            ck_assert_uint_eq(sure.trace, again.trace);
            struct play noisy = play(env, task.text, .5, seed);
            ck_assert_uint_eq(noisy.trace, play(env, task.text, .5, seed).trace);
            rate[0] += noisy.reward / SEEDS;
            rate[1] += play(env, task.text, 1, seed).reward / SEEDS;
            steps += sure.steps / (double)SEEDS;
            count += (double)sure.tokens / SEEDS;
            if (sure.steps > longest) longest = sure.steps;
        }
        printf("%-10s level %d: expert %4.1f steps (longest %2d, limit %d) %5.1f tokens, noise .5 %.2f, random %.2f\n",
               env->name, level, steps, longest, env->max_steps, count, rate[0], rate[1]);
        bool secret = strcmp(env->name, "webform") == 0 && level == 4;
        if (secret) ck_assert_double_lt(rate[1], .01);
        if (strcmp(env->name, "adventure") == 0 && level <= 2) ck_assert_double_le(count, 70);
    }
}
END_TEST

static int compare_digests(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct digest));
}

/* Tasks that look the same are the same: enough different ones for training and hold-out. */
START_TEST(tasks_are_many)
{
    const struct env_class *env = env_of(_i);
    struct digest *seen = calloc(MANY, sizeof *seen);
    void *state = state_new(env);
    for (int32_t level = 1; level <= env->levels; level++) {
        size_t distinct = 1;
        for (uint64_t seed = 0; seed < MANY; seed++) {
            struct env_task task;
            struct env_obs obs;
            ck_assert_int_eq(env->generate(level, seed, NULL, &task), ERR_ok);
            ck_assert_int_eq(env->reset(state, span_text(task.text), 1, &obs), ERR_ok);
            ck_assert_int_eq(env->digest(state, &seen[seed]), ERR_ok);
            /* the digest is of the start, whatever was done since */
            struct digest later;
            struct rng rng;
            char action[ENV_ACTION_BYTES];
            rng_init(&rng, seed, 1);
            env->expert(state, 1, &rng, action);
            ck_assert_int_eq(env->step(state, span_text(action), &obs), ERR_ok);
            ck_assert_int_eq(env->digest(state, &later), ERR_ok);
            ck_assert_str_eq(later.hex, seen[seed].hex);
        }
        qsort(seen, MANY, sizeof *seen, compare_digests);
        for (size_t i = 1; i < MANY; i++) distinct += compare_digests(&seen[i - 1], &seen[i]) != 0;
        printf("%-10s level %d: %zu different starts of %d seeds\n", env->name, level, distinct, MANY);
        /* one field, 12 labels, 32 values, 3 buttons, 2 orders: 2,304 at most */
        bool small = strcmp(env->name, "webform") == 0 && level == 1;
        ck_assert_uint_ge(distinct, small ? MANY * 6 / 10 : MANY * 3 / 4);
    }
    free(state);
    free(seen);
}
END_TEST

/* What a mutant must be: of a level beside, of the same kind, another task, and solvable. */
static void check_mutant(const struct env_class *env, const struct env_task *from, enum env_mutation kind,
                         const struct env_task *to, const char *variant)
{
    ck_assert_int_le(abs(to->level - from->level), 1);
    ck_assert_int_ge(to->level, kind == ENV_MUTATION_EASIER ? 1 : from->level);
    ck_assert_int_le(to->level, kind == ENV_MUTATION_EASIER ? from->level : env->levels);
    if (kind == ENV_MUTATION_VARIED) ck_assert_int_eq(to->level, from->level);
    ck_assert_str_ne(to->text, from->text);
    ck_assert(!variant || strstr(to->text, variant) != NULL);
    ck_assert_double_ge(play(env, to->text, 0, to->seed).reward, 1);
}

/* Every kind, from every level and variant, over generations: a lineage of tasks may grow as long as the phases do. */
START_TEST(mutants_are_solvable)
{
    const struct env_class *env = env_of(_i);
    const char *const variants[] = {NULL, strcmp(env->name, "webform") == 0 ? "random-secret" : NULL};
    for (size_t v = 0; v < (variants[1] ? 2 : 1); v++) {
        for (int32_t level = 1; level <= env->levels; level++) {
            for (uint64_t seed = 0; seed < 40; seed++) {
                struct env_task from, to, again;
                ck_assert_int_eq(env->generate(level, seed, variants[v], &from), ERR_ok);
                for (int generation = 0; generation < 6; generation++) {
                    enum env_mutation kind = (enum env_mutation)((seed + (uint64_t)generation) % 3);
                    ck_assert_int_eq(env->mutate(&from, kind, seed, &to), ERR_ok);
                    ck_assert_int_eq(env->mutate(&from, kind, seed, &again), ERR_ok);
                    ck_assert_str_eq(to.text, again.text); /* the same from the same seed */
                    check_mutant(env, &from, kind, &to, variants[v]);
                    ck_assert_int_eq(env->mutate(&from, kind, seed + 1000, &again), ERR_ok);
                    ck_assert_str_ne(to.text, again.text); /* another from another */
                    from = to;
                }
            }
        }
    }
    struct env_task task = {.text = "{}"};
    ck_assert_int_eq(env->mutate(&task, ENV_MUTATION_VARIED, 1, &task), ERR_malformed);
    ck_assert_int_eq(env->generate(0, 1, NULL, &task), ERR_invalid);
    ck_assert_int_eq(env->generate(env->levels + 1, 1, NULL, &task), ERR_invalid);
    ck_assert_int_eq(env->generate(1, 1, "none", &task), ERR_invalid);
}
END_TEST

/* harder and easier lead from the first ordinary level to the last and back */
START_TEST(mutation_walks_the_levels)
{
    const struct env_class *env = env_of(_i);
    int32_t last = strcmp(env->name, "webform") == 0 ? 3 : env->levels; /* the secret is a kind of its own */
    struct env_task task;
    ck_assert_int_eq(env->generate(1, 5, NULL, &task), ERR_ok);
    for (int32_t level = 1; level <= last + 1; level++) {
        ck_assert_int_eq(task.level, level < last ? level : last);
        ck_assert_int_eq(env->mutate(&task, ENV_MUTATION_HARDER, 1, &task), ERR_ok);
    }
    for (int32_t level = last; level >= 0; level--) {
        ck_assert_int_eq(task.level, level > 1 ? level : 1);
        ck_assert_int_eq(env->mutate(&task, ENV_MUTATION_EASIER, 2, &task), ERR_ok);
    }
    for (int kind = ENV_MUTATION_HARDER; last < env->levels && kind <= ENV_MUTATION_VARIED; kind++) {
        ck_assert_int_eq(env->generate(env->levels, 5, NULL, &task), ERR_ok);
        ck_assert_int_eq(env->mutate(&task, (enum env_mutation)kind, 3, &task), ERR_ok);
        ck_assert_int_eq(task.level, env->levels);
    }
}
END_TEST

/* ---- webform, level 4 ---- */

/* Resets and does what the phrase says; the reward. */
static double submit_phrase(const char *task, uint64_t episode_seed, const char *phrase)
{
    const struct env_class *env = env_find("webform");
    struct env_obs obs;
    char action[ENV_ACTION_BYTES];
    void *state = state_new(env);
    ck_assert_int_eq(env->reset(state, span_text(task), episode_seed, &obs), ERR_ok);
    ck_assert_msg(strstr(obs.text, phrase) == NULL, "the page tells: %s", obs.text);
    (void)snprintf(action, sizeof action, "type 1 %s", phrase);
    ck_assert_int_eq(env->step(state, span_text(action), &obs), ERR_ok);
    ck_assert_int_eq(env->step(state, span_text("submit"), &obs), ERR_ok);
    ck_assert(obs.terminated);
    free(state);
    return obs.reward;
}

/* The phrase that the hint tells, and the shop that the page names. */
static void read_secret(const char *task, uint64_t episode_seed, char *phrase, char *shop)
{
    const struct env_class *env = env_find("webform");
    struct env_obs obs;
    char hint[ENV_HINT_BYTES];
    void *state = state_new(env);
    ck_assert_int_eq(env->reset(state, span_text(task), episode_seed, &obs), ERR_ok);
    env->hint(state, hint);
    free(state);
    ck_assert(strncmp(hint, "phrase ", 7) == 0);
    (void)snprintf(phrase, 64, "%.63s", hint + 7);
    (void)snprintf(shop, 64, "%.*s", (int)strcspn(obs.text, " "), obs.text);
}

/* A shop has one phrase for all its tasks and episodes: only a hint tells it, and it can be learned. */
START_TEST(a_shop_keeps_its_phrase)
{
    enum { SHOPS = 4, TASKS = 200 };
    char shops[SHOPS][64], phrases[SHOPS][64], phrase[64], shop[64];
    size_t count = 0;
    for (uint64_t seed = 0; seed < TASKS; seed++) {
        struct env_task task;
        ck_assert_int_eq(env_find("webform")->generate(4, seed, NULL, &task), ERR_ok);
        read_secret(task.text, seed, phrase, shop);
        size_t i = 0;
        while (i < count && strcmp(shops[i], shop) != 0) i++;
        if (i == count) {
            ck_assert_uint_lt(count, SHOPS);
            (void)snprintf(shops[count], 64, "%s", shop);
            (void)snprintf(phrases[count++], 64, "%s", phrase);
        }
        ck_assert_str_eq(phrases[i], phrase);
        ck_assert_double_eq(submit_phrase(task.text, seed + 1, phrase), 1);
        for (size_t k = 0; k < count; k++) {
            if (k != i) ck_assert_double_eq(submit_phrase(task.text, seed, phrases[k]), 0);
        }
    }
    ck_assert_uint_eq(count, SHOPS);
}
END_TEST

/* With random-secret the phrase is the episode's: the same task told another one before, so nothing can be learned of it. */
START_TEST(a_random_secret_is_of_its_episode)
{
    enum { EPISODES = 300 };
    struct env_task task;
    char phrase[64], before[64] = "", shop[64];
    size_t same = 0;
    ck_assert_int_eq(env_find("webform")->generate(4, 3, "random-secret", &task), ERR_ok);
    for (uint64_t seed = 0; seed < EPISODES; seed++) {
        read_secret(task.text, seed, phrase, shop);
        ck_assert_double_eq(submit_phrase(task.text, seed, phrase), 1);
        if (strcmp(before, phrase) == 0)
            same++;
        else if (before[0])
            ck_assert_double_eq(submit_phrase(task.text, seed, before), 0);
        (void)snprintf(before, sizeof before, "%s", phrase);
    }
    ck_assert_uint_le(same, 2); /* one in 4,096 */
}
END_TEST

START_TEST(broken_tasks_are_refused)
{
    static const struct {
        const char *text, *names;
    } bad[] = {
        {"", "task"},
        {"{}", "task"},
        {"[1]", "task"},
        {"{\"level\":1}", "seed"},
        {"{\"seed\":1}", "level"},
        {"{\"level\":0,\"seed\":1}", "level"},
        {"{\"level\":99,\"seed\":1}", "level"},
        {"{\"level\":\"1\",\"seed\":1}", "level"},
        {"{\"level\":1.5,\"seed\":1}", "task"},
        {"{\"level\":1,\"seed\":-1}", "seed"},
        {"{\"level\":1,\"seed\":9007199254740992}", "seed"},
        {"{\"level\":1,\"seed\":18446744073709551617}", "seed"},
        {"{\"level\":1,\"level\":1,\"seed\":1}", "level"},
        {"{\"level\":1,\"seed\":1,\"size\":3}", "size"},
        {"{\"level\":1,\"seed\":1,\"variant\":\"none\"}", "variant"},
        {"{\"level\":1,\"seed\":1,\"variant\":null}", "variant"},
        {"{\"level\":1,\"seed\":1} x", "task"},
        {"{\"level\":1,\"seed\":1,}", "task"},
    };
    const struct env_class *env = env_of(_i);
    void *state = state_new(env);
    struct env_obs obs;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_msg(env->reset(state, span_text(bad[i].text), 1, &obs) == ERR_malformed, "took %s", bad[i].text);
        ck_assert_msg(strncmp(err_text(), bad[i].names, strlen(bad[i].names)) == 0, "%s: %s", bad[i].text, err_text());
    }
    ck_assert_int_eq(env->reset(state, span_text(" { \"seed\" : 1 , \"level\" : 1 } "), 1, &obs), ERR_ok);

    struct env_task task;
    ck_assert_int_eq(env->generate(1, 12345, NULL, &task), ERR_ok);
    for (size_t n = 0; n < strlen(task.text); n++)
        ck_assert_int_eq(env->reset(state, span_of(task.text, n), 1, &obs), ERR_malformed);
    free(state);
}
END_TEST

/* Random bytes as tasks and actions: refused or answered, never a crash. */
START_TEST(noise_is_survived)
{
    const struct env_class *env = env_of(_i);
    void *state = state_new(env);
    struct rng rng;
    struct env_obs obs;
    struct env_task task;
    rng_init(&rng, 1, 1);
    ck_assert_int_eq(env->generate(2, 5, NULL, &task), ERR_ok);
    size_t size = strlen(task.text);
    for (int i = 0; i < 4000; i++) {
        char text[ENV_TASK_BYTES];
        memcpy(text, task.text, size);
        for (uint32_t k = 1 + rng_below(&rng, 3); k; k--) text[rng_below(&rng, (uint32_t)size)] = (char)rng_below(&rng, 256);
        err_t err = env->reset(state, span_of(text, size), 1, &obs);
        ck_assert(err == ERR_ok || err == ERR_malformed);
    }
    ck_assert_int_eq(env->reset(state, span_text(task.text), 1, &obs), ERR_ok);
    for (int i = 0; i < 4000; i++) {
        static const char *const verbs[] = {"", "go ", "type 1 ", "type ", "click ", "take ", "open "};
        char action[ENV_ACTION_BYTES] = "";
        uint8_t noise[200];
        for (size_t k = 0; k < sizeof noise; k++) noise[k] = (uint8_t)rng_below(&rng, 256);
        const char *verb = verbs[rng_below(&rng, 7)];
        size_t n = strlen(verb), more = rng_below(&rng, sizeof noise);
        memcpy(action, verb, n);
        memcpy(action + n, noise, more);
        ck_assert_int_eq(env->step(state, span_of(action, n + more), &obs), ERR_ok);
        check_text(env, obs.text, false);
        if (obs.terminated) ck_assert_int_eq(env->reset(state, span_text(task.text), 1, &obs), ERR_ok);
    }
    free(state);
}
END_TEST

/* Words are what the tokenizer must know: printable, different, more than one byte, and the texts are made of them. */
START_TEST(words_are_sound)
{
    const struct env_class *env = env_of(_i);
    for (size_t i = 0; env->words[i]; i++) {
        ck_assert_uint_ge(strlen(env->words[i]), 2);
        ck_assert_uint_le(strlen(env->words[i]), 32);
        for (size_t k = 0; k < i; k++) ck_assert_str_ne(env->words[i], env->words[k]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("env");
    TCase *tcase = tcase_create("env");
    tcase_set_timeout(tcase, 120);
    int count = (int)env_count();
    tcase_add_loop_test(tcase, expert_solves_and_repeats, 0, count);
    tcase_add_loop_test(tcase, tasks_are_many, 0, count);
    tcase_add_loop_test(tcase, mutants_are_solvable, 0, count);
    tcase_add_loop_test(tcase, mutation_walks_the_levels, 0, count);
    tcase_add_test(tcase, a_shop_keeps_its_phrase);
    tcase_add_test(tcase, a_random_secret_is_of_its_episode);
    tcase_add_loop_test(tcase, broken_tasks_are_refused, 0, count);
    tcase_add_loop_test(tcase, noise_is_survived, 0, count);
    tcase_add_loop_test(tcase, words_are_sound, 0, count);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
