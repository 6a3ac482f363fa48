/* LABELS: unit
 * job: every key of job.def keeps its default, its bounds and its type (the rows make the cases); what is resolved parses to
 * the same; every problem has its pointer; schema, document and examples are the committed ones. */
#include "services/common/job/job.h"
#include "services/common/job/table.h"
#include "tests/support/document.h"

#include <check.h>
#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static const char SMALLEST[] = "{\"name\": \"x\", \"environments\": [{\"name\": \"adventure\"}]}";

struct parsed {
    struct arena arena;
    struct job_spec spec;
    struct job_problems problems;
    err_t err;
};

static void parsed_fini(struct parsed *parsed)
{
    arena_fini(&parsed->arena);
}

static void parse(struct parsed *ret, struct span json)
{
    ret->err = job_parse(json, &ret->arena, &ret->spec, &ret->problems);
}

static void parse_text(struct parsed *ret, const char *json)
{
    parse(ret, span_text(json));
}

static bool has_problem(const struct parsed *parsed, const char *pointer)
{
    for (size_t i = 0; i < parsed->problems.count; i++) {
        if (strcmp(parsed->problems.rows[i].pointer, pointer) == 0) return true;
    }
    return false;
}

static void read_file(const char *path, struct buf *out)
{
    char full[1024], chunk[4096];
    (void)snprintf(full, sizeof full, "%s/%s", PAL_SOURCE_DIR, path);
    FILE *file = fopen(full, "rb");
    ck_assert_msg(file != NULL, "%s is missing", full);
    for (size_t n = fread(chunk, 1, sizeof chunk, file); n > 0; n = fread(chunk, 1, sizeof chunk, file))
        ck_assert_int_eq(buf_append(out, chunk, n), ERR_ok);
    (void)fclose(file);
}

START_TEST(smallest_job_has_the_defaults)
{
    AUTO(parsed) p = {0};
    parse_text(&p, SMALLEST);
    ck_assert_msg(p.err == ERR_ok, "%s", err_text());
    ck_assert_int_eq(p.spec.seed, 1);
    ck_assert_int_eq(p.spec.rollout.group_size, 8);
    ck_assert_double_eq(p.spec.trainer.lr, 0.0004);
    ck_assert_double_eq(p.spec.trainer.beta2, 0.999);
    ck_assert_int_eq(p.spec.trainer.importance.mode, JOB_IMPORTANCE_OFF);
    ck_assert(!p.spec.warmstart.on);
    ck_assert(p.spec.environments[0].tasks.generates);
    ck_assert_int_eq(p.spec.environments[0].tasks.generate.levels[0], 1);
}
END_TEST

/* parse(dump(spec)) dumps to the same text: nothing is lost on the way to the services */
START_TEST(resolved_jobs_round_trip)
{
    const char *const files[] = {"examples/adventure.json"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        AUTO(buf) text = {0};
        AUTO(buf) first = {0};
        AUTO(buf) second = {0};
        AUTO(parsed) p = {0};
        AUTO(parsed) again = {0};
        read_file(files[i], &text);
        parse(&p, buf_span(&text));
        ck_assert_msg(p.err == ERR_ok, "%s: %s", files[i], err_text());
        ck_assert_int_eq(job_dump(&p.spec, true, &first), ERR_ok);
        parse(&again, buf_span(&first));
        ck_assert_msg(again.err == ERR_ok, "%s", err_text());
        ck_assert_int_eq(job_dump(&again.spec, true, &second), ERR_ok);
        ck_assert_str_eq(buf_chars(&first), buf_chars(&second));
    }
}
END_TEST

/* The smallest job with one more key at a section's place. */
static char *with_key(enum job_section_id id, const char *key, const char *value)
{
    static const char *const shapes[JOB_SECTION_COUNT] = {
        [JOB_SECTION_generate] = "environments.0.tasks.generate",
        [JOB_SECTION_tasks] = "environments.0.tasks",
        [JOB_SECTION_environment] = "environments.0",
        [JOB_SECTION_warmstart] = "policy.warmstart",
        [JOB_SECTION_init] = "policy.init",
        [JOB_SECTION_rollout] = "rollout",
        [JOB_SECTION_retries] = "rollout.retries",
        [JOB_SECTION_mask] = "rollout.mask",
        [JOB_SECTION_curriculum] = "curriculum",
        [JOB_SECTION_curation] = "curation",
        [JOB_SECTION_dart] = "curation.dart",
        [JOB_SECTION_guide] = "curation.guide",
        [JOB_SECTION_webrl] = "curation.webrl",
        [JOB_SECTION_replay_ratio] = "curation.replay_ratio",
        [JOB_SECTION_importance] = "trainer.importance",
        [JOB_SECTION_value] = "trainer.value",
        [JOB_SECTION_regression] = "trainer.webrl",
        [JOB_SECTION_trainer] = "trainer",
        [JOB_SECTION_evaluation] = "evaluation",
        [JOB_SECTION_stop] = "stop",
    };
    char assignment[512];
    (void)snprintf(assignment, sizeof assignment, "%s.%s=%s", shapes[id], key, value);
    AUTO(buf) out = {0};
    ck_assert_msg(job_override(span_text(SMALLEST), assignment, &out) == ERR_ok, "%s", err_text());
    char *text = strdup(buf_chars(&out));
    ck_assert_ptr_nonnull(text);
    return text;
}

static void expect_problem(enum job_section_id id, const struct job_key *key, const char *value)
{
    char *text = with_key(id, key->name, value);
    AUTO(parsed) p = {0};
    parse_text(&p, text);
    ck_assert_msg(p.err == ERR_invalid, "%s.%s = %s was taken", job_section(id)->pointer, key->name, value);
    bool named = false;
    for (size_t i = 0; i < p.problems.count; i++) named |= strstr(p.problems.rows[i].pointer, key->name) != NULL;
    ck_assert_msg(named, "%s.%s = %s: no problem names it", job_section(id)->pointer, key->name, value);
    free(text);
}

START_TEST(every_key_refuses_wrong_types_and_values)
{
    for (int id = 0; id < JOB_SECTION_COUNT; id++) {
        const struct job_section *rows = job_section((enum job_section_id)id);
        for (size_t i = 0; i < rows->count; i++) {
            const struct job_key *key = &rows->keys[i];
            ck_assert_uint_gt(strlen(key->doc), 0);
            if (job_pair_of((enum job_section_id)id, key->name)) continue;
            expect_problem((enum job_section_id)id, key, "[1]");
            expect_problem((enum job_section_id)id, key, "null");
            char past[64];
            (void)snprintf(past, sizeof past, "%.17g", key->max * 2 + 1);
            if (key->kind == JOB_INT) expect_problem((enum job_section_id)id, key, "0.5");
            if (key->kind == JOB_INT && key->max < 1e15) {
                (void)snprintf(past, sizeof past, "%lld", (long long)key->max + 1);
                expect_problem((enum job_section_id)id, key, past);
            }
            if (key->kind == JOB_NUM) expect_problem((enum job_section_id)id, key, past);
            if (key->kind == JOB_NUM) expect_problem((enum job_section_id)id, key, "-1e9");
            if (key->kind == JOB_CHOICE) expect_problem((enum job_section_id)id, key, "\"no such\"");
            if (key->kind != JOB_TEXT) expect_problem((enum job_section_id)id, key, "\"text\"");
        }
    }
}
END_TEST

START_TEST(problems_have_pointers)
{
    AUTO(parsed) p = {0};
    parse_text(&p,
               "{\"name\": 3, \"_note\": \"a comment\", \"environments\": [{\"name\": \"adventur\", \"slotz\": 4}],"
               " \"trainer\": {\"lr\": 7, \"clip\": [0.2], \"importance\": {\"mode\": \"tis\"}, \"old_policy\": \"behave\"},"
               " \"curation\": {\"dart\": {\"keeq\": 1}}, \"polcy\": {}, \"rollout\": {\"group_size\": 1}}");
    ck_assert_int_eq(p.err, ERR_invalid);
    const char *const pointers[] = {"/name",
                                    "/environments/0/name",
                                    "/environments/0/slotz",
                                    "/trainer/lr",
                                    "/trainer/clip",
                                    "/trainer/importance/mode",
                                    "/curation/dart/keeq",
                                    "/polcy",
                                    "/rollout/group_size"};
    for (size_t i = 0; i < sizeof pointers / sizeof *pointers; i++)
        ck_assert_msg(has_problem(&p, pointers[i]), "no problem at %s", pointers[i]);
    ck_assert_uint_eq(p.problems.count, sizeof pointers / sizeof *pointers);
}
END_TEST

struct sense {
    const char *assignment;
    const char *pointer;
};

START_TEST(senseless_combinations_are_refused)
{
    const struct sense cases[] = {
        {"environments.0.tasks.generate.levels=[9]", "/environments/0/tasks/generate/levels/0"},
        {"environments.0.variant=\"none such\"", "/environments/0/variant"},
        {"environments.0.provider=\"process\"", "/environments/0/command"},
        {"environments.0.command=[\"x\"]", "/environments/0/command"},
        {"policy.init.preset=\"huge\"", "/policy/init/preset"},
        {"policy.init={\"preset\": \"tiny-0.1m\", \"path\": \"/x\"}", "/policy/init"},
        {"policy.init={\"path\": \"x/y\"}", "/policy/init/path"},
        {"policy.init={\"path\": \"/x\", \"sha256\": \"abc\"}", "/policy/init/sha256"},
        {"policy.init={\"sha256\": \"abc\"}", "/policy/init/sha256"},
        {"rollout.prompt=\"chat\"", "/rollout/prompt"},
        {"rollout.prompt=\"jinja\"", "/rollout/prompt"},
        {"rollout.max_context=2000", "/rollout/max_context"},
        {"trainer.minibatches=17", "/trainer/minibatches"},
        {"trainer.tokens_per_microbatch=100", "/trainer/tokens_per_microbatch"},
        {"environments.0.tasks.holdout=0", "/evaluation/episodes"},
        {"environments=[]", "/environments"},
        {"export={\"a\": 1}", "/export/a"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        AUTO(buf) text = {0};
        AUTO(parsed) p = {0};
        ck_assert_int_eq(job_override(span_text(SMALLEST), cases[i].assignment, &text), ERR_ok);
        parse(&p, buf_span(&text));
        ck_assert_msg(p.err == ERR_invalid && has_problem(&p, cases[i].pointer), "%s: no problem at %s", cases[i].assignment,
                      cases[i].pointer);
    }
}
END_TEST

START_TEST(bytes_that_are_no_job_are_refused)
{
    AUTO(parsed) p = {0};
    const char *const texts[] = {"", "{", "[]", "3", "{\"name\": \"a\", \"name\": \"b\"}", "{\"name\": NaN}", "\xff\xfe"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        parse_text(&p, texts[i]);
        ck_assert_msg(p.err == ERR_malformed || p.err == ERR_invalid, "%s", texts[i]);
        ck_assert_uint_ge(p.problems.count, 1);
    }
    AUTO(buf) big = {0};
    for (size_t i = 0; i <= JOB_FILE_BYTES; i += 16) ck_assert_int_eq(buf_append(&big, "                ", 16), ERR_ok);
    parse(&p, buf_span(&big));
    ck_assert_int_eq(p.err, ERR_too_large);
}
END_TEST

START_TEST(overrides_name_what_is_wrong)
{
    AUTO(buf) out = {0};
    ck_assert_int_eq(job_override(span_text(SMALLEST), "no equals", &out), ERR_invalid);
    ck_assert_int_eq(job_override(span_text(SMALLEST), "name.deeper=1", &out), ERR_invalid);
    ck_assert_int_eq(job_override(span_text(SMALLEST), "environments.7.name=x", &out), ERR_invalid);
    ck_assert_int_eq(job_override(span_text(SMALLEST), "name=plain words", &out), ERR_ok);
    AUTO(parsed) p = {0};
    parse(&p, buf_span(&out));
    ck_assert_int_eq(p.err, ERR_ok);
    ck_assert_str_eq(p.spec.name, "plain words");
}
END_TEST

START_TEST(documents_are_the_committed_ones)
{
    AUTO(buf) schema = {0};
    AUTO(buf) document = {0};
    ck_assert_int_eq(job_schema(&schema), ERR_ok);
    ck_assert_int_eq(job_document(&document), ERR_ok);
    document_check("docs/job.schema.json", &schema);
    document_check("docs/job.md", &document);
}
END_TEST

START_TEST(words_are_those_of_the_environments)
{
    AUTO(parsed) p = {0};
    parse_text(&p, "{\"name\": \"x\", \"environments\": [{\"name\": \"adventure\"}, {\"name\": \"lake\"}, {\"name\": "
                   "\"adventure\"}]}");
    ck_assert_msg(p.err == ERR_ok, "%s", err_text());
    const char *const *words = NULL;
    size_t count = 0;
    ck_assert_int_eq(job_words(&p.spec, &p.arena, &words, &count), ERR_ok);
    ck_assert_uint_gt(count, 30);
    for (size_t i = 0; i < count; i++) {
        for (size_t k = i + 1; k < count; k++) ck_assert_str_ne(words[i], words[k]);
    }
}
END_TEST

/* what is drawn in the order in which groups close does not go with it, and nothing runs ahead */
START_TEST(coupled_refuses_what_depends_on_time)
{
    const char *const refused[] = {"trainer.late=drop", "curation.refill=true", "curriculum.kind=gain-rl",
                                   "curation.guide={}"};
    AUTO(buf) coupled = {0};
    ck_assert_int_eq(job_override(span_text(SMALLEST), "trainer.coupled=true", &coupled), ERR_ok);
    AUTO(parsed) alone = {0};
    parse_text(&alone, buf_chars(&coupled));
    ck_assert_int_eq(alone.err, ERR_ok);
    ck_assert_int_eq(alone.spec.trainer.max_staleness, 0);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        AUTO(buf) text = {0};
        AUTO(parsed) p = {0};
        ck_assert_int_eq(job_override(buf_span(&coupled), refused[i], &text), ERR_ok);
        parse_text(&p, buf_chars(&text));
        ck_assert_int_eq(p.err, ERR_invalid);
        bool named = false;
        for (size_t k = 0; k < p.problems.count; k++) named |= strstr(p.problems.rows[k].detail, "trainer.coupled") != NULL;
        ck_assert_msg(named, "%s was not refused for coupled", refused[i]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("job");
    TCase *tcase = tcase_create("job");
    tcase_add_test(tcase, smallest_job_has_the_defaults);
    tcase_add_test(tcase, resolved_jobs_round_trip);
    tcase_add_test(tcase, every_key_refuses_wrong_types_and_values);
    tcase_add_test(tcase, problems_have_pointers);
    tcase_add_test(tcase, senseless_combinations_are_refused);
    tcase_add_test(tcase, bytes_that_are_no_job_are_refused);
    tcase_add_test(tcase, overrides_name_what_is_wrong);
    tcase_add_test(tcase, documents_are_the_committed_ones);
    tcase_add_test(tcase, coupled_refuses_what_depends_on_time);
    tcase_add_test(tcase, words_are_those_of_the_environments);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
