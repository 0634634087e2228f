#include "filters/http/grpc_stats/grpc_stats.h"

#include <stdio.h>

#include "api/envoy.pb.h"
#include "grpc/grpc_frame.h"
#include "http/path.h"
#include "net/loop.h"
#include "route/route.h"
#include "telemetry/stats.h"
#include "upstream/upstream.h"

struct method {
    sv service, name;
};

struct config {
    bool emit_state, all, upstream, replace_dots;
    const struct method *listed; /* individual_method_stats_allowlist */
    uint32_t n_listed;
};

struct grpc_stats {
    struct http_filter f;
    const struct config *cfg;
    struct upstream_cluster *cluster; /* NULL: not counted */
    struct method method;             /* empty: counted without a name */
    struct grpc_counter up, down;
    uint64_t told_up, told_down;
    bool grpc_response, charged;
};

/* ---- configuration ---- */

static void parse_list(const struct filter_ctx *x, const struct envoy_GrpcMethodList *m,
                       struct config *c)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->services.n; i++)
        n += m->services.v[i]->method_names.n;
    struct method *v = arena_array(x->arena, struct method, n);
    c->listed = v;
    for (uint32_t i = 0; i < m->services.n; i++) {
        const struct envoy_GrpcMethodList_Service *s = m->services.v[i];
        for (uint32_t k = 0; k < s->method_names.n; k++)
            v[c->n_listed++] = (struct method){arena_sv(x->arena, s->name),
                                               arena_sv(x->arena, s->method_names.v[k])};
    }
}

static int parse(const struct filter_ctx *x, sv packed, const void **config, struct error *err)
{
    const struct envoy_GrpcStats *m;
    int rc = filter_decode(x, &envoy_GrpcStats_pb, packed, (const void **)&m, err);
    if (rc < 0)
        return rc;
    struct config *c = arena_new(x->arena, struct config);
    c->emit_state = m->emit_filter_state;
    c->upstream = m->enable_upstream_stats;
    c->replace_dots = m->replace_dots_in_grpc_service_name;
    if (m->which_per_method_stat_specifier == envoy_GrpcStats_stats_for_all_methods_tag)
        c->all = m->stats_for_all_methods->value;
    else if (m->which_per_method_stat_specifier ==
             envoy_GrpcStats_individual_method_stats_allowlist_tag)
        parse_list(x, m->individual_method_stats_allowlist, c);
    *config = c;
    return 0;
}

/* ---- names ---- */

static struct grpc_stats *of(struct http_filter *f)
{
    return container_of(f, struct grpc_stats, f);
}

/* "/service/method", of two parts. */
static bool split(sv path, struct method *out)
{
    sv rest;
    path = path_only(path);
    if (!path.n || path.p[0] != '/' || !sv_cut(sv_from(path, 1), '/', &out->service, &rest) ||
        !out->service.n || !rest.n || sv_find(rest, '/') >= 0)
        return false;
    out->name = rest;
    return true;
}

static sv without_dots(sv v, struct arena *a)
{
    char *p = arena_cstr(a, v);
    for (size_t i = 0; i < v.n; i++)
        if (p[i] == '.')
            p[i] = '_';
    return sv_make(p, v.n);
}

/* Which name the call counts under; false: it does not count. */
static bool name_it(struct grpc_stats *t, sv path)
{
    const struct config *c = t->cfg;
    struct method m;
    if (!split(path, &m))
        return false;
    bool named = c->all;
    for (uint32_t i = 0; i < c->n_listed; i++)
        named |= sv_eq(c->listed[i].service, m.service) && sv_eq(c->listed[i].name, m.name);
    if (!named)
        return true; /* without a name, as one of many */
    struct arena *a = t->f.host->arena;
    t->method.service = c->all && c->replace_dots ? without_dots(m.service, a)
                                                  : arena_sv(a, m.service); /* the path may go */
    t->method.name = arena_sv(a, m.name);
    return true;
}

/* ---- counting ---- */

static struct stat_series *series(struct grpc_stats *t, const char *name, enum stat_kind kind)
{
    struct filter_worker *w = t->f.host->worker;
    struct stat_label labels[] = {{SV("envoy.grpc_bridge_service"), t->method.service},
                                  {SV("envoy.grpc_bridge_method"), t->method.name}};
    bool named = t->method.name.n != 0;
    char full[64];
    int n = snprintf(full, sizeof full, "grpc.%s%s", named ? "%.%." : "", name);
    return stats_cache_get(w->series, upstream_cluster_scope(t->cluster), sv_make(full, (size_t)n),
                           kind, labels, named ? 2 : 0);
}

static void count(struct grpc_stats *t, const char *name, uint64_t n)
{
    if (n)
        stat_series_add(series(t, name, STAT_COUNTER), n);
}

static void count_end(struct grpc_stats *t, sv status)
{
    uint64_t code;
    char name[24];
    if (t->charged || !status.p)
        return;
    t->charged = true;
    /* A code that nobody defined would let a server make counters of its own. */
    if (sv_to_u64(status, &code) < 0 || code > 16)
        snprintf(name, sizeof name, "unknown");
    else
        snprintf(name, sizeof name, "%u", (unsigned)code);
    count(t, name, 1);
    count(t, sv_eq(status, SV("0")) ? "success" : "failure", 1);
    count(t, "total", 1);
}

static void count_time(struct grpc_stats *t)
{
    const struct stream_info *si = t->f.host->info;
    if (!t->cfg->upstream || !si->upstream_last_tx_ns)
        return;
    uint64_t end =
        si->upstream_last_rx_ns ? si->upstream_last_rx_ns : loop_clock_ns(t->f.host->loop);
    if (end >= si->upstream_last_tx_ns)
        stat_series_record(series(t, "upstream_rq_time", STAT_HISTOGRAM),
                           (end - si->upstream_last_tx_ns) / 1000000u);
}

/* ---- the stream ---- */

static enum http_filter_status decode_head(struct http_filter *f, struct http_head *head, bool end)
{
    struct grpc_stats *t = of(f);
    const struct route_match *m = f->host->info->is_grpc ? f->host->ops->route(f->host) : NULL;
    struct filter_worker *w = f->host->worker;
    if (m && m->cluster.n && w->series && name_it(t, head->path))
        t->cluster = upstream_find(w->upstream, m->cluster);
    return HTTP_FILTER_CONTINUE;
}

static enum http_filter_status decode_data(struct http_filter *f, struct buf *data, bool end)
{
    struct grpc_stats *t = of(f);
    if (!f->host->info->is_grpc)
        return HTTP_FILTER_CONTINUE;
    grpc_counter_add(&t->up, data);
    if (t->cluster)
        count(t, "request_message_count", t->up.n - t->told_up);
    t->told_up = t->up.n;
    return HTTP_FILTER_CONTINUE;
}

static enum http_filter_status encode_head(struct http_filter *f, struct http_head *head, bool end)
{
    struct grpc_stats *t = of(f);
    t->grpc_response = http_head_is_grpc(head);
    if (!t->cluster)
        return HTTP_FILTER_CONTINUE;
    count_end(t, http_headers_get(&head->h, HTTP_H_GRPC_STATUS));
    if (end)
        count_time(t);
    return HTTP_FILTER_CONTINUE;
}

static enum http_filter_status encode_data(struct http_filter *f, struct buf *data, bool end)
{
    struct grpc_stats *t = of(f);
    if (!t->grpc_response)
        return HTTP_FILTER_CONTINUE;
    grpc_counter_add(&t->down, data);
    if (t->cluster)
        count(t, "response_message_count", t->down.n - t->told_down);
    t->told_down = t->down.n;
    return HTTP_FILTER_CONTINUE;
}

static enum http_filter_status encode_trailers(struct http_filter *f, struct http_headers *h)
{
    struct grpc_stats *t = of(f);
    if (!t->cluster)
        return HTTP_FILTER_CONTINUE;
    count_end(t, http_headers_get(h, HTTP_H_GRPC_STATUS));
    count_time(t);
    return HTTP_FILTER_CONTINUE;
}

static void on_complete(struct http_filter *f)
{
    struct grpc_stats *t = of(f);
    struct stream_info *si = f->host->info;
    if (!t->cfg->emit_state || (!t->up.n && !t->down.n))
        return;
    sv text = arena_printf(f->host->arena,
                           "{\"requestMessageCount\":\"%llu\",\"responseMessageCount\":\"%llu\"}",
                           (unsigned long long)t->up.n, (unsigned long long)t->down.n);
    stream_info_state_set(si, SV("envoy.filters.http.grpc_stats"), t, text);
}

static void on_destroy(struct http_filter *f)
{
    struct grpc_stats *t = of(f);
    if (t->cluster)
        upstream_cluster_unref(t->cluster);
    t->cluster = NULL;
}

static const struct http_filter_ops ops = {
    .name = "envoy.filters.http.grpc_stats",
    .decode_head = decode_head,
    .decode_data = decode_data,
    .encode_head = encode_head,
    .encode_data = encode_data,
    .encode_trailers = encode_trailers,
    .on_complete = on_complete,
    .on_destroy = on_destroy,
};

static struct http_filter *make(const void *config, struct http_filter_host *host)
{
    struct grpc_stats *t = arena_new(host->arena, struct grpc_stats);
    t->f.ops = &ops;
    t->cfg = config;
    return &t->f;
}

const struct http_filter_type http_grpc_stats_type = {
    .name = "envoy.filters.http.grpc_stats",
    .config_type = "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
    .parse = parse,
    .make = make,
};
