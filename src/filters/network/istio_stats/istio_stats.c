#include "filters/network/istio_stats/istio_stats.h"

#include <stdlib.h>

#include "api/envoy.pb.h"
#include "api/stats.pb.h"
#include "base/mem.h"
#include "telemetry/istio_metrics.h"
#include "upstream/upstream.h"

/* Beside a connection, from its start to its end. */
struct watch {
    struct network_observer o;
    struct network_conn *nc;
    const struct istio_metrics *cfg;
    struct istio_book *book;
    struct istio_parties who; /* as it was at the first report */
    bool opened;
    uint64_t received, sent; /* reported */
    struct timer timer;
};

static void identify(struct watch *w, const struct stream_info *si)
{
    struct istio_parties *p = &w->who;
    bool source = istio_metrics_reporter(w->cfg) == ISTIO_SOURCE;
    const struct stream_conn *c = source ? si->up : si->down;
    *p = (struct istio_parties){.protocol = ISTIO_TCP, .grpc_status = -1, .flags = si->flags};
    if (c) {
        p->peer_principal = istio_book_name(w->book, c->peer_id);
        p->local_principal = istio_book_name(w->book, c->local_id);
    }
    if (!source)
        p->security =
            p->peer_principal && p->local_principal ? ISTIO_SECURITY_MTLS : ISTIO_SECURITY_NONE;
    else if (si->upstream_endpoint)
        p->peer =
            istio_peer_of_endpoint(w->book, upstream_host_info(si->upstream_endpoint)->metadata);
    istio_parties_service(p, w->book, si->upstream_cluster,
                          si->cluster ? upstream_cluster_metadata(si->cluster) : NULL,
                          (sv){NULL, 0});
}

static void report(struct watch *w, const struct stream_info *si, bool closed)
{
    if (!w->opened)
        identify(w, si);
    struct istio_connection r = {
        .opened = !w->opened,
        .closed = closed,
        .received = si->down_wire_in - w->received,
        .sent = si->down_wire_out - w->sent,
    };
    w->opened = true;
    w->received = si->down_wire_in;
    w->sent = si->down_wire_out;
    istio_report_connection(w->cfg, w->book, &w->who, &r);
}

static void on_connected(struct network_observer *o, const struct stream_info *si)
{
    report(container_of(o, struct watch, o), si, false);
}

static void on_end(struct network_observer *o, const struct stream_info *si)
{
    struct watch *w = container_of(o, struct watch, o);
    timer_cancel(&w->timer);
    if (si)
        report(w, si, true);
    istio_book_unref(w->book);
    free(w);
}

static void on_timer(struct timer *t)
{
    struct watch *w = container_of(t, struct watch, timer);
    if (w->opened && w->nc->owner_ops && w->nc->owner_ops->describe) {
        struct arena a;
        arena_init(&a);
        report(w, w->nc->owner_ops->describe(w->nc->owner, &a), false);
        arena_free(&a);
    }
    timer_set(t, istio_metrics_tcp_ms(w->cfg));
}

static void start(const void *config, struct network_conn *nc)
{
    struct watch *w = mem_new(struct watch);
    w->o.on_connected = on_connected;
    w->o.on_end = on_end;
    w->nc = nc;
    w->cfg = config;
    w->book = istio_worker_book(filter_worker_istio(nc->worker));
    timer_init(&w->timer, nc->worker->loop, on_timer);
    if (istio_metrics_tcp_ms(w->cfg))
        timer_set(&w->timer, istio_metrics_tcp_ms(w->cfg));
    network_observe(nc, &w->o);
    network_next(nc);
}

const struct network_filter_type network_istio_stats_type = {
    .name = "istio.stats",
    .config_type = "stats.PluginConfig",
    .parse = filter_istio_metrics,
    .start = start,
};
