/* A connection: a byte stream with a transport under it. TCP and Unix sockets are made here; TLS
 * (src/tls) stacks on another conn through the same table, so whoever holds a conn does not know
 * what is under it.
 *
 *        HTTP codec glue / TCP proxy
 *               |  conn_read / conn_write / conn_close, and events back
 *        [ TLS conn ]            (only when there is TLS)
 *        [ socket conn ]
 *
 * Reading is edge-triggered: after CONN_EV_READ read until E_AGAIN, or until conn->readable is
 * false (a short read clears it, which saves the read that would only say EAGAIN). Bytes that are
 * not wanted may be left: call conn_kick later to get the event again.
 * Writing is tried first: conn_write takes from the front of the chain what the transport accepts;
 * when bytes are left CONN_EV_WRITE comes when there is room.
 *
 * Life: the owner calls conn_close exactly once; memory goes at the end of the turn; after
 * conn_close no event comes. A conn lives on one loop. Thread: worker (owning loop). */
#ifndef WEFT_NET_CONN_H
#define WEFT_NET_CONN_H

#include "base/buf.h"
#include "net/addr.h"
#include "net/loop.h"

struct conn;
struct tls_info; /* src/tls/tls_info.h */

enum conn_event {
    CONN_EV_CONNECTED = 1, /* client: connected, and the TLS handshake is done. server TLS:
                              handshake done. Plain server conns never get it */
    CONN_EV_READ = 2,      /* bytes or EOF can be read */
    CONN_EV_WRITE = 4,     /* room again after a short write */
    CONN_EV_ERROR = 8,     /* dead: conn->error says why, conn->error_text more; close it. A reset
                              comes as READ first, so that what arrived before it can be read */
};
/* `events` is a set. The callback may close the conn. */
typedef void (*conn_fn)(struct conn *c, unsigned events, void *user);

struct conn_ops {
    /* Appends at most max bytes to `into`. >0 bytes; E_AGAIN; E_EOF (peer finished writing);
     * other negative: dead (conn->error is set). */
    ssize_t (*read)(struct conn *c, struct buf *into, size_t max);
    /* Takes from the front of `from` what can be written now; >=0 bytes, 0 = no room now;
     * negative: dead. */
    ssize_t (*write)(struct conn *c, struct buf *from);
    int (*shutdown_write)(struct conn *c);     /* FIN / close_notify after what was written */
    void (*close)(struct conn *c, bool reset); /* reset: RST instead of FIN */
    /* Makes CONN_EV_READ come again on the next turn if something may be unread. */
    void (*kick)(struct conn *c);
};

struct conn {
    const struct conn_ops *ops;
    struct loop *loop;
    conn_fn fn; /* the owner's; conn_set_owner changes it */
    void *user;
    struct conn *under;         /* the conn this one is stacked on; NULL for sockets */
    struct addr local, remote;  /* local: see conn_local */
    struct addr original_dst;   /* len 0: not intercepted or not asked */
    const struct tls_info *tls; /* NULL without TLS; lives as long as the conn */
    int error;                  /* first cause of death, a weft_error, 0 while alive */
    sv error_text;              /* detail for people ("TLS_error:..."); lives as long as the conn */
    uint64_t id;                /* unique in the process */
    uint64_t bytes_read, bytes_written; /* of this layer */
    bool connected;
    bool readable; /* unread bytes may be in the transport */
    bool writable;
    bool peer_closed; /* EOF was seen or announced (RDHUP) */
};

static inline void conn_set_owner(struct conn *c, conn_fn fn, void *user)
{
    c->fn = fn;
    c->user = user;
}
static inline ssize_t conn_read(struct conn *c, struct buf *into, size_t max)
{
    return c->ops->read(c, into, max);
}
static inline ssize_t conn_write(struct conn *c, struct buf *from)
{
    return c->ops->write(c, from);
}
static inline int conn_shutdown_write(struct conn *c)
{
    return c->ops->shutdown_write(c);
}
static inline void conn_close(struct conn *c)
{
    c->ops->close(c, false);
}
static inline void conn_abort(struct conn *c)
{
    c->ops->close(c, true);
}
static inline void conn_kick(struct conn *c)
{
    c->ops->kick(c);
}
uint64_t conn_next_id(void); /* any thread */
/* c->local made concrete: of an accepted connection it is first the listener's address, which may
 * be a wildcard, and of a connecting one nothing. Costs a system call once, then none. */
const struct addr *conn_local(struct conn *c);
sv conn_local_text(struct conn *c); /* as text, made once; empty without a socket under it */

/* ---- sockets ---- */
struct sock_opts {
    const struct addr *bind_to; /* source address, or NULL */
    uint32_t mark;              /* SO_MARK, 0 none: exempts the proxy's own traffic */
    bool keepalive;
    uint32_t keepalive_time_s, keepalive_interval_s, keepalive_probes; /* 0: the system's */
    bool no_delay; /* TCP_NODELAY; set it unless there is a reason */
    /* Sent as soon as the connection is up, before anything the owner writes (PROXY protocol);
     * copied. Must fit into an empty socket's buffer: a few hundred bytes. */
    sv first;
};
/* Starts connecting; the result comes as CONN_EV_CONNECTED or CONN_EV_ERROR, never from inside
 * this call. NULL + *code when no socket could be made. */
struct conn *conn_connect(struct loop *l, const struct addr *to, const struct sock_opts *o,
                          conn_fn fn, void *user, int *code);
/* Wraps an accepted descriptor (owned from now on), whose listener has set TCP_NODELAY. Events
 * start on the next turn, or when conn_kick is called; conn_read may be tried at once. */
struct conn *conn_from_fd(struct loop *l, int fd, const struct addr *local,
                          const struct addr *remote, conn_fn fn, void *user);
/* SO_ORIGINAL_DST (IPv4, IPv6) into c->original_dst; E_NOT_FOUND when not redirected (with TPROXY
 * the original destination is conn_local). Asks the socket under a stack. */
int conn_original_dst(struct conn *c);
/* The socket under a stack of conns, -1 when simulated or gone. */
int conn_fd(const struct conn *c);
/* Bytes at the front of the transport without taking them (TLS inspector, HTTP inspector):
 * for socket conns only; later reads return them again. >=0, E_AGAIN, E_EOF, error. */
ssize_t conn_peek(struct conn *c, void *out, size_t n);

#endif
