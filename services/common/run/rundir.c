#include "services/common/run/rundir.h"

#include "services/common/base/digest.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHORT_ENOUGH 70 /* leaves room for "/NAME.sock" and PostgreSQL's ".s.PGSQL.5432.lock" */

static err_t fits(int wrote, size_t size)
{
    return wrote > 0 && (size_t)wrote < size ? ERR_ok : err_set(ERR_too_large, "a path is longer than %zu bytes", size);
}

err_t rundir_path(const char *state_dir, char *ret, size_t size)
{
    if (strlen(state_dir) + 4 <= SHORT_ENOUGH) return fits(snprintf(ret, size, "%s/run", state_dir), size);
    struct digest digest;
    TRY(digest_bytes(span_text(state_dir), &digest));
    return fits(snprintf(ret, size, "/tmp/pal-%u-%.12s", (unsigned)getuid(), digest.hex), size);
}

err_t rundir_make(const char *path)
{
    char part[1024];
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof part) return err_set(ERR_invalid, "path '%s'", path);
    memcpy(part, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (part[i] != '/' && part[i] != 0) continue;
        char kept = part[i];
        part[i] = 0;
        if (mkdir(part, 0700) != 0 && errno != EEXIST) return err_set(ERR_io, "mkdir %s: %s", part, strerror(errno));
        part[i] = kept;
    }
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) return err_set(ERR_io, "%s is not a directory", path);
    return ERR_ok;
}

err_t rundir_shm_prefix(const char *state_dir, char *ret, size_t size)
{
    struct digest digest;
    TRY(digest_bytes(span_text(state_dir), &digest));
    return fits(snprintf(ret, size, "/dev/shm/pal-%.12s-", digest.hex), size);
}
