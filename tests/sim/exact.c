#include "exact.h"

struct world *w;
struct sidecar *proxy;
struct backend *b1;
struct sim_client *client;

const char *exact_text(const char *route, const char *hcm, const char *cluster)
{
    static char text[8192];
    snprintf(text, sizeof text,
             "static_resources:\n"
             "  listeners:\n"
             "  - name: in\n"
             "    address: {socket_address: {address: 0.0.0.0, port_value: 8080}}\n"
             "    filter_chains:\n"
             "    - filters:\n"
             "      - name: envoy.filters.network.http_connection_manager\n"
             "        typed_config:\n"
             "          '@type': type.googleapis.com/envoy.extensions.filters.network."
             "http_connection_manager.v3.HttpConnectionManager\n"
             "          stat_prefix: in\n"
             "%s"
             "          http_filters: [" ROUTER "]\n"
             "          route_config:\n"
             "            name: r\n"
             "            virtual_hosts:\n"
             "            - name: all\n"
             "              domains: ['*']\n"
             "              routes: [{match: {prefix: /}, route: {cluster: c%s}}]\n"
             "  clusters:\n"
             "  - name: c\n"
             "    type: STATIC\n"
             "%s"
             "    load_assignment:\n"
             "      cluster_name: c\n"
             "      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: "
             "{address: " BACKEND_IP ", port_value: 80}}}}]}]\n",
             hcm, route, cluster);
    return text;
}

void exact_world(void)
{
    w = world_new(1);
    sim_set_latency(w->sim, NULL, NULL, DELAY_MS * SIM_MS, DELAY_MS * SIM_MS);
    sim_set_buffer(w->sim, 256 * 1024);
    sim_set_segments(w->sim, false);
}

void exact_start_text(const char *text)
{
    exact_world();
    b1 = backend_new(w, "b1", "v1", BACKEND_IP, 80);
    proxy = sidecar_new(w, NULL, "proxy", PROXY_IP, NULL, text);
    world_run_ms(w, 100);
    assert_int_equal(proxy_server_state(proxy->server), PROXY_LIVE);
}

void exact_start(const char *route, const char *hcm, const char *cluster)
{
    exact_start_text(exact_text(route, hcm, cluster));
}

void exact_clear(void)
{
    client_free(client);
    sidecar_free(proxy);
    backend_free(b1);
    client = NULL;
    proxy = NULL;
    b1 = NULL;
}

int exact_tear_down(void **state)
{
    exact_clear();
    assert_int_equal(world_free(w), 0);
    w = NULL;
    return 0;
}

void exact_stop(void)
{
    client_free(client);
    client = NULL;
    world_run_ms(w, 2 * 3600 * 1000); /* idle connections go */
    assert_int_equal(sidecar_stat(proxy, "http.in.downstream_rq_active"), 0);
    assert_int_equal(sidecar_stat(proxy, "http.in.downstream_cx_active"), 0);
    assert_int_equal(sidecar_stat(proxy, "cluster.c.upstream_rq_active"), 0);
    assert_int_equal(sidecar_stat(proxy, "cluster.c.upstream_rq_pending_active"), 0);
    assert_int_equal(sidecar_stat(proxy, "cluster.c.upstream_cx_active"), 0);
    assert_int_equal(w->n_violations, 0);
    exact_tear_down(NULL);
}

/* So many requests, one a user, within spread_ms; runs until all are over. */
void exact_ask_over(unsigned users, unsigned post, uint64_t spread_ms)
{
    client = client_new(w, &(struct client_opts){.name = "client",
                                                 .ip = CLIENT_IP,
                                                 .to = PROXY_IP ":8080",
                                                 .host = "x",
                                                 .users = users,
                                                 .requests = 1,
                                                 .think_ms = {0, spread_ms},
                                                 .post = post,
                                                 .patience_ms = 600000});
    for (int i = 0; i < 1000 && !client_idle(client); i++)
        world_run_ms(w, 1000);
    assert_true(client_idle(client));
}

void exact_ask(unsigned users, unsigned post)
{
    exact_ask_over(users, post, 0);
}

uint64_t exact_took_ms(uint64_t id)
{
    struct request *r = world_request(w, id);
    return (r->done_ns - r->sent_ns) / SIM_MS;
}

uint64_t exact_stat(const char *name)
{
    return sidecar_stat(proxy, name);
}

struct value {
    const char *stat;
    uint64_t want;
};

static bool is_so(void *arg)
{
    const struct value *v = arg;
    return exact_stat(v->stat) == v->want;
}

uint64_t exact_until(const char *stat, uint64_t want, uint64_t max_ms)
{
    struct value v = {stat, want};
    if (!sim_run_while(w->sim, is_so, &v, max_ms * SIM_MS))
        fail_msg("%s is %u, not %u", stat, (unsigned)exact_stat(stat), (unsigned)want);
    return world_ms(w);
}
