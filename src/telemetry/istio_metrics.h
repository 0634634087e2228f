/* Istio's standard metrics, with the labels that its dashboards read:
 *
 *   istio_requests_total  istio_request_duration_milliseconds  istio_request_bytes
 *   istio_response_bytes  istio_request_messages_total  istio_response_messages_total
 *   istio_tcp_connections_opened_total  ..._closed_total
 *   istio_tcp_received_bytes_total  istio_tcp_sent_bytes_total
 *
 * A request's labels are numbers until a row of series is needed that was never needed before: the
 * texts of peers, principals and services are looked up in the worker's book (istio_peer.h), the
 * numbers together are the key of a row, and a row holds its series by pointer. No label is
 * formatted for a request whose row exists.
 *
 * Series are bounded: past the registry's budget a row counts in the series with the label
 * overflow="true" (stats.series_refused grows), and a series that was idle for rotation_interval
 * (1 h by default) is evicted.
 * Thread: building: main. Reporting: the owning worker. */
#ifndef WEFT_TELEMETRY_ISTIO_METRICS_H
#define WEFT_TELEMETRY_ISTIO_METRICS_H

#include "base/error.h"
#include "telemetry/istio_peer.h"

struct stats;
struct stats_PluginConfig;
struct istio_metrics;

enum istio_reporter { ISTIO_SOURCE, ISTIO_DESTINATION, ISTIO_WAYPOINT };
enum istio_protocol { ISTIO_HTTP, ISTIO_GRPC, ISTIO_TCP };
enum istio_security { ISTIO_SECURITY_UNKNOWN, ISTIO_SECURITY_NONE, ISTIO_SECURITY_MTLS };

/* ---- configuration ---- */
/* `node`: this node's metadata, or NULL. What cannot be honoured is refused by name, `path` first.
 * The result lives in `a` (drops its scope with it) and reads node and m's strings for as long. */
int istio_metrics_build(const struct stats_PluginConfig *m, enum istio_reporter reporter,
                        const struct google_Struct *node, struct stats *s, const char *path,
                        struct arena *a, const struct istio_metrics **out,
                        struct error *err) MUST_CHECK;
enum istio_reporter istio_metrics_reporter(const struct istio_metrics *c);
bool istio_metrics_host_fallback(const struct istio_metrics *c);
uint64_t istio_metrics_tcp_ms(const struct istio_metrics *c); /* 0: only at the end */

/* ---- a worker ---- */
struct istio_worker;
struct istio_worker *istio_worker_new(void);
void istio_worker_free(void *worker); /* after its last request */
/* The book in use; the caller gives the reference back. */
struct istio_book *istio_worker_book(struct istio_worker *w);

/* ---- reporting ---- */
/* Who took part. Views are read during the call only; peer and names belong to the book. */
struct istio_parties {
    enum istio_protocol protocol;
    enum istio_security security;
    const struct istio_peer *peer; /* the other workload, or NULL */
    const struct istio_name *peer_principal, *local_principal;
    const struct istio_name *host, *name, *ns; /* destination service */
    uint64_t flags;                            /* STREAM_FLAG_* */
    uint16_t status;                           /* HTTP */
    int grpc_status;                           /* -1: none */
};
/* destination_service* by Istio's rules: the cluster's metadata, its name where it is one of the
 * mesh's own, else the request's host. */
void istio_parties_service(struct istio_parties *p, struct istio_book *b, sv cluster,
                           const struct envoy_Metadata *m, sv host);

struct istio_request {
    uint64_t duration_ms, request_bytes, response_bytes;
    bool has_duration;
    uint64_t request_messages, response_messages; /* gRPC */
};
void istio_report_request(const struct istio_metrics *c, struct istio_book *b,
                          const struct istio_parties *p, const struct istio_request *r);

struct istio_connection {
    bool opened, closed;
    uint64_t received, sent; /* since the last report */
};
void istio_report_connection(const struct istio_metrics *c, struct istio_book *b,
                             const struct istio_parties *p, const struct istio_connection *r);

#endif
