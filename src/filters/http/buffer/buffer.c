#include "filters/http/buffer/buffer.h"

#include <inttypes.h>

#include "api/envoy.pb.h"

/* What holds for a request: the filter's own, or what its route says instead. */
struct settings {
    bool disabled;
    uint32_t max_bytes;
};

struct buffer {
    struct http_filter f;
    const struct settings *own;
    struct http_head *head; /* waits for its body; NULL: the request passes */
    uint64_t received;
};

/* ---- configuration ---- */

static int build(const struct filter_ctx *x, const struct envoy_Buffer *m, const char *field,
                 struct settings *out, struct error *err)
{
    if (!m->max_request_bytes || !m->max_request_bytes->value)
        return error_set(err, E_INVALID, "%s: is required, and more than 0",
                         filter_path(x, "%s", field));
    out->max_bytes = m->max_request_bytes->value;
    return 0;
}

static int parse(const struct filter_ctx *x, sv packed, const void **config, struct error *err)
{
    const struct envoy_Buffer *m;
    int rc = filter_decode(x, &envoy_Buffer_pb, packed, (const void **)&m, err);
    if (rc < 0)
        return rc;
    struct settings *s = arena_new(x->arena, struct settings);
    *config = s;
    return build(x, m, "max_request_bytes", s, err);
}

static int parse_route(const struct filter_ctx *x, sv packed, const void **config,
                       struct error *err)
{
    const struct envoy_BufferPerRoute *m;
    int rc = filter_decode(x, &envoy_BufferPerRoute_pb, packed, (const void **)&m, err);
    if (rc < 0)
        return rc;
    struct settings *s = arena_new(x->arena, struct settings);
    *config = s;
    switch (m->which_override) {
    case 1:
        if (!m->disabled)
            return error_set(err, E_INVALID, "%s: can only be true", filter_path(x, "disabled"));
        s->disabled = true;
        return 0;
    case 2:
        return build(x, m->buffer, "buffer.max_request_bytes", s, err);
    default:
        return error_set(err, E_INVALID, "%s: neither disabled nor buffer is given",
                         x->path ? x->path : "typed_per_filter_config");
    }
}

/* ---- requests ---- */

static enum http_filter_status decode_head(struct http_filter *f, struct http_head *head, bool end)
{
    struct buffer *b = container_of(f, struct buffer, f);
    struct http_filter_host *h = f->host;
    if (end)
        return HTTP_FILTER_CONTINUE;
    const struct settings *s = h->ops->route_config(h);
    if (!s)
        s = b->own;
    if (s->disabled)
        return HTTP_FILTER_CONTINUE;
    h->ops->set_buffer_limit(h, s->max_bytes);
    b->head = head;
    return HTTP_FILTER_STOP;
}

/* The request is whole: a length is better for the next party than chunks. */
static void complete(struct buffer *b)
{
    struct http_headers *h = &b->head->h;
    if (!http_headers_get(h, HTTP_H_CONTENT_LENGTH).p)
        http_headers_add_id(h, HTTP_H_CONTENT_LENGTH,
                            arena_printf(b->f.host->arena, "%" PRIu64, b->received));
}

static enum http_filter_status decode_data(struct http_filter *f, struct buf *data, bool end)
{
    struct buffer *b = container_of(f, struct buffer, f);
    if (!b->head)
        return HTTP_FILTER_CONTINUE;
    b->received += data->len;
    if (end) { /* the last piece too must be within the limit: the manager keeps it first */
        complete(b);
        f->host->ops->continue_decoding(f->host);
    }
    return HTTP_FILTER_STOP_BUFFER;
}

static enum http_filter_status decode_trailers(struct http_filter *f, struct http_headers *t)
{
    struct buffer *b = container_of(f, struct buffer, f);
    if (b->head)
        complete(b);
    return HTTP_FILTER_CONTINUE;
}

static const struct http_filter_ops ops = {
    .name = "envoy.filters.http.buffer",
    .decode_head = decode_head,
    .decode_data = decode_data,
    .decode_trailers = decode_trailers,
};

static struct http_filter *make(const void *config, struct http_filter_host *host)
{
    struct buffer *b = arena_new(host->arena, struct buffer);
    b->f.ops = &ops;
    b->own = config;
    return &b->f;
}

const struct http_filter_type http_buffer_type = {
    .name = "envoy.filters.http.buffer",
    .config_type = "envoy.extensions.filters.http.buffer.v3.Buffer",
    .route_type = "envoy.extensions.filters.http.buffer.v3.BufferPerRoute",
    .parse = parse,
    .parse_route = parse_route,
    .make = make,
};
