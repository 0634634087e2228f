#include "filters/http/istio_stats/istio_stats.h"

#include "api/envoy.pb.h"
#include "api/stats.pb.h"
#include "grpc/grpc_frame.h"
#include "http/substitution.h"
#include "telemetry/istio_metrics.h"
#include "upstream/upstream.h"

struct istio_stats {
    struct http_filter f;
    const struct istio_metrics *cfg;
    struct istio_book *book;
    const struct istio_name *peer_principal, *local_principal; /* of the upstream's connection */
    struct grpc_counter up, down;
};

static struct istio_stats *of(struct http_filter *f)
{
    return container_of(f, struct istio_stats, f);
}

/* ---- gRPC messages ---- */

static enum http_filter_status decode_data(struct http_filter *f, struct buf *data, bool end)
{
    if (f->host->info->is_grpc)
        grpc_counter_add(&of(f)->up, data);
    return HTTP_FILTER_CONTINUE;
}

static enum http_filter_status encode_data(struct http_filter *f, struct buf *data, bool end)
{
    if (f->host->info->is_grpc)
        grpc_counter_add(&of(f)->down, data);
    return HTTP_FILTER_CONTINUE;
}

/* ---- who and what ---- */

static struct istio_book *book(struct istio_stats *t)
{
    if (!t->book)
        t->book = istio_worker_book(filter_worker_istio(t->f.host->worker));
    return t->book;
}

/* The connection may be gone when the request is over. */
static void on_upstream(struct http_filter *f, struct http_head *head)
{
    struct istio_stats *t = of(f);
    const struct stream_conn *up = f->host->info->up;
    if (istio_metrics_reporter(t->cfg) != ISTIO_SOURCE || !up)
        return;
    t->peer_principal = istio_book_name(book(t), up->peer_id);
    t->local_principal = istio_book_name(book(t), up->local_id);
}

static const struct istio_peer *learned(const struct stream_info *si, const char *key)
{
    const struct stream_state *s = stream_info_state_get(si, sv_of(key));
    return s ? s->obj : NULL;
}

static void source_side(struct istio_stats *t, struct istio_parties *p)
{
    const struct stream_info *si = t->f.host->info;
    p->peer = learned(si, ISTIO_UPSTREAM_PEER);
    if (!p->peer && si->upstream_endpoint)
        p->peer =
            istio_peer_of_endpoint(book(t), upstream_host_info(si->upstream_endpoint)->metadata);
    p->peer_principal = t->peer_principal;
    p->local_principal = t->local_principal;
}

static void destination_side(struct istio_stats *t, struct istio_parties *p)
{
    const struct stream_info *si = t->f.host->info;
    p->peer = learned(si, ISTIO_DOWNSTREAM_PEER);
    p->peer_principal = istio_book_name(book(t), si->down->peer_id);
    p->local_principal = istio_book_name(book(t), si->down->local_id);
    p->security =
        p->peer_principal && p->local_principal ? ISTIO_SECURITY_MTLS : ISTIO_SECURITY_NONE;
}

static void on_complete(struct http_filter *f)
{
    struct istio_stats *t = of(f);
    const struct stream_info *si = f->host->info;
    struct istio_parties p = {
        .protocol = si->is_grpc ? ISTIO_GRPC : ISTIO_HTTP,
        .flags = si->flags,
        .status = si->response_code,
        .grpc_status = -1,
    };
    uint64_t grpc;
    if (si->is_grpc && substitution_grpc_status(&(struct substitution_ctx){.si = si}, &grpc))
        p.grpc_status = (int)grpc;
    if (istio_metrics_reporter(t->cfg) == ISTIO_SOURCE)
        source_side(t, &p);
    else
        destination_side(t, &p);
    sv host = si->req && istio_metrics_host_fallback(t->cfg) ? si->req->authority : (sv){NULL, 0};
    istio_parties_service(&p, book(t), si->upstream_cluster,
                          si->cluster ? upstream_cluster_metadata(si->cluster) : NULL, host);
    struct istio_request r = {
        .has_duration = true,
        .duration_ms = (si->end_ns - si->start_ns) / 1000000u,
        .request_bytes = si->down_wire_in,
        .response_bytes = si->down_wire_out,
        .request_messages = t->up.n,
        .response_messages = t->down.n,
    };
    istio_report_request(t->cfg, book(t), &p, &r);
}

static void on_destroy(struct http_filter *f)
{
    struct istio_stats *t = of(f);
    istio_book_unref(t->book);
    t->book = NULL;
}

static const struct http_filter_ops ops = {
    .name = "istio.stats",
    .decode_data = decode_data,
    .encode_data = encode_data,
    .on_upstream = on_upstream,
    .on_complete = on_complete,
    .on_destroy = on_destroy,
};

static struct http_filter *make(const void *config, struct http_filter_host *host)
{
    struct istio_stats *t = arena_new(host->arena, struct istio_stats);
    t->f.ops = &ops;
    t->cfg = config;
    return &t->f;
}

const struct http_filter_type http_istio_stats_type = {
    .name = "istio.stats",
    .config_type = "stats.PluginConfig",
    .parse = filter_istio_metrics,
    .make = make,
};
