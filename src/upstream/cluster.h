/* A cluster as main and workers share it.
 *
 *   cluster_env                what all clusters of a manager have in common
 *   cluster                    name and packed bytes; one a version of the configuration
 *    └ cluster_rt              decoded form, stats, limits, endpoints' registry: made on first use
 *   endpoint_set               packed assignment; one a version of the endpoints of one cluster
 *    └ endpoint_table          made on first use
 *
 * All are counted; a worker that only knows a cluster holds a few hundred bytes. Clusters are freed
 * on main, since TLS slots belong there.
 * Thread: any; the mutex is for first uses only. */
#ifndef WEFT_UPSTREAM_CLUSTER_H
#define WEFT_UPSTREAM_CLUSTER_H

#include <pthread.h>
#include "base/refcount.h"
#include "tls/tls_slot.h"
#include "upstream/cluster_config.h"
#include "upstream/cluster_stats.h"
#include "upstream/endpoint.h"
#include "upstream/limits.h"
#include "upstream/mailbox.h"

struct cluster_manager;

struct cluster_env {
    struct refcount ref;
    struct stats *stats;
    struct tls_secret_store *secrets;
    const struct pb_opts *static_fields, *dynamic_fields;
    uint32_t socket_mark;
    struct bind_source bind; /* of clusters that do not say their own */
    struct mailbox *main;
    struct cluster_manager *cm; /* main only; NULL once it is being freed */
};
void cluster_env_unref(struct cluster_env *e);

/* A TLS slot of a cluster: made on main when a worker first needs it. */
struct cluster_tls {
    _Atomic(struct tls_slot *) slot;
    _Atomic bool failed; /* it cannot be made; `error` says why */
    bool asked;          /* under the cluster's lock: main has been asked */
    char error[256];
};

struct cluster_rt {
    struct cluster_config *cfg;
    struct cluster_stats stats;
    struct limits limits;
    struct endpoint_registry registry;
    struct cluster_tls *tls; /* by transport */
};

/* Updates that came before there was anybody to count them. */
enum cluster_update {
    CLUSTER_UPDATE_ATTEMPT,
    CLUSTER_UPDATE_SUCCESS,
    CLUSTER_UPDATE_FAILURE,
    CLUSTER_UPDATE_EMPTY,
    CLUSTER_UPDATE_NO_REBUILD,
    CLUSTER_UPDATE_REJECTED,
    CLUSTER_UPDATES
};

struct cluster {
    struct refcount ref;
    struct mail gone; /* to main, when the last reference went */
    struct cluster_env *env;
    sv name, packed;
    bool is_static;
    pthread_mutex_t lock;
    _Atomic(struct cluster_rt *) rt;
    struct kept_stats *kept; /* NULL: nothing was counted before */
    _Atomic uint32_t updates[CLUSTER_UPDATES];
    char bytes[];
};

/* `packed` has passed cluster_config_new; it is copied. One reference belongs to the caller. */
struct cluster *cluster_new(struct cluster_env *env, sv packed, bool is_static);
struct cluster *cluster_ref(struct cluster *c);
void cluster_unref(struct cluster *c); /* NULL is fine */
/* Main, before anybody uses c: what was counted of `before`, a version that c replaces (or NULL),
 * goes on under c's stat name: counters do not start again because a cluster was changed. */
void cluster_keep_stats(struct cluster *c, const struct cluster *before, sv stat_name);
/* The runtime form, made now if need be. Never NULL; lives as long as the cluster. */
struct cluster_rt *cluster_rt(struct cluster *c);
/* The same only if somebody has used the cluster. */
struct cluster_rt *cluster_rt_if_used(const struct cluster *c);
void cluster_count_update(struct cluster *c, enum cluster_update u);

/* ---- TLS ---- */
enum cluster_tls_state { CLUSTER_TLS_READY, CLUSTER_TLS_WAIT, CLUSTER_TLS_NOT_READY };
/* The current context for new connections (with a reference), READY; WAIT: main has been asked,
 * every worker hears of it through cluster_tls_made; NOT_READY: secrets are missing or it cannot be
 * made, *why says which. */
enum cluster_tls_state cluster_tls_get(struct cluster *c, uint32_t transport, struct tls_ctx **ctx,
                                       sv *why);
/* Main: makes the slot that a worker asked for. Implemented by cluster_tls.c; the manager tells the
 * workers. */
void cluster_tls_make(struct cluster *c, uint32_t transport);
/* Main: whether all TLS contexts of a configuration could be made; files are read, inline
 * certificates are tried. */
int cluster_tls_check(const struct cluster_config *cfg, struct tls_secret_store *secrets,
                      struct error *err) MUST_CHECK;
/* Main: calls fn for each secret that the transports of a checked configuration name. */
void cluster_tls_secrets(const struct cluster_config *cfg,
                         void (*fn)(void *arg, const struct tls_secret_name *name), void *arg);
/* The manager's, called on main when a worker asks for a slot. */
void cluster_manager_tls_wanted(struct cluster *c, uint32_t transport);

/* ---- endpoints ---- */
struct endpoint_blob { /* the bytes of an assignment, shared by the clusters it belongs to */
    struct refcount ref;
    size_t n;
    char bytes[];
};
struct endpoint_blob *endpoint_blob_new(sv packed);
void endpoint_blob_unref(struct endpoint_blob *b);

struct endpoint_set {
    struct refcount ref;
    struct cluster *cluster;    /* with a reference */
    struct endpoint_blob *blob; /* NULL: the cluster's own load_assignment */
    _Atomic(struct endpoint_table *) table;
};
/* Takes over nothing; refers to both. The bytes have passed endpoint_check. */
struct endpoint_set *endpoint_set_new(struct cluster *c, struct endpoint_blob *b);
struct endpoint_set *endpoint_set_ref(struct endpoint_set *s);
void endpoint_set_unref(struct endpoint_set *s); /* NULL is fine */
/* Made now if need be; counts membership. Never NULL. Lives as long as the set. */
struct endpoint_table *endpoint_set_table(struct endpoint_set *s);
/* A table of it in another registry, which the caller frees: for looking at clusters that nobody
 * uses, without making them used. */
struct endpoint_table *endpoint_set_build(const struct endpoint_set *s,
                                          const struct cluster_config *cfg,
                                          struct endpoint_registry *registry);
/* Writes the membership gauges, after the health of endpoints changed. */
void endpoint_set_show(struct endpoint_set *s);

#endif
