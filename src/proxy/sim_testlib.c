#include "proxy/sim_testlib.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/resolver.h"
#include "telemetry/stats.h"

/* ---- backends ---- */

static void free_bc(struct deferred *d)
{
    struct backend_conn *bc = container_of(d, struct backend_conn, freeing);
    free(bc->later_text);
    buf_reset(&bc->in);
    buf_reset(&bc->out);
    free(bc);
}

static void end_bc(struct backend_conn *bc, bool reset)
{
    if (bc->closed)
        return;
    bc->closed = true;
    bc->b->open--;
    timer_cancel(&bc->later);
    list_del(&bc->link);
    if (reset)
        conn_abort(bc->c);
    else
        conn_close(bc->c);
    loop_defer(bc->c->loop, &bc->freeing, free_bc);
}

static void flush_bc(struct backend_conn *bc)
{
    if (bc->out.len && conn_write(bc->c, &bc->out) < 0) {
        end_bc(bc, true);
        return;
    }
    if (!bc->out.len && bc->close_after)
        end_bc(bc, false);
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
        const char *last = strstr(end, "\r\n0\r\n\r\n");
        return last ? (size_t)(last - text) + 7 : 0;
    }
    return n >= head + body ? head + body : 0;
}

static void take_requests(struct backend_conn *bc)
{
    while (!bc->closed) {
        size_t n, len;
        char *text = buf_to_cstr(&bc->in, &n);
        len = whole_request(text, n);
        if (!len) {
            free(text);
            return;
        }
        text[len] = 0;
        snprintf(bc->b->last, sizeof bc->b->last, "%s", text);
        bc->b->requests++;
        bc->requests++;
        buf_drain(&bc->in, len);
        bc->b->fn(bc, sv_of(text));
        free(text);
    }
}

static void backend_event(struct conn *c, unsigned events, void *user)
{
    struct backend_conn *bc = user;
    if (events & CONN_EV_ERROR) {
        end_bc(bc, true);
        return;
    }
    while (!bc->closed && c->readable) {
        ssize_t n = conn_read(c, &bc->in, 65536);
        if (n == E_AGAIN)
            break;
        if (n <= 0) {
            end_bc(bc, n != E_EOF);
            return;
        }
        take_requests(bc);
    }
    if (!bc->closed)
        flush_bc(bc);
}

static void on_later(struct timer *t)
{
    struct backend_conn *bc = container_of(t, struct backend_conn, later);
    buf_append_sv(&bc->out, sv_of(bc->later_text));
    free(bc->later_text);
    bc->later_text = NULL;
    flush_bc(bc);
}

static void backend_accept(void *user, int fd, const struct addr *local, const struct addr *remote)
{
    struct backend *b = user;
    struct backend_conn *bc = mem_new(struct backend_conn);
    bc->b = b;
    b->connections++;
    b->open++;
    buf_init(&bc->in);
    buf_init(&bc->out);
    timer_init(&bc->later, b->w->backend_loop, on_later);
    list_push(&b->conns, &bc->link);
    bc->c = conn_from_fd(b->w->backend_loop, fd, local, remote, backend_event, bc);
}

void backend_send(struct backend_conn *bc, const char *text)
{
    if (bc->closed)
        return;
    buf_append_sv(&bc->out, sv_of(text));
    flush_bc(bc);
}

void backend_send_later(struct backend_conn *bc, const char *text, uint64_t ms)
{
    free(bc->later_text);
    bc->later_text = sv_dup(sv_of(text));
    timer_set(&bc->later, ms);
}

void backend_ok(struct backend_conn *bc, sv text)
{
    char head[128];
    snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\ncontent-length: %zu\r\nx-port: %u\r\n\r\n",
             text.n, bc->b->port);
    buf_append_sv(&bc->out, sv_of(head));
    buf_append_sv(&bc->out, text);
    flush_bc(bc);
}

void backend_503(struct backend_conn *bc, sv text)
{
    backend_send(bc, "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno");
}

void backend_reset(struct backend_conn *bc, sv text)
{
    end_bc(bc, true);
}

void backend_close(struct backend_conn *bc, sv text)
{
    end_bc(bc, false);
}

void backend_hang(struct backend_conn *bc, sv text)
{
}

/* ---- the world ---- */

void world_init(struct world *w, uint64_t seed, const backend_fn fns[4])
{
    static const char *const names[] = {"backend.test=" SIM_BACKEND};
    struct error err = {0};
    memset(w, 0, sizeof *w);
    log_set_level(NULL, LOG_ERROR);
    sv_hash_set_seed(seed);
    w->sim = sim_new(seed);
    w->proxy_loop = loop_new(sim_host(w->sim, SIM_PROXY));
    w->backend_loop = loop_new(sim_host(w->sim, SIM_BACKEND));
    w->client_loop = loop_new(sim_host(w->sim, SIM_CLIENT));
    w->resolver = resolver_new_static(w->proxy_loop, names, 1);
    for (unsigned i = 0; i < 4; i++) {
        struct backend *b = &w->b[i];
        b->w = w;
        b->port = (uint16_t)(9001 + i);
        list_init(&b->conns);
        b->fn = fns ? fns[i] : backend_ok;
        if (!b->fn)
            continue;
        struct addr a;
        assert_int_equal(addr_ip(&a, SV(SIM_BACKEND), b->port), 0);
        b->l = net_listener_new(w->backend_loop, &a, NULL, backend_accept, b, &err);
        assert_non_null(b->l);
        net_listener_start(b->l);
    }
}

const char world_clusters[] =
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

char *world_bootstrap(const char *hcm_fields, const char *routes, const char *clusters)
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
        hcm_fields[0] ? ", " : "", hcm_fields, routes, clusters ? clusters : world_clusters);
    return strbuf_steal(&b, NULL);
}

static bool is_live(void *arg)
{
    struct world *w = arg;
    return proxy_server_state(w->server) == PROXY_LIVE;
}

void world_start(struct world *w, const char *bootstrap, struct config_source *source)
{
    static struct proxy_options cli;
    struct error err = {0};
    proxy_options_default(&cli);
    cli.drain_time_s = 30;
    struct proxy_server_opts o = {
        .cli = &cli,
        .bootstrap = sv_of(bootstrap),
        .os = sim_host(w->sim, SIM_PROXY),
        .loop = w->proxy_loop,
        .concurrency = PROXY_NO_THREADS,
        .resolver = w->resolver,
        .source = source,
        .no_signals = true,
    };
    w->server = proxy_server_new(&o, &err);
    if (!w->server)
        fail_msg("%s", err.msg);
    assert_int_equal(proxy_server_start(w->server, &err), 0);
    assert_true(sim_run_while(w->sim, is_live, w, 60 * SIM_SECOND));
    world_run(w, 1);
}

void world_run(struct world *w, uint64_t ms)
{
    sim_run_for(w->sim, ms * SIM_MS);
}

uint64_t world_stat(struct world *w, const char *name)
{
    uint64_t v = 0;
    stats_find(proxy_server_stats(w->server), sv_of(name), &v);
    return v;
}

static bool is_ended(void *arg)
{
    return proxy_server_ended(((struct world *)arg)->server);
}

void world_fini(struct world *w)
{
    if (w->server) {
        proxy_server_stop(w->server);
        assert_true(sim_run_while(w->sim, is_ended, w, 10 * SIM_SECOND));
        world_run(w, 1);
        proxy_server_free(w->server);
    }
    world_run(w, 1);
    assert_int_equal(sim_open_sockets(w->sim, SIM_PROXY), 0);
    for (unsigned i = 0; i < 4; i++) {
        list_each_safe (it, &w->b[i].conns)
            end_bc(container_of(it, struct backend_conn, link), true);
        net_listener_free(w->b[i].l);
    }
    world_run(w, 1000);
    resolver_free(w->resolver);
    loop_free(w->proxy_loop);
    loop_free(w->backend_loop);
    loop_free(w->client_loop);
    sim_free(w->sim);
}

/* ---- the client ---- */

static void client_event(struct conn *c, unsigned events, void *user)
{
    struct client *cl = user;
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
        cl->eof_ms = sim_now(cl->w->sim) / SIM_MS;
    }
    if (events & CONN_EV_ERROR)
        cl->error = true;
    if (cl->connected && cl->out.len && !cl->error)
        conn_write(c, &cl->out);
}

void client_open(struct client *cl, struct world *w, uint16_t port)
{
    struct addr to;
    int code;
    memset(cl, 0, sizeof *cl);
    cl->w = w;
    buf_init(&cl->out);
    strbuf_init(&cl->got, 64u << 20);
    assert_int_equal(addr_ip(&to, SV(SIM_PROXY), port), 0);
    cl->c = conn_connect(w->client_loop, &to, NULL, client_event, cl, &code);
    assert_non_null(cl->c);
}

void client_send(struct client *cl, const char *text)
{
    buf_append_sv(&cl->out, sv_of(text));
    if (cl->connected && !cl->error)
        conn_write(cl->c, &cl->out);
}

void client_close(struct client *cl, bool reset)
{
    if (reset)
        conn_abort(cl->c);
    else
        conn_close(cl->c);
    buf_reset(&cl->out);
    strbuf_fini(&cl->got);
}

struct wait {
    struct client *cl;
    const char *text;
};

static bool has_text(void *arg)
{
    struct wait *w = arg;
    return w->cl->got.n && strstr(w->cl->got.p, w->text);
}

bool client_wait(struct client *cl, const char *text, uint64_t ms)
{
    struct wait w = {cl, text};
    return sim_run_while(cl->w->sim, has_text, &w, ms * SIM_MS);
}

static bool has_eof(void *arg)
{
    struct client *cl = arg;
    return cl->eof || cl->error;
}

bool client_wait_eof(struct client *cl, uint64_t ms)
{
    return sim_run_while(cl->w->sim, has_eof, cl, ms * SIM_MS);
}

char *client_get(struct world *w, const char *path)
{
    struct client cl;
    char req[1024];
    client_open(&cl, w, 80);
    snprintf(req, sizeof req, "GET %s HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n", path);
    client_send(&cl, req);
    client_wait_eof(&cl, 120000);
    char *out = sv_dup(strbuf_sv(&cl.got));
    client_close(&cl, false);
    return out;
}
