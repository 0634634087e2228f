/* Probes over TCP: connects, and where it is asked for, sends bytes and waits for others. */
#include "base/mem.h"
#include "upstream/health_check.h"

#define MAX_ANSWER 65536 /* bytes that are kept while looking for what is expected */

struct health_probe {
    struct health_session *s;
    const struct health_target *t;
    struct conn *conn;
    struct buf in, out;
    struct deferred gone;
    bool busy, up;
};

static void drop(struct health_probe *p)
{
    if (p->conn)
        conn_close(p->conn);
    p->conn = NULL;
    p->up = false;
    buf_reset(&p->in);
    buf_reset(&p->out);
}

static void report(struct health_probe *p, enum health_outcome o)
{
    p->busy = false;
    buf_reset(&p->in);
    /* Without an exchange a connection proves something only while it is being made. */
    if (!p->t->cfg->reuse_connection || o != HEALTH_OK || p->t->cfg->n_receive == 0)
        drop(p);
    health_session_result(p->s, o);
}

/* All expected pieces, in order, with anything between them. */
static bool complete(struct health_probe *p)
{
    sv have = p->in.len ? buf_pullup(&p->in, p->in.len) : (sv){0};
    for (uint32_t i = 0; i < p->t->cfg->n_receive; i++) {
        ptrdiff_t at = sv_find_sv(have, p->t->cfg->receive[i]);
        if (at < 0)
            return false;
        have = sv_from(have, (size_t)at + p->t->cfg->receive[i].n);
    }
    return true;
}

static void flush(struct health_probe *p)
{
    if (p->out.len && conn_write(p->conn, &p->out) < 0) {
        drop(p);
        if (p->busy)
            report(p, HEALTH_NETWORK);
    }
}

static void ask(struct health_probe *p)
{
    const struct health_config *c = p->t->cfg;
    if (c->send.n)
        buf_append_sv(&p->out, c->send);
    if (c->n_receive == 0) {
        flush(p);
        if (p->busy)
            report(p, HEALTH_OK);
        return;
    }
    flush(p);
}

static void read_in(struct health_probe *p)
{
    ssize_t n = 1;
    while (n > 0 && p->in.len < MAX_ANSWER)
        n = conn_read(p->conn, &p->in, MAX_ANSWER - p->in.len);
    if (p->busy && p->t->cfg->n_receive && complete(p)) {
        report(p, HEALTH_OK);
    } else if (p->in.len >= MAX_ANSWER || (n < 0 && n != E_AGAIN)) {
        bool was_busy = p->busy;
        drop(p);
        if (was_busy)
            report(p, HEALTH_NETWORK);
    } else if (!p->busy) {
        buf_reset(&p->in); /* nobody asked */
    }
}

static void on_event(struct conn *c, unsigned events, void *user)
{
    struct health_probe *p = user;
    if (events & CONN_EV_ERROR) {
        bool was_busy = p->busy;
        drop(p);
        if (was_busy)
            report(p, HEALTH_NETWORK);
        return;
    }
    if (events & CONN_EV_CONNECTED) {
        p->up = true;
        if (p->busy)
            ask(p);
    }
    if (events & CONN_EV_WRITE && p->conn == c)
        flush(p);
    if (events & CONN_EV_READ && p->conn == c)
        read_in(p);
}

static struct health_probe *probe_open(struct health_session *s)
{
    struct health_probe *p = mem_new(struct health_probe);
    p->s = s;
    p->t = health_session_target(s);
    buf_init(&p->in);
    buf_init(&p->out);
    return p;
}

static void probe_start(struct health_probe *p)
{
    p->busy = true;
    if (p->up && !p->conn->peer_closed) {
        ask(p);
        return;
    }
    drop(p);
    p->conn = health_session_connect(p->s, NULL, 0, on_event, p);
    if (!p->conn)
        report(p, HEALTH_NETWORK);
}

static void probe_stop(struct health_probe *p)
{
    p->busy = false;
    drop(p);
}

static void probe_gone(struct deferred *d)
{
    free(container_of(d, struct health_probe, gone));
}

static void probe_free(struct health_probe *p)
{
    probe_stop(p);
    loop_defer(p->t->loop, &p->gone, probe_gone);
}

const struct health_probe_ops health_probe_tcp = {probe_open, probe_start, probe_stop, probe_free};
