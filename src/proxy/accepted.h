/* A connection of a listener from the moment a filter chain is chosen to its end.
 *
 *   chain -> [TLS] -> network filters -> end: counters, the listener's log
 *
 * Thread: the worker. */
#ifndef WEFT_PROXY_ACCEPTED_H
#define WEFT_PROXY_ACCEPTED_H

#include "filters/network.h"
#include "proxy/listener_conf.h"

struct worker_listener;

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

/* Takes c over. direct: the peer, whatever a filter made of c->remote; it and sni are copied. */
void accepted_start(struct worker_listener *wl, struct listener_conf *conf,
                    const struct listener_chain *chain, struct conn *c, const struct addr *direct,
                    sv sni);
/* The same where no chain matches: a line in the log, and the end of c. */
void accepted_none(struct worker_listener *wl, struct listener_conf *conf, struct conn *c,
                   const struct addr *direct);

/* Starts the drain of connections whose chain `keep` does not have (NULL: of all). */
void accepted_drain(struct worker_listener *wl, const struct listener_conf *keep);
/* Ends every connection of the listener that has a chain. */
void accepted_abort(struct worker_listener *wl, bool only_draining);
/* Connections with something under way. */
uint32_t accepted_busy(const struct worker_listener *wl);

#endif
