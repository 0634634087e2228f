/* Chaos at every point around one proxy that speaks HTTP/2 both ways: several streams at once,
 * gRPC with messages both ways and trailers, cancels, GOAWAY, windows that are full. See chaos.h.
 *
 * Beside what chaos.h says: whatever comes back is what was sent, byte by byte; an answer that ends
 * is whole, with its trailers; without anything broken every stream ends as its scene says; and
 * where only configuration changes or the proxy drains, no answer that has begun is cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "chaos_stage.h"
#include "serve/serve_server.h"
#include "text.h"

#define CALLS 6
/* Smaller than bodies, so that windows run full. */
#define WINDOWS                                                                                    \
    "http2_protocol_options: {initial_stream_window_size: 65535, "                                 \
    "initial_connection_window_size: 65535}"

static struct http_limits limits;

/* ---- servers ---- */

enum kind {
    ECHO,    /* each piece back at once; trailers when the request ends */
    WHOLE,   /* `size` bytes when the request has ended */
    LATER,   /* the same 300 ms later */
    ONLY,    /* a gRPC error in the head alone */
    EARLY,   /* WHOLE at the head: the request goes on */
    HANG,    /* nothing */
    RESET,   /* RST_STREAM at the head */
    REFUSED, /* the same, before anything was done with it; the next time ECHO */
    FAILING, /* 503; the next time ECHO */
    GOAWAY,  /* the connection takes no new streams from now on; ECHO */
};

struct service {
    struct serve_server *server;
    struct list streams;
    unsigned asked[CALLS]; /* how often for each call */
};

struct served {
    struct list link;
    struct service *of;
    struct http_stream *s;
    struct timer later;
    enum kind kind;
    unsigned call;
    uint64_t size, got;
    bool answered;
};

static struct service services[3];

static uint64_t answer_seed(unsigned call)
{
    return call + 100;
}

static void check_bytes(const struct buf *data, uint64_t seed, uint64_t at, const char *who)
{
    size_t n;
    char *text = buf_to_cstr(data, &n);
    for (size_t i = 0; i < n; i++)
        if (text[i] != text_pattern(seed, at + i)) {
            world_violation(s.w, "%s got another byte at %u", who, (unsigned)(at + i));
            break;
        }
    free(text);
}

static void send_head(struct served *v, unsigned status, const char *grpc_status, bool end)
{
    struct http_head h;
    struct arena a;
    arena_init(&a);
    http_head_init(&h, &a);
    h.status = (uint16_t)status;
    http_headers_add_id(&h.h, HTTP_H_CONTENT_TYPE, SV("application/grpc"));
    if (grpc_status)
        http_headers_add_id(&h.h, HTTP_H_GRPC_STATUS, sv_of(grpc_status));
    v->answered = true;
    v->s->ops->send_head(v->s, &h, end);
    arena_free(&a);
}

static void send_trailers(struct http_stream *to, uint64_t sum)
{
    struct http_headers t;
    struct arena a;
    char text[24];
    arena_init(&a);
    http_headers_init(&t, &a);
    snprintf(text, sizeof text, "%u", (unsigned)sum);
    http_headers_add_id(&t, HTTP_H_GRPC_STATUS, SV("0"));
    http_headers_add(&t, SV("x-sum"), sv_of(text));
    to->ops->send_trailers(to, &t);
    arena_free(&a);
}

static void send_whole(struct served *v)
{
    struct buf out;
    if (v->answered)
        return;
    buf_init(&out);
    text_body(&out, answer_seed(v->call), 0, v->size);
    send_head(v, 200, NULL, false);
    v->s->ops->send_data(v->s, &out, true);
}

static void on_later(struct timer *t)
{
    send_whole(container_of(t, struct served, later));
}

static void request_ended(struct served *v)
{
    switch (v->kind) {
    case ECHO:
        send_trailers(v->s, v->got);
        break;
    case WHOLE:
        send_whole(v);
        break;
    case LATER:
        timer_set(&v->later, 300);
        break;
    case ONLY:
        send_head(v, 200, "5", true);
        break;
    case FAILING:
        send_head(v, 503, NULL, true);
        break;
    default:
        break;
    }
}

static void served_data(void *user, struct buf *data, bool end)
{
    struct served *v = user;
    check_bytes(data, v->call, v->got, "a server");
    v->got += data->len;
    if (v->kind == ECHO && data->len)
        v->s->ops->send_data(v->s, data, false);
    if (end)
        request_ended(v);
}

static void served_trailers(void *user, struct http_headers *t)
{
    struct served *v = user;
    uint64_t sum;
    if (sv_to_u64(http_headers_get_sv(t, SV("x-sum")), &sum) < 0 || sum != v->got)
        world_violation(s.w, "a request's trailers are not those that were sent");
    request_ended(v);
}

static void served_close(void *user)
{
    struct served *v = user;
    timer_cancel(&v->later);
    list_del(&v->link);
    free(v);
}

static const struct http_stream_events served_events = {
    .on_data = served_data, .on_trailers = served_trailers, .on_close = served_close};

static bool accept_stream(void *user, struct http_stream *st, struct http_head *head, bool end,
                          const struct serve_peer *peer)
{
    struct service *of = user;
    unsigned kind = 0, call = 0, size = 0;
    char path[64];
    snprintf(path, sizeof path, "%.*s", SV_ARG(head->path));
    if (sscanf(path, "/%u/%u/%u", &kind, &call, &size) != 3 || call >= CALLS) {
        world_violation(s.w, "a server got %s", path);
        return false;
    }
    struct served *v = mem_new(struct served);
    *v = (struct served){.of = of, .s = st, .kind = kind, .call = call, .size = size};
    list_push(&of->streams, &v->link);
    timer_init(&v->later, peer->loop, on_later);
    http_stream_set_user(st, &served_events, v);
    if (of->asked[call]++ && (kind == REFUSED || kind == FAILING))
        v->kind = ECHO;
    if (v->kind == RESET || v->kind == REFUSED) {
        st->ops->reset(st, v->kind == RESET ? HTTP_RESET_LOCAL : HTTP_RESET_REMOTE_REFUSED);
        return true;
    }
    if (v->kind == GOAWAY) {
        st->codec->ops->drain(st->codec);
        v->kind = ECHO;
    }
    if (v->kind == ECHO)
        send_head(v, 200, NULL, false);
    else if (v->kind == EARLY)
        send_whole(v);
    if (end)
        request_ended(v);
    return true;
}

static void start_services(void)
{
    for (unsigned i = 0; i < 3; i++) {
        struct service *v = &services[i];
        struct error err = {0};
        char at[40];
        *v = (struct service){
            .server = serve_server_new(&(struct serve_server_opts){.loop = s.backend_loop,
                                                                   .protocol = SERVE_HTTP2,
                                                                   .limits = &limits,
                                                                   .times = {.idle_ms = 60000}})};
        list_init(&v->streams);
        serve_server_add(v->server, accept_stream, v);
        snprintf(at, sizeof at, SIM_BACKEND ":%u", 9001 + i);
        if (serve_server_listen_text(v->server, sv_of(at), &err) < 0)
            abort();
    }
}

/* ---- the client ---- */

struct plan {
    enum kind kind;
    unsigned body, size; /* of request and answer; a body is sent in three pieces */
    unsigned at_ms;      /* when it begins */
    unsigned cancel_ms;  /* after that; 0: never */
    unsigned status;     /* as it ends when nothing breaks; 0: it is reset */
    bool paused;         /* takes nothing for its first 60 ms */
    const char *trailer; /* grpc-status at the end, or NULL */
};

struct call {
    const struct plan *p;
    struct http_stream *s;
    unsigned i, status, pieces;
    uint64_t sent, got;
    bool opened, ended, trailers, closed, cancelled;
    bool refused; /* the proxy's own answer, as gRPC has it: 200, and why in the head */
    enum http_reset reset;
    struct timer next, cancel, resume;
};

static struct {
    struct conn *connecting;
    struct serve_conn *c;
    struct call calls[CALLS];
    unsigned n;
} client;

static void answer_ended(struct call *k)
{
    const struct plan *p = k->p;
    bool echo = p->kind != WHOLE && p->kind != LATER && p->kind != EARLY;
    k->ended = true;
    if (k->status != 200 || k->refused)
        return;
    if (!echo && k->got != p->size)
        world_violation(s.w, "call %u: an answer of %u bytes instead of %u", k->i, (unsigned)k->got,
                        p->size);
    if (p->trailer && !k->trailers)
        world_violation(s.w, "call %u: an answer without its trailers", k->i);
    if (echo && p->kind != ONLY && k->got != p->body)
        world_violation(s.w, "call %u: %u bytes came back of %u", k->i, (unsigned)k->got, p->body);
}

static void call_head(void *user, struct http_head *head, bool end)
{
    struct call *k = user;
    k->status = head->status;
    sv grpc = http_headers_get(&head->h, HTTP_H_GRPC_STATUS);
    k->trailers = end && grpc.n;
    k->refused = grpc.n && !sv_eq(grpc, SV("0")) && k->p->kind != ONLY;
    if (end)
        answer_ended(k);
}

static void call_data(void *user, struct buf *data, bool end)
{
    struct call *k = user;
    bool echo = k->p->kind != WHOLE && k->p->kind != LATER && k->p->kind != EARLY;
    if (k->status == 200)
        check_bytes(data, echo ? k->i : answer_seed(k->i), k->got, "the client");
    k->got += data->len;
    if (end)
        answer_ended(k);
}

static void call_trailers(void *user, struct http_headers *t)
{
    struct call *k = user;
    uint64_t sum;
    k->trailers = true;
    if (http_headers_get_sv(t, SV("x-sum")).p &&
        (sv_to_u64(http_headers_get_sv(t, SV("x-sum")), &sum) < 0 || sum != k->got))
        world_violation(s.w, "call %u: trailers tell of %u bytes, %u came", k->i, (unsigned)sum,
                        (unsigned)k->got);
    answer_ended(k);
}

static void call_reset(void *user, enum http_reset why, const char *details)
{
    ((struct call *)user)->reset = why;
}

static void call_close(void *user)
{
    struct call *k = user;
    if (k->closed)
        world_violation(s.w, "call %u: closed twice", k->i);
    k->closed = true;
    k->s = NULL;
    timer_cancel(&k->next);
    timer_cancel(&k->cancel);
    timer_cancel(&k->resume);
}

static const struct http_stream_events call_events = {.on_head = call_head,
                                                      .on_data = call_data,
                                                      .on_trailers = call_trailers,
                                                      .on_reset = call_reset,
                                                      .on_close = call_close};

static void send_piece(struct call *k)
{
    struct buf out;
    uint64_t n = ++k->pieces == 3 ? k->p->body - k->sent : k->p->body / 3;
    bool grpc = k->p->trailer != NULL, last = k->pieces == 3;
    buf_init(&out);
    text_body(&out, k->i, k->sent, n);
    k->sent += n;
    k->s->ops->send_data(k->s, &out, last && !grpc);
    if (last && grpc && k->s)
        send_trailers(k->s, k->sent);
    if (!last)
        timer_set(&k->next, 7);
}

static void open_call(struct call *k)
{
    struct http_head h;
    struct arena a;
    char path[64];
    if (!client.c || !serve_conn_can_open(client.c))
        return;
    k->s = serve_conn_open(client.c);
    if (!k->s)
        return;
    k->opened = true;
    http_stream_set_user(k->s, &call_events, k);
    snprintf(path, sizeof path, "/%u/%u/%u", k->p->kind, k->i, k->p->size);
    arena_init(&a);
    http_head_init(&h, &a);
    h.method = k->p->body || k->p->trailer ? SV("POST") : SV("GET");
    h.scheme = SV("http");
    h.authority = SV("a");
    h.path = sv_of(path);
    if (k->p->trailer) {
        http_headers_add_id(&h.h, HTTP_H_CONTENT_TYPE, SV("application/grpc"));
        http_headers_add_id(&h.h, HTTP_H_TE, SV("trailers"));
    }
    bool end = !k->p->body && !k->p->trailer;
    k->s->ops->send_head(k->s, &h, end);
    arena_free(&a);
    if (k->p->paused) {
        k->s->ops->pause(k->s, true);
        timer_set(&k->resume, 60);
    }
    if (k->p->cancel_ms)
        timer_set(&k->cancel, k->p->cancel_ms);
    if (!end)
        send_piece(k);
}

static void on_next(struct timer *t)
{
    struct call *k = container_of(t, struct call, next);
    if (!k->opened)
        open_call(k);
    else if (k->s)
        send_piece(k);
}

static void cancel(struct call *k)
{
    if (!k->s)
        return;
    k->cancelled = true;
    k->s->ops->reset(k->s, HTTP_RESET_REMOTE_CANCEL);
}

static void on_cancel(struct timer *t)
{
    cancel(container_of(t, struct call, cancel));
}

static void on_resume(struct timer *t)
{
    struct call *k = container_of(t, struct call, resume);
    if (k->s)
        k->s->ops->pause(k->s, false);
}

static void conn_ready(struct serve_conn *c)
{
}

static void conn_closed(struct serve_conn *c)
{
    client.c = NULL;
}

static const struct serve_conn_ops conn_ops = {
    .ready = conn_ready, .changed = conn_ready, .closed = conn_closed};

static void on_connecting(struct conn *c, unsigned events, void *user)
{
    static const struct serve_times times = {.idle_ms = 60000};
    if (events & CONN_EV_ERROR) {
        conn_abort(c);
        client.connecting = NULL;
    } else if (events & CONN_EV_CONNECTED) {
        client.connecting = NULL;
        client.c = serve_conn_client(c, &limits, &times, SERVE_HTTP2, &conn_ops, NULL);
        serve_conn_start(client.c);
    }
}

static void start_client(const struct plan *plans, unsigned n)
{
    struct addr to;
    int code;
    memset(&client, 0, sizeof client);
    client.n = n;
    if (addr_ip(&to, SV(SIM_PROXY), 80))
        abort();
    client.connecting = conn_connect(s.client_loop, &to, NULL, on_connecting, NULL, &code);
    for (unsigned i = 0; i < n; i++) {
        struct call *k = &client.calls[i];
        k->p = &plans[i];
        k->i = i;
        timer_init(&k->next, s.client_loop, on_next);
        timer_init(&k->cancel, s.client_loop, on_cancel);
        timer_init(&k->resume, s.client_loop, on_resume);
        timer_set(&k->next, 5 + plans[i].at_ms);
    }
}

static void end_client(void)
{
    if (client.connecting)
        conn_abort(client.connecting);
    if (client.c)
        serve_conn_close(client.c, HTTP_RESET_LOCAL, 0, NULL);
    for (unsigned i = 0; i < client.n; i++)
        timer_cancel(&client.calls[i].next);
}

/* ---- scenes ---- */

static const struct scene {
    const char *route;
    unsigned n;
    struct plan calls[CALLS];
} scenes[] = {
    {"",
     4,
     {{ECHO, 300, 0, 0, 0, 200, false, "0"},
      {ECHO, 9000, 0, 3, 0, 200, false, "0"},
      {ONLY, 30, 0, 5, 0, 200, false, "5"},
      {ECHO, 0, 0, 10, 0, 200, false, "0"}}},
    {"",
     6,
     {{WHOLE, 0, 20, 0, 0, 200},
      {WHOLE, 50, 3000, 0, 0, 200},
      {LATER, 0, 500, 1, 0, 200},
      {ECHO, 40, 0, 2, 0, 200, false, "0"},
      {WHOLE, 0, 0, 12, 0, 200},
      {RESET, 0, 0, 4, 0, 503}}},
    {"",
     3,
     {{WHOLE, 0, 250000, 0, 0, 200, true},
      {ECHO, 200000, 0, 0, 0, 200, true, "0"},
      {WHOLE, 150000, 70000, 2, 0, 200}}},
    {"",
     5,
     {{ECHO, 90000, 0, 0, 12, 0, true, "0"},
      {LATER, 10, 10, 0, 40, 0},
      {HANG, 0, 0, 1, 30, 0},
      {WHOLE, 0, 90000, 2, 20, 0, true},
      {WHOLE, 0, 100, 50, 0, 200}}},
    {"",
     4,
     {{ECHO, 900, 0, 0, 0, 200, false, "0"},
      {GOAWAY, 900, 0, 2, 0, 200, false, "0"},
      {WHOLE, 0, 4000, 8, 0, 200},
      {ECHO, 60, 0, 30, 0, 200, false, "0"}}},
    {", retry_policy: {retry_on: '5xx,reset,refused-stream', num_retries: 3, per_try_timeout: "
     "0.2s, retry_back_off: {base_interval: 0.01s}}",
     4,
     {{FAILING, 600, 0, 0, 0, 200, false, "0"},
      {REFUSED, 60, 0, 1, 0, 200, false, "0"},
      {HANG, 5, 0, 2, 0, 504},
      {RESET, 0, 0, 3, 0, 503}}},
    {", timeout: 0.25s",
     3,
     {{LATER, 0, 10, 0, 0, 504}, {EARLY, 60000, 3000, 1, 0, 200}, {HANG, 40, 0, 3, 0, 504}}},
    {", request_mirror_policies: [{cluster: b3}, {cluster: b2}]",
     3,
     {{ECHO, 300, 0, 0, 0, 200, false, "0"},
      {WHOLE, 3000, 3000, 1, 0, 200},
      {LATER, 0, 30, 2, 20, 0}}},
};
static const char *const names[] = {"grpc",   "many",  "windows", "cancels",
                                    "goaway", "retry", "timeout", "mirror"};

/* ---- what breaks, beside the proxy's configuration ---- */

static void cancel_all(void *arg)
{
    for (unsigned i = 0; i < client.n; i++)
        cancel(&client.calls[i]);
}

static void cancel_first(void *arg)
{
    cancel(&client.calls[0]);
}

static void client_goes(void *arg)
{
    if (client.c)
        serve_conn_drain(client.c);
}

static void client_leaves(void *arg)
{
    if (client.c)
        serve_conn_close(client.c, HTTP_RESET_LOCAL, 0, NULL);
}

static void servers_go(void *arg)
{
    list_each (it, &services[0].streams) {
        struct http_codec *c = container_of(it, struct served, link)->s->codec;
        c->ops->drain(c);
    }
}

static void servers_reset(void *arg)
{
    list_each_safe (it, &services[0].streams) {
        struct http_stream *st = container_of(it, struct served, link)->s;
        st->ops->reset(st, HTTP_RESET_LOCAL);
    }
}

static const struct chaos_action own[] = {
    {"cancel-all", cancel_all},     {"cancel-first", cancel_first},
    {"client-goaway", client_goes}, {"client-leaves", client_leaves},
    {"servers-goaway", servers_go}, {"servers-reset", servers_reset},
};

/* What must not cut an answer that has begun. */
static bool gentle(const char *action)
{
    static const char *const v[] = {"routes",         "cluster",       "listener",
                                    "no-cluster",     "no-routes",     "drain",
                                    "servers-goaway", "client-goaway", "no-listener"};
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++)
        if (!strcmp(action, v[i]))
            return true;
    return false;
}

/* ---- a run ---- */

static void judge(const struct call *k)
{
    const struct plan *p = k->p;
    world_note(s.w, "call %u: %s%u, %u bytes%s%s%s", k->i, k->ended ? "" : "cut, ", k->status,
               (unsigned)k->got, k->trailers ? ", trailers" : "", k->reset ? ", reset: " : "",
               k->reset ? http_reset_text(k->reset) : "");
    if (k->opened && !k->closed)
        world_violation(s.w, "call %u never ended", k->i);
    if (!chaos_done() && !p->cancel_ms && (k->status != p->status || !k->ended || k->refused))
        world_violation(s.w, "call %u ended with %u, %s, instead of %u", k->i, k->status,
                        k->ended ? "whole" : "cut", p->status);
    if (!chaos_done() && p->cancel_ms && !k->cancelled)
        world_violation(s.w, "call %u was over before it was cancelled", k->i);
    if (k->status && !k->ended && !k->cancelled && (!chaos_done() || gentle(chaos_done())))
        world_violation(s.w, "call %u: an answer was cut", k->i);
}

static unsigned run(size_t scenario)
{
    const struct scene *x = &scenes[scenario];
    const script_fn none[4] = {NULL};
    const struct chaos_plan plan = {
        .route = x->route,
        .downstream = "codec_type: HTTP2, " WINDOWS,
        .upstream = WINDOWS,
        .fault = "delay: {fixed_delay: 0.015s, percentage: {numerator: 30}}"};
    http_limits_default(&limits);
    limits.initial_stream_window = limits.initial_conn_window = 65535;
    chaos_stage_up(&plan, none);
    start_services();
    chaos_stage_start();
    start_client(x->calls, x->n);
    chaos_begin(s.w->sim, NULL);
    stage_run(&s, 2000); /* longer than any time-out of the scenes */
    chaos_end(s.w->sim);
    stage_run(&s, 14000); /* other routes have the default time-out */
    for (unsigned i = 0; i < client.n; i++)
        judge(&client.calls[i]);
    end_client();
    stage_run(&s, 1000);
    for (int i = 0; i < 3; i++)
        serve_server_free(services[i].server);
    stage_run(&s, 1000);
    return chaos_stage_down();
}

int main(int argc, char **argv)
{
    return chaos_stage_main((struct chaos){.program = argv[0],
                                           .scenarios = names,
                                           .n_scenarios = sizeof names / sizeof names[0],
                                           .own = own,
                                           .n_own = sizeof own / sizeof own[0],
                                           .stride = 11,
                                           .run = run});
}
