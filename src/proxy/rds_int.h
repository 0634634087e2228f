/* Between rds.c (route configurations) and rds_hosts.c (virtual hosts that come on their own).
 * Private.
 *
 *   RDS  ----> base ---no vhds----------------------------> table (in force)
 *   VHDS ----> hosts: name -> checked against base --extend--^
 *
 * A base that refers to VHDS is not used before its first virtual hosts came, or the time for them
 * is over; until then the table before it stays. Thread: main. */
#ifndef WEFT_PROXY_RDS_INT_H
#define WEFT_PROXY_RDS_INT_H

#include "base/map.h"
#include "net/loop.h"
#include "proxy/rds.h"
#include "proxy/subscription.h"

struct rds_manager {
    struct rds_manager_opts o;
    struct map dynamic;    /* name -> rds_provider */
    struct list providers; /* all of them */
    struct route_table_opts table_opts, static_opts;
};

#define RDS_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                              \
    COUNTER(P, config_reload)                                                                      \
    GAUGE(P, config_reload_time_ms)                                                                \
    COUNTER(P, update_empty)
STAT_GROUP_DECLARE(rds_stats, RDS_STATS);

/* Of one subscription; of a provider whose configuration came with the listener: nothing. */
struct rds_counts {
    struct stat_group subscription; /* proxy/subscription.h */
    struct stat_group reloads;
};

struct rds_hosts {
    bool subscribed;
    bool came;          /* an answer, or the time for it is over */
    struct map by_name; /* resource's name -> struct route_hosts, a reference each */
    struct timer wait;
    struct rds_counts counts;
};

struct rds_provider {
    uint32_t refs; /* main's */
    struct rds_manager *m;
    struct list link;
    char *name, *stat_prefix;
    bool is_static, given_up;
    struct route_table *table; /* main's: in force */
    struct route_table *base;  /* what RDS said last; virtual hosts on their own come to it */
    struct rds_hosts hosts;
    struct list waiting; /* struct rds_wait */
    char *version;
    uint64_t updated_wall_ns;
    struct rds_counts counts;
    uint32_t n;
    struct rds_view *views[]; /* views[i] belongs to worker i once it is published */
};

/* ---- rds.c ---- */
/* Puts the table in force (takes over the reference) and tells who waits. */
void rds_publish(struct rds_provider *p, struct route_table *t);
/* http.PREFIX.rds.<middle>NAME., at the first call. */
void rds_counts_init(struct rds_provider *p, struct rds_counts *c, const char *middle);
void rds_counts_reload(struct rds_provider *p, struct rds_counts *c);
void rds_counts_fini(struct rds_counts *c);

/* ---- rds_hosts.c ---- */
/* The new base (its reference is taken over) refers to VHDS; on failure nothing changed. */
int rds_hosts_take(struct rds_provider *p, struct route_table *base, struct error *err) MUST_CHECK;
/* It does not, or the provider ends. */
void rds_hosts_leave(struct rds_provider *p);

#endif
