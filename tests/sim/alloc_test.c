/* sim_alloc_test: each allocation in turn fails while proxies work (as curl's torture tests do).
 *
 * Scenarios count the allocations of proxies, control plane and agents that are made after they
 * have started; then they run again once for each of these (each STRIDE-th): this one fails, and
 * for some simulated time afterwards the reserve is not filled up again. Meanwhile new connections,
 * requests and configuration are refused by name; what was under way goes on. Then memory is back:
 * a new request is answered, configuration arrives, nothing is left behind.
 *
 *     FAIL=N program     only the N-th */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backend.h"
#include "base/log.h"
#include "base/mem.h"
#include "client.h"
#include "mesh.h"

#define HOST      "shop.mesh.svc.cluster.local"
#define VIP       "10.96.0.10"
#define CLIENT_IP "10.1.0.1"
#define SHOP_IP   "10.2.0.1"
#define SHORT_MS  300 /* that memory stays short */

static struct {
    bool armed;
    uint64_t n, at;   /* allocations so far; the one that fails, 0: none */
    uint64_t back_ns; /* when the reserve can be filled up again */
    struct world *w;
} torture;

/* The hook of base/mem.h. */
bool mem_test_fails(size_t n)
{
    if (!torture.armed)
        return false;
    if (n == MEM_PIECE)
        return sim_now(torture.w->sim) < torture.back_ns;
    if (++torture.n != torture.at)
        return false;
    torture.back_ns = sim_now(torture.w->sim) + SHORT_MS * SIM_MS;
    return true;
}

static struct plane *plane;
static struct sidecar *side, *shop_side;
static struct backend *shop;
static struct sim_client *client;

static void put_routes(struct plane *p, const char *header)
{
    plane_apply(p,
                "apiVersion: networking.istio.io/v1\n"
                "kind: VirtualService\n"
                "metadata: {name: shop, namespace: mesh}\n"
                "spec:\n"
                "  hosts: [" HOST "]\n"
                "  http:\n"
                "  - route: [{destination: {host: " HOST "}, headers: {response: {set: {x-a: "
                "%s}}}}]\n"
                "    retries: {attempts: 2, retryOn: 5xx}\n",
                header);
}

static bool all_ready(void *arg)
{
    return sidecar_ready(side) && sidecar_ready(shop_side);
}

static bool idle(void *arg)
{
    return client_idle(client);
}

static void build(struct world *w)
{
    mesh_seed_tls(1);
    plane = plane_new(w);
    plane_apply(plane, "apiVersion: v1\n"
                       "kind: Service\n"
                       "metadata: {name: shop, namespace: mesh}\n"
                       "spec: {clusterIP: " VIP ", selector: {app: shop},\n"
                       "       ports: [{name: http, port: 80, targetPort: 8080}]}\n"
                       "---\n"
                       "apiVersion: v1\n"
                       "kind: Pod\n"
                       "metadata: {name: shop, namespace: mesh, labels: {app: shop}, "
                       "annotations: {sidecar.istio.io/status: '{}'}}\n"
                       "spec: {serviceAccountName: shop}\n"
                       "status: {podIP: " SHOP_IP "}\n");
    put_routes(plane, "one");
    shop = backend_new(w, "shop", "v1", SHOP_IP, 8080);
    shop->mood = (struct mood){.body_max = 30000, .fail = 200, .drip = 200, .slow_ms = {10, 20}};
    shop_side = sidecar_new(w, plane, "shop", SHOP_IP, "app=shop", NULL);
    side = sidecar_new(w, plane, "client", CLIENT_IP, "app=client", NULL);
    if (!sim_run_while(w->sim, all_ready, NULL, 60 * SIM_SECOND))
        world_violation(w, "the proxies are not ready after a minute");
    world_run_ms(w, 300);
}

static void ask(struct world *w, unsigned users, uint64_t requests, unsigned reconnect)
{
    client = client_new(w, &(struct client_opts){.name = "client",
                                                 .ip = CLIENT_IP,
                                                 .to = VIP ":80",
                                                 .host = HOST,
                                                 .users = users,
                                                 .requests = requests,
                                                 .think_ms = {0, 10},
                                                 .patience_ms = 20000,
                                                 .post = 500,
                                                 .chunked = 500,
                                                 .reconnect = reconnect,
                                                 .body_max = 30000});
}

static void finish(struct world *w)
{
    if (!sim_run_while(w->sim, idle, NULL, 200 * SIM_SECOND))
        world_violation(w, "a request never ends");
}

/* What may become of a request while memory is short. */
static void judge(void *arg, struct request *r)
{
    struct world *w = arg;
    if (torture.at == 0 && (r->outcome != OUTCOME_ANSWERED || r->status != 200) &&
        !(r->trace & TRACE_FAILED))
        world_wrong(w, r, "a failure while memory was not short");
}

static void check_left(struct world *w, struct sidecar *s)
{
    static const char *const gauges[] = {".upstream_rq_active", ".upstream_rq_pending_active",
                                         ".downstream_rq_active"};
    for (size_t i = 0; i < sizeof gauges / sizeof gauges[0]; i++) {
        uint64_t n = sidecar_stat_sum(s, "cluster.outbound|", gauges[i]) +
                     sidecar_stat_sum(s, "cluster.inbound|", gauges[i]) +
                     sidecar_stat_sum(s, "http.", gauges[i]);
        if (n)
            world_violation(w, "%s: %u left in *%s", s->name, (unsigned)n, gauges[i]);
    }
}

/* Memory is back: users are served as ever, by the configuration that came meanwhile. */
static void check_well(struct world *w)
{
    torture.armed = false;
    world_run_ms(w, 5000);
    size_t before = w->n_requests;
    shop->mood = (struct mood){.body_max = 300};
    ask(w, 1, 20, 1000); /* each question whether memory is short gets a piece back */
    finish(w);
    client_free(client);
    for (size_t i = before + 4; i < w->n_requests; i++)
        if (w->book[i].outcome != OUTCOME_ANSWERED || w->book[i].status != 200)
            world_wrong(w, &w->book[i], "memory is back and the request fails");
    if (mem_short())
        world_violation(w, "memory is still short");
    if (!sidecar_stat(side, "control_plane.connected_state"))
        world_violation(w, "no control plane");
}

static uint64_t refused(void)
{
    return sidecar_stat_sum(side, "http.", ".downstream_rq_overload_close") +
           sidecar_stat_sum(shop_side, "http.", ".downstream_rq_overload_close") +
           sidecar_stat_sum(side, "listener.", ".downstream_cx_overload_reject") +
           sidecar_stat_sum(shop_side, "listener.", ".downstream_cx_overload_reject");
}

static uint64_t all_refused;

static unsigned run(uint64_t at)
{
    struct world *w = world_new(1);
    sv_hash_set_seed(1);
    sim_set_latency(w->sim, NULL, NULL, SIM_MS, SIM_MS);
    w->judge = judge;
    w->arg = w;
    torture.w = w;
    torture.armed = false;
    torture.n = 0;
    torture.at = at;
    build(w);
    torture.armed = true;
    ask(w, 3, 6, 300);
    world_run_ms(w, 30);
    put_routes(plane, "two"); /* configuration under way, too */
    finish(w);
    client_free(client);
    check_well(w);
    check_left(w, side);
    check_left(w, shop_side);
    all_refused += refused();
    sidecar_free(side);
    sidecar_free(shop_side);
    backend_free(shop);
    plane_free(plane);
    return world_free(w);
}

int main(int argc, char **argv)
{
    log_set_level(NULL, LOG_OFF);
    mesh_seed_tls(1);
    mem_reserve_init();
    struct world *w = world_new(1); /* makes the CA, which all runs share */
    plane_free(plane_new(w));
    world_free(w);
    if (getenv("FAIL"))
        return run(strtoull(getenv("FAIL"), NULL, 10)) > 0;
    unsigned bad = run(0) > 0, stride = getenv("STRIDE") ? (unsigned)atoi(getenv("STRIDE")) : 30;
    uint64_t all = torture.n, runs = 0;
    for (uint64_t at = 1; at <= all; at += stride, runs++) {
        unsigned n = run(at);
        if (n)
            fprintf(stderr, "%u violations; again: FAIL=%" PRIu64 " %s\n", n, at, argv[0]);
        bad += n > 0;
    }
    fprintf(stderr,
            "%" PRIu64 " allocations, %" PRIu64 " runs, %" PRIu64 " failed, %" PRIu64
            " refusals; %u runs with violations\n",
            all, runs, mem_failures(), all_refused, bad);
    return bad || !all_refused || mem_failures() < runs / 2;
}
