/* The table of os.h over simulated hosts: descriptors, addresses, polling, options. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include "base/mem.h"
#include "net/sim_private.h"

#define WALL_START   1767225600000000000ull /* 2026-01-01T00:00:00Z */
#define PORT_FIRST   32768
#define PORT_LAST    60999
#define ORIGINAL_DST 80

static struct sim_host *host_of(void *os)
{
    return os;
}

static struct sim_sock *sock_of(void *os, int fd)
{
    struct sim *s = host_of(os)->sim;
    int i = fd - SIM_FD_BASE;
    struct sim_sock *k = i >= 0 && i < s->n_socks ? s->socks[i] : NULL;
    return k && k->host == host_of(os) ? k : NULL;
}

bool sim_sock_dead(const struct sim_sock *k)
{
    return k->host->down || k->life != k->host->life;
}

/* ---- descriptors ---- */

int sim_fd_new(struct sim_sock *k)
{
    struct sim *s = k->sim;
    int i = 0;
    if (k->host->socket_limit && k->host->sockets >= k->host->socket_limit)
        return -EMFILE;
    while (i < s->n_socks && s->socks[i]) /* the lowest, as the kernel does: numbers come back */
        i++;
    if (i == s->n_socks) {
        s->socks = mem_realloc(s->socks, sizeof *s->socks * (size_t)(i + 1));
        s->n_socks++;
    }
    s->socks[i] = k;
    k->host->sockets++;
    return k->fd = SIM_FD_BASE + i;
}

struct sim_sock *sim_sock_new(struct sim_host *h, int domain, int type)
{
    struct sim_sock *k = mem_new(struct sim_sock);
    k->sim = h->sim;
    k->host = h;
    k->life = h->life;
    k->fd = -1;
    k->domain = domain;
    k->type = type;
    list_init(&k->ready);
    list_init(&k->in);
    list_init(&k->accepted);
    list_init(&k->accept_link);
    return k;
}

void sim_sock_free(struct sim_sock *k)
{
    list_each_safe (it, &k->in) {
        free(container_of(it, struct sim_seg, link));
    }
    list_del(&k->ready);
    list_del(&k->accept_link);
    if (k->fd >= 0) {
        k->sim->socks[k->fd - SIM_FD_BASE] = NULL;
        k->host->sockets--;
    }
    free(k);
}

/* ---- polling ---- */

static uint32_t level(const struct sim_sock *k)
{
    if (k->type == SOCK_STREAM)
        return sim_tcp_level(k);
    return EPOLLOUT | (k->err ? EPOLLERR : 0u) | (list_empty(&k->in) ? 0u : EPOLLIN);
}

void sim_sock_event(struct sim_sock *k)
{
    if (k->poll && list_empty(&k->ready))
        list_push(&k->poll->ready, &k->ready);
}

static struct sim_poll *poll_of(void *os, int poll)
{
    struct sim *s = host_of(os)->sim;
    return poll >= 0 && poll < s->n_polls ? s->polls[poll] : NULL;
}

static int do_poll_new(void *os)
{
    struct sim_host *h = host_of(os);
    struct sim *s = h->sim;
    int i = 0;
    while (i < s->n_polls && s->polls[i])
        i++;
    if (i == s->n_polls) {
        s->polls = mem_realloc(s->polls, sizeof *s->polls * (size_t)(i + 1));
        s->n_polls++;
    }
    struct sim_poll *p = s->polls[i] = mem_new(struct sim_poll);
    p->host = h;
    p->life = h->life;
    p->deadline = UINT64_MAX;
    p->dirty = true;
    p->number = ++s->next_poll;
    list_init(&p->ready);
    return i;
}

static void do_poll_free(void *os, int poll)
{
    struct sim *s = host_of(os)->sim;
    struct sim_poll *p = poll_of(os, poll);
    for (int i = 0; i < s->n_socks; i++)
        if (s->socks[i] && s->socks[i]->poll == p) {
            list_del(&s->socks[i]->ready);
            s->socks[i]->poll = NULL;
        }
    s->polls[poll] = NULL;
    free(p);
}

static void do_attach(void *os, int poll, struct loop *l)
{
    poll_of(os, poll)->loop = l;
}

static int do_poll_add(void *os, int poll, int fd, uint32_t events, void *data)
{
    struct sim_sock *k = sock_of(os, fd);
    if (!k)
        return -EBADF;
    if (k->poll)
        return -EEXIST;
    k->poll = poll_of(os, poll);
    k->mask = events | EPOLLERR | EPOLLHUP;
    k->data = data;
    if (level(k) & k->mask)
        sim_sock_event(k);
    return 0;
}

static int do_poll_del(void *os, int poll, int fd)
{
    struct sim_sock *k = sock_of(os, fd);
    if (!k || k->poll != poll_of(os, poll))
        return -ENOENT;
    list_del(&k->ready);
    k->poll = NULL;
    return 0;
}

/* Never waits: what the loop would have waited for is noted for the scheduler. */
static int do_poll_wait(void *os, int poll, struct os_event *ev, int max, uint64_t timeout_ns)
{
    struct sim_poll *p = poll_of(os, poll);
    uint64_t now = p->host->sim->now;
    int n = 0;
    if (p->host->sim->batch && p->host->sim->batch < max)
        max = p->host->sim->batch;
    p->deadline = timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns;
    while (n < max && !list_empty(&p->ready)) {
        struct sim_sock *k = container_of(p->ready.next, struct sim_sock, ready);
        uint32_t events = level(k) & k->mask;
        list_del(&k->ready);
        if (events)
            ev[n++] = (struct os_event){k->data, events};
    }
    return n;
}

static void do_poll_wake(void *os, int poll)
{
    struct sim_poll *p = poll_of(os, poll);
    if (p)
        p->woken = true;
}

/* ---- time and chance ---- */

static uint64_t do_mono(void *os)
{
    return host_of(os)->sim->now;
}

static uint64_t do_wall(void *os)
{
    return WALL_START + host_of(os)->sim->now;
}

static uint64_t do_seed(void *os)
{
    return rand_u64(&host_of(os)->sim->rand);
}

/* ---- addresses ---- */

static bool takes(const struct sim_sock *k, const struct addr *to, bool *exact)
{
    if (k->local.len == 0)
        return false;
    *exact = addr_eq(&k->local, to);
    if (*exact || k->domain == AF_UNIX || to->sa.sa_family == AF_UNIX)
        return *exact;
    /* "::" takes IPv4, too. */
    return addr_port(&k->local) == addr_port(to) && addr_is_any(&k->local) &&
           (k->domain == to->sa.sa_family || k->domain == AF_INET6);
}

struct sim_sock *sim_find_bound(struct sim_host *h, int type, const struct addr *to)
{
    struct sim_sock *found = NULL;
    bool found_exact = false, exact;
    uint64_t n = 0;
    for (int i = 0; i < h->sim->n_socks; i++) {
        struct sim_sock *k = h->sim->socks[i];
        if (!k || k->host != h || k->type != type || sim_sock_dead(k) ||
            (type == SOCK_STREAM && k->state != SIM_LISTENING) || !takes(k, to, &exact) ||
            (found_exact && !exact))
            continue;
        if (exact && !found_exact)
            n = 0;
        found_exact |= exact;
        if (rand_below(&h->sim->rand, ++n) == 0)
            found = k;
    }
    return found;
}

static bool overlap(const struct addr *a, const struct addr *b)
{
    if (a->sa.sa_family == AF_UNIX || b->sa.sa_family == AF_UNIX)
        return addr_eq(a, b);
    return addr_port(a) == addr_port(b) && (addr_is_any(a) || addr_is_any(b) || addr_eq(a, b));
}

static bool in_use(const struct sim_sock *k, const struct addr *a)
{
    for (int i = 0; i < k->sim->n_socks; i++) {
        const struct sim_sock *o = k->sim->socks[i];
        if (o && o != k && o->host == k->host && o->type == k->type && !sim_sock_dead(o) &&
            o->state <= SIM_LISTENING && o->local.len && overlap(&o->local, a) &&
            !(o->reuse_port && k->reuse_port))
            return true;
    }
    return false;
}

static int bind_addr(struct sim_sock *k, struct addr a)
{
    if (a.sa.sa_family != AF_UNIX && addr_port(&a) == 0) {
        for (int tries = 0; tries <= PORT_LAST - PORT_FIRST; tries++) {
            addr_set_port(&a, k->host->next_port);
            if (++k->host->next_port > PORT_LAST)
                k->host->next_port = PORT_FIRST;
            if (!in_use(k, &a)) {
                k->local = a;
                return 0;
            }
        }
        return -EADDRINUSE;
    }
    if (in_use(k, &a))
        return -EADDRINUSE;
    k->local = a;
    return 0;
}

int sim_autobind(struct sim_sock *k, const struct addr *to)
{
    struct addr a = k->local;
    if (a.len && !addr_is_any(&a) && (addr_port(&a) || a.sa.sa_family == AF_UNIX))
        return 0;
    if (to->sa.sa_family == AF_UNIX) {
        struct sockaddr unnamed = {.sa_family = AF_UNIX};
        addr_from_sockaddr(&k->local, &unnamed, sizeof unnamed.sa_family);
        return 0;
    }
    uint16_t port = addr_port(&a);
    a.len = 0;
    if (addr_is_loopback(to))
        a = *to;
    for (int i = 0; i < k->host->n_ips && !a.len; i++)
        if (k->host->ips[i].sa.sa_family == to->sa.sa_family)
            a = k->host->ips[i];
    if (!a.len)
        return -ENETUNREACH;
    addr_set_port(&a, port);
    if (port) {
        k->local = a;
        return 0;
    }
    k->local.len = 0;
    return bind_addr(k, a);
}

/* ---- sockets ---- */

static int do_socket(void *os, int domain, int type)
{
    struct sim_host *h = host_of(os);
    type &= 0xf;
    if (h->down)
        return -ENETDOWN;
    if ((type != SOCK_STREAM && type != SOCK_DGRAM) ||
        (domain != AF_INET && domain != AF_INET6 && domain != AF_UNIX))
        return -EAFNOSUPPORT;
    struct sim_sock *k = sim_sock_new(h, domain, type);
    int fd = sim_fd_new(k);
    if (fd < 0)
        sim_sock_free(k);
    return fd;
}

static int do_bind(void *os, int fd, const struct sockaddr *sa, socklen_t n)
{
    struct sim_sock *k = sock_of(os, fd);
    struct addr a;
    addr_from_sockaddr(&a, sa, n);
    if (!k)
        return -EBADF;
    if (sim_sock_dead(k))
        return -ENETDOWN;
    if (a.len == 0 || k->local.len)
        return -EINVAL;
    if (a.sa.sa_family != AF_UNIX && !addr_is_any(&a) && !sim_host_has(k->host, &a))
        return -EADDRNOTAVAIL;
    return bind_addr(k, a);
}

static int do_listen(void *os, int fd, int backlog)
{
    struct sim_sock *k = sock_of(os, fd);
    if (!k)
        return -EBADF;
    if (k->type != SOCK_STREAM || k->state > SIM_LISTENING || sim_sock_dead(k))
        return -EINVAL;
    if (k->local.len == 0)
        return -EDESTADDRREQ;
    k->state = SIM_LISTENING;
    k->backlog = backlog > 0 ? backlog : 1;
    return 0;
}

static void give(struct sockaddr_storage *out, const struct addr *a)
{
    (void)addr_sockaddr(a, out);
}

static int do_accept(void *os, int fd, struct sockaddr_storage *peer)
{
    struct sim_sock *k = sock_of(os, fd);
    if (!k)
        return -EBADF;
    if (k->state != SIM_LISTENING)
        return -EINVAL;
    struct list *first = list_first(&k->accepted);
    if (!first || sim_sock_dead(k))
        return -EAGAIN;
    struct sim_sock *c = container_of(first, struct sim_sock, accept_link);
    int r = sim_fd_new(c);
    if (r < 0)
        return r;
    list_del(first);
    k->accept_n--;
    give(peer, &c->remote);
    return r;
}

static int do_connect(void *os, int fd, const struct sockaddr *sa, socklen_t n)
{
    struct sim_sock *k = sock_of(os, fd);
    struct addr to;
    addr_from_sockaddr(&to, sa, n);
    if (!k)
        return -EBADF;
    if (sim_sock_dead(k))
        return -ENETDOWN;
    if (to.len == 0)
        return -EINVAL;
    if (k->type == SOCK_STREAM)
        return sim_tcp_connect(k, &to);
    int rc = sim_autobind(k, &to);
    if (rc == 0)
        k->remote = to;
    return rc;
}

static int do_getsockname(void *os, int fd, struct sockaddr_storage *a)
{
    struct sim_sock *k = sock_of(os, fd);
    if (!k)
        return -EBADF;
    give(a, &k->local);
    if (k->local.len == 0)
        a->ss_family = (sa_family_t)k->domain;
    return 0;
}

static int do_getsockopt(void *os, int fd, int level_, int opt, void *v, socklen_t *n)
{
    struct sim_sock *k = sock_of(os, fd);
    if (!k)
        return -EBADF;
    if (opt == ORIGINAL_DST && (level_ == IPPROTO_IP || level_ == IPPROTO_IPV6)) {
        if (k->original_dst.len == 0 || *n < k->original_dst.len)
            return -ENOENT;
        memcpy(v, &k->original_dst.sa, k->original_dst.len);
        *n = k->original_dst.len;
        return 0;
    }
    if (level_ != SOL_SOCKET || *n < sizeof(int))
        return -ENOPROTOOPT;
    int out;
    switch (opt) {
    case SO_ERROR:
        out = k->err;
        k->err = 0;
        break;
    case SO_ACCEPTCONN:
        out = k->state == SIM_LISTENING;
        break;
    case SO_TYPE:
        out = k->type;
        break;
    default:
        return -ENOPROTOOPT;
    }
    memcpy(v, &out, sizeof out);
    *n = sizeof out;
    return 0;
}

static int do_setsockopt(void *os, int fd, int level_, int opt, const void *v, socklen_t n)
{
    struct sim_sock *k = sock_of(os, fd);
    if (!k)
        return -EBADF;
    int i = 0;
    if (n >= sizeof i)
        memcpy(&i, v, sizeof i);
    if (level_ == SOL_SOCKET && opt == SO_LINGER && n >= sizeof(struct linger))
        k->hard_close =
            ((const struct linger *)v)->l_onoff && !((const struct linger *)v)->l_linger;
    else if (level_ == SOL_SOCKET && opt == SO_REUSEPORT)
        k->reuse_port = i;
    else if (level_ == SOL_SOCKET && opt == SO_MARK)
        k->mark = (uint32_t)i;
    return 0; /* the others change nothing here */
}

static ssize_t do_readv(void *os, int fd, const struct iovec *iov, int n)
{
    struct sim_sock *k = sock_of(os, fd);
    if (!k)
        return -EBADF;
    return k->type == SOCK_STREAM ? sim_tcp_read(k, iov, n, false)
                                  : sim_udp_receive(k, iov, n, NULL, false);
}

static ssize_t do_writev(void *os, int fd, const struct iovec *iov, int n)
{
    struct sim_sock *k = sock_of(os, fd);
    if (!k)
        return -EBADF;
    return k->type == SOCK_STREAM ? sim_tcp_write(k, iov, n) : sim_udp_send(k, iov, n, NULL);
}

static ssize_t do_peek(void *os, int fd, void *p, size_t n)
{
    struct sim_sock *k = sock_of(os, fd);
    struct iovec iov = {p, n};
    if (!k)
        return -EBADF;
    return k->type == SOCK_STREAM ? sim_tcp_read(k, &iov, 1, true)
                                  : sim_udp_receive(k, &iov, 1, NULL, true);
}

static ssize_t do_recvfrom(void *os, int fd, void *p, size_t n, struct sockaddr_storage *peer)
{
    struct sim_sock *k = sock_of(os, fd);
    struct iovec iov = {p, n};
    struct addr from = {.len = 0};
    if (!k)
        return -EBADF;
    ssize_t r = k->type == SOCK_STREAM ? sim_tcp_read(k, &iov, 1, false)
                                       : sim_udp_receive(k, &iov, 1, &from, false);
    if (r >= 0 && peer)
        give(peer, &from);
    return r;
}

static ssize_t do_sendto(void *os, int fd, const void *p, size_t n, const struct sockaddr *a,
                         socklen_t alen)
{
    struct sim_sock *k = sock_of(os, fd);
    struct iovec iov = {(void *)(uintptr_t)p, n};
    struct addr to;
    addr_from_sockaddr(&to, a, alen);
    if (!k)
        return -EBADF;
    return k->type == SOCK_STREAM ? sim_tcp_write(k, &iov, 1)
                                  : sim_udp_send(k, &iov, 1, a ? &to : NULL);
}

static int do_shutdown(void *os, int fd, int how)
{
    struct sim_sock *k = sock_of(os, fd);
    if (!k)
        return -EBADF;
    return how == SHUT_RD ? 0 : sim_tcp_shutdown(k);
}

static int do_close(void *os, int fd)
{
    struct sim_sock *k = sock_of(os, fd);
    if (!k)
        return -EBADF;
    if (k->type == SOCK_STREAM)
        sim_tcp_close(k);
    sim_sock_free(k);
    return 0;
}

const struct os_ops sim_ops = {
    .mono_ns = do_mono,
    .wall_ns = do_wall,
    .seed = do_seed,
    .poll_new = do_poll_new,
    .poll_free = do_poll_free,
    .poll_add = do_poll_add,
    .poll_del = do_poll_del,
    .poll_wait = do_poll_wait,
    .poll_wake = do_poll_wake,
    .socket = do_socket,
    .bind = do_bind,
    .listen = do_listen,
    .accept = do_accept,
    .connect = do_connect,
    .getsockname = do_getsockname,
    .getsockopt = do_getsockopt,
    .setsockopt = do_setsockopt,
    .readv = do_readv,
    .writev = do_writev,
    .peek = do_peek,
    .recvfrom = do_recvfrom,
    .sendto = do_sendto,
    .shutdown = do_shutdown,
    .close = do_close,
    .attach = do_attach,
};
