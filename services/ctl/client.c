/* REST over libcurl, to the gateway of this state directory. */
#include "services/common/run/process.h"
#include "services/common/run/rundir.h"
#include "services/ctl/ctl.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define BODY_BYTES ((size_t)64 << 20)
#define ONCE_TRIES 15 /* a second apart */

void reply_fini(struct reply *reply)
{
    buf_fini(&reply->body);
}

err_t client_port(const struct ctl *ctl, int *ret)
{
    char path[CTL_PATH_BYTES + 32];
    (void)snprintf(path, sizeof path, "%s/gateway.port", ctl->state_dir);
    FILE *file = fopen(path, "re");
    char line[32] = "";
    bool good = file && fgets(line, sizeof line, file);
    if (file) (void)fclose(file);
    *ret = good ? (int)strtol(line, NULL, 10) : 0;
    if (*ret > 0 && *ret < 65536) return ERR_ok;
    return err_set(ERR_unavailable, "no stack runs in %s; start one with `pal up`", ctl->state_dir);
}

static size_t on_body(char *data, size_t size, size_t count, void *ctx)
{
    return buf_append(ctx, data, size * count) == ERR_ok ? size * count : 0;
}

static err_t perform(CURL *curl, const char *url, const char *method, const char *body, const char *header, int timeout_ms,
                     struct reply *ret)
{
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    if (header) headers = curl_slist_append(headers, header);
    (void)curl_easy_setopt(curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    (void)curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, &ret->body);
    if (body)
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    else if (strcmp(method, "POST") == 0)
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "");
    CURLcode code = curl_easy_perform(curl);
    curl_slist_free_all(headers);
    if (code != CURLE_OK) return err_set(ERR_unavailable, "%s: %s", url, curl_easy_strerror(code));
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &ret->status);
    return ERR_ok;
}

/* The gateway cannot say why it is silent, but its process may be looked at. */
static err_t no_answer(const struct ctl *ctl, const char *url)
{
    char run_dir[CTL_PATH_BYTES];
    long supervisor = 0;
    if (!stack_runs(ctl, &supervisor))
        return err_set(ERR_unavailable, "no stack runs in %s; start one with `pal up`", ctl->state_dir);
    TRY(rundir_path(ctl->state_dir, run_dir, sizeof run_dir));
    long pid = process_noted(run_dir, "gateway");
    enum process_state state = process_state(pid);
    return err_set(ERR_unavailable, "the gateway at %s does not answer: its process (pid %ld) %s; likely: %s", url, pid,
                   process_state_name(state), process_cause(state));
}

err_t client_call(const struct ctl *ctl, const char *method, const char *path, const char *body, const char *header,
                  int timeout_ms, struct reply *ret)
{
    int port = 0;
    char url[1024];
    TRY(client_port(ctl, &port));
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%d%s", port, path);
    buf_init(&ret->body, BODY_BYTES);
    CURL *curl = curl_easy_init();
    if (!curl) return err_set(ERR_memory, "libcurl");
    err_t err = perform(curl, url, method, body, header, timeout_ms, ret);
    curl_easy_cleanup(curl);
    return err == ERR_unavailable ? no_answer(ctl, url) : err;
}

/* A problem's sentence, and its errors one a line. */
static err_t problem(const struct reply *reply)
{
    json_t *root = json_loadb(buf_chars(&reply->body), reply->body.size, 0, NULL), *error = NULL;
    size_t index = 0;
    AUTO(buf) lines = {0};
    err_t err = buf_printf(&lines, "%s", ctl_text(root, "detail"));
    json_array_foreach(json_object_get(root, "errors"), index, error)
    {
        if (err == ERR_ok) err = buf_printf(&lines, "\n  %s %s", ctl_text(error, "pointer"), ctl_text(error, "detail"));
    }
    json_decref(root);
    if (lines.size > 480) (void)fprintf(stderr, "%s\n", buf_chars(&lines));
    return err_set(reply->status == 404 ? ERR_not_found : ERR_invalid, "%s (HTTP %ld)",
                   lines.size > 480 ? "see above"
                   : lines.size     ? buf_chars(&lines)
                                    : "refused",
                   reply->status);
}

static err_t read_json(const struct reply *reply, json_t **ret)
{
    if (reply->status < 200 || reply->status > 299) return problem(reply);
    *ret = json_loadb(buf_chars(&reply->body), reply->body.size, 0, NULL);
    return *ret ? ERR_ok : err_set(ERR_malformed, "the gateway's answer is not JSON");
}

err_t client_json(const struct ctl *ctl, const char *method, const char *path, const char *body, json_t **ret)
{
    AUTO(reply) reply = {0};
    TRY(client_call(ctl, method, path, body, NULL, 10000, &reply));
    return read_json(&reply, ret);
}

err_t client_once(const struct ctl *ctl, const char *path, const char *body, json_t **ret)
{
    char key[64];
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)snprintf(key, sizeof key, "Idempotency-Key: pal-%d-%lld.%09ld", (int)getpid(), (long long)now.tv_sec, now.tv_nsec);
    for (int tries = 1;; tries++) {
        AUTO(reply) reply = {0};
        TRY(client_call(ctl, "POST", path, body, key, 10000, &reply));
        bool later = reply.status == 503 || reply.status == 504;
        if (!later || tries == ONCE_TRIES) return read_json(&reply, ret);
        (void)fprintf(stderr, "pal: the stack cannot take it at the moment (HTTP %ld); asking again\n", reply.status);
        (void)nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
    }
}

bool client_ready(const struct ctl *ctl)
{
    AUTO(reply) reply = {0};
    return client_call(ctl, "GET", "/readyz", NULL, NULL, 1000, &reply) == ERR_ok && reply.status == 200;
}
