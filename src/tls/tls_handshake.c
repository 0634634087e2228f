#include "tls/tls_priv.h"

#include <stdarg.h>
#include <stdio.h>
#include "base/mem.h"

static char *vtext(const char *fmt, va_list ap)
{
    char *s = NULL;
    if (vasprintf(&s, fmt, ap) < 0)
        return NULL;
    return s;
}

void tls_handshake_fail(struct tls_handshake *hs, enum tls_fail fail, const char *fmt, ...)
{
    va_list ap;
    if (hs->fail != TLS_FAIL_NONE)
        return;
    hs->fail = fail;
    free(hs->detail);
    va_start(ap, fmt);
    hs->detail = vtext(fmt, ap);
    va_end(ap);
}

void tls_handshake_say(struct tls_handshake *hs, const char *fmt, ...)
{
    va_list ap;
    if (hs->sentence)
        return;
    va_start(ap, fmt);
    hs->sentence = vtext(fmt, ap);
    va_end(ap);
}

void tls_handshake_fini(struct tls_handshake *hs)
{
    free(hs->expect_name);
    free(hs->sni);
    free(hs->detail);
    free(hs->sentence);
    tls_cert_info_unref(hs->peer);
    tls_ctx_unref(hs->ctx);
    memset(hs, 0, sizeof *hs);
}
