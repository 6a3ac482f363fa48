/* The frame of a service process: options, log, loop, signals, hello and heartbeats to the data manager.
 *
 * main() of a service is `return service_main(argc, argv, &class);`. The frame reads --state DIR and --threads N, opens the
 * log, makes the loop, links to the data manager (unless the service is the data manager) as identity NAME-INCARNATION, calls
 * init, says hello, heartbeats once a second, and runs until SIGTERM or SIGINT; then drain where there is one, stop, close
 * everything, fini. A second signal ends it at once. A service dies with its supervisor (PR_SET_PDEATHSIG). When data answers
 * `hello_again` (it was restarted), the frame says hello again and calls on_hello_again, so the service resends what is
 * unacknowledged. */
#ifndef PAL_RUN_SERVICE_H
#define PAL_RUN_SERVICE_H

#include "services/common/bus/bus.h"

#define SERVICE_PATH_BYTES   512
#define SERVICE_HEARTBEAT_MS 1000
#define SERVICE_HOPELESS     78 /* exit code: starting it again will not help, people must look (EX_CONFIG) */

struct service;

/* What a heartbeat says; a service fills it in its class's `heartbeat`. */
struct service_pulse {
    struct wire_heartbeat beat; /* incarnation is filled by the frame */
    struct wire_counter counters[128];
    size_t counter_count;
};

void pulse_counter(struct service_pulse *pulse, const char *name, double value); /* name is borrowed */

struct service_class {
    const char *name; /* "rollout": the process is pal-rollout */
    const char *doc;  /* for --help */
    bool links_to_data;
    err_t (*init)(struct service *service);
    /* from the data manager; may be NULL when links_to_data is false */
    void (*on_message)(struct service *service, enum wire_id id, const void *message);
    void (*on_turn)(struct service *service);        /* after the messages of one turn; may be NULL */
    void (*on_hello_again)(struct service *service); /* may be NULL */
    void (*heartbeat)(struct service *service, struct service_pulse *pulse);
    /* Asked to end while the rest of the stack still lives: true when something is finished first, and service_quit is then
     * called by the service itself; may be NULL. */
    bool (*drain)(struct service *service);
    void (*stop)(struct service *service); /* close your handles; the loop then runs until none is left */
    void (*fini)(struct service *service);
    /* options of its own: returns true when it took `name` (value may be NULL); may be NULL */
    bool (*option)(struct service *service, const char *name, const char *value);
    const char *options_help; /* lines for --help, or NULL */
};

struct service {
    const struct service_class *class;
    uv_loop_t loop;
    char state_dir[SERVICE_PATH_BYTES]; /* absolute */
    char run_dir[SERVICE_PATH_BYTES];   /* sockets: ipc://RUN_DIR/NAME.sock */
    size_t threads;
    uint64_t incarnation;
    struct bus *data;  /* link to the data manager, or NULL */
    uint64_t epoch;    /* data_epoch as last heard, 0 before */
    uint64_t heard_ms; /* when the data manager said anything last */
    void *self;        /* the service's own state */
    uv_signal_t on_term, on_int;
    uv_timer_t beat;
    pid_t parent;
    bool stopping;
    int exit_code;
};

int service_main(int argc, char **argv, const struct service_class *class);
/* "ipc://RUN_DIR/NAME.sock" */
void service_endpoint(const struct service *service, const char *name, char *ret, size_t size);
/* To the data manager; a failure is logged. */
void service_tell(struct service *service, enum wire_id id, const void *message);
/* Stops the process from inside, e.g. after an error that only a restart mends. */
void service_quit(struct service *service, int exit_code);

#endif
