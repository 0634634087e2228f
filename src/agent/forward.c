#include "agent/forward.h"

#include <stdlib.h>
#include "base/mem.h"
#include "net/listener.h"

#define QUEUE_MAX  (256 * 1024)
#define READ_MAX   (64 * 1024)
#define CONNECT_MS 10000
#define ROUNDS     8

struct side {
    struct conn *conn;
    struct buf out; /* to be written to it */
    bool eof;       /* it has ended, and the other side knows (or will, after out) */
    bool told;      /* FIN was sent to it */
};

struct pair {
    struct list link;
    struct forward *f;
    struct side in, to; /* accepted, connected */
    struct timer connecting;
};

struct forward {
    struct forward_opts o;
    struct net_listener *listener;
    struct list pairs;
    uint32_t n;
};

static void end(struct pair *p, bool reset)
{
    struct side *s[] = {&p->in, &p->to};
    timer_cancel(&p->connecting);
    for (int i = 0; i < 2; i++) {
        if (s[i]->conn && reset)
            conn_abort(s[i]->conn);
        else if (s[i]->conn)
            conn_close(s[i]->conn);
        buf_reset(&s[i]->out);
    }
    list_del(&p->link);
    p->f->n--;
    free(p);
}

/* Writes what waits for `to`, and its end once `from` has ended. False: broken. */
static bool push(struct side *from, struct side *to)
{
    if (to->out.len && conn_write(to->conn, &to->out) < 0)
        return false;
    if (from->eof && !to->told && to->out.len == 0) {
        to->told = true;
        return conn_shutdown_write(to->conn) == 0;
    }
    return true;
}

/* Reads from one side as long as the other takes it, and not so long that nobody else has a turn.
 */
static bool pump(struct side *from, struct side *to)
{
    if (!from->conn || !to->conn || !to->conn->connected)
        return true;
    if (!push(from, to)) /* makes room first: nobody tells again that there are bytes */
        return false;
    for (int i = 0; !from->eof && to->out.len < QUEUE_MAX; i++) {
        if (i == ROUNDS) {
            conn_kick(from->conn);
            break;
        }
        ssize_t n = conn_read(from->conn, &to->out, READ_MAX);
        if (n == E_AGAIN)
            break;
        if (n == E_EOF)
            from->eof = true;
        else if (n < 0)
            return false;
        if (!push(from, to))
            return false;
    }
    return true;
}

static void on_event(struct pair *p, unsigned events)
{
    if (events & CONN_EV_ERROR) {
        end(p, true);
        return;
    }
    if (events & CONN_EV_CONNECTED)
        timer_cancel(&p->connecting);
    if (!pump(&p->in, &p->to) || !pump(&p->to, &p->in))
        end(p, true);
    else if (p->in.eof && p->to.eof && p->in.told && p->to.told)
        end(p, false);
}

static void on_in(struct conn *c, unsigned events, void *user)
{
    on_event(user, events);
}

static void on_to(struct conn *c, unsigned events, void *user)
{
    on_event(user, events);
}

static void on_late(struct timer *t)
{
    end(container_of(t, struct pair, connecting), true);
}

static void on_accept(void *user, int fd, const struct addr *local, const struct addr *remote)
{
    struct forward *f = user;
    struct pair *p = mem_new(struct pair);
    struct addr to = f->o.to;
    int code;
    p->f = f;
    list_push(&f->pairs, &p->link);
    f->n++;
    buf_init(&p->in.out);
    buf_init(&p->to.out);
    timer_init(&p->connecting, f->o.loop, on_late);
    p->in.conn = conn_from_fd(f->o.loop, fd, local, remote, on_in, p);
    if (f->n > f->o.max_conns || (f->o.target && !f->o.target(f->o.arg, p->in.conn, &to))) {
        end(p, true);
        return;
    }
    p->to.conn = conn_connect(f->o.loop, &to, NULL, on_to, p, &code);
    if (p->to.conn)
        timer_set(&p->connecting, CONNECT_MS);
    else
        end(p, true);
}

struct forward *forward_new(const struct forward_opts *o, struct error *err)
{
    struct forward *f = mem_new(struct forward);
    f->o = *o;
    f->o.max_conns = o->max_conns ? o->max_conns : 1024;
    list_init(&f->pairs);
    f->listener = net_listener_from_fd(o->loop, o->fd, on_accept, f, err);
    if (!f->listener) {
        free(f);
        return NULL;
    }
    net_listener_start(f->listener);
    return f;
}

void forward_free(struct forward *f)
{
    if (!f)
        return;
    list_each_safe (it, &f->pairs)
        end(container_of(it, struct pair, link), true);
    net_listener_free(f->listener);
    free(f);
}

uint32_t forward_conns(const struct forward *f)
{
    return f->n;
}
