#include "filters/listener/http_inspector/http_inspector.h"

#include "api/envoy.pb.h"
#include "filters/context.h"
#include "http/chars.h"
#include "telemetry/stats.h"

#define LINE_MAX_BYTES 65536
#define PREFACE        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

#define HTTP_INSPECTOR_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                   \
    COUNTER(P, http10_found)                                                                       \
    COUNTER(P, http11_found)                                                                       \
    COUNTER(P, http2_found)                                                                        \
    COUNTER(P, http_not_found)                                                                     \
    COUNTER(P, read_error)
STAT_GROUP_DECLARE(http_inspector_stats, HTTP_INSPECTOR_STATS);
STAT_GROUP_DEFINE(http_inspector_stats, HTTP_INSPECTOR_STATS);

struct config {
    struct stat_group stats;
};

static void fini(void *g)
{
    stat_group_fini(g);
}

static int parse(const struct filter_ctx *x, sv packed, const void **config, struct error *err)
{
    const struct envoy_HttpInspector *m;
    int rc = filter_decode(x, &envoy_HttpInspector_pb, packed, (const void **)&m, err);
    if (rc < 0)
        return rc;
    struct config *c = arena_new(x->arena, struct config);
    struct stats_scope *sc = stats_scope_plain(x->stats, SV("http_inspector."));
    stat_group_init(&c->stats, &http_inspector_stats_def, sc);
    stats_scope_unref(sc);
    arena_on_free(x->arena, fini, &c->stats);
    *config = c;
    return 0;
}

/* method SP target SP "HTTP/1." digit CRLF; only methods that are registered, so that other text
 * protocols are not taken for HTTP. */
static bool known_method(sv m)
{
    static const sv methods[] = {
        SV_INIT("GET"),        SV_INIT("POST"),        SV_INIT("PUT"),      SV_INIT("DELETE"),
        SV_INIT("HEAD"),       SV_INIT("OPTIONS"),     SV_INIT("PATCH"),    SV_INIT("CONNECT"),
        SV_INIT("TRACE"),      SV_INIT("ACL"),         SV_INIT("BIND"),     SV_INIT("CHECKOUT"),
        SV_INIT("COPY"),       SV_INIT("LINK"),        SV_INIT("LOCK"),     SV_INIT("MERGE"),
        SV_INIT("MKCOL"),      SV_INIT("MOVE"),        SV_INIT("M-SEARCH"), SV_INIT("NOTIFY"),
        SV_INIT("PURGE"),      SV_INIT("REBIND"),      SV_INIT("REPORT"),   SV_INIT("SEARCH"),
        SV_INIT("SOURCE"),     SV_INIT("UNBIND"),      SV_INIT("UNLINK"),   SV_INIT("UNLOCK"),
        SV_INIT("MKACTIVITY"), SV_INIT("MKCALENDAR"),  SV_INIT("PROPFIND"), SV_INIT("PROPPATCH"),
        SV_INIT("SUBSCRIBE"),  SV_INIT("UNSUBSCRIBE"),
    };
    for (unsigned i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (sv_eq(m, methods[i]))
            return true;
    return false;
}

/* The method as far as it is there. 1 whole, 0 not yet, -1 none. */
static int look_method(sv bytes, size_t *n)
{
    size_t i = 0;
    while (i < bytes.n && http_token_lower[(unsigned char)bytes.p[i]])
        if (++i > 12)
            return -1;
    *n = i;
    if (i == bytes.n)
        return 0;
    return bytes.p[i] == ' ' && known_method(sv_first(bytes, i)) ? 1 : -1;
}

sv http_inspector_look(sv bytes, bool *more)
{
    static const sv none = {NULL, 0};
    sv preface = SV(PREFACE);
    *more = false;
    if (bytes.n >= preface.n ? sv_starts(bytes, preface) : sv_starts(preface, bytes)) {
        *more = bytes.n < preface.n;
        return *more ? none : SV("h2c");
    }
    size_t n;
    int m = look_method(bytes, &n);
    if (m <= 0) {
        *more = m == 0;
        return none;
    }
    sv rest = sv_from(bytes, n + 1);
    ptrdiff_t lf = sv_find(rest, '\n');
    sv line = lf < 0 ? rest : sv_first(rest, (size_t)lf);
    if (http_value_span(line.p, line.n) < line.n - (line.n && line.p[line.n - 1] == '\r'))
        return none;
    if (lf < 0) {
        *more = bytes.n < LINE_MAX_BYTES;
        return none;
    }
    if (line.n && line.p[line.n - 1] == '\r')
        line.n--;
    ptrdiff_t space = sv_rfind(line, ' ');
    if (space <= 0)
        return none;
    sv version = sv_from(line, (size_t)space + 1);
    if (sv_eq(version, SV("HTTP/1.1")))
        return SV("http/1.1");
    if (sv_eq(version, SV("HTTP/1.0")))
        return SV("http/1.0");
    return none;
}

static enum listener_status on_bytes(const void *config, struct listener_accept *a, sv bytes,
                                     bool eof)
{
    struct config *c = (struct config *)config; /* only its counters change */
    bool more;
    if (a->transport.n && !sv_eq(a->transport, SV("raw_buffer")))
        return LISTENER_CONTINUE; /* TLS: its ALPN says it */
    sv is = http_inspector_look(bytes, &more);
    if (more && !eof)
        return LISTENER_MORE;
    if (!is.n) {
        stat_inc(&c->stats, http_inspector_stats_http_not_found);
        return LISTENER_CONTINUE;
    }
    stat_inc(&c->stats, sv_eq(is, SV("h2c"))        ? http_inspector_stats_http2_found
                        : sv_eq(is, SV("http/1.1")) ? http_inspector_stats_http11_found
                                                    : http_inspector_stats_http10_found);
    a->alpn[0] = is;
    a->n_alpn = 1;
    return LISTENER_CONTINUE;
}

const struct listener_filter_type listener_http_inspector_type = {
    .name = "envoy.filters.listener.http_inspector",
    .config_type = "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector",
    .parse = parse,
    .on_bytes = on_bytes,
};
