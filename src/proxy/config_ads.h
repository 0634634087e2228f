/* The config source that bootstraps name: ADS over gRPC (state of the world or delta), the control
 * plane being a cluster of the proxy itself, so that its TLS, secrets and limits apply.
 *
 *   sink <--- config_ads <-> xds/ads_client <-> gRPC call <-> cluster_channel <-> cluster
 *
 * One stream at a time. When it ends a new one is tried after a random part of 0.5 s, 1 s, 2 s ...
 * 30 s (or of the bootstrap's retry_back_off); the first answer makes the next wait short again.
 * What is in force stays in force; subscriptions and versions are told anew (delta), so that only
 * what changed comes. A name that somebody waits for and that does not come within its time is
 * told by whoever knows that time (server_config.c, the cluster manager, rds.c); the source tells
 * the sink only what the server says does not exist.
 * Stats: control_plane.connected_state, .pending_requests, .rate_limit_enforced, .identifier;
 * update_attempt and update_failure of CDS and LDS at each failure of the stream, as Envoy's.
 * Thread: main. */
#ifndef WEFT_PROXY_CONFIG_ADS_H
#define WEFT_PROXY_CONFIG_ADS_H

#include "api/envoy.pb.h"
#include "base/error.h"
#include "proxy/config_source.h"
#include "xds/xds_type.h"

struct proxy_server;

/* Whether dynamic_resources.ads_config asks for something that is built. `path` for errors. */
int config_ads_check(const struct envoy_ApiConfigSource *c, const char *path,
                     struct error *err) MUST_CHECK;
enum xds_type config_ads_type(enum config_type t);
/* The cluster that it names; empty when check would refuse it. */
sv config_ads_cluster(const struct envoy_ApiConfigSource *c);
/* The server's upstream_worker on main is made when there is none yet. NULL + err: see check. Freed
 * by its ops->free, together with the struct. */
struct config_source *config_ads_new(struct proxy_server *s, const struct envoy_ApiConfigSource *c,
                                     struct error *err);

#endif
