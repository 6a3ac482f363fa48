/* A door between a program and PostgreSQL that fails on request: it lies in a folder as the server's socket does and passes
 * everything on, but for what its faults say.
 *
 * A fault names a statement (as prepared, store_<noun>.c): it fires once, at the COMMIT of the next transaction that ran it.
 * PROXY_LOSE_BEFORE: the COMMIT is not passed on and the connection is gone: nothing was written. PROXY_LOSE_AFTER: it is
 * passed on, the server does it, and the connection is gone before the answer: it was written. PROXY_SLOW: it is passed on
 * `slow_ms` later. It runs in the caller's loop: while nobody turns that, nothing passes. */
#ifndef PAL_TESTS_PROXY_H
#define PAL_TESTS_PROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#define PROXY_TEXT   512
#define PROXY_FAULTS 32
#define PROXY_LINKS  16

enum proxy_kind { PROXY_LOSE_BEFORE, PROXY_LOSE_AFTER, PROXY_SLOW };

struct proxy_fault {
    const char *statement;
    enum proxy_kind kind;
    bool fired;
};

struct proxy_link;

struct proxy {
    uv_loop_t *loop;
    uv_pipe_t door;
    char server[PROXY_TEXT]; /* the server's socket */
    struct proxy_link *links[PROXY_LINKS];
    struct proxy_fault faults[PROXY_FAULTS];
    size_t fault_count;
    uint64_t slow_ms;
    bool shut; /* nobody is let in */
    uint64_t commits, connects;
};

/* dir: a folder for the door; server_dir: the folder of the server's socket. Fails the test when it cannot. */
void proxy_open(struct proxy *proxy, uv_loop_t *loop, const char *dir, const char *server_dir);
void proxy_fault(struct proxy *proxy, const char *statement, enum proxy_kind kind);
size_t proxy_waiting(const struct proxy *proxy); /* faults that did not fire yet */
void proxy_cut(struct proxy *proxy);             /* every connection is gone */
void proxy_close(struct proxy *proxy);           /* handles are closed when the loop has turned */

#endif
