#include "net/udp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"

#define DATAGRAM_MAX     65536
#define DATAGRAMS_A_TURN 64

struct udp_sock {
    struct loop *loop;
    struct io io;
    struct timer again;
    struct deferred gone;
    udp_fn fn;
    void *user;
    int fd;
    struct addr addr;
    bool freed;
};

static void receive(struct udp_sock *u)
{
    struct os *os = loop_os(u->loop);
    char p[DATAGRAM_MAX];
    for (int i = 0; !u->freed; i++) {
        struct sockaddr_storage ss;
        struct addr from;
        if (i == DATAGRAMS_A_TURN) {
            timer_set(&u->again, 0);
            return;
        }
        ssize_t n = os->ops->recvfrom(os->self, u->fd, p, sizeof p, &ss);
        if (n == -EAGAIN)
            return;
        if (n < 0)
            continue; /* an ICMP error of an earlier send; bounded by the turn's share */
        addr_from_sockaddr(&from, (struct sockaddr *)&ss, sizeof ss);
        u->fn(u->user, p, (size_t)n, &from);
    }
}

static void on_io(struct io *io, uint32_t events)
{
    receive(container_of(io, struct udp_sock, io));
}

static void on_again(struct timer *t)
{
    receive(container_of(t, struct udp_sock, again));
}

static struct udp_sock *make(struct loop *l, int fd, int rc, udp_fn fn, void *user, int *code)
{
    struct os *os = loop_os(l);
    struct sockaddr_storage ss;
    if (rc >= 0)
        rc = os->ops->getsockname(os->self, fd, &ss);
    struct udp_sock *u = mem_new(struct udp_sock);
    u->loop = l;
    u->fd = fd;
    u->fn = fn;
    u->user = user;
    timer_init(&u->again, l, on_again);
    *code = rc < 0 ? error_from_errno(-rc) : io_add(l, &u->io, fd, on_io);
    if (*code) {
        if (fd >= 0)
            os->ops->close(os->self, fd);
        free(u);
        return NULL;
    }
    addr_from_sockaddr(&u->addr, (struct sockaddr *)&ss, sizeof ss);
    return u;
}

struct udp_sock *udp_new(struct loop *l, const struct addr *a, udp_fn fn, void *user,
                         struct error *err)
{
    struct os *os = loop_os(l);
    char text[ADDR_TEXT_MAX];
    int code, fd = os->ops->socket(os->self, a->sa.sa_family, SOCK_DGRAM);
    int rc = fd < 0 ? fd : os->ops->bind(os->self, fd, &a->sa, a->len);
    struct udp_sock *u = make(l, fd, rc, fn, user, &code);
    if (!u) {
        addr_text(a, text);
        error_set(err, code, "cannot receive datagrams on %s: %s", text, error_text(code));
    }
    return u;
}

struct udp_sock *udp_from_fd(struct loop *l, int fd, udp_fn fn, void *user, struct error *err)
{
    int code;
    struct udp_sock *u = make(l, fd, 0, fn, user, &code);
    if (!u)
        error_set(err, code, "cannot receive datagrams: %s", error_text(code));
    return u;
}

int udp_send(struct udp_sock *u, const struct addr *to, const void *p, size_t n)
{
    struct os *os = loop_os(u->loop);
    ssize_t r = os->ops->sendto(os->self, u->fd, p, n, &to->sa, to->len);
    return r < 0 ? error_from_errno((int)-r) : 0;
}

int udp_set_mark(struct udp_sock *u, uint32_t mark)
{
    struct os *os = loop_os(u->loop);
    int v = (int)mark;
    int rc = os->ops->setsockopt(os->self, u->fd, SOL_SOCKET, SO_MARK, &v, sizeof v);
    return rc < 0 ? error_from_errno(-rc) : 0;
}

const struct addr *udp_addr(const struct udp_sock *u)
{
    return &u->addr;
}

static void free_sock(struct deferred *d)
{
    free(container_of(d, struct udp_sock, gone));
}

void udp_free(struct udp_sock *u)
{
    if (!u || u->freed)
        return;
    struct os *os = loop_os(u->loop);
    u->freed = true;
    timer_cancel(&u->again);
    io_forget(&u->io);
    os->ops->close(os->self, u->fd);
    loop_defer(u->loop, &u->gone, free_sock);
}
