#include "tls/tls_inspect.h"

#include <stdlib.h>
#include <string.h>
#include "base/mem.h"

#define RECORD_MAX   16384
#define HANDSHAKE    22
#define CLIENT_HELLO 1
#define EXT_SNI      0
#define EXT_ALPN     16
#define EXT_VERSIONS 43
#define MAX_EXTS     64

/* A reader over bytes: every read is checked, the first failure sticks. */
struct rd {
    const uint8_t *p, *end;
    bool bad;
};

static struct rd rd_sub(struct rd *r, size_t n)
{
    if (r->bad || (size_t)(r->end - r->p) < n) {
        r->bad = true;
        return (struct rd){r->p, r->p, true};
    }
    struct rd s = {r->p, r->p + n, false};
    r->p += n;
    return s;
}

static uint32_t rd_uint(struct rd *r, int bytes)
{
    struct rd s = rd_sub(r, (size_t)bytes);
    uint32_t v = 0;
    while (s.p < s.end)
        v = v << 8 | *s.p++;
    return v;
}

/* A vector whose length stands before it in len_bytes bytes. */
static struct rd rd_vec(struct rd *r, int len_bytes)
{
    return rd_sub(r, rd_uint(r, len_bytes));
}

static size_t rd_left(const struct rd *r)
{
    return (size_t)(r->end - r->p);
}

/* ---- extensions ---- */

static const char *parse_sni(struct tls_inspect *t, struct rd e)
{
    struct rd list = rd_vec(&e, 2);
    if (e.bad || rd_left(&e) || rd_left(&list) == 0)
        return "server_name extension is malformed";
    uint32_t type = rd_uint(&list, 1);
    struct rd name = rd_vec(&list, 2);
    if (list.bad || type != 0 || rd_left(&list))
        return "server_name extension must hold one host name";
    size_t n = rd_left(&name);
    if (n == 0 || n > 255)
        return "server name is empty or longer than 255 bytes";
    uint8_t *p = t->buf + (name.p - t->buf);
    for (size_t i = 0; i < n; i++) {
        if (p[i] <= 0x20 || p[i] >= 0x7f)
            return "server name has bytes that no host name has";
        if (p[i] >= 'A' && p[i] <= 'Z')
            p[i] = (uint8_t)(p[i] + ('a' - 'A'));
    }
    t->sni = sv_make((const char *)p, n);
    return NULL;
}

static const char *parse_alpn(struct tls_inspect *t, struct rd e)
{
    struct rd list = rd_vec(&e, 2);
    if (e.bad || rd_left(&e) || rd_left(&list) == 0)
        return "ALPN extension is malformed";
    while (rd_left(&list)) {
        struct rd name = rd_vec(&list, 1);
        if (list.bad || rd_left(&name) == 0)
            return "ALPN extension has an empty or cut protocol name";
        if (t->n_alpns < TLS_INSPECT_MAX_ALPN)
            t->alpns[t->n_alpns++] = sv_make((const char *)name.p, rd_left(&name));
    }
    return NULL;
}

static const char *parse_versions(struct tls_inspect *t, struct rd e)
{
    struct rd list = rd_vec(&e, 1);
    if (e.bad || rd_left(&e) || rd_left(&list) == 0 || rd_left(&list) % 2)
        return "supported_versions extension is malformed";
    while (rd_left(&list)) {
        uint32_t v = rd_uint(&list, 2);
        if (v >= 0x0301 && v <= 0x0304 && v > t->max_version) /* GREASE and drafts fall out */
            t->max_version = (uint16_t)v;
    }
    return NULL;
}

static const char *parse_extensions(struct tls_inspect *t, struct rd all)
{
    uint16_t seen[MAX_EXTS];
    uint32_t n = 0;
    while (rd_left(&all)) {
        uint32_t type = rd_uint(&all, 2);
        struct rd body = rd_vec(&all, 2);
        const char *why = NULL;
        if (all.bad)
            return "an extension is longer than what holds it";
        for (uint32_t i = 0; i < n; i++)
            if (seen[i] == type)
                return "an extension occurs twice";
        if (n == MAX_EXTS)
            return "more than 64 extensions";
        seen[n++] = (uint16_t)type;
        if (type == EXT_SNI)
            why = parse_sni(t, body);
        else if (type == EXT_ALPN)
            why = parse_alpn(t, body);
        else if (type == EXT_VERSIONS)
            why = parse_versions(t, body);
        if (why)
            return why;
    }
    return NULL;
}

/* RFC 8446 4.1.2, the whole handshake message body in t->buf[4..n). */
static const char *parse_hello(struct tls_inspect *t)
{
    struct rd r = {t->buf + 4, t->buf + t->n, false};
    uint32_t version = rd_uint(&r, 2);
    rd_sub(&r, 32);
    struct rd session = rd_vec(&r, 1);
    struct rd ciphers = rd_vec(&r, 2);
    struct rd compression = rd_vec(&r, 1);
    if (r.bad)
        return "ClientHello is cut";
    if (version < 0x0300 || version > 0x03ff)
        return "ClientHello has a version that is not TLS";
    if (rd_left(&session) > 32)
        return "session id is longer than 32 bytes";
    if (rd_left(&ciphers) < 2 || rd_left(&ciphers) % 2)
        return "cipher suites are malformed";
    if (rd_left(&compression) == 0 || !memchr(compression.p, 0, rd_left(&compression)))
        return "compression methods lack null";
    t->max_version = version > 0x0303 ? 0x0303 : (uint16_t)version;
    if (rd_left(&r) == 0)
        return NULL; /* no extensions: TLS 1.2 and older may do so */
    struct rd exts = rd_vec(&r, 2);
    if (r.bad || rd_left(&r))
        return "extensions do not fill the ClientHello";
    return parse_extensions(t, exts);
}

/* ---- records ---- */

static enum tls_verdict end(struct tls_inspect *t, enum tls_verdict v, const char *why)
{
    t->verdict = v;
    t->why = why;
    if (v != TLS_IS_TLS) {
        t->sni = sv_make(NULL, 0);
        t->n_alpns = 0;
    }
    return v;
}

/* One byte of a record header; checked as it comes so that other protocols are told apart at once.
 */
static enum tls_verdict head_byte(struct tls_inspect *t, uint8_t b)
{
    bool first = t->n == 0; /* before the first handshake byte nothing says TLS yet */
    t->head[t->head_n++] = b;
    if ((t->head_n == 1 && b != HANDSHAKE) || (t->head_n == 2 && b != 3))
        return first ? end(t, TLS_NOT_TLS, NULL)
                     : end(t, TLS_BROKEN, "a record inside the ClientHello is no handshake record");
    if (t->head_n < 5)
        return TLS_NEED_MORE;
    t->record_left = (uint16_t)(t->head[3] << 8 | b);
    if (t->record_left == 0 || t->record_left > RECORD_MAX)
        return first ? end(t, TLS_NOT_TLS, NULL)
                     : end(t, TLS_BROKEN, "a record is empty or longer than 16 KB");
    return TLS_NEED_MORE;
}

static void grow(struct tls_inspect *t, uint32_t need)
{
    if (need <= t->cap)
        return;
    uint32_t cap = t->cap ? t->cap : 512;
    while (cap < need)
        cap *= 2;
    t->buf = mem_realloc(t->buf, cap);
    t->cap = cap;
}

/* k bytes of the handshake message. `want` is its whole length once the four first are there. */
static enum tls_verdict take(struct tls_inspect *t, const uint8_t *p, uint32_t k)
{
    grow(t, t->n + k);
    memcpy(t->buf + t->n, p, k);
    t->n += k;
    if (t->buf[0] != CLIENT_HELLO)
        return end(t, TLS_NOT_TLS, NULL);
    if (t->want || t->n < 4)
        return TLS_NEED_MORE;
    t->want = 4 + ((uint32_t)t->buf[1] << 16 | (uint32_t)t->buf[2] << 8 | t->buf[3]);
    if (t->want > t->max)
        return end(t, TLS_BROKEN, "ClientHello is longer than allowed");
    return TLS_NEED_MORE;
}

void tls_inspect_init(struct tls_inspect *t, uint32_t max_bytes)
{
    memset(t, 0, sizeof *t);
    t->verdict = TLS_NEED_MORE;
    t->max = max_bytes ? max_bytes : TLS_INSPECT_MAX;
    if (t->max > 1u << 24)
        t->max = 1u << 24;
}

enum tls_verdict tls_inspect_feed(struct tls_inspect *t, const void *bytes, size_t len)
{
    const uint8_t *p = bytes, *stop = p + len;
    t->seen += len;
    while (t->verdict == TLS_NEED_MORE && p < stop) {
        if (t->record_left == 0) {
            if (t->head_n == 5)
                t->head_n = 0;
            head_byte(t, *p++);
            continue;
        }
        uint32_t k = t->record_left;
        uint32_t room = t->want ? t->want - t->n : 4 - t->n;
        if (k > room)
            k = room;
        if (k > (size_t)(stop - p))
            k = (uint32_t)(stop - p);
        t->record_left = (uint16_t)(t->record_left - k);
        if (take(t, p, k) != TLS_NEED_MORE)
            break;
        p += k;
        if (t->want && t->n == t->want) {
            const char *why = parse_hello(t);
            end(t, why ? TLS_BROKEN : TLS_IS_TLS, why);
        }
    }
    return t->verdict;
}

void tls_inspect_fini(struct tls_inspect *t)
{
    free(t->buf);
    memset(t, 0, sizeof *t);
}
