#include "bench/support/rig.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#define ALL_PROCESSES 4096

double rig_now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void rig_pause(long ms)
{
    const struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    (void)nanosleep(&t, NULL);
}

static const struct rig *opened; /* what rig_die stops */

void rig_die(const char *what, const char *why)
{
    const struct rig *rig = opened;
    opened = NULL;
    (void)fprintf(stderr, "%s: %s\n", what, why);
    if (rig) {
        (void)rig_pal(rig, "down", NULL, 0);
        (void)fprintf(stderr, "the stack's logs are in %s/logs\n", rig->state);
    }
    exit(1);
}

void rig_usage(int argc, char **argv, const struct rig_words *words)
{
    for (int i = 1; i < argc; i++) {
        const struct rig_words *word = words;
        size_t length = 0;
        for (; word->option; word++) {
            length = strcspn(word->option, " ");
            if (strncmp(argv[i], word->option, length) == 0 && argv[i][length] == 0) break;
        }
        bool known = word->option && (!word->option[length] || i + 1 < argc);
        if (known && word->option[length]) i++; /* its value */
        if (known) continue;
        bool help = strcmp(argv[i], "--help") == 0;
        FILE *to = help ? stdout : stderr;
        if (!help) (void)fprintf(to, "%s: is not known or lacks its value\n", argv[i]);
        for (word = words; word->option; word++) (void)fprintf(to, "  %-16s %s\n", word->option, word->doc);
        exit(help ? 0 : 2);
    }
}

const char *rig_option(int argc, char **argv, const char *name, const char *otherwise)
{
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], name) == 0) return argv[i + 1];
    }
    return otherwise;
}

bool rig_flag(int argc, char **argv, const char *name)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], name) == 0) return true;
    }
    return false;
}

void rig_open(struct rig *rig)
{
    *rig = (struct rig){.state = "/tmp/pal-bench-XXXXXX"};
    ssize_t n = readlink("/proc/self/exe", rig->bin, sizeof rig->bin - 1);
    if (n <= 0 || !mkdtemp(rig->state)) rig_die("a folder under /tmp", "cannot be made");
    *strrchr(rig->bin, '/') = 0;
    rig->curl = curl_easy_init();
    if (!rig->curl) rig_die("libcurl", "no memory");
    opened = rig;
}

bool rig_mount(struct rig *rig, long mib)
{
    char options[64];
    (void)snprintf(options, sizeof options, "size=%ldm,mode=0700", mib);
    rig->mounted = mount("tmpfs", rig->state, "tmpfs", 0, options) == 0;
    return rig->mounted;
}

void rig_close(struct rig *rig)
{
    char command[128];
    if (!rig_pal(rig, "down", NULL, 0)) rig_die("pal down", "failed");
    opened = NULL;
    if (rig->mounted && umount2(rig->state, MNT_DETACH) != 0) rig_die(rig->state, "cannot be unmounted");
    (void)snprintf(command, sizeof command, "rm -rf '%s'", rig->state);
    if (system(command) != 0) rig_die("removing", rig->state);
    curl_easy_cleanup(rig->curl);
}

bool rig_pal(const struct rig *rig, const char *words, char *ret, int size)
{
    char command[1400], line[256] = "";
    (void)snprintf(command, sizeof command, "'%s/pal' --state '%s' %s", rig->bin, rig->state, words);
    FILE *pipe = popen(command, "r");
    if (!pipe) rig_die("popen", command);
    if (fgets(line, sizeof line, pipe) && ret) (void)snprintf(ret, (size_t)size, "%s", line);
    while (fgets(line, sizeof line, pipe)) {
    }
    return pclose(pipe) == 0;
}

static long read_number(const struct rig *rig, const char *name)
{
    char path[128], line[32] = "";
    (void)snprintf(path, sizeof path, "%s/%s", rig->state, name);
    FILE *file = fopen(path, "re");
    if (!file || !fgets(line, sizeof line, file)) rig_die(path, "cannot be read");
    (void)fclose(file);
    return strtol(line, NULL, 10);
}

double rig_start(struct rig *rig)
{
    double begin = rig_now();
    opened = rig;
    if (!rig_pal(rig, "up --detach --port 0", NULL, 0)) rig_die("pal up", "the stack did not start");
    double took = rig_now() - begin;
    (void)snprintf(rig->url, sizeof rig->url, "http://127.0.0.1:%ld", read_number(rig, "gateway.port"));
    rig->supervisor = read_number(rig, "pal.pid");
    return took;
}

/* ---- REST ---- */

struct body {
    char *text;
    size_t size;
};

static size_t on_body(char *data, size_t size, size_t count, void *ctx)
{
    struct body *body = ctx;
    char *more = realloc(body->text, body->size + size * count + 1);
    if (!more) return 0;
    body->text = more;
    memcpy(more + body->size, data, size * count);
    body->size += size * count;
    more[body->size] = 0;
    return size * count;
}

json_t *rig_ask(const struct rig *rig, const char *path, double *ret_ms)
{
    char url[256];
    struct body body = {0};
    (void)snprintf(url, sizeof url, "%s%s", rig->url, path);
    (void)curl_easy_setopt(rig->curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(rig->curl, CURLOPT_NOPROXY, "*");
    (void)curl_easy_setopt(rig->curl, CURLOPT_TIMEOUT_MS, 10000L);
    (void)curl_easy_setopt(rig->curl, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(rig->curl, CURLOPT_WRITEDATA, &body);
    double begin = rig_now();
    CURLcode code = curl_easy_perform(rig->curl);
    if (ret_ms) *ret_ms = 1e3 * (rig_now() - begin);
    json_t *root = code == CURLE_OK && body.text ? json_loadb(body.text, body.size, 0, NULL) : NULL;
    free(body.text);
    return root;
}

json_t *rig_get(const struct rig *rig, const char *path, double *ret_ms)
{
    json_t *root = rig_ask(rig, path, ret_ms);
    if (!root) rig_die(path, "the gateway does not answer with JSON");
    return root;
}

double rig_number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

json_t *rig_counters(const json_t *status, const char *service)
{
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(json_object_get(status, "services"), i, row)
    {
        const char *name = json_string_value(json_object_get(row, "service"));
        const char *state = json_string_value(json_object_get(row, "state"));
        if (name && state && strcmp(name, service) == 0 && strcmp(state, "alive") == 0)
            return json_object_get(row, "counters");
    }
    return NULL;
}

/* ---- processes ---- */

static bool read_process(const char *pid, struct rig_process *ret)
{
    char path[300], text[1024] = "";
    (void)snprintf(path, sizeof path, "/proc/%s/stat", pid);
    FILE *file = fopen(path, "re");
    if (!file) return false;
    bool good = fgets(text, sizeof text, file) != NULL;
    (void)fclose(file);
    char *open = strchr(text, '('), *close = strrchr(text, ')');
    if (!good || !open || !close) return false;
    unsigned long utime = 0, stime = 0;
    long cutime = 0, cstime = 0, parent = 0;
    if (sscanf(close + 2, "%*c %ld %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %ld %ld", &parent, &utime, &stime, &cutime,
               &cstime) != 5)
        return false;
    double tick = (double)sysconf(_SC_CLK_TCK);
    *ret = (struct rig_process){.pid = strtol(pid, NULL, 10),
                                .parent = parent,
                                .cpu_s = (double)(utime + stime) / tick,
                                .children_s = (double)(cutime + cstime) / tick};
    (void)snprintf(ret->comm, sizeof ret->comm, "%.*s", (int)(close - open - 1), open + 1);
    return true;
}

double rig_memory_mib(long pid, const char *what)
{
    char path[64], line[128];
    double kib = 0;
    size_t length = strlen(what);
    (void)snprintf(path, sizeof path, "/proc/%ld/status", pid);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, what, length) == 0 && line[length] == ':') kib = strtod(line + length + 1, NULL);
    }
    if (file) (void)fclose(file);
    return kib / 1024;
}

static bool descends(const struct rig_process *all, size_t count, long pid, long ancestor)
{
    for (int depth = 0; depth < 8 && pid > 1; depth++) {
        if (pid == ancestor) return true;
        long parent = 0;
        for (size_t i = 0; i < count && !parent; i++) parent = all[i].pid == pid ? all[i].parent : 0;
        pid = parent;
    }
    return false;
}

size_t rig_processes(const struct rig *rig, struct rig_process *ret, size_t room)
{
    static struct rig_process all[ALL_PROCESSES];
    size_t count = 0, n = 0;
    DIR *dir = opendir("/proc");
    if (!dir) rig_die("/proc", "cannot be read");
    for (struct dirent *entry = readdir(dir); entry && count < ALL_PROCESSES; entry = readdir(dir)) {
        if (isdigit((unsigned char)entry->d_name[0]) && read_process(entry->d_name, &all[count])) count++;
    }
    (void)closedir(dir);
    for (size_t i = 0; i < count && n < room; i++) {
        if (descends(all, count, all[i].pid, rig->supervisor)) ret[n++] = all[i];
    }
    return n;
}
