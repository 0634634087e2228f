/* Listeners, clusters and routes that come, change and go while the proxy runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/envoy.pb.h"
#include "base/mem.h"
#include "proxy/sim_testlib.h"

/* ---- a source that the test speaks through ---- */

struct fake {
    struct config_source src;
    struct config_sink sink;
    struct world *w;
    struct strbuf log; /* "+RDS r1 -RDS r1 " */
};

static const char *const type_names[] = {
#define X(id, type, stats) #id,
    CONFIG_TYPES(X)
#undef X
};

static void note(struct fake *f, char sign, enum config_type t, sv name)
{
    strbuf_addf(&f->log, "%c%s %.*s ", sign, type_names[t], SV_ARG(name));
}

static void subscribe(void *self, enum config_type t, sv name)
{
    note(self, '+', t, name);
}

static void unsubscribe(void *self, enum config_type t, sv name)
{
    note(self, '-', t, name);
}

static void start(void *self, const struct config_sink *sink)
{
    ((struct fake *)self)->sink = *sink;
}

static void free_fake(void *self)
{
}

static const struct config_source_ops fake_ops = {subscribe, unsubscribe, start, free_fake};

/* Gives one resource; the reason of a refusal, or "". */
static const char *give(struct fake *f, enum config_type t, const char *name, const char *yaml)
{
    static const struct pb_message *const types[] = {
        [CONFIG_CDS] = &envoy_Cluster_pb,
        [CONFIG_EDS] = &envoy_ClusterLoadAssignment_pb,
        [CONFIG_LDS] = &envoy_Listener_pb,
        [CONFIG_RDS] = &envoy_RouteConfiguration_pb,
    };
    static char why[1024];
    struct arena a;
    struct error err = {0};
    void *m;
    arena_init(&a);
    if (pb_from_text(types[t], sv_of(yaml), "test", &a, NULL, &m, &err) < 0)
        fail_msg("%s", err.msg);
    struct config_resource r = {
        .name = sv_of(name), .version = SV("1"), .packed = pb_encode_arena(types[t], m, &a)};
    struct config_update u = {.type = t, .version = SV("1"), .v = &r, .n = 1};
    f->sink.update(f->sink.self, &u);
    snprintf(why, sizeof why, "%s", r.refused.code ? r.refused.msg : "");
    arena_free(&a);
    return why;
}

static void take(struct fake *f, enum config_type t, const char *name)
{
    sv removed = sv_of(name);
    struct config_update u = {.type = t, .version = SV("2"), .removed = &removed, .n_removed = 1};
    f->sink.update(f->sink.self, &u);
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
    if (f->sink.update && strstr(f->log.p, "+CDS") && !strstr(f->log.p, "+LDS"))
        give(f, CONFIG_CDS, "dyn",
             "{name: dyn, connect_timeout: 1s, load_assignment: {cluster_name: dyn, endpoints: "
             "[{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.2, "
             "port_value: 9001}}}}]}]}}");
    else if (f->sink.update && strstr(f->log.p, "+LDS") && !strstr(f->log.p, "+RDS"))
        assert_string_equal(give_listener(f, "l", 80, "one"), "");
    else if (strstr(f->log.p, "+RDS r1")) {
        assert_string_equal(give_routes(f, "dyn"), "");
        return;
    }
    sim_at(f->w->sim, sim_now(f->w->sim) + 10 * SIM_MS, answer, f);
}

static void up(struct world *w, struct fake *f)
{
    char text[8192];
    memset(f, 0, sizeof *f);
    world_init(w, 3, NULL);
    f->src = (struct config_source){&fake_ops, f};
    f->w = w;
    strbuf_init(&f->log, 1u << 20);
    strbuf_add_c(&f->log, " ");
    snprintf(text, sizeof text, "static_resources: {clusters: [%s]}", world_clusters);
    sim_at(w->sim, sim_now(w->sim) + 10 * SIM_MS, answer, f);
    world_start(w, text, &f->src);
}

static void down(struct world *w, struct fake *f)
{
    world_fini(w);
    strbuf_fini(&f->log);
}

static void expect(struct world *w, const char *text)
{
    char *got = client_get(w, "/");
    if (!strstr(got, text))
        fail_msg("'%s' is not in:\n%s", text, got);
    free(got);
}

/* ---- tests ---- */

static void starts_in_order(void **state)
{
    struct world w;
    struct fake f;
    up(&w, &f);
    assert_true(strstr(f.log.p, "+CDS") < strstr(f.log.p, "+LDS"));
    assert_true(strstr(f.log.p, "+LDS") < strstr(f.log.p, "+RDS r1"));
    expect(&w, "x-port: 9001");
    down(&w, &f);
}

static void routes_change_on_open_connections(void **state)
{
    struct world w;
    struct fake f;
    struct client c;
    up(&w, &f);
    client_open(&c, &w, 80);
    client_send(&c, "GET /1 HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_true(client_wait(&c, "x-port: 9001", 1000));
    assert_string_equal(give_routes(&f, "b2"), "");
    world_run(&w, 5);
    client_send(&c, "GET /2 HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_true(client_wait(&c, "x-port: 9002", 1000));
    assert_false(c.eof);
    client_close(&c, false);
    down(&w, &f);
}

static void bad_routes_leave_the_good_ones(void **state)
{
    struct world w;
    struct fake f;
    up(&w, &f);
    assert_non_null(strstr(give(&f, CONFIG_RDS, "r1",
                                "{name: r1, virtual_hosts: [{name: v, domains: [\"*\"], routes: "
                                "[{match: {safe_regex: {regex: \"(\"}}, route: {cluster: b2}}]}]}"),
                           "regex"));
    world_run(&w, 5);
    expect(&w, "x-port: 9001");
    assert_int_equal(world_stat(&w, "rds.r1.update_rejected"), 1);
    down(&w, &f);
}

static void bad_listeners_leave_the_good_one(void **state)
{
    struct world w;
    struct fake f;
    up(&w, &f);
    const char *why =
        give(&f, CONFIG_LDS, "l",
             "{name: l, address: {socket_address: {address: 0.0.0.0, port_value: "
             "80}}, filter_chains: [{filters: [{name: nope, typed_config: {\"@type\": "
             "type.googleapis.com/google.protobuf.Empty}}]}]}");
    assert_non_null(strstr(why, "listener 'l'.filter_chains[0].filters[0]"));
    assert_non_null(strstr(why, "google.protobuf.Empty"));
    world_run(&w, 5);
    expect(&w, "server: one");
    down(&w, &f);
}

static void updates_keep_the_socket(void **state)
{
    struct world w;
    struct fake f;
    struct client old;
    up(&w, &f);
    client_open(&old, &w, 80);
    client_send(&old, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_true(client_wait(&old, "server: one", 1000));
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "v%d", i);
        assert_string_equal(give_listener(&f, "l", 80, name), "");
        world_run(&w, 2);
        snprintf(name, sizeof name, "server: v%d", i);
        expect(&w, name);
    }
    /* The old connection lives on, with the configuration it was accepted with. */
    client_send(&old, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    world_run(&w, 100);
    assert_false(old.error);
    assert_null(strstr(old.got.p, "server: v"));
    client_close(&old, false);
    assert_int_equal(world_stat(&w, "listener_manager.listener_in_place_updated"), 20);
    down(&w, &f);
}

static void a_new_name_takes_the_address_over(void **state)
{
    struct world w;
    struct fake f;
    up(&w, &f);
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
    f.sink.update(f.sink.self, &u);
    assert_int_equal(r.refused.code, 0);
    arena_free(&a);
    free(text);
    world_run(&w, 5);
    expect(&w, "server: two");
    down(&w, &f);
}

static void a_removed_listener_refuses(void **state)
{
    struct world w;
    struct fake f;
    struct client c;
    up(&w, &f);
    take(&f, CONFIG_LDS, "l");
    world_run(&w, 50);
    client_open(&c, &w, 80);
    world_run(&w, 100);
    assert_true(c.error);
    client_close(&c, false);
    assert_non_null(strstr(f.log.p, "-RDS r1"));
    down(&w, &f);
}

static void two_on_one_address_are_refused(void **state)
{
    struct world w;
    struct fake f;
    up(&w, &f);
    assert_non_null(strstr(give_listener(&f, "second", 80, "x"), "is the one of listener 'l'"));
    expect(&w, "server: one");
    down(&w, &f);
}

/* Requests all the time, changes all the time: none fails. */
static void changes_under_load(void **state)
{
    struct world w;
    struct fake f;
    struct client c[8];
    char name[16], want[64];
    up(&w, &f);
    for (int i = 0; i < 8; i++)
        client_open(&c[i], &w, 80);
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 8; i++) {
            strbuf_reset(&c[i].got);
            client_send(&c[i], "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        }
        assert_string_equal(give_routes(&f, round % 2 ? "b1" : "b2"), "");
        if (round % 10 == 9) {
            snprintf(name, sizeof name, "s%d", round);
            give_listener(&f, "l", 80, name);
        }
        for (int i = 0; i < 8; i++) {
            snprintf(want, sizeof want, "x-port: 900");
            if (!client_wait(&c[i], want, 2000))
                fail_msg("round %d client %d: %s", round, i, c[i].got.p);
            assert_non_null(strstr(c[i].got.p, "HTTP/1.1 200"));
            if (strstr(c[i].got.p, "connection: close")) {
                client_close(&c[i], false);
                client_open(&c[i], &w, 80);
            }
        }
    }
    for (int i = 0; i < 8; i++)
        client_close(&c[i], false);
    down(&w, &f);
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
