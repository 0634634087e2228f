/* A minimal fast HTTP/1.1 server, for `make bench`: answers any request with a body of the same N
 * bytes and keeps the connection. Single thread, edge-triggered epoll, one read and one write a
 * request; pipelined requests are answered in one write as far as they fit.
 *
 *     backend PORT BYTES [COUNT]          (on 127.0.0.1)
 *
 * COUNT is a file of 8 bytes, the number of requests answered so far: whoever measures can see that
 * the work was really done.
 *
 * It understands as much as a load test sends: heads up to 64 KB, bodies with Content-Length or
 * chunked (no trailers), "Connection: close". Anything else ends the connection. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "serving.h"

#define HEAD_MAX 65536

struct conn {
    int fd;
    bool readable, writable;
    bool hup;     /* a FIN or worse was announced: read until it is met */
    bool closing; /* after what is owed was written */
    char *head;   /* an unfinished head */
    size_t head_n;
    bool body;            /* a request's body is under way */
    bool last;            /* what `chunk` counts is the last of it */
    uint64_t line, chunk; /* chunk size read so far; bytes of a chunk and its CRLF to come */
    uint64_t owed;        /* bytes of responses still to be written */
};

static int ep;
static char *response; /* several in a row, to be written in one piece */
static size_t response_n, row_n;
static char in[HEAD_MAX];
static uint64_t uncounted, *answered = &uncounted;

static void watch(int fd, void *data)
{
    uint32_t events = EPOLLIN | EPOLLET | (data ? EPOLLOUT | EPOLLRDHUP : 0u);
    struct epoll_event e = {.events = events, .data.ptr = data};
    if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) < 0)
        serving_fail("epoll_ctl");
}

static void make_response(size_t bytes)
{
    char head[256];
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %zu\r\n\r\n",
                     bytes);
    response_n = (size_t)n + bytes;
    size_t copies = response_n < 65536 ? 65536 / response_n + 1 : 1;
    row_n = copies * response_n;
    response = malloc(row_n);
    if (!response)
        serving_fail("malloc");
    for (size_t i = 0; i < copies; i++) {
        memcpy(response + i * response_n, head, (size_t)n);
        memset(response + i * response_n + n, 'x', bytes);
    }
}

/* The value of a header field of the head, or NULL. */
static const char *field(const char *head, size_t n, const char *name)
{
    size_t len = strlen(name);
    for (const char *p = memchr(head, '\n', n), *end = head + n; p && p + 1 + len < end;
         p = memchr(p + 1, '\n', (size_t)(end - p - 1)))
        if (!strncasecmp(p + 1, name, len) && p[1 + len] == ':')
            return p + 2 + len + strspn(p + 2 + len, " \t");
    return NULL;
}

static void answer(struct conn *c)
{
    c->owed += response_n;
    ++*answered;
}

/* A whole head, which ends with an empty line (so the values end before the buffer does). */
static void on_head(struct conn *c, const char *head, size_t n)
{
    const char *v = field(head, n, "transfer-encoding");
    bool chunks = v && !strncasecmp(v, "chunked", 7);
    v = field(head, n, "content-length");
    c->chunk = v && !chunks ? strtoull(v, NULL, 10) : 0;
    c->last = c->chunk > 0;
    c->body = chunks || c->last;
    c->line = 0;
    v = field(head, n, "connection");
    c->closing |= v && !strncasecmp(v, "close", 5);
    if (!c->body)
        answer(c);
}

/* Returns how many of the bytes belong to the body, which is chunks or one piece. */
static size_t skip_body(struct conn *c, const char *p, size_t n)
{
    static const char digits[] = "0123456789abcdefABCDEF";
    size_t i = 0;
    while (i < n) {
        if (c->chunk) {
            size_t k = c->chunk < n - i ? (size_t)c->chunk : n - i;
            c->chunk -= k;
            i += k;
            if (!c->chunk && c->last) {
                c->body = false;
                answer(c);
                return i;
            }
            continue;
        }
        const char *d = memchr(digits, p[i], sizeof digits - 1);
        if (d) {
            c->line = c->line << 4 | (uint64_t)(d - digits < 16 ? d - digits : d - digits - 6);
        } else if (p[i] == '\n') {
            c->last = c->line == 0;
            c->chunk = (c->line & UINT32_MAX) + 2;
            c->line = 0;
        }
        i++;
    }
    return n;
}

/* False: the connection is over. */
static bool on_bytes(struct conn *c, const char *p, size_t n)
{
    while (n && !c->closing) {
        if (c->body) {
            size_t k = skip_body(c, p, n);
            p += k;
            n -= k;
            continue;
        }
        const char *end = memmem(p, n, "\r\n\r\n", 4);
        if (!end) {
            if (n > HEAD_MAX / 2 || !(c->head = realloc(c->head, n)))
                return false;
            memmove(c->head, p, n);
            c->head_n = n;
            return true;
        }
        size_t k = (size_t)(end + 4 - p);
        on_head(c, p, k);
        p += k;
        n -= k;
    }
    return true;
}

static bool write_owed(struct conn *c)
{
    while (c->owed && c->writable) {
        size_t at = (size_t)((response_n - c->owed % response_n) % response_n);
        size_t n = c->owed < row_n - at ? (size_t)c->owed : row_n - at;
        ssize_t w = send(c->fd, response + at, n, MSG_NOSIGNAL);
        if (w < 0 && errno != EAGAIN)
            return false;
        if (w < (ssize_t)n)
            c->writable = false;
        c->owed -= w > 0 ? (uint64_t)w : 0;
    }
    return true;
}

static bool work(struct conn *c)
{
    while (c->readable && !c->closing && c->owed < 16 * (uint64_t)row_n) {
        size_t kept = c->head_n;
        memcpy(in, c->head ? c->head : "", kept);
        ssize_t n = recv(c->fd, in + kept, sizeof in - kept, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            return false;
        if (n < 0 || ((size_t)n < sizeof in - kept && !c->hup))
            c->readable = false;
        if (n < 0)
            break;
        free(c->head);
        c->head = NULL, c->head_n = 0;
        if (!on_bytes(c, in, kept + (size_t)n) || !write_owed(c))
            return false;
    }
    return write_owed(c) && (!c->closing || c->owed);
}

static void on_accept(int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct conn *c = calloc(1, sizeof *c);
        if (!c)
            serving_fail("calloc");
        c->fd = fd;
        c->writable = true;
        watch(fd, c);
    }
}

static void on_event(struct conn *c, uint32_t events)
{
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        c->readable = true;
    if (events & EPOLLOUT)
        c->writable = true;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        c->hup = true;
    if (work(c))
        return;
    close(c->fd); /* its only event of this batch was this one */
    free(c->head);
    free(c);
}

int main(int argc, char **argv)
{
    if (argc != 3 && argc != 4) {
        fprintf(stderr, "usage: backend PORT BYTES [COUNT]\n");
        return 2;
    }
    if (argc == 4)
        answered = serving_count(argv[3]);
    make_response((size_t)strtoull(argv[2], NULL, 10));
    int listener = serving_listen(atoi(argv[1]));
    if ((ep = epoll_create1(EPOLL_CLOEXEC)) < 0)
        serving_fail("epoll_create1");
    watch(listener, NULL);
    for (;;) {
        struct epoll_event ev[256];
        int n = epoll_wait(ep, ev, 256, -1);
        for (int i = 0; i < n; i++) {
            if (ev[i].data.ptr)
                on_event(ev[i].data.ptr, ev[i].events);
            else
                on_accept(listener);
        }
    }
}
