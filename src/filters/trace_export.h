/* Takes finished spans to a collector, through a cluster of the proxy's own: OTLP over gRPC or
 * HTTP, or Zipkin's JSON.
 *
 *   span ──> batch of its target, of this worker ──5 spans, or 5 s──> one call with all of them
 *
 * These two are Envoy's runtime keys tracing.opentelemetry.min_flush_spans and .flush_interval_ms
 * (tracing.zipkin. likewise, and .request_timeout in ms).
 *
 * One call of a target and worker is under way at a time; what comes meanwhile gathers and leaves
 * with the next one, so that batches grow with the load. A batch has bounds (spans: max_cache_size;
 * bytes: TRACE_BATCH_BYTES): past them spans are dropped and counted, requests never wait. A call
 * that fails takes its batch along: nothing is sent twice.
 *
 * Counters, tracing.opentelemetry.* and tracing.zipkin.*: spans_sent (those of calls that were
 * answered well), spans_dropped (all others), timer_flushed. Zipkin's also count calls, as Envoy:
 * reports_sent, reports_dropped (answered with an error), reports_failed (not answered),
 * reports_skipped_no_cluster.
 * Thread: said at each function. */
#ifndef WEFT_FILTERS_TRACE_EXPORT_H
#define WEFT_FILTERS_TRACE_EXPORT_H

#include "filters/context.h"
#include "telemetry/stats.h"
#include "telemetry/trace.h"

#define TRACE_BATCH_BYTES (3u << 20)

struct filter_worker;
struct envoy_trace_Tracing_Http;

enum trace_protocol { TRACE_OTLP_GRPC, TRACE_OTLP_HTTP, TRACE_ZIPKIN };

/* Where spans of one configuration go. Immutable, lives in the configuration's arena. */
struct trace_target {
    sv key; /* all of it: equal keys share a batch */
    enum trace_protocol protocol;
    struct trace_style style;
    sv cluster, authority, path;
    sv service_name;
    struct trace_header {
        sv name, value;
    } * headers; /* of each call */
    uint32_t n_headers;
    uint32_t max_spans;
    uint64_t timeout_ms; /* of a call */
    /* A call is made when so many wait, or this long after the first. */
    uint32_t flush_spans;
    uint64_t flush_ms;
};

/* What the spans of one connection manager are given. Immutable, lives as long as the target. */
struct trace_conf {
    const struct trace_target *target;
    struct custom_tags tags;
    const struct substitution *operation, *upstream_operation; /* names, or NULL */
    uint32_t max_path;
    bool verbose; /* with events */
    bool spawn;   /* attempts to reach an upstream have spans of their own */
};

/* Main. What is not carried out of a provider, and any but envoy.tracers.opentelemetry and
 * envoy.tracers.zipkin, is refused by name, at x->path. trace_target.c */
int trace_target_build(const struct filter_ctx *x, const struct envoy_trace_Tracing_Http *m,
                       const struct trace_target **out, struct error *err) MUST_CHECK;

/* Worker. The span's tags are set; `a` is for what writing it down takes. Nothing of the target or
 * the span is kept. */
void trace_export(struct filter_worker *w, const struct trace_target *t, const struct trace_span *s,
                  struct arena *a);

/* Worker, at its end, before its clusters go: calls are given up. NULL is fine. */
struct trace_worker;
void trace_worker_end(struct trace_worker *t);
/* After it. NULL is fine. */
void trace_worker_free(struct trace_worker *t);

#endif
