/* What the rest of the room asks of the manager. Thread: main. */
#ifndef WEFT_UPSTREAM_CLUSTER_MANAGER_H
#define WEFT_UPSTREAM_CLUSTER_MANAGER_H

#include "upstream/cluster.h"
#include "upstream/outlier.h"
#include "upstream/upstream.h"

struct cluster_env *cluster_manager_env(struct cluster_manager *cm);
/* Every cluster that is in use, with its endpoints. */
void cluster_manager_each_active(struct cluster_manager *cm,
                                 void (*fn)(void *arg, struct cluster *c, struct endpoint_set *s),
                                 void *arg);
void cluster_manager_add_worker(struct cluster_manager *cm, struct upstream_worker *w);
void cluster_manager_del_worker(struct cluster_manager *cm, struct upstream_worker *w);

/* Of the version in use; NULL when it has none. */
const struct outlier *cluster_manager_outlier(const struct cluster_manager *cm,
                                              const struct cluster *c);

/* A host said in a response that it is about to fail. */
void cluster_manager_host_failing(struct cluster *c, struct endpoint_state *s);

#endif
