/* TCP and Unix sockets as conns. A request costs one read and one write here; a connection nothing
 * but its accept and its registration. */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include "base/mem.h"
#include "base/code.h"
#include "net/conn.h"

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif
#define ORIGINAL_DST 80    /* SO_ORIGINAL_DST, IP6T_SO_ORIGINAL_DST */
#define SHORT_MS     50    /* between two looks whether there is memory to read into */
#define READ_MOST    61440 /* written with a head in front it is one segment of the kernel's 64 KB */
#define READ_IOVS    (READ_MOST / BUF_BLOCK + 2) /* the rest of a block goes before them */
#define WRITE_IOVS   64
#define ERR_EVENTS   (EPOLLERR | EPOLLHUP)

/* What few connections need, and those that wait for a next request do not. */
struct sock_extra {
    struct sock_conn *s;
    struct timer kick;
    char *error; /* text of the error */
    char *local; /* conn_local as text */
    sv first;    /* bytes that go first; malloc'd, empty when they are out */
};

struct sock_conn {
    struct conn c;
    struct io io;
    struct sock_extra *extra; /* NULL until it is needed */
    struct deferred gone;
    int fd;
    uint32_t read_next; /* room for the next read, by what the last one filled */
    bool closed;
    bool eof;     /* the FIN was read */
    bool hup;     /* FIN or worse was announced: a short read does not mean "empty" */
    bool blocked; /* a write was short; the owner waits for CONN_EV_WRITE */
    bool tell;    /* an error is still to be told */
};

static const struct conn_ops sock_ops;

static struct sock_conn *of(const struct conn *c)
{
    return (struct sock_conn *)(uintptr_t)c;
}

static const struct os_ops *ops_of(const struct sock_conn *s, void **self)
{
    struct os *os = loop_os(s->c.loop);
    *self = os->self;
    return os->ops;
}

uint64_t conn_next_id(void)
{
    static _Atomic uint64_t last;
    return atomic_fetch_add_explicit(&last, 1, memory_order_relaxed) + 1;
}

static void on_kick(struct timer *t);

static struct sock_extra *extra(struct sock_conn *s)
{
    if (!s->extra) {
        s->extra = mem_new(struct sock_extra);
        s->extra->s = s;
        timer_init(&s->extra->kick, s->c.loop, on_kick);
    }
    return s->extra;
}

/* Keeps the first cause. */
static int fail(struct sock_conn *s, const char *prefix, int errnum)
{
    int code = error_from_errno(errnum);
    if (code == E_AGAIN)
        code = E_IO;
    if (s->c.error == 0) {
        s->c.error = code;
        const char *text = strerrordesc_np(errnum);
        text = text ? text : "unknown error";
        char *p = extra(s)->error = mem_alloc(strlen(prefix) + strlen(text) + 1);
        stpcpy(stpcpy(p, prefix), text);
        s->c.error_text = sv_of(p);
    }
    s->c.writable = false;
    return code;
}

/* ---- events ---- */

static void tell(struct sock_conn *s, unsigned events)
{
    if (s->c.fn)
        s->c.fn(&s->c, events, s->c.user);
}

static int socket_error(struct sock_conn *s)
{
    void *self;
    const struct os_ops *os = ops_of(s, &self);
    int err = 0;
    socklen_t n = sizeof err;
    int rc = os->getsockopt(self, s->fd, SOL_SOCKET, SO_ERROR, &err, &n);
    return rc < 0 ? -rc : err;
}

static bool write_first(struct sock_conn *s)
{
    void *self;
    struct iovec iov = {(char *)(uintptr_t)s->extra->first.p, s->extra->first.n};
    ssize_t n = ops_of(s, &self)->writev(self, s->fd, &iov, 1);
    if (n != (ssize_t)s->extra->first.n) {
        fail(s, "first bytes: ", n < 0 ? (int)-n : EIO);
        tell(s, CONN_EV_ERROR);
        return false;
    }
    s->c.bytes_written += (uint64_t)n;
    return true;
}

/* True when the connection is up. */
static bool finish_connect(struct sock_conn *s, uint32_t ev)
{
    if (ev & ERR_EVENTS) {
        int err = socket_error(s);
        fail(s, "delayed connect error: ", err ? err : ECONNRESET);
        tell(s, CONN_EV_ERROR);
        return false;
    }
    if (!(ev & EPOLLOUT))
        return false;
    if (s->extra && s->extra->first.n && !write_first(s))
        return false;
    s->c.connected = s->c.writable = true;
    return true;
}

HOT static void on_io(struct io *io, uint32_t ev)
{
    struct sock_conn *s = container_of(io, struct sock_conn, io);
    unsigned out = 0;
    if (!s->c.connected) {
        if (s->c.error || !finish_connect(s, ev))
            return;
        out = CONN_EV_CONNECTED;
    }
    if (ev & (EPOLLRDHUP | ERR_EVENTS))
        s->hup = s->c.peer_closed = true;
    if (!s->eof && ev & (EPOLLIN | EPOLLRDHUP | ERR_EVENTS)) {
        s->c.readable = true;
        out |= CONN_EV_READ;
    }
    if (s->blocked && ev & (EPOLLOUT | ERR_EVENTS)) {
        s->blocked = false;
        s->c.writable = s->c.error == 0;
        out |= CONN_EV_WRITE;
    }
    if (out)
        tell(s, out);
    /* Reading to the end would have met the error; who does not read is told here. */
    if (ev & EPOLLERR && !s->closed && s->c.error == 0) {
        int err = socket_error(s);
        if (err) {
            fail(s, "", err);
            tell(s, CONN_EV_ERROR);
        }
    }
}

static void on_kick(struct timer *t)
{
    struct sock_conn *s = container_of(t, struct sock_extra, kick)->s;
    if (s->tell) {
        s->tell = false;
        tell(s, CONN_EV_ERROR);
    } else if (s->c.readable || s->eof) {
        tell(s, CONN_EV_READ);
    }
}

static void kick_in(struct sock_conn *s, uint64_t ms)
{
    timer_set(&extra(s)->kick, ms);
}

/* ---- the table ---- */

static inline uint32_t room_for(size_t n)
{
    size_t whole = (n + BUF_BLOCK - 1) / BUF_BLOCK * BUF_BLOCK;
    return (uint32_t)(whole < READ_MOST ? whole : READ_MOST);
}

HOT static ssize_t sock_read(struct conn *c, struct buf *into, size_t max)
{
    struct sock_conn *s = of(c);
    if (s->closed)
        return E_CLOSED;
    if (s->eof)
        return E_EOF;
    if (!c->readable || !c->connected || max == 0)
        return c->error && !c->readable ? c->error : E_AGAIN;
    /* What is here goes out first; what comes waits in the kernel. A reset is told by on_io. */
    if (mem_short()) {
        kick_in(s, SHORT_MS);
        return E_AGAIN;
    }
    struct iovec iov[READ_IOVS];
    size_t want = s->read_next < max ? s->read_next : max;
    int count = buf_reserve_iov(into, iov, READ_IOVS, want);
    void *self;
    ssize_t n = ops_of(s, &self)->readv(self, s->fd, iov, count);
    buf_commit(into, n > 0 ? (size_t)n : 0);
    if (n > 0) {
        c->bytes_read += (uint64_t)n;
        loop_took(c->loop, (size_t)n);
        if ((size_t)n < want) {
            c->readable = s->hup;
            s->read_next = room_for((size_t)n);
        } else {
            s->read_next = room_for(2 * want);
        }
        return n;
    }
    c->readable = false;
    if (n == 0) {
        s->eof = c->peer_closed = true;
        return E_EOF;
    }
    return n == -EAGAIN ? E_AGAIN : fail(s, "", (int)-n);
}

HOT static ssize_t sock_write(struct conn *c, struct buf *from)
{
    struct sock_conn *s = of(c);
    ssize_t total = 0;
    if (s->closed)
        return E_CLOSED;
    if (c->error)
        return c->error;
    if (!c->writable) {
        s->blocked |= from->len > 0;
        return 0;
    }
    void *self;
    const struct os_ops *os = ops_of(s, &self);
    while (from->len) {
        struct iovec iov[WRITE_IOVS];
        size_t tried = 0;
        int count = buf_iov(from, iov, WRITE_IOVS, SIZE_MAX >> 1);
        for (int i = 0; i < count; i++)
            tried += iov[i].iov_len;
        ssize_t n = os->writev(self, s->fd, iov, count);
        if (n < 0 && n != -EAGAIN)
            return fail(s, "", (int)-n);
        if (n > 0) {
            buf_drain(from, (size_t)n);
            c->bytes_written += (uint64_t)n;
            total += n;
        }
        if (n < 0 || (size_t)n < tried) {
            c->writable = false;
            s->blocked = true;
            break;
        }
    }
    return total;
}

static int sock_shutdown_write(struct conn *c)
{
    struct sock_conn *s = of(c);
    void *self;
    if (s->closed)
        return E_CLOSED;
    int rc = ops_of(s, &self)->shutdown(self, s->fd, SHUT_WR);
    c->writable = false;
    return rc < 0 ? error_from_errno(-rc) : 0;
}

static void free_conn(struct deferred *d)
{
    struct sock_conn *s = container_of(d, struct sock_conn, gone);
    if (s->extra) {
        free((char *)(uintptr_t)s->extra->first.p);
        free(s->extra->error);
        free(s->extra->local);
        free(s->extra);
    }
    free(s);
}

static void sock_close(struct conn *c, bool reset)
{
    struct sock_conn *s = of(c);
    void *self;
    if (s->closed)
        return;
    s->closed = true;
    c->readable = c->writable = false;
    if (s->extra)
        timer_cancel(&s->extra->kick);
    io_forget(&s->io);
    const struct os_ops *os = ops_of(s, &self);
    if (reset && c->remote.sa.sa_family != AF_UNIX) {
        struct linger hard = {.l_onoff = 1};
        os->setsockopt(self, s->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    }
    os->close(self, s->fd);
    loop_defer(c->loop, &s->gone, free_conn);
}

static void sock_kick(struct conn *c)
{
    struct sock_conn *s = of(c);
    if (!s->closed && (c->readable || s->eof || s->tell))
        kick_in(s, 0);
}

static const struct conn_ops sock_ops = {
    .read = sock_read,
    .write = sock_write,
    .shutdown_write = sock_shutdown_write,
    .close = sock_close,
    .kick = sock_kick,
};

/* ---- making ---- */

static struct sock_conn *new_conn(struct loop *l, int fd, conn_fn fn, void *user)
{
    struct sock_conn *s = mem_new(struct sock_conn);
    s->c.ops = &sock_ops;
    s->c.loop = l;
    s->c.id = conn_next_id();
    s->c.fn = fn;
    s->c.user = user;
    s->fd = fd;
    s->read_next = BUF_BLOCK;
    return s;
}

/* The owner learns of it on the next turn. */
static void fail_later(struct sock_conn *s, const char *prefix, int errnum)
{
    fail(s, prefix, errnum);
    s->tell = true;
    kick_in(s, 0);
}

static void start_events(struct sock_conn *s)
{
    int rc = io_add(s->c.loop, &s->io, s->fd, on_io);
    if (rc)
        fail_later(s, "event registration: ", rc == E_LIMIT ? ENOSPC : EIO);
}

struct conn *conn_from_fd(struct loop *l, int fd, const struct addr *local,
                          const struct addr *remote, conn_fn fn, void *user)
{
    struct sock_conn *s = new_conn(l, fd, fn, user);
    s->c.local = *local;
    s->c.remote = *remote;
    s->c.connected = s->c.readable = s->c.writable = true;
    start_events(s);
    return &s->c;
}

static int set_int(const struct os_ops *os, void *self, int fd, int level, int opt, uint32_t v)
{
    int i = (int)v;
    return os->setsockopt(self, fd, level, opt, &i, sizeof i);
}

static int set_keepalive(const struct os_ops *os, void *self, int fd, const struct sock_opts *o)
{
    int rc = set_int(os, self, fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    if (!rc && o->keepalive_time_s)
        rc = set_int(os, self, fd, IPPROTO_TCP, TCP_KEEPIDLE, o->keepalive_time_s);
    if (!rc && o->keepalive_interval_s)
        rc = set_int(os, self, fd, IPPROTO_TCP, TCP_KEEPINTVL, o->keepalive_interval_s);
    if (!rc && o->keepalive_probes)
        rc = set_int(os, self, fd, IPPROTO_TCP, TCP_KEEPCNT, o->keepalive_probes);
    return rc;
}

/* 0 or -errno. */
static int prepare(const struct os_ops *os, void *self, int fd, const struct sock_opts *o,
                   const struct addr *to)
{
    int rc = 0;
    bool tcp = to->sa.sa_family != AF_UNIX;
    if (o->no_delay && tcp)
        rc = set_int(os, self, fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (!rc && o->keepalive && tcp)
        rc = set_keepalive(os, self, fd, o);
    if (!rc && o->mark)
        rc = set_int(os, self, fd, SOL_SOCKET, SO_MARK, o->mark);
    if (!rc && o->bind_to && o->bind_to->len) {
        /* The port is chosen at connect, when the whole tuple is known: more of them fit. */
        if (tcp && addr_port(o->bind_to) == 0)
            set_int(os, self, fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
        struct sockaddr_storage ss;
        socklen_t len = addr_sockaddr(o->bind_to, &ss);
        rc = os->bind(self, fd, (struct sockaddr *)&ss, len);
    }
    return rc;
}

struct conn *conn_connect(struct loop *l, const struct addr *to, const struct sock_opts *o,
                          conn_fn fn, void *user, int *code)
{
    static const struct sock_opts none = {.no_delay = true};
    struct os *os = loop_os(l);
    if (to->len == 0) {
        *code = E_INVALID;
        return NULL;
    }
    int fd = os->ops->socket(os->self, to->sa.sa_family, SOCK_STREAM);
    if (fd < 0) {
        *code = error_from_errno(-fd);
        return NULL;
    }
    int rc = prepare(os->ops, os->self, fd, o ? o : &none, to);
    if (rc < 0) {
        os->ops->close(os->self, fd);
        *code = error_from_errno(-rc);
        return NULL;
    }
    struct sock_conn *s = new_conn(l, fd, fn, user);
    s->c.remote = *to;
    if (o && o->first.n)
        extra(s)->first = sv_make(sv_dup(o->first), o->first.n);
    struct sockaddr_storage ss;
    socklen_t len = addr_sockaddr(to, &ss);
    rc = os->ops->connect(os->self, fd, (struct sockaddr *)&ss, len);
    /* EAGAIN: a Unix socket whose backlog is full; it never completes. */
    if (rc < 0 && rc != -EINPROGRESS) {
        s->io.dead = true;
        fail_later(s, "immediate connect error: ", rc == -EAGAIN ? ECONNREFUSED : -rc);
    } else {
        start_events(s);
    }
    return &s->c;
}

/* ---- what the socket knows ---- */

static struct sock_conn *bottom(const struct conn *c)
{
    while (c && c->ops != &sock_ops)
        c = c->under;
    return c && !of(c)->closed ? of(c) : NULL;
}

int conn_fd(const struct conn *c)
{
    struct sock_conn *s = bottom(c);
    return s && loop_os(c->loop) == os_real() ? s->fd : -1;
}

HOT const struct addr *conn_local(struct conn *c)
{
    struct sock_conn *s = bottom(c);
    if (s && (s->c.local.len == 0 || addr_is_any(&s->c.local))) {
        struct sockaddr_storage ss;
        void *self;
        if (ops_of(s, &self)->getsockname(self, s->fd, &ss) == 0) {
            struct addr a;
            addr_from_sockaddr(&a, (struct sockaddr *)&ss, sizeof ss);
            if (a.len)
                s->c.local = a;
        }
    }
    if (s && c != &s->c)
        c->local = s->c.local;
    return &c->local;
}

sv conn_local_text(struct conn *c)
{
    struct sock_conn *s = bottom(c);
    char text[ADDR_TEXT_MAX];
    if (!s)
        return SV("");
    struct sock_extra *x = extra(s);
    if (!x->local)
        x->local = sv_dup(addr_text(conn_local(c), text));
    return sv_of(x->local);
}

int conn_original_dst(struct conn *c)
{
    struct sock_conn *s = bottom(c);
    void *self;
    if (!s || s->c.remote.sa.sa_family == AF_UNIX)
        return E_NOT_FOUND;
    const struct os_ops *os = ops_of(s, &self);
    struct sockaddr_storage ss;
    memset(&ss, 0, sizeof ss);
    socklen_t n = sizeof ss;
    bool v4 = s->c.remote.sa.sa_family == AF_INET;
    int rc = os->getsockopt(self, s->fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, ORIGINAL_DST, &ss, &n);
    if (rc < 0)
        return rc == -EPERM ? E_DENIED : E_NOT_FOUND;
    struct addr a;
    addr_from_sockaddr(&a, (struct sockaddr *)&ss, sizeof ss);
    /* The kernel also answers for connections that it tracks but did not redirect. */
    if (a.len == 0 || (addr_port(&a) == addr_port(&s->c.local) && addr_eq(&a, conn_local(&s->c))))
        return E_NOT_FOUND;
    c->original_dst = s->c.original_dst = a;
    return 0;
}

ssize_t conn_peek(struct conn *c, void *out, size_t n)
{
    struct sock_conn *s = of(c);
    void *self;
    if (c->ops != &sock_ops)
        return E_UNSUPPORTED;
    if (s->closed)
        return E_CLOSED;
    if (!c->connected || !c->readable)
        return s->eof ? E_EOF : c->error ? c->error : E_AGAIN;
    ssize_t r = ops_of(s, &self)->peek(self, s->fd, out, n);
    if (r > 0)
        return r;
    if (r == 0) {
        c->peer_closed = true;
        return E_EOF;
    }
    c->readable = false;
    return r == -EAGAIN ? E_AGAIN : fail(s, "", (int)-r);
}
