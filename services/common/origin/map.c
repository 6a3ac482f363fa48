#include "services/common/origin/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static err_t map_fd(int fd, const char *path, size_t max_bytes, struct map *ret)
{
    struct stat st;
    if (fstat(fd, &st) != 0) return err_set(ERR_io, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode)) return err_set(ERR_malformed, "%s is not a file", path);
    if (st.st_size == 0) return err_set(ERR_malformed, "%s is empty", path);
    if ((uint64_t)st.st_size > max_bytes)
        return err_set(ERR_too_large, "%s: %lld bytes; at most %zu are allowed", path, (long long)st.st_size, max_bytes);
    void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) return err_set(ERR_io, "mapping %s: %s", path, strerror(errno));
    *ret = (struct map){data, (size_t)st.st_size};
    return ERR_ok;
}

err_t map_open(const char *path, size_t max_bytes, struct map *ret)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return err_set(errno == ENOENT || errno == ENOTDIR ? ERR_not_found : ERR_io, "%s: %s", path, strerror(errno));
    err_t err = map_fd(fd, path, max_bytes, ret);
    (void)close(fd);
    return err;
}

void map_fini(struct map *map)
{
    if (map->size > 0) (void)munmap(map->data, map->size);
    *map = (struct map){0};
}
