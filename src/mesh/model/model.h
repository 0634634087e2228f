/* The mesh as the control plane sees it: an immutable snapshot with indexes.
 *
 *   source ---model_store_put/del---> [ store ] ---model_store_build---> struct model (immutable)
 *                                                                            |
 *                                                 translate, push, ca, CLI: read only
 *
 * Sources emit objects (kind, namespace/name, version, body). The store holds the last good form of
 * each; building makes a new snapshot that shares every object that did not change and says which
 * keys did. Nothing here knows Kubernetes, files or xDS.
 *
 * A bad object never takes down a good one: an object that cannot be read is kept as a problem
 * (file, line, field, cause) while its last good version stays in force.
 * Ownership: objects are refcounted, and views into one live as long as it; a snapshot belongs to
 * who built it.
 * Thread: main. */
#ifndef WEFT_MESH_MODEL_MODEL_H
#define WEFT_MESH_MODEL_MODEL_H

#include <stdint.h>
#include "base/arena.h"
#include "base/error.h"
#include "base/map.h"
#include "base/refcount.h"
#include "base/sv.h"

struct istio_VirtualService;
struct istio_DestinationRule;
struct istio_ServiceEntry;
struct istio_WorkloadEntry;
struct istio_Sidecar;
struct istio_HTTPRoute;
struct node;

enum model_kind {
    MODEL_SERVICE,
    MODEL_POD,
    MODEL_ENDPOINT_SLICE,
    MODEL_WORKLOAD_ENTRY,
    MODEL_SERVICE_ENTRY,
    MODEL_VIRTUAL_SERVICE,
    MODEL_DESTINATION_RULE,
    MODEL_SIDECAR,
    MODEL_WORKLOAD, /* registered by `weft run` */
    MODEL_KINDS
};
const char *model_kind_name(enum model_kind k); /* "VirtualService" */

struct model_label {
    sv key, value;
};
struct model_labels {
    const struct model_label *v; /* sorted by key */
    uint32_t n;
};
/* Every pair of `selector` is in `labels`. An empty selector selects everything. */
bool model_labels_match(struct model_labels labels, struct model_labels selector);
sv model_labels_get(struct model_labels labels, sv key); /* p == NULL when absent */

/* Those of a WorkloadEntry, or of an inline endpoint. */
struct model_labels model_entry_labels(struct arena *a, const struct istio_WorkloadEntry *w);

/* "region/zone/sub-zone" (or with another separator) into its parts; what is left out is empty. */
void model_locality_parse(sv text, char separator, sv *region, sv *zone, sv *sub_zone);
/* From the label istio-locality ("region.zone.sub-zone"), else from topology.kubernetes.io/region,
 * …/zone and topology.istio.io/subzone. */
void model_locality_of_labels(struct model_labels labels, sv *region, sv *zone, sv *sub_zone);

/* ---- objects ---- */

enum model_protocol {
    MODEL_TCP,
    MODEL_HTTP,  /* HTTP/1.1 */
    MODEL_HTTP2, /* h2c */
    MODEL_GRPC,
    MODEL_GRPC_WEB,
    MODEL_TLS,
    MODEL_HTTPS,
    MODEL_UDP,
    MODEL_AUTO, /* not said: sniffed */
};
/* appProtocol first, then the port's name ("http", "http-web", "grpc-x", …) as Istio reads it. */
enum model_protocol model_protocol_of(sv app_protocol, sv port_name, sv k8s_protocol);
bool model_protocol_is_http(enum model_protocol p);

struct model_port {
    sv name;
    uint16_t port;
    uint16_t target_port; /* 0: by name */
    sv target_name;
    enum model_protocol protocol;
    uint32_t line; /* of a Service's port, in its file */
};

struct model_service_spec {
    const struct model_port *ports;
    uint32_t n_ports;
    struct model_labels selector;
    bool selects;  /* false: endpoints come from elsewhere */
    sv cluster_ip; /* first, or empty; "None" = headless */
    const sv *cluster_ips;
    uint32_t n_cluster_ips;
    sv external_name;
    bool headless;
    const sv *export_to; /* annotation networking.istio.io/exportTo */
    uint32_t n_export_to;
};

struct model_pod_spec { /* also MODEL_WORKLOAD */
    const sv *ips;
    uint32_t n_ips;
    sv service_account, node;
    sv region, zone, sub_zone;
    bool ready;
    bool terminating;
    bool sidecar;                   /* speaks mTLS: endpoints get tlsMode istio */
    const struct model_port *ports; /* named container ports */
    uint32_t n_ports;
};

struct model_slice_endpoint {
    const sv *addresses;
    uint32_t n_addresses;
    bool ready, serving, terminating;
    sv pod, zone, node;
};
struct model_slice_spec {
    sv service; /* label kubernetes.io/service-name */
    const struct model_slice_endpoint *endpoints;
    uint32_t n_endpoints;
    const struct model_port *ports;
    uint32_t n_ports;
};

struct model_object {
    struct refcount refs;
    struct arena arena; /* everything below lives here */
    enum model_kind kind;
    sv ns, name;
    struct model_labels labels, annotations;
    uint64_t created_ns; /* creationTimestamp, or when it was first seen; order of precedence */
    uint64_t version;    /* hash of the body: equal means nothing changed */
    sv file;             /* where it came from, for messages; empty when from elsewhere */
    uint32_t line;
    const void *spec; /* by kind: model_*_spec, or the istio_* message */
    /* Lines of the fields (node_outline), so that a message about a value can name its place; NULL
     * for services, pods and slices. */
    const struct node *tree;
};
struct model_object *model_object_new(enum model_kind kind);
struct model_object *model_object_ref(struct model_object *o);
void model_object_unref(struct model_object *o);

/* ---- problems: what a person should know, per object and field ---- */
enum model_severity { MODEL_ERROR, MODEL_WARNING, MODEL_HINT };
struct model_problem {
    enum model_severity severity;
    enum model_kind kind;
    bool has_object; /* false: the document could not even be named */
    sv ns, name, file;
    uint32_t line;
    sv field; /* "spec.http[0].route[1].destination.subset" */
    sv text;  /* whole sentence with the remedy */
    sv code;  /* stable: "SubsetNotFound", "ParseError", "Conflict" … */
};

/* ---- the store: last good objects, mutable, main thread ---- */
struct model_store;
struct model_store *model_store_new(sv trust_domain, sv domain_suffix /* cluster.local */);
void model_store_free(struct model_store *s);
/* Takes the reference. `source` says who owns the object ("file", "run", "kube"): a source
 * replaces and deletes only its own; when two sources name the same object the first keeps it
 * and a Conflict problem is recorded. */
enum model_put { MODEL_PUT_SAME, MODEL_PUT_CHANGED, MODEL_PUT_CONFLICT };
enum model_put model_store_put(struct model_store *s, const char *source, struct model_object *o);
/* Deletes what `source` put, and only if it came from `file` when one is given. True if it did. */
bool model_store_del(struct model_store *s, const char *source, enum model_kind k, sv ns, sv name,
                     sv file);
/* A problem about a document of `source` and `file`; cleared with that file's next reading. */
void model_store_problem(struct model_store *s, const char *source, const struct model_problem *p);
void model_store_clear_problems(struct model_store *s, const char *source, sv file);

/* ---- the snapshot ---- */

/* How a service's endpoints are found: what the sidecar's cluster for it will be. */
enum model_resolution {
    MODEL_RESOLVE_ENDPOINTS, /* known to the control plane (EDS) */
    MODEL_RESOLVE_NONE,      /* where the connection was going (ServiceEntry, resolution NONE) */
    MODEL_RESOLVE_DNS,       /* the sidecar asks DNS; every address is an endpoint */
    MODEL_RESOLVE_DNS_ONE,   /* the sidecar asks DNS; the first address (DNS_ROUND_ROBIN) */
};

/* A service of the mesh by its host name: from a Service, or a host of a ServiceEntry. */
struct model_service {
    sv host; /* "flaskapp.books.svc.cluster.local"; "*.example.com" only from a ServiceEntry */
    sv ns, name;
    const struct model_object *object;
    const struct model_service_spec *spec;  /* made from the ServiceEntry where it is one */
    const struct istio_ServiceEntry *entry; /* NULL: a Service */
    enum model_resolution resolution;
    bool mesh_external;
    sv vip;              /* the first of `addresses`, or an automatic one; empty for headless */
    bool auto_vip;       /* `vip` is one that only the sidecar's DNS gives out */
    const sv *addresses; /* cluster IPs, or what a ServiceEntry says */
    uint32_t n_addresses;
    const sv *cidrs; /* "10.0.0.0/8", of a ServiceEntry */
    uint32_t n_cidrs;
    /* Where several ServiceEntries are one: what each of them said, by itself, the oldest first.
     * Above are the ports and addresses of all, and the rest as the oldest has it. */
    const struct model_service *more;
    /* ServiceEntries of other namespaces that say just the same: who sees one of them sees this. */
    const struct model_service *also;
};
/* The ServiceEntry that says how a port is; NULL for a Service. */
const struct istio_ServiceEntry *model_port_entry(const struct model_service *svc, uint16_t port);
/* The object is the service's, or one of those that are one with it. */
bool model_service_is_of(const struct model_service *svc, const struct model_object *o);
/* The service, or one that says the same, is exported to the namespace. */
bool model_service_exported_to(const struct model_service *svc, sv ns);

/* One endpoint of a service port. */
struct model_endpoint {
    sv address;
    uint16_t port;
    uint32_t weight;            /* 1 unless said */
    struct model_labels labels; /* of the workload: subsets select on them */
    sv service_account, ns, workload, region, zone, sub_zone, node, network;
    /* address may also be a host name (resolution DNS) or "unix:///path" (port 0). */
    bool healthy;
    bool draining; /* terminating but still serving */
    bool tls;      /* has a sidecar: mTLS */
};
struct model_endpoints { /* per (host, service port) */
    const struct model_endpoint *v;
    uint32_t n;
    uint64_t version; /* hash of the content */
};

/* One HTTP rule in force. */
struct model_http_rule {
    const struct istio_HTTPRoute *route; /* of a delegate: merged with the root's */
    const struct model_object *from;     /* whose rule: its names are resolved in this namespace */
    uint32_t index;                      /* it is spec.http[index] there */
};
/* A VirtualService as it is in force: hosts resolved, the rules of its delegates in their place.
 * Those without hosts are delegates, and none of these. */
struct model_virtual {
    const struct model_object *object;
    const struct istio_VirtualService *spec;
    const sv *hosts; /* resolved, lower case; as many as spec->hosts */
    const struct model_http_rule *http;
    uint32_t n_http;
    bool mesh; /* for sidecars: no gateways, or "mesh" among them */
};
struct model_virtual_list {
    const struct model_virtual *const *v;
    uint32_t n;
};
/* A wildcard host of a VirtualService, "*" or "*.suffix". */
struct model_wildcard {
    sv host;
    const struct model_virtual *v;
};

struct model {
    uint64_t generation;
    sv trust_domain, domain_suffix;
    struct arena arena;
    struct map services;                             /* host -> struct model_service */
    const struct model_service *const *service_list; /* sorted by host */
    uint32_t n_services;
    struct map endpoints;       /* "host|port" -> struct model_endpoints */
    struct map workloads_by_ip; /* ip -> const struct model_object (Pod or Workload) */
    /* Config objects of one kind, sorted by precedence: creation time, then name, then namespace.
     */
    const struct model_object *const *objects[MODEL_KINDS];
    uint32_t n_objects[MODEL_KINDS];
    struct map rules_by_host; /* host -> struct model_list of DestinationRule objects */
    struct map rules;         /* "ns|host" -> struct model_rules, merged */
    /* VirtualServices by precedence, delegates merged: all of them; by exact host (struct
     * model_virtual_list); by wildcard, longest first, then by precedence. */
    struct model_virtual_list virtuals;
    struct map virtuals_by_host;
    const struct model_wildcard *wildcards;
    uint32_t n_wildcards;
    /* What merging delegates found: delegates that do not exist or are not exported, rules that
     * contradict the root's. */
    const struct model_problem *merge_problems;
    uint32_t n_merge_problems;
    const struct model_problem *problems;
    uint32_t n_problems;
};
struct model_list {
    const struct model_object *const *v;
    uint32_t n;
};

/* What differs between two snapshots: declared inputs of translation. Names borrow from `next`
 * and `prev`. */
struct model_delta {
    bool config;     /* a VirtualService, DestinationRule, Sidecar … or the set of services */
    const sv *hosts; /* services that came, went or changed (ports, selectors, VIP) */
    uint32_t n_hosts;
    const sv *endpoint_hosts; /* services of which only endpoints changed */
    uint32_t n_endpoint_hosts;
    const struct model_object *const *objects; /* config objects that changed (old or new form) */
    uint32_t n_objects;
};

/* Builds a snapshot of what the store holds; prev (may be NULL) lends what did not change. *delta
 * (may be NULL) is allocated in the new snapshot's arena. Never fails. */
struct model *model_store_build(struct model_store *s, const struct model *prev,
                                const struct model_delta **delta);
void model_free(struct model *m);

const struct model_service *model_service_find(const struct model *m, sv host);
/* Istio's rule for short names: a name without dots is completed with the namespace of the object
 * that uses it and the domain ("reviews" in ns -> "reviews.ns.svc.cluster.local"); "a.b" with the
 * domain when a service of that name exists. Result lives in `a`. */
sv model_host_resolve(const struct model *m, sv name, sv ns, struct arena *a);
const struct model_endpoints *model_endpoints_find(const struct model *m, sv host, uint16_t port);
/* exportTo of an object as seen from a namespace: ".", "*", names; an empty list is everyone. */
bool model_exported_to(const sv *export_to, uint32_t n, sv object_ns, sv viewer_ns);
/* The number of a gRPC status by its name ("UNAVAILABLE"); false when there is no such one. */
bool model_grpc_status(sv name, uint32_t *code);
/* "*" and "*.suffix" take every host that ends so. */
bool model_wildcard_matches(sv pattern, sv host);
/* Gateways of a VirtualService or of a match: sidecars ("mesh") are among them, or none is named.
 */
bool model_for_mesh(const sv *gateways, uint32_t n);

/* ---- destination rules ---- */

/* The rules of one namespace for one host that hold for the same clients, merged. */
struct model_rule {
    const struct model_object *object; /* the first of them */
    const struct istio_DestinationRule *spec;
};
struct model_rules {
    struct model_rule *v;
    uint32_t n;
};
struct model_client {
    sv ns;
    struct model_labels labels;
};
/* The rule in force for a service as a client sees it: looked for in the client's namespace, the
 * service's, then the root namespace; in each the host itself before wildcards, a rule that
 * selects the client before one for everybody. NULL: none. */
const struct model_rule *model_rule_find(const struct model *m, const struct model_service *svc,
                                         const struct model_client *c);
/* Two rules of one namespace and host become one (same workloadSelector and exportTo). */
bool model_rules_merge(const struct istio_DestinationRule *a,
                       const struct istio_DestinationRule *b);

#endif
