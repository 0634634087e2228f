/* Takes finished spans to a collector: OTLP over gRPC, through a cluster of the proxy's own.
 *
 *   span ──> batch of its target, of this worker ──5 spans, or 5 s──> one call of
 * TraceService.Export
 *
 * One call of a target and worker is under way at a time; what comes meanwhile gathers and leaves
 * with the next one, so that batches grow with the load. A batch has bounds (spans: max_cache_size;
 * bytes: TRACE_BATCH_BYTES): past them spans are dropped and counted, requests never wait. A call
 * that fails takes its batch along: nothing is sent twice.
 *
 * Counters, tracing.opentelemetry.*: spans_sent (those of calls that were answered well),
 * spans_dropped (all others), timer_flushed.
 * Thread: said at each function. */
#ifndef WEFT_FILTERS_TRACE_EXPORT_H
#define WEFT_FILTERS_TRACE_EXPORT_H

#include "filters/context.h"
#include "telemetry/stats.h"
#include "telemetry/trace.h"

#define TRACE_BATCH_BYTES (3u << 20)

struct filter_worker;
struct envoy_trace_Tracing_Http;

/* Where spans of one configuration go. Immutable, lives in the configuration's arena. */
struct trace_target {
    sv key; /* all of it: equal keys share a batch */
    sv cluster, authority, service_name;
    const struct envoy_HeaderValue *const *metadata; /* initial_metadata */
    uint32_t n_metadata;
    uint32_t max_spans;
    uint64_t timeout_ms;
};

/* Main. A provider other than envoy.tracers.opentelemetry over grpc_service.envoy_grpc is refused
 * by name, at x->path. */
int trace_target_build(const struct filter_ctx *x, const struct envoy_trace_Tracing_Http *m,
                       const struct trace_target **out, struct error *err) MUST_CHECK;

/* Worker. The span's tags are set. Nothing of the target or the stream is kept. */
void trace_export(struct filter_worker *w, const struct trace_target *t, const struct trace_span *s,
                  const struct stream_info *si);

/* Worker, at its end, before its clusters go: calls are given up. NULL is fine. */
struct trace_worker;
void trace_worker_end(struct trace_worker *t);
/* After it. NULL is fine. */
void trace_worker_free(struct trace_worker *t);

#endif
