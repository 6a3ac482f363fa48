/* pal: the command line. Exit codes: 0 done, 1 failed, 2 usage. */
#ifndef PAL_CTL_CTL_H
#define PAL_CTL_CTL_H

#include "services/common/base/buf.h"
#include "services/common/store/store.h"

#include <jansson.h>

#define CTL_PATH_BYTES 512

struct ctl {
    char state_dir[CTL_PATH_BYTES]; /* absolute */
    char bin_dir[CTL_PATH_BYTES];   /* where this program and the services lie */
    bool json;
    int argc; /* what is left after the command's name and the common options */
    char **argv;
};

/* Options of a command: takes "--name" (flag) or "--name VALUE" out of argv. */
bool ctl_flag(struct ctl *ctl, const char *name);
const char *ctl_option(struct ctl *ctl, const char *name); /* NULL when absent */
/* The only argument left as a number; prints usage and returns false otherwise. */
bool ctl_id(struct ctl *ctl, int64_t *ret);
/* Complains about arguments that are left. */
bool ctl_no_more(const struct ctl *ctl, int allowed);
int ctl_fail(err_t err); /* prints the sentence, returns 1 */

/* client.c: REST */
struct reply {
    long status; /* HTTP; 0: not reached */
    struct buf body;
};
void reply_fini(struct reply *reply);
err_t client_port(const struct ctl *ctl, int *ret) MUST_USE;
/* method path; body NULL for none; header NULL or one "Name: value". ERR_unavailable when the stack is not up. */
err_t client_call(const struct ctl *ctl, const char *method, const char *path, const char *body, const char *header,
                  int timeout_ms, struct reply *ret) MUST_USE;
/* As above, expecting 2xx: a problem becomes its sentence. */
err_t client_json(const struct ctl *ctl, const char *method, const char *path, const char *body, json_t **ret) MUST_USE;
/* A POST that counts once however often it is asked for: with a key of its own, and again while the ledger is away. */
err_t client_once(const struct ctl *ctl, const char *path, const char *body, json_t **ret) MUST_USE;
bool client_ready(const struct ctl *ctl);

/* show.c: the ledger of this state directory, to read */
err_t ctl_ledger(const struct ctl *ctl, struct store **ret) MUST_USE;

/* supervise.c */
struct supervise_options {
    int port;
    int ready_fd; /* one byte is written there when the stack is ready; -1: none */
    bool quiet;
};
int supervise(const struct ctl *ctl, const struct supervise_options *options);
/* up.c: a stack in the background, ready; and its end. */
err_t stack_start(const struct ctl *ctl, int port) MUST_USE;
err_t stack_stop(const struct ctl *ctl) MUST_USE;
bool stack_runs(const struct ctl *ctl, long *ret_pid);

/* show.c and watch.c */
const char *ctl_text(const json_t *object, const char *key); /* "" when absent */
double ctl_number(const json_t *object, const char *key);    /* 0 when absent */
int watch_job(struct ctl *ctl, int64_t job, bool quiet);     /* until it ends; 0 when it succeeded */
int print_json(const json_t *value);                         /* returns 0 */
/* episode.c */
err_t ctl_newest_job(struct ctl *ctl, int64_t *ret) MUST_USE;
int print_episode(struct ctl *ctl, int64_t job, int64_t episode);

#define COMMAND(name, function, arguments, doc) int command_##function(struct ctl *ctl);
#include "services/ctl/commands.def"
#undef COMMAND

#endif
