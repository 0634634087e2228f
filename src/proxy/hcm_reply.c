#include "proxy/hcm_reply.h"

#include <inttypes.h>
#include <stdio.h>

#include "http/grpc_status.h"
#include "http/path.h"
#include "net/loop.h"
#include "proxy/hcm.h"
#include "telemetry/access_log.h"
#include "upstream/data_source.h"
#include "upstream/upstream.h"

#define REPLY_BODY_MAX (1u << 20)

/* ---- configuration ---- */

struct reply_header {
    sv name;
    const struct substitution *value;
    int32_t action; /* envoy_HeaderValueOption_HeaderAppendAction */
    bool keep_empty;
};

struct reply_mapper {
    const struct access_log_filter *filter;
    uint16_t status; /* 0: as it is */
    bool has_body, has_format;
    sv body;
    struct log_format format;
    struct reply_header *headers;
    uint32_t n_headers;
};

struct hcm_reply_config {
    struct reply_mapper *mappers;
    uint32_t n;
    bool has_format;
    struct log_format format;
};

static int build_header(const struct envoy_HeaderValueOption *m, const char *path, struct arena *a,
                        struct reply_header *out, struct error *err)
{
    if (!m->header || !m->header->key.n)
        return error_set(err, E_INVALID, "%s.header.key: must not be empty", path);
    sv name = arena_sv(a, m->header->key);
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] >= 'A' && name.p[i] <= 'Z')
            ((char *)name.p)[i] = (char)(name.p[i] | 0x20);
    if (!http_name_lower_valid(name))
        return error_set(err, E_INVALID, "%s.header.key: '%.*s' is not a header name", path,
                         SV_ARG(name));
    out->name = name;
    out->keep_empty = m->keep_empty_value;
    out->action = m->append && !m->append->value
                      ? envoy_HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD
                      : m->append_action;
    sv value = m->header->raw_value.n ? m->header->raw_value : m->header->value;
    struct substitution_opts o = {.use = SUBSTITUTION_HEADER, .omit_empty = true, .path = path};
    return substitution_compile(value, &o, a, &out->value, err);
}

static int build_mapper(const struct envoy_ResponseMapper *m, const char *path, struct runtime *rt,
                        struct arena *a, struct reply_mapper *out, struct error *err)
{
    char at[512];
    if (!m->filter)
        return error_set(err, E_INVALID, "%s.filter: is required", path);
    snprintf(at, sizeof at, "%s.filter", path);
    int rc = access_log_filter_build(m->filter, at, rt, a, &out->filter, err);
    if (rc < 0)
        return rc;
    if (m->status_code) {
        if (m->status_code->value < 200 || m->status_code->value > 599)
            return error_set(err, E_INVALID, "%s.status_code: %u is not in 200..599", path,
                             m->status_code->value);
        out->status = (uint16_t)m->status_code->value;
    }
    if (m->body) {
        snprintf(at, sizeof at, "%s.body", path);
        rc = data_source_read(m->body, REPLY_BODY_MAX, at, a, &out->body, err);
        if (rc < 0)
            return rc;
        out->has_body = true;
    }
    if (m->body_format_override) {
        snprintf(at, sizeof at, "%s.body_format_override", path);
        rc = log_format_build(m->body_format_override, SUBSTITUTION_BODY, at, a, &out->format, err);
        if (rc < 0)
            return rc;
        out->has_format = true;
    }
    out->headers = arena_array(a, struct reply_header, m->headers_to_add.n);
    for (uint32_t i = 0; i < m->headers_to_add.n; i++) {
        snprintf(at, sizeof at, "%s.headers_to_add[%u]", path, i);
        rc = build_header(m->headers_to_add.v[i], at, a, &out->headers[out->n_headers++], err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int hcm_reply_build(const struct envoy_LocalReplyConfig *m, const char *path, struct runtime *rt,
                    struct arena *a, const struct hcm_reply_config **out, struct error *err)
{
    char at[512];
    struct hcm_reply_config *c = arena_new(a, struct hcm_reply_config);
    c->mappers = arena_array(a, struct reply_mapper, m->mappers.n);
    for (uint32_t i = 0; i < m->mappers.n; i++) {
        snprintf(at, sizeof at, "%s.mappers[%u]", path, i);
        int rc = build_mapper(m->mappers.v[i], at, rt, a, &c->mappers[c->n++], err);
        if (rc < 0)
            return rc;
    }
    if (m->body_format) {
        snprintf(at, sizeof at, "%s.body_format", path);
        int rc = log_format_build(m->body_format, SUBSTITUTION_BODY, at, a, &c->format, err);
        if (rc < 0)
            return rc;
        c->has_format = true;
    }
    *out = c;
    return 0;
}

/* ---- making a reply ---- */

struct reply {
    struct http_head *head;
    sv body, content_type;
};

static void set_header(struct hcm_stream *s, struct http_head *head, const struct reply_header *h,
                       const struct substitution_ctx *c)
{
    sv v = substitution_eval_arena(h->value, c, s->arena);
    if (!v.n && !h->keep_empty)
        return;
    bool there = http_headers_get_sv(&head->h, h->name).p != NULL;
    switch (h->action) {
    case envoy_HeaderValueOption_ADD_IF_ABSENT:
        if (there)
            return;
        break;
    case envoy_HeaderValueOption_OVERWRITE_IF_EXISTS:
        if (!there)
            return;
        http_headers_set(&head->h, h->name, v);
        return;
    case envoy_HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD:
        http_headers_set(&head->h, h->name, v);
        return;
    default:
        break;
    }
    http_headers_add(&head->h, h->name, v);
}

static void format_body(struct hcm_stream *s, const struct log_format *f,
                        const struct substitution_ctx *c, struct reply *r)
{
    struct strbuf text;
    strbuf_init(&text, REPLY_BODY_MAX);
    log_format_eval(f, c, &text);
    r->body = arena_sv(s->arena, strbuf_sv(&text));
    strbuf_fini(&text);
    r->content_type = f->content_type.n ? f->content_type
                      : f->json         ? SV("application/json")
                                        : SV("text/plain");
}

static void map_reply(struct hcm_stream *s, const struct hcm_reply_config *cfg, struct reply *r)
{
    struct substitution_ctx c = {.si = &s->si, .resp = r->head, .local_reply_body = r->body};
    uint64_t random = rand_u64(loop_rand(s->hc->conn->loop));
    const struct log_format *f = cfg->has_format ? &cfg->format : NULL;
    for (uint32_t i = 0; i < cfg->n; i++) {
        const struct reply_mapper *m = &cfg->mappers[i];
        if (!access_log_filter_pass(m->filter, &c, random))
            continue;
        if (m->status)
            r->head->status = s->si.response_code = m->status;
        if (m->has_body)
            r->body = c.local_reply_body = m->body;
        for (uint32_t k = 0; k < m->n_headers; k++)
            set_header(s, r->head, &m->headers[k], &c);
        if (m->has_format)
            f = &m->format;
        break;
    }
    if (f)
        format_body(s, f, &c, r);
}

/* Bytes outside of printable ASCII, and '%', as %XX (gRPC over HTTP/2, "Status-Message"). */
static sv grpc_message(struct arena *a, sv text)
{
    static const char hex[] = "0123456789ABCDEF";
    char *out = arena_alloc(a, text.n * 3 + 1);
    size_t n = 0;
    for (size_t i = 0; i < text.n; i++) {
        unsigned char ch = (unsigned char)text.p[i];
        if (ch >= 0x20 && ch <= 0x7e && ch != '%') {
            out[n++] = (char)ch;
            continue;
        }
        out[n++] = '%';
        out[n++] = hex[ch >> 4];
        out[n++] = hex[ch & 15];
    }
    return sv_make(out, n);
}

static sv number(struct arena *a, uint64_t v)
{
    return arena_printf(a, "%" PRIu64, v);
}

static void as_grpc(struct hcm_stream *s, const struct http_local_reply *lr, struct reply *r)
{
    struct http_headers *h = &r->head->h;
    int code = lr->grpc_status ? lr->grpc_status : http_grpc_status(r->head->status);
    r->head->status = s->si.response_code = 200;
    http_headers_remove_id(h, HTTP_H_CONTENT_LENGTH);
    http_headers_set_id(h, HTTP_H_CONTENT_TYPE, SV("application/grpc"));
    if (!http_headers_get(h, HTTP_H_GRPC_STATUS).p)
        http_headers_add_id(h, HTTP_H_GRPC_STATUS, number(s->arena, (uint64_t)code));
    if (r->body.n)
        http_headers_set_id(h, HTTP_H_GRPC_MESSAGE, grpc_message(s->arena, r->body));
    r->body = (sv){NULL, 0};
}

static void as_http(struct hcm_stream *s, struct reply *r)
{
    struct http_headers *h = &r->head->h;
    http_headers_remove_id(h, HTTP_H_CONTENT_LENGTH);
    if (!r->body.n) {
        http_headers_remove_id(h, HTTP_H_CONTENT_TYPE);
        if (r->head->status >= 200 && r->head->status != 204 && r->head->status != 304)
            r->head->content_length = 0;
        return;
    }
    if (r->content_type.n)
        http_headers_set_id(h, HTTP_H_CONTENT_TYPE, r->content_type);
    else if (!http_headers_get(h, HTTP_H_CONTENT_TYPE).p)
        http_headers_add_id(h, HTTP_H_CONTENT_TYPE, SV("text/plain"));
    http_headers_add_id(h, HTTP_H_CONTENT_LENGTH, number(s->arena, r->body.n));
    r->head->content_length = (int64_t)r->body.n;
}

/* Through the response filters, or straight out when they already had a head (rule 5). */
static void send_reply(struct hcm_stream *s, struct reply *r)
{
    if (s->is_head)
        r->body = (sv){NULL, 0};
    struct buf body;
    buf_init(&body);
    buf_append_sv(&body, r->body);
    bool end = body.len == 0;
    if (s->enc_started) {
        s->enc_done = true;
        hcm_stream_send_head(s, r->head, end);
        if (!end && !s->over)
            hcm_stream_send_data(s, &body, true);
        buf_reset(&body);
        return;
    }
    s->enc_started = true;
    uint32_t first = hcm_chain_first(s, HCM_ENC);
    hcm_chain_head(s, HCM_ENC, first, r->head, end);
    if (!end && !s->over && !s->enc_done)
        hcm_chain_data(s, HCM_ENC, first, &body, true);
    buf_reset(&body);
}

/* Answered before the router looked: the log still tells which cluster the route leads to. */
static void name_cluster(struct hcm_stream *s)
{
    if (s->si.upstream_cluster.n || !s->matched || !s->match.cluster.n)
        return;
    struct upstream_cluster *c = upstream_find(s->hc->nc->worker->upstream, s->match.cluster);
    if (!c)
        return;
    s->si.upstream_cluster = arena_sv(s->arena, upstream_cluster_name(c));
    s->si.upstream_cluster_alt = arena_sv(s->arena, upstream_cluster_stat_name(c));
    upstream_cluster_unref(c);
}

void hcm_local_reply(struct hcm_stream *s, const struct http_local_reply *lr)
{
    if (s->over || s->completed)
        return;
    if (s->head_sent) {
        hcm_stream_reset(s, HTTP_RESET_LOCAL, lr->flags, lr->details);
        return;
    }
    stream_info_fail(&s->si, lr->flags, lr->details);
    if (!s->chain_made)
        hcm_chain_make(s, s->cfg->filters, s->cfg->n_filters);
    bool grpc = s->si.is_grpc; /* as it was received: a filter may have changed its type */
    s->dec_done = true;
    s->si.local_reply = true;
    name_cluster(s);
    if (lr->status == 400 && s->si.protocol < HTTP_2 && !s->cfg->stream_error_on_bad)
        s->close_after = true;

    struct reply r = {.head = arena_new(s->arena, struct http_head), .body = lr->body};
    http_head_init(r.head, s->arena);
    r.head->status = s->si.response_code = lr->status;
    r.head->protocol = s->si.protocol;
    s->si.resp = r.head;
    /* What would have been forwarded has the route's header operations, whoever answers. */
    if (s->matched && s->match.route && s->match.route->action == ROUTE_FORWARD)
        route_match_response(&s->match, r.head, &s->si, s->arena);
    if (lr->modify)
        lr->modify(r.head, lr->arg);
    if (s->cfg->replies)
        map_reply(s, s->cfg->replies, &r);
    if (grpc)
        as_grpc(s, lr, &r);
    else
        as_http(s, &r);
    send_reply(s, &r);
}
