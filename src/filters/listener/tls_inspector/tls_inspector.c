#include "filters/listener/tls_inspector/tls_inspector.h"

#include "api/envoy.pb.h"
#include "filters/context.h"
#include "filters/worker.h"
#include "telemetry/stats.h"

#define TLS_INSPECTOR_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                    \
    COUNTER(P, alpn_found)                                                                         \
    COUNTER(P, alpn_not_found)                                                                     \
    COUNTER(P, client_hello_too_large)                                                             \
    COUNTER(P, sni_found)                                                                          \
    COUNTER(P, sni_not_found)                                                                      \
    COUNTER(P, tls_found)                                                                          \
    COUNTER(P, tls_not_found)                                                                      \
    HISTOGRAM(P, bytes_processed, STAT_UNIT_BYTES)
STAT_GROUP_DECLARE(tls_inspector_stats, TLS_INSPECTOR_STATS);
STAT_GROUP_DEFINE(tls_inspector_stats, TLS_INSPECTOR_STATS);

struct config {
    uint32_t max_hello;
    bool close_on_error;
    struct stat_group stats;
};

static void fini(void *g)
{
    stat_group_fini(g);
}

static int parse(const struct filter_ctx *x, sv packed, const void **config, struct error *err)
{
    const struct envoy_TlsInspector *m;
    int rc = filter_decode(x, &envoy_TlsInspector_pb, packed, (const void **)&m, err);
    if (rc < 0)
        return rc;
    struct config *c = arena_new(x->arena, struct config);
    c->max_hello = 16384;
    if (m->max_client_hello_size) {
        c->max_hello = m->max_client_hello_size->value;
        if (c->max_hello < 256 || c->max_hello > 16384)
            return error_set(err, E_INVALID, "%s.max_client_hello_size: %u is not in 256..16384",
                             x->path, c->max_hello);
    }
    c->close_on_error = m->close_connection_on_client_hello_parsing_errors;
    struct stats_scope *sc = stats_scope_plain(x->stats, SV("tls_inspector."));
    stat_group_init(&c->stats, &tls_inspector_stats_def, sc);
    stats_scope_unref(sc);
    arena_on_free(x->arena, fini, &c->stats);
    *config = c;
    return 0;
}

static enum listener_status on_bytes(const void *config, struct listener_accept *a, sv bytes,
                                     bool eof)
{
    struct config *c = (struct config *)config; /* only its counters change */
    if (a->transport.n)
        return LISTENER_CONTINUE;
    switch (a->ops->hello(a, bytes, c->max_hello)) {
    case LISTENER_HELLO_MORE:
        return LISTENER_MORE;
    case LISTENER_HELLO_NO:
        stat_inc(&c->stats, tls_inspector_stats_tls_not_found);
        return LISTENER_CONTINUE;
    case LISTENER_HELLO_YES:
        stat_inc(&c->stats, tls_inspector_stats_tls_found);
        stat_inc(&c->stats,
                 a->sni.n ? tls_inspector_stats_sni_found : tls_inspector_stats_sni_not_found);
        stat_inc(&c->stats,
                 a->n_alpn ? tls_inspector_stats_alpn_found : tls_inspector_stats_alpn_not_found);
        stat_record(&c->stats, tls_inspector_stats_bytes_processed, bytes.n);
        a->transport = SV("tls");
        return LISTENER_CONTINUE;
    case LISTENER_HELLO_BAD:
        break;
    }
    /* Began like TLS and is none: a plaintext chain must not see it (attack case 35). */
    stat_inc(&c->stats, bytes.n > c->max_hello ? tls_inspector_stats_client_hello_too_large
                                               : tls_inspector_stats_tls_not_found);
    a->why = "tls_inspector_bad_client_hello";
    return LISTENER_CLOSE;
}

const struct listener_filter_type listener_tls_inspector_type = {
    .name = "envoy.filters.listener.tls_inspector",
    .config_type = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
    .parse = parse,
    .on_bytes = on_bytes,
};
