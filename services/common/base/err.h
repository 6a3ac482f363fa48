/* Errors: the one idiom of the house.
 *
 * A function that can fail returns err_t and is MUST_USE. Failing is one line: `return err_set(ERR_invalid, "lr: %g is
 * below 0", lr);` which records sentence and place in a thread-local. TRY(call) propagates. An error is logged once, by
 * the service handler where it ends; err.def says what kind of answer and whether a retry may help. BUG_IF is for our own
 * mistakes only, stays on in release builds, and no outside party can reach one. */
#ifndef PAL_BASE_ERR_H
#define PAL_BASE_ERR_H

#include <stdbool.h>
#include <stddef.h>

enum err {
#define ERR(name, text, http, retry) ERR_##name,
#include "services/common/base/err.def"
#undef ERR
    ERR_COUNT
};

typedef enum err err_t;

#define MUST_USE          __attribute__((warn_unused_result))
#define PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Bytes of the recorded sentence, terminator included; longer ones are cut. */
#define ERR_TEXT_BYTES 512

/* Returns code after recording the sentence and the place for err_text(). */
#define err_set(code, ...) err_record((code), __FILE__, __LINE__, __VA_ARGS__)
err_t err_record(err_t code, const char *file, int line, const char *fmt, ...) PRINTF(4, 5);

/* Puts "context: " in front of the recorded sentence, keeps the code. */
err_t err_prefix(err_t code, const char *fmt, ...) PRINTF(2, 3);

const char *err_text(void);       /* the last recorded sentence of this thread, never NULL */
const char *err_place(void);      /* "file:line" of it */
const char *err_name(err_t code); /* "invalid", "timeout", ... */
int err_http(err_t code);
bool err_retry(err_t code);

#define TRY(call)                                                                                                            \
    do {                                                                                                                     \
        err_t try_err_ = (call);                                                                                             \
        if (try_err_ != ERR_ok) return try_err_;                                                                             \
    } while (0)

/* Aborts with the place: a mistake of ours, never of an outsider. */
#define BUG_IF(condition)                                                                                                    \
    do {                                                                                                                     \
        if (__builtin_expect(!!(condition), 0)) err_bug(#condition, __FILE__, __LINE__);                                     \
    } while (0)
_Noreturn void err_bug(const char *condition, const char *file, int line);

/* AUTO(buf) b = {0}; runs buf_fini(&b) at the end of the scope: the type's x_fini takes zeroed and half-built structs. */
#define AUTO(type) __attribute__((cleanup(type##_fini))) struct type
/* AUTO_PTR(model) m = NULL; runs model_free(&m). */
#define AUTO_PTR(type) __attribute__((cleanup(type##_free))) struct type *

#endif
