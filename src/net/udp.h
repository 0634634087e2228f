/* A datagram socket: for name servers, statistics sinks and tests. Works on simulated networks,
 * too. Sending is best effort, as datagrams are: nothing is queued here. Thread: worker (owning
 * loop). */
#ifndef WEFT_NET_UDP_H
#define WEFT_NET_UDP_H

#include "net/addr.h"
#include "net/loop.h"

struct udp_sock;
/* One datagram; the bytes live during the call. The callee may free the socket. */
typedef void (*udp_fn)(void *user, const char *p, size_t n, const struct addr *from);

/* Bound to `a` (port 0: one is chosen). NULL + err, which names the address. */
struct udp_sock *udp_new(struct loop *l, const struct addr *a, udp_fn fn, void *user,
                         struct error *err);
/* The same on a descriptor that is bound (made in another network namespace, say), non-blocking and
 * owned from now on, also on failure. */
struct udp_sock *udp_from_fd(struct loop *l, int fd, udp_fn fn, void *user, struct error *err);
/* 0; E_AGAIN: no room now, the datagram is dropped; E_LIMIT: too long; other negative codes. */
int udp_send(struct udp_sock *u, const struct addr *to, const void *p, size_t n);
/* SO_MARK of what it sends from now on: exempts it from interception. E_DENIED without privilege.
 */
int udp_set_mark(struct udp_sock *u, uint32_t mark);
const struct addr *udp_addr(const struct udp_sock *u); /* with the port it got */
void udp_free(struct udp_sock *u);                     /* NULL is fine */

#endif
