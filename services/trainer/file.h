/* Whole files: written under a temporary name and renamed, read into aligned memory. Block; for compute threads. What is
 * durable is a checkpoint: the crash points of its writing are here. */
#ifndef PAL_SERVICES_TRAINER_FILE_H
#define PAL_SERVICES_TRAINER_FILE_H

#include "services/common/base/err.h"
#include "services/common/base/span.h"

/* Writes the spans one after another to PATH.tmp and renames it to path. durable: the file is fsynced before the rename and
 * its folder after it. On an error nothing is left behind. ERR_io says which call failed and why ("No space left ..."). */
err_t file_write(const char *path, const struct span *spans, size_t count, bool durable) MUST_USE;

/* Reads a file of 1 to max_bytes bytes into memory aligned to 64; *ret_memory is the caller's to free(). */
err_t file_read(const char *path, size_t max_bytes, void **ret_memory, struct span *ret) MUST_USE;

#endif
