#include "services/common/run/service.h"

#include "services/common/base/digest.h"
#include "services/common/bus/faults.h"
#include "services/common/run/log.h"
#include "services/common/run/process.h"
#include "services/common/run/rundir.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

void pulse_counter(struct service_pulse *pulse, const char *name, double value)
{
    size_t max = sizeof pulse->counters / sizeof *pulse->counters;
    BUG_IF(pulse->counter_count == max);
    pulse->counters[pulse->counter_count++] = (struct wire_counter){span_text(name), value};
}

void service_endpoint(const struct service *service, const char *name, char *ret, size_t size)
{
    (void)snprintf(ret, size, "ipc://%s/%s.sock", service->run_dir, name);
}

void service_tell(struct service *service, enum wire_id id, const void *message)
{
    err_t err = bus_send(service->data, NULL, id, message);
    if (err != ERR_ok) log_err(LOG_LEVEL_WARN, err, "telling the data manager");
}

static void say_hello(struct service *service)
{
    char host[256] = "localhost";
    (void)gethostname(host, sizeof host - 1);
    struct wire_hello hello = {.service = span_text(service->class->name),
                               .host = span_text(host),
                               .incarnation = service->incarnation,
                               .pid = (uint64_t)getpid()};
    service_tell(service, WIRE_hello, &hello);
}

static void on_beat(uv_timer_t *timer)
{
    struct service *service = timer->data;
    struct service_pulse pulse = {.beat = {.version = -1}};
    service->class->heartbeat(service, &pulse);
    pulse.beat.incarnation = service->incarnation;
    pulse.beat.counters = pulse.counters;
    pulse.beat.counters_count = pulse.counter_count;
    if (service->data) service_tell(service, WIRE_heartbeat, &pulse.beat);
}

static void on_message(void *ctx, const char *peer, enum wire_id id, const void *message)
{
    (void)peer;
    struct service *service = ctx;
    service->heard_ms = uv_now(&service->loop);
    if (id == WIRE_heartbeat_ack) {
        const struct wire_heartbeat_ack *ack = message;
        service->epoch = ack->epoch;
        if (!ack->hello_again) return;
        log_info("the data manager (epoch %lu) does not know us: hello again", (unsigned long)ack->epoch);
        say_hello(service);
        if (service->class->on_hello_again) service->class->on_hello_again(service);
        return;
    }
    service->class->on_message(service, id, message);
}

static void on_turn(void *ctx)
{
    struct service *service = ctx;
    if (service->class->on_turn) service->class->on_turn(service);
}

static void on_bad(void *ctx, const char *peer, const char *why)
{
    (void)ctx;
    log_warn("a bad frame from %s: %s (further ones are only counted)", *peer ? peer : "data", why);
}

void service_quit(struct service *service, int exit_code)
{
    if (service->stopping) return;
    service->stopping = true;
    service->exit_code = exit_code;
    service->class->stop(service);
    uv_close((uv_handle_t *)&service->beat, NULL);
    uv_close((uv_handle_t *)&service->on_term, NULL);
    uv_close((uv_handle_t *)&service->on_int, NULL);
    bus_free(&service->data);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct service *service = handle->data;
    log_info("signal %d: stopping", number);
    (void)signal(number, SIG_DFL);             /* the second one ends the process at once */
    bool alone = getppid() != service->parent; /* the supervisor is gone, and with it who would hear of it */
    if (alone || !service->class->drain || !service->class->drain(service)) service_quit(service, 0);
}

static int usage(const struct service_class *class, int code)
{
    (void)fprintf(code ? stderr : stdout,
                  "usage: pal-%s --state DIR [--threads N]\n\n%s\n\n"
                  "  --state DIR    the stack's state directory (sockets, files)\n"
                  "  --threads N    compute threads (default: the processors at hand)\n%s"
                  "  PAL_LOG        error | warn | info | debug\n\n"
                  "Usually started by `pal up`.\n",
                  class->name, class->doc, class->options_help ? class->options_help : "");
    return code;
}

static err_t set_state(struct service *service, const char *path)
{
    if (path[0] != '/') {
        char cwd[SERVICE_PATH_BYTES] = "";
        if (!getcwd(cwd, sizeof cwd)) return err_set(ERR_io, "no working directory");
        int n = snprintf(service->state_dir, sizeof service->state_dir, "%s/%s", cwd, path);
        if (n < 0 || (size_t)n >= sizeof service->state_dir) return err_set(ERR_too_large, "--state %s is too long", path);
    } else if (strlen(path) >= sizeof service->state_dir) {
        return err_set(ERR_too_large, "--state %s is too long", path);
    } else {
        memcpy(service->state_dir, path, strlen(path) + 1);
    }
    TRY(rundir_path(service->state_dir, service->run_dir, sizeof service->run_dir));
    return rundir_make(service->run_dir);
}

static err_t parse(struct service *service, int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) { /* every option has a value */
        const char *name = argv[i];
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(name, "--state") == 0 && value) {
            TRY(set_state(service, value));
        } else if (strcmp(name, "--threads") == 0 && value) {
            long n = strtol(value, NULL, 10);
            if (n < 1 || n > 256) return err_set(ERR_invalid, "--threads %s: 1 to 256", value);
            service->threads = (size_t)n;
        } else if (!service->class->option || !service->class->option(service, name, value)) {
            return err_set(ERR_invalid, "option %s is not known or lacks its value", name);
        }
    }
    return service->state_dir[0] ? ERR_ok : err_set(ERR_invalid, "--state DIR is missing");
}

static err_t start(struct service *service)
{
    TRY(random_bytes(&service->incarnation, sizeof service->incarnation));
    TRY(process_note(service->run_dir, service->class->name));
    service->incarnation >>= 1; /* fits a bigint */
    if (service->class->links_to_data) {
        char endpoint[SERVICE_PATH_BYTES + 32], identity[BUS_PEER_BYTES];
        service_endpoint(service, "data", endpoint, sizeof endpoint);
        (void)snprintf(identity, sizeof identity, "%s-%016lx", service->class->name, (unsigned long)service->incarnation);
        struct bus_events events = {service, on_message, on_turn, on_bad};
        TRY(bus_connect(&service->data, &service->loop, endpoint, identity, events));
    }
    TRY(service->class->init(service));
    if (service->data) say_hello(service);
    return ERR_ok;
}

int service_main(int argc, char **argv, const struct service_class *class)
{
    static struct service service; /* zeroed; one per process, never reached by name */
    service.class = class;
    service.parent = getppid();
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    service.threads = cpus > 0 && cpus < 256 ? (size_t)cpus : 1;
    log_open(class->name);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) return usage(class, 0);
    }
    if (parse(&service, argc, argv) != ERR_ok) {
        (void)fprintf(stderr, "pal-%s: %s\n\n", class->name, err_text());
        return usage(class, 2);
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    (void)signal(SIGPIPE, SIG_IGN);
    if (uv_loop_init(&service.loop) != 0) return 1;
    (void)uv_signal_init(&service.loop, &service.on_term);
    (void)uv_signal_init(&service.loop, &service.on_int);
    (void)uv_timer_init(&service.loop, &service.beat);
    service.on_term.data = service.on_int.data = service.beat.data = &service;
    (void)uv_signal_start(&service.on_term, on_signal, SIGTERM);
    (void)uv_signal_start(&service.on_int, on_signal, SIGINT);
    const char *faults = getenv(FAULTS_VARIABLE);
    if (faults && *faults) log_warn(FAULTS_VARIABLE " is %s: messages are lost, repeated or delayed on purpose", faults);
    err_t err = start(&service);
    if (err != ERR_ok) {
        log_err(LOG_LEVEL_ERROR, err, "start");
        service_quit(&service, 1);
    } else {
        log_info("started, pid %d", (int)getpid());
        (void)uv_timer_start(&service.beat, on_beat, 100, SERVICE_HEARTBEAT_MS);
    }
    (void)uv_run(&service.loop, UV_RUN_DEFAULT);
    if (class->fini) class->fini(&service);
    (void)uv_loop_close(&service.loop);
    log_info("stopped");
    return service.exit_code;
}
