/* What gRPC's own xDS clients get ("proxyless": no sidecar, node metadata GENERATOR: grpc).
 *
 *   xds:///host:80 --LDS "host:80"--> HTTP connection manager in an api_listener
 *                  --RDS "outbound|80||host"--> one virtual host, the rules of the VirtualService
 *                  --CDS "outbound|80|v1|host"--> EDS cluster --EDS--> endpoints
 *
 * Every resource is asked for by name; there are no complete lists. gRPC understands a part of what
 * Envoy does and passes over the rest in silence, so what it cannot do is looked for here:
 *
 * - a rule that would be wrong without it (a rewrite, header operations, a redirect ...) keeps its
 *   matches, but its route leads to the cluster "refused|80||host", whose one endpoint takes no
 *   connection: requests do not slip through to where the rule did not send them
 * - a cluster that would have to be spoken to otherwise (TLS) or is not of endpoints has
 *   that endpoint, too
 * - what only makes a difference in how well it works (mirrors, outlier detection ...) is left out
 *
 * Each is reported as a problem that names object and field, code GrpcUnsupported.
 * Pure, as all of translate/. Thread: main. */
#ifndef WEFT_MESH_TRANSLATE_GRPC_H
#define WEFT_MESH_TRANSLATE_GRPC_H

#include "mesh/translate/internal.h"

struct grpc_build {
    struct build b;
    translate_problem report; /* may be NULL */
    void *arg;
};

/* `what` completes "gRPC clients ... ": "cannot rewrite requests; calls of this rule fail". */
void grpc_report(struct grpc_build *g, const struct model_object *o, sv field, const char *what);

/* ---- grpc_routes.c ---- */
const struct envoy_RouteConfiguration *
grpc_routes(struct grpc_build *g, const struct model_service *svc, uint16_t port, sv name);
/* ---- grpc_match.c ---- */
struct grpc_matches {
    const struct envoy_RouteMatch **v;
    uint32_t n; /* 0: no call of these clients fits */
};
/* A match as gRPC evaluates it. What is known beforehand is decided here: calls are POST requests
 * over http to the authority "host" or "host:port", without a query. gRPC lets an absent header fit
 * no matcher but "absent", also where it is inverted, so withoutHeaders with a value becomes two
 * matches. False: too many of those (a problem was reported). */
bool grpc_match(struct grpc_build *g, const struct istio_HTTPMatchRequest *in, sv host,
                uint16_t port, struct grpc_matches *out);

/* ---- grpc_clusters.c ---- */
/* The cluster of calls that fail. */
const struct envoy_Cluster *grpc_refused_cluster(struct grpc_build *g, sv name);
/* NULL: there is no such cluster for gRPC. */
const struct envoy_Cluster *grpc_cluster(struct grpc_build *g, const struct model_service *svc,
                                         const struct model_port *port, sv subset, sv name);

#endif
