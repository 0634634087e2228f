/* Endpoints of STRICT_DNS and LOGICAL_DNS clusters: resolves the names in the cluster's
 * load_assignment again and again, and makes assignments of addresses from the answers.
 *
 *   names --resolver--> addresses --> packed ClusterLoadAssignment --> fn, when something changed
 *
 * STRICT_DNS: each address of a name is an endpoint. LOGICAL_DNS: the first address is the one
 * endpoint. A name that does not exist has no addresses; when asking fails, the old ones stay.
 * fn comes first when every name was asked once. Asked again after the refresh rate (or the TTL),
 * after failures with exponential back-off and jitter.
 * Thread: main. */
#ifndef WEFT_UPSTREAM_DNS_CLUSTER_H
#define WEFT_UPSTREAM_DNS_CLUSTER_H

#include "net/resolver.h"
#include "upstream/cluster.h"

struct dns_cluster;
struct dns_cluster *dns_cluster_new(struct loop *l, struct resolver *r, struct cluster *c,
                                    const struct cluster_config *cfg,
                                    void (*fn)(void *arg, sv packed), void *arg);
void dns_cluster_free(struct dns_cluster *d); /* NULL is fine; also from inside fn */

#endif
