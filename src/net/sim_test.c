#include "net/sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "base/mem.h"
#include "net/resolver.h"
#include "net/udp.h"
#include "net/net_fixture.h"

#define A "10.0.0.1"
#define B "10.0.0.2"

static struct sim *s;
static struct loop *la, *lb;
static struct server srv;
static struct end e;

static void start(uint64_t seed)
{
    s = sim_new(seed);
    la = loop_new(sim_host(s, A));
    lb = loop_new(sim_host(s, B));
    server_init(&srv, lb, "0.0.0.0:80");
    end_init(&e);
}

static void finish(void)
{
    end_fini(&e);
    server_fini(&srv);
    sim_run_idle(s);
    loop_free(la);
    loop_free(lb);
    assert_int_equal(sim_open_sockets(s, A) + sim_open_sockets(s, B), 0);
    sim_free(s);
    assert_int_equal(buf_pool_blocks_in_use(), 0);
}

static void dial(const char *to)
{
    struct addr a;
    int code = 0;
    assert_int_equal(to[0] == '/' ? addr_unix(&a, sv_of(to)) : addr_parse(&a, sv_of(to)), 0);
    e.c = conn_connect(la, &a, NULL, end_event, &e, &code);
    assert_non_null(e.c);
}

static bool is_up(void *arg)
{
    return e.connected && srv.n;
}

static void up(uint64_t seed)
{
    start(seed);
    dial(B ":80");
    assert_true(sim_run_while(s, is_up, NULL, SIM_SECOND));
}

/* ---- time ---- */

static struct timer timers[3];
static uint64_t fired_at[3];
static void on_timer(struct timer *t)
{
    fired_at[t - timers] = loop_now_ns(t->loop);
}

static void the_clock_jumps(void **state)
{
    start(1);
    uint64_t begin = sim_now(s);
    for (int i = 0; i < 3; i++)
        timer_init(&timers[i], i == 1 ? lb : la, on_timer);
    timer_set(&timers[0], 3600 * 1000);
    timer_set(&timers[1], 10);
    timer_set(&timers[2], 30 * 24 * 3600 * 1000ull);
    sim_run_for(s, 20 * SIM_MS);
    assert_int_equal(sim_now(s), begin + 20 * SIM_MS);
    assert_in_range(fired_at[1], begin + 10 * SIM_MS, begin + 11 * SIM_MS);
    assert_int_equal(fired_at[0], 0);
    sim_run_for(s, 31 * 24 * 3600 * SIM_SECOND);
    assert_in_range(fired_at[0], begin + 3600 * SIM_SECOND, begin + 3601 * SIM_SECOND);
    assert_true(fired_at[2] > fired_at[0]);
    assert_true(loop_wall_ns(la) > 1767225600ull * SIM_SECOND);
    finish();
}

static int posted;
static void on_post(void *arg)
{
    posted++;
    if (arg)
        loop_stop(arg);
}

static void posts_cross_loops_and_stop_ends_them(void **state)
{
    start(1);
    posted = 0;
    loop_post(la, on_post, NULL);
    assert_true(sim_run_idle(s));
    assert_int_equal(posted, 1);
    loop_post(la, on_post, la);
    loop_post(lb, on_post, NULL);
    sim_run_for(s, SIM_SECOND);
    assert_int_equal(posted, 3);
    loop_post(la, on_post, NULL); /* no more turns for this one */
    sim_run_for(s, SIM_SECOND);
    assert_int_equal(posted, 3);
    finish();
}

static int scripted;
static void on_script(void *arg)
{
    scripted = (int)(sim_now(s) / SIM_MS);
}

static void scripts_run_at_their_time(void **state)
{
    start(1);
    sim_at(s, 1500 * SIM_MS, on_script, NULL);
    sim_at(s, 9999 * SIM_SECOND, on_script, NULL); /* never comes */
    sim_run_for(s, SIM_SECOND);
    assert_int_equal(scripted, 1500);
    finish();
}

/* ---- connections ---- */

static void bytes_go_both_ways(void **state)
{
    up(3);
    struct end *b = &srv.ends[0];
    char text[ADDR_TEXT_MAX];
    assert_string_equal(addr_ip_text(&b->c->remote, text).p, A);
    assert_string_equal(addr_text(conn_local(b->c), text).p, B ":80");
    assert_string_equal(addr_ip_text(conn_local(e.c), text).p, A);
    assert_int_equal(conn_fd(e.c), -1);
    buf_append_sv(&e.out, SV("ping"));
    assert_int_equal(end_flush(&e), 4);
    assert_true(sim_run_idle(s));
    assert_int_equal(b->in.len, 4);
    buf_append_sv(&b->out, SV("pong!"));
    end_flush(b);
    b->close_on_eof = e.close_on_eof = false;
    assert_int_equal(conn_shutdown_write(b->c), 0);
    assert_true(sim_run_idle(s));
    assert_int_equal(e.in.len, 5);
    assert_true(e.eof && !b->eof);
    buf_append_sv(&e.out, SV("more"));
    end_flush(&e);
    conn_shutdown_write(e.c);
    assert_true(sim_run_idle(s));
    assert_int_equal(b->in.len, 8);
    assert_true(b->eof);
    finish();
}

/* Every byte arrives, in order, whatever the buffers, segments and delays are. */
static void transfers_under_many_seeds(void **state)
{
    enum { N = 300000 };
    char *data = malloc(N);
    struct rand_state r;
    rand_seed(&r, 9);
    for (int i = 0; i < N; i++)
        data[i] = (char)rand_u64(&r);
    int blocked = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        up(seed);
        struct end *b = &srv.ends[0];
        size_t n = 1 + rand_below(sim_rand(s), N), m = 1 + rand_below(sim_rand(s), N);
        e.most = seed % 3 ? 0 : 1000;
        buf_append(&e.out, data, n);
        buf_append(&b->out, data, m);
        end_flush(&e);
        end_flush(b);
        blocked += e.out.len > 0;
        assert_true(sim_run_idle(s));
        assert_int_equal(b->in.len, n);
        assert_int_equal(e.in.len, m);
        assert_memory_equal(buf_pullup(&b->in, n).p, data, n);
        assert_memory_equal(buf_pullup(&e.in, m).p, data, m);
        end_close(&e, false);
        assert_true(sim_run_idle(s));
        assert_true(b->eof && b->error == 0);
        finish();
    }
    assert_true(blocked > 10);
    free(data);
}

static void a_reader_that_pauses_stops_the_writer(void **state)
{
    start(4);
    sim_set_buffer(s, 10000);
    dial(B ":80");
    assert_true(sim_run_while(s, is_up, NULL, SIM_SECOND));
    struct end *b = &srv.ends[0];
    b->reads = false;
    char *data = calloc(1, 50000);
    buf_append(&e.out, data, 50000);
    free(data);
    assert_int_equal(end_flush(&e), 10000);
    assert_int_equal(end_flush(&e), 0);
    assert_true(sim_run_idle(s));
    assert_int_equal(e.out.len, 40000);
    b->reads = true;
    conn_kick(b->c);
    assert_true(sim_run_idle(s));
    assert_int_equal(b->in.len, 50000);
    finish();
}

static void refused_and_lost(void **state)
{
    start(5);
    dial(B ":81");
    assert_true(sim_run_idle(s));
    assert_int_equal(e.error, E_REFUSED);
    end_init(&e);
    dial("10.9.9.9:80"); /* nobody has that address */
    sim_run_for(s, 100 * SIM_SECOND);
    assert_int_equal(e.error, 0);
    sim_run_for(s, 100 * SIM_SECOND);
    assert_int_equal(e.error, E_TIMEOUT);
    finish();
}

static void resets(void **state)
{
    int early = 0;
    for (uint64_t seed = 1; seed < 20; seed++) {
        up(seed);
        struct end *b = &srv.ends[0];
        buf_append_sv(&e.out, SV("last words"));
        end_flush(&e);
        end_close(&e, true);
        assert_true(sim_run_idle(s));
        assert_int_equal(b->error, E_RESET);
        early += b->in.len == 10;
        finish();
    }
    assert_in_range(early, 1, 18); /* some lost what was in flight, some did not */
    /* Closing with unread bytes resets, too. */
    up(7);
    struct end *b = &srv.ends[0];
    b->reads = false;
    buf_append_sv(&e.out, SV("unread"));
    end_flush(&e);
    assert_true(sim_run_idle(s));
    end_close(b, false);
    assert_true(sim_run_idle(s));
    assert_int_equal(e.error, E_RESET);
    finish();
    /* Writing to who is gone. */
    up(8);
    b = &srv.ends[0];
    e.close_on_eof = false;
    end_close(b, false);
    assert_true(sim_run_idle(s));
    assert_true(e.eof && !e.error);
    buf_append_sv(&e.out, SV("hello?"));
    assert_int_equal(end_flush(&e), 6);
    assert_true(sim_run_idle(s));
    assert_int_equal(e.error, E_CLOSED);
    finish();
    /* Somebody in the middle. */
    up(9);
    b = &srv.ends[0];
    assert_int_equal(sim_reset_connections(s, A, NULL), 1);
    assert_true(sim_run_idle(s));
    assert_int_equal(e.error, E_RESET);
    assert_int_equal(b->error, E_RESET);
    finish();
}

static void a_full_backlog_makes_clients_wait(void **state)
{
    start(6);
    struct listen_opts o = {.backlog = 1};
    struct addr a;
    struct error err = {0};
    addr_parse(&a, SV("0.0.0.0:90"));
    struct net_listener *n = net_listener_new(lb, &a, &o, NULL, NULL, &err);
    dial(B ":90");
    sim_run_for(s, 10 * SIM_MS);
    assert_int_equal(e.connected, 1); /* in the backlog */
    struct end one = e;
    conn_set_owner(one.c, end_event, &one);
    end_init(&e);
    dial(B ":90");
    sim_run_for(s, 500 * SIM_MS);
    assert_int_equal(e.connected, 0);
    net_listener_free(n); /* resets the first, refuses the second's next try */
    sim_run_for(s, 5 * SIM_SECOND);
    assert_int_equal(one.error, E_RESET);
    assert_int_equal(e.error, E_REFUSED);
    finish();
}

/* ---- faults ---- */

static void partitions_delay_and_heal(void **state)
{
    up(10);
    struct end *b = &srv.ends[0];
    sim_partition(s, A, B);
    buf_append_sv(&e.out, SV("through"));
    end_flush(&e);
    sim_run_for(s, 10 * SIM_SECOND);
    assert_int_equal(b->in.len, 0);
    sim_heal(s, B, A);
    sim_run_for(s, 30 * SIM_SECOND);
    assert_int_equal(b->in.len, 7);
    /* For ever: the writer is told after a quarter of an hour, the silent reader never. */
    sim_partition(s, A, B);
    buf_append_sv(&e.out, SV("never"));
    end_flush(&e);
    sim_run_for(s, 600 * SIM_SECOND);
    assert_int_equal(e.error, 0);
    sim_run_for(s, 600 * SIM_SECOND);
    assert_int_equal(e.error, E_TIMEOUT);
    assert_int_equal(b->error, 0);
    sim_heal(s, A, B);
    end_init(&e);
    dial(B ":80");
    sim_run_for(s, SIM_SECOND);
    assert_int_equal(e.connected, 1);
    finish();
}

static void killed_hosts_fall_silent(void **state)
{
    up(11);
    struct end *b = &srv.ends[0];
    sim_kill_host(s, B);
    sim_run_for(s, 60 * SIM_SECOND);
    assert_int_equal(e.error, 0);
    assert_false(e.eof);
    sim_revive_host(s, B);
    /* The new life knows nothing of the connection. */
    buf_append_sv(&e.out, SV("still there?"));
    end_flush(&e);
    sim_run_for(s, 60 * SIM_SECOND);
    assert_int_equal(e.error, E_RESET);
    /* Nor of the port. */
    end_init(&e);
    dial(B ":80");
    sim_run_for(s, SIM_SECOND);
    assert_int_equal(e.error, E_REFUSED);
    /* Until somebody listens again. */
    end_init(&e);
    struct loop *again = loop_new(sim_host(s, B));
    struct server srv2;
    server_init(&srv2, again, "0.0.0.0:80");
    dial(B ":80");
    sim_run_for(s, SIM_SECOND);
    assert_int_equal(e.connected, 1);
    assert_int_equal(srv2.n, 1);
    assert_int_equal(b->reads_n + b->errors_n, 0);
    server_fini(&srv2);
    loop_free(again);
    finish();
}

static void crashed_hosts_reset(void **state)
{
    up(12);
    sim_crash_host(s, B);
    sim_run_for(s, SIM_SECOND);
    assert_int_equal(e.error, E_RESET);
    end_init(&e);
    dial(B ":80");
    sim_run_for(s, SIM_SECOND);
    assert_int_equal(e.error, E_REFUSED);
    finish();
}

/* ---- the rest of a host ---- */

static void interception(void **state)
{
    static const uint16_t not_in[] = {15021, 0};
    char text[ADDR_TEXT_MAX];
    struct sock_opts own = {.mark = 1337};
    struct server out, in;
    struct addr to;
    struct end x;
    int code = 0;
    start(13);
    sim_intercept(s, A, 15001, 1337, 0, NULL);
    sim_intercept(s, B, 0, 0, 15006, not_in);
    server_init(&out, la, "127.0.0.1:15001");
    server_init(&in, lb, "0.0.0.0:15006");
    dial("10.77.0.1:8080");
    assert_true(sim_run_idle(s));
    assert_int_equal(e.connected, 1);
    assert_int_equal(out.n, 1);
    assert_int_equal(conn_original_dst(out.ends[0].c), 0);
    assert_string_equal(addr_text(&out.ends[0].c->original_dst, text).p, "10.77.0.1:8080");
    assert_int_equal(conn_original_dst(e.c), E_NOT_FOUND);
    /* The proxy's own connection goes through, and into the other's inbound port. */
    end_init(&x);
    addr_parse(&to, SV(B ":80"));
    x.c = conn_connect(la, &to, &own, end_event, &x, &code);
    assert_true(sim_run_idle(s));
    assert_int_equal(in.n, 1);
    assert_int_equal(srv.n, 0);
    assert_int_equal(conn_original_dst(in.ends[0].c), 0);
    assert_string_equal(addr_text(&in.ends[0].c->original_dst, text).p, B ":80");
    end_fini(&x);
    /* Excluded: straight to the port, where nobody listens. */
    end_init(&x);
    addr_parse(&to, SV(B ":15021"));
    x.c = conn_connect(la, &to, &own, end_event, &x, &code);
    assert_true(sim_run_idle(s));
    assert_int_equal(x.error, E_REFUSED);
    end_fini(&x);
    /* From its own host: not redirected. */
    end_init(&x);
    addr_parse(&to, SV("127.0.0.1:80"));
    x.c = conn_connect(lb, &to, NULL, end_event, &x, &code);
    assert_true(sim_run_idle(s));
    assert_int_equal(srv.n, 1);
    end_fini(&x);
    server_fini(&out);
    server_fini(&in);
    finish();
}

static void addresses_and_ports(void **state)
{
    struct error err = {0};
    struct addr a;
    char text[ADDR_TEXT_MAX];
    start(14);
    sim_host_add_ip(s, B, "fd00::2");
    sim_host_add_ip(s, A, "fd00::1");
    addr_parse(&a, SV("0.0.0.0:80"));
    assert_null(net_listener_new(lb, &a, NULL, NULL, NULL, &err));
    assert_int_equal(err.code, E_EXISTS);
    addr_parse(&a, SV("10.0.0.7:81"));
    assert_null(net_listener_new(lb, &a, NULL, NULL, NULL, &err));
    assert_int_equal(err.code, E_UNREACHABLE);
    struct server six;
    server_init(&six, lb, "[::]:81");
    dial("[fd00::2]:81");
    assert_true(sim_run_idle(s));
    assert_int_equal(six.n, 1);
    assert_string_equal(addr_ip_text(&six.ends[0].c->remote, text).p, "fd00::1");
    end_fini(&e);
    end_init(&e);
    dial(B ":81"); /* "::" takes IPv4, too */
    assert_true(sim_run_idle(s));
    assert_int_equal(six.n, 2);
    end_fini(&e);
    end_init(&e);
    struct server path;
    server_init(&path, la, "/run/x.sock");
    dial("/run/x.sock");
    assert_true(sim_run_idle(s));
    assert_int_equal(path.n, 1);
    end_fini(&e);
    end_init(&e);
    sim_set_fd_limit(s, B, 2); /* the listeners */
    dial(B ":80");
    sim_run_for(s, SIM_SECOND);
    assert_int_equal(srv.n, 0);
    assert_true(net_listener_failures(srv.l) > 2);
    sim_set_fd_limit(s, B, 0);
    sim_run_for(s, 2 * SIM_SECOND);
    assert_int_equal(srv.n, 1);
    server_fini(&six);
    server_fini(&path);
    finish();
}

static int datagrams;
static void on_datagram(void *user, const char *p, size_t n, const struct addr *from)
{
    struct udp_sock **echo = user;
    datagrams++;
    assert_int_equal(n, 5);
    if (echo)
        udp_send(*echo, from, p, n);
}

static void datagrams_arrive_or_get_lost(void **state)
{
    struct error err = {0};
    struct addr a;
    start(15);
    datagrams = 0;
    addr_parse(&a, SV("0.0.0.0:53"));
    struct udp_sock *server, *client;
    server = udp_new(lb, &a, on_datagram, &server, &err);
    assert_non_null(server);
    addr_parse(&a, SV("0.0.0.0:0"));
    client = udp_new(la, &a, on_datagram, NULL, &err);
    addr_parse(&a, SV(B ":53"));
    for (int i = 0; i < 100; i++)
        assert_int_equal(udp_send(client, &a, "hello", 5), 0);
    assert_true(sim_run_idle(s));
    assert_int_equal(datagrams, 200);
    sim_set_loss(s, 0.5);
    for (int i = 0; i < 100; i++)
        udp_send(client, &a, "hello", 5);
    assert_true(sim_run_idle(s));
    assert_in_range(datagrams, 240, 320);
    sim_set_loss(s, 0);
    sim_partition(s, A, B);
    int before = datagrams;
    udp_send(client, &a, "hello", 5);
    assert_true(sim_run_idle(s));
    assert_int_equal(datagrams, before);
    udp_send(client, &a, "hello", 5); /* still on its way when all ends */
    udp_free(client);
    udp_free(server);
    finish();
}

static int resolved;
static void on_resolved(void *user, int code, const struct addr *addrs, size_t n, uint32_t ttl_s)
{
    resolved = (int)n;
}

static void names_from_a_table(void **state)
{
    static const char *const table[] = {"b.test=" B};
    start(16);
    struct resolver *r = resolver_new_static(la, table, 1);
    resolve_start(r, SV("b.test"), RESOLVE_AUTO, on_resolved, NULL);
    assert_true(sim_run_idle(s));
    assert_int_equal(resolved, 1);
    resolver_free(r);
    struct error err = {0};
    assert_null(file_watch_new(la, "/tmp", NULL, NULL, &err));
    assert_int_equal(err.code, E_UNSUPPORTED);
    finish();
}

/* ---- the same again ---- */

static uint64_t chatter(uint64_t seed)
{
    struct end clients[8];
    start(seed);
    for (int i = 0; i < 8; i++) {
        struct addr a;
        int code;
        end_init(&clients[i]);
        addr_parse(&a, SV(B ":80"));
        clients[i].c = conn_connect(la, &a, NULL, end_event, &clients[i], &code);
    }
    sim_run_for(s, 20 * SIM_MS);
    assert_int_equal(srv.n, 8);
    for (int round = 0; round < 20; round++) {
        size_t k = rand_below(sim_rand(s), 8);
        struct end *x = rand_below(sim_rand(s), 2) ? &clients[k] : &srv.ends[k];
        char data[5000] = {0};
        if (x->c) {
            buf_append(&x->out, data, 1 + rand_below(sim_rand(s), sizeof data));
            end_flush(x);
        }
        if (round == 10)
            sim_reset_connections(s, A, B);
        sim_run_for(s, rand_below(loop_rand(la), 2 * SIM_MS));
    }
    for (int i = 0; i < 8; i++)
        end_fini(&clients[i]);
    uint64_t hash = sim_trace_hash(s);
    finish();
    return hash;
}

static void one_seed_one_order(void **state)
{
    uint64_t seen[20];
    for (uint64_t seed = 0; seed < 20; seed++) {
        seen[seed] = chatter(seed);
        assert_true(chatter(seed) == seen[seed]);
        for (uint64_t i = 0; i < seed; i++)
            assert_true(seen[i] != seen[seed]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_clock_jumps),
        cmocka_unit_test(posts_cross_loops_and_stop_ends_them),
        cmocka_unit_test(scripts_run_at_their_time),
        cmocka_unit_test(bytes_go_both_ways),
        cmocka_unit_test(transfers_under_many_seeds),
        cmocka_unit_test(a_reader_that_pauses_stops_the_writer),
        cmocka_unit_test(refused_and_lost),
        cmocka_unit_test(resets),
        cmocka_unit_test(a_full_backlog_makes_clients_wait),
        cmocka_unit_test(partitions_delay_and_heal),
        cmocka_unit_test(killed_hosts_fall_silent),
        cmocka_unit_test(crashed_hosts_reset),
        cmocka_unit_test(interception),
        cmocka_unit_test(addresses_and_ports),
        cmocka_unit_test(datagrams_arrive_or_get_lost),
        cmocka_unit_test(names_from_a_table),
        cmocka_unit_test(one_seed_one_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
