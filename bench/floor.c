/* The floor: a bare byte forwarder, for `make bench`. It accepts on one port, connects to a backend
 * for each connection, and moves bytes with one read and one write a piece: single thread,
 * edge-triggered epoll, no parsing. What a proxy costs above this is its own doing.
 *
 *     floor LISTEN_PORT BACKEND_PORT          (both on 127.0.0.1)
 *
 * Self-contained on purpose: it must not become faster or slower with weft. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE 65536

struct end {
    int fd;
    struct end *peer;
    bool readable, writable;
    bool hup;   /* a FIN or worse was announced: read until it is met */
    bool eof;   /* nothing more comes from here */
    bool done;  /* and the peer was told */
    bool dead;  /* closed; freed after the batch */
    char *kept; /* read, but not yet written to the peer */
    size_t kept_n, kept_at;
    struct end *next_dead;
};

static int ep;
static struct end *dead;
static struct sockaddr_in backend;
static char piece[PIECE];

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void set_nodelay(int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void watch(int fd, uint32_t events, void *data)
{
    struct epoll_event e = {.events = events | EPOLLET, .data.ptr = data};
    if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) < 0)
        fail("epoll_ctl");
}

static void end_pair(struct end *e)
{
    struct end *both[2] = {e, e->peer};
    for (int i = 0; i < 2; i++) {
        if (both[i]->dead)
            continue;
        both[i]->dead = true;
        close(both[i]->fd);
        both[i]->next_dead = dead;
        dead = both[i];
    }
}

static void free_dead(void)
{
    for (struct end *e = dead, *next; e; e = next) {
        next = e->next_dead;
        free(e->kept);
        free(e);
    }
    dead = NULL;
}

/* Writes all it can; returns how much, or -1 when the connection is dead. */
static ssize_t put(struct end *to, const char *p, size_t n)
{
    if (!to->writable)
        return 0;
    ssize_t w = send(to->fd, p, n, MSG_NOSIGNAL);
    if (w < 0 && errno != EAGAIN)
        return -1;
    if (w < (ssize_t)n)
        to->writable = false;
    return w < 0 ? 0 : w;
}

static bool keep(struct end *e, const char *p, size_t n)
{
    e->kept = realloc(e->kept, n);
    if (!e->kept)
        return false;
    memcpy(e->kept, p, n);
    e->kept_n = n;
    e->kept_at = 0;
    return true;
}

static bool flush_kept(struct end *e)
{
    if (e->kept_n == e->kept_at)
        return true;
    ssize_t w = put(e->peer, e->kept + e->kept_at, e->kept_n - e->kept_at);
    if (w < 0)
        return false;
    e->kept_at += (size_t)w;
    if (e->kept_at == e->kept_n) {
        free(e->kept);
        e->kept = NULL;
        e->kept_at = e->kept_n = 0;
    }
    return true;
}

/* Moves bytes from e to its peer until one of them has to wait. False: the pair is over. */
static bool move(struct end *e)
{
    if (!flush_kept(e))
        return false;
    while (!e->kept_n && e->readable && e->peer->writable && !e->eof) {
        ssize_t n = recv(e->fd, piece, sizeof piece, 0);
        if (n < 0 && errno != EAGAIN)
            return false;
        if (n <= 0) {
            e->readable = false;
            e->eof = n == 0;
            break;
        }
        if (n < (ssize_t)sizeof piece)
            e->readable = e->hup; /* drained: what comes next is an event */
        ssize_t w = put(e->peer, piece, (size_t)n);
        if (w < 0 || (w < n && !keep(e, piece + w, (size_t)(n - w))))
            return false;
    }
    if (e->eof && !e->done && !e->kept_n) {
        e->done = true;
        shutdown(e->peer->fd, SHUT_WR);
    }
    return !(e->done && e->peer->done);
}

static void on_event(struct end *e, uint32_t events)
{
    if (e->dead)
        return;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        e->readable = true;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        e->hup = true;
    if (events & EPOLLOUT)
        e->writable = true;
    if (!move(e) || ((events & EPOLLOUT) && !move(e->peer)))
        end_pair(e);
}

static void on_accept(int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        int up = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (up < 0 || (connect(up, (struct sockaddr *)&backend, sizeof backend) < 0 &&
                       errno != EINPROGRESS)) {
            close(fd);
            if (up >= 0)
                close(up);
            continue;
        }
        set_nodelay(up);
        struct end *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b);
        if (!a || !b)
            fail("calloc");
        *a = (struct end){.fd = fd, .peer = b, .writable = true};
        *b = (struct end){.fd = up, .peer = a};
        watch(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP, a);
        watch(up, EPOLLIN | EPOLLOUT | EPOLLRDHUP, b);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: floor LISTEN_PORT BACKEND_PORT\n");
        return 2;
    }
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)atoi(argv[1])),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    backend = at;
    backend.sin_port = htons((uint16_t)atoi(argv[2]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    set_nodelay(listener); /* what it accepts inherits it */
    if (bind(listener, (struct sockaddr *)&at, sizeof at) < 0 || listen(listener, 4096) < 0)
        fail("listen");
    if ((ep = epoll_create1(EPOLL_CLOEXEC)) < 0)
        fail("epoll_create1");
    watch(listener, EPOLLIN, NULL);
    for (;;) {
        struct epoll_event ev[256];
        int n = epoll_wait(ep, ev, 256, -1);
        for (int i = 0; i < n; i++) {
            if (ev[i].data.ptr)
                on_event(ev[i].data.ptr, ev[i].events);
            else
                on_accept(listener);
        }
        free_dead();
    }
}
