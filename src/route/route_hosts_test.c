/* Virtual hosts that come on their own: tables share them. */
#include "route/route_int.h"
#include "route/route_test.h"

static int host(const struct route_table *base, const char *name, const char *yaml,
                struct route_hosts **out)
{
    const void *m = from_yaml(&envoy_VirtualHost_pb, yaml);
    return route_hosts_build(base, sv_of(name), pb_encode_arena(&envoy_VirtualHost_pb, m, &a), NULL,
                             out, &err);
}

static struct route_hosts *good(const struct route_table *base, const char *name,
                                const char *domain, const char *cluster)
{
    struct route_hosts *h = NULL;
    char yaml[500];
    snprintf(yaml, sizeof yaml,
             "{name: %s, domains: ['%s'], routes: [{match: {prefix: /}, route: {cluster: %s}}]}",
             name, domain, cluster);
    if (host(base, name, yaml, &h) != 0)
        fail_msg("%s", err.msg);
    return h;
}

static struct route_table *extend(const struct route_table *base, struct route_hosts **v,
                                  uint32_t n)
{
    struct route_table *t = NULL;
    uint32_t culprit;
    if (route_table_extend(base, v, n, &t, &culprit, &err) != 0)
        fail_msg("%s", err.msg);
    return t;
}

#define BASE                                                                                       \
    "{name: r, vhds: {config_source: {ads: {}}}, response_headers_to_add: [{header: {key: x, "     \
    "value: y}}], virtual_hosts: [{name: own, domains: [own.test], routes: [{match: {prefix: /}, " \
    "route: {cluster: own}}]}]}"

/* What did not change is the same object in the table that follows, built form and all. */
static void test_shared(void **state)
{
    struct route_table *base = table(BASE), *one, *two;
    struct route_hosts *v[2] = {good(base, "r/a", "a.test", "a1"),
                                good(base, "r/b", "b.test", "b1")};
    const struct route_vhost *own, *a1, *b1;
    struct route_match m;

    one = extend(base, v, 2);
    assert_int_equal(route_table_vhosts(one), 3);
    assert_int_equal(route_table_built_vhosts(one), 0);
    m = match(one, "GET a.test /");
    assert_sv(m.cluster, "a1");
    a1 = m.vhost;
    own = match(one, "GET own.test /").vhost;
    b1 = match(one, "GET b.test /").vhost;
    assert_non_null(own);
    route_hosts_unref(v[0]);
    v[0] = good(base, "r/a", "a.test", "a2");
    two = extend(base, v, 2);
    assert_int_equal(route_table_built_vhosts(two), 2); /* own and b */
    m = match(two, "GET a.test /");
    assert_sv(m.cluster, "a2");
    assert_ptr_not_equal(m.vhost, a1);
    assert_ptr_equal(match(two, "GET b.test /").vhost, b1);
    assert_ptr_equal(match(two, "GET own.test /").vhost, own);
    assert_sv(match(one, "GET a.test /").cluster, "a1"); /* whoever began with it goes on */
    /* Each lives as long as somebody has it. */
    route_table_unref(base);
    route_table_unref(one);
    route_hosts_unref(v[0]);
    route_hosts_unref(v[1]);
    m = match(two, "GET b.test /");
    assert_sv(m.cluster, "b1");
    struct http_head resp;
    http_head_init(&resp, &a);
    route_match_response(&m, &resp, NULL, &a);
    assert_non_null(strstr(dump(&resp), "x: y"));
    route_table_unref(two);
}

static void test_refused(void **state)
{
    struct route_table *base = table(BASE), *t = NULL;
    struct route_hosts *h = NULL, *v[3];
    uint32_t culprit = 99;

    assert_true(host(base, "r/a",
                     "{name: v, domains: [a], routes: [{match: {prefix: /}, route: {}}]}", &h) < 0);
    assert_int_equal(strncmp(err.msg, "routes[0].route", 15), 0);
    assert_true(host(base, "r/a", "{name: v}", &h) < 0);
    assert_string_equal(err.msg, "domains: must not be empty");
    assert_true(route_hosts_build(base, SV("r/a"), SV("\xff"), NULL, &h, &err) < 0);
    assert_null(h);
    v[0] = good(base, "r/a", "a.test", "a");
    v[1] = good(base, "r/b", "b.test", "b");
    v[2] = good(base, "r/c", "A.test", "c");
    assert_true(route_table_extend(base, v, 3, &t, &culprit, &err) < 0);
    assert_int_equal(culprit, 2);
    assert_string_equal(err.msg,
                        "domains[0]: 'A.test' of virtual host 'r/c' belongs to virtual host "
                        "'r/a' already");
    route_hosts_unref(v[1]);
    v[1] = good(base, "r/b", "own.test", "b");
    assert_true(route_table_extend(base, v, 2, &t, &culprit, &err) < 0);
    assert_int_equal(culprit, 1);
    assert_non_null(strstr(err.msg, "'own' (virtual_hosts[0]) already"));
    assert_null(t);
    for (int i = 0; i < 3; i++)
        route_hosts_unref(v[i]);
    route_table_unref(base);
}

/* As config_dump shows it: one configuration. */
static void test_whole(void **state)
{
    struct route_table *base = table(BASE), *t;
    struct route_hosts *v[2];
    char longer[300] = {0};
    void *m;

    memset(longer, 'l', sizeof longer - 1);
    v[0] = good(base, "r/a", "a.test", "a");
    v[1] = good(base, "r/b", "b.test", longer);
    t = extend(base, v, 2);
    assert_int_equal(
        pb_decode(&envoy_RouteConfiguration_pb, route_table_whole(t, &a), &a, NULL, &m, &err), 0);
    const struct envoy_RouteConfiguration *c = m;
    assert_int_equal(c->virtual_hosts.n, 3);
    assert_sv(c->virtual_hosts.v[0]->name, "own");
    assert_sv(c->virtual_hosts.v[2]->name, "r/b");
    assert_non_null(c->vhds);
    route_table_unref(t);
    route_hosts_unref(v[0]);
    route_hosts_unref(v[1]);
    route_table_unref(base);
}

static void test_vhds_is_read(void **state)
{
    struct route_table *t =
        table("{name: r, vhds: {config_source: {ads: {}, initial_fetch_timeout: "
              "3s}}}");
    uint64_t ms;
    assert_true(route_table_vhds(t, &ms));
    assert_int_equal(ms, 3000);
    route_table_unref(t);
    t = table("{name: r}");
    assert_false(route_table_vhds(t, &ms));
    route_table_unref(t);
    assert_true(build("{name: r, vhds: {}}", NULL, &t) < 0);
    assert_string_equal(err.msg, "route_config 'r': vhds.config_source: only ads is supported");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_shared),
        TEST(test_refused),
        TEST(test_whole),
        TEST(test_vhds_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
