/* A minimal fast HTTP/2 server (cleartext, prior knowledge), for `make bench`: answers any request,
 * once it is complete, with a body of the same N bytes. Single thread, edge-triggered epoll, one
 * read and one write a batch of frames. HTTP/2 itself is libnghttp2's, which is no part of weft.
 *
 *     backend_h2 PORT BYTES COUNT [grpc]          (on 127.0.0.1)
 *
 * With "grpc" the body is one message of a unary call, and trailers say "grpc-status: 0". COUNT is
 * a file of 8 bytes, the number of responses begun so far. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "serving.h"

#define STREAMS   1024 /* a connection's limit: more than any load here needs */
#define OUT_BATCH 65536

struct conn {
    int fd;
    nghttp2_session *h2;
    bool writable;
    bool over;
    uint8_t *out;
    size_t out_n, out_at, out_cap;
};

#define NV(n, v)                                                                                   \
    {                                                                                              \
        (uint8_t *)(n), (uint8_t *)(v), sizeof(n) - 1, sizeof(v) - 1, NGHTTP2_NV_FLAG_NONE         \
    }

static int ep;
static bool grpc;
static uint8_t *body;
static size_t body_n;
static uint64_t *answered;
static nghttp2_session_callbacks *callbacks;

static void make_body(size_t n)
{
    body_n = n + (grpc ? 5 : 0);
    body = malloc(body_n + 1);
    if (!body)
        serving_fail("malloc");
    memset(body, 'x', body_n);
    if (grpc) {
        uint32_t len = htonl((uint32_t)n);
        body[0] = 0;
        memcpy(body + 1, &len, 4);
    }
}

/* ---- what libnghttp2 asks and tells ---- */

/* The position in the body is kept as the stream's user data. */
static ssize_t on_body(nghttp2_session *h2, int32_t id, uint8_t *to, size_t room, uint32_t *flags,
                       nghttp2_data_source *src, void *user)
{
    static const nghttp2_nv trailer = NV("grpc-status", "0");
    size_t at = (size_t)(uintptr_t)nghttp2_session_get_stream_user_data(h2, id);
    size_t n = body_n - at < room ? body_n - at : room;
    memcpy(to, body + at, n);
    nghttp2_session_set_stream_user_data(h2, id, (void *)(uintptr_t)(at + n));
    if (at + n < body_n)
        return (ssize_t)n;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (grpc) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        nghttp2_submit_trailer(h2, id, &trailer, 1);
    }
    return (ssize_t)n;
}

static int on_frame(nghttp2_session *h2, const nghttp2_frame *f, void *user)
{
    static const nghttp2_nv plain[] = {NV(":status", "200"), NV("content-type", "text/plain")};
    static const nghttp2_nv rpc[] = {NV(":status", "200"), NV("content-type", "application/grpc")};
    if ((f->hd.type != NGHTTP2_HEADERS && f->hd.type != NGHTTP2_DATA) ||
        !(f->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    nghttp2_data_provider p = {.read_callback = on_body};
    ++*answered;
    return nghttp2_submit_response(h2, f->hd.stream_id, grpc ? rpc : plain, 2, &p);
}

/* ---- connections ---- */

static void watch(int fd, void *data)
{
    uint32_t events = EPOLLIN | EPOLLET | (data ? EPOLLOUT | EPOLLRDHUP : 0u);
    struct epoll_event e = {.events = events, .data.ptr = data};
    if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) < 0)
        serving_fail("epoll_ctl");
}

static void keep(struct conn *c, const uint8_t *p, size_t n)
{
    if (c->out_n + n > c->out_cap) {
        c->out_cap = (c->out_n + n) * 2;
        c->out = realloc(c->out, c->out_cap);
        if (!c->out)
            serving_fail("realloc");
    }
    memcpy(c->out + c->out_n, p, n);
    c->out_n += n;
}

/* Writes what the session has, a batch at a time. False: the connection is over. */
static bool flush(struct conn *c)
{
    while (c->writable) {
        const uint8_t *p = NULL;
        ssize_t n = 0;
        while (c->out_n < OUT_BATCH && (n = nghttp2_session_mem_send(c->h2, &p)) > 0)
            keep(c, p, (size_t)n);
        if (n < 0)
            return false;
        if (c->out_n == 0)
            break;
        ssize_t w = send(c->fd, c->out + c->out_at, c->out_n - c->out_at, MSG_NOSIGNAL);
        if (w < 0 && errno != EAGAIN)
            return false;
        c->out_at += w > 0 ? (size_t)w : 0;
        if (c->out_at < c->out_n)
            c->writable = false;
        else
            c->out_n = c->out_at = 0;
    }
    return nghttp2_session_want_read(c->h2) || nghttp2_session_want_write(c->h2);
}

static bool work(struct conn *c)
{
    static uint8_t in[262144];
    for (;;) {
        ssize_t n = recv(c->fd, in, sizeof in, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            return false;
        if (n < 0)
            return flush(c);
        if (nghttp2_session_mem_recv(c->h2, in, (size_t)n) < 0)
            return false;
        if (n < (ssize_t)sizeof in && !c->over)
            return flush(c);
    }
}

static void on_event(struct conn *c, uint32_t events)
{
    c->writable |= (events & EPOLLOUT) != 0;
    c->over |= (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    if (work(c))
        return;
    close(c->fd); /* its only event of this batch was this one */
    nghttp2_session_del(c->h2);
    free(c->out);
    free(c);
}

static void on_accept(int listener)
{
    static const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, STREAMS}};
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct conn *c = calloc(1, sizeof *c);
        if (!c || nghttp2_session_server_new(&c->h2, callbacks, c))
            serving_fail("out of memory");
        c->fd = fd;
        c->writable = true;
        nghttp2_submit_settings(c->h2, NGHTTP2_FLAG_NONE, settings, 1);
        watch(fd, c);
    }
}

int main(int argc, char **argv)
{
    if (argc != 4 && argc != 5) {
        fprintf(stderr, "usage: backend_h2 PORT BYTES COUNT [grpc]\n");
        return 2;
    }
    grpc = argc == 5;
    make_body((size_t)strtoull(argv[2], NULL, 10));
    answered = serving_count(argv[3]);
    if (nghttp2_session_callbacks_new(&callbacks))
        serving_fail("out of memory");
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
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
