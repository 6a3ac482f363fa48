/* LABELS: system
 * gateway: what a client may send and what it gets, spoken by hand over a socket to one real stack that has played a job. */
#include "tests/support/stack.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BODY_LIMIT ((size_t)512 << 10)

static struct stack stack;
static int port;
static int64_t job;

static void setup(void)
{
    char path[256], state[32];
    const char *const sets[] = {"policy.init.preset=tiny-0.1m",
                                "policy.warmstart.demonstrations=240",
                                "policy.warmstart.updates=150", /* it solves some */
                                "environments.0.tasks.generate.count=64",
                                "environments.0.tasks.holdout=40",
                                "evaluation.episodes=40",
                                "trainer.groups_per_update=4",
                                "trainer.updates=6",
                                NULL};
    stack_make(&stack);
    stack_up(&stack);
    (void)snprintf(path, sizeof path, "%s/gateway.port", stack.state);
    FILE *file = fopen(path, "re");
    if (!file || fscanf(file, "%d", &port) != 1) exit(1);
    (void)fclose(file);
    job = stack_submit(&stack, "examples/adventure.json", sets);
    stack_wait(&stack, job, 60, state);
}

static void teardown(void)
{
    stack_remove(&stack);
}

/* ---- HTTP by hand ---- */

struct answer {
    int status;
    struct buf text; /* head and body */
    char *body;
};

static void answer_fini(struct answer *answer)
{
    buf_fini(&answer->text);
}

static bool send_all(int fd, const char *text, size_t size)
{
    while (size) {
        ssize_t n = send(fd, text, size, MSG_NOSIGNAL);
        if (n <= 0) return false; /* refused before all of it was read */
        text += n;
        size -= (size_t)n;
    }
    return true;
}

static int dial(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct timeval patience = {20, 0};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    ck_assert_int_eq(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

/* headers: whole lines; a Host of ours is added unless they have one */
static void ask(struct answer *ret, const char *method, const char *path, const char *headers, const char *body)
{
    AUTO(buf) head = {0};
    char chunk[8192];
    buf_init(&ret->text, (size_t)64 << 20);
    ck_assert_int_eq(buf_printf(&head, "%s %s HTTP/1.1\r\nConnection: close\r\n%s", method, path, headers), ERR_ok);
    if (!strstr(headers, "Host:")) ck_assert_int_eq(buf_printf(&head, "Host: 127.0.0.1:%d\r\n", port), ERR_ok);
    if (body) ck_assert_int_eq(buf_printf(&head, "Content-Length: %zu\r\n", strlen(body)), ERR_ok);
    ck_assert_int_eq(buf_text(&head, "\r\n"), ERR_ok);
    int fd = dial();
    if (send_all(fd, buf_chars(&head), head.size) && body) (void)send_all(fd, body, strlen(body));
    for (ssize_t n = recv(fd, chunk, sizeof chunk, 0); n > 0; n = recv(fd, chunk, sizeof chunk, 0))
        ck_assert_int_eq(buf_append(&ret->text, chunk, (size_t)n), ERR_ok);
    (void)close(fd);
    char *at = strstr(buf_chars(&ret->text), "\r\n\r\n");
    ck_assert_msg(at && sscanf(buf_chars(&ret->text), "HTTP/1.1 %d", &ret->status) == 1, "%s %s: no answer", method, path);
    ret->body = at + 4;
}

static json_t *json_of(const struct answer *answer)
{
    json_t *root = json_loads(answer->body, 0, NULL);
    ck_assert_msg(root != NULL, "not JSON: %.200s", answer->body);
    return root;
}

/* ---- what is refused ---- */

#define JSON_TYPE "Content-Type: application/json\r\n"

static const struct {
    const char *method, *path, *headers, *body;
    int status;
} refused[] = {
    {"GET", "/healthz", "Host: evil.example\r\n", NULL, 403},
    {"GET", "/healthz", "Host: 127.0.0.1:1\r\n", NULL, 403},
    {"GET", "/v1/jobs", "Origin: http://evil.example\r\n", NULL, 403},
    {"POST", "/v1/jobs", "Content-Type: text/plain\r\n", "{}", 415},
    {"POST", "/v1/jobs", "", "{}", 415},
    {"POST", "/v1/jobs", JSON_TYPE, "{", 400},
    {"POST", "/v1/jobs", JSON_TYPE, "[]", 422},
    {"POST", "/v1/jobs", JSON_TYPE, "{\"name\": \"x\", \"name\": \"y\"}", 400},
    {"POST", "/v1/jobs", JSON_TYPE "Idempotency-Key: \r\n", "{\"name\": \"x\"}", 422},
    {"DELETE", "/v1/jobs", "", NULL, 405},
    {"POST", "/healthz", JSON_TYPE, "{}", 405},
    {"GET", "/nothing", "", NULL, 404},
    {"GET", "/v1/jobs/99", "", NULL, 404},
    {"GET", "/v1/jobs/one", "", NULL, 404},
    {"GET", "/v1/jobs/-1", "", NULL, 404},
    {"GET", "/v1/jobs/99999999999999999999", "", NULL, 404},
    {"GET", "/v1/jobs/1/episodes/999999", "", NULL, 404},
    {"GET", "/v1/jobs?limit=0", "", NULL, 400},
    {"GET", "/v1/jobs?limit=many", "", NULL, 400},
    {"POST", "/v1/jobs/1/cancel", JSON_TYPE, "{}", 409},
    {"POST", "/v1/jobs/99/cancel", JSON_TYPE, "{}", 404},
    {"POST", "/v1/jobs/1/pool", JSON_TYPE, "{", 400},
    {"POST", "/v1/jobs/1/pool", JSON_TYPE, "{}", 422},
    {"POST", "/v1/jobs/1/pool", JSON_TYPE, "[]", 422},
    {"POST", "/v1/jobs/1/pool", JSON_TYPE, "[{\"task_id\": 0, \"actions\": [\"look\"]}]", 409}, /* it has ended */
    {"POST", "/v1/jobs/one/pool", JSON_TYPE, "[{\"task_id\": 0, \"actions\": [\"look\"]}]", 404},
    {"GET", "/v1/jobs/one/pool", "", NULL, 404},
    {"GET", "/v1/jobs/1/pool?limit=0", "", NULL, 400},
    {"PATCH", "/v1/jobs/1", JSON_TYPE, "{\"priority\": \"high\"}", 422},
};

START_TEST(what_is_wrong_is_refused_with_a_problem)
{
    AUTO(answer) answer = {0};
    ask(&answer, refused[_i].method, refused[_i].path, refused[_i].headers, refused[_i].body);
    ck_assert_msg(answer.status == refused[_i].status, "%s %s %s %s: %d, not %d: %s", refused[_i].method, refused[_i].path,
                  refused[_i].headers, refused[_i].body ? refused[_i].body : "", answer.status, refused[_i].status,
                  answer.body);
    ck_assert_ptr_nonnull(strstr(buf_chars(&answer.text), "Content-Type: application/problem+json"));
    if (answer.status == 405) ck_assert_ptr_nonnull(strstr(buf_chars(&answer.text), "\nAllow:"));
    json_t *problem = json_of(&answer);
    ck_assert_int_eq(json_integer_value(json_object_get(problem, "status")), answer.status);
    ck_assert_uint_gt(strlen(json_string_value(json_object_get(problem, "detail"))), 0);
    json_decref(problem);
}
END_TEST

/* Is one of the problem's errors at this place? */
static bool points_to(const json_t *problem, const char *pointer)
{
    bool found = false;
    json_t *row = NULL;
    size_t i = 0;
    json_array_foreach(json_object_get(problem, "errors"), i, row) found |=
        strcmp(json_string_value(json_object_get(row, "pointer")), pointer) == 0;
    return found;
}

START_TEST(a_bad_job_is_refused_with_pointers)
{
    AUTO(answer) answer = {0};
    ask(&answer, "POST", "/v1/jobs", JSON_TYPE,
        "{\"name\": \"x\", \"environments\": [{\"name\": \"adventure\"}], \"trainer\": {\"lr\": -1, \"leerning\": 2}}");
    ck_assert_int_eq(answer.status, 422);
    json_t *problem = json_of(&answer);
    ck_assert(points_to(problem, "/trainer/lr") && points_to(problem, "/trainer/leerning"));
    json_decref(problem);
}
END_TEST

START_TEST(bad_demonstrations_are_refused_with_pointers)
{
    AUTO(answer) answer = {0};
    ask(&answer, "POST", "/v1/jobs/1/pool", JSON_TYPE,
        "[{\"task_id\": 0, \"actions\": [\"look\", 7]}, {\"task_id\": 0, \"moves\": [\"look\"]}]");
    ck_assert_int_eq(answer.status, 422);
    json_t *problem = json_of(&answer);
    ck_assert(points_to(problem, "/0/actions/1") && points_to(problem, "/1/moves"));
    json_decref(problem);
}
END_TEST

START_TEST(a_body_past_the_limit_is_not_read)
{
    AUTO(answer) answer = {0};
    char *body = malloc(BODY_LIMIT + 2);
    memset(body, ' ', BODY_LIMIT + 1);
    body[BODY_LIMIT + 1] = 0;
    ask(&answer, "POST", "/v1/jobs", JSON_TYPE, body);
    free(body);
    ck_assert_int_eq(answer.status, 413);
}
END_TEST

/* ---- what is served ---- */

START_TEST(a_key_gives_the_same_job)
{
    static const char small[] = "{\"name\": \"twice\", \"environments\": [{\"name\": \"adventure\"}], \"trainer\": "
                                "{\"updates\": 0}, \"evaluation\": {\"episodes\": 8}}";
    int64_t ids[2];
    for (int i = 0; i < 2; i++) {
        AUTO(answer) answer = {0};
        ask(&answer, "POST", "/v1/jobs", JSON_TYPE "Idempotency-Key: again\r\n", small);
        ck_assert_int_eq(answer.status, i == 0 ? 201 : 200);
        json_t *root = json_of(&answer);
        ids[i] = json_integer_value(json_object_get(root, "id"));
        json_decref(root);
    }
    ck_assert_int_gt(ids[0], 0);
    ck_assert_int_eq(ids[0], ids[1]);
    AUTO(answer) other = {0};
    ask(&other, "POST", "/v1/jobs", JSON_TYPE "Idempotency-Key: again\r\n",
        "{\"name\": \"once\", \"environments\": [{\"name\": \"adventure\"}]}");
    ck_assert_int_eq(other.status, 422);
    ck_assert_ptr_nonnull(strstr(other.body, "another one"));
}
END_TEST

START_TEST(pages_follow_each_other)
{
    int64_t last = INT64_MAX, seen = 0;
    for (int page = 0; page < 4; page++) {
        AUTO(answer) answer = {0};
        char path[96], before[40] = "";
        json_t *row = NULL;
        size_t i = 0;
        if (page) (void)snprintf(before, sizeof before, "&before=%lld", (long long)last);
        (void)snprintf(path, sizeof path, "/v1/jobs/1/episodes?limit=7%s", before);
        ask(&answer, "GET", path, "", NULL);
        json_t *rows = json_of(&answer);
        ck_assert_uint_eq(json_array_size(rows), 7);
        json_array_foreach(rows, i, row)
        {
            int64_t id = json_integer_value(json_object_get(row, "id"));
            ck_assert_int_lt(id, last);
            last = id;
            seen++;
        }
        json_decref(rows);
    }
    ck_assert_int_eq(seen, 28);
}
END_TEST

/* What the pool draws from: each success that was played, once, page after page, as import takes it. */
START_TEST(the_pool_is_what_was_solved)
{
    AUTO(answer) solved = {0};
    ask(&solved, "GET", "/v1/jobs/1/episodes?source=fresh&outcome=success&limit=1000", "", NULL);
    json_t *all = json_of(&solved), *row = NULL;
    int64_t last = -1;
    size_t seen = 0, got = 0;
    ck_assert_uint_ge(json_array_size(all), 1);
    do {
        AUTO(answer) answer = {0};
        char path[96];
        size_t i = 0;
        (void)snprintf(path, sizeof path, "/v1/jobs/1/pool?actions=true&limit=5&after=%lld", (long long)last);
        ask(&answer, "GET", path, "", NULL);
        ck_assert_int_eq(answer.status, 200);
        json_t *rows = json_of(&answer);
        got = json_array_size(rows);
        json_array_foreach(rows, i, row)
        {
            ck_assert_int_gt(json_integer_value(json_object_get(row, "episode")), last);
            last = json_integer_value(json_object_get(row, "episode"));
            ck_assert(json_is_object(json_object_get(row, "task")));
            ck_assert_uint_eq(json_array_size(json_object_get(row, "actions")),
                              (size_t)json_integer_value(json_object_get(row, "steps")));
            ck_assert_double_ge(json_number_value(json_object_get(row, "reward")), 0.5);
            seen++;
        }
        json_decref(rows);
    } while (got == 5);
    ck_assert_uint_eq(seen, json_array_size(all));
    json_decref(all);
}
END_TEST

/* ids of a stream; returns how many */
static size_t stream(const char *path, const char *headers, long *ids, size_t room)
{
    AUTO(answer) answer = {0};
    size_t count = 0;
    ask(&answer, "GET", path, headers, NULL);
    ck_assert_int_eq(answer.status, 200);
    ck_assert_ptr_nonnull(strstr(buf_chars(&answer.text), "text/event-stream"));
    for (char *at = strstr(answer.body, "id: "); at && count < room; at = strstr(at + 4, "id: "))
        ids[count++] = strtol(at + 4, NULL, 10);
    return count;
}

START_TEST(events_resume_without_a_gap)
{
    long all[256], rest[256];
    char headers[64];
    size_t count = stream("/v1/jobs/1/events", "", all, 256);
    ck_assert_uint_ge(count, 6);
    for (size_t i = 1; i < count; i++) ck_assert_int_eq(all[i], all[i - 1] + 1);
    (void)snprintf(headers, sizeof headers, "Last-Event-ID: %ld\r\n", all[2]);
    ck_assert_uint_eq(stream("/v1/jobs/1/events", headers, rest, 256), count - 3);
    ck_assert_int_eq(rest[0], all[3]);
    ck_assert_uint_eq(stream("/v1/jobs/1/events?after=2", "", rest, 256), count - 2);
}
END_TEST

/* a client that goes away in the middle of a stream leaves nothing behind */
START_TEST(a_lost_subscriber_is_forgotten)
{
    static const char forever[] = "{\"name\": \"long\", \"environments\": [{\"name\": \"adventure\"}], \"trainer\": "
                                  "{\"updates\": 100000}}";
    AUTO(answer) answer = {0};
    AUTO(answer) cancelled = {0};
    char path[64], request[256], chunk[64];
    ask(&answer, "POST", "/v1/jobs", JSON_TYPE, forever);
    json_t *root = json_of(&answer);
    long long id = json_integer_value(json_object_get(root, "id"));
    json_decref(root);
    (void)snprintf(request, sizeof request, "GET /v1/jobs/%lld/events HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", id, port);
    for (int i = 0; i < 40; i++) {
        int fd = dial();
        ck_assert(send_all(fd, request, strlen(request)));
        ck_assert_int_gt(recv(fd, chunk, sizeof chunk, 0), 0);
        (void)close(fd);
    }
    (void)snprintf(path, sizeof path, "/v1/jobs/%lld/cancel", id);
    ask(&cancelled, "POST", path, JSON_TYPE, "{}");
    ck_assert_int_eq(cancelled.status, 200);
    double subscribers = -1, end = stack_clock() + 20;
    while (subscribers != 0 && stack_clock() < end) {
        AUTO(answer) metrics = {0};
        stack_pause(200);
        ask(&metrics, "GET", "/metrics", "", NULL);
        const char *at = strstr(metrics.body, "\npal_gateway_subscribers{");
        if (at) subscribers = strtod(strchr(at, '}') + 1, NULL);
    }
    ck_assert_double_eq(subscribers, 0);
}
END_TEST

/* every sample has its series' head before it, every series comes once, and every counter of a heartbeat is there */
START_TEST(metrics_are_prometheus_text)
{
    AUTO(answer) answer = {0};
    AUTO(answer) workers = {0};
    char series[128] = "", name[128];
    ask(&workers, "GET", "/v1/workers", "", NULL); /* first: a beat between the two may only add */
    ask(&answer, "GET", "/metrics", "", NULL);
    json_t *rows = json_of(&workers), *row = NULL, *value = NULL;
    size_t i = 0, samples = 0;
    json_array_foreach(rows, i, row)
    {
        const char *counter = NULL;
        json_object_foreach(json_object_get(row, "counters"), counter, value)
        {
            (void)snprintf(name, sizeof name, "\npal_%s_%s{", json_string_value(json_object_get(row, "service")), counter);
            ck_assert_msg(strstr(answer.body, name) != NULL, "%s is not in series.def", name + 1);
        }
    }
    json_decref(rows);
    for (char *line = strtok(answer.body, "\n"); line; line = strtok(NULL, "\n")) {
        if (sscanf(line, "# TYPE %127s", series) == 1 || line[0] == '#') continue;
        (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(line, "{ "), line);
        ck_assert_str_eq(name, series);
        samples++;
    }
    ck_assert_uint_gt(samples, 60);
}
END_TEST

START_TEST(an_episode_has_its_life_and_its_text)
{
    AUTO(answer) answer = {0};
    ask(&answer, "GET", "/v1/jobs/1/episodes/0", "", NULL);
    ck_assert_int_eq(answer.status, 200);
    json_t *root = json_of(&answer);
    ck_assert_ptr_nonnull(json_object_get(root, "group"));
    ck_assert_ptr_nonnull(json_object_get(root, "decisions"));
    ck_assert_uint_gt(json_array_size(json_object_get(root, "trained")), 0);
    ck_assert_uint_gt(json_array_size(json_object_get(root, "transcript")), 0);
    json_decref(root);
}
END_TEST

START_TEST(status_names_the_processes)
{
    AUTO(answer) answer = {0};
    ask(&answer, "GET", "/v1/status", "", NULL);
    json_t *root = json_of(&answer);
    ck_assert_uint_ge(json_array_size(json_object_get(root, "services")), 4);
    ck_assert_ptr_nonnull(json_object_get(json_object_get(root, "bottleneck"), "evidence"));
    json_decref(root);
    static const char *const paths[] = {"/healthz",
                                        "/readyz",
                                        "/openapi.json",
                                        "/",
                                        "/v1/jobs/1/decisions?limit=3",
                                        "/v1/jobs/1/tasks?limit=3",
                                        "/v1/jobs/1/checkpoints",
                                        "/v1/jobs/1/metrics?names=loss"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        AUTO(answer) other = {0};
        ask(&other, "GET", paths[i], "", NULL);
        ck_assert_msg(other.status == 200, "%s: %d", paths[i], other.status);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gateway");
    TCase *tcase = tcase_create("gateway");
    tcase_set_timeout(tcase, STACK_SLOW * 60);
    tcase_add_unchecked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, what_is_wrong_is_refused_with_a_problem, 0, sizeof refused / sizeof *refused);
    tcase_add_test(tcase, a_bad_job_is_refused_with_pointers);
    tcase_add_test(tcase, bad_demonstrations_are_refused_with_pointers);
    tcase_add_test(tcase, a_body_past_the_limit_is_not_read);
    tcase_add_test(tcase, a_key_gives_the_same_job);
    tcase_add_test(tcase, pages_follow_each_other);
    tcase_add_test(tcase, the_pool_is_what_was_solved);
    tcase_add_test(tcase, events_resume_without_a_gap);
    tcase_add_test(tcase, a_lost_subscriber_is_forgotten);
    tcase_add_test(tcase, metrics_are_prometheus_text);
    tcase_add_test(tcase, an_episode_has_its_life_and_its_text);
    tcase_add_test(tcase, status_names_the_processes);
    suite_add_tcase(suite, tcase);
    return stack_run(suite);
}
