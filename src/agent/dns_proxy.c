#include "agent/dns_proxy.h"

#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include "agent/dns_msg.h"
#include "agent/dns_upstream.h"
#include "base/mem.h"
#include "net/listener.h"
#include "net/udp.h"

#define TTL_S           30
#define TCP_CLIENTS_MAX 64
#define TCP_PENDING_MAX 32 /* questions of one TCP client on their way */
#define TCP_IDLE_MS     30000
#define TCP_OUT_MAX     (256 * 1024)
#define WILD_ANY        255
#define CLASS_IN        1

struct dns_listener {
    struct dns_proxy *d;
    struct udp_sock *udp;
    struct net_listener *tcp;
};

struct tcp_client {
    struct list link;
    struct dns_proxy *d;
    struct conn *conn;
    struct buf in, out;
    struct timer idle;
    struct list asked; /* struct question.of_client */
    uint32_t n_asked;
};

/* One question that was passed on, until it is answered. */
struct question {
    struct list link;      /* d->questions */
    struct list of_client; /* of a TCP client; empty for UDP */
    struct dns_proxy *d;
    struct dns_ask ask;
    struct udp_sock *udp; /* answer through this socket, or ... */
    struct addr from;
    struct tcp_client *tcp; /* ... to this client; both NULL: the client is gone */
};

struct dns_proxy {
    struct loop *loop;
    struct dns_listener *listeners;
    uint32_t n_listeners;
    struct dns_upstreams up;
    char *own_suffix;
    struct dns_table *table;
    struct list questions, clients;
    uint32_t n_clients, turn;
    struct dns_proxy_stats stats;
};

/* ---- TCP clients ---- */

static void question_end(struct question *q);

static void client_close(struct tcp_client *c)
{
    list_each_safe (it, &c->asked)
        question_end(container_of(it, struct question, of_client));
    timer_cancel(&c->idle);
    list_del(&c->link);
    c->d->n_clients--;
    conn_close(c->conn);
    buf_reset(&c->in);
    buf_reset(&c->out);
    free(c);
}

/* False when the client is gone. */
static bool client_flush(struct tcp_client *c)
{
    if (c->out.len > TCP_OUT_MAX || (c->out.len && conn_write(c->conn, &c->out) < 0)) {
        client_close(c);
        return false;
    }
    return true;
}

static bool client_answer(struct tcp_client *c, const void *p, size_t n)
{
    uint8_t len[2] = {(uint8_t)(n >> 8), (uint8_t)n};
    buf_append(&c->out, len, 2);
    buf_append(&c->out, p, n);
    timer_set(&c->idle, TCP_IDLE_MS);
    return client_flush(c);
}

/* ---- answering ---- */

/* Where an answer goes. */
struct asker {
    struct udp_sock *udp;
    const struct addr *from;
    struct tcp_client *tcp;
};

/* False when a TCP client is gone by it. */
static bool answer(const struct asker *to, const void *p, size_t n)
{
    if (to->tcp)
        return client_answer(to->tcp, p, n);
    if (to->udp)
        (void)udp_send(to->udp, to->from, p, n);
    return true;
}

static bool answer_error(const struct asker *to, const struct dns_query *q, enum dns_rcode rcode)
{
    uint8_t p[1024];
    return answer(to, p, dns_error(q, rcode, p, sizeof p));
}

static bool wanted(const struct dns_query *q, const struct addr *a)
{
    return q->type == WILD_ANY || q->type == (a->sa.sa_family == AF_INET ? DNS_A : DNS_AAAA);
}

/* The addresses begin with another one each time, as Istio rotates them. */
static bool answer_found(struct dns_proxy *d, const struct asker *to, const struct dns_query *q,
                         const struct dns_answer *found)
{
    static uint8_t big[DNS_TCP_MAX];
    struct dns_writer w;
    size_t max = to->tcp ? DNS_TCP_MAX : q->udp_size < DNS_UDP_MAX ? q->udp_size : DNS_UDP_MAX;
    dns_write_begin(&w, q, big, max, DNS_OK, true);
    if (found->cname)
        dns_write_cname(&w, NULL, found->cname, TTL_S);
    uint32_t first = found->n ? d->turn++ % found->n : 0;
    for (uint32_t i = 0; i < found->n; i++) {
        const struct addr *a = &found->addrs[(first + i) % found->n];
        if (wanted(q, a))
            dns_write_addr(&w, found->cname, a, TTL_S);
    }
    d->stats.from_table++;
    return answer(to, big, dns_write_end(&w));
}

/* ---- passing on ---- */

static void question_end(struct question *q)
{
    dns_ask_cancel(&q->ask);
    list_del(&q->link);
    if (q->tcp)
        q->tcp->n_asked--;
    list_del(&q->of_client);
    q->d->stats.outstanding--;
    free(q);
}

static void on_answered(struct dns_ask *ask, const uint8_t *msg, size_t n)
{
    struct question *q = container_of(ask, struct question, ask);
    struct dns_proxy *d = q->d;
    struct addr from = q->from;
    struct asker to = {q->udp, &from, q->tcp};
    struct dns_query query = ask->query;
    question_end(q);
    if (msg) {
        answer(&to, msg, n);
        return;
    }
    d->stats.upstream_failures++;
    answer_error(&to, &query, DNS_SERVFAIL);
}

static bool pass_on(struct dns_proxy *d, const struct asker *to, const struct dns_query *q,
                    const uint8_t *msg, size_t n)
{
    if (d->up.n == 0)
        return answer_error(to, q, DNS_REFUSED);
    if (d->stats.outstanding >= DNS_OUTSTANDING_MAX ||
        (to->tcp && to->tcp->n_asked >= TCP_PENDING_MAX)) {
        d->stats.overflow++;
        return answer_error(to, q, DNS_SERVFAIL);
    }
    struct question *x = mem_new(struct question);
    x->d = d;
    x->udp = to->udp;
    x->tcp = to->tcp;
    if (to->from)
        x->from = *to->from;
    list_push(&d->questions, &x->link);
    list_init(&x->of_client);
    if (to->tcp) {
        list_push(&to->tcp->asked, &x->of_client);
        to->tcp->n_asked++;
    }
    d->stats.outstanding++;
    d->stats.passed_on++;
    dns_ask_start(&x->ask, &d->up, q, msg, n, to->tcp != NULL, on_answered);
    return true;
}

/* ---- questions ---- */

static bool below(sv name, sv suffix)
{
    return suffix.n && sv_ends(name, suffix) &&
           (name.n == suffix.n || name.p[name.n - suffix.n - 1] == '.');
}

/* False when a TCP client is gone by it. */
static bool on_question(struct dns_proxy *d, const struct asker *to, const void *msg, size_t n)
{
    struct dns_query q;
    struct dns_answer found;
    int code = dns_query_parse(&q, msg, n);
    d->stats.questions++;
    if (code == E_INVALID || code == E_PROTOCOL)
        d->stats.malformed++;
    if (code == E_INVALID)
        return true; /* no answer: it may be an answer itself */
    if (code)
        return answer_error(to, &q, code == E_UNSUPPORTED ? DNS_NOTIMP : DNS_FORMERR);
    if (q.edns_version > 0)
        return answer_error(to, &q, DNS_BADVERS);
    if (q.qclass != CLASS_IN)
        return answer_error(to, &q, DNS_REFUSED);
    sv name = sv_make(q.name, q.name_len);
    if (d->table && dns_table_find(d->table, name, &found))
        return answer_found(d, to, &q, &found);
    if (below(name, sv_of(d->own_suffix))) {
        d->stats.nxdomain++;
        return answer_error(to, &q, DNS_NXDOMAIN);
    }
    return pass_on(d, to, &q, msg, n);
}

static void on_datagram(void *user, const char *p, size_t n, const struct addr *from)
{
    struct dns_listener *l = user;
    struct asker to = {.udp = l->udp, .from = from};
    if (n <= DNS_UDP_MAX)
        on_question(l->d, &to, p, n);
}

/* ---- TCP: two bytes of length before each message, RFC 1035 4.2.2, RFC 7766 ---- */

static void client_messages(struct tcp_client *c)
{
    uint8_t head[2];
    struct asker to = {.tcp = c};
    while (c->in.len >= 2) {
        buf_peek(&c->in, 0, head, 2);
        size_t n = (size_t)head[0] << 8 | head[1];
        if (c->in.len < 2 + n)
            return;
        buf_drain(&c->in, 2);
        sv msg = buf_pullup(&c->in, n);
        if (!on_question(c->d, &to, msg.p, n))
            return;
        buf_drain(&c->in, n);
    }
}

static void on_client(struct conn *conn, unsigned events, void *user)
{
    struct tcp_client *c = user;
    if (events & CONN_EV_ERROR) {
        client_close(c);
        return;
    }
    if (events & CONN_EV_WRITE && !client_flush(c))
        return;
    if (!(events & CONN_EV_READ))
        return;
    ssize_t n = conn_read(conn, &c->in, DNS_TCP_MAX + 2);
    if (n < 0 && n != E_AGAIN) {
        client_close(c);
        return;
    }
    timer_set(&c->idle, TCP_IDLE_MS);
    if (conn->readable)
        conn_kick(conn);
    client_messages(c);
}

static void on_client_idle(struct timer *t)
{
    client_close(container_of(t, struct tcp_client, idle));
}

static void on_accept(void *user, int fd, const struct addr *local, const struct addr *remote)
{
    struct dns_listener *l = user;
    struct dns_proxy *d = l->d;
    struct tcp_client *c = mem_new(struct tcp_client);
    c->d = d;
    c->conn = conn_from_fd(d->loop, fd, local, remote, on_client, c);
    buf_init(&c->in);
    buf_init(&c->out);
    list_init(&c->asked);
    timer_init(&c->idle, d->loop, on_client_idle);
    timer_set(&c->idle, TCP_IDLE_MS);
    list_push(&d->clients, &c->link);
    if (d->n_clients++ < TCP_CLIENTS_MAX)
        return;
    d->stats.overflow++;
    client_close(c);
}

/* ---- life ---- */

static int started(struct dns_listener *l, const struct error *err)
{
    if (!l->udp || !l->tcp)
        return err->code;
    net_listener_start(l->tcp);
    return 0;
}

static int listen_on(struct dns_proxy *d, const struct addr *a, struct error *err)
{
    struct dns_listener *l = &d->listeners[d->n_listeners++];
    l->d = d;
    l->udp = udp_new(d->loop, a, on_datagram, l, err);
    if (l->udp)
        l->tcp = net_listener_new(d->loop, udp_addr(l->udp), &(struct listen_opts){.v6_only = true},
                                  on_accept, l, err);
    return started(l, err);
}

static int adopt(struct dns_proxy *d, const struct dns_proxy_opts *o, struct error *err)
{
    struct dns_listener *l = &d->listeners[d->n_listeners++];
    l->d = d;
    l->udp = udp_from_fd(d->loop, o->udp_fd, on_datagram, l, err);
    l->tcp = net_listener_from_fd(d->loop, o->tcp_fd, on_accept, l, err);
    return started(l, err);
}

struct dns_proxy *dns_proxy_new(const struct dns_proxy_opts *o, struct error *err)
{
    struct dns_proxy *d = mem_new(struct dns_proxy);
    struct error own = {0};
    d->loop = o->loop;
    d->own_suffix = sv_dup(o->own_suffix);
    d->listeners = mem_array(struct dns_listener, o->n_listen + 1);
    list_init(&d->questions);
    list_init(&d->clients);
    dns_upstreams_init(&d->up, o->loop, o->upstreams, o->n_upstreams, o->mark);
    int code = o->has_fds ? adopt(d, o, &own) : 0;
    for (uint32_t i = 0; i < o->n_listen && !code && !o->has_fds; i++)
        code = listen_on(d, &o->listen[i], &own);
    if (!code)
        return d;
    error_set(err, own.code, "DNS: %s", own.msg);
    dns_proxy_free(d);
    return NULL;
}

void dns_proxy_free(struct dns_proxy *d)
{
    if (!d)
        return;
    list_each_safe (it, &d->clients)
        client_close(container_of(it, struct tcp_client, link));
    list_each_safe (it, &d->questions)
        question_end(container_of(it, struct question, link));
    for (uint32_t i = 0; i < d->n_listeners; i++) {
        udp_free(d->listeners[i].udp);
        if (d->listeners[i].tcp)
            net_listener_free(d->listeners[i].tcp);
    }
    dns_upstreams_fini(&d->up);
    dns_table_free(d->table);
    free(d->listeners);
    free(d->own_suffix);
    free(d);
}

void dns_proxy_set_table(struct dns_proxy *d, struct dns_table *t)
{
    dns_table_free(d->table);
    d->table = t;
}

const struct addr *dns_proxy_addr(const struct dns_proxy *d, uint32_t n)
{
    return n < d->n_listeners ? udp_addr(d->listeners[n].udp) : NULL;
}

const struct dns_proxy_stats *dns_proxy_stats(const struct dns_proxy *d)
{
    return &d->stats;
}
