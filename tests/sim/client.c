#include "client.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backend.h"
#include "base/mem.h"
#include "net/conn.h"
#include "text.h"

struct user {
    struct sim_client *client;
    struct conn *c; /* NULL: none */
    struct buf in, out;
    struct text_reader r;
    struct timer timer; /* think, or patience */
    struct timer leave; /* going away within a request */
    uint64_t id;        /* of the request under way; 0: thinks */
    uint64_t left;      /* requests; UINT64_MAX: no end */
    bool fresh;         /* the connection has carried nothing yet */
};

static void think(struct user *u);

static void drop(struct user *u, bool reset)
{
    struct conn *c = u->c;
    if (!c)
        return;
    u->c = NULL;
    if (reset)
        conn_abort(c);
    else
        conn_close(c);
    buf_reset(&u->in);
    buf_reset(&u->out);
}

static void over(struct user *u, enum outcome o)
{
    struct sim_client *k = u->client;
    uint64_t id = u->id;
    u->id = 0;
    k->busy--;
    timer_cancel(&u->timer);
    timer_cancel(&u->leave);
    if (o != OUTCOME_ANSWERED || u->r.close || world_permille(k->w, k->o.reconnect))
        drop(u, o == OUTCOME_ABORTED && world_permille(k->w, 500));
    world_request_done(k->w, id, o);
    think(u);
}

/* ---- answers ---- */

/* What an answer says must fit the request; the rest is the judge's. */
static void check(struct user *u)
{
    struct world *w = u->client->w;
    struct request *q = world_request(w, u->id);
    sv backend = text_field(&u->r, "x-backend");
    q->status = u->r.status;
    if (!backend.p) { /* the proxy's own */
        memcpy(q->said, u->r.said, sizeof q->said);
        return;
    }
    q->backend = (int)text_number(&u->r, "x-backend", 0);
    uint64_t number = text_number(&u->r, "x-request-number", 0);
    if (number != u->id)
        world_wrong(w, q, "the answer to request %" PRIu64 " came for this one", number);
    if (!(q->trace & TRACE_SEEN))
        world_wrong(w, q, "an answer from a backend that has not seen the request");
}

static void on_head(struct user *u)
{
    if (text_field(&u->r, "x-backend").p) {
        u->r.seed = u->id + 1000003;
        u->r.check = true;
    }
}

static void read_answer(struct user *u)
{
    bool had_head = u->r.state > TEXT_HEAD;
    while (text_reader_feed(&u->r, &u->in) && !had_head && u->r.state != TEXT_BAD) {
        had_head = u->r.status >= 200;
        if (had_head)
            on_head(u);
        else
            text_reader_init(&u->r, false); /* 100, 103: the answer is still to come */
    }
}

static void look(struct user *u, bool ended)
{
    struct world *w = u->client->w;
    if (!u->id) {
        if (u->in.len)
            world_violation(w, "%s: %zu bytes that belong to no answer", u->client->name,
                            u->in.len);
        if (u->in.len || ended)
            drop(u, false);
        return;
    }
    read_answer(u);
    if (ended)
        text_reader_eof(&u->r);
    struct request *q = world_request(w, u->id);
    if (u->r.state == TEXT_DONE) {
        if (u->in.len)
            world_wrong(w, q, "%zu bytes after the end of the answer", u->in.len);
        check(u);
        if (ended)
            u->r.close = true;
        over(u, OUTCOME_ANSWERED);
    } else if (u->r.state == TEXT_BAD && !strcmp(u->r.why, "cut")) {
        q->status = u->r.status;
        over(u, OUTCOME_CUT);
    } else if (u->r.state == TEXT_BAD) {
        world_wrong(w, q, "an answer with %s", u->r.why);
        over(u, OUTCOME_BROKEN);
    } else if (ended) {
        over(u, OUTCOME_LOST);
    }
}

static void flush(struct user *u)
{
    if (u->c && u->out.len)
        conn_write(u->c, &u->out); /* what died is told by an event */
}

static void on_event(struct conn *c, unsigned events, void *user)
{
    struct user *u = user;
    bool ended = false;
    if ((events & CONN_EV_ERROR) && !c->connected) {
        over(u, OUTCOME_UNSENT);
        return;
    }
    if (events & (CONN_EV_CONNECTED | CONN_EV_WRITE))
        flush(u);
    if (events & CONN_EV_READ) {
        ssize_t n;
        while ((n = conn_read(c, &u->in, 65536)) > 0)
            continue;
        ended = n != E_AGAIN;
    }
    if ((events & CONN_EV_READ) || (events & CONN_EV_ERROR))
        look(u, ended || (events & CONN_EV_ERROR));
}

/* ---- requests ---- */

static void on_timer(struct timer *t);

static void on_leave(struct timer *t)
{
    over(container_of(t, struct user, leave), OUTCOME_ABORTED);
}

static void write_request(struct user *u, struct request *q)
{
    const struct client_opts *o = &u->client->o;
    struct world *w = u->client->w;
    buf_printf(&u->out, "%s %s HTTP/1.1\r\nhost: %s\r\nx-request-number: %" PRIu64 "\r\n",
               q->post ? "POST" : "GET", o->path ? o->path : "/", o->host, q->id);
    if (o->fields)
        buf_append_sv(&u->out, sv_of(o->fields));
    if (q->jason)
        buf_append_sv(&u->out, SV("end-user: jason\r\n"));
    if (q->post && world_permille(w, o->chunked)) {
        buf_append_sv(&u->out, SV("transfer-encoding: chunked\r\n\r\n"));
        text_chunks(&u->out, q->id, 0, q->body_n, true);
    } else {
        if (q->post)
            buf_printf(&u->out, "content-length: %" PRIu64 "\r\n", q->body_n);
        buf_append_sv(&u->out, SV("\r\n"));
        text_body(&u->out, q->id, 0, q->body_n);
    }
}

static void ask(struct user *u)
{
    struct sim_client *k = u->client;
    const struct client_opts *o = &k->o;
    struct request *q = world_request_new(k->w);
    q->client = k;
    q->jason = world_permille(k->w, o->jason);
    q->post = world_permille(k->w, o->post);
    if (q->post && o->body_max)
        q->body_n = world_below(k->w, 8) ? world_below(k->w, o->body_max < 500 ? o->body_max : 500)
                                         : world_below(k->w, o->body_max);
    u->id = q->id;
    if (u->left != UINT64_MAX)
        u->left--;
    k->busy++;
    text_reader_init(&u->r, false);
    write_request(u, q);
    timer_set(&u->timer, o->patience_ms ? o->patience_ms : 60000);
    if (world_permille(k->w, o->abort))
        timer_set(&u->leave, world_below(k->w, 20));
    if (u->c) {
        flush(u);
        return;
    }
    int code;
    u->c = conn_connect(k->loop, &k->to, &(struct sock_opts){.no_delay = true}, on_event, u, &code);
    if (!u->c) {
        buf_reset(&u->out);
        over(u, OUTCOME_UNSENT);
    }
}

static void on_timer(struct timer *t)
{
    struct user *u = container_of(t, struct user, timer);
    if (u->id)
        over(u, OUTCOME_GAVE_UP);
    else
        ask(u);
}

static void think(struct user *u)
{
    struct sim_client *k = u->client;
    if (k->stopping || !u->left) {
        drop(u, false);
        k->running--;
        return;
    }
    timer_set(&u->timer, world_between(k->w, k->o.think_ms[0], k->o.think_ms[1]));
}

/* ---- life ---- */

struct sim_client *client_new(struct world *w, const struct client_opts *o)
{
    struct sim_client *k = mem_new(struct sim_client);
    k->w = w;
    k->o = *o;
    k->name = o->name;
    k->loop = loop_new(sim_host(w->sim, o->ip));
    if (addr_parse(&k->to, sv_of(o->to))) {
        fprintf(stderr, "client %s: '%s' is no address\n", o->name, o->to);
        abort();
    }
    k->users = mem_array(struct user, o->users);
    k->running = o->users;
    for (unsigned i = 0; i < o->users; i++) {
        struct user *u = &k->users[i];
        u->client = k;
        u->left = o->requests ? o->requests : UINT64_MAX;
        buf_init(&u->in);
        buf_init(&u->out);
        timer_init(&u->timer, k->loop, on_timer);
        timer_init(&u->leave, k->loop, on_leave);
        think(u);
    }
    list_push(&w->clients, &k->link);
    return k;
}

void client_stop(struct sim_client *c)
{
    c->stopping = true;
    for (unsigned i = 0; i < c->o.users; i++) {
        struct user *u = &c->users[i];
        if (!u->id && timer_active(&u->timer)) {
            timer_cancel(&u->timer);
            think(u);
        }
    }
}

bool client_idle(const struct sim_client *c)
{
    return !c->busy && !c->running;
}

void client_free(struct sim_client *c)
{
    if (!c)
        return;
    for (unsigned i = 0; i < c->o.users; i++) {
        timer_cancel(&c->users[i].timer);
        timer_cancel(&c->users[i].leave);
        drop(&c->users[i], true);
        buf_reset(&c->users[i].out);
    }
    list_del(&c->link);
    loop_free(c->loop);
    free(c->users);
    free(c);
}
