/* LABELS: unit
 * runner: an episode with a scripted environment and a scripted engine, each way it can end; which tokens are targets. */
#include "rollout/runner.h"
#include "tests/trainer/model/golden.h"

#include <check.h>
#include <stdlib.h>

#define CONTEXT 64
#define VOCAB   256

static struct tokenizer *tokenizer;
static struct runner runner;

static void setup(void)
{
    ck_assert_int_eq(tokenizer_new_words(&tokenizer, NULL, 0), ERR_ok);
    ck_assert_int_le(tokenizer_vocab(tokenizer), VOCAB);
    ck_assert_int_eq(runner_init(&runner, CONTEXT), ERR_ok);
}

static void teardown(void)
{
    runner_fini(&runner);
    tokenizer_free(&tokenizer);
}

static struct runner_config config_of(uint32_t steps, uint32_t tokens, bool expert)
{
    return (struct runner_config){.tokenizer = tokenizer,
                                  .max_steps = steps,
                                  .max_new_tokens = tokens,
                                  .max_context = CONTEXT,
                                  .temperature = 1.0f,
                                  .shown = expert};
}

/* the engine says this text, token by token, each surely */
static void say(const char *text, int32_t version)
{
    int32_t ids[CONTEXT];
    size_t count = 0;
    ck_assert_int_eq(tokenizer_encode(tokenizer, span_text(text), ids, CONTEXT, &count), ERR_ok);
    for (size_t i = 0; i < count && runner.state == RUNNER_FEED; i++) {
        float logits[VOCAB] = {0}, scratch[VOCAB];
        logits[ids[i]] = 100;
        ck_assert_int_eq(runner_token(&runner, logits, (size_t)tokenizer_vocab(tokenizer), scratch, version), ERR_ok);
    }
}

static void see(const char *text, double reward, bool terminated)
{
    ck_assert_int_eq(runner_observe(&runner, span_text(text), reward, terminated, (struct span){0}), ERR_ok);
}

static void assert_text(const char *wanted)
{
    AUTO(buf) text = {0};
    ck_assert_int_eq(tokenizer_decode(tokenizer, runner.token, runner.count, &text), ERR_ok);
    ck_assert_str_eq(buf_chars(&text), wanted);
}

START_TEST(an_episode_ends_by_its_environment)
{
    struct runner_config config = config_of(9, 8, false);
    ck_assert_int_eq(runner_begin(&runner, &config, 1, span_text("try left")), ERR_ok);
    ck_assert_int_eq(runner.state, RUNNER_RESET);
    see("hall", 0, false);
    ck_assert(runner_at_turn(&runner));
    say("go", 3);
    ck_assert_int_eq(runner.state, RUNNER_FEED);
    ck_assert(!runner_at_turn(&runner));
    say("\n", 3);
    ck_assert_int_eq(runner.state, RUNNER_ACT);
    ck_assert_str_eq(buf_chars(&runner.action), "go");
    see("attic", 0, false);
    say("up\n", 4);
    see("done", 1, true);
    ck_assert_int_eq(runner.state, RUNNER_END);
    ck_assert_int_eq(runner.outcome, OUTCOME_ok);
    ck_assert_double_eq(runner.reward, 1);
    ck_assert_uint_eq(runner.steps, 2);
    assert_text("try left\nhall\n>go\nattic\n>up\ndone");
    struct sequence s = runner_sequence(&runner);
    ck_assert_uint_eq(s.turns, 3);
    size_t targets = 0;
    for (uint32_t i = 0; i < s.count; i++) {
        targets += s.target[i];
        ck_assert_int_eq(s.version[i], s.target[i] ? (s.turn[i] == 0 ? 3 : 4) : -1);
        ck_assert(s.target[i] || s.logp[i] == 0);
    }
    ck_assert_uint_eq(targets, 6);                   /* go\n up\n: the newline is one */
    ck_assert_uint_eq(s.hint, strlen("try left\n")); /* one id a character here */
    float entropies[4], tokens[4];
    ck_assert_uint_eq(runner_turns(&runner, entropies, tokens, 4), 3);
    ck_assert(entropies[2] == 0);
    ck_assert(tokens[0] == 3);
    ck_assert(tokens[1] == 3);
    ck_assert(tokens[2] == 0);
    ck_assert_uint_eq(runner_turns(&runner, entropies, tokens, 1), 1); /* no more than there is room for */
}
END_TEST

START_TEST(the_step_limit_truncates)
{
    struct runner_config config = config_of(2, 8, false);
    ck_assert_int_eq(runner_begin(&runner, &config, 1, (struct span){0}), ERR_ok);
    see("a", 0, false);
    say("x\n", 0);
    see("b", 0, false);
    say("y\n", 0);
    see("c", 0.25, false);
    ck_assert_int_eq(runner.state, RUNNER_END);
    ck_assert_int_eq(runner.outcome, OUTCOME_truncated);
    ck_assert_double_eq(runner.reward, 0.25);
}
END_TEST

/* its own end at the last step is an end, no truncation */
START_TEST(an_end_at_the_limit_is_an_end)
{
    struct runner_config config = config_of(1, 8, false);
    ck_assert_int_eq(runner_begin(&runner, &config, 1, (struct span){0}), ERR_ok);
    see("a", 0, false);
    say("x\n", 0);
    see("b", 1, true);
    ck_assert_int_eq(runner.outcome, OUTCOME_ok);
}
END_TEST

START_TEST(an_action_is_cut_at_max_new_tokens)
{
    struct runner_config config = config_of(4, 3, false);
    ck_assert_int_eq(runner_begin(&runner, &config, 1, (struct span){0}), ERR_ok);
    see("a", 0, false);
    say("wxyz", 0);
    ck_assert_int_eq(runner.state, RUNNER_ACT);
    ck_assert_str_eq(buf_chars(&runner.action), "wxy");
}
END_TEST

START_TEST(a_full_context_truncates)
{
    struct runner_config config = config_of(50, 40, false);
    char longest[CONTEXT - 4];
    memset(longest, 'q', sizeof longest);
    longest[sizeof longest - 1] = 0;
    ck_assert_int_eq(runner_begin(&runner, &config, 1, (struct span){0}), ERR_ok);
    see(longest, 0, false);
    ck_assert_int_eq(runner.state, RUNNER_FEED);
    say("abcdefgh", 0);
    ck_assert_int_eq(runner.state, RUNNER_END);
    ck_assert_int_eq(runner.outcome, OUTCOME_truncated);
    ck_assert_uint_eq(runner.count, CONTEXT);
    /* an observation that does not fit: what was there stays, nothing is cut in the middle */
    ck_assert_int_eq(runner_begin(&runner, &config, 1, (struct span){0}), ERR_ok);
    see("a", 0, false);
    say("b\n", 0);
    uint32_t before = runner.count;
    see("this is much longer than what is left of the context of sixty-four", 0, false);
    ck_assert_int_eq(runner.outcome, OUTCOME_truncated);
    ck_assert_uint_eq(runner.count, before);
    /* a hint that does not fit is an error of the job */
    char hint[CONTEXT + 8];
    memset(hint, 'h', sizeof hint);
    ck_assert_int_eq(runner_begin(&runner, &config, 1, span_of((const uint8_t *)hint, sizeof hint)), ERR_too_large);
}
END_TEST

START_TEST(an_expert_shows)
{
    struct runner_config config = config_of(9, 8, true);
    ck_assert_int_eq(runner_begin(&runner, &config, 1, (struct span){0}), ERR_ok);
    ck_assert_int_eq(runner_observe(&runner, span_text("a"), 0, false, span_text("left")), ERR_ok);
    ck_assert_int_eq(runner.state, RUNNER_ACT);
    ck_assert_str_eq(buf_chars(&runner.action), "left");
    see("z", 1, true);
    assert_text("a\n>left\nz");
    struct sequence s = runner_sequence(&runner);
    ck_assert_uint_eq(s.hint, 0); /* the hint of an earlier episode is gone */
    ck_assert(!s.sampled);
    size_t targets = 0;
    for (uint32_t i = 0; i < s.count; i++) targets += s.target[i];
    ck_assert_uint_eq(targets, 5);
}
END_TEST

/* a context per turn: what the engine is fed, turn by turn, and what the windows say of it */
static void assert_context(const char *wanted, uint32_t fed)
{
    const int32_t *context = NULL;
    AUTO(buf) text = {0};
    ck_assert_int_eq(runner.state, RUNNER_FEED);
    ck_assert_uint_eq(runner.fed, fed);
    uint32_t n = runner_context(&runner, &context);
    ck_assert_int_eq(tokenizer_decode(tokenizer, context, n, &text), ERR_ok);
    ck_assert_str_eq(buf_chars(&text), wanted);
}

START_TEST(a_turn_sees_its_history)
{
    struct runner_config config = config_of(9, 8, false);
    config.step = true;
    config.history = 2;
    ck_assert_int_eq(runner_begin(&runner, &config, 1, span_text("h")), ERR_ok);
    see("aa", 0, false);
    assert_context("h\naa\n>", 0);
    say("A\n", 3);
    see("bb", 0, false);
    assert_context("h\naa\n>A\nbb\n>", 7); /* all but the newline that was drawn last is in the cache */
    say("B\n", 3);
    see("cc", 0, false);
    assert_context("h\naa\n>A\nbb\n>B\ncc\n>", 13);
    say("C\n", 4);
    see("dd", 0, false);
    assert_context("h\nbb\n>B\ncc\n>C\ndd\n>", 0); /* the window has moved */
    say("D\n", 4);
    see("end", 1, true);
    assert_text("h\naa\n>A\nbb\n>B\ncc\n>C\ndd\n>D\nend");
    const uint32_t windows[5] = {2, 2, 2, 8, 26};
    for (size_t t = 0; t < 5; t++) ck_assert_uint_eq(runner.window[t], windows[t]);
    ck_assert_uint_eq(runner.begin[4], 26);
}
END_TEST

/* history that leaves no room for an action stays out, the episode goes on past max_context, and a turn that alone does not
 * fit ends it */
START_TEST(a_history_gives_way)
{
    struct runner_config config = config_of(9, 8, false);
    char wide[27];
    memset(wide, 'w', sizeof wide);
    wide[sizeof wide - 1] = 0;
    config.step = true;
    config.history = 9;
    ck_assert_int_eq(runner_begin(&runner, &config, 1, (struct span){0}), ERR_ok);
    for (int turn = 0; turn < 4; turn++) {
        see(wide, 0, false); /* 26, and 2, and 2 of the action: two of them and room for 8 are more than 64 */
        const int32_t *context = NULL;
        ck_assert_uint_eq(runner_context(&runner, &context), 28);
        ck_assert_uint_eq(runner.fed, 0);
        say("A\n", 0);
        ck_assert_int_eq(runner.state, RUNNER_ACT);
    }
    ck_assert_uint_gt(runner.count, CONTEXT);
    uint32_t before = runner.count;
    see("this one is much longer than the whole context of sixty-four tokens", 0, false);
    ck_assert_int_eq(runner.outcome, OUTCOME_truncated);
    ck_assert_uint_eq(runner.count, before);
}
END_TEST

/* the same windows where the actions are shown */
START_TEST(a_shown_episode_has_windows)
{
    struct runner_config config = config_of(9, 8, true);
    config.step = true;
    config.history = 1;
    ck_assert_int_eq(runner_begin(&runner, &config, 1, (struct span){0}), ERR_ok);
    for (int turn = 0; turn < 3; turn++)
        ck_assert_int_eq(runner_observe(&runner, span_text("aa"), 0, false, span_text("go")), ERR_ok);
    ck_assert_int_eq(runner.state, RUNNER_ACT);
    ck_assert_uint_eq(runner.begin[2], 14);
    ck_assert_uint_eq(runner.window[2], 7);
    ck_assert_uint_eq(runner.context_count, 14);
}
END_TEST

/* same seed, same logits: the same tokens; a refeed changes nothing but what the engine must see again */
START_TEST(a_seed_repeats)
{
    struct runner_config config = config_of(9, 20, false);
    int32_t first[20] = {0};
    for (int round = 0; round < 2; round++) {
        float flat[VOCAB] = {0}, scratch[VOCAB];
        ck_assert_int_eq(runner_begin(&runner, &config, 42, (struct span){0}), ERR_ok);
        see("a", 0, false);
        uint32_t start = runner.count;
        for (int i = 0; i < 10 && runner.state == RUNNER_FEED; i++) {
            if (round && i == 5) runner_refeed(&runner);
            ck_assert_uint_eq(runner.fed == 0, i == 0 || (round && i == 5));
            ck_assert_int_eq(runner_token(&runner, flat, (size_t)tokenizer_vocab(tokenizer), scratch, 0), ERR_ok);
        }
        for (uint32_t i = start; i < runner.count; i++) {
            if (round) ck_assert_int_eq(runner.token[i], first[i - start]);
            first[i - start] = runner.token[i];
        }
    }
}
END_TEST

/* ---- a pretrained model's tokenizer ---- */

#define BPE_VOCAB 656

struct pretrained {
    struct tokenizer *tokenizer;
    struct chat *chat;
    struct runner runner;
    int32_t close;
};

static struct pretrained open_pretrained(const char *name, bool chat)
{
    struct pretrained p = {0};
    char path[64];
    (void)snprintf(path, sizeof path, "%s/tokenizer.json", name);
    struct span json = golden_read(path);
    ck_assert_int_eq(tokenizer_open(json, &p.tokenizer), ERR_ok);
    golden_free(json);
    p.close = tokenizer_special(p.tokenizer, strcmp(name, "qwen2") == 0 ? "<|im_end|>" : "<|eot_id|>");
    ck_assert_int_eq(tokenizer_set_eos(p.tokenizer, &p.close, 1), ERR_ok);
    const char *jinja = strcmp(name, "qwen2") == 0 ? "<|im_start|> <|im_end|>" : "<|start_header_id|> <|eot_id|>";
    if (chat) ck_assert_int_eq(chat_new(&p.chat, span_text(jinja), p.tokenizer), ERR_ok);
    ck_assert_int_eq(runner_init(&p.runner, 512), ERR_ok);
    return p;
}

static void close_pretrained(struct pretrained *p)
{
    runner_fini(&p->runner);
    chat_free(&p->chat);
    tokenizer_free(&p->tokenizer);
}

static void begin_pretrained(struct pretrained *p, const char *hint, bool expert)
{
    const struct runner_config config = {.tokenizer = p->tokenizer,
                                         .chat = p->chat,
                                         .max_steps = 9,
                                         .max_new_tokens = 16,
                                         .max_context = 512,
                                         .temperature = 1.0f,
                                         .shown = expert};
    ck_assert_int_eq(runner_begin(&p->runner, &config, 1, span_text(hint)), ERR_ok);
}

/* the text's tokens, then `end` if it is one */
static void answer(struct pretrained *p, const char *text, int32_t end)
{
    int32_t ids[64];
    size_t count = 0;
    ck_assert_int_eq(tokenizer_encode(p->tokenizer, span_text(text), ids, 63, &count), ERR_ok);
    if (end >= 0) ids[count++] = end;
    for (size_t i = 0; i < count && p->runner.state == RUNNER_FEED; i++) {
        static float logits[BPE_VOCAB], scratch[BPE_VOCAB];
        memset(logits, 0, sizeof logits);
        logits[ids[i]] = 100;
        ck_assert_int_eq(runner_token(&p->runner, logits, (size_t)tokenizer_vocab(p->tokenizer), scratch, 3), ERR_ok);
    }
    ck_assert_int_eq(p->runner.state, RUNNER_ACT);
}

static void show_text(struct pretrained *p, const char *text, double reward, bool terminated, const char *expert)
{
    ck_assert_int_eq(runner_observe(&p->runner, span_text(text), reward, terminated, span_text(expert)), ERR_ok);
}

static void assert_whole(struct pretrained *p, const char *wanted)
{
    AUTO(buf) text = {0};
    ck_assert_int_eq(tokenizer_decode(p->tokenizer, p->runner.token, p->runner.count, &text), ERR_ok);
    ck_assert_str_eq(buf_chars(&text), wanted);
}

/* an answer that ended its turn, one that ended with a newline, one that was cut: each turn is closed once */
START_TEST(chats_are_whole_conversations)
{
    struct pretrained p = open_pretrained("qwen2", true);
    begin_pretrained(&p, "be brief", false);
    uint32_t hint = p.runner.count;
    ck_assert_uint_eq(hint, p.runner.hint);
    show_text(&p, "a door", 0, false, "");
    answer(&p, "open it", p.close);
    ck_assert_str_eq(buf_chars(&p.runner.action), "open it");
    show_text(&p, "open", 0, false, "");
    answer(&p, "go\n", -1);
    ck_assert_str_eq(buf_chars(&p.runner.action), "go");
    show_text(&p, "<|im_end|>", 0, false, "");
    answer(&p, "zqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzq", -1);
    show_text(&p, "end", 1, true, "");
    ck_assert_int_eq(p.runner.outcome, OUTCOME_ok);
    AUTO(buf) cut = {0};
    ck_assert_int_eq(buf_append(&cut, p.runner.action.data, p.runner.action.size), ERR_ok);
    char wanted[1024];
    (void)snprintf(wanted, sizeof wanted,
                   "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\na door<|im_end|>\n<|im_start|>assistant\n"
                   "open it<|im_end|>\n<|im_start|>user\nopen<|im_end|>\n<|im_start|>assistant\ngo\n<|im_end|>\n"
                   "<|im_start|>user\n<|im_end|><|im_end|>\n<|im_start|>assistant\n%s<|im_end|>\n<|im_start|>user\n"
                   "end<|im_end|>\n<|im_start|>assistant\n",
                   buf_chars(&cut));
    assert_whole(&p, wanted);
    uint32_t closes = 0, targets = 0;
    for (uint32_t i = 0; i < p.runner.count; i++) {
        closes += p.runner.token[i] == p.close;
        targets += p.runner.token[i] == p.close && p.runner.target[i];
    }
    ck_assert_uint_eq(closes, 1 + 4 + 3); /* the forged one is text */
    ck_assert_uint_eq(targets, 1);
    close_pretrained(&p);
}
END_TEST

/* without the hint's tokens the rest is the episode without a hint, whatever the template begins with */
START_TEST(a_hint_comes_before_all)
{
    const bool chat = _i % 2;
    struct pretrained p = open_pretrained(_i < 2 ? "llama3" : "qwen2", chat);
    int32_t plain[512];
    begin_pretrained(&p, "", false);
    show_text(&p, "a door", 0, false, "");
    uint32_t count = p.runner.count;
    memcpy(plain, p.runner.token, count * sizeof *plain);
    ck_assert_int_eq(plain[0] == tokenizer_special(p.tokenizer, "<|begin_of_text|>"), _i < 2);
    begin_pretrained(&p, "look twice", false);
    show_text(&p, "a door", 0, false, "");
    ck_assert_uint_gt(p.runner.hint, 1);
    ck_assert_uint_eq(p.runner.count, p.runner.hint + count);
    ck_assert_mem_eq(p.runner.token + p.runner.hint, plain, count * sizeof *plain);
    close_pretrained(&p);
}
END_TEST

/* a context per turn is a conversation of its own: the prefix, then whole messages, whatever turn it begins with */
START_TEST(a_context_begins_with_a_message)
{
    struct pretrained p = open_pretrained("llama3", true);
    begin_pretrained(&p, "be brief", false);
    p.runner.config.step = true;
    p.runner.config.history = 1;
    show_text(&p, "one", 0, false, "");
    answer(&p, "a", p.close);
    show_text(&p, "two", 0, false, "");
    answer(&p, "b\n", -1); /* its turn is closed by the template */
    show_text(&p, "three", 0, false, "");
    const int32_t *context = NULL;
    uint32_t n = runner_context(&p.runner, &context);
    AUTO(buf) text = {0};
    ck_assert_int_eq(tokenizer_decode(p.tokenizer, context, n, &text), ERR_ok);
    ck_assert_str_eq(
        buf_chars(&text),
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nbe brief<|eot_id|><|begin_of_text|>"
        "<|start_header_id|>user<|end_header_id|>\n\ntwo<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        "b\n<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nthree<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n");
    ck_assert_uint_eq(p.runner.fed, 0);
    ck_assert_uint_eq(p.runner.prefix, p.runner.hint + 1);
    close_pretrained(&p);
}
END_TEST

/* a demonstration in a chat ends its turns as the model should */
START_TEST(experts_close_their_turns)
{
    struct pretrained p = open_pretrained("qwen2", true);
    begin_pretrained(&p, "", true);
    show_text(&p, "a door", 0, false, "open");
    ck_assert_int_eq(p.runner.state, RUNNER_ACT);
    ck_assert_str_eq(buf_chars(&p.runner.action), "open");
    ck_assert_int_eq(p.runner.token[p.runner.count - 1], p.close);
    ck_assert_int_eq(p.runner.target[p.runner.count - 1], 1);
    close_pretrained(&p);
}
END_TEST

/* a zero byte cannot be sent as text */
START_TEST(actions_are_text)
{
    struct pretrained p = open_pretrained("qwen2", false);
    begin_pretrained(&p, "", false);
    show_text(&p, "?", 0, false, "");
    int32_t zero = -1;
    size_t n = 0;
    ck_assert_int_eq(tokenizer_encode(p.tokenizer, span_of("", 1), &zero, 1, &n), ERR_ok);
    float logits[BPE_VOCAB] = {0}, scratch[BPE_VOCAB];
    logits[zero] = 100;
    ck_assert_int_eq(runner_token(&p.runner, logits, (size_t)tokenizer_vocab(p.tokenizer), scratch, 3), ERR_ok);
    answer(&p, "x", p.close);
    ck_assert_str_eq(buf_chars(&p.runner.action), "?x");
    close_pretrained(&p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("runner");
    TCase *tcase = tcase_create("runner");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, an_episode_ends_by_its_environment);
    tcase_add_test(tcase, the_step_limit_truncates);
    tcase_add_test(tcase, an_end_at_the_limit_is_an_end);
    tcase_add_test(tcase, an_action_is_cut_at_max_new_tokens);
    tcase_add_test(tcase, a_full_context_truncates);
    tcase_add_test(tcase, an_expert_shows);
    tcase_add_test(tcase, a_seed_repeats);
    tcase_add_test(tcase, a_turn_sees_its_history);
    tcase_add_test(tcase, a_history_gives_way);
    tcase_add_test(tcase, a_shown_episode_has_windows);
    tcase_add_test(tcase, chats_are_whole_conversations);
    tcase_add_loop_test(tcase, a_hint_comes_before_all, 0, 4);
    tcase_add_test(tcase, a_context_begins_with_a_message);
    tcase_add_test(tcase, experts_close_their_turns);
    tcase_add_test(tcase, actions_are_text);
    suite_add_tcase(suite, tcase);
    SRunner *srunner = srunner_create(suite);
    srunner_run_all(srunner, CK_ENV);
    int failed = srunner_ntests_failed(srunner);
    srunner_free(srunner);
    return failed ? 1 : 0;
}
