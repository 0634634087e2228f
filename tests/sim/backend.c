#include "backend.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "net/conn.h"
#include "net/listener.h"
#include "text.h"

enum act {
    ACT_ANSWER,
    ACT_SLOW,
    ACT_DRIP,
    ACT_EARLY,
    ACT_CLOSING,
    ACT_FAIL,
    ACT_HANG,
    ACT_RESET,
    ACT_RESET_MID,
    ACT_CUT,
    ACT_GARBAGE,
};

/* One connection; one request at a time. */
struct serving {
    struct list link;
    struct backend *b;
    struct conn *c;
    struct buf in, out;
    struct text_reader r;
    struct timer timer;
    uint64_t id;
    enum act act;
    bool head_seen, busy, answered; /* answered: the whole answer is in `out` or was written */
    bool close_after, reset_after;
    uint64_t at, body_n; /* of the answer being dripped */
    struct deferred end;
};

static void proceed(struct serving *s);

struct backend *backend_at(struct world *w, int index)
{
    list_each (it, &w->backends) {
        struct backend *b = container_of(it, struct backend, link);
        if (b->index == index)
            return b;
    }
    return NULL;
}

/* ---- the end of a connection ---- */

static void serving_done(struct deferred *d)
{
    free(container_of(d, struct serving, end));
}

static void serving_end(struct serving *s, bool reset)
{
    struct backend *b = s->b;
    if (s->busy)
        b->n_requests--;
    b->n_conns--;
    timer_cancel(&s->timer);
    if (reset)
        conn_abort(s->c);
    else
        conn_close(s->c);
    list_del(&s->link);
    buf_reset(&s->in);
    buf_reset(&s->out);
    loop_defer(b->loop, &s->end, serving_done);
}

/* ---- answers ---- */

static enum act draw(struct backend *b)
{
    const struct mood *m = &b->mood;
    const struct {
        enum act act;
        unsigned odds;
    } v[] = {
        {ACT_SLOW, m->slow},           {ACT_DRIP, m->drip}, {ACT_EARLY, m->early},
        {ACT_CLOSING, m->closing},     {ACT_FAIL, m->fail}, {ACT_HANG, m->hang},
        {ACT_RESET, m->reset},         {ACT_CUT, m->cut},   {ACT_GARBAGE, m->garbage},
        {ACT_RESET_MID, m->reset_mid},
    };
    unsigned n = (unsigned)world_below(b->w, 1000);
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++) {
        if (n < v[i].odds)
            return v[i].act;
        n -= v[i].odds;
    }
    return ACT_ANSWER;
}

static uint64_t draw_ms(struct backend *b)
{
    return world_between(b->w, b->mood.slow_ms[0], b->mood.slow_ms[1]);
}

static void mark(struct serving *s, unsigned trace)
{
    struct request *q = world_request(s->b->w, s->id);
    if (q)
        q->trace |= trace;
}

/* Most answers are small; one in ten is drawn up to the largest. */
static uint64_t draw_body(struct backend *b)
{
    uint64_t most = b->mood.body_max;
    if (!most)
        return 0;
    return world_below(b->w, 10) ? world_below(b->w, most < 500 ? most : 500)
                                 : world_below(b->w, most);
}

static void answer_head(struct serving *s, unsigned status, bool chunked, bool close)
{
    buf_printf(&s->out, "HTTP/1.1 %u %s\r\nx-backend: %d\r\nx-request-number: %" PRIu64 "\r\n",
               status, status == 200 ? "OK" : "Service Unavailable", s->b->index, s->id);
    buf_printf(&s->out, "x-body: %" PRIu64 "\r\nx-version: %s\r\n", s->body_n, s->b->version);
    if (s->b->fields)
        buf_append_sv(&s->out, sv_of(s->b->fields));
    if (close)
        buf_printf(&s->out, "connection: close\r\n");
    if (chunked)
        buf_printf(&s->out, "transfer-encoding: chunked\r\n\r\n");
    else
        buf_printf(&s->out, "content-length: %" PRIu64 "\r\n\r\n", s->body_n);
}

/* The seed of an answer's body differs from that of the request's. */
#define ANSWER_SEED(id) ((id) + 1000003)

static void answer_whole(struct serving *s, unsigned status)
{
    bool chunked = world_permille(s->b->w, 300);
    bool close = s->act == ACT_CLOSING || s->r.close;
    s->body_n = draw_body(s->b);
    answer_head(s, status, chunked, close);
    if (chunked)
        text_chunks(&s->out, ANSWER_SEED(s->id), 0, s->body_n, true);
    else
        text_body(&s->out, ANSWER_SEED(s->id), 0, s->body_n);
    s->answered = true;
    s->close_after = close;
    mark(s, TRACE_ANSWERED | (status != 200 ? TRACE_FAILED : 0));
}

/* An answer that does not end: at least one byte of it is missing. */
static void answer_half(struct serving *s)
{
    bool chunked = world_permille(s->b->w, 500);
    s->body_n = 2 + draw_body(s->b);
    uint64_t n = world_below(s->b->w, s->body_n - 1);
    answer_head(s, 200, chunked, false);
    if (chunked)
        text_chunks(&s->out, ANSWER_SEED(s->id), 0, n, false);
    else
        text_body(&s->out, ANSWER_SEED(s->id), 0, n);
    s->close_after = s->act == ACT_CUT;
    s->reset_after = s->act == ACT_RESET_MID;
    s->answered = true;
    mark(s, s->act == ACT_CUT ? TRACE_CUT : TRACE_RESET);
}

static void answer_garbage(struct serving *s)
{
    static const char *const v[] = {
        "\x15\x03\x01\x00\x02\x02\x46",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 99999 OK\r\n\r\n",
        "220 mail.example.org ESMTP\r\n",
        "HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\rb\r\ncontent-length: 0\r\n\r\n",
    };
    buf_append_sv(&s->out, sv_of(v[world_below(s->b->w, sizeof v / sizeof v[0])]));
    s->close_after = world_permille(s->b->w, 500);
    s->answered = true;
    mark(s, TRACE_GARBAGE);
}

static void note_delay(struct serving *s, uint64_t ms)
{
    struct request *q = world_request(s->b->w, s->id);
    if (q && q->delay_ns < ms * SIM_MS)
        q->delay_ns = ms * SIM_MS;
    mark(s, TRACE_SLOW);
}

/* Bodies that drip are sent in at most eight steps. */
static void start_drip(struct serving *s)
{
    uint64_t ms = draw_ms(s->b);
    s->body_n = 8 + draw_body(s->b);
    s->at = 0;
    note_delay(s, ms);
    answer_head(s, 200, true, false);
    timer_set(&s->timer, ms / 8);
}

static void drip(struct serving *s)
{
    uint64_t n = s->body_n - s->at < s->body_n / 8 + 1 ? s->body_n - s->at : s->body_n / 8 + 1;
    bool last = s->at + n == s->body_n;
    text_chunks(&s->out, ANSWER_SEED(s->id), s->at, n, last);
    s->at += n;
    if (last) {
        s->answered = true;
        mark(s, TRACE_ANSWERED);
    } else {
        timer_set(&s->timer,
                  world_between(s->b->w, s->b->mood.slow_ms[0] / 8, s->b->mood.slow_ms[1] / 8));
    }
}

/* What is done when the request is there whole. */
static void act(struct serving *s)
{
    uint64_t ms;
    switch (s->act) {
    case ACT_SLOW:
        ms = draw_ms(s->b);
        note_delay(s, ms);
        timer_set(&s->timer, ms);
        break;
    case ACT_DRIP:
        start_drip(s);
        break;
    case ACT_HANG:
        mark(s, TRACE_HUNG);
        break;
    case ACT_CUT:
    case ACT_RESET_MID:
        answer_half(s);
        break;
    case ACT_GARBAGE:
        answer_garbage(s);
        break;
    case ACT_EARLY: /* was answered */
        break;
    default:
        answer_whole(s, s->act == ACT_FAIL ? 503 : 200);
    }
}

static void on_timer(struct timer *t)
{
    struct serving *s = container_of(t, struct serving, timer);
    if (s->act == ACT_DRIP)
        drip(s);
    else
        answer_whole(s, 200);
    proceed(s);
}

/* ---- requests ---- */

/* A health check: it is in no book. */
static void on_check(struct serving *s)
{
    struct backend *b = s->b;
    s->act = b->sick ? ACT_FAIL : ACT_ANSWER;
    b->n_requests++;
    b->checks++;
    b->checked_ns = sim_now(b->w->sim);
}

/* The head of a request; false: the connection is gone. */
static bool on_head(struct serving *s)
{
    struct backend *b = s->b;
    struct request *q;
    s->head_seen = s->busy = true;
    if (sv_eq(s->r.path, SV(BACKEND_CHECK))) {
        s->id = 0;
        on_check(s);
        return true;
    }
    s->id = text_number(&s->r, "x-request-number", 0);
    s->r.seed = s->id;
    s->r.check = true;
    s->act = draw(b);
    b->requests++;
    if (++b->n_requests > b->most_requests)
        b->most_requests = b->n_requests;
    q = world_request(b->w, s->id);
    if (!q) {
        world_violation(b->w, "%s got a request that nobody sent: %.*s", b->name,
                        SV_ARG(s->r.path));
        serving_end(s, true);
        return false;
    }
    if (q->arrivals < 8)
        q->arrived_ns[q->arrivals] = sim_now(b->w->sim);
    q->arrivals++;
    q->trace |= TRACE_SEEN;
    if (b->w->arrival)
        b->w->arrival(b->w->arg, q, b->index);
    if (s->act == ACT_RESET) {
        mark(s, TRACE_RESET);
        serving_end(s, true);
        return false;
    }
    if (s->act == ACT_EARLY) {
        mark(s, TRACE_EARLY);
        answer_whole(s, 200);
    }
    return true;
}

static void next_request(struct serving *s)
{
    text_reader_init(&s->r, true);
    s->b->n_requests--;
    s->head_seen = s->busy = s->answered = false;
}

/* Reads what the state allows; false: the connection is gone. */
static bool read_some(struct serving *s)
{
    while (s->in.len && s->r.state != TEXT_BAD) {
        if (s->r.state == TEXT_DONE)
            return true; /* the next one waits its turn */
        if (text_reader_feed(&s->r, &s->in) && !s->head_seen && s->r.state != TEXT_BAD &&
            !on_head(s))
            return false;
        if (s->r.state == TEXT_DONE) {
            act(s);
            return true;
        }
    }
    if (s->r.state == TEXT_BAD) {
        if (!s->b->lenient)
            world_violation(s->b->w, "%s got a request with %s", s->b->name, s->r.why);
        serving_end(s, true);
        return false;
    }
    return true;
}

/* Writes; ends the connection, or takes the next request, when its time has come. */
static void proceed(struct serving *s)
{
    for (;;) {
        if (s->out.len && conn_write(s->c, &s->out) < 0) {
            serving_end(s, false);
            return;
        }
        if (s->out.len || !s->answered)
            return;
        if (s->close_after || s->reset_after) {
            serving_end(s, s->reset_after);
            return;
        }
        if (s->r.state != TEXT_DONE)
            return;
        next_request(s);
        if (!read_some(s))
            return;
    }
}

static void on_event(struct conn *c, unsigned events, void *user)
{
    struct serving *s = user;
    bool ended = false;
    if (events & CONN_EV_READ) {
        ssize_t n;
        while ((n = conn_read(c, &s->in, 65536)) > 0)
            continue;
        ended = n != E_AGAIN;
    }
    if (!read_some(s))
        return;
    if (ended || (events & CONN_EV_ERROR)) {
        serving_end(s, false);
        return;
    }
    proceed(s);
}

static void on_accept(void *user, int fd, const struct addr *local, const struct addr *remote)
{
    struct backend *b = user;
    struct serving *s = mem_new(struct serving);
    s->b = b;
    buf_init(&s->in);
    buf_init(&s->out);
    text_reader_init(&s->r, true);
    timer_init(&s->timer, b->loop, on_timer);
    list_push(&b->conns, &s->link);
    if (++b->n_conns > b->most_conns)
        b->most_conns = b->n_conns;
    s->c = conn_from_fd(b->loop, fd, local, remote, on_event, s);
}

/* ---- life ---- */

void backend_listen(struct backend *b)
{
    struct addr a;
    struct error err = {0};
    if (b->listener)
        return;
    addr_ip(&a, SV("0.0.0.0"), b->port);
    b->listener = net_listener_new(b->loop, &a, &(struct listen_opts){0}, on_accept, b, &err);
    if (!b->listener) {
        fprintf(stderr, "backend %s: %s\n", b->name, err.msg);
        abort();
    }
    net_listener_start(b->listener);
}

void backend_refuse(struct backend *b)
{
    net_listener_free(b->listener);
    b->listener = NULL;
}

struct backend *backend_new(struct world *w, const char *name, const char *version, const char *ip,
                            uint16_t port)
{
    struct backend *b = mem_new(struct backend);
    b->w = w;
    b->index = w->n_backends++;
    b->port = port;
    snprintf(b->name, sizeof b->name, "%s", name);
    snprintf(b->version, sizeof b->version, "%s", version);
    snprintf(b->ip, sizeof b->ip, "%s", ip);
    b->mood.body_max = 200;
    list_init(&b->conns);
    list_push(&w->backends, &b->link);
    b->loop = loop_new(sim_host(w->sim, ip));
    backend_listen(b);
    return b;
}

void backend_died(struct backend *b)
{
    if (!b->loop)
        return;
    backend_refuse(b);
    list_each_safe (it, &b->conns)
        serving_end(container_of(it, struct serving, link), true);
    loop_free(b->loop);
    b->loop = NULL;
}

void backend_revive(struct backend *b)
{
    b->loop = loop_new(sim_host(b->w->sim, b->ip));
    backend_listen(b);
}

void backend_free(struct backend *b)
{
    if (!b)
        return;
    backend_died(b);
    list_del(&b->link);
    free(b);
}
