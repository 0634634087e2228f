/* Times of a proxy's dealings with the control plane and with name servers, to the millisecond:
 * certificates, reconnecting, names. */
#include "agent/agent.h"
#include "agent/identity.h"
#include "base/log.h"
#include "exact.h"

#define LIFE_S 7200 /* of a certificate */

static struct plane *plane;

static int tear_down(void **state)
{
    exact_clear();
    plane_free(plane);
    plane = NULL;
    return exact_tear_down(state);
}

static bool is_ready(void *arg)
{
    return sidecar_ready(proxy);
}

static void start(void)
{
    mesh_seed_tls(1);
    exact_world();
    plane = plane_new(w);
    proxy = sidecar_new_opts(
        w, &(struct sidecar_opts){
               .name = "one", .ip = PROXY_IP, .plane = plane, .certificate_s = LIFE_S});
    assert_true(sim_run_while(w->sim, is_ready, NULL, 60 * SIM_SECOND));
}

static const struct identity_stats *identity(void)
{
    return identity_stats(agent_identity(proxy->agent.agent));
}

static bool has_rotated(void *arg)
{
    return identity()->rotations >= *(uint64_t *)arg;
}

/* A new one when half of the life is over, a tenth of that more or less. */
static void certificates_are_renewed(void **state)
{
    start();
    uint64_t last = world_ms(w), first = identity()->rotations;
    for (uint64_t i = 1; i <= 3; i++) {
        uint64_t want = first + i;
        int64_t end = identity()->not_after_s;
        assert_true(sim_run_while(w->sim, has_rotated, &want, LIFE_S * SIM_SECOND));
        uint64_t took = world_ms(w) - last;
        /* Issued with a minute or so of the past; the first was there a moment before `last`. */
        assert_in_range(took, LIFE_S * 1000 * 45 / 100 - 2000, LIFE_S * 1000 * 55 / 100 + 2000);
        assert_true(identity()->not_after_s > end);
        last = world_ms(w);
    }
    assert_int_equal(identity()->failures, 0);
    assert_int_equal(exact_stat("control_plane.connected_state"), 1);
}

/* No control plane when the time has come: asked again and again, at most a minute (and a fifth)
 * apart; the one in force stays. */
static void renewal_waits_for_the_control_plane(void **state)
{
    start();
    uint64_t rotations = identity()->rotations + 1;
    world_run_ms(w, LIFE_S * 1000 * 2 / 5);
    plane_crash(plane);
    world_run_ms(w, LIFE_S * 1000 * 2 / 5);
    uint64_t failures = identity()->failures;
    assert_in_range(failures, 8, 100);
    assert_int_equal(identity()->rotations, rotations - 1);
    assert_true(sidecar_ready(proxy));
    world_run_ms(w, 10 * 72000);
    assert_in_range(identity()->failures - failures, 9, 16);
    plane_restart(plane);
    uint64_t back = world_ms(w);
    assert_true(sim_run_while(w->sim, has_rotated, &rotations, 100 * SIM_SECOND));
    assert_in_range(world_ms(w) - back, 0, 72000 + 100);
}

/* ---- xDS ---- */

#define FAILED "cluster.xds-grpc.upstream_cx_connect_fail"

/* Anything up to a bound, which doubles from 0.2 s to 2 s. */
static void reconnecting_backs_off(void **state)
{
    uint64_t most = 0, least = UINT64_MAX, sum = 0;
    start();
    assert_int_equal(exact_stat("control_plane.connected_state"), 1);
    plane_crash(plane);
    uint64_t n = exact_stat(FAILED), last = world_ms(w);
    static const uint64_t bound[] = {200, 400, 800, 1600};
    for (unsigned i = 0; i < 60; i++) {
        uint64_t at = exact_until(FAILED, ++n, 10000), gap = at - last;
        last = at;
        if (i < 4) {
            assert_in_range(gap, 0, bound[i] + SLACK_MS + 4 * DELAY_MS);
            continue;
        }
        most = gap > most ? gap : most;
        least = gap < least ? gap : least;
        sum += gap;
    }
    assert_in_range(most, 1600, 2000 + SLACK_MS + 4 * DELAY_MS);
    assert_in_range(least, 0, 400);
    assert_in_range(sum / 56, 700, 1300);
    plane_restart(plane);
    uint64_t back = world_ms(w);
    assert_in_range(exact_until("control_plane.connected_state", 1, 10000) - back, 0, 2000 + 30);
    /* It begins small again. */
    plane_crash(plane);
    back = world_ms(w);
    n = exact_stat(FAILED);
    assert_in_range(exact_until(FAILED, n + 1, 10000) - back, 0, 200 + SLACK_MS + 4 * DELAY_MS);
}

/* ---- names ---- */

static void start_names(const char *name, const char *fields)
{
    static const char *const hosts[] = {"plain.test=" BACKEND_IP, "short.test=" BACKEND_IP ";3",
                                        "broken.test=!"};
    static char text[2048];
    snprintf(
        text, sizeof text,
        "static_resources: {listeners: [{name: in, address: {socket_address: {address: "
        "0.0.0.0, port_value: 8080}}, filter_chains: [{filters: [{name: "
        "envoy.filters.network.tcp_proxy, typed_config: {'@type': "
        "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, "
        "stat_prefix: t, cluster: c}}]}]}], clusters: [{name: c, type: STRICT_DNS, "
        "dns_lookup_family: V4_ONLY, "
        "%s load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {address: "
        "{socket_address: {address: %s, port_value: 80}}}}]}]}}]}",
        fields, name);
    exact_world();
    proxy = sidecar_new_opts(
        w, &(struct sidecar_opts){
               .name = "proxy", .ip = PROXY_IP, .bootstrap = text, .hosts = hosts, .n_hosts = 3});
    world_run_ms(w, 100);
    exact_ask(1, 0); /* statistics of a cluster exist once it is used */
}

/* When names were asked, n + 1 times from now on. */
static void asked(const char *stat, uint64_t n, uint64_t *at)
{
    uint64_t first = exact_stat(stat);
    for (uint64_t i = 0; i <= n; i++)
        at[i] = exact_until(stat, first + i + 1, 100000);
}

static void names_are_asked_again(void **state)
{
    static const struct {
        const char *name, *fields;
        uint64_t ms;
    } cases[] = {
        {"plain.test", "", 5000},
        {"plain.test", "dns_refresh_rate: 7s,", 7000},
        {"plain.test", "dns_refresh_rate: 7s, respect_dns_ttl: true,", 7000}, /* none known */
        {"short.test", "dns_refresh_rate: 7s, respect_dns_ttl: true,", 3000},
        {"short.test", "dns_refresh_rate: 7s,", 7000},
        {"nowhere.test", "dns_refresh_rate: 6s,", 6000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t at[5];
        start_names(cases[i].name, cases[i].fields);
        asked("cluster.c.update_success", 4, at);
        for (int k = 1; k < 5; k++)
            assert_in_range(at[k] - at[k - 1], cases[i].ms, cases[i].ms + SLACK_MS);
        tear_down(NULL);
    }
}

static void names_have_jitter(void **state)
{
    uint64_t at[61], least = UINT64_MAX, most = 0;
    start_names("plain.test", "dns_refresh_rate: 2s, dns_jitter: 1s,");
    asked("cluster.c.update_success", 60, at);
    for (int k = 1; k < 61; k++) {
        uint64_t gap = at[k] - at[k - 1];
        least = gap < least ? gap : least;
        most = gap > most ? gap : most;
    }
    assert_in_range(least, 2000, 2200);
    assert_in_range(most, 2800, 3000 + SLACK_MS);
}

static void failures_back_off(void **state)
{
    uint64_t at[31], most = 0;
    start_names("broken.test", "dns_failure_refresh_rate: {base_interval: 1s, max_interval: 4s},");
    asked("cluster.c.update_failure", 30, at);
    for (int k = 1; k < 31; k++) {
        assert_in_range(at[k] - at[k - 1], 1, 4000 + SLACK_MS);
        most = at[k] - at[k - 1] > most ? at[k] - at[k - 1] : most;
    }
    assert_in_range(most, 3000, 4000 + SLACK_MS);
}

#undef T
#define T(name) cmocka_unit_test_teardown(name, tear_down)

int main(void)
{
    log_set_level(NULL, LOG_OFF);
    sv_hash_set_seed(1);
    const struct CMUnitTest tests[] = {
        T(certificates_are_renewed), T(renewal_waits_for_the_control_plane),
        T(reconnecting_backs_off),   T(names_are_asked_again),
        T(names_have_jitter),        T(failures_back_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
