#include "services/trainer/file.h"

#include "services/common/run/crash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES 1100
#define ALIGN      64

static err_t fail(const char *what, const char *path)
{
    return err_set(ERR_io, "%s %s: %s", what, path, strerror(errno));
}

static err_t write_all(int fd, const char *path, struct span bytes)
{
    while (bytes.size > 0) {
        ssize_t n = write(fd, bytes.data, bytes.size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail("write", path);
        bytes.data += n;
        bytes.size -= (size_t)n;
    }
    return ERR_ok;
}

static err_t write_spans(int fd, const char *path, const struct span *spans, size_t count, bool durable)
{
    if (durable) crash_here(CRASH_checkpoint_opened);
    for (size_t i = 0; i < count; i++) TRY(write_all(fd, path, spans[i]));
    if (!durable) return ERR_ok;
    crash_here(CRASH_checkpoint_written);
    if (fsync(fd) != 0) return fail("fsync", path);
    crash_here(CRASH_checkpoint_synced);
    return ERR_ok;
}

static err_t sync_folder(const char *path)
{
    char folder[PATH_BYTES];
    crash_here(CRASH_checkpoint_renamed);
    (void)snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return fail("open", folder);
    err_t err = fsync(fd) == 0 ? ERR_ok : fail("fsync", folder);
    (void)close(fd);
    crash_here(CRASH_checkpoint_durable);
    return err;
}

err_t file_write(const char *path, const struct span *spans, size_t count, bool durable)
{
    char temporary[PATH_BYTES];
    int n = snprintf(temporary, sizeof temporary, "%s.tmp", path);
    if (n < 0 || (size_t)n >= sizeof temporary || !strrchr(path, '/')) return err_set(ERR_invalid, "path '%s'", path);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return fail("open", temporary);
    err_t err = write_spans(fd, temporary, spans, count, durable);
    if (close(fd) != 0 && err == ERR_ok) err = fail("close", temporary);
    if (err == ERR_ok && rename(temporary, path) != 0) err = fail("rename", temporary);
    if (err != ERR_ok) {
        (void)unlink(temporary);
        return err;
    }
    return durable ? sync_folder(path) : ERR_ok;
}

static err_t read_all(int fd, const char *path, uint8_t *to, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t n = read(fd, to + at, size - at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail("read", path);
        if (n == 0) return err_set(ERR_io, "read %s: it ended after %zu of %zu bytes", path, at, size);
        at += (size_t)n;
    }
    return ERR_ok;
}

err_t file_read(const char *path, size_t max_bytes, void **ret_memory, struct span *ret)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail("open", path);
    struct stat st;
    err_t err = fstat(fd, &st) == 0 ? ERR_ok : fail("stat", path);
    size_t size = err == ERR_ok && st.st_size > 0 ? (size_t)st.st_size : 0;
    if (err == ERR_ok && (!S_ISREG(st.st_mode) || size == 0 || size > max_bytes))
        err = err_set(ERR_malformed, "%s has %zu bytes; 1 to %zu are expected", path, size, max_bytes);
    uint8_t *memory = err == ERR_ok ? aligned_alloc(ALIGN, (size + ALIGN - 1) / ALIGN * ALIGN) : NULL;
    if (err == ERR_ok && !memory) err = err_set(ERR_memory, "%zu bytes of %s", size, path);
    if (memory) err = read_all(fd, path, memory, size);
    (void)close(fd);
    if (err != ERR_ok) {
        free(memory);
        return err;
    }
    *ret_memory = memory;
    *ret = span_of(memory, size);
    return ERR_ok;
}
