/* What the proxy asks of whoever brings it configuration while it runs (ADS, a watched file, a
 * test).
 *
 *   proxy --subscribe / unsubscribe--> source --update / missing--> proxy (struct config_sink)
 *
 * Listeners, clusters and the name table are subscribed as a whole (empty name), routes, endpoints
 * and secrets by name, virtual hosts by the name of their route configuration. The source keeps
 * subscriptions over reconnects. It gives every accepted resource once per change; what it gives
 * twice with equal bytes does no harm. Order between types (clusters before the listeners that name
 * them) is the server's; the proxy warms what is not complete. Thread: main. Both directions may
 * call each other from inside a call. */
#ifndef WEFT_PROXY_CONFIG_SOURCE_H
#define WEFT_PROXY_CONFIG_SOURCE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "base/sv.h"

struct envoy_ConfigSource;

/* id, resource type (message name after "type.googleapis.com/"), prefix of its counters */
#define CONFIG_TYPES(X)                                                                            \
    X(CDS, "envoy.config.cluster.v3.Cluster", "cluster_manager.cds.")                              \
    X(EDS, "envoy.config.endpoint.v3.ClusterLoadAssignment", "")                                   \
    X(LDS, "envoy.config.listener.v3.Listener", "listener_manager.lds.")                           \
    X(RDS, "envoy.config.route.v3.RouteConfiguration", "")                                         \
    X(VHDS, "envoy.config.route.v3.VirtualHost", "")                                               \
    X(SDS, "envoy.extensions.transport_sockets.tls.v3.Secret", "")                                 \
    X(NDS, "istio.networking.nds.v1.NameTable", "")
enum config_type {
#define X(id, type, stats) CONFIG_##id,
    CONFIG_TYPES(X)
#undef X
        CONFIG_TYPE_COUNT
};

struct config_resource {
    sv name;
    sv version;           /* of the resource (delta) or of the response; may be empty */
    sv packed;            /* the message's bytes, without the Any around them */
    struct error refused; /* filled by the sink to refuse the resource: code != 0 */
};

/* One response of the server: what was added or changed, what is gone. */
struct config_update {
    enum config_type type;
    sv version; /* of the response */
    struct config_resource *v;
    uint32_t n;
    const sv *removed;
    uint32_t n_removed;
};

struct config_sink {
    /* Every resource is taken or refused by itself: a bad one leaves its last good version in force
     * and does not hold up the others; the source NACKs with the sentences. */
    void (*update)(void *self, struct config_update *u);
    /* The server says that there is no such resource, or did not say anything within the initial
     * fetch timeout: whoever waits goes on without it. Empty name: the whole type. */
    void (*missing)(void *self, enum config_type t, sv name);
    void *self;
};

struct config_source_ops {
    /* An empty name is the wildcard. Counted by the caller: each name at most once at a time. */
    void (*subscribe)(void *self, enum config_type t, sv name);
    void (*unsubscribe)(void *self, enum config_type t, sv name);
    /* Starts, after the sink is known; before that subscriptions are only noted. */
    void (*start)(void *self, const struct config_sink *sink);
    void (*free)(void *self);
    /* Before a name is subscribed to: where it is to come from. An error when there is no such
     * source. NULL: every name comes from here, whatever its ConfigSource says. */
    int (*from)(void *self, enum config_type t, sv name, const struct envoy_ConfigSource *src,
                struct error *err);
};

struct config_source {
    const struct config_source_ops *ops;
    void *self;
    bool has_vhds; /* virtual hosts can be subscribed (delta streams) */
};

#endif
