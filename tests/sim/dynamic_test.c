/* Listeners, clusters and routes that come, change and go while the proxy runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/envoy.pb.h"
#include "base/mem.h"
#include "stage.h"

/* ---- a source that the test speaks through ---- */

struct fake {
    struct config_source src;
    struct config_sink sink;
    struct stage *s;
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
    sim_at(f->s->w->sim, sim_now(f->s->w->sim) + 10 * SIM_MS, answer, f);
}

static void up(struct stage *s, struct fake *f)
{
    char text[8192];
    memset(f, 0, sizeof *f);
    stage_init(s, 3, NULL);
    f->src = (struct config_source){&fake_ops, f};
    f->s = s;
    strbuf_init(&f->log, 1u << 20);
    strbuf_add_c(&f->log, " ");
    snprintf(text, sizeof text, "static_resources: {clusters: [%s]}", stage_clusters);
    sim_at(s->w->sim, sim_now(s->w->sim) + 10 * SIM_MS, answer, f);
    stage_start(s, text, &f->src);
}

static void down(struct stage *s, struct fake *f)
{
    stage_fini(s);
    strbuf_fini(&f->log);
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
    assert_true(strstr(f.log.p, "+CDS") < strstr(f.log.p, "+LDS"));
    assert_true(strstr(f.log.p, "+LDS") < strstr(f.log.p, "+RDS r1"));
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
    assert_non_null(strstr(give(&f, CONFIG_RDS, "r1",
                                "{name: r1, virtual_hosts: [{name: v, domains: [\"*\"], routes: "
                                "[{match: {safe_regex: {regex: \"(\"}}, route: {cluster: b2}}]}]}"),
                           "regex"));
<<<<<<< HEAD:tests/sim/dynamic_test.c
    stage_run(&s, 5);
    expect(&s, "x-port: 9001");
    assert_int_equal(stage_stat(&s, "rds.r1.update_rejected"), 1);
    down(&s, &f);
=======
    world_run(&w, 5);
    expect(&w, "x-port: 9001");
    assert_int_equal(world_stat(&w, "http.t.rds.r1.update_rejected"), 1);
    down(&w, &f);
>>>>>>> 44318ef (proxy, route: virtual hosts over VHDS; tables share their virtual hosts, also the built ones, by reference):src/proxy/dynamic_test.c
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
    f.sink.update(f.sink.self, &u);
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
    assert_non_null(strstr(f.log.p, "-RDS r1"));
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
