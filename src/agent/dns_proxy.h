/* The sidecar's DNS: UDP and TCP. Mesh names are answered from the table, the rest goes on to the
 * upstream servers and comes back as it is.
 *
 *   question -> table? -> answer (TTL 30)
 *            -> below the mesh's own suffix? -> NXDOMAIN: nobody outside knows such names
 *            -> upstream 1, upstream 2, ... (2 s each) -> answer, or SERVFAIL
 *
 * Other types than A and AAAA for mesh names are answered with no data. Questions that are passed
 * on get a random id and a socket, so a random port, of their own; only an answer from the server
 * that was asked, with that id and question, well-formed to its end, is taken.
 * Bounded: 512 questions on their way, 64 TCP clients; what is beyond is refused (SERVFAIL, close).
 * Thread: main (owning loop). */
#ifndef WEFT_AGENT_DNS_PROXY_H
#define WEFT_AGENT_DNS_PROXY_H

#include "agent/dns_table.h"
#include "base/error.h"
#include "net/loop.h"

struct dns_proxy;

struct dns_proxy_opts {
    struct loop *loop;
    const struct addr *listen; /* UDP and TCP on each */
    uint32_t n_listen;
    /* Sockets that somebody else made, instead: UDP, and TCP that listens; owned from now on. */
    bool has_fds;
    int udp_fd, tcp_fd;
    const struct addr *upstreams; /* with ports; none: what is not ours is refused */
    uint32_t n_upstreams;
    sv own_suffix; /* "cluster.local": never passed on; may be empty */
    uint32_t mark; /* SO_MARK of sockets towards upstreams */
};

/* NULL + err when it cannot listen. */
struct dns_proxy *dns_proxy_new(const struct dns_proxy_opts *o, struct error *err);
void dns_proxy_free(struct dns_proxy *d); /* NULL is fine */
/* Takes over the table; NULL: none. */
void dns_proxy_set_table(struct dns_proxy *d, struct dns_table *t);
/* Address of the n-th listener with its port. */
const struct addr *dns_proxy_addr(const struct dns_proxy *d, uint32_t n);

struct dns_proxy_stats {
    uint64_t questions, from_table, passed_on, malformed, nxdomain, upstream_failures, overflow;
    uint32_t outstanding;
};
const struct dns_proxy_stats *dns_proxy_stats(const struct dns_proxy *d);

#endif
