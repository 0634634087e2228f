#include "stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"

/* ---- backends ---- */

static void free_sc(struct deferred *d)
{
    struct script_conn *sc = container_of(d, struct script_conn, freeing);
    free(sc->later_text);
    buf_reset(&sc->in);
    buf_reset(&sc->out);
    free(sc);
}

static void end_sc(struct script_conn *sc, bool reset)
{
    if (sc->closed)
        return;
    sc->closed = true;
    sc->b->open--;
    timer_cancel(&sc->later);
    list_del(&sc->link);
    if (reset)
        conn_abort(sc->c);
    else
        conn_close(sc->c);
    loop_defer(sc->c->loop, &sc->freeing, free_sc);
}

static void flush_sc(struct script_conn *sc)
{
    if (sc->out.len && conn_write(sc->c, &sc->out) < 0) {
        end_sc(sc, true);
        return;
    }
    if (!sc->out.len && sc->close_after)
        end_sc(sc, false);
}

/* A head, and as much body as content-length says. */
static size_t whole_request(const char *text, size_t n)
{
    const char *end = n ? strstr(text, "\r\n\r\n") : NULL;
    if (!end)
        return 0;
    size_t head = (size_t)(end - text) + 4, body = 0;
    const char *cl = strstr(text, "content-length: ");
    if (cl && cl < end)
        body = (size_t)atol(cl + 16);
    if (strstr(text, "transfer-encoding: chunked") && strstr(text, "transfer-encoding") < end) {
        const char *last = strstr(end, "\r\n0\r\n");
        last = last ? strstr(last + 3, "\r\n\r\n") : NULL; /* after the trailers */
        return last ? (size_t)(last - text) + 4 : 0;
    }
    return n >= head + body ? head + body : 0;
}

static void take_requests(struct script_conn *sc)
{
    while (!sc->closed) {
        size_t n, len;
        char *text = buf_to_cstr(&sc->in, &n);
        len = whole_request(text, n);
        if (!len) {
            free(text);
            return;
        }
        text[len] = 0;
        snprintf(sc->b->last, sizeof sc->b->last, "%s", text);
        sc->b->requests++;
        sc->requests++;
        buf_drain(&sc->in, len);
        sc->b->fn(sc, sv_of(text));
        free(text);
    }
}

static void script_event(struct conn *c, unsigned events, void *user)
{
    struct script_conn *sc = user;
    if (events & CONN_EV_ERROR) {
        end_sc(sc, true);
        return;
    }
    while (!sc->closed && c->readable) {
        ssize_t n = conn_read(c, &sc->in, 65536);
        if (n == E_AGAIN)
            break;
        if (n <= 0) {
            end_sc(sc, n != E_EOF);
            return;
        }
        take_requests(sc);
    }
    if (!sc->closed)
        flush_sc(sc);
}

static void on_later(struct timer *t)
{
    struct script_conn *sc = container_of(t, struct script_conn, later);
    buf_append_sv(&sc->out, sv_of(sc->later_text));
    free(sc->later_text);
    sc->later_text = NULL;
    flush_sc(sc);
}

static void script_accept(void *user, int fd, const struct addr *local, const struct addr *remote)
{
    struct script *b = user;
    struct script_conn *sc = mem_new(struct script_conn);
    sc->b = b;
    b->connections++;
    b->open++;
    buf_init(&sc->in);
    buf_init(&sc->out);
    timer_init(&sc->later, b->s->backend_loop, on_later);
    list_push(&b->conns, &sc->link);
    sc->c = conn_from_fd(b->s->backend_loop, fd, local, remote, script_event, sc);
}

void script_send(struct script_conn *sc, const char *text)
{
    if (sc->closed)
        return;
    buf_append_sv(&sc->out, sv_of(text));
    flush_sc(sc);
}

void script_send_later(struct script_conn *sc, const char *text, uint64_t ms)
{
    free(sc->later_text);
    sc->later_text = sv_dup(sv_of(text));
    timer_set(&sc->later, ms);
}

void script_ok(struct script_conn *sc, sv text)
{
    char head[128];
    snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\ncontent-length: %zu\r\nx-port: %u\r\n\r\n",
             text.n, sc->b->port);
    buf_append_sv(&sc->out, sv_of(head));
    buf_append_sv(&sc->out, text);
    flush_sc(sc);
}

void script_503(struct script_conn *sc, sv text)
{
    script_send(sc, "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno");
}

void script_reset(struct script_conn *sc, sv text)
{
    end_sc(sc, true);
}

void script_close(struct script_conn *sc, sv text)
{
    end_sc(sc, false);
}

void script_hang(struct script_conn *sc, sv text)
{
}

/* ---- the stage ---- */

void stage_init(struct stage *s, uint64_t seed, const script_fn fns[4])
{
    struct error err = {0};
    memset(s, 0, sizeof *s);
    log_set_level(NULL, LOG_ERROR);
    sv_hash_set_seed(seed);
    s->w = world_new(seed);
    s->backend_loop = loop_new(sim_host(s->w->sim, SIM_BACKEND));
    s->client_loop = loop_new(sim_host(s->w->sim, SIM_CLIENT));
    for (unsigned i = 0; i < 4; i++) {
        struct script *b = &s->b[i];
        b->s = s;
        b->port = (uint16_t)(9001 + i);
        list_init(&b->conns);
        b->fn = fns ? fns[i] : script_ok;
        if (!b->fn)
            continue;
        struct addr a;
        assert_int_equal(addr_ip(&a, SV(SIM_BACKEND), b->port), 0);
        b->l = net_listener_new(s->backend_loop, &a, NULL, script_accept, b, &err);
        assert_non_null(b->l);
        net_listener_start(b->l);
    }
}

const char stage_clusters[] =
    "{name: b1, connect_timeout: 1s, load_assignment: {cluster_name: b1, endpoints: "
    "[{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.2, port_value: "
    "9001}}}}]}]}}, "
    "{name: b2, connect_timeout: 1s, load_assignment: {cluster_name: b2, endpoints: "
    "[{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.2, port_value: "
    "9002}}}}]}]}}, "
    "{name: both, connect_timeout: 1s, load_assignment: {cluster_name: both, endpoints: "
    "[{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.2, port_value: "
    "9001}}}}, {endpoint: {address: {socket_address: {address: 10.0.0.2, port_value: "
    "9002}}}}]}]}}, "
    "{name: b3, connect_timeout: 1s, load_assignment: {cluster_name: b3, endpoints: "
    "[{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.2, port_value: "
    "9003}}}}]}]}}";

char *stage_bootstrap(const char *hcm_fields, const char *routes, const char *clusters)
{
    struct strbuf b;
    strbuf_init(&b, 1u << 20);
    strbuf_addf(
        &b,
        "static_resources: {listeners: [{name: main, address: {socket_address: {address: 0.0.0.0, "
        "port_value: 80}}, filter_chains: [{filters: [{name: hcm, typed_config: {\"@type\": "
        "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3."
        "HttpConnectionManager, stat_prefix: t%s%s, route_config: {name: r, virtual_hosts: [{name: "
        "v, domains: [\"*\"], routes: [%s]}]}, http_filters: [{name: router, typed_config: "
        "{\"@type\": "
        "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}}]}]}], clusters: "
        "[%s]}\n",
        hcm_fields[0] ? ", " : "", hcm_fields, routes, clusters ? clusters : stage_clusters);
    return strbuf_steal(&b, NULL);
}

static bool is_live(void *arg)
{
    return proxy_server_state(((struct stage *)arg)->proxy->server) == PROXY_LIVE;
}

void stage_start(struct stage *s, const char *bootstrap, struct config_source *source)
{
    static const char *const names[] = {"backend.test=" SIM_BACKEND};
    static struct proxy_options cli;
    proxy_options_default(&cli);
    cli.drain_time_s = 30;
    cli.drain_immediately = true; /* evenly over the time otherwise, by chance */
    s->proxy = sidecar_new_opts(s->w, &(struct sidecar_opts){.name = "proxy",
                                                             .ip = SIM_PROXY,
                                                             .bootstrap = bootstrap,
                                                             .cli = &cli,
                                                             .source = source,
                                                             .hosts = names,
                                                             .n_hosts = 1});
    assert_true(sim_run_while(s->w->sim, is_live, s, 60 * SIM_SECOND));
    stage_run(s, 1);
}

void stage_run(struct stage *s, uint64_t ms)
{
    world_run_ms(s->w, ms);
}

uint64_t stage_stat(struct stage *s, const char *name)
{
    return sidecar_stat(s->proxy, name);
}

unsigned stage_end(struct stage *s)
{
    sidecar_free(s->proxy);
    stage_run(s, 1);
    if (sim_open_sockets(s->w->sim, SIM_PROXY))
        world_violation(s->w, "%zu sockets left", sim_open_sockets(s->w->sim, SIM_PROXY));
    for (unsigned i = 0; i < 4; i++) {
        list_each_safe (it, &s->b[i].conns)
            end_sc(container_of(it, struct script_conn, link), true);
        net_listener_free(s->b[i].l);
    }
    stage_run(s, 1000);
    loop_free(s->backend_loop);
    loop_free(s->client_loop);
    return world_free(s->w);
}

void stage_fini(struct stage *s)
{
    assert_int_equal(stage_end(s), 0);
}

/* ---- the client ---- */

static void raw_event(struct conn *c, unsigned events, void *user)
{
    struct raw *cl = user;
    if (events & CONN_EV_CONNECTED)
        cl->connected = true;
    while (c->readable && !cl->eof && !cl->error) {
        struct buf in;
        buf_init(&in);
        ssize_t n = conn_read(c, &in, 65536);
        if (n > 0) {
            char *text = buf_to_cstr(&in, NULL);
            strbuf_add(&cl->got, text, (size_t)n);
            free(text);
            buf_reset(&in);
            continue;
        }
        buf_reset(&in);
        if (n == E_AGAIN)
            break;
        cl->eof = n == E_EOF;
        cl->error = !cl->eof;
        cl->eof_ms = sim_now(cl->s->w->sim) / SIM_MS;
    }
    if (events & CONN_EV_ERROR)
        cl->error = true;
    if (cl->connected && cl->out.len && !cl->error)
        conn_write(c, &cl->out);
}

void raw_open(struct raw *cl, struct stage *s, uint16_t port)
{
    struct addr to;
    int code;
    memset(cl, 0, sizeof *cl);
    cl->s = s;
    buf_init(&cl->out);
    strbuf_init(&cl->got, 64u << 20);
    assert_int_equal(addr_ip(&to, SV(SIM_PROXY), port), 0);
    cl->c = conn_connect(s->client_loop, &to, NULL, raw_event, cl, &code);
    assert_non_null(cl->c);
}

void raw_send(struct raw *cl, const char *text)
{
    buf_append_sv(&cl->out, sv_of(text));
    if (cl->connected && !cl->error)
        conn_write(cl->c, &cl->out);
}

void raw_close(struct raw *cl, bool reset)
{
    if (reset)
        conn_abort(cl->c);
    else
        conn_close(cl->c);
    buf_reset(&cl->out);
    strbuf_fini(&cl->got);
}

struct wait {
    struct raw *cl;
    const char *text;
};

static bool has_text(void *arg)
{
    struct wait *w = arg;
    return w->cl->got.n && strstr(w->cl->got.p, w->text);
}

bool raw_wait(struct raw *cl, const char *text, uint64_t ms)
{
    struct wait w = {cl, text};
    return sim_run_while(cl->s->w->sim, has_text, &w, ms * SIM_MS);
}

static bool has_eof(void *arg)
{
    struct raw *cl = arg;
    return cl->eof || cl->error;
}

bool raw_wait_eof(struct raw *cl, uint64_t ms)
{
    return sim_run_while(cl->s->w->sim, has_eof, cl, ms * SIM_MS);
}

char *raw_get(struct stage *s, const char *path)
{
    struct raw cl;
    char req[1024];
    raw_open(&cl, s, 80);
    snprintf(req, sizeof req, "GET %s HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n", path);
    raw_send(&cl, req);
    raw_wait_eof(&cl, 120000);
    char *out = sv_dup(strbuf_sv(&cl.got));
    raw_close(&cl, false);
    return out;
}
