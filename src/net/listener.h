/* A listening socket on one loop: accepts edge-triggered in batches, backs off when descriptors
 * run out (attack case 13). Thread: owner. */
#ifndef WEFT_NET_LISTENER_H
#define WEFT_NET_LISTENER_H

#include "net/conn.h"

struct net_listener;
/* fd: accepted, non-blocking, TCP_NODELAY, owned by the callee. local: the listener's address
 * (conn_local knows more). The callee may stop or free the listener. */
typedef void (*accept_fn)(void *user, int fd, const struct addr *local, const struct addr *remote);

struct listen_opts {
    bool reuse_port;
    bool transparent; /* IP_TRANSPARENT */
    bool free_bind;
    bool v6_only;
    int backlog;        /* 0: 4096 */
    uint32_t unix_mode; /* permissions of a Unix socket, 0: leave */
    bool keep_stale;    /* do not remove a Unix socket that nobody listens on any more */
};

/* Makes, binds and listens; accepting starts with net_listener_start. Errors name the address. */
struct net_listener *net_listener_new(struct loop *l, const struct addr *a,
                                      const struct listen_opts *o, accept_fn fn, void *user,
                                      struct error *err);
/* The same on a descriptor that already listens (shared by workers; dup'ed by the caller), which is
 * owned from now on, also on failure. */
struct net_listener *net_listener_from_fd(struct loop *l, int fd, accept_fn fn, void *user,
                                          struct error *err);
void net_listener_start(struct net_listener *n);
void net_listener_stop(struct net_listener *n); /* stop accepting; the socket stays bound */
/* Closes; removes the Unix socket that net_listener_new made. NULL is fine. */
void net_listener_free(struct net_listener *n);
int net_listener_fd(const struct net_listener *n);
const struct addr *net_listener_addr(const struct net_listener *n); /* with the port it got */
/* Accept failures since start. */
uint64_t net_listener_failures(const struct net_listener *n);
/* For a listener of strangers: leaves the last descriptors to others (os_ops.fd_scarce), and tells
 * fn (user: the listener's) each time that accepting backs off because descriptors or memory have
 * run out; fn frees nothing. */
void net_listener_on_exhausted(struct net_listener *n, void (*fn)(void *user));

#endif
