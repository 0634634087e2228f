/* CONNECT, seen from both ends:
 *
 *   tcp_stream     a http_stream whose bytes go to a TCP connection: a CONNECT that ends here. The
 *                  head that is sent is dropped; a 200 comes back on the next turn.
 *   upstream_tunnel  a conn whose bytes go through a stream to a host that was asked to CONNECT.
 *
 * So the router and the TCP proxy do not know the difference. Either is one layer: its half-closes
 * and watermarks are those of what is under it.
 * Thread: worker (owning loop). */
#ifndef WEFT_UPSTREAM_TUNNEL_H
#define WEFT_UPSTREAM_TUNNEL_H

#include "upstream/upstream.h"

/* Takes over a connection that upstream_tcp_cb.on_ready gave, and finishes it
 * (upstream_tcp_finished). `first` (copied, may be empty) is sent before all else. `high`: bytes
 * that may wait to be written before on_high. Owned by itself from now on, like a codec's stream:
 * it ends with on_close. */
struct http_stream *tcp_stream_new(struct conn *c, struct upstream_host *host, sv first,
                                   size_t high);

/* Asks a host of the cluster for a tunnel: opens a stream, sends `ask` (CONNECT or POST; must live
 * until a callback came), and gives a conn when a 2xx answers it. The conn belongs to the callee,
 * who closes it; upstream_tcp_finished is not to be called for it. Any other answer, and whatever
 * ends the stream before, is on_fail(UPSTREAM_FAIL_CONNECT). NULL when a callback came already. */
struct upstream_tunnel;
struct upstream_tunnel *upstream_tunnel_open(struct loop *l, struct upstream_cluster *c,
                                             const struct upstream_ctx *ctx,
                                             const struct http_head *ask,
                                             const struct upstream_tcp_cb *cb, void *user);
/* Before one of the callbacks came. */
void upstream_tunnel_cancel(struct upstream_tunnel *t);

#endif
