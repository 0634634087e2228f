/* A serve_channel whose streams come from a cluster of the proxy: how ADS (and other calls of the
 * proxy's own) reach the cluster that the bootstrap names, with its TLS, balancing and pools.
 * Thread: the loop of the upstream_worker. */
#ifndef WEFT_PROXY_CLUSTER_CHANNEL_H
#define WEFT_PROXY_CLUSTER_CHANNEL_H

#include "serve/serve_stream.h"

struct upstream_worker;

/* `cluster` and `authority` are copied; an empty authority means the cluster's name. */
struct serve_channel *cluster_channel_new(struct upstream_worker *w, struct loop *l, sv cluster,
                                          sv authority);
/* What is waiting is dropped without an answer. NULL is fine. */
void cluster_channel_free(struct serve_channel *c);

#endif
