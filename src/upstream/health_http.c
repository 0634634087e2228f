/* Probes over HTTP/1, HTTP/2 and gRPC (grpc.health.v1.Health/Check). */
#include "api/grpc.pb.h"
#include "base/mem.h"
#include "h1/h1.h"
#include "h2/h2.h"
#include "http/codec.h"
#include "http/grpc_timeout.h"
#include "upstream/health_check.h"

#define GRPC_MAX 1024 /* bytes of an answer that are looked at */

/* A connection of a probe. */
struct link {
    struct health_probe *p; /* NULL: given up */
    struct conn *conn;
    struct http_codec *codec; /* NULL until connected */
    struct http_stream *stream;
    struct buf in;
    struct deferred flush, gone;
    bool flush_due, closed;
};

struct health_probe {
    struct health_session *s;
    const struct health_target *t;
    struct link *link;
    struct deferred gone;
    bool busy;
    /* Of the check under way. */
    bool done, lost;
    uint16_t status;
    bool degraded, leaving;
    int grpc_status; /* -1: none came */
    size_t body_n;
    uint8_t body[GRPC_MAX];
};

/* ---- the connection ---- */

static void link_gone(struct deferred *d)
{
    struct link *l = container_of(d, struct link, gone);
    if (l->codec)
        l->codec->ops->free(l->codec);
    buf_reset(&l->in);
    free(l);
}

static void link_close(struct link *l)
{
    if (l->closed)
        return;
    l->closed = true;
    if (l->p)
        l->p->link = NULL;
    l->p = NULL;
    if (l->codec)
        (l->codec->ops->fail)(l->codec, HTTP_RESET_LOCAL, "closed");
    struct loop *loop = l->conn->loop;
    conn_close(l->conn);
    loop_defer(loop, &l->gone, link_gone);
}

static void on_flush(struct deferred *d);

static void on_output(void *user)
{
    struct link *l = user;
    if (l->flush_due || l->closed)
        return;
    l->flush_due = true;
    loop_defer(l->conn->loop, &l->flush, on_flush);
}

static const struct http_codec_events codec_events = {.on_output = on_output};

/* ---- judging ---- */

static bool in_ranges(const struct status_range *r, uint32_t n, uint16_t status)
{
    for (uint32_t i = 0; i < n; i++)
        if (status >= r[i].from && status < r[i].to)
            return true;
    return false;
}

static enum health_outcome judge_http(const struct health_probe *p)
{
    const struct health_config *c = p->t->cfg;
    bool expected =
        c->n_expected ? in_ranges(c->expected, c->n_expected, p->status) : p->status == 200;
    if (expected)
        return p->degraded ? HEALTH_DEGRADED : HEALTH_OK;
    if (in_ranges(c->retriable, c->n_retriable, p->status))
        return HEALTH_RETRIABLE;
    return p->leaving ? HEALTH_LEAVING : HEALTH_FAILED;
}

static enum health_outcome judge_grpc(const struct health_probe *p)
{
    struct arena a;
    void *m;
    int32_t serving = grpc_HealthCheckResponse_UNKNOWN;
    struct pb_opts fields = {.allow_unknown = true};
    if (p->status != 200 || p->grpc_status != 0 || p->body_n < 5 || p->body[0] != 0)
        return HEALTH_FAILED;
    uint32_t n = (uint32_t)p->body[1] << 24 | (uint32_t)p->body[2] << 16 |
                 (uint32_t)p->body[3] << 8 | p->body[4];
    if (n > p->body_n - 5)
        return HEALTH_FAILED;
    arena_init(&a);
    if (pb_decode(&grpc_HealthCheckResponse_pb, sv_make((const char *)p->body + 5, n), &a, &fields,
                  &m, NULL) == 0)
        serving = ((struct grpc_HealthCheckResponse *)m)->status;
    arena_free(&a);
    return serving == grpc_HealthCheckResponse_SERVING ? HEALTH_OK : HEALTH_FAILED;
}

static void report(struct health_probe *p, enum health_outcome o)
{
    struct link *l = p->link;
    p->busy = false;
    if (l && (!p->t->cfg->reuse_connection || !l->codec || !l->codec->ops->can_open(l->codec)))
        link_close(l);
    health_session_result(p->s, o);
}

/* After anything that may have finished the check. */
static void look(struct link *l)
{
    struct health_probe *p = l->p;
    bool dead = l->codec && l->codec->state >= HTTP_CODEC_FLUSH && l->codec->out.len == 0;
    if (!p) {
        if (dead)
            link_close(l);
        return;
    }
    if (p->busy && p->done && !l->stream) {
        report(p, p->t->cfg->kind == HEALTH_GRPC ? judge_grpc(p) : judge_http(p));
    } else if (p->lost || dead) {
        bool was_busy = p->busy;
        link_close(l);
        if (was_busy)
            report(p, HEALTH_NETWORK);
    }
}

/* ---- stream ---- */

static void on_head(void *user, struct http_head *head, bool end)
{
    struct health_probe *p = user;
    sv v = http_headers_get(&head->h, HTTP_H_GRPC_STATUS);
    uint64_t n;
    p->status = head->status;
    p->degraded = http_headers_get_sv(&head->h, SV("x-envoy-degraded")).p != NULL;
    p->leaving = http_headers_get_sv(&head->h, SV("x-envoy-immediate-health-check-fail")).p != NULL;
    if (v.p && sv_to_u64(v, &n) == 0 && n < 1000)
        p->grpc_status = (int)n;
    p->done = p->done || end;
}

static void on_data(void *user, struct buf *data, bool end)
{
    struct health_probe *p = user;
    if (p->body_n < GRPC_MAX)
        p->body_n += buf_peek(data, 0, p->body + p->body_n, GRPC_MAX - p->body_n);
    p->done = p->done || end;
}

static void on_trailers(void *user, struct http_headers *t)
{
    struct health_probe *p = user;
    sv v = http_headers_get(t, HTTP_H_GRPC_STATUS);
    uint64_t n;
    if (v.p && sv_to_u64(v, &n) == 0 && n < 1000)
        p->grpc_status = (int)n;
    p->done = true;
}

static void on_reset(void *user, enum http_reset why, const char *details)
{
    struct health_probe *p = user;
    if (!p->done)
        p->lost = true;
}

static void on_close(void *user)
{
    struct health_probe *p = user;
    if (p->link)
        p->link->stream = NULL;
}

static const struct http_stream_events stream_events = {.on_head = on_head,
                                                        .on_data = on_data,
                                                        .on_trailers = on_trailers,
                                                        .on_reset = on_reset,
                                                        .on_close = on_close};
static const struct http_stream_events nobody;

/* ---- asking ---- */

static void add_headers(const struct health_config *c, struct http_head *h)
{
    for (uint32_t i = 0; i < c->n_headers; i++) {
        const struct envoy_HeaderValueOption *o = c->headers[i];
        char *lower = arena_cstr(h->h.arena, o->header->key);
        for (char *p = lower; *p; p++)
            if (*p >= 'A' && *p <= 'Z')
                *p = (char)(*p + 32);
        sv name = sv_make(lower, o->header->key.n);
        bool there = http_headers_get_sv(&h->h, name).p != NULL;
        switch (o->append_action) {
        case envoy_HeaderValueOption_APPEND_IF_EXISTS_OR_ADD:
            http_headers_add(&h->h, name, o->header->value);
            break;
        case envoy_HeaderValueOption_ADD_IF_ABSENT:
            if (!there)
                http_headers_add(&h->h, name, o->header->value);
            break;
        case envoy_HeaderValueOption_OVERWRITE_IF_EXISTS:
            if (there)
                http_headers_set(&h->h, name, o->header->value);
            break;
        default:
            http_headers_set(&h->h, name, o->header->value);
            break;
        }
    }
    for (uint32_t i = 0; i < c->n_remove; i++)
        http_headers_remove(&h->h, c->remove[i]);
}

static void grpc_request(const struct health_config *c, struct arena *a, struct buf *out)
{
    struct grpc_HealthCheckRequest m = {.service = c->grpc_service};
    sv packed = pb_encode_arena(&grpc_HealthCheckRequest_pb, &m, a);
    const uint8_t prefix[5] = {0, (uint8_t)(packed.n >> 24), (uint8_t)(packed.n >> 16),
                               (uint8_t)(packed.n >> 8), (uint8_t)packed.n};
    buf_append(out, prefix, sizeof prefix);
    buf_append_sv(out, packed);
}

static void ask(struct link *l)
{
    struct health_probe *p = l->p;
    const struct health_config *c = p->t->cfg;
    bool grpc = c->kind == HEALTH_GRPC;
    struct http_head h;
    struct arena a;
    struct buf body;
    l->stream = l->codec->ops->open(l->codec, &stream_events, p);
    if (!l->stream) {
        p->lost = true;
        on_output(l);
        return;
    }
    arena_init(&a);
    buf_init(&body);
    http_head_init(&h, &a);
    h.method = c->method;
    h.scheme = l->conn->tls ? SV("https") : SV("http");
    h.authority = c->host.n ? c->host : p->t->host;
    h.path = c->path;
    http_headers_add_id(&h.h, HTTP_H_USER_AGENT, SV("Envoy/HC"));
    if (grpc) {
        http_headers_add_id(&h.h, HTTP_H_CONTENT_TYPE, SV("application/grpc"));
        http_headers_add_id(&h.h, HTTP_H_TE, SV("trailers"));
        http_headers_add_id(&h.h, HTTP_H_GRPC_TIMEOUT, http_grpc_timeout_text(&a, c->timeout_ms));
        grpc_request(c, &a, &body);
    }
    add_headers(c, &h);
    int rc = l->stream->ops->send_head(l->stream, &h, !grpc);
    if (rc == 0 && grpc && l->stream)
        rc = l->stream->ops->send_data(l->stream, &body, true);
    buf_reset(&body);
    arena_free(&a);
    p->lost = p->lost || rc != 0;
    on_output(l);
}

/* ---- bytes ---- */

static void read_in(struct link *l)
{
    while (l->codec && !l->closed) {
        ssize_t n = conn_read(l->conn, &l->in, 16384);
        if (n == E_AGAIN)
            break;
        if (n < 0) {
            if (n == E_EOF)
                l->codec->ops->feed_eof(l->codec);
            if (l->p && !(l->p->busy && l->p->done))
                l->p->lost = true;
            break;
        }
        if (l->codec->ops->feed(l->codec, &l->in) != 0)
            break;
    }
    on_output(l);
}

static void on_flush(struct deferred *d)
{
    struct link *l = container_of(d, struct link, flush);
    l->flush_due = false;
    if (l->closed)
        return;
    if (l->codec) {
        ssize_t n = l->codec->out.len ? conn_write(l->conn, &l->codec->out) : 0;
        if (n < 0 && l->p)
            l->p->lost = true;
        else if (n >= 0)
            l->codec->ops->wrote(l->codec, (size_t)n);
    }
    if (!l->closed)
        look(l);
}

static void connected(struct link *l)
{
    const struct cluster_http_config *h = &l->p->t->cluster->http;
    l->codec = l->p->t->cfg->http2 ? h2_client_new(&h->h2, &codec_events, l)
                                   : h1_client_new(&h->h1, &codec_events, l);
    if (l->p->busy)
        ask(l);
}

static void on_event(struct conn *c, unsigned events, void *user)
{
    struct link *l = user;
    if (events & CONN_EV_ERROR) {
        if (l->p)
            l->p->lost = true;
        on_output(l);
        return;
    }
    if (events & CONN_EV_CONNECTED && l->p)
        connected(l);
    if (events & (CONN_EV_READ | CONN_EV_CONNECTED) && l->codec)
        read_in(l);
    if (events & CONN_EV_WRITE)
        on_output(l);
}

/* ---- the probe ---- */

static struct health_probe *probe_open(struct health_session *s)
{
    struct health_probe *p = mem_new(struct health_probe);
    p->s = s;
    p->t = health_session_target(s);
    return p;
}

static void probe_start(struct health_probe *p)
{
    static const sv alpn_h1[] = {SV_INIT("http/1.1")}, alpn_h2[] = {SV_INIT("h2")};
    p->busy = true;
    p->done = p->lost = p->degraded = p->leaving = false;
    p->status = 0;
    p->grpc_status = -1;
    p->body_n = 0;
    if (p->link && p->link->codec && !p->link->conn->peer_closed &&
        p->link->codec->ops->can_open(p->link->codec)) {
        ask(p->link);
        return;
    }
    if (p->link)
        link_close(p->link);
    struct link *l = mem_new(struct link);
    buf_init(&l->in);
    l->conn = health_session_connect(p->s, p->t->cfg->http2 ? alpn_h2 : alpn_h1, 1, on_event, l);
    if (!l->conn) {
        free(l);
        report(p, HEALTH_NETWORK);
        return;
    }
    l->p = p;
    p->link = l;
}

static void forget_stream(struct health_probe *p)
{
    if (p->link && p->link->stream)
        http_stream_set_user(p->link->stream, &nobody, NULL);
}

static void probe_stop(struct health_probe *p)
{
    p->busy = false;
    forget_stream(p);
    if (p->link)
        link_close(p->link);
}

static void probe_gone(struct deferred *d)
{
    free(container_of(d, struct health_probe, gone));
}

static void probe_free(struct health_probe *p)
{
    probe_stop(p);
    loop_defer(p->t->loop, &p->gone, probe_gone);
}

const struct health_probe_ops health_probe_http = {probe_open, probe_start, probe_stop, probe_free};
