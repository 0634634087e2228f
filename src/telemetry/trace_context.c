/* Ids of spans as text, and what requests say of them: W3C Trace Context and B3. */
#include <string.h>
#include "base/error.h"
#include "telemetry/trace.h"

static int nibble(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool unhex(const char *p, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int hi = nibble(p[2 * i]), lo = nibble(p[2 * i + 1]);
        if (hi < 0 || lo < 0)
            return false;
        out[i] = (uint8_t)(hi << 4 | lo);
    }
    return true;
}

static bool all_zero(const uint8_t *p, size_t n)
{
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++)
        any |= p[i];
    return !any;
}

int trace_parent_parse(sv text, struct trace_context *out)
{
    struct trace_context c;
    uint8_t version, flags;
    if (text.n != TRACE_PARENT_LEN || text.p[2] != '-' || text.p[35] != '-' || text.p[52] != '-')
        return E_INVALID;
    if (!unhex(text.p, &version, 1) || !unhex(text.p + 3, c.trace_id, 16) ||
        !unhex(text.p + 36, c.span_id, 8) || !unhex(text.p + 53, &flags, 1))
        return E_INVALID;
    if (all_zero(c.trace_id, 16) || all_zero(c.span_id, 8))
        return E_INVALID;
    c.sampled = flags & 1;
    *out = c;
    return 0;
}

static char *hex(char *to, const uint8_t *p, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        *to++ = digits[p[i] >> 4];
        *to++ = digits[p[i] & 15];
    }
    return to;
}

void trace_parent_text(const struct trace_context *c, char out[TRACE_PARENT_LEN])
{
    memcpy(out, "00-", 3);
    char *p = hex(out + 3, c->trace_id, 16);
    *p++ = '-';
    p = hex(p, c->span_id, 8);
    memcpy(p, c->sampled ? "-01" : "-00", 3);
}

/* ---- B3 ---- */

/* A hex number of at most 64 bits, as Envoy reads one: any number of leading zeros, and 0x. */
static bool number(sv v, uint8_t out[8])
{
    uint64_t n = 0;
    if (v.n > 2 && v.p[0] == '0' && (v.p[1] | 0x20) == 'x')
        v = sv_from(v, 2);
    for (size_t i = 0; i < v.n; i++) {
        int d = nibble(v.p[i]);
        if (d < 0 || n >> 60)
            return false;
        n = n << 4 | (uint64_t)d;
    }
    for (int i = 7; i >= 0; i--, n >>= 8)
        out[i] = (uint8_t)n;
    return v.n > 0;
}

static bool trace_number(sv v, bool wide, uint8_t out[16])
{
    memset(out, 0, 8);
    return wide ? number(sv_first(v, 16), out) && number(sv_from(v, 16), out + 8)
                : number(v, out + 8);
}

static bool flag(char c, bool *sampled)
{
    *sampled = c != '0';
    return c == '0' || c == '1' || c == 'd';
}

/* What follows the ids: nothing, "-1", or "-1-PARENT". */
static bool b3_rest(sv v, struct trace_b3 *b)
{
    if (!v.n)
        return true;
    if ((v.n != 2 && v.n != 19) || v.p[0] != '-' || !flag(v.p[1], &b->ctx.sampled))
        return false;
    b->has_sampled = true;
    b->has_parent = v.n == 19;
    return v.n == 2 || (v.p[2] == '-' && number(sv_from(v, 3), b->parent));
}

int trace_b3_parse(sv text, struct trace_b3 *out)
{
    struct trace_b3 b = *out;
    b.single = true;
    if (text.n == 1) {
        b.has_sampled = true;
        if (!flag(text.p[0], &b.ctx.sampled))
            return E_INVALID;
        *out = b;
        return 0;
    }
    bool wide = text.n >= 49 && text.p[32] == '-';
    size_t dash = wide ? 32 : 16;
    if (text.n < dash + 17 || text.p[dash] != '-' ||
        !trace_number(sv_first(text, dash), wide, b.ctx.trace_id) ||
        !number(sv_first(sv_from(text, dash + 1), 16), b.ctx.span_id) ||
        !b3_rest(sv_from(text, dash + 17), &b))
        return E_INVALID;
    b.ids = true;
    *out = b;
    return 0;
}

int trace_b3_read(const struct http_headers *h, struct trace_b3 *out)
{
    sv single = http_headers_get_sv(h, SV("b3"));
    if (single.p)
        return trace_b3_parse(single, out);
    struct trace_b3 b = *out;
    sv sampled = http_headers_get_sv(h, SV("x-b3-sampled"));
    sv trace = http_headers_get_sv(h, SV("x-b3-traceid"));
    sv span = http_headers_get_sv(h, SV("x-b3-spanid"));
    sv parent = http_headers_get_sv(h, SV("x-b3-parentspanid"));
    if (sampled.p) {
        b.has_sampled = true;
        b.ctx.sampled = sv_eq(sampled, SV("1")) || sv_eq(sampled, SV("true"));
    }
    if (trace.p && span.p) {
        b.ids = true;
        b.has_parent = parent.n > 0;
        if (!trace_number(trace, trace.n == 32, b.ctx.trace_id) || !number(span, b.ctx.span_id) ||
            (parent.n && !number(parent, b.parent)))
            return E_INVALID;
    }
    *out = b;
    return 0;
}

/* ---- a span's place in its trace ---- */

static void new_id(struct rand_state *r, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        uint64_t v = rand_u64(r);
        memcpy(out + i, &v, 8);
    }
    out[n - 1] |= all_zero(out, n); /* all zeros are no id */
}

static int start_w3c(struct trace_span *s, const struct http_headers *h, struct rand_state *r,
                     struct arena *a)
{
    sv parent = http_headers_get(h, HTTP_H_TRACEPARENT);
    if (!parent.p) {
        new_id(r, s->ctx.trace_id, 16);
    } else {
        if (trace_parent_parse(parent, &s->ctx) < 0)
            return E_INVALID;
        memcpy(s->parent, s->ctx.span_id, 8);
        s->has_parent = true;
        s->state = http_headers_joined(h, http_name_text(HTTP_H_TRACESTATE), a);
    }
    new_id(r, s->ctx.span_id, 8);
    return 0;
}

/* Envoy's first span of a trace has the trace's last 64 bits as its id. */
static void first_b3(struct trace_span *s, const struct trace_style *style, struct rand_state *r)
{
    if (style->wide_ids)
        new_id(r, s->ctx.trace_id, 8);
    new_id(r, s->ctx.span_id, 8);
    memcpy(s->ctx.trace_id + 8, s->ctx.span_id, 8);
}

static int start_b3(struct trace_span *s, const struct trace_style *style,
                    const struct http_headers *h, struct rand_state *r)
{
    struct trace_b3 b = {.ctx.sampled = s->ctx.sampled};
    if (trace_b3_read(h, &b) < 0)
        return E_INVALID;
    if (style->w3c_too && !b.ids && !b.single) {
        bool sampled = b.has_sampled && b.ctx.sampled; /* either of them is enough */
        b.ids = trace_parent_parse(http_headers_get(h, HTTP_H_TRACEPARENT), &b.ctx) == 0;
        b.ctx.sampled |= b.ids && sampled;
    }
    s->ctx = b.ctx;
    s->b3_single = b.single;
    if (!b.ids) {
        first_b3(s, style, r);
    } else if (style->shared && !s->egress) {
        s->has_parent = b.has_parent && !all_zero(b.parent, 8);
        memcpy(s->parent, b.parent, 8);
    } else {
        s->has_parent = true;
        memcpy(s->parent, b.ctx.span_id, 8);
        new_id(r, s->ctx.span_id, 8);
    }
    return 0;
}

int trace_span_start(struct trace_span *s, const struct trace_style *style,
                     const struct http_headers *h, bool sampled, struct rand_state *r,
                     struct arena *a)
{
    s->ctx.sampled = sampled;
    return style->b3 ? start_b3(s, style, h, r) : start_w3c(s, h, r, a);
}

void trace_span_child(struct trace_span *child, const struct trace_span *s, struct rand_state *r)
{
    *child = (struct trace_span){.conf = s->conf,
                                 .ctx = s->ctx,
                                 .has_parent = true,
                                 .egress = true,
                                 .b3_single = s->b3_single,
                                 .state = s->state};
    memcpy(child->parent, s->ctx.span_id, 8);
    new_id(r, child->ctx.span_id, 8);
}

sv trace_id_text(const struct trace_context *c, bool full, struct arena *a)
{
    bool narrow = !full && all_zero(c->trace_id, 8);
    char *p = arena_alloc(a, 32);
    char *end = narrow ? hex(p, c->trace_id + 8, 8) : hex(p, c->trace_id, 16);
    return sv_make(p, (size_t)(end - p));
}

sv trace_span_id_text(const uint8_t id[8], struct arena *a)
{
    char *p = arena_alloc(a, 16);
    hex(p, id, 8);
    return sv_make(p, 16);
}

static void inject_w3c(const struct trace_span *s, struct http_headers *h, struct arena *a)
{
    char *text = arena_alloc(a, TRACE_PARENT_LEN);
    trace_parent_text(&s->ctx, text);
    http_headers_set_id(h, HTTP_H_TRACEPARENT, sv_make(text, TRACE_PARENT_LEN));
}

static void inject_b3(const struct trace_span *s, struct http_headers *h, struct arena *a)
{
    sv trace = trace_id_text(&s->ctx, false, a), span = trace_span_id_text(s->ctx.span_id, a);
    sv parent = s->has_parent ? trace_span_id_text(s->parent, a) : SV("");
    if (s->b3_single) {
        http_headers_set(h, SV("b3"),
                         arena_printf(a, "%.*s-%.*s-%d%s%.*s", SV_ARG(trace), SV_ARG(span),
                                      s->ctx.sampled, parent.n ? "-" : "", SV_ARG(parent)));
        return;
    }
    http_headers_set(h, SV("x-b3-traceid"), trace);
    http_headers_set(h, SV("x-b3-spanid"), span);
    if (parent.n)
        http_headers_set(h, SV("x-b3-parentspanid"), parent);
    http_headers_set(h, SV("x-b3-sampled"), s->ctx.sampled ? SV("1") : SV("0"));
}

void trace_span_inject(const struct trace_span *s, const struct trace_style *style,
                       struct http_headers *h, struct arena *a)
{
    if (style->b3)
        inject_b3(s, h, a);
    if (!style->b3 || style->w3c_too)
        inject_w3c(s, h, a);
    if (!style->b3)
        http_headers_set_id(h, HTTP_H_TRACESTATE, s->state.p ? s->state : SV(""));
}
