#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "upstream/testing_rig.h"
#include "api/envoy.pb.h"
#include "base/mem.h"
#include "h1/h1.h"
#include "h2/h2.h"
#include "net/resolver.h"
#include "tls/tls_conn.h"
#include "tls/tls_secret.h"

/* ---- backends ---- */

struct bconn {
    struct list link;
    struct backend *b;
    struct conn *conn;
    struct http_codec *codec;
    struct buf in;
    struct deferred flush, gone;
    struct list streams;
    bool flush_due, closed;
};

struct bstream {
    struct list link;
    struct bconn *c;
    struct http_stream *s;
    bool head, ended, answered;
};

static void bconn_gone(struct deferred *d)
{
    struct bconn *c = container_of(d, struct bconn, gone);
    c->codec->ops->free(c->codec);
    buf_reset(&c->in);
    free(c);
}

static void bconn_close(struct bconn *c, bool reset)
{
    if (c->closed)
        return;
    c->closed = true;
    c->b->open_conns--;
    list_del(&c->link);
    (c->codec->ops->fail)(c->codec, HTTP_RESET_CONN_TERMINATION, "closed");
    if (reset)
        conn_abort(c->conn);
    else
        conn_close(c->conn);
    loop_defer(c->b->loop, &c->gone, bconn_gone);
}

static void bconn_write(struct bconn *c)
{
    if (c->closed)
        return;
    ssize_t n = c->codec->out.len ? conn_write(c->conn, &c->codec->out) : 0;
    if (n < 0) {
        bconn_close(c, false);
        return;
    }
    c->codec->ops->wrote(c->codec, (size_t)n);
    if (!c->closed && c->codec->out.len == 0 && c->codec->state >= HTTP_CODEC_FLUSH)
        bconn_close(c, false);
}

static void bconn_flush(struct deferred *d)
{
    struct bconn *c = container_of(d, struct bconn, flush);
    c->flush_due = false;
    bconn_write(c);
    if (!c->closed && c->in.len && c->codec->want_read)
        (void)c->codec->ops->feed(c->codec, &c->in);
}

static void bconn_output(void *user)
{
    struct bconn *c = user;
    if (c->flush_due || c->closed)
        return;
    c->flush_due = true;
    loop_defer(c->b->loop, &c->flush, bconn_flush);
}

static void bconn_event(struct conn *conn, unsigned ev, void *user)
{
    struct bconn *c = user;
    if (ev & CONN_EV_ERROR) {
        bconn_close(c, false);
        return;
    }
    while (ev & CONN_EV_READ && !c->closed && !c->b->mute && c->codec->want_read) {
        ssize_t n = conn_read(conn, &c->in, 65536);
        if (n == E_AGAIN)
            break;
        if (n < 0) {
            if (n == E_EOF)
                c->codec->ops->feed_eof(c->codec);
            bconn_close(c, false);
            return;
        }
        if (c->codec->ops->feed(c->codec, &c->in) != 0)
            break;
    }
    bconn_output(c);
}

static void answer(struct bstream *st, unsigned status, bool close, bool end)
{
    struct http_head h;
    struct arena a;
    struct buf body;
    arena_init(&a);
    buf_init(&body);
    http_head_init(&h, &a);
    h.status = (uint16_t)status;
    if (end)
        http_headers_add_id(&h.h, HTTP_H_CONTENT_LENGTH, SV("2"));
    if (close)
        http_headers_add_id(&h.h, HTTP_H_CONNECTION, SV("close"));
    st->answered = true;
    assert_int_equal(st->s->ops->send_head(st->s, &h, false), 0);
    if (end) {
        buf_append(&body, "ok", 2);
        assert_int_equal(st->s->ops->send_data(st->s, &body, true), 0);
    }
    arena_free(&a);
}

static void answer_grpc(struct bstream *st)
{
    const char frame[] = {0, 0, 0, 0, 2, 8, st->c->b->sick ? 2 : 1};
    struct http_head h;
    struct http_headers t;
    struct arena a;
    struct buf body;
    arena_init(&a);
    buf_init(&body);
    http_head_init(&h, &a);
    http_headers_init(&t, &a);
    h.status = 200;
    http_headers_add_id(&h.h, HTTP_H_CONTENT_TYPE, SV("application/grpc"));
    http_headers_add_id(&t, HTTP_H_GRPC_STATUS, SV("0"));
    buf_append(&body, frame, sizeof frame);
    st->answered = true;
    assert_int_equal(st->s->ops->send_head(st->s, &h, false), 0);
    assert_int_equal(st->s->ops->send_data(st->s, &body, false), 0);
    assert_int_equal(st->s->ops->send_trailers(st->s, &t), 0);
    arena_free(&a);
}

static void bstream_act(struct bstream *st)
{
    switch (st->c->b->app) {
    case BACKEND_ANSWER:
        answer(st, 200, false, true);
        break;
    case BACKEND_CLOSE:
        answer(st, 200, true, true);
        break;
    case BACKEND_FAIL:
        answer(st, 503, false, true);
        break;
    case BACKEND_GRPC:
        answer_grpc(st);
        break;
    case BACKEND_RESET:
        bconn_close(st->c, true);
        break;
    case BACKEND_HOLD:
    case BACKEND_STREAM:
        break;
    }
}

static void bs_head(void *user, struct http_head *head, bool end)
{
    struct bstream *st = user;
    st->head = true;
    st->c->b->n_requests++;
    if (st->c->b->app == BACKEND_STREAM)
        answer(st, 200, false, false);
    if (end) {
        st->ended = true;
        if (st->answered) {
            struct buf none;
            buf_init(&none);
            (void)st->s->ops->send_data(st->s, &none, true);
        } else {
            bstream_act(st);
        }
    }
}

static void bs_data(void *user, struct buf *data, bool end)
{
    struct bstream *st = user;
    st->ended = end;
    if (st->c->b->app == BACKEND_STREAM)
        (void)st->s->ops->send_data(st->s, data, end);
    else if (end)
        bstream_act(st);
}

static void bs_close(void *user)
{
    struct bstream *st = user;
    list_del(&st->link);
    free(st);
}

static const struct http_stream_events bs_events = {
    .on_head = bs_head, .on_data = bs_data, .on_close = bs_close};

static bool bconn_stream(void *user, struct http_stream *s)
{
    struct bconn *c = user;
    struct bstream *st = mem_new(struct bstream);
    st->c = c;
    st->s = s;
    list_push(&c->streams, &st->link);
    http_stream_set_user(s, &bs_events, st);
    return true;
}

static const struct http_codec_events bconn_events = {.on_stream = bconn_stream,
                                                      .on_output = bconn_output};

static void on_accept(void *user, int fd, const struct addr *local, const struct addr *remote)
{
    struct backend *b = user;
    struct http_limits l;
    struct bconn *c = mem_new(struct bconn);
    http_limits_default(&l);
    b->n_conns++;
    b->open_conns++;
    c->b = b;
    list_init(&c->streams);
    list_push(&b->conns, &c->link);
    c->codec = b->http2 ? h2_server_new(&l, &bconn_events, c) : h1_server_new(&l, &bconn_events, c);
    c->conn = conn_from_fd(b->loop, fd, local, remote, bconn_event, c);
    if (b->tls)
        c->conn = tls_conn_server(c->conn, b->tls, bconn_event, c);
}

struct backend *backend_new(struct loop *l, const char *ip, uint16_t port)
{
    struct backend *b = mem_new(struct backend);
    struct listen_opts o = {0};
    struct error err = {0};
    b->loop = l;
    list_init(&b->conns);
    assert_int_equal(addr_ip(&b->addr, sv_of(ip), port), 0);
    b->listener = net_listener_new(b->loop, &b->addr, &o, on_accept, b, &err);
    if (!b->listener)
        fail_msg("%s", err.msg);
    b->addr = *net_listener_addr(b->listener);
    net_listener_start(b->listener);
    return b;
}

struct backend *rig_backend(struct rig *r, const char *ip, uint16_t port)
{
    struct backend *b = backend_new(loop_new(sim_host(r->sim, ip)), ip, port);
    r->backends[r->n_backends++] = b;
    return b;
}

void rig_hosts(struct rig *r, struct backend **b, int n)
{
    for (int i = 0; i < n; i++) {
        char ip[32];
        snprintf(ip, sizeof ip, "10.0.1.%d", i + 1);
        b[i] = rig_backend(r, ip, 80);
    }
}

void rig_put_hosts(struct rig *r, const char *fields, int n)
{
    char yaml[4096];
    size_t at = (size_t)snprintf(yaml, sizeof yaml,
                                 "{name: c, common_lb_config: {healthy_panic_threshold: {value: "
                                 "0}}, %s load_assignment: {cluster_name: c, "
                                 "endpoints: [{lb_endpoints: [",
                                 fields);
    for (int i = 0; i < n; i++)
        at += (size_t)snprintf(yaml + at, sizeof yaml - at,
                               "{endpoint: {address: {socket_address: {address: 10.0.1.%d, "
                               "port_value: 80}}}},",
                               i + 1);
    snprintf(yaml + at, sizeof yaml - at, "]}]}}");
    rig_put_ok(r, yaml);
}

void backend_stop_listening(struct backend *b)
{
    net_listener_free(b->listener);
    b->listener = NULL;
}

void backend_answer_all(struct backend *b)
{
    list_each (ci, &b->conns) {
        struct bconn *c = container_of(ci, struct bconn, link);
        list_each_safe (si, &c->streams) {
            struct bstream *st = container_of(si, struct bstream, link);
            if (st->ended && !st->answered)
                answer(st, 200, false, true);
        }
    }
}

void backend_close_all(struct backend *b, bool reset)
{
    list_each_safe (it, &b->conns) {
        bconn_close(container_of(it, struct bconn, link), reset);
    }
}

void backend_drain_all(struct backend *b)
{
    list_each_safe (it, &b->conns) {
        struct bconn *c = container_of(it, struct bconn, link);
        c->codec->ops->drain(c->codec);
        bconn_output(c);
    }
}

void backend_free(struct backend *b)
{
    backend_close_all(b, false);
    net_listener_free(b->listener);
    tls_ctx_unref(b->tls);
    free(b);
}

/* ---- the rig ---- */

static void note(struct rig *r, char sign, sv name)
{
    size_t n = strlen(r->wanted);
    snprintf(r->wanted + n, sizeof r->wanted - n, " %c%.*s", sign, SV_ARG(name));
}

static void want(void *self, sv name, sv config)
{
    note(self, '+', name);
}

static void unwant(void *self, sv name)
{
    note(self, '-', name);
}

void rig_init(struct rig *r, uint64_t seed)
{
    static const char *const names[] = {"one.test=10.0.1.1", "two.test=10.0.1.2,10.0.1.1"};
    memset(r, 0, sizeof *r);
    r->sim = sim_new(seed);
    r->main = loop_new(sim_host(r->sim, "10.0.0.1"));
    r->loop = loop_new(sim_host(r->sim, "10.0.0.1"));
    r->stats = stats_new();
    r->secrets = tls_secret_store_new(NULL);
    r->resolver = resolver_new_static(r->main, names, 2);
    r->eds = (struct eds_source){.want = want, .unwant = unwant, .self = r};
    r->opts = (struct cluster_manager_opts){.main = r->main,
                                            .stats = r->stats,
                                            .eds = &r->eds,
                                            .secrets = r->secrets,
                                            .resolver = r->resolver};
}

void rig_start(struct rig *r)
{
    r->cm = cluster_manager_new(&r->opts);
    r->worker = upstream_worker_new(r->cm, r->loop);
}

void rig_fini(struct rig *r)
{
    upstream_worker_free(r->worker);
    loop_free(r->loop);
    cluster_manager_free(r->cm);
    tls_secret_store_free(r->secrets);
    resolver_free(r->resolver);
    for (unsigned i = 0; i < r->n_backends; i++) {
        struct loop *l = r->backends[i]->loop;
        backend_free(r->backends[i]);
        loop_free(l);
    }
    loop_free(r->main);
    stats_free(r->stats);
    sim_free(r->sim);
}

void rig_run_ms(struct rig *r, uint64_t ms)
{
    sim_run_for(r->sim, ms * SIM_MS);
}

static int put_text(struct rig *r, const struct pb_message *m, const char *yaml,
                    int (*put)(struct cluster_manager *cm, sv packed, struct error *err))
{
    struct arena a;
    void *msg;
    arena_init(&a);
    r->err = (struct error){0};
    int rc = pb_from_text(m, sv_of(yaml), "test", &a, NULL, &msg, &r->err);
    if (rc)
        fail_msg("%s", r->err.msg);
    rc = put(r->cm, pb_encode_arena(m, msg, &a), &r->err);
    arena_free(&a);
    return rc;
}

static int manager_put(struct cluster_manager *cm, sv packed, struct error *err)
{
    return cluster_manager_put(cm, packed, err);
}

static int manager_endpoints(struct cluster_manager *cm, sv packed, struct error *err)
{
    return cluster_manager_endpoints(cm, packed, err);
}

int rig_put(struct rig *r, const char *yaml)
{
    return put_text(r, &envoy_Cluster_pb, yaml, manager_put);
}

int rig_endpoints(struct rig *r, const char *yaml)
{
    return put_text(r, &envoy_ClusterLoadAssignment_pb, yaml, manager_endpoints);
}

void rig_put_ok(struct rig *r, const char *yaml)
{
    if (rig_put(r, yaml) != 0)
        fail_msg("%s", r->err.msg);
    rig_run_ms(r, 1);
}

void rig_endpoints_ok(struct rig *r, const char *yaml)
{
    if (rig_endpoints(r, yaml) != 0)
        fail_msg("%s", r->err.msg);
    rig_run_ms(r, 1);
}

uint64_t rig_stat(struct rig *r, const char *name)
{
    uint64_t v = 0;
    return stats_find(r->stats, sv_of(name), &v) ? v : 0;
}

/* ---- requests ---- */

static void rq_head(void *user, struct http_head *head, bool end)
{
    struct req *q = user;
    q->status = head->status;
    q->ended = end;
}

static void rq_data(void *user, struct buf *data, bool end)
{
    struct req *q = user;
    q->body += data->len;
    q->ended = end;
}

static void rq_reset(void *user, enum http_reset why, const char *details)
{
    struct req *q = user;
    q->reset = true;
    q->reset_why = why;
}

static void rq_close(void *user)
{
    struct req *q = user;
    q->closed = true;
    q->stream = NULL;
    if (q->then)
        q->then(q);
}

static const struct http_stream_events rq_events = {
    .on_head = rq_head, .on_data = rq_data, .on_reset = rq_reset, .on_close = rq_close};

static void see_host(struct req *q, struct upstream_host *host)
{
    const struct upstream_host_info *i = upstream_host_info(host);
    q->host = host;
    snprintf(q->host_text, sizeof q->host_text, "%.*s", SV_ARG(i->addr_text));
}

static void rq_ready(void *user, struct http_stream *s, struct upstream_host *host,
                     const struct conn *conn)
{
    struct req *q = user;
    struct arena a;
    struct http_head h;
    assert_false(q->ready || q->failed);
    q->ready = true;
    q->open = NULL;
    q->stream = s;
    q->conn_id = conn->id;
    see_host(q, host);
    http_stream_set_user(s, &rq_events, q);
    if (q->on_ready) {
        q->on_ready(q);
        return;
    }
    arena_init(&a);
    http_head_init(&h, &a);
    h.method = q->keep_open ? SV("POST") : SV("GET");
    h.scheme = SV("http");
    h.authority = SV("test");
    h.path = SV("/");
    assert_int_equal(s->ops->send_head(s, &h, !q->keep_open), 0);
    arena_free(&a);
}

static void rq_fail(void *user, enum upstream_fail why, struct upstream_host *host, sv details)
{
    struct req *q = user;
    assert_false(q->ready || q->failed);
    q->failed = true;
    q->open = NULL;
    q->why = why;
    snprintf(q->details, sizeof q->details, "%.*s", SV_ARG(details));
    if (host)
        see_host(q, host);
    if (q->then)
        q->then(q);
}

static const struct upstream_http_cb rq_cb = {rq_ready, rq_fail};

void req_go(struct rig *r, struct req *q, const char *cluster)
{
    q->rig = r;
    q->cluster = upstream_find(r->worker, sv_of(cluster));
    assert_non_null(q->cluster);
    struct upstream_open *o = upstream_http_open(q->cluster, &q->ctx, &rq_cb, q);
    if (o)
        q->open = o;
}

void req_start(struct rig *r, struct req *q, const char *cluster)
{
    memset(q, 0, sizeof *q);
    req_go(r, q, cluster);
}

void req_end(struct req *q)
{
    q->then = NULL;
    if (q->open)
        upstream_cancel(q->open);
    if (q->stream)
        q->stream->ops->reset(q->stream, HTTP_RESET_LOCAL);
    rig_run_ms(q->rig, 1);
    assert_null(q->stream);
    if (q->cluster)
        upstream_cluster_unref(q->cluster);
    q->cluster = NULL;
    q->open = NULL;
}

bool req_over(const struct req *q)
{
    return q->failed || q->closed;
}

static bool over(void *arg)
{
    return req_over(arg);
}

void req_run(struct rig *r, struct req *q, const char *cluster)
{
    req_start(r, q, cluster);
    assert_true(req_over(q) || sim_run_while(r->sim, over, q, 200 * SIM_SECOND));
    rig_run_ms(r, 2);
}
