/* Translation: (snapshot, what a proxy is) -> xDS resources. Pure: no clock, no I/O, no state but
 * templates that were parsed once. Inputs are declared: the snapshot, and struct translate_proxy.
 *
 *   virtualOutbound 0.0.0.0:15001 --original destination--> 0.0.0.0_80 (HTTP, RDS "80")
 *                                                           10.0.0.5_3306 (TCP)
 *                                                           else PassthroughCluster
 *   virtualInbound  0.0.0.0:15006 --destination port, mTLS or plain--> inbound|8080||
 *
 * Names are Istio's, so that its tools and dashboards read them: outbound|80|v1|host,
 * inbound|8080||, route configuration "80", route name "NAMESPACE/NAME/http[i]" unless the rule has
 * a name.
 *
 * What one resource depends on, for caches and pushes:
 *
 * - CDS outbound: services, DestinationRules, service accounts of endpoints; the proxy's namespace
 *   and labels
 * - EDS: the endpoints of that host, DestinationRules (subsets, localities); the proxy's namespace,
 *   labels, locality and network
 * - RDS, VHDS: services, VirtualServices, DestinationRules; the proxy's namespace and labels
 * - LDS outbound: services (ports), VirtualServices (tcp, tls), DestinationRules, options; the
 *   proxy's namespace and labels, with tracing also what spans say of it
 * - NDS: services; the proxy's namespace and labels
 * - CDS and LDS inbound: services and endpoints at the proxy's address
 *
 * Sidecars decide what a proxy sees at all. Of labels those matter that translate_label_keys()
 * names.
 *
 * Thread: main. */
#ifndef WEFT_MESH_TRANSLATE_TRANSLATE_H
#define WEFT_MESH_TRANSLATE_TRANSLATE_H

#include "base/arena.h"
#include "base/error.h"
#include "mesh/model/model.h"

/* What a proxy says of itself (Istio's node metadata) and what the control plane found about it. */
struct translate_proxy {
    sv ns, workload, ip, service_account;
    sv region, zone, sub_zone, network;
    struct model_labels labels;
    uint16_t outbound_port, inbound_port; /* 15001, 15006 */
    bool dns_capture;
    bool grpc; /* no proxy but a program whose gRPC library asks itself */
    bool weft; /* a weft-proxy: it has Istio's own filters, which a stock Envoy lacks */
    /* What spans say of it; the first is the service's name in them. */
    sv cluster, canonical_service, canonical_revision, cluster_id, mesh_id;
    /* Virtual hosts inside their route configuration, or as resources of their own; the latter for
     * Envoy, too, which removes a virtual host only if it is called as its resource is. */
    enum { TRANSLATE_HOSTS_INSIDE, TRANSLATE_HOSTS_APART, TRANSLATE_HOSTS_ENVOY } hosts;
};

/* Mesh-wide settings. */
struct translate_options {
    sv access_log_path;   /* empty: no access log */
    sv access_log_format; /* empty: Istio's default text */
    sv access_log_json;   /* a JSON object instead of the text format, or empty */
    bool mtls_strict;     /* inbound plain text is refused; default is permissive */
    /* HOST:PORT of a collector of spans, one of them or none: HOST is an address, a name, or the
     * host of a service of the mesh. */
    sv tracing_otlp, tracing_zipkin;
    double tracing_sampling; /* percent of the requests that come without a decision */
};

struct translate;
/* Templates and options. Never fails but for options that do not parse. */
struct translate *translate_new(const struct translate_options *o, struct error *err);
void translate_free(struct translate *t);
/* Listeners say who the proxy is (cluster, canonical_service …), and so are not shared. */
bool translate_traces(const struct translate *t);

/* emit is called with each resource, packed; the bytes live in the arena given. */
typedef void (*translate_emit)(void *arg, sv name, sv packed);

void translate_clusters_outbound(const struct translate *t, const struct model *m,
                                 const struct translate_proxy *p, struct arena *a,
                                 translate_emit emit, void *arg);
void translate_clusters_inbound(const struct translate *t, const struct model *m,
                                const struct translate_proxy *p, struct arena *a,
                                translate_emit emit, void *arg);
/* Outbound ones depend on the namespace (exportTo) and labels (tcp routes) of the proxy; inbound:
 * its address. */
void translate_listeners_outbound(const struct translate *t, const struct model *m,
                                  const struct translate_proxy *p, struct arena *a,
                                  translate_emit emit, void *arg);
void translate_listeners_inbound(const struct translate *t, const struct model *m,
                                 const struct translate_proxy *p, struct arena *a,
                                 translate_emit emit, void *arg);
/* "outbound|80|v1|host" -> packed ClusterLoadAssignment; false when there is no such cluster. */
bool translate_endpoints(const struct translate *t, const struct model *m,
                         const struct translate_proxy *p, sv cluster, struct arena *a, sv *packed);
/* "80" or "host:port" -> packed RouteConfiguration; false when there is no such listener. */
bool translate_routes(const struct translate *t, const struct model *m,
                      const struct translate_proxy *p, sv name, struct arena *a, sv *packed);
/* The same with its virtual hosts apart (p->hosts): *packed refers to VHDS for them, and emit gets
 * each as "TABLE/HOST". */
bool translate_routes_apart(const struct translate *t, const struct model *m,
                            const struct translate_proxy *p, sv name, struct arena *a,
                            translate_emit emit, void *arg, sv *packed);
sv translate_names(const struct translate *t, const struct model *m,
                   const struct translate_proxy *p, struct arena *a);

/* Keys of the proxy's labels that its outbound resources depend on, as configuration selects
 * clients by labels (sourceLabels, workloadSelector, failoverPriority). Strings live in a. */
uint32_t translate_label_keys(const struct model *m, struct arena *a, const sv **out);

/* ---- gRPC clients without a sidecar: see grpc.h ---- */
typedef void (*translate_problem)(void *arg, const struct model_problem *p);
enum translate_grpc_type {
    TRANSLATE_GRPC_LISTENER, /* "host:port", as in xds:///host:port */
    TRANSLATE_GRPC_ROUTES,   /* "outbound|80||host" */
    /* "outbound|80|v1|host", or "refused|80||host" of calls that fail; their endpoints are
     * those of translate_endpoints(). */
    TRANSLATE_GRPC_CLUSTER,
};
/* One resource, packed; false when there is none of that name, or gRPC cannot use it. What gRPC
 * cannot do is reported (report may be NULL); strings of problems live in a. */
bool translate_grpc(const struct translate *t, const struct model *m,
                    const struct translate_proxy *p, enum translate_grpc_type type, sv name,
                    struct arena *a, sv *packed, translate_problem report, void *arg);

/* ---- names ---- */
sv translate_cluster_name(struct arena *a, const char *direction, uint16_t port, sv subset,
                          sv host);
/* Splits "outbound|80|v1|host"; false when it has another form. */
bool translate_cluster_parse(sv name, sv *direction, uint16_t *port, sv *subset, sv *host);
/* SNI between sidecars: "outbound_.80_.v1_.host". */
sv translate_sni(struct arena *a, uint16_t port, sv subset, sv host);

/* ---- checks that need the whole snapshot ---- */
/* Problems that only show between objects: a route to a subset or host that is not defined, a host
 * that two VirtualServices route, a port that does not exist. emit gets problems whose strings live
 * in a. */
void translate_check(const struct model *m, struct arena *a,
                     void (*emit)(void *arg, const struct model_problem *p), void *arg);

/* What is worth knowing of configuration that is complete, as `weft analyze` reads it: selectors
 * that select no workload, ports whose protocol is sniffed, weights that do not add up to 100. The
 * control plane does not say these: there workloads come and go. Nothing is said about selectors
 * when the snapshot has no workload at all. */
void translate_hints(const struct model *m, struct arena *a,
                     void (*emit)(void *arg, const struct model_problem *p), void *arg);

#endif
