/* What filters may use of the worker they run on: http_filter_host.worker and
 * network_conn.worker point to it. One per worker, made by the proxy before the worker runs, gone
 * after its last connection. Thread: the worker. */
#ifndef WEFT_FILTERS_WORKER_H
#define WEFT_FILTERS_WORKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/sv.h"
#include "net/loop.h"

struct upstream_worker; /* upstream/upstream.h */
struct stats;           /* telemetry/stats.h */
struct stats_cache;
struct google_Struct;
struct istio_worker;
struct trace_worker;

/* The node that this proxy is, for headers and logs. Views live as long as the process. */
struct filter_node {
    sv id, cluster, region, zone, sub_zone;
    sv local_ip; /* first address of this machine that is not loopback, or empty */
    const struct google_Struct *metadata; /* of the bootstrap's node, or NULL */
};

struct filter_worker {
    struct loop *loop;
    struct upstream_worker *upstream; /* clusters as this worker sees them */
    struct stats *stats;
    struct stats_cache *series; /* dynamic metrics of this worker */
    const struct filter_node *node;
    unsigned index, count;             /* this worker's number, and how many there are */
    uint64_t next_stream_id;           /* private: filter_worker_stream_id */
    struct access_log_writer *logs;    /* this worker's buffers of log lines */
    const _Atomic bool *health_failed; /* POST /healthcheck/fail; may be NULL */
    struct istio_worker *istio;        /* peers and their metrics; made by the first who asks */
    struct trace_worker *traces;       /* spans on their way: trace_export.h */
};

/* A number no other stream of the process has. */
static inline uint64_t filter_worker_stream_id(struct filter_worker *w)
{
    return w->next_stream_id += w->count ? w->count : 1;
}

/* This worker's peers and rows of Istio's metrics. */
struct istio_worker *filter_worker_istio(struct filter_worker *w);

#endif
