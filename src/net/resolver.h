/* Asynchronous name resolution (c-ares) on a loop, with TTLs. Strict: answers beyond limits are
 * cut. In simulation the resolver answers from a table (resolver_new_static). Thread: owner. */
#ifndef WEFT_NET_RESOLVER_H
#define WEFT_NET_RESOLVER_H

#include "net/addr.h"
#include "net/loop.h"

struct resolver;
struct resolve_query;

/* AUTO: IPv6, and IPv4 when that gives nothing. V4_PREFERRED: the other way round. */
enum resolve_family { RESOLVE_AUTO, RESOLVE_V4, RESOLVE_V6, RESOLVE_V4_PREFERRED, RESOLVE_ALL };

/* code: 0, E_NOT_FOUND (NXDOMAIN or no address), E_TIMEOUT, E_REFUSED, E_PROTOCOL. addrs (port 0)
 * live during the call. ttl_s: smallest TTL of the answer, aliases included; 0 also when none is
 * known (hosts file, literals, static table). Not called after resolve_cancel; once it is called
 * the query is gone. It may free the resolver. */
typedef void (*resolve_fn)(void *user, int code, const struct addr *addrs, size_t n,
                           uint32_t ttl_s);

/* servers: comma separated "ip[:port]", NULL: /etc/resolv.conf. mark: SO_MARK of its sockets, 0
 * none: a sidecar's own questions must not be intercepted, its DNS would answer them with the
 * addresses that the mesh made up for the very hosts it looks for. Where marks are not permitted no
 * server is asked (E_REFUSED). Never NULL back unless err. */
struct resolver *resolver_new(struct loop *l, const char *servers, uint32_t mark,
                              struct error *err);
/* Answers from a fixed table (tests, simulation), which is copied: "name=ip,ip", "name=ip;30" with
 * a TTL of 30 s, "name=!" for one that servers refuse. Entries of another form are left out. */
struct resolver *resolver_new_static(struct loop *l, const char *const *entries, size_t n);
void resolver_free(struct resolver *r); /* cancels what is under way */
/* The callback never runs inside this call. /etc/hosts is honoured. IP literals answer at once
 * (next turn). */
struct resolve_query *resolve_start(struct resolver *r, sv name, enum resolve_family family,
                                    resolve_fn fn, void *user);
void resolve_cancel(struct resolve_query *q);

#endif
