/* Network filters: who gets an accepted connection, and in which order.
 *
 *   accepted, chain chosen, TLS done --> [F1] --> [F2] --> ... --> [terminal: owns the conn]
 *
 * A filter before the terminal one decides (at once or later) whether the connection goes on, with
 * network_next() or network_refuse(); one that has to see or change bytes stacks a conn of its own
 * on nc->conn before it says next, as TLS does. The terminal filter takes nc->conn over
 * (conn_set_owner), says in nc->owner how it can be asked to end, closes the conn itself and then
 * calls network_done() exactly once; nc is gone at the end of that turn.
 * Thread: the connection's worker. */
#ifndef WEFT_FILTERS_NETWORK_H
#define WEFT_FILTERS_NETWORK_H

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "base/list.h"
#include "base/sv.h"
#include "filters/worker.h"
#include "http/stream_info.h"
#include "net/conn.h"

struct filter_ctx;
struct network_conn;

/* What the owner of a connection can be asked. */
struct network_owner_ops {
    /* The listener drains: finish what is under way, tell the peer, close then. */
    void (*drain)(void *owner);
    /* Close now (deadline of a drain, end of the process). */
    void (*abort)(void *owner);
    /* Nothing is under way: closing would disturb nobody. */
    bool (*idle)(const void *owner);
    /* How the connection stands, in `a`. NULL: cannot be said (the owner has streams of its own).
     */
    const struct stream_info *(*describe)(void *owner, struct arena *a);
};

struct network_conn_ops {
    void (*next)(struct network_conn *nc);
    void (*refuse)(struct network_conn *nc, uint64_t flags, sv details);
    void (*done)(struct network_conn *nc);
    bool (*drain_close)(struct network_conn *nc);
    /* A request for `authority` came over this connection, although a client that asked for that
     * name would have got another filter chain, with another certificate or other demands on the
     * client's (RFC 9110 7.4). Only for TLS that began with a name; a: for what it takes to see. */
    bool (*misdirected)(struct network_conn *nc, sv authority, struct arena *a);
};

/* Who wants to know what becomes of a connection without standing in its way (metrics). The
 * terminal filter tells: that it has its upstream, how things stand when asked
 * (network_owner_ops.describe), and, before it closes anything, the end. */
struct network_observer {
    struct network_observer *next;
    /* NULL: not asked for. */
    void (*on_connected)(struct network_observer *o, const struct stream_info *si);
    /* Exactly once, last; si is NULL when no terminal filter had the connection. */
    void (*on_end)(struct network_observer *o, const struct stream_info *si);
};

struct network_conn {
    const struct network_conn_ops *ops; /* the proxy's */
    struct filter_worker *worker;
    struct conn *conn;
    struct stream_conn sc; /* filled before the first filter runs */
    const struct network_owner_ops *owner_ops;
    void *owner;
    uint64_t flags;         /* STREAM_FLAG_* that concern the connection */
    sv termination_details; /* why it ended; static or living as long as nc */
    uint32_t buffer_limit;  /* the listener's per_connection_buffer_limit_bytes */
    struct network_observer *observers;
    struct list link; /* private: connections of one listener on this worker */
};

static inline void network_observe(struct network_conn *nc, struct network_observer *o)
{
    o->next = nc->observers;
    nc->observers = o;
}
static inline void network_tell_connected(struct network_conn *nc, const struct stream_info *si)
{
    for (struct network_observer *o = nc->observers; o; o = o->next)
        if (o->on_connected)
            o->on_connected(o, si);
}
static inline void network_tell_end(struct network_conn *nc, const struct stream_info *si)
{
    struct network_observer *o = nc->observers, *next;
    nc->observers = NULL;
    for (; o; o = next) {
        next = o->next;
        o->on_end(o, si);
    }
}

/* The filter lets the connection pass; the next one starts, possibly inside this call. */
static inline void network_next(struct network_conn *nc)
{
    nc->ops->next(nc);
}
/* The filter ends the connection; it must not have been taken over. details: static. */
static inline void network_refuse(struct network_conn *nc, uint64_t flags, sv details)
{
    nc->ops->refuse(nc, flags, details);
}
/* The terminal filter has closed nc->conn, which is still to be read from: a filter that calls this
 * in a deferred function puts that off before it closes. Nothing of nc may be touched after this
 * turn. */
static inline void network_done(struct network_conn *nc)
{
    nc->ops->done(nc);
}
/* Should the peer be told now that the connection goes away (Envoy's drainClose)? During a gradual
 * drain the answer becomes "yes" more and more often. */
static inline bool network_drain_close(struct network_conn *nc)
{
    return nc->ops->drain_close(nc);
}

/* One kind of network filter, as it stands in the registry. */
struct network_filter_type {
    const char *name;        /* "envoy.filters.network.tcp_proxy" */
    const char *config_type; /* full name of its configuration message */
    bool terminal;
    int (*parse)(const struct filter_ctx *x, sv packed, const void **config, struct error *err);
    /* config lives as long as the connection. */
    void (*start)(const void *config, struct network_conn *nc);
};

/* A configured filter of a chain. */
struct network_filter {
    const struct network_filter_type *type;
    const void *config;
    sv name;
};

#endif
