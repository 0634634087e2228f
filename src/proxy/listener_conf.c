#include "proxy/listener_conf.h"

#include <string.h>

#include "api/envoy.pb.h"
#include "base/mem.h"
#include "filters/registry.h"
#include "net/loop.h"
#include "proxy/rds.h"
#include "proxy/server_private.h"
#include "proxy/server.h"
#include "telemetry/access_log.h"
#include "upstream/tls_options.h"

STAT_GROUP_DEFINE(listener_stats, LISTENER_STATS);
STAT_GROUP_DEFINE(listener_worker_stats, LISTENER_WORKER_STATS);
STAT_GROUP_DEFINE(listener_tls_stats, LISTENER_TLS_STATS);
STAT_GROUP_DEFINE(listener_sds_stats, LISTENER_SDS_STATS);

#define HANDSHAKE_MS                                                                               \
    15000u /* unless the chain says another: slow handshakes end (attack case 12) */

struct build {
    struct listener_conf *c;
    const struct envoy_Listener *m;
    struct filter_ctx x;
    struct error *err;
};

/* ---- addresses ---- */

static int build_addr(const struct build *b, const struct envoy_Address *m, const char *path,
                      struct addr *out)
{
    char text[ADDR_TEXT_MAX + 8];
    if (!m || !m->which_address)
        return error_set(b->err, E_INVALID, "%s: is required", path);
    if (m->which_address == envoy_Address_pipe_tag) {
        b->c->unix_mode = m->pipe->mode;
        if (addr_unix(out, m->pipe->path) < 0)
            return error_set(b->err, E_INVALID, "%s.pipe.path: '%.*s' is not usable", path,
                             SV_ARG(m->pipe->path));
        return 0;
    }
    const struct envoy_SocketAddress *s = m->socket_address;
    if (s->protocol != envoy_SocketAddress_TCP)
        return error_set(b->err, E_UNSUPPORTED, "%s.socket_address.protocol: UDP is not supported",
                         path);
    if (s->which_port_specifier == envoy_SocketAddress_named_port_tag || s->resolver_name.n)
        return error_set(b->err, E_UNSUPPORTED,
                         "%s.socket_address: named_port and resolver_name are not supported", path);
    if (s->port_value > 65535)
        return error_set(b->err, E_INVALID, "%s.socket_address.port_value: %u is not a port", path,
                         s->port_value);
    if (addr_ip(out, s->address, (uint16_t)s->port_value) < 0)
        return error_set(b->err, E_INVALID,
                         "%s.socket_address.address: '%.*s' is not an IP address", path,
                         SV_ARG(s->address));
    b->c->v6_only = out->sa.sa_family == AF_INET6 && !s->ipv4_compat;
    (void)text;
    return 0;
}

static int build_addrs(const struct build *b)
{
    const struct envoy_Listener *m = b->m;
    struct listener_conf *c = b->c;
    c->n_addrs = 1 + m->additional_addresses.n;
    c->addrs = arena_array(&c->arena, struct addr, c->n_addrs);
    int rc = build_addr(b, m->address, filter_path(&b->x, "address"), &c->addrs[0]);
    for (uint32_t i = 0; i < m->additional_addresses.n && rc == 0; i++)
        rc =
            build_addr(b, m->additional_addresses.v[i]->address,
                       filter_path(&b->x, "additional_addresses[%u].address", i), &c->addrs[i + 1]);
    return rc;
}

/* ---- TLS ---- */

static void free_slot_on_main(void *slot)
{
    tls_slot_free(slot);
}

struct slot_ref {
    struct loop *main;
    struct tls_slot *slot;
};

static void drop_slot(void *arg)
{
    struct slot_ref *r = arg;
    if (loop_current() == r->main || !loop_current())
        tls_slot_free(r->slot);
    else
        loop_post(r->main, free_slot_on_main, r->slot);
}

static void slot_changed(struct tls_slot *s, void *arg)
{
    proxy_server_tls_changed(arg);
}

static int build_tls(const struct build *b, const struct envoy_TransportSocket *ts,
                     const char *path, struct listener_chain *chain)
{
    static const char raw[] = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";
    static const char tls[] = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
    if (!ts)
        return 0;
    sv type = ts->typed_config ? pb_any_type(ts->typed_config->type_url) : (sv){NULL, 0};
    if (sv_eq_c(type, raw) ||
        (!type.n && sv_eq(ts->name, SV("envoy.transport_sockets.raw_buffer"))))
        return 0;
    if (!sv_eq_c(type, tls))
        return error_set(b->err, E_UNSUPPORTED,
                         "%s: transport socket '%.*s' of the type %.*s is "
                         "not supported",
                         path, SV_ARG(ts->name), SV_ARG(type));
    const struct envoy_DownstreamTlsContext *d;
    struct filter_ctx x = b->x;
    x.path = arena_printf(x.scratch, "%s.typed_config", path).p;
    int rc = filter_decode(&x, &envoy_DownstreamTlsContext_pb, ts->typed_config->value,
                           (const void **)&d, b->err);
    struct tls_slot_opts o = {0};
    if (rc == 0)
        rc = tls_options_downstream(d, x.path, x.scratch, &o, b->err);
    if (rc < 0)
        return rc;
    o.store = proxy_server_secrets(b->c->server);
    o.on_change = slot_changed;
    o.arg = b->c->server;
    chain->require_sni = d->require_sni && d->require_sni->value;
    chain->tls = tls_slot_new(&o, b->err);
    if (!chain->tls) {
        error_prefix(b->err, "%s: ", x.path);
        return b->err->code ? b->err->code : E_TLS;
    }
    struct slot_ref *ref = arena_new(&b->c->arena, struct slot_ref);
    *ref = (struct slot_ref){proxy_server_loop(b->c->server), chain->tls};
    arena_on_free(&b->c->arena, drop_slot, ref);
    return 0;
}

/* ---- chains ---- */

static int build_filters(const struct build *b, const struct envoy_FilterChain *m,
                         const struct filter_ctx *x, struct listener_chain *chain)
{
    uint32_t n = m->filters.n;
    struct network_filter *v = arena_array(&b->c->arena, struct network_filter, n ? n : 1);
    for (uint32_t i = 0; i < n; i++) {
        const struct envoy_Filter *f = m->filters.v[i];
        struct filter_ctx *at = filter_ctx_at(x, "filters[%u]", i);
        int rc = registry_network(at, f->name, f->typed_config, &v[i], b->err);
        if (rc < 0)
            return rc;
        bool last = i + 1 == n;
        if (v[i].type->terminal != last)
            return error_set(b->err, E_INVALID,
                             last ? "%s: '%.*s' (%s) is the last filter but not a terminal one"
                                  : "%s: '%.*s' (%s) is a terminal filter and must be the last one",
                             at->path, SV_ARG(f->name), v[i].type->name);
    }
    if (!n)
        return error_set(b->err, E_INVALID, "%s.filters: must not be empty", x->path);
    chain->filters = v;
    chain->n_filters = n;
    return 0;
}

static int build_chain(const struct build *b, const struct envoy_FilterChain *m,
                       const struct filter_ctx *x, struct listener_chain *chain)
{
    struct arena *a = &b->c->arena;
    chain->named = m->name.n > 0;
    chain->name = m->name.n ? m->name : arena_sv(a, sv_of(x->path));
    chain->packed = pb_encode_arena(&envoy_FilterChain_pb, m, a);
    int rc = chain_match_build(m->filter_chain_match, filter_path(x, "filter_chain_match"), a,
                               &chain->match, b->err);
    if (rc == 0)
        rc = build_tls(b, m->transport_socket, filter_path(x, "transport_socket"), chain);
    if (rc < 0)
        return rc;
    chain->connect_timeout_ms = HANDSHAKE_MS;
    if (m->transport_socket_connect_timeout) {
        rc = duration_ms(m->transport_socket_connect_timeout,
                         filter_path(x, "transport_socket_connect_timeout"),
                         &chain->connect_timeout_ms, b->err);
        if (rc < 0)
            return rc;
    }
    return build_filters(b, m, x, chain);
}

static int build_chains(const struct build *b)
{
    const struct envoy_Listener *m = b->m;
    struct listener_conf *c = b->c;
    struct arena *a = &c->arena;
    uint32_t n = m->filter_chains.n;
    c->chains = arena_array(a, struct listener_chain, n ? n : 1);
    c->matches = arena_array(a, const struct chain_match *, n ? n : 1);
    sv *names = arena_array(b->x.scratch, sv, n ? n : 1);
    for (uint32_t i = 0; i < n; i++) {
        int rc = build_chain(b, m->filter_chains.v[i], filter_ctx_at(&b->x, "filter_chains[%u]", i),
                             &c->chains[i]);
        if (rc < 0)
            return rc;
        c->matches[i] = &c->chains[i].match;
        names[i] = c->chains[i].name;
        c->n_chains++;
    }
    int rc = chain_match_check(c->matches, names, n, b->err);
    if (rc < 0) {
        error_prefix(b->err, "%s: ", b->x.path);
        return rc;
    }
    if (m->default_filter_chain) {
        c->fallback = arena_new(a, struct listener_chain);
        return build_chain(b, m->default_filter_chain, filter_ctx_at(&b->x, "default_filter_chain"),
                           c->fallback);
    }
    if (!n)
        return error_set(b->err, E_INVALID, "%s: no filter chains specified", b->x.path);
    return 0;
}

/* ---- listener filters ---- */

/* A part of the listener that is needed when its message is gone with the scratch arena. */
static int keep(const struct build *b, const struct pb_message *type, const void *m, void **out)
{
    struct arena *a = &b->c->arena;
    return pb_decode(type, pb_encode_arena(type, m, a), a, NULL, out, b->err);
}

static int build_listener_filters(const struct build *b)
{
    const struct envoy_Listener *m = b->m;
    struct listener_conf *c = b->c;
    c->lfs = arena_array(&c->arena, struct listener_lf, m->listener_filters.n + 1);
    for (uint32_t i = 0; i < m->listener_filters.n; i++) {
        const struct envoy_ListenerFilter *f = m->listener_filters.v[i];
        struct filter_ctx *x = filter_ctx_at(&b->x, "listener_filters[%u]", i);
        int rc = registry_listener(x, f->name, f->typed_config, &c->lfs[i].f, b->err);
        if (rc < 0)
            return rc;
        if (f->filter_disabled)
            rc = keep(b, &envoy_ListenerFilterChainMatchPredicate_pb, f->filter_disabled,
                      (void **)&c->lfs[i].disabled);
        if (rc < 0)
            return rc;
        c->n_lfs++;
    }
    if (c->use_original_dst) { /* implies the filter, as in Envoy: last */
        int rc = registry_listener(filter_ctx_at(&b->x, "use_original_dst"),
                                   SV("envoy.filters.listener.original_dst"), NULL,
                                   &c->lfs[c->n_lfs++].f, b->err);
        if (rc < 0)
            return rc;
    }
    c->lf_timeout_ms = 15000;
    c->continue_on_timeout = m->continue_on_listener_filters_timeout;
    if (!m->listener_filters_timeout)
        return 0;
    return duration_ms(m->listener_filters_timeout, filter_path(&b->x, "listener_filters_timeout"),
                       &c->lf_timeout_ms, b->err);
}

/* ---- the rest ---- */

static int refuse_unsupported(const struct build *b)
{
    const struct envoy_Listener *m = b->m;
    const char *field = NULL;
    if (m->api_listener)
        field = "api_listener";
    else if (m->socket_options.n)
        field = "socket_options";
    else if (m->tcp_fast_open_queue_length && m->tcp_fast_open_queue_length->value)
        field = "tcp_fast_open_queue_length";
    return field ? error_set(b->err, E_UNSUPPORTED, "%s.%s: is not supported", b->x.path, field)
                 : 0;
}

static void build_plain(const struct build *b)
{
    const struct envoy_Listener *m = b->m;
    struct listener_conf *c = b->c;
#define FLAG(f, dflt) (m->f ? m->f->value : (dflt))
    c->bind_to_port = FLAG(bind_to_port, true);
    c->use_original_dst = FLAG(use_original_dst, false);
    c->transparent = FLAG(transparent, false);
    c->freebind = FLAG(freebind, false);
    c->reuse_port = FLAG(enable_reuse_port, true);
    c->backlog = m->tcp_backlog_size ? (int)m->tcp_backlog_size->value : 0;
    c->buffer_limit = FLAG(per_connection_buffer_limit_bytes, 1u << 20);
    c->direction = m->traffic_direction;
    c->modify_only = m->drain_type == envoy_Listener_MODIFY_ONLY;
#undef FLAG
}

static void build_stats(const struct build *b)
{
    struct listener_conf *c = b->c;
    struct stats *st = proxy_server_stats(c->server);
    char text[ADDR_TEXT_MAX];
    sv at = b->m->stat_prefix.n ? b->m->stat_prefix : addr_text(&c->addrs[0], text);
    c->scope = stats_scope_listener(st, at);
    stat_group_init(&c->stats, &listener_stats_def, c->scope);
    struct stats_scope *sub = stats_scope_sub(c->scope, SV("ssl."), (sv){0}, NULL, 0);
    stat_group_init(&c->tls_stats, &listener_tls_stats_def, sub);
    stats_scope_unref(sub);
    sub = stats_scope_sub(c->scope, SV("server_ssl_socket_factory."), (sv){0}, NULL, 0);
    stat_group_init(&c->sds_stats, &listener_sds_stats_def, sub);
    stats_scope_unref(sub);
}

static int build(struct build *b)
{
    int rc = filter_decode(&b->x, &envoy_Listener_pb, b->c->packed, (const void **)&b->m, b->err);
    if (rc < 0)
        return rc;
    b->c->name = b->m->name;
    b->x.path = arena_printf(b->x.scratch, "listener '%.*s'", SV_ARG(b->m->name)).p;
    rc = refuse_unsupported(b);
    if (rc == 0)
        rc = build_addrs(b);
    if (rc < 0)
        return rc;
    if (!b->c->name.n) {
        char text[ADDR_TEXT_MAX];
        b->c->name = arena_sv(&b->c->arena, addr_text(&b->c->addrs[0], text));
    }
    build_plain(b);
    build_stats(b);
    b->x.scope = b->c->scope;
    b->x.direction = b->c->direction == envoy_TrafficDirection_INBOUND ? FILTER_DIRECTION_INBOUND
                     : b->c->direction == envoy_TrafficDirection_OUTBOUND
                         ? FILTER_DIRECTION_OUTBOUND
                         : FILTER_DIRECTION_UNSPECIFIED;
    rc = build_listener_filters(b);
    if (rc == 0 && b->m->metadata)
        rc = keep(b, &envoy_Metadata_pb, b->m->metadata, (void **)&b->c->metadata);
    if (rc == 0)
        rc = filter_access_logs(&b->x, b->m->access_log.v, b->m->access_log.n, &b->c->logs, b->err);
    return rc < 0 ? rc : build_chains(b);
}

int listener_conf_build(struct proxy_server *srv, sv packed, bool is_static,
                        const struct pb_opts *pb, struct listener_conf **out, struct error *err)
{
    struct arena scratch;
    struct listener_conf *c = mem_new(struct listener_conf);
    refcount_init(&c->ref);
    arena_init_malloc(&c->arena);
    arena_init(&scratch);
    c->server = srv;
    c->is_static = is_static;
    c->warm_ms = 15000;
    c->packed = arena_sv(&c->arena, packed);
    c->updated_wall_ns = loop_wall_ns(proxy_server_loop(srv));
    struct build b = {.c = c, .err = err};
    proxy_server_filter_ctx(srv, &b.x);
    b.x.arena = &c->arena;
    b.x.scratch = &scratch;
    b.x.pb = pb;
    b.x.path = "listener";
    b.x.listener = c;
    int rc = build(&b);
    arena_free(&scratch);
    if (rc < 0) {
        listener_conf_unref(c);
        return rc;
    }
    for (uint32_t i = 0; i < c->n_chains; i++)
        c->by_name |= c->matches[i]->n_names > 0;
    c->max_connections = proxy_runtime_number(
        srv,
        arena_printf(&c->arena, "envoy.resource_limits.listener.%.*s.connection_limit",
                     SV_ARG(c->name)),
        UINT64_MAX);
    *out = c;
    return 0;
}

void listener_conf_ref(struct listener_conf *c)
{
    refcount_get(&c->ref);
}

void listener_conf_unref(struct listener_conf *c)
{
    if (!c || !refcount_put(&c->ref))
        return;
    stat_group_fini(&c->stats);
    stat_group_fini(&c->tls_stats);
    stat_group_fini(&c->sds_stats);
    stats_scope_unref(c->scope);
    free(c->waits);
    arena_free(&c->arena);
    free(c);
}

sv listener_conf_name(sv packed, struct arena *a)
{
    struct pb_opts o = {.allow_unknown = true};
    const struct envoy_Listener *m;
    if (pb_decode(&envoy_Listener_pb, packed, a, &o, (void **)&m, NULL) < 0)
        return (sv){NULL, 0};
    return m->name;
}

bool listener_conf_same_addrs(const struct listener_conf *a, const struct listener_conf *b)
{
    if (a->n_addrs != b->n_addrs || a->bind_to_port != b->bind_to_port ||
        a->transparent != b->transparent || a->freebind != b->freebind ||
        a->reuse_port != b->reuse_port || a->v6_only != b->v6_only || a->unix_mode != b->unix_mode)
        return false;
    for (uint32_t i = 0; i < a->n_addrs; i++)
        if (!addr_eq(&a->addrs[i], &b->addrs[i]))
            return false;
    return true;
}

void listener_conf_wait_for(struct listener_conf *c, struct rds_provider *p)
{
    if (c->n_waits == c->cap_waits) {
        c->cap_waits = c->cap_waits ? c->cap_waits * 2 : 4;
        c->waits = mem_realloc(c->waits, sizeof(*c->waits) * c->cap_waits);
    }
    c->waits[c->n_waits++] = p; /* lives as long as the arena */
}

bool listener_conf_ready(const struct listener_conf *c)
{
    for (uint32_t i = 0; i < c->n_waits; i++)
        if (!rds_provider_ready(c->waits[i]))
            return false;
    for (uint32_t i = 0; i < c->n_chains; i++)
        if (c->chains[i].tls && !tls_slot_ready(c->chains[i].tls))
            return false;
    return !c->fallback || !c->fallback->tls || tls_slot_ready(c->fallback->tls);
}

const struct listener_chain *listener_conf_chain(const struct listener_conf *c,
                                                 const struct chain_conn *conn)
{
    int i = chain_match_find(c->matches, c->n_chains, conn);
    return i >= 0 ? &c->chains[i] : c->fallback;
}
