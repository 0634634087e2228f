/* Where connection managers get their route tables: inline in the listener (static), or by name
 * from a config source (RDS), shared by all listeners that name it.
 *
 *   main:    provider.table ----(post)----> worker i: provider.views[i] --ref--> streams
 *
 * A view is the table as one worker sees it. It is counted without atomics, by that worker only,
 * so that taking a snapshot for a stream costs an increment (rule 9: one snapshot, to the end).
 * Thread: said at each part. */
#ifndef WEFT_PROXY_RDS_H
#define WEFT_PROXY_RDS_H

#include <stdbool.h>
#include <stdint.h>
#include "api/pb.h"
#include "base/error.h"
#include "base/list.h"
#include "base/sv.h"
#include "proxy/config_source.h"
#include "route/route.h"

struct loop;
struct stats;
struct cluster_manager;
struct rds_manager;
struct rds_provider;

/* ---- main ---- */
struct rds_manager_opts {
    struct loop *main;
    struct loop *const *workers;
    uint32_t n_workers;
    struct stats *stats;
    struct cluster_manager *clusters;   /* validate_clusters */
    const struct config_source *source; /* NULL: RDS references are refused by name */
    const struct pb_opts *pb;           /* strictness of dynamic resources */
    struct runtime *runtime;            /* outlives all tables; may be NULL */
};
struct rds_manager *rds_manager_new(const struct rds_manager_opts *o);
/* After the workers: no stream and no listener is left. */
void rds_manager_free(struct rds_manager *m);
/* Strictness and source may come later than the manager (they need clusters first). */
void rds_manager_set_source(struct rds_manager *m, const struct config_source *source);

/* A route table that stands in the listener. One reference for the caller. `path` for errors. */
int rds_static(struct rds_manager *m, sv packed, const char *path, struct rds_provider **out,
               struct error *err) MUST_CHECK;
/* By name. Subscribes when nobody did. stat_prefix: of the connection manager; the first one's
 * stands in the names of the counters, as in Envoy. `from`: its ConfigSource, for the source. */
int rds_dynamic(struct rds_manager *m, sv name, sv stat_prefix,
                const struct envoy_ConfigSource *from, struct rds_provider **out,
                struct error *err) MUST_CHECK;
void rds_provider_ref(struct rds_provider *p);
void rds_provider_unref(struct rds_provider *p); /* any thread; NULL is fine */
/* It has a table, or it is known that none comes soon (initial fetch timeout). */
bool rds_provider_ready(const struct rds_provider *p);
/* fn(arg) once, when p is ready; at once if it is. Embedded in the waiter; rds_wait_cancel takes it
 * off again. */
struct rds_wait {
    struct list link; /* private */
    void (*fn)(void *arg);
    void *arg;
};
void rds_provider_when_ready(struct rds_provider *p, struct rds_wait *w);
void rds_wait_cancel(struct rds_wait *w);
/* Nobody waits any longer: virtual hosts that come on their own come to what is there. */
void rds_provider_give_up(struct rds_provider *p);

/* From the config source. packed: RouteConfiguration. */
int rds_update(struct rds_manager *m, const struct config_resource *r,
               struct error *err) MUST_CHECK;
void rds_missing(struct rds_manager *m, sv name);
/* A response of VHDS: virtual hosts "TABLE/HOST" of all tables, each taken or refused by itself;
 * what is taken comes into force at one moment. A domain may go from one host to another within a
 * response. A removed name that is the table's own says that it has none. */
void rds_hosts_update(struct rds_manager *m, struct config_update *u);
/* A removal keeps the table in force (Envoy ignores RDS removals); counted. */

/* For config_dump: every table in force. */
void rds_each(struct rds_manager *m,
              void (*fn)(void *arg, sv name, const struct route_table *t, bool is_static,
                         sv version, uint64_t updated_wall_ns),
              void *arg);

/* ---- worker ---- */
struct rds_view {
    uint32_t refs;
    struct route_table *table; /* one reference */
};
/* The view in force on worker `index` with a reference, or NULL while there is no table. */
struct rds_view *rds_provider_view(struct rds_provider *p, uint32_t index);
void rds_view_unref(struct rds_view *v); /* NULL is fine */

#endif
