#include "net/listener.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/mem.h"

#define BACKLOG         4096
#define ACCEPTS_A_TURN  256 /* then other descriptors get their turn */
#define BACKOFF_LEAST   50u /* ms to wait when descriptors or memory ran out; doubles ... */
#define BACKOFF_LONGEST 1000u

struct net_listener {
    struct loop *loop;
    struct io io;
    struct timer again; /* back-off, or the rest of a big batch */
    struct deferred gone;
    accept_fn fn;
    void (*exhausted)(void *user); /* may be NULL */
    void *user;
    int fd;
    struct addr addr;
    uint64_t failures;
    uint32_t backoff_ms;
    bool shared; /* another loop may accept from the same socket */
    bool started, freed;
    bool made_path; /* the Unix socket's file is ours to remove */
};

/* ---- accepting ---- */

static bool out_of_resources(int errnum)
{
    return errnum == EMFILE || errnum == ENFILE || errnum == ENOBUFS || errnum == ENOMEM;
}

static void back_off(struct net_listener *n)
{
    n->backoff_ms = n->backoff_ms ? n->backoff_ms * 2 : BACKOFF_LEAST;
    if (n->backoff_ms > BACKOFF_LONGEST)
        n->backoff_ms = BACKOFF_LONGEST;
    timer_set(&n->again, n->backoff_ms);
    if (n->exhausted)
        n->exhausted(n->user);
}

static void accept_batch(struct net_listener *n)
{
    struct os *os = loop_os(n->loop);
    for (int i = 0; n->started && !n->freed; i++) {
        struct sockaddr_storage ss;
        struct addr peer;
        if (i == ACCEPTS_A_TURN) {
            timer_set(&n->again, 0);
            return;
        }
        int fd = os->ops->accept(os->self, n->fd, &ss);
        if (fd >= 0 && n->exhausted && os->ops->fd_scarce && os->ops->fd_scarce(os->self, fd)) {
            os->ops->close(os->self, fd);
            fd = -EMFILE;
        }
        if (fd >= 0) {
            n->backoff_ms = 0;
            addr_from_sockaddr(&peer, (struct sockaddr *)&ss, sizeof ss);
            n->fn(n->user, fd, &n->addr, &peer);
            continue;
        }
        if (fd == -EAGAIN) {
            n->backoff_ms = 0;
            return;
        }
        if (fd == -EINTR)
            continue;
        n->failures++;
        if (out_of_resources(-fd)) {
            back_off(n);
            return;
        }
        /* Anything else belongs to one connection that is already gone (accept(2)), unless the
         * socket itself is broken. */
        if (fd == -EBADF || fd == -EINVAL || fd == -ENOTSOCK || fd == -EOPNOTSUPP || fd == -EFAULT)
            return;
    }
}

static void on_io(struct io *io, uint32_t events)
{
    struct net_listener *n = container_of(io, struct net_listener, io);
    if (n->backoff_ms == 0)
        accept_batch(n);
}

static void on_again(struct timer *t)
{
    accept_batch(container_of(t, struct net_listener, again));
}

void net_listener_start(struct net_listener *n)
{
    if (n->started)
        return;
    uint32_t events = EPOLLIN | EPOLLET | (n->shared ? EPOLLEXCLUSIVE : 0);
    n->started = true;
    n->backoff_ms = 0;
    if (io_add_events(n->loop, &n->io, n->fd, on_io, events)) {
        n->failures++;
        n->started = false;
    }
}

void net_listener_stop(struct net_listener *n)
{
    if (!n->started)
        return;
    n->started = false;
    timer_cancel(&n->again);
    io_del(&n->io);
}

/* ---- making ---- */

static struct net_listener *new_listener(struct loop *l, int fd, accept_fn fn, void *user)
{
    struct net_listener *n = mem_new(struct net_listener);
    struct os *os = loop_os(l);
    int one = 1;
    n->loop = l;
    n->fd = fd;
    n->io.dead = true;
    n->fn = fn;
    n->user = user;
    timer_init(&n->again, l, on_again);
    /* Accepted sockets inherit it: no call for each of them. Unix sockets refuse, which is fine. */
    os->ops->setsockopt(os->self, fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct sockaddr_storage ss;
    if (os->ops->getsockname(os->self, fd, &ss) == 0)
        addr_from_sockaddr(&n->addr, (struct sockaddr *)&ss, sizeof ss);
    return n;
}

static int set_one(struct os *os, int fd, int level, int opt)
{
    int one = 1;
    return os->ops->setsockopt(os->self, fd, level, opt, &one, sizeof one);
}

/* What failed, or NULL; *rc is -errno. */
static const char *set_options(struct os *os, int fd, const struct addr *a,
                               const struct listen_opts *o, int *rc)
{
    bool v6 = a->sa.sa_family == AF_INET6;
    int level = v6 ? IPPROTO_IPV6 : IPPROTO_IP;
    if (a->sa.sa_family == AF_UNIX)
        return NULL;
    if ((*rc = set_one(os, fd, SOL_SOCKET, SO_REUSEADDR)) < 0)
        return "SO_REUSEADDR";
    if (o->reuse_port && (*rc = set_one(os, fd, SOL_SOCKET, SO_REUSEPORT)) < 0)
        return "SO_REUSEPORT";
    if (v6) {
        int only = o->v6_only;
        *rc = os->ops->setsockopt(os->self, fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
        if (*rc < 0)
            return "IPV6_V6ONLY";
    }
    if (o->transparent &&
        (*rc = set_one(os, fd, level, v6 ? IPV6_TRANSPARENT : IP_TRANSPARENT)) < 0)
        return "IP_TRANSPARENT";
    if (o->free_bind && (*rc = set_one(os, fd, level, v6 ? IPV6_FREEBIND : IP_FREEBIND)) < 0)
        return "IP_FREEBIND";
    return NULL;
}

/* Removes the file of a Unix socket on which nobody listens. True when the bind may be repeated. */
static bool remove_stale(struct os *os, const struct addr *a)
{
    struct stat st;
    struct sockaddr_storage ss;
    char path[ADDR_TEXT_MAX];
    addr_text(a, path);
    if (lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return false;
    int fd = os->ops->socket(os->self, AF_UNIX, SOCK_STREAM);
    if (fd < 0)
        return false;
    int rc = os->ops->connect(os->self, fd, (struct sockaddr *)&ss, addr_sockaddr(a, &ss));
    os->ops->close(os->self, fd);
    return rc == -ECONNREFUSED && unlink(path) == 0;
}

static int bind_to(struct os *os, int fd, const struct addr *a, const struct listen_opts *o)
{
    struct sockaddr_storage ss;
    socklen_t len = addr_sockaddr(a, &ss);
    const struct sockaddr *sa = (const struct sockaddr *)&ss;
    char path[ADDR_TEXT_MAX];
    bool file = addr_is_file(a) && os == os_real();
    /* Before the bind nobody can get in while the permissions are still wide. */
    if (file && o->unix_mode)
        fchmod(fd, (mode_t)o->unix_mode);
    int rc = os->ops->bind(os->self, fd, sa, len);
    if (rc == -EADDRINUSE && file && !o->keep_stale && remove_stale(os, a))
        rc = os->ops->bind(os->self, fd, sa, len);
    if (rc == 0 && file && o->unix_mode && chmod(addr_text(a, path).p, (mode_t)o->unix_mode) < 0)
        rc = -errno;
    return rc;
}

static const char *errno_text(int errnum)
{
    const char *text = strerrordesc_np(errnum);
    return text ? text : "unknown error";
}

struct net_listener *net_listener_new(struct loop *l, const struct addr *a,
                                      const struct listen_opts *o, accept_fn fn, void *user,
                                      struct error *err)
{
    static const struct listen_opts none;
    char text[ADDR_TEXT_MAX];
    struct os *os = loop_os(l);
    const char *what = "socket";
    o = o ? o : &none;
    int rc = os->ops->socket(os->self, a->sa.sa_family, SOCK_STREAM), fd = rc;
    if (fd >= 0) {
        rc = 0;
        what = set_options(os, fd, a, o, &rc);
        if (!what && (rc = bind_to(os, fd, a, o)) < 0)
            what = "bind";
        if (!what && (rc = os->ops->listen(os->self, fd, o->backlog ? o->backlog : BACKLOG)) < 0)
            what = "listen";
    }
    if (what) {
        if (fd >= 0)
            os->ops->close(os->self, fd);
        addr_text(a, text);
        error_set(err, error_from_errno(-rc), "cannot listen on %s: %s: %s", text, what,
                  errno_text(-rc));
        return NULL;
    }
    struct net_listener *n = new_listener(l, fd, fn, user);
    n->made_path = addr_is_file(a) && os == os_real();
    if (a->sa.sa_family == AF_UNIX)
        n->addr = *a;
    return n;
}

struct net_listener *net_listener_from_fd(struct loop *l, int fd, accept_fn fn, void *user,
                                          struct error *err)
{
    struct os *os = loop_os(l);
    int listening = 0;
    socklen_t n = sizeof listening;
    int rc = os->ops->getsockopt(os->self, fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n);
    if (rc < 0 || !listening) {
        error_set(err, E_INVALID, "descriptor %d is not a listening socket", fd);
        os->ops->close(os->self, fd);
        return NULL;
    }
    struct net_listener *nl = new_listener(l, fd, fn, user);
    nl->shared = true;
    return nl;
}

static void free_listener(struct deferred *d)
{
    free(container_of(d, struct net_listener, gone));
}

void net_listener_free(struct net_listener *n)
{
    if (!n || n->freed)
        return;
    struct os *os = loop_os(n->loop);
    char path[ADDR_TEXT_MAX];
    net_listener_stop(n);
    n->freed = true;
    /* The file first: a new one may be bound there as soon as it is gone. */
    if (n->made_path)
        unlink(addr_text(&n->addr, path).p);
    os->ops->close(os->self, n->fd);
    loop_defer(n->loop, &n->gone, free_listener);
}

int net_listener_fd(const struct net_listener *n)
{
    return n->fd;
}

const struct addr *net_listener_addr(const struct net_listener *n)
{
    return &n->addr;
}

void net_listener_on_exhausted(struct net_listener *n, void (*fn)(void *user))
{
    n->exhausted = fn;
}

uint64_t net_listener_failures(const struct net_listener *n)
{
    return n->failures;
}
