/* LABELS: unit
 * bus: messages arrive in order and whole turns are handed over; what a peer does not take waits, within a bound; bad frames
 * are counted and survived; plain tcp stays on loopback; faults are made on purpose, the same for the same seed. */
#include "services/common/bus/bus.h"
#include "services/common/bus/faults.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zmq.h>

struct end {
    struct bus *bus;
    char last_peer[BUS_PEER_BYTES];
    uint64_t got, turns, bad, out_of_order;
    uint64_t want;
    uv_loop_t *loop;
    uint64_t echo; /* answers to send */
};

static void on_message(void *ctx, const char *peer, enum wire_id id, const void *message)
{
    struct end *end = ctx;
    (void)snprintf(end->last_peer, sizeof end->last_peer, "%s", peer);
    ck_assert_int_eq((int)id, (int)WIRE_lease_request);
    const struct wire_lease_request *request = message;
    if (request->free_slots != end->got) end->out_of_order++;
    end->got++;
    if (end->got == end->want) uv_stop(end->loop);
}

static void on_turn(void *ctx)
{
    struct end *end = ctx;
    end->turns++;
}

static void on_bad(void *ctx, const char *peer, const char *why)
{
    (void)peer;
    ck_assert_uint_gt(strlen(why), 0);
    struct end *end = ctx;
    end->bad++;
}

static void give_up(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

/* a socket file of our own, removed by finish */
static void endpoint_of(char *endpoint, size_t size)
{
    (void)snprintf(endpoint, size, "ipc:///tmp/pal-test-bus-%d.sock", (int)getpid());
}

static void close_walk(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle)) uv_close(handle, NULL);
}

static void finish(uv_loop_t *loop, struct end *a, struct end *b)
{
    char endpoint[128];
    endpoint_of(endpoint, sizeof endpoint);
    bus_free(&a->bus);
    bus_free(&b->bus);
    (void)uv_run(loop, UV_RUN_NOWAIT);
    uv_walk(loop, close_walk, NULL);
    (void)uv_run(loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(loop), 0);
    (void)unlink(endpoint + strlen("ipc://"));
}

START_TEST(messages_arrive_in_order_in_turns)
{
    uv_loop_t loop;
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    char endpoint[128];
    endpoint_of(endpoint, sizeof endpoint);
    struct end server = {.loop = &loop, .want = 20000};
    struct end client = {.loop = &loop};
    ck_assert_int_eq(bus_listen(&server.bus, &loop, endpoint, (struct bus_events){&server, on_message, on_turn, on_bad}),
                     ERR_ok);
    ck_assert_int_eq(
        bus_connect(&client.bus, &loop, endpoint, "client-1", (struct bus_events){&client, on_message, on_turn, on_bad}),
        ERR_ok);
    for (uint64_t i = 0; i < 20000; i++) { /* far past the high-water mark: the rest waits in the queue */
        struct wire_lease_request request = {.job = 1, .free_slots = i};
        ck_assert_int_eq(bus_send(client.bus, NULL, WIRE_lease_request, &request), ERR_ok);
    }
    uv_timer_t timer;
    (void)uv_timer_init(&loop, &timer);
    (void)uv_timer_start(&timer, give_up, 20000, 0);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_uint_eq(server.got, 20000);
    ck_assert_uint_eq(server.out_of_order, 0);
    ck_assert_uint_ge(server.turns, 20000 / BUS_TURN_MESSAGES);
    ck_assert_str_eq(server.last_peer, "client-1");
    ck_assert_uint_eq(bus_stats(client.bus)->given_up, 0);
    finish(&loop, &server, &client);
}
END_TEST

START_TEST(a_message_for_an_absent_peer_waits_for_it)
{
    uv_loop_t loop;
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    char endpoint[128];
    endpoint_of(endpoint, sizeof endpoint);
    struct end server = {.loop = &loop}, client = {.loop = &loop, .want = 3};
    ck_assert_int_eq(bus_listen(&server.bus, &loop, endpoint, (struct bus_events){&server, on_message, NULL, NULL}), ERR_ok);
    for (uint64_t i = 0; i < 3; i++) {
        struct wire_lease_request request = {.job = 1, .free_slots = i};
        ck_assert_int_eq(bus_send(server.bus, "late", WIRE_lease_request, &request), ERR_ok);
    }
    ck_assert_uint_eq(bus_stats(server.bus)->waiting, 3);
    ck_assert_int_eq(bus_connect(&client.bus, &loop, endpoint, "late", (struct bus_events){&client, on_message, NULL, NULL}),
                     ERR_ok);
    uv_timer_t timer;
    (void)uv_timer_init(&loop, &timer);
    (void)uv_timer_start(&timer, give_up, 5000, 0);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_uint_eq(client.got, 3);
    ck_assert_uint_eq(client.out_of_order, 0);
    ck_assert_uint_eq(bus_stats(server.bus)->waiting, 0);
    finish(&loop, &server, &client);
}
END_TEST

START_TEST(bad_frames_are_counted_and_survived)
{
    uv_loop_t loop;
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    char endpoint[128];
    endpoint_of(endpoint, sizeof endpoint);
    struct end server = {.loop = &loop, .want = 1}, client = {.loop = &loop};
    ck_assert_int_eq(bus_listen(&server.bus, &loop, endpoint, (struct bus_events){&server, on_message, NULL, on_bad}),
                     ERR_ok);
    void *context = zmq_ctx_new();
    void *raw = zmq_socket(context, ZMQ_DEALER);
    ck_assert_int_eq(zmq_connect(raw, endpoint), 0);
    ck_assert_int_eq(zmq_send(raw, "garbage", 7, 0), 7);
    ck_assert_int_eq(zmq_send(raw, "", 0, 0), 0);
    ck_assert_int_eq(zmq_send(raw, "two", 3, ZMQ_SNDMORE), 3);
    ck_assert_int_eq(zmq_send(raw, "parts", 5, 0), 5);
    AUTO(buf) frame = {0};
    struct wire_lease_request request = {.job = 1};
    ck_assert_int_eq(wire_encode(WIRE_lease_request, &request, &frame), ERR_ok);
    ck_assert_int_eq(zmq_send(raw, frame.data, frame.size, 0), (int)frame.size);
    uv_timer_t timer;
    (void)uv_timer_init(&loop, &timer);
    (void)uv_timer_start(&timer, give_up, 5000, 0);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_uint_eq(server.got, 1);
    ck_assert_uint_eq(bus_stats(server.bus)->bad, 3);
    ck_assert_uint_eq(server.bad, 1); /* said once per peer */
    (void)zmq_setsockopt(raw, ZMQ_LINGER, &(int){0}, sizeof(int));
    (void)zmq_close(raw);
    (void)zmq_ctx_term(context);
    finish(&loop, &server, &client);
}
END_TEST

START_TEST(plain_tcp_stays_on_loopback)
{
    uv_loop_t loop;
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    struct bus *bus = NULL;
    ck_assert_int_eq(bus_listen(&bus, &loop, "tcp://0.0.0.0:5999", (struct bus_events){0}), ERR_refused);
    ck_assert_int_eq(bus_connect(&bus, &loop, "tcp://10.0.0.1:5999", "x", (struct bus_events){0}), ERR_refused);
    ck_assert_ptr_null(bus);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}
END_TEST

/* ---- faults ---- */

#define FAULTY 4000

struct heard {
    struct end end;
    uint64_t numbers[2 * FAULTY];
};

static void on_numbered(void *ctx, const char *peer, enum wire_id id, const void *message)
{
    struct heard *heard = ctx;
    (void)peer;
    (void)id;
    if (heard->end.got && heard->numbers[heard->end.got - 1] == UINT64_MAX) return; /* the last one comes often */
    ck_assert_uint_lt(heard->end.got, 2 * FAULTY);
    heard->numbers[heard->end.got++] = ((const struct wire_lease_request *)message)->free_slots;
    if (heard->numbers[heard->end.got - 1] == UINT64_MAX) uv_stop(heard->end.loop);
}

/* FAULTY messages through a link with these faults, then one that comes for certain. */
static void send_with(const char *faults, struct heard *heard)
{
    uv_loop_t loop;
    char endpoint[128];
    struct end client = {.loop = &loop};
    *heard = (struct heard){.end.loop = &loop};
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    endpoint_of(endpoint, sizeof endpoint);
    ck_assert_int_eq(bus_listen(&heard->end.bus, &loop, endpoint, (struct bus_events){heard, on_numbered, NULL, NULL}),
                     ERR_ok);
    ck_assert_int_eq(setenv(FAULTS_VARIABLE, faults, 1), 0);
    ck_assert_int_eq(bus_connect(&client.bus, &loop, endpoint, "client-1", (struct bus_events){&client, NULL, NULL, NULL}),
                     ERR_ok);
    ck_assert_int_eq(unsetenv(FAULTS_VARIABLE), 0);
    for (uint64_t i = 0; i < FAULTY; i++) {
        struct wire_lease_request request = {.job = 1, .free_slots = i};
        ck_assert_int_eq(bus_send(client.bus, NULL, WIRE_lease_request, &request), ERR_ok);
    }
    const struct wire_lease_request last = {.job = 1, .free_slots = UINT64_MAX};
    for (int i = 0; i < 20; i++) ck_assert_int_eq(bus_send(client.bus, NULL, WIRE_lease_request, &last), ERR_ok);
    uv_timer_t timer;
    (void)uv_timer_init(&loop, &timer);
    (void)uv_timer_start(&timer, give_up, 20000, 0);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_uint_gt(bus_stats(client.bus)->faults, 0);
    finish(&loop, &heard->end, &client);
}

START_TEST(faults_lose_repeat_and_delay_in_order)
{
    static struct heard first, again, other;
    send_with("drop=0.1,duplicate=0.1,delay=0.01,delay_ms=5,seed=7", &first);
    uint64_t lost = FAULTY, repeated = 0, last = 0;
    for (uint64_t i = 0; i + 1 < first.end.got; i++) {
        ck_assert_uint_le(last, first.numbers[i]);
        repeated += i > 0 && last == first.numbers[i];
        lost -= i == 0 || last != first.numbers[i];
        last = first.numbers[i];
    }
    ck_assert_uint_gt(lost, FAULTY / 20);
    ck_assert_uint_lt(lost, FAULTY / 5);
    ck_assert_uint_gt(repeated, FAULTY / 20);
    ck_assert_uint_lt(repeated, FAULTY / 5);
    send_with("drop=0.1,duplicate=0.1,delay_ms=1,delay=0.01,seed=7", &again);
    ck_assert_uint_eq(again.end.got, first.end.got);
    ck_assert_mem_eq(again.numbers, first.numbers, first.end.got * sizeof *first.numbers);
    send_with("drop=0.1,duplicate=0.1,seed=8", &other);
    ck_assert_mem_ne(other.numbers, first.numbers, 1000 * sizeof *first.numbers);
}
END_TEST

START_TEST(faults_that_are_not_understood_are_named)
{
    static const char *const bad[] = {"drop",         "drop=", "drop=2",   "drop=x", "lose=0.1", "drop=0.1;seed=3",
                                      "delay_ms=1e9", ",",     "drop=nan", "seed=-1"};
    struct faults faults;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(faults_init(&faults, bad[i], "x"), ERR_invalid);
        ck_assert_ptr_nonnull(strstr(err_text(), FAULTS_VARIABLE));
    }
    ck_assert_int_eq(faults_init(&faults, "", "x"), ERR_ok);
    ck_assert(!faults.on);
    ck_assert_int_eq(faults_init(&faults, "delay_ms=10", "x"), ERR_ok);
    ck_assert(faults.on);
    ck_assert_double_eq(faults.delay, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bus");
    TCase *tcase = tcase_create("bus");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, messages_arrive_in_order_in_turns);
    tcase_add_test(tcase, a_message_for_an_absent_peer_waits_for_it);
    tcase_add_test(tcase, bad_frames_are_counted_and_survived);
    tcase_add_test(tcase, plain_tcp_stays_on_loopback);
    tcase_add_test(tcase, faults_lose_repeat_and_delay_in_order);
    tcase_add_test(tcase, faults_that_are_not_understood_are_named);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
