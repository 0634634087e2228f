/* Chaos at every point between two sidecars: HTTP/1.1 at both ends, HTTP/2 or HTTP/1.1 over mutual
 * TLS between them. See chaos.h. */
#include <stdlib.h>
#include <string.h>
#include "backend.h"
#include "base/log.h"
#include "base/mem.h"
#include "chaos.h"
#include "client.h"
#include "mesh.h"

#define HOST      "shop.mesh.svc.cluster.local"
#define VIP       "10.96.0.10"
#define CLIENT_IP "10.1.0.1"
#define SHOP_IP   "10.2.0.1"
#define SHADOW_IP "10.2.0.2"

static const struct scene {
    const char *http; /* of the VirtualService, beside the route */
    bool h2;
    struct mood mood;
} scenes[] = {
    {"", true, {.body_max = 30000}},
    {"", false, {.body_max = 30000}},
    {"", true, {.drip = 1000, .slow_ms = {40, 40}, .body_max = 3000}},
    {"", true, {.early = 1000, .body_max = 30000}},
    {"    retries: {attempts: 3, retryOn: '5xx,reset', perTryTimeout: 1s}\n", true, {.fail = 600}},
    {"    retries: {attempts: 3, retryOn: '5xx,reset', perTryTimeout: 1s}\n",
     false,
     {.reset = 300, .reset_mid = 300, .body_max = 3000}},
    {"    mirror: {host: shadow.mesh.svc.cluster.local}\n", true, {.body_max = 3000}},
    {"    timeout: 0.5s\n", true, {.slow = 700, .slow_ms = {300, 900}, .body_max = 3000}},
    {"    fault: {delay: {percentage: {value: 50}, fixedDelay: 0.05s}, abort: {percentage: {value: "
     "30}, httpStatus: 418}}\n",
     true,
     {.body_max = 3000}},
};
static const char *const names[] = {"h2",          "h1",     "drip",    "early", "retry",
                                    "retry-reset", "mirror", "timeout", "fault"};

static struct {
    struct world *w;
    struct plane *plane;
    struct sidecar *side, *shop_side;
    struct backend *shop, *shadow;
    struct sim_client *client;
    const struct scene *scene;
} m;

/* ---- documents ---- */

static void put_policy(bool h2)
{
    plane_apply(m.plane,
                "apiVersion: networking.istio.io/v1\n"
                "kind: DestinationRule\n"
                "metadata: {name: shop, namespace: mesh}\n"
                "spec:\n"
                "  host: " HOST "\n"
                "  trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: %s, idleTimeout: "
                "20s}}}\n",
                h2 ? "UPGRADE" : "DO_NOT_UPGRADE");
}

static void put_routes(const char *more, const char *header)
{
    plane_apply(m.plane,
                "apiVersion: networking.istio.io/v1\n"
                "kind: VirtualService\n"
                "metadata: {name: shop, namespace: mesh}\n"
                "spec:\n"
                "  hosts: [" HOST "]\n"
                "  http:\n"
                "  - route: [{destination: {host: " HOST "}, headers: {request: {set: {x-a: "
                "%s}}}}]\n%s",
                header, more);
}

static void put_service(const char *name, const char *vip, const char *ip, bool sidecar)
{
    plane_apply(m.plane,
                "apiVersion: v1\n"
                "kind: Service\n"
                "metadata: {name: %s, namespace: mesh}\n"
                "spec: {clusterIP: %s, selector: {app: %s},\n"
                "       ports: [{name: http, port: 80, targetPort: 8080}]}\n"
                "---\n"
                "apiVersion: v1\n"
                "kind: Pod\n"
                "metadata: {name: %s, namespace: mesh, labels: {app: %s}%s}\n"
                "spec: {serviceAccountName: %s}\n"
                "status: {podIP: %s}\n",
                name, vip, name, name, name,
                sidecar ? ", annotations: {sidecar.istio.io/status: '{}'}" : "", name, ip);
}

/* ---- what breaks ---- */

static void reset_client(void *arg)
{
    sim_reset_connections(m.w->sim, CLIENT_IP, CLIENT_IP);
}

static void reset_between(void *arg)
{
    sim_reset_connections(m.w->sim, CLIENT_IP, SHOP_IP);
}

static void reset_server(void *arg)
{
    sim_reset_connections(m.w->sim, SHOP_IP, SHOP_IP);
}

static void leap(void *arg)
{
    sim_leap(m.w->sim, 2 * SIM_SECOND);
}

static void crash(void *arg)
{
    sim_crash_host(m.w->sim, SHOP_IP);
    backend_died(m.shop);
    sidecar_died(m.shop_side);
}

static void power(void *arg)
{
    sim_kill_host(m.w->sim, SHOP_IP);
    backend_died(m.shop);
    sidecar_died(m.shop_side);
}

static void drain_server(void *arg)
{
    proxy_server_drain(m.shop_side->server);
}

static void drain_client(void *arg)
{
    proxy_server_drain(m.side->server);
}

static void change_policy(void *arg)
{
    put_policy(!m.scene->h2);
}

static void change_routes(void *arg)
{
    put_routes("", "second");
}

static void remove_service(void *arg)
{
    /* Its proxy passes on what comes for a port that it does not know, HTTP/2, too, as Istio's. */
    m.shop->lenient = true;
    plane_delete(m.plane, "Service", "mesh", "shop");
}

static const struct chaos_action actions[] = {
    {"reset-client", reset_client},
    {"reset-between", reset_between},
    {"reset-server", reset_server},
    {"leap", leap},
    {"crash", crash},
    {"power", power},
    {"drain-server", drain_server},
    {"drain-client", drain_client},
    {"policy", change_policy},
    {"routes", change_routes},
    {"remove", remove_service},
};

/* ---- a run ---- */

static bool all_ready(void *arg)
{
    return sidecar_ready(m.side) && sidecar_ready(m.shop_side);
}

static bool idle(void *arg)
{
    return client_idle(m.client);
}

static void build(void)
{
    mesh_seed_tls(1);
    m.w = world_new(1);
    sim_set_latency(m.w->sim, NULL, NULL, SIM_MS, SIM_MS);
    sim_set_segments(m.w->sim, false);
    m.plane = plane_new(m.w);
    put_service("shop", VIP, SHOP_IP, true);
    put_service("shadow", "10.96.0.11", SHADOW_IP, false);
    put_policy(m.scene->h2);
    put_routes(m.scene->http, "first");
    m.shop = backend_new(m.w, "shop", "v1", SHOP_IP, 8080);
    m.shop->mood = m.scene->mood;
    m.shadow = backend_new(m.w, "shadow", "v1", SHADOW_IP, 8080);
    m.shop_side = sidecar_new(m.w, m.plane, "shop", SHOP_IP, "app=shop", NULL);
    m.side = sidecar_new(m.w, m.plane, "client", CLIENT_IP, "app=client", NULL);
    if (!sim_run_while(m.w->sim, all_ready, NULL, 60 * SIM_SECOND))
        world_violation(m.w, "the proxies are not ready after a minute");
    world_run_ms(m.w, 300);
}

static void check_left(struct sidecar *s, const char *name)
{
    static const char *const gauges[] = {".upstream_rq_active", ".upstream_rq_pending_active",
                                         ".downstream_rq_active"};
    for (size_t i = 0; s->server && i < sizeof gauges / sizeof gauges[0]; i++) {
        uint64_t n = sidecar_stat_sum(s, "cluster.outbound|", gauges[i]) +
                     sidecar_stat_sum(s, "cluster.inbound|", gauges[i]) +
                     sidecar_stat_sum(s, "http.", gauges[i]);
        if (n)
            world_violation(m.w, "%s: %u left in *%s", name, (unsigned)n, gauges[i]);
    }
}

static void nothing(void *arg, struct request *r)
{
}

static unsigned run(size_t scenario)
{
    memset(&m, 0, sizeof m);
    m.scene = &scenes[scenario];
    sv_hash_set_seed(1);
    build();
    m.w->judge = nothing;
    chaos_begin(m.w->sim, NULL);
    m.client = client_new(m.w, &(struct client_opts){.name = "client",
                                                     .ip = CLIENT_IP,
                                                     .to = VIP ":80",
                                                     .host = HOST,
                                                     .users = 2,
                                                     .requests = 3,
                                                     .think_ms = {0, 10},
                                                     .patience_ms = 20000,
                                                     .post = 500,
                                                     .chunked = 500,
                                                     .body_max = 30000});
    if (!sim_run_while(m.w->sim, idle, NULL, 200 * SIM_SECOND))
        world_violation(m.w, "a request never ends");
    chaos_end(m.w->sim);
    world_run_ms(m.w, 30000);
    check_left(m.side, "client's proxy");
    check_left(m.shop_side, "server's proxy");
    client_free(m.client);
    sidecar_free(m.side);
    sidecar_free(m.shop_side);
    backend_free(m.shop);
    backend_free(m.shadow);
    plane_free(m.plane);
    return world_free(m.w);
}

int main(int argc, char **argv)
{
    log_set_level(NULL, LOG_OFF);
    mesh_seed_tls(1);
    struct world *w = world_new(1); /* makes the CA, which all runs share */
    plane_free(plane_new(w));
    world_free(w);
    return chaos_main(&(struct chaos){.program = argv[0],
                                      .scenarios = names,
                                      .n_scenarios = sizeof names / sizeof names[0],
                                      .actions = actions,
                                      .n_actions = sizeof actions / sizeof actions[0],
                                      .stride = 97,
                                      .run = run});
}
