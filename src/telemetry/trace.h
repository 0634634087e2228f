/* Spans: who a request belongs to, what is told of it, and how OTLP writes that down.
 *
 *   traceparent: 00-<32 hex: trace id>-<16 hex: span id>-<2 hex: flags>     W3C Trace Context
 *
 * A span is made when its request comes in, is a child of what the request's fields name, and is
 * named to the next hop in their place. At the end of a sampled one its tags are those that Envoy
 * sets, under Envoy's names. Everything of a span lives in its stream's arena; trace_otlp_add
 * writes it down whole, so that nothing outlives the stream.
 * Thread: the stream's worker. */
#ifndef WEFT_TELEMETRY_TRACE_H
#define WEFT_TELEMETRY_TRACE_H

#include "api/envoy.pb.h"
#include "base/strbuf.h"
#include "http/stream_info.h"

#define TRACE_PARENT_LEN 55

struct trace_context {
    uint8_t trace_id[16], span_id[8];
    bool sampled;
};

/* Envoy's reading of traceparent: 55 bytes, hex in either case, neither id all zeros, any version
 * (whose further meaning is not looked at). E_INVALID leaves *out as it is. */
int trace_parent_parse(sv text, struct trace_context *out);
/* Version 00, lower case. */
void trace_parent_text(const struct trace_context *c, char out[TRACE_PARENT_LEN]);

struct trace_tag {
    sv key, value;
};

struct trace_span {
    struct trace_context ctx;
    uint8_t parent[8];
    bool has_parent;
    bool error;  /* set when it ends */
    bool egress; /* the request is of this side: OTLP's kind CLIENT, else SERVER */
    sv name;
    sv state;               /* tracestate of the parent */
    sv decorator;           /* operation that the response is to name, or empty */
    struct trace_tag *tags; /* set when it ends */
    uint32_t n_tags, cap_tags;
};

/* Sets a tag, in the place of one of that name. Views are borrowed for the span's life. */
void trace_span_tag(struct trace_span *s, struct arena *a, sv key, sv value);

struct trace_node {
    sv id, zone;
};
/* All of Envoy's tags of a request that is over. max_path: bytes of the path in http.url. */
void trace_span_finish(struct trace_span *s, struct stream_info *si, const struct trace_node *node,
                       uint32_t max_path);
/* Custom tags of a configuration that route_custom_tags_check let pass. A tag whose source has no
 * value is left out. */
void trace_span_custom(struct trace_span *s, struct stream_info *si,
                       const struct envoy_CustomTag *const *v, uint32_t n);

/* Appends the span (one whose tags are set) in OTLP's form to a batch. */
void trace_otlp_add(struct strbuf *batch, const struct trace_span *s, const struct stream_info *si);
/* The ExportTraceServiceRequest of a batch. */
void trace_otlp_request(struct strbuf *out, const struct strbuf *batch, sv service_name);

#endif
