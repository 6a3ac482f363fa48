/* UTF-8: reading code points, mending broken text, normal form C. */
#ifndef PAL_TRAINER_MODEL_UTF8_H
#define PAL_TRAINER_MODEL_UTF8_H

#include "services/common/base/buf.h"

/* The code point that text (size > 0) begins with; returns its bytes. 0: none is there; then *ret is how many bytes belong
 * to the broken one (a maximal subpart, at least 1). */
size_t utf8_read(struct span text, uint32_t *ret);
/* Appends the code point's 1 to 4 bytes. */
err_t utf8_append(struct buf *out, uint32_t code) MUST_USE;

/* Appends text with U+FFFD in the place of each maximal subpart that is not UTF-8, as Python's decode("utf-8", "replace"). */
err_t utf8_mend(struct span text, struct buf *out) MUST_USE;
/* Appends the normal form C of UTF-8 text (Unicode Standard Annex 15). */
err_t utf8_compose(struct span text, struct buf *out) MUST_USE;

bool utf8_is_space(uint32_t code); /* the property White_Space */

#endif
