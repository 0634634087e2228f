#include "filters/http/grpc_web/grpc_web_testlib.h"

#include <string.h>

static void local_reply(struct http_filter_host *h, const struct http_local_reply *reply)
{
    struct grpc_web_rig *r = container_of(h, struct grpc_web_rig, host);
    r->replied = reply->status;
}

static void keep(struct strbuf *to, struct buf *data)
{
    while (data->len) {
        sv v = buf_front(data);
        strbuf_add_sv(to, v);
        buf_drain(data, v.n);
    }
}

static void add_response_data(struct http_filter_host *h, struct buf *data)
{
    keep(&container_of(h, struct grpc_web_rig, host)->response, data);
}

static const struct http_filter_host_ops ops = {
    .local_reply = local_reply,
    .add_response_data = add_response_data,
};

void grpc_web_rig_init(struct grpc_web_rig *r, const char *type, const char *accept)
{
    memset(r, 0, sizeof *r);
    arena_init(&r->arena);
    strbuf_init(&r->request, 1 << 24);
    strbuf_init(&r->response, 1 << 24);
    http_head_init(&r->req, &r->arena);
    http_head_init(&r->resp, &r->arena);
    http_headers_add(&r->req.h, SV("content-type"), sv_of(type));
    http_headers_add(&r->req.h, SV("content-length"), SV("7"));
    if (accept)
        http_headers_add(&r->req.h, SV("accept"), sv_of(accept));
    r->info.req = &r->req;
    r->info.resp = &r->resp;
    r->host.ops = &ops;
    r->host.info = &r->info;
    r->host.arena = &r->arena;
    r->f = http_grpc_web_type.make(NULL, &r->host);
    r->f->host = &r->host;
    r->f->ops->decode_head(r->f, &r->req, false);
}

void grpc_web_rig_fini(struct grpc_web_rig *r)
{
    strbuf_fini(&r->request);
    strbuf_fini(&r->response);
    arena_free(&r->arena);
}

bool grpc_web_rig_request(struct grpc_web_rig *r, const void *p, size_t n, bool end)
{
    struct buf data;
    if (r->replied)
        return false;
    buf_init(&data);
    buf_append(&data, p, n);
    if (r->f->ops->decode_data(r->f, &data, end) == HTTP_FILTER_CONTINUE)
        keep(&r->request, &data);
    buf_reset(&data);
    return !r->replied;
}

void grpc_web_rig_answer(struct grpc_web_rig *r, uint16_t status, const char *type, bool end)
{
    r->resp.status = status;
    http_headers_add(&r->resp.h, SV("content-type"), sv_of(type));
    r->stopped = r->f->ops->encode_head(r->f, &r->resp, end) != HTTP_FILTER_CONTINUE;
}

void grpc_web_rig_response(struct grpc_web_rig *r, const void *p, size_t n, bool end)
{
    struct buf data;
    buf_init(&data);
    buf_append(&data, p, n);
    if (r->f->ops->encode_data(r->f, &data, end) == HTTP_FILTER_CONTINUE) {
        r->stopped = false;
        keep(&r->response, &data);
    }
    buf_reset(&data);
}

void grpc_web_rig_trailers(struct grpc_web_rig *r, const char *const *fields)
{
    struct http_headers t;
    http_headers_init(&t, &r->arena);
    for (; fields[0]; fields += 2)
        http_headers_add(&t, sv_of(fields[0]), sv_of(fields[1]));
    if (r->f->ops->encode_trailers(r->f, &t) == HTTP_FILTER_CONTINUE)
        r->stopped = false;
}
