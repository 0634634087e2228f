#include <string.h>
#include "grpc/grpc_status.h"
#include "telemetry/trace.h"

void trace_span_tag(struct trace_span *s, struct arena *a, sv key, sv value)
{
    for (uint32_t i = 0; i < s->n_tags; i++)
        if (sv_eq(s->tags[i].key, key)) {
            s->tags[i].value = value;
            return;
        }
    if (s->n_tags == s->cap_tags) {
        uint32_t cap = s->cap_tags ? s->cap_tags * 2 : 32;
        struct trace_tag *v = arena_array(a, struct trace_tag, cap);
        if (s->n_tags)
            memcpy(v, s->tags, s->n_tags * sizeof *v);
        s->tags = v;
        s->cap_tags = cap;
    }
    s->tags[s->n_tags++] = (struct trace_tag){key, value};
}

static sv or_dash(sv v)
{
    return v.n ? v : SV("-");
}

struct tags {
    struct trace_span *s;
    struct stream_info *si;
};

static void put(const struct tags *t, const char *key, sv value)
{
    trace_span_tag(t->s, t->si->arena, sv_of(key), value);
}

static void put_number(const struct tags *t, const char *key, uint64_t v)
{
    put(t, key, arena_printf(t->si->arena, "%llu", (unsigned long long)v));
}

static void put_if(const struct tags *t, const char *key, sv value)
{
    if (value.p)
        put(t, key, value);
}

/* ---- what Envoy says of a request ---- */

static sv url(const struct stream_info *si, const struct http_head *req, uint32_t max_path)
{
    sv path = http_headers_get(&req->h, HTTP_H_X_ENVOY_ORIGINAL_PATH);
    if (!path.n)
        path = req->path;
    if (path.n > max_path)
        path = sv_first(path, max_path);
    return arena_printf(si->arena, "%.*s://%.*s%.*s", SV_ARG(req->scheme), SV_ARG(req->authority),
                        SV_ARG(path));
}

static void request_tags(const struct tags *t, const struct http_head *req, uint32_t max_path)
{
    const struct http_headers *h = &req->h;
    put_if(t, "guid:x-request-id", http_headers_get(h, HTTP_H_X_REQUEST_ID));
    put(t, "http.url", url(t->si, req, max_path));
    put(t, "http.method", req->method);
    put(t, "downstream_cluster",
        or_dash(http_headers_get_sv(h, SV("x-envoy-downstream-service-cluster"))));
    put(t, "user_agent", or_dash(http_headers_get(h, HTTP_H_USER_AGENT)));
    put(t, "http.protocol", sv_of(http_protocol_text(t->si->protocol)));
    put(t, "peer.address", stream_addr_ip(t->si->down->direct_remote));
    put_if(t, "guid:x-client-trace-id", http_headers_get_sv(h, SV("x-client-trace-id")));
    if (!t->si->is_grpc)
        return;
    put(t, "grpc.path", req->path);
    put(t, "grpc.authority", req->authority);
    put_if(t, "grpc.content_type", http_headers_get(h, HTTP_H_CONTENT_TYPE));
    put_if(t, "grpc.timeout", http_headers_get(h, HTTP_H_GRPC_TIMEOUT));
}

/* OpenTelemetry's rule: a status that is the client's fault is no error of the server. */
static bool grpc_fault(sv status)
{
    int code;
    if (grpc_code_parse(status, &code) < 0)
        return false;
    switch (code) {
    case GRPC_UNKNOWN:
    case GRPC_DEADLINE_EXCEEDED:
    case GRPC_UNIMPLEMENTED:
    case GRPC_INTERNAL:
    case GRPC_UNAVAILABLE:
    case GRPC_DATA_LOSS:
        return true;
    default:
        return false;
    }
}

static void grpc_outcome(const struct tags *t, const struct http_headers *trailers,
                         const struct http_headers *head)
{
    const struct http_headers *from[] = {trailers, head};
    for (unsigned i = 0; i < 2; i++) {
        sv status = from[i] ? http_headers_get(from[i], HTTP_H_GRPC_STATUS) : (sv){NULL, 0};
        if (!status.p)
            continue;
        put(t, "grpc.status_code", status);
        put_if(t, "grpc.message", http_headers_get(from[i], HTTP_H_GRPC_MESSAGE));
        if (grpc_fault(status) || sv_eq(status, SV("8"))) /* RESOURCE_EXHAUSTED */
            put(t, "error", SV("true"));
        t->s->error |= t->s->egress ? !sv_eq(status, SV("0")) : grpc_fault(status);
        return;
    }
}

static void outcome(const struct tags *t, uint16_t status, uint64_t bits)
{
    struct strbuf flags;
    put_number(t, "http.status_code", status);
    strbuf_init(&flags, 4096);
    stream_flags_text(bits, false, &flags);
    put(t, "response_flags", arena_sv(t->si->arena, strbuf_sv(&flags)));
    strbuf_fini(&flags);
    t->s->error = status >= (t->s->egress ? 400 : 500);
}

static void cluster(const struct tags *t, sv name, sv alt)
{
    if (!name.n)
        return;
    put(t, "upstream_cluster", name);
    put(t, "upstream_cluster.name", alt.n ? alt : name);
}

void trace_span_finish(struct trace_span *s, struct stream_info *si, const struct trace_node *node,
                       uint32_t max_path)
{
    struct tags t = {s, si};
    put(&t, "node_id", node->id);
    put(&t, "zone", node->zone);
    if (si->req)
        request_tags(&t, si->req, max_path);
    put_number(&t, "request_size", si->bytes_received);
    put_number(&t, "response_size", si->bytes_sent);
    put(&t, "component", SV("proxy"));
    cluster(&t, si->upstream_cluster, si->upstream_cluster_alt);
    outcome(&t, si->response_code, si->flags);
    if (!si->response_code || si->response_code >= 500)
        put(&t, "error", SV("true"));
    if (si->is_grpc)
        grpc_outcome(&t, si->resp_trailers, si->resp ? &si->resp->h : NULL);
}

void trace_span_attempt(struct trace_span *s, struct stream_info *si, const struct trace_attempt *a)
{
    struct tags t = {s, si};
    if (a->number)
        put_number(&t, "retry.count", a->number);
    if (a->reset.n) {
        put(&t, "error", SV("true"));
        put(&t, "error.reason", a->reset);
    }
    put(&t, "http.protocol", a->has_protocol ? sv_of(http_protocol_text(a->protocol)) : SV("-"));
    if (a->address.n) {
        put(&t, "upstream_address", a->address);
        put(&t, "peer.address", a->address);
    }
    put(&t, "component", SV("proxy"));
    cluster(&t, a->cluster, a->cluster_alt);
    outcome(&t, a->status, a->flags);
    if (!a->status || a->status >= 500)
        put(&t, "error", SV("true"));
    if (a->cancelled)
        put(&t, "canceled", SV("true"));
    if (si->is_grpc)
        grpc_outcome(&t, a->trailers, a->answer);
}

void trace_span_events(struct trace_span *s, const struct stream_info *si)
{
    const struct {
        const char *name;
        uint64_t at;
    } all[] = {
        {"last_downstream_rx_byte_received", si->request_end_ns},
        {"first_upstream_tx_byte_sent", si->upstream_first_tx_ns},
        {"last_upstream_tx_byte_sent", si->upstream_last_tx_ns},
        {"first_upstream_rx_byte_received", si->upstream_first_rx_ns},
        {"last_upstream_rx_byte_received", si->upstream_last_rx_ns},
        {"first_downstream_tx_byte_sent", si->response_start_ns},
        {"last_downstream_tx_byte_sent", si->response_end_ns},
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all && s->n_events < TRACE_EVENTS_MAX; i++)
        if (all[i].at >= si->start_ns)
            s->events[s->n_events++] =
                (struct trace_event){all[i].name, si->start_wall_ns + (all[i].at - si->start_ns)};
}

void trace_span_custom(struct trace_span *s, const struct substitution_ctx *c,
                       const struct custom_tags *t)
{
    for (uint32_t i = 0; i < t->n; i++) {
        sv value = custom_tag_value(&t->v[i], c);
        if (value.n)
            trace_span_tag(s, c->si->arena, t->v[i].tag, value);
    }
}
