/* Simulated datagrams. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "net/sim_private.h"

#define DATAGRAM_MAX 65507
#define QUEUE_MAX    256

struct datagram {
    struct list link;
    struct sim_event arrive;
    struct sim_host *from_host, *to_host;
    struct sim_sock *sender; /* looked up again by sender_fd: it may be gone */
    int sender_fd;
    struct addr to;
    struct sim_seg *seg;
};

static void drop(struct datagram *g)
{
    sim_disarm(&g->arrive);
    list_del(&g->link);
    free(g->seg);
    free(g);
}

void sim_udp_drop_all(struct sim *s)
{
    list_each_safe (it, &s->datagrams) {
        drop(container_of(it, struct datagram, link));
    }
}

static void refuse(struct sim *s, const struct datagram *g)
{
    int i = g->sender_fd - SIM_FD_BASE;
    struct sim_sock *k = i >= 0 && i < s->n_socks ? s->socks[i] : NULL;
    if (k && k == g->sender && k->remote.len) {
        k->err = ECONNREFUSED;
        sim_sock_event(k);
    }
}

static int queued(const struct sim_sock *k)
{
    int n = 0;
    list_each (it, &k->in) {
        n++;
    }
    return n;
}

static void on_arrive(struct sim_event *e)
{
    struct datagram *g = container_of(e, struct datagram, arrive);
    struct sim *s = e->sim;
    if (sim_reachable(s, g->from_host, g->to_host)) {
        struct sim_sock *k = sim_find_bound(g->to_host, SOCK_DGRAM, &g->to);
        sim_note(s, "datagram", (uint64_t)g->from_host->number, (uint64_t)g->to_host->number,
                 g->seg->n);
        if (!k) {
            refuse(s, g);
        } else if (queued(k) < QUEUE_MAX &&
                   !(k->remote.len && !addr_eq(&k->remote, &g->seg->from))) {
            list_push(&k->in, &g->seg->link);
            g->seg = NULL;
            sim_sock_event(k);
        }
    }
    drop(g);
}

ssize_t sim_udp_send(struct sim_sock *k, const struct iovec *iov, int n, const struct addr *to)
{
    struct sim *s = k->sim;
    size_t total = 0;
    if (sim_sock_dead(k))
        return -ENETDOWN;
    if (k->err) {
        int err = k->err;
        k->err = 0;
        return -err;
    }
    to = to ? to : &k->remote;
    if (to->len == 0)
        return -EDESTADDRREQ;
    int rc = sim_autobind(k, to);
    if (rc < 0)
        return rc;
    for (int i = 0; i < n; i++)
        total += iov[i].iov_len;
    if (total > DATAGRAM_MAX)
        return -EMSGSIZE;
    struct sim_host *h = sim_host_has(k->host, to) ? k->host : sim_find_host(s, to);
    if (!h || (s->udp_loss > 0 && rand_unit(&s->rand) < s->udp_loss))
        return (ssize_t)total;
    struct datagram *g = mem_new(struct datagram);
    g->arrive.fn = on_arrive;
    g->arrive.sim = s;
    g->from_host = k->host;
    g->to_host = h;
    g->sender = k;
    g->sender_fd = k->fd;
    g->to = *to;
    g->seg = mem_zalloc(sizeof *g->seg + total);
    g->seg->from = k->local;
    for (int i = 0; i < n; i++) {
        memcpy(g->seg->p + g->seg->n, iov[i].iov_base, iov[i].iov_len);
        g->seg->n += iov[i].iov_len;
    }
    list_push(&s->datagrams, &g->link);
    sim_arm(&g->arrive, s->now + sim_latency(s, k->host, h));
    return (ssize_t)total;
}

ssize_t sim_udp_receive(struct sim_sock *k, const struct iovec *iov, int n, struct addr *from,
                        bool peek)
{
    struct list *first = list_first(&k->in);
    if (sim_sock_dead(k))
        return -ENETDOWN;
    if (k->err) {
        int err = k->err;
        k->err = 0;
        return -err;
    }
    if (!first)
        return -EAGAIN;
    struct sim_seg *seg = container_of(first, struct sim_seg, link);
    size_t done = 0;
    for (int i = 0; i < n && done < seg->n; i++) {
        size_t m = iov[i].iov_len < seg->n - done ? iov[i].iov_len : seg->n - done;
        memcpy(iov[i].iov_base, seg->p + done, m);
        done += m;
    }
    if (from)
        *from = seg->from;
    if (!peek) {
        list_del(first);
        free(seg);
    }
    return (ssize_t)done;
}
