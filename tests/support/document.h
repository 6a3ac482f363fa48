/* Documents that are made from tables in the code: the committed file must say the same. */
#ifndef PAL_TESTS_DOCUMENT_H
#define PAL_TESTS_DOCUMENT_H

#include "services/common/base/buf.h"

/* Compares made with the file (path from the root of the tree), or writes it when PAL_UPDATE is set. */
void document_check(const char *path, const struct buf *made);

#endif
