#include "net/conn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/rand.h"
#include "net/net_fixture.h"

static struct loop *l;
static struct server srv;

static int up(void **state)
{
    l = loop_new(NULL);
    server_init(&srv, l, "127.0.0.1:0");
    return 0;
}

static int down(void **state)
{
    server_fini(&srv);
    loop_turn(l, 0);
    loop_free(l);
    assert_int_equal(buf_pool_blocks_in_use(), 0);
    return 0;
}

static void request_and_response(void **state)
{
    struct end a;
    char text[ADDR_TEXT_MAX], text2[ADDR_TEXT_MAX];
    server_connect(&srv, &a);
    struct end *b = &srv.ends[0];
    assert_true(a.c->connected && a.c->writable && b->c->connected);
    buf_append_sv(&a.out, SV("ping"));
    assert_int_equal(end_flush(&a), 4);
    turn_until(l, b->in.len == 4);
    assert_int_equal(b->reads_n, 1);
    assert_false(b->c->readable); /* a short read: no second one was needed */
    buf_append_sv(&b->out, SV("pong!"));
    assert_int_equal(end_flush(b), 5);
    turn_until(l, a.in.len == 5);
    assert_int_equal(a.writes_n + b->writes_n, 0); /* never blocked, never told */
    assert_int_equal(a.c->bytes_written, 4);
    assert_int_equal(b->c->bytes_written, 5);
    assert_int_equal(a.c->bytes_read, 5);
    assert_true(a.c->id != b->c->id);
    /* Each end's local address is the other's remote one. */
    assert_int_equal(a.c->local.len, 0);
    assert_string_equal(addr_text(conn_local(a.c), text).p, addr_text(&b->c->remote, text2).p);
    assert_true(addr_eq(conn_local(b->c), &a.c->remote));
    assert_int_equal(conn_original_dst(b->c), E_NOT_FOUND);
    /* Both have TCP_NODELAY, the accepted one from its listener. */
    for (int i = 0; i < 2; i++) {
        int on = 0;
        socklen_t n = sizeof on;
        getsockopt(conn_fd(i ? a.c : b->c), IPPROTO_TCP, TCP_NODELAY, &on, &n);
        assert_int_equal(on, 1);
    }
    end_fini(&a);
    turn_until(l, b->eof);
}

static void half_close_from_both_sides(void **state)
{
    struct end a;
    server_connect(&srv, &a);
    struct end *b = &srv.ends[0];
    a.close_on_eof = b->close_on_eof = false;
    buf_append_sv(&a.out, SV("last words"));
    end_flush(&a);
    assert_int_equal(conn_shutdown_write(a.c), 0);
    turn_until(l, b->eof);
    assert_int_equal(b->in.len, 10);
    assert_true(b->c->peer_closed);
    assert_false(a.eof);
    assert_int_equal(conn_read(b->c, &b->in, 100), E_EOF); /* again, without a call */
    buf_append_sv(&b->out, SV("answer"));
    assert_int_equal(end_flush(b), 6);
    turn_until(l, a.in.len == 6);
    assert_int_equal(conn_shutdown_write(b->c), 0);
    turn_until(l, a.eof);
    assert_int_equal(a.error + b->error, 0);
    /* A new owner who kicks learns of the end, too. */
    int before = b->reads_n;
    conn_kick(b->c);
    assert_int_equal(b->reads_n, before);
    loop_turn(l, 0);
    assert_int_equal(b->reads_n, before + 1);
    end_fini(&a);
}

/* The FIN travels with the data: the short read must not hide it. */
static void fin_right_behind_the_data(void **state)
{
    for (int i = 0; i < 20; i++) {
        struct end a;
        server_connect(&srv, &a);
        struct end *b = &srv.ends[i];
        buf_append_sv(&a.out, SV("data"));
        end_flush(&a);
        end_fini(&a);
        turn_until(l, b->eof);
        assert_int_equal(b->in.len, 4);
    }
}

static void resets(void **state)
{
    struct end a;
    server_connect(&srv, &a);
    struct end *b = &srv.ends[0];
    end_close(&a, true);
    turn_until(l, b->error);
    assert_int_equal(b->error, E_RESET);
    end_fini(&a);
    /* What came before the reset is still read. */
    server_connect(&srv, &a);
    b = &srv.ends[1];
    buf_append_sv(&a.out, SV("first"));
    end_flush(&a);
    end_close(&a, true);
    turn_until(l, b->error);
    assert_int_equal(b->error, E_RESET);
    assert_int_equal(b->in.len, 5);
    end_fini(&a);
    /* Who does not read is told nevertheless, once. */
    server_connect(&srv, &a);
    b = &srv.ends[2];
    b->reads = b->close_on_error = false;
    end_close(&a, true);
    turn_until(l, b->errors_n);
    turn_quiet(l);
    assert_int_equal(b->errors_n, 1);
    assert_int_equal(b->c->error, E_RESET);
    assert_true(sv_eq(b->c->error_text, SV("Connection reset by peer")));
    buf_append_sv(&b->out, SV("x"));
    assert_int_equal(end_flush(b), E_RESET);
    end_fini(&a);
}

static void refused(void **state)
{
    struct addr a = *net_listener_addr(srv.l);
    struct end e;
    int code = 0;
    end_init(&e);
    /* A port that was just closed. */
    struct server gone;
    server_init(&gone, l, "127.0.0.1:0");
    a = *net_listener_addr(gone.l);
    server_fini(&gone);
    e.close_on_error = false;
    e.c = conn_connect(l, &a, NULL, end_event, &e, &code);
    assert_non_null(e.c);
    turn_until(l, e.errors_n);
    assert_int_equal(e.error, E_REFUSED);
    assert_true(sv_ends(e.c->error_text, SV("connect error: Connection refused")));
    assert_int_equal(e.connected, 0);
    turn_quiet(l);
    assert_int_equal(e.errors_n, 1);
    end_fini(&e);
    /* No such Unix socket: known at once, told on the next turn. */
    end_init(&e);
    assert_int_equal(addr_unix(&a, SV("/nonexistent/socket")), 0);
    e.close_on_error = false;
    e.c = conn_connect(l, &a, NULL, end_event, &e, &code);
    assert_int_equal(e.errors_n, 0);
    loop_turn(l, 0);
    assert_int_equal(e.error, E_NOT_FOUND);
    assert_true(sv_eq(e.c->error_text, SV("immediate connect error: No such file or directory")));
    end_fini(&e);
    /* Closed before anything was told. */
    end_init(&e);
    e.c = conn_connect(l, &a, NULL, end_event, &e, &code);
    end_fini(&e);
    turn_quiet(l);
    assert_int_equal(e.errors_n, 0);
    struct addr unset = {.len = 0};
    assert_null(conn_connect(l, &unset, NULL, end_event, &e, &code));
    assert_int_equal(code, E_INVALID);
}

static void big_transfers_both_ways(void **state)
{
    enum { N = 8 << 20 };
    static const size_t most[] = {0, 1000, 16384, 70000};
    char *data = malloc(N);
    struct rand_state r;
    rand_seed(&r, 1);
    for (size_t i = 0; i + 8 <= N; i += 8) {
        uint64_t v = rand_u64(&r);
        memcpy(data + i, &v, 8);
    }
    for (int round = 0; round < 4; round++) {
        struct end a;
        server_connect(&srv, &a);
        struct end *b = &srv.ends[round];
        a.most = b->most = most[round];
        buf_append(&a.out, data, N);
        buf_append(&b->out, data, N / 2);
        end_flush(&a);
        end_flush(b);
        assert_true(a.out.len > 0); /* a short write */
        assert_false(a.c->writable);
        assert_int_equal(conn_write(a.c, &a.out), 0);
        turn_until(l, b->in.len == N && a.in.len == N / 2);
        assert_int_equal(a.out.len + b->out.len, 0);
        assert_true(a.writes_n > 0 && a.c->writable);
        assert_memory_equal(buf_pullup(&b->in, N).p, data, N);
        assert_memory_equal(buf_pullup(&a.in, N / 2).p, data, N / 2);
        end_fini(&a);
        turn_until(l, b->eof);
        buf_reset(&b->in);
    }
    free(data);
}

static void pausing_pushes_back(void **state)
{
    struct end a;
    server_connect(&srv, &a);
    struct end *b = &srv.ends[0];
    b->reads = false;
    char *data = calloc(1, 32 << 20);
    buf_append(&a.out, data, 32 << 20);
    free(data);
    end_flush(&a);
    turn_quiet(l);
    assert_true(a.out.len > 0);
    size_t stuck = a.out.len;
    turn_quiet(l);
    assert_int_equal(a.out.len, stuck);
    b->reads = true;
    conn_kick(b->c);
    turn_until(l, b->in.len == 32 << 20);
    end_fini(&a);
}

static void peeking_takes_nothing(void **state)
{
    struct end a;
    char p[16];
    server_connect(&srv, &a);
    struct end *b = &srv.ends[0];
    b->reads = b->close_on_eof = false;
    assert_int_equal(conn_peek(b->c, p, sizeof p), E_AGAIN);
    buf_append_sv(&a.out, SV("GET /"));
    end_flush(&a);
    turn_until(l, b->reads_n);
    assert_int_equal(conn_peek(b->c, p, 3), 3);
    assert_memory_equal(p, "GET", 3);
    assert_int_equal(conn_peek(b->c, p, sizeof p), 5);
    end_close(&a, false);
    turn_quiet(l);
    assert_int_equal(conn_peek(b->c, p, sizeof p), 5);
    /* Now the real owner: it is told of what lies there, and of the end. */
    b->reads = true;
    conn_kick(b->c);
    turn_until(l, b->eof);
    assert_int_equal(b->in.len, 5);
    end_fini(&a);
}

static int closes;
static void closes_itself(struct conn *c, unsigned events, void *user)
{
    closes++;
    conn_close(c);
    conn_close(c); /* does nothing */
    assert_int_equal(conn_read(c, user, 1), E_CLOSED);
    assert_int_equal(conn_write(c, user), E_CLOSED);
    conn_kick(c);
}

static void closing_inside_the_callback(void **state)
{
    struct end a;
    struct buf b;
    buf_init(&b);
    server_connect(&srv, &a);
    struct conn *c = srv.ends[0].c;
    srv.ends[0].c = NULL;
    conn_set_owner(c, closes_itself, &b);
    buf_append_sv(&a.out, SV("x"));
    end_flush(&a);
    turn_until(l, closes);
    turn_quiet(l);
    assert_int_equal(closes, 1);
    turn_until(l, a.eof || a.error);
    end_fini(&a);
}

static void unix_sockets(void **state)
{
    char path[64], text[ADDR_TEXT_MAX];
    struct end a;
    struct server u;
    snprintf(path, sizeof path, "/tmp/weft_conn_test_%d.sock", (int)getpid());
    server_init(&u, l, path);
    server_connect(&u, &a);
    struct end *b = &u.ends[0];
    buf_append_sv(&a.out, SV("over a path"));
    end_flush(&a);
    turn_until(l, b->in.len == 11);
    assert_string_equal(addr_text(&b->c->local, text).p, path);
    assert_int_equal(conn_original_dst(b->c), E_NOT_FOUND);
    end_close(&a, true);
    turn_until(l, b->eof || b->error);
    end_fini(&a);
    server_fini(&u);
    assert_int_equal(access(path, F_OK), -1);
}

static void options(void **state)
{
    struct addr from;
    struct end e;
    char text[ADDR_TEXT_MAX];
    int code = 0, v = 0;
    socklen_t n = sizeof v;
    assert_int_equal(addr_ip(&from, SV("127.0.0.9"), 0), 0);
    struct sock_opts o = {.bind_to = &from,
                          .no_delay = true,
                          .keepalive = true,
                          .keepalive_time_s = 77,
                          .keepalive_interval_s = 5,
                          .keepalive_probes = 4};
    end_init(&e);
    e.c = conn_connect(l, net_listener_addr(srv.l), &o, end_event, &e, &code);
    assert_non_null(e.c);
    turn_until(l, e.connected && srv.n);
    assert_string_equal(addr_ip_text(&srv.ends[0].c->remote, text).p, "127.0.0.9");
    getsockopt(conn_fd(e.c), IPPROTO_TCP, TCP_KEEPIDLE, &v, &n);
    assert_int_equal(v, 77);
    getsockopt(conn_fd(e.c), IPPROTO_TCP, TCP_KEEPCNT, &v, &n);
    assert_int_equal(v, 4);
    end_fini(&e);
    /* An address that is not ours. */
    assert_int_equal(addr_ip(&from, SV("192.0.2.1"), 0), 0);
    assert_null(conn_connect(l, net_listener_addr(srv.l), &o, end_event, &e, &code));
    assert_int_equal(code, E_UNREACHABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, up, down)
        T(request_and_response),
        T(half_close_from_both_sides),
        T(fin_right_behind_the_data),
        T(resets),
        T(refused),
        T(big_transfers_both_ways),
        T(pausing_pushes_back),
        T(peeking_takes_nothing),
        T(closing_inside_the_callback),
        T(unix_sockets),
        T(options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
