/* The documents of a town, and how they change. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "mesh/push/push.h"
#include "town.h"

static void put_service(struct town *t, const char *name, const char *vip, const char *port)
{
    plane_apply(t->plane,
                "apiVersion: v1\n"
                "kind: Service\n"
                "metadata: {name: %s, namespace: mesh}\n"
                "spec: {clusterIP: %s, selector: {app: %s},\n"
                "       ports: [{name: %s, port: 80, targetPort: 8080}]}\n",
                name, vip, name, port);
}

void town_put_services(struct town *t)
{
    put_service(t, "shop", VIP, "http");
    town_change_policy(t);
    if (t->plan.tight) {
        put_service(t, "tight", TIGHT_VIP, "http");
        plane_apply(t->plane,
                    "apiVersion: networking.istio.io/v1\n"
                    "kind: DestinationRule\n"
                    "metadata: {name: tight, namespace: mesh}\n"
                    "spec:\n"
                    "  host: " TIGHT_HOST "\n"
                    "  trafficPolicy:\n"
                    "    connectionPool: {tcp: {maxConnections: %d, idleTimeout: %ds}, http: "
                    "{http1MaxPendingRequests: %d, idleTimeout: %ds}}\n",
                    MAX_CX, IDLE_S, MAX_PENDING, IDLE_S);
    }
}

void town_change_policy(struct town *t)
{
    static const char *const balancers[] = {"simple: ROUND_ROBIN", "simple: LEAST_REQUEST",
                                            "simple: RANDOM", "consistentHash: {useSourceIp: true}",
                                            "consistentHash: {httpHeaderName: x-request-number}"};
    unsigned every = (1u << t->plan.shops) - 1;
    /* A server without a sidecar here speaks HTTP/1 only. */
    bool h2 = (t->plan.sidecars & every) == every && world_below(t->w, 2);
    bool outliers = t->plan.stormy && world_below(t->w, 2);
    t->outliers |= outliers;
    char most[64] = "";
    if (!world_below(t->w, 3))
        snprintf(most, sizeof most, ", maxRequestsPerConnection: %u",
                 (unsigned)world_between(t->w, 1, 20));
    const char *balancer = balancers[world_below(t->w, sizeof balancers / sizeof balancers[0])];
    world_note(t->w, "policy: %s%s%s%s", balancer, h2 ? ", HTTP/2" : "",
               outliers ? ", outliers" : "", most);
    plane_apply(t->plane,
                "apiVersion: networking.istio.io/v1\n"
                "kind: DestinationRule\n"
                "metadata: {name: shop, namespace: mesh}\n"
                "spec:\n"
                "  host: " HOST "\n"
                "  trafficPolicy:\n"
                "    loadBalancer: {%s}\n"
                "    connectionPool: {tcp: {idleTimeout: %ds}, http: {idleTimeout: %ds%s%s}}\n"
                "%s"
                "  subsets: [%s{name: v1, labels: {version: v1}}, {name: v2, labels: {version: "
                "v2}}]\n",
                balancer, IDLE_S, IDLE_S, h2 ? ", h2UpgradePolicy: UPGRADE" : "", most,
                outliers ? "    outlierDetection: {consecutive5xxErrors: 3, interval: 1s, "
                           "baseEjectionTime: 2s, maxEjectionPercent: 50}\n"
                         : "",
                world_below(t->w, 2) ? "{name: v3, labels: {version: v3}}, " : "");
}

void town_change_strict(struct town *t)
{
    t->strict = !t->strict;
    world_note(t->w, "mTLS is %s", t->strict ? "strict" : "permissive");
    plane_apply(t->plane,
                "apiVersion: security.istio.io/v1\n"
                "kind: PeerAuthentication\n"
                "metadata: {name: default, namespace: mesh}\n"
                "spec: {mtls: {mode: %s}}\n",
                t->strict ? "STRICT" : "PERMISSIVE");
}

void town_toggle_extra(struct town *t)
{
    int n = t->n_stays[EXTRA];
    if (!t->plan.extra)
        return;
    if (town_is_endpoint(t, EXTRA)) {
        world_note(t->w, "extra goes");
        t->stays[EXTRA][n - 1].to_ns = sim_now(t->w->sim);
        plane_delete(t->plane, "Service", "mesh", "extra");
        return;
    }
    if (n == STAYS)
        return;
    world_note(t->w, "extra comes");
    t->stays[EXTRA][t->n_stays[EXTRA]++] = (struct stay){sim_now(t->w->sim), UINT64_MAX};
    put_service(t, "extra", EXTRA_VIP, t->plan.extra_tcp ? "tcp" : "http");
}

void town_put_pod(struct town *t, const struct backend *b, const char *app, bool sidecar,
                  bool leaving)
{
    plane_apply(t->plane,
                "apiVersion: v1\n"
                "kind: Pod\n"
                "metadata:\n"
                "  {name: %s, namespace: mesh, labels: {app: %s, version: %s}%s%s}\n"
                "spec: {serviceAccountName: %s}\n"
                "status: {podIP: %s}\n",
                b->name, app, b->version,
                sidecar ? ", annotations: {sidecar.istio.io/status: '{}'}" : "",
                leaving ? ", deletionTimestamp: '2026-01-01T00:00:00Z'" : "", b->name, b->ip);
}

#define TO(subset, weight) "{destination: {host: " HOST ", subset: " subset "}, weight: " weight "}"

void town_change_rules(struct town *t)
{
    char http[1024];
    struct rule *r = &t->rules[t->n_rules];
    if (t->n_rules == RULES)
        return;
    *r = (struct rule){.at_ns = sim_now(t->w->sim)};
    switch (world_below(t->w, 7)) {
    case 0:
        r->jason = 2;
        r->others = 1;
        snprintf(http, sizeof http,
                 "  - match: [{headers: {end-user: {exact: jason}}}]\n"
                 "    route: [" TO("v2", "100") "]\n"
                                                "  - route: [" TO("v1", "100") "]\n");
        break;
    case 1:
        r->jason = r->others = 2;
        snprintf(http, sizeof http, "  - route: [" TO("v2", "100") "]\n");
        break;
    case 2:
        r->jason = r->others = 1;
        r->attempts = 2;
        snprintf(http, sizeof http,
                 "  - route: [" TO(
                     "v1", "100") "]\n"
                                  "    retries: {attempts: 2, retryOn: 5xx, perTryTimeout: 5s}\n");
        break;
    case 3:
        r->jason = r->others = 3;
        snprintf(http, sizeof http, "  - route: [{destination: {host: " HOST "}}]\n");
        break;
    case 4:
        r->jason = r->others = 3;
        r->aborts = world_below(t->w, 2);
        snprintf(http, sizeof http,
                 "  - fault: {%s}\n    route: [{destination: {host: " HOST "}}]\n",
                 r->aborts ? "abort: {percentage: {value: 20}, httpStatus: 418}"
                           : "delay: {percentage: {value: 30}, fixedDelay: 0.1s}");
        break;
    default:
        r->jason = r->others = 3;
        r->v2_percent = (unsigned)world_between(t->w, 1, 9) * 10;
        snprintf(http, sizeof http, "  - route: [" TO("v1", "%u") ", " TO("v2", "%u") "]\n",
                 100 - r->v2_percent, r->v2_percent);
    }
    world_note(t->w, "rules %d: jason %u, others %u, v2 %u%%", t->n_rules, r->jason, r->others,
               r->v2_percent);
    t->n_rules++;
    plane_apply(t->plane,
                "apiVersion: networking.istio.io/v1\n"
                "kind: VirtualService\n"
                "metadata: {name: shop, namespace: mesh}\n"
                "spec:\n  hosts: [" HOST "]\n  http:\n%s",
                http);
}

void town_break_a_document(struct town *t)
{
    if (plane_apply(t->plane, "apiVersion: networking.istio.io/v1\n"
                              "kind: VirtualService\n"
                              "metadata: {name: shop, namespace: mesh}\n"
                              "spec: {hosts: [" HOST "], htpt: []}\n"))
        world_violation(t->w, "a field that does not exist was taken");
}

/* ---- endpoints ---- */

bool town_is_endpoint(const struct town *t, int b)
{
    return t->n_stays[b] && t->stays[b][t->n_stays[b] - 1].to_ns == UINT64_MAX;
}

void town_join(struct town *t, int b)
{
    if (town_is_endpoint(t, b) || t->n_stays[b] == STAYS)
        return;
    world_note(t->w, "%s joins", t->shops[b]->name);
    t->stays[b][t->n_stays[b]++] = (struct stay){sim_now(t->w->sim), UINT64_MAX};
    town_put_pod(t, t->shops[b], "shop", t->shop_sides[b] != NULL, false);
}

/* The workload goes on: who has not heard of it may finish. */
void town_leave(struct town *t, int b)
{
    int left = 0;
    for (int i = b % 2; i < t->plan.shops; i += 2)
        left += town_is_endpoint(t, i);
    if (!town_is_endpoint(t, b) || left < 2)
        return;
    world_note(t->w, "%s leaves", t->shops[b]->name);
    t->stays[b][t->n_stays[b] - 1].to_ns = sim_now(t->w->sim);
    town_put_pod(t, t->shops[b], "shop", t->shop_sides[b] != NULL, true);
}
