/* Our gRPC on a loopback port, for tests against gRPC's own implementation.
 *
 *   grpc_peer server [ADDRESS]                  prints "listening on PORT"; SIGTERM shuts down
 *   grpc_peer client PORT unary PATH TEXT [TIMEOUT_MS]
 *   grpc_peer client PORT stream PATH COUNT SIZE     sends COUNT messages, expects each back
 *   grpc_peer client PORT read PATH TEXT [MOST]      one request; cancels after MOST messages
 *
 * The client prints "message BYTES", "trailer NAME VALUE" and at last "status CODE MESSAGE".
 * Methods of the server (messages are bytes): /weft.test.Echo/Unary, /Stream, /Sum (client
 * stream), /Many ("COUNT SIZE"), /Fail ("CODE TEXT"), /Hang, /Metadata; and the health service. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/mem.h"
#include "grpc/grpc.h"
#include "serve/serve_client.h"
#include "serve/serve_server.h"

#define SERVICE "/weft.test.Echo/"

static struct loop *loop;

/* ---- server ---- */

static struct grpc_server *srv;
static struct grpc_health *health;
static struct serve_server *server;

static void unary(void *user, struct grpc_call *c, sv request)
{
    grpc_respond(c, request);
}

static void fail_with(void *user, struct grpc_call *c, sv request)
{
    sv number, text;
    uint64_t code = 2;
    struct http_headers t;
    http_headers_init(&t, grpc_call_arena(c));
    http_headers_add(&t, SV("x-reason"), SV("asked for"));
    grpc_metadata_add_bin(&t, SV("x-raw-bin"), SV("\0\1\377"));
    sv_cut(request, ' ', &number, &text);
    sv_to_u64(number, &code);
    grpc_finish(c, (enum grpc_code)code, text, &t);
}

static void hang(void *user, struct grpc_call *c)
{
}

/* Gives back the metadata of the request: x-ask, and the bytes of x-ask-bin. */
static void metadata(void *user, struct grpc_call *c, sv request)
{
    struct arena *a = grpc_call_arena(c);
    const struct http_headers *in = &grpc_call_head(c)->h;
    struct http_headers h;
    sv bytes = SV("none");
    http_headers_init(&h, a);
    http_headers_add(&h, SV("x-answer"), http_headers_joined(in, SV("x-ask"), a));
    grpc_send_headers(c, &h);
    grpc_metadata_get_bin(in, SV("x-ask-bin"), a, &bytes);
    grpc_respond(c, bytes);
}

struct state {
    struct grpc_call *call;
    uint64_t sum, left, size;
    bool ended;
};

static void echo_message(void *user, struct buf *msg, sv bytes)
{
    struct state *s = user;
    grpc_send_buf(s->call, msg);
    if (!grpc_writable(s->call))
        grpc_pause(s->call, true);
}
static void echo_writable(void *user)
{
    grpc_pause(((struct state *)user)->call, false);
}
static void echo_end(void *user)
{
    grpc_finish(((struct state *)user)->call, GRPC_OK, SV(""), NULL);
}

static void sum_message(void *user, struct buf *msg, sv bytes)
{
    ((struct state *)user)->sum += bytes.n;
}
static void sum_end(void *user)
{
    struct state *s = user;
    grpc_respond(s->call,
                 arena_printf(grpc_call_arena(s->call), "%llu", (unsigned long long)s->sum));
}

static void many_go(void *user)
{
    static char bytes[1 << 20];
    struct state *s = user;
    for (; s->left && grpc_writable(s->call); s->left--)
        grpc_send(s->call, sv_make(bytes, s->size));
    if (s->left == 0)
        grpc_finish(s->call, GRPC_OK, SV("all sent"), NULL);
}
static void many_message(void *user, struct buf *msg, sv bytes)
{
    struct state *s = user;
    sv count, size;
    sv_cut(bytes, ' ', &count, &size);
    sv_to_u64(count, &s->left);
    sv_to_u64(size, &s->size);
    s->size = s->size < (1 << 20) ? s->size : (1 << 20);
    many_go(s);
}

static void begin(void *user, struct grpc_call *c)
{
    struct state *s = arena_new(grpc_call_arena(c), struct state);
    s->call = c;
    grpc_call_set_events(c, user, s);
}

static void on_term(int signo, void *arg)
{
    grpc_server_shutdown(srv, "shutting down");
    serve_server_drain(server, 500);
    loop_stop(loop);
}

static int run_server(const char *address)
{
    static const struct grpc_call_events echo = {
        .on_message = echo_message, .on_writable = echo_writable, .on_half_close = echo_end};
    static const struct grpc_call_events sum = {.on_message = sum_message,
                                                .on_half_close = sum_end};
    static const struct grpc_call_events many = {.on_message = many_message,
                                                 .on_writable = many_go};
    struct error err = {0};
    struct serve_server_opts o = {.loop = loop};
    server = serve_server_new(&o);
    if (serve_server_listen_text(server, sv_of(address), &err) != 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    srv = grpc_server_new(0);
    health = grpc_health_new(srv);
    grpc_health_set(health, SV("books"), true);
    grpc_server_add_unary(srv, SERVICE "Unary", unary, NULL);
    grpc_server_add_unary(srv, SERVICE "Fail", fail_with, NULL);
    grpc_server_add_unary(srv, SERVICE "Metadata", metadata, NULL);
    grpc_server_add_method(srv, SERVICE "Hang", hang, NULL);
    grpc_server_add_method(srv, SERVICE "Stream", begin, (void *)(uintptr_t)&echo);
    grpc_server_add_method(srv, SERVICE "Sum", begin, (void *)(uintptr_t)&sum);
    grpc_server_add_method(srv, SERVICE "Many", begin, (void *)(uintptr_t)&many);
    serve_server_add(server, grpc_server_accept, srv);
    printf("listening on %d\n", addr_port(serve_server_addr(server, 0)));
    fflush(stdout);
    loop_on_signal(loop, SIGTERM, on_term, NULL);
    loop_run(loop);
    for (int i = 0; i < 20; i++)
        loop_turn(loop, 1000000);
    grpc_health_free(health);
    grpc_server_free(srv);
    serve_server_free(server);
    return 0;
}

/* ---- client ---- */

static struct grpc_call *call;
static uint64_t count, size, sent, got, most;

static void finished(void *user, const struct grpc_result *r)
{
    call = NULL;
    for (uint32_t i = 0; r->trailers && i < r->trailers->n; i++)
        if (sv_starts(r->trailers->v[i].name, SV("x-")))
            printf("trailer %.*s %.*s\n", SV_ARG(r->trailers->v[i].name),
                   SV_ARG(r->trailers->v[i].value));
    printf("got %llu\nstatus %s %.*s\n", (unsigned long long)got, grpc_code_text(r->code),
           SV_ARG(r->message));
    loop_stop(loop);
}

static void answered(void *user, const struct grpc_result *r, sv answer)
{
    if (answer.p)
        printf("message %.*s\n", SV_ARG(answer));
    finished(user, r);
}

static void stream_go(void *user)
{
    static char bytes[1 << 20];
    for (; sent < count && grpc_writable(call); sent++) {
        memset(bytes, 'a' + (int)(sent % 26), size);
        grpc_send(call, sv_make(bytes, size));
    }
    if (sent == count)
        grpc_half_close(call);
}

static void stream_message(void *user, struct buf *msg, sv bytes)
{
    if (count && (bytes.n != size || (size && bytes.p[size - 1] != 'a' + (int)(got % 26)))) {
        printf("wrong message %llu\n", (unsigned long long)got);
        exit(1);
    }
    if (++got == most) {
        grpc_cancel(call);
        printf("got %llu\ncancelled\n", (unsigned long long)got);
        loop_stop(loop);
    }
}

static int run_client(int argc, char **argv)
{
    struct error err = {0};
    char target[64];
    snprintf(target, sizeof target, "127.0.0.1:%s", argv[2]);
    struct serve_client_opts o = {.loop = loop, .target = sv_of(target), .protocol = SERVE_HTTP2};
    struct serve_client *client = serve_client_new(&o, &err);
    if (!client) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    struct serve_channel *ch = serve_client_channel(client);
    static const struct grpc_call_events events = {
        .on_message = stream_message, .on_writable = stream_go, .on_done = finished};
    static const struct grpc_call_events reading = {.on_message = stream_message,
                                                    .on_done = finished};
    sv path = sv_of(argv[4]);
    struct grpc_opts opts = {.timeout_ms = argc > 6 ? strtoull(argv[6], NULL, 10) : 0};
    if (!strcmp(argv[3], "unary")) {
        grpc_unary(ch, path, NULL, &opts, sv_of(argv[5]), answered, NULL);
    } else if (!strcmp(argv[3], "stream") && argc > 6) {
        count = strtoull(argv[5], NULL, 10);
        size = strtoull(argv[6], NULL, 10) & ((1 << 20) - 1);
        call = grpc_call_start(ch, path, NULL, NULL, &events, NULL);
        stream_go(NULL);
    } else {
        most = argc > 6 ? strtoull(argv[6], NULL, 10) : 0;
        call = grpc_call_start(ch, path, NULL, NULL, &reading, NULL);
        grpc_send(call, sv_of(argv[5]));
        grpc_half_close(call);
    }
    loop_run(loop);
    loop_turn(loop, 0);
    serve_client_free(client);
    return 0;
}

int main(int argc, char **argv)
{
    int code = 2;
    loop = loop_new(NULL);
    if (argc > 1 && !strcmp(argv[1], "server"))
        code = run_server(argc > 2 ? argv[2] : "0");
    else if (argc > 5 && !strcmp(argv[1], "client"))
        code = run_client(argc, argv);
    else
        fprintf(stderr, "usage: grpc_peer server [ADDRESS] | client PORT MODE PATH ...\n");
    loop_free(loop);
    return code;
}
