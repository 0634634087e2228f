/* Result codes and whole-sentence configuration errors.
 *
 * Functions return 0 or one of these negative codes; results go through pointers that stay
 * untouched on failure. E_AGAIN is not an error and is never logged.
 * Thread: any (an error object belongs to one caller). */
#ifndef WEFT_BASE_ERROR_H
#define WEFT_BASE_ERROR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include "base/sv.h"

#define MUST_CHECK        __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))

/* One list: name, number, text. */
#define WEFT_ERRORS(X)                                                                             \
    X(E_AGAIN, -1, "not ready yet")                                                                \
    X(E_INVALID, -2, "invalid input")                                                              \
    X(E_NOT_FOUND, -3, "not found")                                                                \
    X(E_EXISTS, -4, "already exists")                                                              \
    X(E_LIMIT, -5, "limit exceeded")                                                               \
    X(E_NO_MEMORY, -6, "out of memory")                                                            \
    X(E_IO, -7, "input/output error")                                                              \
    X(E_EOF, -8, "end of stream")                                                                  \
    X(E_CLOSED, -9, "closed")                                                                      \
    X(E_RESET, -10, "connection reset")                                                            \
    X(E_REFUSED, -11, "connection refused")                                                        \
    X(E_UNREACHABLE, -12, "unreachable")                                                           \
    X(E_TIMEOUT, -13, "timed out")                                                                 \
    X(E_PROTOCOL, -14, "protocol error")                                                           \
    X(E_TLS, -15, "TLS error")                                                                     \
    X(E_UNSUPPORTED, -16, "not supported")                                                         \
    X(E_DENIED, -17, "permission denied")                                                          \
    X(E_CANCELLED, -18, "cancelled")                                                               \
    X(E_BUSY, -19, "busy")

enum weft_error {
#define X(name, num, text) name = num,
    WEFT_ERRORS(X)
#undef X
};

/* Text of a code ("unknown error" for others). Static storage. */
const char *error_text(int code);
/* Nearest code for an errno value. */
int error_from_errno(int errnum);

/* A whole sentence for a person: which object, which field path, why. The message is cut at the
 * buffer's end, never overflows. Zero-initialise before use: struct error e = {0}; */
struct error {
    int code;
    char msg[1024];
};

/* Sets the sentence and the code and returns the code, so that callers write
 *     return error_set(err, E_INVALID, "%s: weight must not be negative", path);
 * err may be NULL: then only the code is returned. */
int error_set(struct error *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
int error_setv(struct error *err, int code, const char *fmt, va_list ap) PRINTF_LIKE(3, 0);
/* Puts "prefix" in front of the sentence that is there: for callers that know the outer object. */
void error_prefix(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
