/* The resource types of xDS, by type URL. Order is the order in which they are asked for and
 * pushed (make before break): clusters, endpoints, secrets, listeners, routes, virtual hosts,
 * names. Thread: any. */
#ifndef WEFT_XDS_TYPE_H
#define WEFT_XDS_TYPE_H

#include <stdbool.h>
#include "base/sv.h"

struct pb_message;

#define XDS_TYPES_LIST(X)                                                                          \
    X(CDS, "envoy.config.cluster.v3.Cluster", true)                                                \
    X(EDS, "envoy.config.endpoint.v3.ClusterLoadAssignment", false)                                \
    X(SDS, "envoy.extensions.transport_sockets.tls.v3.Secret", false)                              \
    X(LDS, "envoy.config.listener.v3.Listener", true)                                              \
    X(RDS, "envoy.config.route.v3.RouteConfiguration", false)                                      \
    X(VHDS, "envoy.config.route.v3.VirtualHost", true)                                             \
    X(NDS, "istio.networking.nds.v1.NameTable", true)

enum xds_type {
#define X(id, name, wildcard) XDS_##id,
    XDS_TYPES_LIST(X)
#undef X
        XDS_TYPES
};

/* "CDS" */
const char *xds_type_short(enum xds_type t);
/* "type.googleapis.com/envoy.config.cluster.v3.Cluster" */
sv xds_type_url(enum xds_type t);
/* False when the URL is none of ours. */
bool xds_type_find(sv url, enum xds_type *out);
/* A subscription without names means "all of them" (LDS, CDS; NDS in Istio's practice; VHDS: all of
 * the route configurations that the client has, as Envoy asks for them). */
bool xds_type_wildcard(enum xds_type t);
/* Virtual hosts are called "TABLE/HOST" after their route configuration: what stands before the
 * last '/', empty when there is none. */
sv xds_host_table(sv name);
/* Among the client_features of a node: it takes virtual hosts over VHDS on its delta ADS stream. */
#define XDS_FEATURE_VHDS "weft.vhds"
/* The name inside a packed resource of that type (name, cluster_name); empty for NDS and for
 * bytes that do not decode. Borrows from `packed`. */
sv xds_resource_name(enum xds_type t, sv packed);

#endif
