/* Server calls: from a request's head to its trailers. */
#include "grpc/grpc_call.h"

#include <stdlib.h>
#include "base/map.h"
#include "base/mem.h"

struct method {
    grpc_handler_fn handler;    /* streaming */
    grpc_request_fn request_fn; /* unary */
    void *user;
};

struct grpc_server *grpc_server_new(uint32_t default_max_message_bytes)
{
    struct grpc_server *srv = mem_new(struct grpc_server);
    srv->methods = mem_new(struct map);
    map_init_borrow(srv->methods);
    list_init(&srv->calls);
    srv->max_message_bytes = default_max_message_bytes;
    return srv;
}

void grpc_server_free(struct grpc_server *srv)
{
    if (!srv)
        return;
    for (struct list *it; (it = list_first(&srv->calls));)
        grpc_cancel(container_of(it, struct grpc_call, link));
    map_each (e, srv->methods)
        free(e->val);
    map_fini(srv->methods);
    free(srv->methods);
    free((char *)(uintptr_t)srv->closing.p);
    free(srv);
}

static void add(struct grpc_server *srv, const char *path, struct method m)
{
    struct method *copy = mem_new(struct method);
    *copy = m;
    free(map_put(srv->methods, sv_of(path), copy));
}

void grpc_server_add_method(struct grpc_server *srv, const char *path, grpc_handler_fn fn,
                            void *user)
{
    add(srv, path, (struct method){.handler = fn, .user = user});
}

void grpc_server_add_unary(struct grpc_server *srv, const char *path, grpc_request_fn fn,
                           void *user)
{
    add(srv, path, (struct method){.request_fn = fn, .user = user});
}

uint32_t grpc_server_calls(const struct grpc_server *srv)
{
    return srv->n_calls;
}

void grpc_server_forget(struct grpc_call *c)
{
    if (list_empty(&c->link))
        return;
    list_del(&c->link);
    c->srv->n_calls--;
}

void grpc_server_shutdown(struct grpc_server *srv, const char *message)
{
    free((char *)(uintptr_t)srv->closing.p);
    srv->closing = sv_of(sv_dup(sv_of(message)));
    /* grpc_finish leaves a call in the list until on_done. */
    list_each_safe (it, &srv->calls)
        grpc_finish(container_of(it, struct grpc_call, link), GRPC_UNAVAILABLE, srv->closing, NULL);
}

/* ---- a call begins ---- */

static void take_stream(struct grpc_call *c, struct http_stream *s, struct http_head *head,
                        const struct serve_peer *peer)
{
    struct arena *a = &c->arena;
    c->s = s;
    c->server = true;
    c->peer = peer;
    c->head = *head;
    http_headers_copy(&c->head.h, &head->h, a);
    c->head.path = arena_sv(a, head->path);
    c->head.method = arena_sv(a, head->method);
    c->head.scheme = arena_sv(a, head->scheme);
    c->head.authority = arena_sv(a, head->authority);
    c->head.connect_protocol = (sv){NULL, 0};
    http_stream_set_user(s, &grpc_stream_events, c);
}

static void refuse_http(struct http_stream *s, uint16_t status)
{
    static const struct http_stream_events none;
    struct http_head m;
    http_stream_set_user(s, &none, NULL);
    http_head_init(&m, s->arena);
    m.status = status;
    http_headers_add_id(&m.h, HTTP_H_CONTENT_LENGTH, SV("0"));
    bool whole = s->recv_end;
    s->ops->send_head(s, &m, true);
    if (!whole)
        s->ops->reset(s, HTTP_RESET_NO_ERROR);
}

static void begin(struct grpc_server *srv, struct grpc_call *c, const struct method *m)
{
    sv timeout = http_headers_get(&c->head.h, HTTP_H_GRPC_TIMEOUT);
    uint64_t ms;
    if (timeout.p) {
        if (grpc_timeout_parse(timeout, &ms) != 0) {
            grpc_finish(c, GRPC_INTERNAL, SV("malformed grpc-timeout"), NULL);
            return;
        }
        grpc_call_set_deadline(c, ms);
    }
    if (srv->closing.p) {
        grpc_finish(c, GRPC_UNAVAILABLE, srv->closing, NULL);
    } else if (!m) {
        grpc_finish(
            c, GRPC_UNIMPLEMENTED,
            arena_printf(&c->arena, "unknown method %.*s", SV_ARG(sv_first(c->head.path, 200))),
            NULL);
    } else if (m->request_fn) {
        c->request_fn = m->request_fn;
        c->request_user = m->user;
    } else {
        m->handler(m->user, c);
    }
}

bool grpc_server_accept(void *server, struct http_stream *s, struct http_head *head, bool end,
                        const struct serve_peer *peer)
{
    struct grpc_server *srv = server;
    if (head->protocol != HTTP_2 || !http_head_is_grpc(head))
        return false;
    if (!sv_eq(head->method, SV("POST"))) {
        refuse_http(s, 405);
        return true;
    }
    struct grpc_call *c = grpc_call_new(peer->loop, srv->max_message_bytes);
    c->srv = srv;
    list_push(&srv->calls, &c->link);
    srv->n_calls++;
    take_stream(c, s, head, peer);
    c->recv_end = end;
    sv path;
    sv_cut(c->head.path, '?', &path, &(sv){0});
    begin(srv, c, map_get(srv->methods, path));
    if (end && !c->done && !c->dead)
        grpc_call_pump(c);
    return true;
}

void grpc_server_unary(struct grpc_call *c)
{
    if (!c->request_seen) {
        grpc_finish(c, GRPC_INTERNAL, SV("no request message"), NULL);
        return;
    }
    c->request_fn(c->request_user, c,
                  c->request.len ? buf_pullup(&c->request, c->request.len) : SV(""));
}

const struct http_head *grpc_call_head(const struct grpc_call *c)
{
    return &c->head;
}

const struct serve_peer *grpc_call_peer(const struct grpc_call *c)
{
    return c->peer;
}

/* ---- answers ---- */

static void answer_head(struct grpc_call *c, struct http_head *m)
{
    http_head_init(m, &c->arena);
    m->protocol = HTTP_2;
    m->status = 200;
    http_headers_add_id(&m->h, HTTP_H_CONTENT_TYPE, SV("application/grpc"));
}

int grpc_send_headers(struct grpc_call *c, const struct http_headers *metadata)
{
    struct http_head m;
    if (!c->server || c->head_sent)
        return E_INVALID;
    if (!c->s || c->done || c->dead)
        return E_CLOSED;
    c->head_sent = true;
    answer_head(c, &m);
    http_headers_add(&m.h, SV("grpc-accept-encoding"), SV("identity"));
    http_headers_add_all(&m.h, metadata);
    return c->s->ops->send_head(c->s, &m, false);
}

void grpc_finish(struct grpc_call *c, enum grpc_code code, sv message,
                 const struct http_headers *trailers)
{
    if (!c->server || c->done || c->dead)
        return;
    struct http_head m;
    char number[8];
    int n = 0;
    for (unsigned v = (unsigned)code, d = v >= 10 ? 10 : 1; d; d /= 10)
        number[n++] = (char)('0' + v / d % 10);
    if (c->head_sent)
        http_head_init(&m, &c->arena);
    else
        answer_head(c, &m);
    http_headers_add_id(&m.h, HTTP_H_GRPC_STATUS, sv_make(number, (size_t)n));
    if (message.n)
        http_headers_add_id(&m.h, HTTP_H_GRPC_MESSAGE, grpc_message_encode(message, &c->arena));
    http_headers_add_all(&m.h, trailers);
    struct http_stream *s = c->s;
    bool head_sent = c->head_sent;
    grpc_call_end(c, code, message, true);
    if (!s)
        return;
    if (head_sent)
        s->ops->send_trailers(s, &m.h);
    else
        s->ops->send_head(s, &m, true);
}

void grpc_respond(struct grpc_call *c, sv packed)
{
    grpc_send(c, packed);
    grpc_finish(c, GRPC_OK, SV(""), NULL);
}
