/* A batch is the elements of Zipkin's JSON array, a comma between two; the brackets are put around
 * it when it goes out. Field names: https://zipkin.io/zipkin-api, v2. */
#include "telemetry/trace.h"

static void member(struct strbuf *out, const char *name, sv value)
{
    strbuf_addf(out, ",\"%s\":", name);
    strbuf_add_json(out, value);
}

static void number(struct strbuf *out, const char *name, uint64_t value)
{
    strbuf_addf(out, ",\"%s\":%llu", name, (unsigned long long)value);
}

static void endpoint(struct strbuf *out, const struct trace_zipkin_endpoint *at)
{
    strbuf_add_c(out, ",\"localEndpoint\":{\"port\":0");
    if (at->ip.n)
        member(out, sv_find(at->ip, ':') >= 0 ? "ipv6" : "ipv4", at->ip);
    if (at->service.n)
        member(out, "serviceName", at->service);
    strbuf_add_ch(out, '}');
}

static void tags(struct strbuf *out, const struct trace_span *s)
{
    bool any = false;
    strbuf_add_c(out, ",\"tags\":{");
    for (uint32_t i = 0; i < s->n_tags; i++) {
        if (!s->tags[i].value.n)
            continue;
        if (any)
            strbuf_add_ch(out, ',');
        any = true;
        strbuf_add_json(out, s->tags[i].key);
        strbuf_add_ch(out, ':');
        strbuf_add_json(out, s->tags[i].value);
    }
    strbuf_add_ch(out, '}');
}

static void annotations(struct strbuf *out, const struct trace_span *s)
{
    strbuf_add_c(out, ",\"annotations\":[");
    for (uint32_t i = 0; i < s->n_events; i++)
        strbuf_addf(out, "{\"value\":\"%s\",\"timestamp\":%llu},", s->events[i].name,
                    (unsigned long long)(s->events[i].wall_ns / 1000));
    strbuf_addf(out, "{\"value\":\"%s\"", s->egress ? "cr" : "ss");
    number(out, "timestamp", s->end_wall_ns / 1000);
    strbuf_add_c(out, "}]");
}

void trace_zipkin_add(struct strbuf *batch, const struct trace_span *s, struct arena *a,
                      const struct trace_zipkin_endpoint *at, const struct trace_style *style)
{
    if (batch->n)
        strbuf_add_ch(batch, ',');
    strbuf_addf(batch, "{\"kind\":\"%s\"", s->egress ? "CLIENT" : "SERVER");
    if (style->shared && !s->egress)
        strbuf_add_c(batch, ",\"shared\":true");
    member(batch, "traceId", trace_id_text(&s->ctx, false, a));
    member(batch, "id", trace_span_id_text(s->ctx.span_id, a));
    if (s->has_parent)
        member(batch, "parentId", trace_span_id_text(s->parent, a));
    if (s->name.n)
        member(batch, "name", s->name);
    number(batch, "timestamp", s->start_wall_ns / 1000);
    number(batch, "duration", (s->end_wall_ns - s->start_wall_ns) / 1000);
    endpoint(batch, at);
    tags(batch, s);
    annotations(batch, s);
    strbuf_add_ch(batch, '}');
}
