/* A connection from accept to its filter chain.
 *
 *   accept -> [listener filters, with a time limit] -> chain match -> struct accepted (accepted.h)
 *          \-> (use_original_dst) another listener of this worker
 *
 * struct worker_listener is one listener on one worker. A struct accepting looks at a connection's
 * first bytes; listeners without listener filters skip it.
 * Thread: the worker. */
#ifndef WEFT_PROXY_CONN_ACCEPT_H
#define WEFT_PROXY_CONN_ACCEPT_H

#include "base/list.h"
#include "filters/network.h"
#include "net/listener.h"
#include "proxy/listener_conf.h"
#include "proxy/worker.h"

struct worker_listener {
    struct list link; /* worker.listeners */
    struct worker *w;
    struct listener_conf *conf;  /* in force for new connections; one reference */
    struct net_listener **socks; /* n_socks; none when bind_to_port is false */
    uint32_t n_socks;
    struct list conns;     /* struct accepted.nc.link */
    struct list accepting; /* struct accepting.link */
    uint32_t n_conns;
    struct stat_group stats; /* listener_worker_stats_… */
    bool draining;           /* connections are told, also new ones */
    uint64_t drain_start_ms; /* since when */
    bool removed;            /* gone when the last connection is */
    struct timer drain_end;
    struct deferred freeing;
};

/* accept_fn of the sockets: user is the struct worker_listener. */
void conn_accept(void *user, int fd, const struct addr *local, const struct addr *remote);
void conn_accept_exhausted(void *user); /* no descriptors are left */

/* A connection whose original destination is another listener's address. */
void worker_hand_over(struct worker_listener *wl, struct conn *c);

/* Ends every connection of the listener. */
void conn_accept_abort(struct worker_listener *wl, bool only_draining);
/* A removed listener without connections goes away. */
void conn_accept_reap(struct worker_listener *wl);

#endif
