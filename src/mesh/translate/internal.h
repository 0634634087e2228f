/* What the files of this folder share. Thread: main. */
#ifndef WEFT_MESH_TRANSLATE_INTERNAL_H
#define WEFT_MESH_TRANSLATE_INTERNAL_H

#include "api/envoy.pb.h"
#include "api/google.pb.h"
#include "api/istio.pb.h"
#include "api/pb.h"
#include "mesh/translate/translate.h"

/* Parsed once; copied as structs and filled in. */
struct translate_tracing {
    bool on, zipkin; /* else OTLP */
    sv host, authority;
    uint16_t port;
    double sampling;
};

struct translate {
    struct arena arena;
    struct translate_tracing tracing;
    bool mtls_strict;
    const struct envoy_AccessLog *access_log; /* NULL: none */
    const struct envoy_HttpConnectionManager *hcm_outbound, *hcm_inbound;
    const struct envoy_Cluster *cluster_outbound, *cluster_inbound;
    const struct envoy_Cluster *black_hole;
    const struct envoy_Listener *virtual_outbound, *virtual_inbound;
    const struct envoy_Listener *listener_http, *listener_tcp;
    const struct envoy_UpstreamTlsContext *tls_upstream;
    const struct envoy_TransportSocket *tls_downstream, *raw_buffer;
    const struct envoy_RouteAction *route_action; /* defaults: time-out off, safe retries */
    const struct envoy_RetryPolicy_RetryPriority *retry_priority; /* other priorities first */
    const struct google_Any *http1_options, *http2_options, *downstream_options;
};

/* One translation under way. */
struct build {
    const struct translate *t;
    const struct model *m;
    const struct translate_proxy *p;
    struct arena *a;
    translate_emit emit;
    void *arg;
    /* Found when it is asked for: see scope.c. */
    bool scoped;
    const struct istio_Sidecar *sidecar;
    struct map *imported;
};

/* A copy of a struct in the arena: MAKE(b, envoy_RouteMatch, .prefix = SV("/")). */
#define MAKE0(b, type) ((struct type *)arena_zalloc((b)->a, sizeof(struct type)))
#define MAKE(b, type, ...)                                                                         \
    ((struct type *)build_copy((b), &(struct type){__VA_ARGS__}, sizeof(struct type)))
void *build_copy(struct build *b, const void *p, size_t n);
/* For `.list = {.v = build_one(b, x), .n = 1}`. */
void *build_one(struct build *b, const void *x);
const struct google_UInt32Value *build_u32(struct build *b, uint32_t v);
const struct google_BoolValue *build_bool(struct build *b, bool v);
const struct google_Duration *build_ms(struct build *b, int64_t ms);
/* {"key": "value"} and the metadata {filter: {key: value}} */
const struct google_Struct *build_struct1(struct build *b, sv key, sv value);
const struct envoy_Address *build_address(struct build *b, sv ip, uint16_t port);
const struct envoy_Filter *build_filter(struct build *b, const char *name,
                                        const struct pb_message *m, const void *config);
/* tcp_proxy to one cluster. */
const struct envoy_Filter *build_tcp_proxy(struct build *b, sv stat_prefix, sv cluster);
/* The filter, with the mesh's access log. */
const struct envoy_Filter *build_tcp_filter(struct build *b, struct envoy_TcpProxy *t);
void build_emit(struct build *b, sv name, const struct pb_message *m, const void *msg);

/* ---- tracing: nothing, and NULL, when it is off ---- */
int tracing_init(struct translate *t, const struct translate_options *o,
                 struct error *err) MUST_CHECK;
void build_tracing(struct build *b, struct envoy_HttpConnectionManager *h);
/* The collector's cluster, unless a service's serves. */
void build_tracing_cluster(struct build *b);
/* The span's name, "host:port/path*", as istiod makes it; of a route that leads to several clusters
 * or none with the name given, if any. */
const struct envoy_Decorator *build_operation(struct build *b, sv host, uint16_t port, sv path);
const struct envoy_Decorator *build_route_operation(struct build *b, const struct envoy_Route *r,
                                                    sv name, uint16_t port);

/* ---- destination rules ---- */
/* The rule that holds for svc as seen from the proxy, and the policy in force for a port and
 * subset, by Istio's inheritance. Each part (load balancer, pool, TLS …) is taken whole from the
 * subset, else from the rule; where either has settings for the port, those stand in place of its
 * load balancer, pool, outlier detection and TLS altogether. Only the tunnel is the subset's own or
 * none. */
struct istio_TrafficPolicy build_policy(struct build *b, const struct model_service *svc,
                                        uint16_t port, sv subset);
const struct istio_DestinationRule *build_rule(struct build *b, const struct model_service *svc);
const struct istio_Subset *build_subset(const struct istio_DestinationRule *r, sv name);
const struct model_port *build_port(const struct model_service *svc, uint16_t port);
/* ---- what the proxy sees ---- */
/* exportTo lets the proxy see the service, and its Sidecar (if there is one) names it, or a route
 * to something that it names. */
bool build_visible(struct build *b, const struct model_service *svc);
/* The Sidecar that holds for the proxy, or NULL. */
const struct istio_Sidecar *build_sidecar(struct build *b);
/* Hosts that no service has are not reached; and the cluster where their connections go. */
bool build_registry_only(struct build *b);
sv build_elsewhere(struct build *b);

/* A ServiceEntry without an address that this proxy's application could connect to: an automatic
 * one is known only by the sidecar's DNS. */
bool build_on_wildcard(struct build *b, const struct model_service *svc);
/* Single pods of a headless service are called over mTLS: the cluster for that, and whether the
 * rule for the service leaves it at mTLS. */
bool build_pods(struct build *b, const struct model_service *svc, const struct model_port *port);
sv build_pods_cluster(struct build *b, const struct model_service *svc, uint16_t port);

const struct istio_LocalityLoadBalancerSetting *build_locality(const struct istio_TrafficPolicy *p);
/* Adds what the rule of the cluster's service hashes (consistentHash) to a route. */
void build_hash(struct build *b, struct envoy_RouteAction *a, sv cluster);
/* Time-outs and hashing of the rule of the cluster's service for TCP connections to it. */
void build_tcp_policy(struct build *b, struct envoy_TcpProxy *t, sv cluster);
/* The tunnel of that rule. Where a connection may go to one of several clusters, it is that of the
 * first one's rule as a whole, `split`: a listener has one. */
void build_tcp_tunnel(struct build *b, struct envoy_TcpProxy *t, sv cluster, bool split);
/* Endpoints by locality and priority as this proxy uses them. */
const struct envoy_ClusterLoadAssignment *build_assignment(struct build *b,
                                                           const struct model_service *svc,
                                                           uint16_t port, sv subset, sv cluster);
/* Connections of the cluster go where they were going. */
void build_original_dst(struct envoy_Cluster *c);

/* Who has what two services claim: the one whose object is older, then by host name. */
bool build_older(const struct model_service *a, const struct model_service *b);

/* ---- inbound ---- */
/* A port of the proxy's own workload that some service names. */
struct inbound_port {
    uint16_t port; /* target */
    enum model_protocol protocol;
    const struct model_service *svc;
    uint16_t service_port;
    uint32_t order; /* in the service */
};
/* In the arena, by ascending port, each port once: the older service's, then by host name. */
uint32_t build_inbound_ports(struct build *b, struct inbound_port **out);

/* ---- virtual services ---- */
/* Holds for sidecars, is exported to the proxy's namespace, and its Sidecar (if there is one) names
 * a host of it in the rule's namespace. */
bool build_virtual_usable(struct build *b, const struct model_virtual *v);
/* Those that hold for a host as the proxy sees it, in order: exact host before wildcard, longer
 * wildcard first, then older, then name. */
struct model_virtual_list build_virtuals(struct build *b, sv host);
/* Those of them whose http rules hold for the host: all that name it, else the most specific
 * wildcard alone. The first that has a rule for the client decides. */
struct model_virtual_list build_http_virtuals(struct build *b, sv host);
struct route_list {
    const struct envoy_Route **v;
    uint32_t n, cap;
};
/* Appends the routes that vs has for clients like the proxy on a port; false when there is none. */
bool build_http_routes(struct build *b, const struct model_virtual *vs, uint16_t port,
                       struct route_list *out);
/* Appends the route of a service that no rule routes. */
void build_default_route(struct build *b, sv cluster, struct route_list *out);
/* "outbound|PORT|SUBSET|HOST" of a destination; ns is that of the rule. */
sv build_destination(struct build *b, const struct istio_Destination *d, sv ns,
                     uint16_t default_port);

/* ---- TCP and TLS rules ---- */
/* One filter chain: criteria that are not there hold for everything. */
struct l4_chain {
    const sv *cidrs, *sni;
    uint32_t n_cidrs, n_sni;
    sv source; /* CIDR */
    const struct envoy_Filter *filter;
};
/* The chains of a service's port by the tcp rules (or, where the port is TLS, the tls rules) of its
 * VirtualServices. The last holds for everything, but where tls rules name server names: others
 * go where they were going. In the arena; returns how many. */
uint32_t build_l4_chains(struct build *b, const struct model_service *svc,
                         const struct model_port *port, struct l4_chain **out);
bool build_is_tls(enum model_protocol p);

/* ---- matches ---- */
const struct envoy_RegexMatcher *build_regex(struct build *b, sv text);
const struct envoy_StringMatcher *build_string_matcher(struct build *b,
                                                       const struct istio_StringMatch *s);
/* A pattern that is there; an empty prefix says nothing. */
bool build_string_set(const struct istio_StringMatch *s);
/* 0 wants every port. */
bool build_port_matches(uint32_t want, uint16_t port);
/* NULL matches everything. */
const struct envoy_RouteMatch *build_route_match(struct build *b,
                                                 const struct istio_HTTPMatchRequest *in);
/* The parts of a match that the control plane decides: port, gateway, where the client is. */
bool build_match_holds(struct build *b, const struct istio_HTTPMatchRequest *m, uint16_t port);
/* The same for the matches of every kind of rule: they have these fields in common. */
#define BUILD_HOLDS_HERE(b, m, port)                                                               \
    ({                                                                                             \
        bool ok_ = build_port_matches((m)->port, (port)) &&                                        \
                   model_for_mesh((m)->gateways.v, (m)->gateways.n) &&                             \
                   (!(m)->source_namespace.n || sv_eq((m)->source_namespace, (b)->p->ns));         \
        for (uint32_t i_ = 0; i_ < (m)->source_labels.n; i_++)                                     \
            ok_ &= sv_eq(model_labels_get((b)->p->labels, (m)->source_labels.v[i_]->key),          \
                         (m)->source_labels.v[i_]->value);                                         \
        ok_;                                                                                       \
    })
/* No request passes it by: what stands behind it in the list is never reached. */
bool build_takes_everything(const struct istio_HTTPMatchRequest *m);

#endif
