#include "agent/dns_upstream.h"

#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"

#define TRIES_MAX 4

void dns_upstreams_init(struct dns_upstreams *u, struct loop *l, const struct addr *servers,
                        uint32_t n, uint32_t mark)
{
    u->loop = l;
    u->n = n;
    u->mark = mark;
    u->servers = mem_array(struct addr, n + 1);
    if (n)
        memcpy(u->servers, servers, n * sizeof *servers);
}

void dns_upstreams_fini(struct dns_upstreams *u)
{
    free(u->servers);
    u->servers = NULL;
    u->n = 0;
}

/* ---- one try ---- */

static const struct addr *server(const struct dns_ask *a)
{
    return &a->up->servers[(a->tries - 1) % a->up->n];
}

static uint32_t max_tries(const struct dns_ask *a)
{
    uint32_t n = a->up->n < 2 ? 2 : a->up->n;
    return n < TRIES_MAX ? n : TRIES_MAX;
}

static void drop_try(struct dns_ask *a)
{
    udp_free(a->udp);
    a->udp = NULL;
    if (a->conn)
        conn_close(a->conn);
    a->conn = NULL;
    buf_reset(&a->in);
    buf_reset(&a->out);
}

static void finish(struct dns_ask *a, uint8_t *msg, size_t n)
{
    dns_ask_fn fn = a->fn;
    a->fn = NULL;
    if (msg)
        dns_set_id(msg, a->query.id);
    timer_cancel(&a->timer);
    fn(a, msg, n);
}

/* A server that says it cannot is passed over while others are left. */
static bool worth_another(const struct dns_ask *a, const uint8_t *msg)
{
    enum dns_rcode r = dns_rcode_of(msg);
    return (r == DNS_SERVFAIL || r == DNS_REFUSED || r == DNS_NOTIMP) && a->tries < a->up->n;
}

static void on_message(struct dns_ask *a, const uint8_t *msg, size_t n)
{
    if (dns_response_check(msg, n, a->id, &a->query))
        return;
    if (worth_another(a, msg)) {
        timer_set(&a->timer, 0);
        return;
    }
    uint8_t *copy = mem_alloc(n);
    memcpy(copy, msg, n);
    finish(a, copy, n);
    free(copy);
}

static void on_datagram(void *user, const char *p, size_t n, const struct addr *from)
{
    struct dns_ask *a = user;
    if (addr_eq(from, server(a)))
        on_message(a, (const uint8_t *)p, n);
}

static void on_conn(struct conn *c, unsigned events, void *user)
{
    struct dns_ask *a = user;
    if (events & CONN_EV_ERROR ||
        (events & (CONN_EV_CONNECTED | CONN_EV_WRITE) && conn_write(c, &a->out) < 0)) {
        timer_set(&a->timer, 0);
        return;
    }
    if (!(events & CONN_EV_READ))
        return;
    ssize_t n = conn_read(c, &a->in, DNS_TCP_MAX + 2);
    if (n < 0 && n != E_AGAIN) {
        timer_set(&a->timer, 0);
        return;
    }
    uint8_t head[2];
    if (buf_peek(&a->in, 0, head, 2) < 2)
        return;
    size_t len = (size_t)head[0] << 8 | head[1];
    if (a->in.len >= 2 + len) {
        sv msg = buf_pullup(&a->in, 2 + len);
        on_message(a, (const uint8_t *)msg.p + 2, len);
    } else if (c->readable) {
        conn_kick(c);
    }
}

static bool try_udp(struct dns_ask *a)
{
    struct addr any;
    bool v6 = server(a)->sa.sa_family == AF_INET6;
    addr_ip(&any, v6 ? SV("::") : SV("0.0.0.0"), 0);
    a->udp = udp_new(a->up->loop, &any, on_datagram, a, NULL);
    if (!a->udp || (a->up->mark && udp_set_mark(a->udp, a->up->mark)))
        return false;
    return udp_send(a->udp, server(a), a->msg, a->n) == 0;
}

static bool try_tcp(struct dns_ask *a)
{
    struct sock_opts so = {.mark = a->up->mark, .no_delay = true};
    uint8_t head[2] = {(uint8_t)(a->n >> 8), (uint8_t)a->n};
    int code;
    buf_append(&a->out, head, 2);
    buf_append(&a->out, a->msg, a->n);
    a->conn = conn_connect(a->up->loop, server(a), &so, on_conn, a, &code);
    return a->conn != NULL;
}

static void next_try(struct timer *t)
{
    struct dns_ask *a = container_of(t, struct dns_ask, timer);
    drop_try(a);
    if (a->tries == max_tries(a)) {
        finish(a, NULL, 0);
        return;
    }
    a->tries++;
    /* Not the loop's randomness: an id is a secret from whoever would forge an answer. */
    if (RAND_bytes((unsigned char *)&a->id, sizeof a->id) != 1)
        a->id = (uint16_t)rand_u64(loop_rand(a->up->loop));
    dns_set_id(a->msg, a->id);
    timer_set(&a->timer, (a->over_tcp ? try_tcp(a) : try_udp(a)) ? DNS_TRY_MS : 0);
}

/* ---- life ---- */

void dns_ask_start(struct dns_ask *a, const struct dns_upstreams *up, const struct dns_query *q,
                   const uint8_t *msg, size_t n, bool over_tcp, dns_ask_fn fn)
{
    *a = (struct dns_ask){.query = *q, .up = up, .fn = fn, .n = n, .over_tcp = over_tcp};
    a->msg = mem_alloc(n);
    memcpy(a->msg, msg, n);
    buf_init(&a->in);
    buf_init(&a->out);
    timer_init(&a->timer, up->loop, next_try);
    timer_set(&a->timer, 0);
}

void dns_ask_cancel(struct dns_ask *a)
{
    if (!a->msg)
        return;
    timer_cancel(&a->timer);
    drop_try(a);
    free(a->msg);
    a->msg = NULL;
    a->fn = NULL;
}
