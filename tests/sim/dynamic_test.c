/* Listeners, clusters and routes that come, change and go while the proxy runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/envoy.pb.h"
#include "base/mem.h"
#include "given.h"
#include "stage.h"

/* ---- a source that the test speaks through ---- */

struct fake {
    struct given given;
    struct stage *s;
};

static const char *give(struct fake *f, enum config_type t, const char *name, const char *yaml)
{
    return given_put(&f->given, t, name, yaml);
}

static void take(struct fake *f, enum config_type t, const char *name)
{
    given_remove(&f->given, t, name);
}

static char *listener(const char *name, unsigned port, const char *server)
{
    struct strbuf b;
    strbuf_init(&b, 65536);
    strbuf_addf(&b,
                "{name: %s, address: {socket_address: {address: 0.0.0.0, port_value: %u}}, "
                "filter_chains: [{filters: [{name: hcm, typed_config: {\"@type\": "
                "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3."
                "HttpConnectionManager, stat_prefix: t, server_name: %s, rds: {route_config_name: "
                "r1, config_source: {ads: {}}}, http_filters: [{name: router, typed_config: "
                "{\"@type\": "
                "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}}]}]}",
                name, port, server);
    return strbuf_steal(&b, NULL);
}

static const char *give_listener(struct fake *f, const char *name, unsigned port,
                                 const char *server)
{
    char *text = listener(name, port, server);
    const char *why = give(f, CONFIG_LDS, name, text);
    free(text);
    return why;
}

static const char *give_routes(struct fake *f, const char *cluster)
{
    char text[512];
    snprintf(text, sizeof text,
             "{name: r1, virtual_hosts: [{name: v, domains: [\"*\"], routes: [{match: {prefix: /}, "
             "route: {cluster: %s}}]}]}",
             cluster);
    return give(f, CONFIG_RDS, "r1", text);
}

/* The proxy waits for its first clusters and listeners: the test answers while it starts. */
static void answer(void *arg)
{
    struct fake *f = arg;
    if (f->given.sink.update && strstr(f->given.log.p, "+CDS") && !strstr(f->given.log.p, "+LDS"))
        give(f, CONFIG_CDS, "dyn",
             "{name: dyn, connect_timeout: 1s, load_assignment: {cluster_name: dyn, endpoints: "
             "[{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.2, "
             "port_value: 9001}}}}]}]}}");
    else if (f->given.sink.update && strstr(f->given.log.p, "+LDS") &&
             !strstr(f->given.log.p, "+RDS"))
        assert_string_equal(give_listener(f, "l", 80, "one"), "");
    else if (strstr(f->given.log.p, "+RDS r1")) {
        assert_string_equal(give_routes(f, "dyn"), "");
        return;
    }
    sim_at(f->s->w->sim, sim_now(f->s->w->sim) + 10 * SIM_MS, answer, f);
}

static void up(struct stage *s, struct fake *f)
{
    char text[8192];
    stage_init(s, 3, NULL);
    given_init(&f->given);
    f->given.src.has_vhds = true;
    f->s = s;
    snprintf(text, sizeof text, "static_resources: {clusters: [%s]}", stage_clusters);
    sim_at(s->w->sim, sim_now(s->w->sim) + 10 * SIM_MS, answer, f);
    stage_start(s, text, &f->given.src);
}

static void down(struct stage *s, struct fake *f)
{
    stage_fini(s);
    given_fini(&f->given);
}

static void expect(struct stage *s, const char *text)
{
    char *got = raw_get(s, "/");
    if (!strstr(got, text))
        fail_msg("'%s' is not in:\n%s", text, got);
    free(got);
}

/* ---- tests ---- */

static void starts_in_order(void **state)
{
    struct stage s;
    struct fake f;
    up(&s, &f);
    assert_true(strstr(f.given.log.p, "+CDS") < strstr(f.given.log.p, "+LDS"));
    assert_true(strstr(f.given.log.p, "+LDS") < strstr(f.given.log.p, "+RDS r1"));
    expect(&s, "x-port: 9001");
    down(&s, &f);
}

static void routes_change_on_open_connections(void **state)
{
    struct stage s;
    struct fake f;
    struct raw c;
    up(&s, &f);
    raw_open(&c, &s, 80);
    raw_send(&c, "GET /1 HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_true(raw_wait(&c, "x-port: 9001", 1000));
    assert_string_equal(give_routes(&f, "b2"), "");
    stage_run(&s, 5);
    raw_send(&c, "GET /2 HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_true(raw_wait(&c, "x-port: 9002", 1000));
    assert_false(c.eof);
    raw_close(&c, false);
    down(&s, &f);
}

static void bad_routes_leave_the_good_ones(void **state)
{
    struct stage s;
    struct fake f;
    up(&s, &f);
    uint64_t since = stage_stat(&s, "http.t.rds.r1.update_time");
    uint64_t version = stage_stat(&s, "http.t.rds.r1.version");
    assert_true(since > 0);
    assert_int_equal(version, 0xb7b41276360564d4ull); /* XXH64("1"), as Envoy says */
    stage_run(&s, 5);
    assert_non_null(strstr(give(&f, CONFIG_RDS, "r1",
                                "{name: r1, virtual_hosts: [{name: v, domains: [\"*\"], routes: "
                                "[{match: {safe_regex: {regex: \"(\"}}, route: {cluster: b2}}]}]}"),
                           "regex"));
    stage_run(&s, 5);
    expect(&s, "x-port: 9001");
    assert_int_equal(stage_stat(&s, "http.t.rds.r1.update_rejected"), 1);
    assert_int_equal(stage_stat(&s, "http.t.rds.r1.update_time"), since);
    assert_int_equal(stage_stat(&s, "http.t.rds.r1.version"), version);
    down(&s, &f);
}

static void bad_listeners_leave_the_good_one(void **state)
{
    struct stage s;
    struct fake f;
    up(&s, &f);
    const char *why =
        give(&f, CONFIG_LDS, "l",
             "{name: l, address: {socket_address: {address: 0.0.0.0, port_value: "
             "80}}, filter_chains: [{filters: [{name: nope, typed_config: {\"@type\": "
             "type.googleapis.com/google.protobuf.Empty}}]}]}");
    assert_non_null(strstr(why, "listener 'l'.filter_chains[0].filters[0]"));
    assert_non_null(strstr(why, "google.protobuf.Empty"));
    stage_run(&s, 5);
    expect(&s, "server: one");
    down(&s, &f);
}

static void updates_keep_the_socket(void **state)
{
    struct stage s;
    struct fake f;
    struct raw old;
    up(&s, &f);
    raw_open(&old, &s, 80);
    raw_send(&old, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_true(raw_wait(&old, "server: one", 1000));
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "v%d", i);
        assert_string_equal(give_listener(&f, "l", 80, name), "");
        stage_run(&s, 2);
        snprintf(name, sizeof name, "server: v%d", i);
        expect(&s, name);
    }
    /* The old connection lives on, with the configuration it was accepted with. */
    raw_send(&old, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    stage_run(&s, 100);
    assert_false(old.error);
    assert_null(strstr(old.got.p, "server: v"));
    raw_close(&old, false);
    assert_int_equal(stage_stat(&s, "listener_manager.listener_in_place_updated"), 20);
    down(&s, &f);
}

static void a_new_name_takes_the_address_over(void **state)
{
    struct stage s;
    struct fake f;
    up(&s, &f);
    char *text = listener("other", 80, "two");
    struct arena a;
    struct error err = {0};
    void *m;
    arena_init(&a);
    assert_int_equal(pb_from_text(&envoy_Listener_pb, sv_of(text), "t", &a, NULL, &m, &err), 0);
    struct config_resource r = {.name = SV("other"),
                                .version = SV("2"),
                                .packed = pb_encode_arena(&envoy_Listener_pb, m, &a)};
    sv gone = SV("l");
    struct config_update u = {
        .type = CONFIG_LDS, .v = &r, .n = 1, .removed = &gone, .n_removed = 1};
    f.given.sink.update(f.given.sink.self, &u);
    assert_int_equal(r.refused.code, 0);
    arena_free(&a);
    free(text);
    stage_run(&s, 5);
    expect(&s, "server: two");
    down(&s, &f);
}

static void a_removed_listener_refuses(void **state)
{
    struct stage s;
    struct fake f;
    struct raw c;
    up(&s, &f);
    take(&f, CONFIG_LDS, "l");
    stage_run(&s, 50);
    raw_open(&c, &s, 80);
    stage_run(&s, 100);
    assert_true(c.error);
    raw_close(&c, false);
    assert_non_null(strstr(f.given.log.p, "-RDS r1"));
    down(&s, &f);
}

static void two_on_one_address_are_refused(void **state)
{
    struct stage s;
    struct fake f;
    up(&s, &f);
    assert_non_null(strstr(give_listener(&f, "second", 80, "x"), "is the one of listener 'l'"));
    expect(&s, "server: one");
    down(&s, &f);
}

/* Requests all the time, changes all the time: none fails. */
static void changes_under_load(void **state)
{
    struct stage s;
    struct fake f;
    struct raw c[8];
    char name[16], want[64];
    up(&s, &f);
    for (int i = 0; i < 8; i++)
        raw_open(&c[i], &s, 80);
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 8; i++) {
            strbuf_reset(&c[i].got);
            raw_send(&c[i], "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        }
        assert_string_equal(give_routes(&f, round % 2 ? "b1" : "b2"), "");
        if (round % 10 == 9) {
            snprintf(name, sizeof name, "s%d", round);
            give_listener(&f, "l", 80, name);
        }
        for (int i = 0; i < 8; i++) {
            snprintf(want, sizeof want, "x-port: 900");
            if (!raw_wait(&c[i], want, 2000))
                fail_msg("round %d client %d: %s", round, i, c[i].got.p);
            assert_non_null(strstr(c[i].got.p, "HTTP/1.1 200"));
            if (strstr(c[i].got.p, "connection: close")) {
                raw_close(&c[i], false);
                raw_open(&c[i], &s, 80);
            }
        }
    }
    for (int i = 0; i < 8; i++)
        raw_close(&c[i], false);
    down(&s, &f);
}

/* ---- virtual hosts on their own ---- */

/* A response of VHDS; domains NULL: the host is removed. */
struct vhost {
    const char *name, *domains, *cluster;
    char why[512]; /* of its refusal */
};

static void give_hosts(struct fake *f, struct vhost *v, uint32_t n)
{
    struct config_resource r[8];
    struct config_update u = {.type = CONFIG_VHDS, .version = SV("7"), .v = r};
    sv removed[8];
    struct arena a;
    struct error err = {0};
    void *m;
    uint32_t of[8];
    arena_init(&a);
    u.removed = removed;
    for (uint32_t i = 0; i < n; i++) {
        if (!v[i].domains) {
            removed[u.n_removed++] = sv_of(v[i].name);
            continue;
        }
        sv yaml = arena_printf(&a,
                               "{name: %s, domains: [%s], routes: [{match: {prefix: /}, route: "
                               "{cluster: %s}}]}",
                               v[i].name, v[i].domains, v[i].cluster);
        if (pb_from_text(&envoy_VirtualHost_pb, yaml, "test", &a, NULL, &m, &err) < 0)
            fail_msg("%s", err.msg);
        of[u.n] = i;
        r[u.n++] =
            (struct config_resource){.name = sv_of(v[i].name),
                                     .version = SV("1"),
                                     .packed = pb_encode_arena(&envoy_VirtualHost_pb, m, &a)};
    }
    f->given.sink.update(f->given.sink.self, &u);
    for (uint32_t i = 0; i < u.n; i++)
        snprintf(v[of[i]].why, sizeof v[of[i]].why, "%s",
                 r[i].refused.code ? r[i].refused.msg : "");
    arena_free(&a);
    stage_run(f->s, 5);
}

#define HOSTS(f, ...)                                                                              \
    give_hosts(f, (struct vhost[]){__VA_ARGS__},                                                   \
               sizeof(struct vhost[]){__VA_ARGS__} / sizeof(struct vhost))

static void ask(struct stage *s, const char *host, const char *want)
{
    struct raw c;
    char text[200];
    raw_open(&c, s, 80);
    snprintf(text, sizeof text, "GET / HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n\r\n", host);
    raw_send(&c, text);
    if (!raw_wait(&c, want, 2000))
        fail_msg("%s: '%s' is not in:\n%s", host, want, c.got.p);
    raw_close(&c, false);
}

#define APART "{name: r1, vhds: {config_source: {ads: {}, initial_fetch_timeout: 2s}}}"

static void hosts_come_change_and_go(void **state)
{
    struct stage s;
    struct fake f;
    up(&s, &f);
    assert_string_equal(give(&f, CONFIG_RDS, "r1", APART), "");
    stage_run(&s, 5);
    assert_non_null(strstr(f.given.log.p, "+VHDS r1"));
    expect(&s, "x-port: 9001"); /* what was in force, until the first hosts are there */
    HOSTS(&f, {"r1/a", "a.test", "b1"}, {"r1/b", "b.test", "b2"}, {"other/x", "x.test", "b2"});
    ask(&s, "a.test", "x-port: 9001");
    ask(&s, "b.test", "x-port: 9002");
    ask(&s, "x.test", "404");
    HOSTS(&f, {"r1/a", "a.test", "b2"});
    ask(&s, "a.test", "x-port: 9002");
    ask(&s, "b.test", "x-port: 9002");
    HOSTS(&f, {"r1/b", NULL, NULL}, {"r1/never", NULL, NULL});
    ask(&s, "b.test", "404");
    ask(&s, "a.test", "x-port: 9002");
    assert_int_equal(stage_stat(&s, "http.t.rds.vhds.r1.config_reload"), 3);
    assert_int_equal(stage_stat(&s, "http.t.rds.vhds.r1.update_success"), 3);
    assert_int_equal(stage_stat(&s, "http.t.rds.r1.config_reload"), 4); /* the table before them */
    /* Another configuration around them: they stay. Then one without. */
    assert_string_equal(
        give(&f, CONFIG_RDS, "r1",
             "{name: r1, vhds: {config_source: {ads: {}}}, response_headers_to_add: "
             "[{header: {key: x-new, value: y}}]}"),
        "");
    stage_run(&s, 5);
    ask(&s, "a.test", "x-new: y");
    assert_string_equal(give_routes(&f, "b1"), "");
    stage_run(&s, 5);
    assert_non_null(strstr(f.given.log.p, "-VHDS r1"));
    ask(&s, "b.test", "x-port: 9001");
    HOSTS(&f, {"r1/a", "a.test", "b2"}); /* it crossed the unsubscription */
    ask(&s, "a.test", "x-port: 9001");
    down(&s, &f);
}

static void a_bad_host_leaves_the_good_ones(void **state)
{
    struct stage s;
    struct fake f;
    up(&s, &f);
    give(&f, CONFIG_RDS, "r1", APART);
    HOSTS(&f, {"r1/a", "a.test", "b1"}, {"r1/b", "b.test", "b2"});
    struct vhost one[] = {{"r1/a", "a.test, '', c.test", "b2"}, {"r1/b", "b.test", "b1"}};
    give_hosts(&f, one, 2);
    assert_string_equal(one[0].why, "domains[1]: must not be empty");
    assert_string_equal(one[1].why, "");
    ask(&s, "a.test", "x-port: 9001");
    ask(&s, "b.test", "x-port: 9001");
    /* A domain that another one keeps; then the same when that one lets go of it. */
    struct vhost two[] = {{"r1/b", "'b.test', A.test", "b2"}};
    give_hosts(&f, two, 1);
    assert_non_null(
        strstr(two[0].why, "'A.test' of virtual host 'r1/b' belongs to virtual host 'r1/a'"));
    ask(&s, "b.test", "x-port: 9001");
    struct vhost move[] = {{"r1/b", "'b.test', A.test", "b2"}, {"r1/a", "c.test", "b1"}};
    give_hosts(&f, move, 2);
    assert_string_equal(move[0].why, "");
    ask(&s, "a.test", "x-port: 9002");
    ask(&s, "c.test", "x-port: 9001");
    /* The one that lets go is refused: so is the one that would take. */
    struct vhost chain[] = {{"r1/a", "c.test, a.test", "b1"}, {"r1/b", "'b.*.test'", "b2"}};
    give_hosts(&f, chain, 2);
    assert_true(chain[0].why[0] && chain[1].why[0]);
    ask(&s, "a.test", "x-port: 9002");
    ask(&s, "b.test", "x-port: 9002");
    struct vhost twice[] = {{"r1/c", "d.test", "b1"}, {"r1/c", "e.test", "b1"}};
    give_hosts(&f, twice, 2);
    assert_string_equal(twice[1].why, "comes twice in one response");
    ask(&s, "d.test", "x-port: 9001");
    assert_int_equal(stage_stat(&s, "http.t.rds.vhds.r1.update_rejected"), 4);
    /* A configuration that does not go together with the hosts is refused itself. */
    assert_non_null(
        strstr(give(&f, CONFIG_RDS, "r1",
                    "{name: r1, vhds: {config_source: {ads: {}}}, virtual_hosts: [{name: "
                    "own, domains: [a.test]}]}"),
               "belongs to virtual host 'own' (virtual_hosts[0]) already"));
    ask(&s, "a.test", "x-port: 9002");
    down(&s, &f);
}

/* Nothing comes: a table without its hosts is used when the time for them is over; told that there
 * are none, at once. */
static void hosts_that_do_not_come(void **state)
{
    struct stage s;
    struct fake f;
    up(&s, &f);
    give(&f, CONFIG_RDS, "r1", APART);
    stage_run(&s, 1900);
    expect(&s, "x-port: 9001");
    stage_run(&s, 200);
    expect(&s, "404");
    assert_int_equal(stage_stat(&s, "http.t.rds.vhds.r1.init_fetch_timeout"), 1);
    HOSTS(&f, {"r1/a", "a", "b2"}); /* late, and welcome */
    ask(&s, "a", "x-port: 9002");
    give_routes(&f, "b1");
    give(&f, CONFIG_RDS, "r1", APART);
    stage_run(&s, 5);
    expect(&s, "x-port: 9001");
    HOSTS(&f, {"r1", NULL, NULL});
    expect(&s, "404");
    down(&s, &f);
}

static void hosts_need_a_delta_stream(void **state)
{
    struct stage s;
    struct fake f;
    up(&s, &f);
    f.given.src.has_vhds = false;
    assert_non_null(strstr(give(&f, CONFIG_RDS, "r1", APART),
                           "route_config 'r1': vhds: virtual hosts on their own come over delta"));
    expect(&s, "x-port: 9001");
    down(&s, &f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_in_order),
        cmocka_unit_test(routes_change_on_open_connections),
        cmocka_unit_test(bad_routes_leave_the_good_ones),
        cmocka_unit_test(bad_listeners_leave_the_good_one),
        cmocka_unit_test(updates_keep_the_socket),
        cmocka_unit_test(a_new_name_takes_the_address_over),
        cmocka_unit_test(a_removed_listener_refuses),
        cmocka_unit_test(two_on_one_address_are_refused),
        cmocka_unit_test(changes_under_load),
        cmocka_unit_test(hosts_come_change_and_go),
        cmocka_unit_test(a_bad_host_leaves_the_good_ones),
        cmocka_unit_test(hosts_that_do_not_come),
        cmocka_unit_test(hosts_need_a_delta_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
