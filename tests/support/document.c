#include "tests/support/document.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static FILE *open_document(const char *path, const char *mode)
{
    char full[1024];
    (void)snprintf(full, sizeof full, "%s/%s", PAL_SOURCE_DIR, path);
    FILE *file = fopen(full, mode);
    ck_assert_msg(file != NULL, "%s cannot be opened", full);
    return file;
}

void document_check(const char *path, const struct buf *made)
{
    if (getenv("PAL_UPDATE")) {
        FILE *file = open_document(path, "we");
        ck_assert_uint_eq(fwrite(made->data, 1, made->size, file), made->size);
        ck_assert_int_eq(fclose(file), 0);
    }
    AUTO(buf) committed = {0};
    char chunk[4096];
    FILE *file = open_document(path, "re");
    for (size_t n = fread(chunk, 1, sizeof chunk, file); n > 0; n = fread(chunk, 1, sizeof chunk, file))
        ck_assert_int_eq(buf_append(&committed, chunk, n), ERR_ok);
    (void)fclose(file);
    ck_assert_msg(strcmp(buf_chars(&committed), buf_chars(made)) == 0,
                  "%s is not what the tables say: PAL_UPDATE=1 writes it", path);
}
