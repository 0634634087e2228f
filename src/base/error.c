#include "base/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const char *error_text(int code)
{
    switch (code) {
#define X(name, num, text)                                                                         \
    case name:                                                                                     \
        return text;
        WEFT_ERRORS(X)
#undef X
    case 0:
        return "no error";
    default:
        return "unknown error";
    }
}

int error_from_errno(int errnum)
{
    switch (errnum) {
    case 0:
        return 0;
    case EAGAIN:
    case EINPROGRESS:
    case EINTR:
    case EALREADY:
        return E_AGAIN;
    case EINVAL:
    case EBADF:
    case EFAULT:
    case ENOTSOCK:
    case EISCONN:
    case EDESTADDRREQ:
    case ENAMETOOLONG:
    case ENOTDIR:
        return E_INVALID;
    case ENOENT:
    case ESRCH:
    case ENODEV:
    case ENXIO:
        return E_NOT_FOUND;
    case EEXIST:
    case EADDRINUSE:
        return E_EXISTS;
    case EMFILE:
    case ENFILE:
    case EMSGSIZE:
    case ENOSPC:
        return E_LIMIT;
    case ENOMEM:
    case ENOBUFS:
        return E_NO_MEMORY;
    case EPIPE:
    case ENOTCONN:
    case ESHUTDOWN:
        return E_CLOSED;
    case ECONNRESET:
    case ECONNABORTED:
    case ENETRESET:
        return E_RESET;
    case ECONNREFUSED:
        return E_REFUSED;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
    case EHOSTDOWN:
    case EADDRNOTAVAIL:
        return E_UNREACHABLE;
    case ETIMEDOUT:
        return E_TIMEOUT;
    case EPROTO:
        return E_PROTOCOL;
    case ENOSYS:
    case EOPNOTSUPP:
    case EAFNOSUPPORT:
    case EPROTONOSUPPORT:
    case ENOPROTOOPT:
        return E_UNSUPPORTED;
    case EACCES:
    case EPERM:
    case EROFS:
        return E_DENIED;
    case ECANCELED:
        return E_CANCELLED;
    case EBUSY:
        return E_BUSY;
    default:
        return E_IO;
    }
}

int error_setv(struct error *err, int code, const char *fmt, va_list ap)
{
    if (err) {
        err->code = code;
        vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    }
    return code;
}

int error_set(struct error *err, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    error_setv(err, code, fmt, ap);
    va_end(ap);
    return code;
}

void error_prefix(struct error *err, const char *fmt, ...)
{
    if (!err)
        return;
    char head[sizeof err->msg];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(head, sizeof head, fmt, ap);
    va_end(ap);
    if (n <= 0)
        return;
    size_t hn = (size_t)n < sizeof head ? (size_t)n : sizeof head - 1;
    size_t mn = strnlen(err->msg, sizeof err->msg - 1);
    if (mn > sizeof err->msg - 1 - hn)
        mn = sizeof err->msg - 1 - hn;
    memmove(err->msg + hn, err->msg, mn);
    memcpy(err->msg, head, hn);
    err->msg[hn + mn] = 0;
}
