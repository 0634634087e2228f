/* Spans: who a request belongs to, what is told of it, and how OTLP and Zipkin write that down.
 *
 *   traceparent: 00-<32 hex: trace id>-<16 hex: span id>-<2 hex: flags>     W3C Trace Context
 *   b3: <16 or 32 hex: trace id>-<16 hex: span id>[-<0|1|d>[-<16 hex: parent>]], or <0|1|d>    B3
 *   x-b3-traceid, x-b3-spanid, x-b3-parentspanid, x-b3-sampled                the same, in pieces
 *
 * A span is made when its request comes in, is a child of what the request's fields name, and is
 * named to the next hop in their place. At the end of a sampled one its tags are those that Envoy
 * sets, under Envoy's names. Everything of a span lives in its stream's arena; trace_otlp_add and
 * trace_zipkin_add write it down whole, so that nothing outlives the stream.
 * Thread: the stream's worker. */
#ifndef WEFT_TELEMETRY_TRACE_H
#define WEFT_TELEMETRY_TRACE_H

#include "api/envoy.pb.h"
#include "base/rand.h"
#include "base/strbuf.h"
#include "http/stream_info.h"
#include "route/custom_tag.h"

#define TRACE_PARENT_LEN 55

struct trace_context {
    uint8_t trace_id[16], span_id[8]; /* a trace id of 64 bits has zeros before it */
    bool sampled;
};

/* Envoy's reading of traceparent: 55 bytes, hex in either case, neither id all zeros, any version
 * (whose further meaning is not looked at). E_INVALID leaves *out as it is. */
int trace_parent_parse(sv text, struct trace_context *out);
/* Version 00, lower case. */
void trace_parent_text(const struct trace_context *c, char out[TRACE_PARENT_LEN]);

/* What a request says in B3 of the span it belongs to. */
struct trace_b3 {
    struct trace_context ctx; /* sampled: as preset when the request does not say */
    uint8_t parent[8];
    bool ids, has_sampled, has_parent;
    bool single; /* it came in b3, and goes on in b3 */
};
/* Envoy's reading of b3. E_INVALID leaves *out as it is. */
int trace_b3_parse(sv text, struct trace_b3 *out);
/* Of a request's fields: b3 goes before x-b3-*. x-b3-sampled means yes with 1 and true, no with
 * anything else; ids are hex numbers of at most 64 bits, the trace's also 32 digits; both must be
 * there. E_INVALID when something cannot be read. */
int trace_b3_read(const struct http_headers *h, struct trace_b3 *out);

/* How a tracer finds the span of a request, and names its own to the next hop. */
struct trace_style {
    bool b3; /* B3, else W3C */
    bool
        w3c_too; /* B3: a request without B3 ids is asked for traceparent, the next hop gets both */
    bool wide_ids; /* B3: new traces have 128 bits (those of W3C always do) */
    bool shared;   /* B3: a server's span has the id of the client's that called it */
};

/* 32 hex digits, or 16 when that is all there is of it and not `full`. */
sv trace_id_text(const struct trace_context *c, bool full, struct arena *a);
sv trace_span_id_text(const uint8_t id[8], struct arena *a);

struct trace_tag {
    sv key, value;
};

struct trace_event {
    const char *name;
    uint64_t wall_ns;
};
#define TRACE_EVENTS_MAX 8

struct trace_conf; /* filters/trace_export.h: where it goes, and what it is given */
struct trace_span {
    const struct trace_conf *conf;
    struct trace_context ctx;
    uint64_t start_wall_ns, end_wall_ns; /* set when it ends */
    uint8_t parent[8];
    bool has_parent;
    bool error;     /* set when it ends */
    bool egress;    /* the request is of this side: kind CLIENT, else SERVER */
    bool b3_single; /* the next hop is told in b3, not x-b3-* */
    bool named;     /* by a format: no decorator is asked or told */
    sv name;
    sv state;               /* tracestate of the parent */
    sv decorator;           /* operation that the response is to name, or empty */
    struct trace_tag *tags; /* set when it ends */
    uint32_t n_tags, cap_tags;
    struct trace_event events[TRACE_EVENTS_MAX];
    uint32_t n_events;
};

/* A new span of the request with the fields h, s->egress being set: ids, parent, and whether it is
 * sampled, which what the request says decides, else `sampled`. E_INVALID when the request's fields
 * cannot be read: there is to be no span then, and they pass as they are. */
int trace_span_start(struct trace_span *s, const struct trace_style *style,
                     const struct http_headers *h, bool sampled, struct rand_state *r,
                     struct arena *a);
/* A span below s, of one attempt to reach an upstream: kind CLIENT. */
void trace_span_child(struct trace_span *child, const struct trace_span *s, struct rand_state *r);
/* Names the span to the next hop. */
void trace_span_inject(const struct trace_span *s, const struct trace_style *style,
                       struct http_headers *h, struct arena *a);

/* Sets a tag, in the place of one of that name. Views are borrowed for the span's life. */
void trace_span_tag(struct trace_span *s, struct arena *a, sv key, sv value);

struct trace_node {
    sv id, zone;
};
/* All of Envoy's tags of a request that is over. max_path: bytes of the path in http.url. */
void trace_span_finish(struct trace_span *s, struct stream_info *si, const struct trace_node *node,
                       uint32_t max_path);
/* What it was when: Envoy's events of a verbose span. */
void trace_span_events(struct trace_span *s, const struct stream_info *si);
/* All of Envoy's tags of an attempt that is over. */
struct trace_attempt {
    sv cluster, cluster_alt, address;
    bool has_protocol;
    enum http_protocol protocol;
    uint32_t number; /* 0: the first */
    uint16_t status; /* 0: no answer */
    uint64_t flags;
    sv reset; /* "connection timeout", why it failed, or empty */
    bool cancelled;
    const struct http_headers *answer, *trailers; /* or NULL */
};
void trace_span_attempt(struct trace_span *s, struct stream_info *si,
                        const struct trace_attempt *t);
/* Custom tags. One whose source has no value is left out. */
void trace_span_custom(struct trace_span *s, const struct substitution_ctx *c,
                       const struct custom_tags *t);

/* Appends the span (one whose tags are set) in OTLP's form to a batch. */
void trace_otlp_add(struct strbuf *batch, const struct trace_span *s, struct arena *a);
/* The ExportTraceServiceRequest of a batch. */
void trace_otlp_request(struct strbuf *out, const struct strbuf *batch, sv service_name);

/* Appends the span (one whose tags are set) to a batch of Zipkin's JSON v2, a comma between two. */
struct trace_zipkin_endpoint {
    sv service, ip; /* of this proxy; what is empty is left out */
};
void trace_zipkin_add(struct strbuf *batch, const struct trace_span *s, struct arena *a,
                      const struct trace_zipkin_endpoint *at, const struct trace_style *style);

#endif
