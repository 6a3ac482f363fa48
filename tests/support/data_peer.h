/* A scripted data manager: the listening end of the real bus, and the service process under test connected to it.
 *
 * data_peer_start makes a fresh state directory, listens where services expect the data manager and starts bin/PROGRAM;
 * each message goes to on_message (heartbeats are answered by the peer itself and counted). data_peer_wait runs the loop
 * until a condition holds or its deadline passes. The service dies with the test program. */
#ifndef PAL_TESTS_DATA_PEER_H
#define PAL_TESTS_DATA_PEER_H

#include "services/common/bus/bus.h"

#include <sys/types.h>

#define DATA_PEER_PATH_BYTES 256

struct data_peer {
    char state_dir[DATA_PEER_PATH_BYTES];
    char peer[BUS_PEER_BYTES]; /* identity of the service, "" until it was heard */
    uv_loop_t loop;
    struct bus *bus;
    uv_timer_t deadline;
    pid_t pid;            /* of the service, 0: none */
    const char *crash_at; /* PAL_CRASH_AT of what is started next, or NULL */
    const char *trace;    /* where strace writes its calls to the system that succeed, or NULL */
    uint64_t beats;
    uint64_t hellos;
    bool hello_again; /* what the next heartbeat is answered with; then false */
    bool expired;
    void *ctx;
    void (*on_message)(void *ctx, enum wire_id id, const void *message);
};

void data_peer_start(struct data_peer *peer, const char *program);
void data_peer_end(struct data_peer *peer);  /* SIGTERM to the service, hears it until its end, which must be a clean one */
void data_peer_stop(struct data_peer *peer); /* the same, unless it has ended, and removes the state directory */
void data_peer_again(struct data_peer *peer, const char *program); /* a new process after data_peer_end */

/* kill -9 and a new process on the same state directory */
void data_peer_restart(struct data_peer *peer, const char *program);
/* The same after it killed itself (crash.h), which is waited for: false when it is still there after deadline_ms. */
bool data_peer_crashed(struct data_peer *peer, const char *program, int deadline_ms);
void data_peer_send(struct data_peer *peer, enum wire_id id, const void *message);
/* false when the deadline passed first */
bool data_peer_wait(struct data_peer *peer, bool (*holds)(void *ctx), int deadline_ms);

#endif
