/* A batch is the spans field of one InstrumentationLibrarySpans (ScopeSpans), span after span: what
 * stands around it is put there when the batch goes out. */
#include "api/opentelemetry.pb.h"
#include "telemetry/trace.h"

#ifndef WEFT_VERSION
#define WEFT_VERSION "0"
#endif

typedef struct opentelemetry_KeyValue KeyValue;

/* Fields come with any bytes; a collector refuses the whole batch for one that is not UTF-8. */
static sv clean(struct arena *a, sv v)
{
    if (pb_utf8_ok(v))
        return v;
    char *p = arena_alloc(a, v.n);
    for (size_t i = 0; i < v.n; i++)
        p[i] = v.p[i] & 0x80 ? '!' : v.p[i];
    return sv_make(p, v.n);
}

static const KeyValue *text(struct arena *a, sv key, sv value)
{
    struct opentelemetry_AnyValue *v = arena_new(a, struct opentelemetry_AnyValue);
    KeyValue *kv = arena_new(a, KeyValue);
    v->which_value = opentelemetry_AnyValue_string_value_tag;
    v->string_value = clean(a, value);
    kv->key = clean(a, key);
    kv->value = v;
    return kv;
}

static sv bytes(const uint8_t *p, size_t n)
{
    return sv_make((const char *)p, n);
}

void trace_otlp_add(struct strbuf *batch, const struct trace_span *s, struct arena *a)
{
    const KeyValue **tags = arena_alloc(a, sizeof *tags * (s->n_tags + 1));
    for (uint32_t i = 0; i < s->n_tags; i++)
        tags[i] = text(a, s->tags[i].key, s->tags[i].value);
    struct opentelemetry_Span_Event *event =
        arena_array(a, struct opentelemetry_Span_Event, s->n_events);
    const struct opentelemetry_Span_Event **events = arena_alloc(a, sizeof *events * 8);
    for (uint32_t i = 0; i < s->n_events; i++) {
        event[i].time_unix_nano = s->events[i].wall_ns;
        event[i].name = sv_of(s->events[i].name);
        events[i] = &event[i];
    }
    const struct opentelemetry_Status status = {.code = opentelemetry_Status_STATUS_CODE_ERROR};
    const struct opentelemetry_Span span = {
        .trace_id = bytes(s->ctx.trace_id, 16),
        .span_id = bytes(s->ctx.span_id, 8),
        .trace_state = clean(a, s->state),
        .parent_span_id = bytes(s->parent, s->has_parent ? 8 : 0),
        .name = clean(a, s->name),
        .kind =
            s->egress ? opentelemetry_Span_SPAN_KIND_CLIENT : opentelemetry_Span_SPAN_KIND_SERVER,
        .start_time_unix_nano = s->start_wall_ns,
        .end_time_unix_nano = s->end_wall_ns,
        .attributes = {tags, s->n_tags},
        .events = {events, s->n_events},
        .status = s->error ? &status : NULL,
    };
    const struct opentelemetry_Span *one = &span;
    const struct opentelemetry_InstrumentationLibrarySpans list = {.spans = {&one, 1}};
    pb_encode(&opentelemetry_InstrumentationLibrarySpans_pb, &list, batch);
}

/* The head of a field of bytes; its content is to follow. */
static void field_head(struct strbuf *out, unsigned number, size_t n)
{
    strbuf_add_ch(out, (char)(number << 3 | 2));
    for (; n >= 0x80; n >>= 7)
        strbuf_add_ch(out, (char)(n | 0x80));
    strbuf_add_ch(out, (char)n);
}

void trace_otlp_request(struct strbuf *out, const struct strbuf *batch, sv service_name)
{
    struct strbuf head, inner;
    struct arena a;
    arena_init(&a);
    strbuf_init(&head, SIZE_MAX / 2);
    strbuf_init(&inner, 16);
    const KeyValue *attributes[] = {
        text(&a, SV("service.name"), service_name),
        text(&a, SV("telemetry.sdk.name"), SV("weft")),
        text(&a, SV("telemetry.sdk.version"), SV(WEFT_VERSION)),
    };
    const struct opentelemetry_Resource r = {
        .attributes = {attributes, sizeof attributes / sizeof *attributes}};
    const struct opentelemetry_ResourceSpans rs = {.resource = &r};
    pb_encode(&opentelemetry_ResourceSpans_pb, &rs, &head);
    field_head(&inner, 2, batch->n);                 /* ResourceSpans.scope_spans */
    field_head(out, 1, head.n + inner.n + batch->n); /* resource_spans of the request */
    strbuf_add_sv(out, strbuf_sv(&head));
    strbuf_add_sv(out, strbuf_sv(&inner));
    strbuf_add_sv(out, strbuf_sv(batch));
    strbuf_fini(&head);
    strbuf_fini(&inner);
    arena_free(&a);
}
