/* What the files of this folder share. */
#ifndef WEFT_MESH_TRANSLATE_INTERNAL_H
#define WEFT_MESH_TRANSLATE_INTERNAL_H

#include "api/envoy.pb.h"
#include "api/google.pb.h"
#include "api/istio.pb.h"
#include "api/pb.h"
#include "mesh/translate/translate.h"

/* Parsed once; copied as structs and filled in. */
struct translate {
    struct arena arena;
    bool mtls_strict;
    const struct envoy_AccessLog *access_log; /* NULL: none */
    const struct envoy_HttpConnectionManager *hcm_outbound, *hcm_inbound;
    const struct envoy_Cluster *cluster_outbound, *cluster_inbound;
    const struct envoy_Cluster *passthrough, *inbound_passthrough, *black_hole;
    const struct envoy_Listener *virtual_outbound, *virtual_inbound;
    const struct envoy_Listener *listener_http, *listener_tcp;
    const struct envoy_UpstreamTlsContext *tls_upstream;
    const struct envoy_TransportSocket *tls_downstream, *raw_buffer;
    const struct envoy_RouteAction *route_action; /* defaults: time-out off, safe retries */
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

/* ---- destination rules ---- */
/* The rule that holds for svc as seen from the proxy, and the policy in force for a port and
 * subset, by Istio's inheritance. Each part (load balancer, pool, TLS …) is taken whole from the
 * subset, else from the rule; where either has settings for the port, those stand in place of its
 * load balancer, pool, outlier detection and TLS altogether. */
struct istio_TrafficPolicy build_policy(struct build *b, const struct model_service *svc,
                                        uint16_t port, sv subset);
const struct istio_DestinationRule *build_rule(struct build *b, const struct model_service *svc);
const struct istio_Subset *build_subset(const struct istio_DestinationRule *r, sv name);
const struct model_port *build_port(const struct model_service *svc, uint16_t port);
/* The service is visible to the proxy (exportTo). */
bool build_visible(struct build *b, const struct model_service *svc);
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
/* Endpoints by locality and priority as this proxy uses them. */
const struct envoy_ClusterLoadAssignment *build_assignment(struct build *b,
                                                           const struct model_service *svc,
                                                           uint16_t port, sv subset, sv cluster);
/* Connections of the cluster go where they were going. */
void build_original_dst(struct envoy_Cluster *c);

/* ---- inbound ---- */
/* A port of the proxy's own workload that some service names. */
struct inbound_port {
    uint16_t port; /* target */
    enum model_protocol protocol;
    const struct model_service *svc;
    uint16_t service_port;
};
/* In the arena, by ascending port, each port once (the first service by host name wins). */
uint32_t build_inbound_ports(struct build *b, struct inbound_port **out);

/* ---- virtual services ---- */
/* The VirtualService in force for a host in the mesh as the proxy sees it, or NULL: exact host
 * before wildcard, longer wildcard first, then older, then name. */
const struct model_object *build_virtual(const struct model *m, sv host, sv client_ns);
/* Appends the routes of vs (or the default one when it is NULL) for a port of svc. */
struct route_list {
    const struct envoy_Route **v;
    uint32_t n, cap;
};
void build_http_routes(struct build *b, const struct model_object *vs,
                       const struct model_service *svc, uint16_t port, struct route_list *out);
/* Clusters and weights of the TCP route that matches a port; n == 0 when none says anything. */
const struct istio_TCPRoute *build_tcp_route(struct build *b, const struct model_object *vs,
                                             uint16_t port);
sv build_destination(struct build *b, const struct istio_Destination *d, sv ns,
                     uint16_t default_port);

/* ---- matches ---- */
const struct envoy_RegexMatcher *build_regex(struct build *b, sv text);
/* A pattern that is there; an empty prefix says nothing. */
bool build_string_set(const struct istio_StringMatch *s);
/* 0 wants every port. */
bool build_port_matches(uint32_t want, uint16_t port);
/* NULL matches everything. */
const struct envoy_RouteMatch *build_route_match(struct build *b,
                                                 const struct istio_HTTPMatchRequest *in);
/* The parts of a match that the control plane decides: port, gateway, where the client is. */
bool build_match_holds(struct build *b, const struct istio_HTTPMatchRequest *m, uint16_t port);

#endif
