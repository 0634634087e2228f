#include "filters/http/grpc_web/grpc_web.h"

#include "api/envoy.pb.h"
#include "base/base64.h"
#include "grpc/grpc_status.h"

#define MESSAGE_MAX 4096 /* of a foreign answer, that becomes grpc-message */

struct grpc_web {
    struct http_filter f;
    bool on;       /* the request is gRPC-Web */
    bool text_in;  /* its body is base64 */
    bool text_out; /* the response's is to be */
    bool wrap;     /* the response is gRPC */
    bool foreign;  /* it is not: its head waits for the body that it becomes a message of */
    uint8_t n_in, n_out;
    unsigned char in[4];  /* base64 digits that do not make bytes yet */
    unsigned char out[3]; /* bytes that do not make digits yet */
    char message[MESSAGE_MAX];
    size_t n_message;
};

static struct grpc_web *of(struct http_filter *f)
{
    return container_of(f, struct grpc_web, f);
}

static bool is_text(sv type)
{
    return sv_eq(type, SV("application/grpc-web-text")) ||
           sv_eq(type, SV("application/grpc-web-text+proto"));
}

static bool is_binary(sv type)
{
    return sv_eq(type, SV("application/grpc-web")) || sv_eq(type, SV("application/grpc-web+proto"));
}

/* ---- base64, piece by piece ---- */

/* Four digits; false when they are none. Padding may come anywhere: clients may encode each message
 * for itself. */
static bool decode_four(struct grpc_web *g, struct buf *to)
{
    unsigned n = g->in[2] == '=' && g->in[3] == '=' ? 1 : g->in[3] == '=' ? 2 : 3;
    uint32_t v = 0;
    for (unsigned i = 0; i < 4; i++) {
        int d = i > n ? 0 : base64_value((char)g->in[i]);
        if (d < 0)
            return false;
        v = v << 6 | (uint32_t)d;
    }
    unsigned char bytes[3] = {(unsigned char)(v >> 16), (unsigned char)(v >> 8), (unsigned char)v};
    buf_append(to, bytes, n);
    g->n_in = 0;
    return true;
}

static bool decode(struct grpc_web *g, struct buf *from, struct buf *to)
{
    while (from->len) {
        sv front = buf_front(from);
        for (size_t i = 0; i < front.n; i++) {
            g->in[g->n_in++] = (unsigned char)front.p[i];
            if (g->n_in == 4 && !decode_four(g, to))
                return false;
        }
        buf_drain(from, front.n);
    }
    return true;
}

static void encode_three(const unsigned char *v, unsigned n, struct buf *to)
{
    char out[4];
    base64_group(base64_standard, v, n, out);
    buf_append(to, out, 4);
}

/* In place. `end`: what is left is padded. */
static void encode(struct grpc_web *g, struct buf *data, bool end)
{
    struct buf to;
    buf_init(&to);
    while (data->len) {
        sv front = buf_front(data);
        for (size_t i = 0; i < front.n; i++) {
            g->out[g->n_out++] = (unsigned char)front.p[i];
            if (g->n_out < 3)
                continue;
            encode_three(g->out, 3, &to);
            g->n_out = 0;
        }
        buf_drain(data, front.n);
    }
    if (end && g->n_out) {
        encode_three(g->out, g->n_out, &to);
        g->n_out = 0;
    }
    buf_move(data, &to);
}

/* ---- the request ---- */

static enum http_filter_status decode_head(struct http_filter *f, struct http_head *head, bool end)
{
    struct grpc_web *g = of(f);
    sv type = http_headers_get(&head->h, HTTP_H_CONTENT_TYPE);
    g->text_in = is_text(type);
    g->on = g->text_in || is_binary(type);
    if (!g->on)
        return HTTP_FILTER_CONTINUE;
    g->text_out = is_text(http_headers_get_sv(&head->h, SV("accept")));
    http_headers_remove_id(&head->h, HTTP_H_CONTENT_LENGTH);
    head->content_length = -1;
    http_headers_set_id(&head->h, HTTP_H_CONTENT_TYPE, SV("application/grpc"));
    http_headers_set_id(&head->h, HTTP_H_TE, SV("trailers"));
    http_headers_set(&head->h, SV("grpc-accept-encoding"), SV("identity"));
    return HTTP_FILTER_CONTINUE;
}

static enum http_filter_status decode_data(struct http_filter *f, struct buf *data, bool end)
{
    struct grpc_web *g = of(f);
    struct buf bytes;
    if (!g->text_in)
        return HTTP_FILTER_CONTINUE;
    buf_init(&bytes);
    bool ok = decode(g, data, &bytes), cut = ok && end && g->n_in;
    buf_move(data, &bytes);
    if (ok && !cut)
        return HTTP_FILTER_CONTINUE;
    f->host->ops->local_reply(
        f->host,
        &(struct http_local_reply){.status = 400,
                                   .body = SV("Bad gRPC-web request, invalid base64 data."),
                                   .details = cut ? SV("grpc_base_64_decode_failed_bad_size")
                                                  : SV("grpc_base_64_decode_failed")});
    return HTTP_FILTER_STOP;
}

/* ---- the response ---- */

/* An answer of somebody who does not speak gRPC: its status and text as a gRPC status. */
static void translate(struct grpc_web *g)
{
    struct http_filter_host *h = g->f.host;
    struct http_head *head = h->info->resp;
    if (!http_headers_get(&head->h, HTTP_H_GRPC_STATUS).p)
        http_headers_set_id(&head->h, HTTP_H_GRPC_STATUS,
                            arena_printf(h->arena, "%d", grpc_code_of_http(head->status)));
    if (g->n_message)
        http_headers_set_id(&head->h, HTTP_H_GRPC_MESSAGE,
                            grpc_message_encode(sv_make(g->message, g->n_message), h->arena));
    g->foreign = false;
}

static void take_message(struct grpc_web *g, struct buf *data)
{
    size_t room = MESSAGE_MAX - g->n_message;
    g->n_message +=
        buf_peek(data, 0, g->message + g->n_message, room < data->len ? room : data->len);
    buf_drain(data, data->len);
}

static enum http_filter_status encode_head(struct http_filter *f, struct http_head *head, bool end)
{
    struct grpc_web *g = of(f);
    if (!g->on)
        return HTTP_FILTER_CONTINUE;
    g->wrap = http_head_is_grpc(head);
    g->foreign = !g->wrap;
    http_headers_remove_id(&head->h, HTTP_H_CONTENT_LENGTH);
    head->content_length = -1;
    http_headers_set_id(&head->h, HTTP_H_CONTENT_TYPE,
                        g->text_out ? SV("application/grpc-web-text+proto")
                                    : SV("application/grpc-web+proto"));
    if (g->foreign && !end)
        return HTTP_FILTER_STOP;
    if (g->foreign)
        translate(g);
    return HTTP_FILTER_CONTINUE;
}

static enum http_filter_status encode_data(struct http_filter *f, struct buf *data, bool end)
{
    struct grpc_web *g = of(f);
    if (g->foreign) {
        take_message(g, data);
        if (!end)
            return HTTP_FILTER_STOP;
        translate(g);
    }
    if (g->wrap && g->text_out)
        encode(g, data, end);
    return HTTP_FILTER_CONTINUE;
}

/* The trailers become the last frame of the body. */
static enum http_filter_status encode_trailers(struct http_filter *f, struct http_headers *t)
{
    struct grpc_web *g = of(f);
    struct buf frame;
    size_t n = 0;
    if (g->foreign)
        translate(g);
    if (!g->wrap)
        return HTTP_FILTER_CONTINUE;
    for (uint32_t i = 0; i < t->n; i++)
        n += t->v[i].name.n + t->v[i].value.n + 3;
    unsigned char prefix[5] = {0x80, (unsigned char)(n >> 24), (unsigned char)(n >> 16),
                               (unsigned char)(n >> 8), (unsigned char)n};
    buf_init(&frame);
    buf_append(&frame, prefix, sizeof prefix);
    for (uint32_t i = 0; i < t->n; i++) {
        buf_append_sv(&frame, t->v[i].name);
        buf_append_sv(&frame, SV(":"));
        buf_append_sv(&frame, t->v[i].value);
        buf_append_sv(&frame, SV("\r\n"));
    }
    t->n = 0;
    if (g->text_out)
        encode(g, &frame, true);
    f->host->ops->add_response_data(f->host, &frame);
    buf_reset(&frame);
    return HTTP_FILTER_CONTINUE;
}

static const struct http_filter_ops ops = {
    .name = "envoy.filters.http.grpc_web",
    .decode_head = decode_head,
    .decode_data = decode_data,
    .encode_head = encode_head,
    .encode_data = encode_data,
    .encode_trailers = encode_trailers,
};

static int parse(const struct filter_ctx *x, sv packed, const void **config, struct error *err)
{
    const struct envoy_GrpcWeb *m;
    return filter_decode(x, &envoy_GrpcWeb_pb, packed, (const void **)&m, err);
}

static struct http_filter *make(const void *config, struct http_filter_host *host)
{
    struct grpc_web *g = arena_new(host->arena, struct grpc_web);
    g->f.ops = &ops;
    return &g->f;
}

const struct http_filter_type http_grpc_web_type = {
    .name = "envoy.filters.http.grpc_web",
    .config_type = "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb",
    .parse = parse,
    .make = make,
};
