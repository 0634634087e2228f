/* A connection from accept to the terminal network filter.
 *
 *   accept -> [listener filters, with a time limit] -> chain match -> [TLS] -> network filters
 *          \-> (use_original_dst) another listener of this worker
 *
 * struct worker_listener is one listener on one worker; struct accepted one connection of it, from
 * the moment a chain is chosen to its end. Before that a struct accepting looks at its first
 * bytes; listeners without listener filters skip it.
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

struct accepted {
    struct network_conn nc;
    struct worker_listener *wl;
    struct listener_conf *conf; /* the one it was accepted with */
    const struct listener_chain *chain;
    uint32_t next_filter;
    bool done;
    bool draining;
    uint64_t drain_start_ms;
    uint64_t start_wall_ns;
    struct handshake *handshake; /* its timer, while there is one */
    struct deferred freeing;
    char *texts; /* addresses as text, one allocation */
    char *sni;   /* as seen before the handshake */
};

/* accept_fn of the sockets: user is the struct worker_listener. */
void conn_accept(void *user, int fd, const struct addr *local, const struct addr *remote);
void conn_accept_exhausted(void *user); /* no descriptors are left */

/* A connection whose original destination is another listener's address. */
void worker_hand_over(struct worker_listener *wl, struct conn *c);

/* Starts the drain of connections whose chain `keep` does not have (NULL: of all). */
void conn_accept_drain(struct worker_listener *wl, const struct listener_conf *keep);
/* Ends every connection of the listener. */
void conn_accept_abort(struct worker_listener *wl, bool only_draining);
/* A removed listener without connections goes away. */
void conn_accept_reap(struct worker_listener *wl);
/* Connections with something under way. */
uint32_t conn_accept_busy(const struct worker_listener *wl);

#endif
