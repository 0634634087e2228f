/* Simulated connections. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include "base/mem.h"
#include "net/sim_private.h"

#define MSS          1460
#define BUFFER_LEAST 2048
#define BUFFER_MOST  262144
#define SYN_RTO      SIM_SECOND
#define SYN_LIMIT    (127 * SIM_SECOND)
#define DATA_RTO     (200 * SIM_MS)
#define DATA_LIMIT   (900 * SIM_SECOND)
#define RTO_MAX      (120 * SIM_SECOND)

static int index_of(const struct sim_side *d)
{
    return d == &d->tcp->side[1];
}

static struct sim_side *other(struct sim_side *d)
{
    return &d->tcp->side[1 - index_of(d)];
}

static struct sim_side *side_of(const struct sim_sock *k)
{
    return k->tcp ? &k->tcp->side[k->side] : NULL;
}

/* ---- queues ---- */

static void arm_deliver(struct sim_side *d)
{
    if (list_empty(&d->sent) || d->deliver.armed)
        return;
    d->deliver.patient = false;
    sim_arm(&d->deliver, container_of(d->sent.next, struct sim_seg, link)->at);
}

/* Resets of a middlebox stay on their way when the socket that they seem to come from is gone. */
static void drop_sent(struct sim_side *d, bool resets)
{
    sim_disarm(&d->deliver);
    list_each_safe (it, &d->sent) {
        struct sim_seg *seg = container_of(it, struct sim_seg, link);
        if (seg->kind == SEG_RST && !resets)
            continue;
        list_del(it);
        free(seg);
    }
    arm_deliver(d);
}

static void send_seg(struct sim_side *d, enum sim_seg_kind kind, struct sim_seg *seg)
{
    struct sim *s = d->tcp->sim;
    struct sim_host *to = other(d)->host;
    if (!seg)
        seg = mem_zalloc(sizeof *seg);
    seg->kind = kind;
    seg->at = s->now + sim_latency(s, d->host, to ? to : d->host);
    if (seg->at < d->last_at)
        seg->at = d->last_at;
    d->last_at = seg->at;
    list_push(&d->sent, &seg->link);
    arm_deliver(d);
}

static void maybe_free(struct sim_tcp *t)
{
    for (int i = 0; i < 2; i++)
        if (t->side[i].sock || !list_empty(&t->side[i].sent))
            return;
    sim_tcp_free(t);
}

void sim_tcp_free(struct sim_tcp *t)
{
    for (int i = 0; i < 2; i++) {
        if (t->side[i].sock)
            t->side[i].sock->tcp = NULL;
        drop_sent(&t->side[i], true);
        sim_disarm(&t->side[i].window);
    }
    list_del(&t->link);
    free(t);
}

static void break_sock(struct sim_sock *k, int err)
{
    struct sim_side *d = side_of(k);
    k->err = err;
    k->broken = true;
    if (d)
        drop_sent(d, false);
    sim_sock_event(k);
}

/* ---- arriving ---- */

static bool excluded(const struct sim_host *h, uint16_t port)
{
    for (int i = 0; i < SIM_PORTS && h->not_in[i]; i++)
        if (h->not_in[i] == port)
            return true;
    return false;
}

/* False: nobody answers now (a full backlog), the SYN is to be repeated. */
static bool on_syn(struct sim_side *d)
{
    struct sim_tcp *t = d->tcp;
    struct sim_side *server = &t->side[1];
    struct addr to = t->to, original = t->original_dst;
    struct sim_host *h = server->host;
    if (!d->sock)
        return true;
    if (d->host != h && h->in_port && !excluded(h, addr_port(&to))) {
        original = to;
        addr_set_port(&to, h->in_port);
    }
    struct sim_sock *l = sim_find_bound(h, SOCK_STREAM, &to);
    if (l && l->accept_n >= l->backlog)
        return false;
    if (!l) {
        t->dead = true;
        send_seg(server, SEG_RST, NULL);
        return true;
    }
    struct sim_sock *k = sim_sock_new(h, to.sa.sa_family, SOCK_STREAM);
    k->state = SIM_CONNECTED;
    k->local = to;
    k->remote = t->from;
    k->original_dst = original;
    k->tcp = t;
    k->side = 1;
    server->sock = k;
    list_push(&l->accepted, &k->accept_link);
    l->accept_n++;
    sim_sock_event(l);
    send_seg(server, SEG_SYN_ACK, NULL);
    return true;
}

static void on_rst(struct sim_side *to)
{
    struct sim_sock *k = to->sock;
    to->tcp->dead = true;
    if (k && !k->broken)
        break_sock(k, k->state == SIM_CONNECTING ? ECONNREFUSED : k->eof ? EPIPE : ECONNRESET);
}

/* Takes the segment over, except a SYN that nobody answered. */
static bool arrive(struct sim_side *d, struct sim_seg *seg)
{
    struct sim_side *to = other(d);
    struct sim_sock *k = to->sock;
    if (k && sim_sock_dead(k))
        k = NULL;
    switch (seg->kind) {
    case SEG_SYN:
        if (!on_syn(d))
            return false;
        break;
    case SEG_SYN_ACK:
        if (k && k->state == SIM_CONNECTING) {
            k->state = SIM_CONNECTED;
            sim_sock_event(k);
        }
        break;
    case SEG_DATA:
        if (k && !k->broken) {
            list_del(&seg->link);
            list_push(&k->in, &seg->link);
            k->in_bytes += seg->n;
            sim_sock_event(k);
            return true;
        }
        if (!d->tcp->dead) { /* data for who has closed */
            d->tcp->dead = true;
            send_seg(to, SEG_RST, NULL);
        }
        break;
    case SEG_FIN:
        if (k) {
            k->eof = true;
            sim_sock_event(k);
        }
        break;
    case SEG_RST:
        on_rst(to);
        break;
    }
    list_del(&seg->link);
    free(seg);
    return true;
}

static void retry(struct sim_side *d, bool syn)
{
    struct sim *s = d->tcp->sim;
    if (d->stalled_since == 0) {
        d->stalled_since = s->now;
        d->rto = syn ? SYN_RTO : DATA_RTO;
    } else {
        d->rto = d->rto * 2 < RTO_MAX ? d->rto * 2 : RTO_MAX;
    }
    if (s->now - d->stalled_since >= (syn ? SYN_LIMIT : DATA_LIMIT)) {
        sim_note(s, "give up", d->tcp->number, (uint64_t)index_of(d), 0);
        drop_sent(d, true);
        if (d->sock)
            break_sock(d->sock, ETIMEDOUT);
        maybe_free(d->tcp);
        return;
    }
    d->deliver.patient = true;
    sim_arm(&d->deliver, s->now + d->rto);
}

static void on_deliver(struct sim_event *e)
{
    struct sim_side *d = container_of(e, struct sim_side, deliver), *to = other(d);
    struct sim *s = d->tcp->sim;
    struct sim_seg *seg = container_of(d->sent.next, struct sim_seg, link);
    bool syn = seg->kind == SEG_SYN;
    static const char *const names[] = {"syn", "syn-ack", "data", "fin", "rst"};
    if (!to->host || !sim_reachable(s, d->host, to->host)) {
        retry(d, syn);
        return;
    }
    sim_note(s, names[seg->kind], d->tcp->number, (uint64_t)index_of(d), seg->n);
    if (!arrive(d, seg)) {
        retry(d, syn);
        return;
    }
    d->stalled_since = 0;
    arm_deliver(d);
    maybe_free(d->tcp);
}

/* The reader made room and the writer hears of it. */
static void on_window(struct sim_event *e)
{
    struct sim_side *d = container_of(e, struct sim_side, window);
    struct sim *s = d->tcp->sim;
    if (!sim_reachable(s, d->host, other(d)->host)) {
        e->patient = true;
        sim_arm(e, s->now + DATA_RTO);
        return;
    }
    d->used -= d->freed;
    d->freed = 0;
    if (d->sock && d->sock->blocked && d->cap - d->used >= d->cap / 3) {
        d->sock->blocked = false;
        sim_note(s, "room", d->tcp->number, (uint64_t)index_of(d), d->cap - d->used);
        sim_sock_event(d->sock);
    }
}

/* ---- what the table calls ---- */

static size_t draw_buffer(struct sim *s)
{
    if (s->buffer)
        return s->buffer;
    size_t n = BUFFER_LEAST;
    for (uint64_t doublings = rand_below(&s->rand, 8); doublings; doublings--)
        n *= 2;
    return n < BUFFER_MOST ? n : BUFFER_MOST;
}

static void init_side(struct sim_tcp *t, int i, struct sim_host *h)
{
    struct sim_side *d = &t->side[i];
    d->tcp = t;
    d->host = h;
    list_init(&d->sent);
    d->deliver.fn = on_deliver;
    d->window.fn = on_window;
    d->deliver.sim = d->window.sim = t->sim;
    d->cap = draw_buffer(t->sim);
}

int sim_tcp_connect(struct sim_sock *k, const struct addr *to)
{
    struct sim *s = k->sim;
    struct sim_host *h = k->host;
    if (k->state == SIM_CONNECTING)
        return -EALREADY;
    if (k->state != SIM_NEW)
        return -EISCONN;
    int rc = sim_autobind(k, to);
    if (rc < 0)
        return rc;
    struct sim_tcp *t = mem_new(struct sim_tcp);
    bool own = to->sa.sa_family == AF_UNIX || sim_host_has(h, to);
    t->sim = s;
    t->to = *to;
    t->from = k->local;
    t->number = ++s->next_tcp;
    if (!own && h->out_port && k->mark != h->exempt_mark) {
        t->original_dst = *to;
        addr_ip(&t->to, to->sa.sa_family == AF_INET6 ? SV("::1") : SV("127.0.0.1"), h->out_port);
        own = true;
    }
    init_side(t, 0, h);
    init_side(t, 1, own ? h : sim_find_host(s, to));
    list_push(&s->tcps, &t->link);
    t->side[0].sock = k;
    k->tcp = t;
    k->side = 0;
    k->remote = *to;
    k->state = SIM_CONNECTING;
    send_seg(&t->side[0], SEG_SYN, NULL);
    return -EINPROGRESS;
}

static ssize_t copy_out(struct sim_sock *k, const struct iovec *iov, int n, bool peek)
{
    size_t total = 0, from = k->in_first;
    struct list *it = k->in.next;
    for (int i = 0; i < n; i++)
        for (size_t at = 0; at < iov[i].iov_len && it != &k->in;) {
            struct sim_seg *seg = container_of(it, struct sim_seg, link);
            size_t left = seg->n - from, room = iov[i].iov_len - at;
            size_t take = left < room ? left : room;
            memcpy((char *)iov[i].iov_base + at, seg->p + from, take);
            at += take;
            total += take;
            from += take;
            if (from < seg->n)
                continue;
            it = it->next;
            from = 0;
            if (!peek) {
                list_del(&seg->link);
                free(seg);
            }
        }
    if (!peek) {
        k->in_first = from;
        k->in_bytes -= total;
    }
    return (ssize_t)total;
}

static int take_error(struct sim_sock *k)
{
    int err = k->err;
    k->err = 0;
    return err;
}

ssize_t sim_tcp_read(struct sim_sock *k, const struct iovec *iov, int n, bool peek)
{
    if (sim_sock_dead(k))
        return -ENETDOWN;
    if (k->state == SIM_NEW || k->state == SIM_LISTENING)
        return -ENOTCONN;
    if (k->in_bytes == 0) {
        if (k->err)
            return -take_error(k);
        return k->eof || k->broken ? 0 : -EAGAIN;
    }
    ssize_t got = copy_out(k, iov, n, peek);
    struct sim_side *d = side_of(k), *writer = d ? other(d) : NULL;
    if (!peek && writer && !k->broken) {
        writer->freed += (size_t)got;
        if (!writer->window.armed) {
            writer->window.patient = false;
            sim_arm(&writer->window, k->sim->now + sim_latency(k->sim, k->host, writer->host));
        }
    }
    return got;
}

/* How much of what is left goes into the next segment. */
static size_t cut(struct sim *s, size_t left)
{
    if (s->whole_segments)
        return left;
    size_t n;
    switch (rand_below(&s->rand, 8)) {
    case 0:
        n = 1 + rand_below(&s->rand, 16);
        break;
    case 1:
    case 2:
        n = 1 + rand_below(&s->rand, MSS);
        break;
    case 3:
        n = MSS;
        break;
    default:
        n = left;
    }
    return n < left ? n : left;
}

ssize_t sim_tcp_write(struct sim_sock *k, const struct iovec *iov, int n)
{
    struct sim_side *d = side_of(k);
    if (sim_sock_dead(k))
        return -ENETDOWN;
    if (k->err)
        return -take_error(k);
    if (k->broken || k->shut || !d)
        return -EPIPE;
    size_t room = k->state == SIM_CONNECTED ? d->cap - d->used : 0, total = 0, done = 0;
    for (int i = 0; i < n; i++)
        total += iov[i].iov_len;
    size_t take = total < room ? total : room;
    k->blocked |= take < total;
    if (take == 0)
        return total ? -EAGAIN : 0;
    char *all = mem_alloc(take);
    for (int i = 0; done < take; i++) {
        size_t m = iov[i].iov_len < take - done ? iov[i].iov_len : take - done;
        memcpy(all + done, iov[i].iov_base, m);
        done += m;
    }
    for (size_t at = 0; at < take;) {
        size_t m = cut(k->sim, take - at);
        struct sim_seg *seg = mem_zalloc(sizeof *seg + m);
        memcpy(seg->p, all + at, m);
        seg->n = m;
        send_seg(d, SEG_DATA, seg);
        at += m;
    }
    free(all);
    d->used += take;
    return (ssize_t)take;
}

int sim_tcp_shutdown(struct sim_sock *k)
{
    if (k->state != SIM_CONNECTED || k->broken || !k->tcp)
        return -ENOTCONN;
    if (k->shut)
        return 0;
    k->shut = true;
    send_seg(side_of(k), SEG_FIN, NULL);
    if (k->eof)
        sim_sock_event(k); /* both directions are over */
    return 0;
}

static void close_listener(struct sim_sock *k)
{
    list_each_safe (it, &k->accepted) {
        struct sim_sock *c = container_of(it, struct sim_sock, accept_link);
        c->hard_close = true;
        sim_tcp_close(c);
        sim_sock_free(c);
    }
}

void sim_tcp_close(struct sim_sock *k)
{
    struct sim_side *d = side_of(k);
    close_listener(k);
    if (!d)
        return;
    struct sim_tcp *t = d->tcp;
    d->sock = NULL;
    k->tcp = NULL;
    if (sim_sock_dead(k) || k->broken) {
        drop_sent(d, false);
    } else if (k->state == SIM_CONNECTING) {
        drop_sent(d, true);
        t->dead = true;
        if (t->side[1].sock)
            send_seg(d, SEG_RST, NULL);
    } else if (k->hard_close || k->in_bytes) {
        /* A reset may overtake what was written before it. */
        if (rand_below(&k->sim->rand, 2))
            drop_sent(d, true);
        t->dead = true;
        send_seg(d, SEG_RST, NULL);
    } else if (!k->shut) {
        send_seg(d, SEG_FIN, NULL);
    }
    maybe_free(t);
}

uint32_t sim_tcp_level(const struct sim_sock *k)
{
    const struct sim_side *d = side_of(k);
    uint32_t m = 0;
    if (sim_sock_dead(k))
        return 0;
    if (k->broken || k->err)
        return EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP | (k->err ? EPOLLERR : 0u);
    switch (k->state) {
    case SIM_NEW:
        return EPOLLOUT | EPOLLHUP;
    case SIM_LISTENING:
        return list_empty(&k->accepted) ? 0 : EPOLLIN;
    case SIM_CONNECTING:
        return 0;
    case SIM_CONNECTED:
        break;
    }
    if (k->in_bytes || k->eof)
        m |= EPOLLIN;
    if (k->eof)
        m |= EPOLLRDHUP;
    if (k->shut || (d && d->cap - d->used >= d->cap / 3))
        m |= EPOLLOUT;
    if (k->eof && k->shut)
        m |= EPOLLHUP;
    return m;
}

/* ---- faults ---- */

void sim_tcp_reset_both(struct sim_tcp *t)
{
    t->dead = true;
    for (int i = 0; i < 2; i++)
        drop_sent(&t->side[i], true);
    for (int i = 0; i < 2; i++)
        if (t->side[1 - i].sock && t->side[i].host)
            send_seg(&t->side[i], SEG_RST, NULL);
    maybe_free(t);
}

void sim_tcp_silence(struct sim_tcp *t, struct sim_host *h)
{
    for (int i = 0; i < 2; i++) {
        struct sim_side *d = &t->side[i];
        if (d->host != h)
            continue;
        drop_sent(d, true);
        if (d->sock) {
            d->sock->tcp = NULL;
            /* One that was never accepted has no descriptor that would free it. */
            if (d->sock->fd < 0)
                sim_sock_free(d->sock);
            d->sock = NULL;
        }
    }
    maybe_free(t);
}
