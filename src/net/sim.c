#include "net/sim.h"

#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "net/loop_private.h"
#include "net/sim_private.h"

#define START       SIM_SECOND
#define IDLE_MAX    (100 * SIM_SECOND)
#define TURN_LEAST  1000 /* ns that a turn takes, and up to as much again */
#define LATENCY_MIN (50 * SIM_US)
#define LATENCY_MAX (500 * SIM_US)
#define LOCAL_MIN   (5 * SIM_US)
#define LOCAL_MAX   (50 * SIM_US)

struct script {
    struct sim_event e;
    struct list link;
    void (*fn)(void *arg);
    void *arg;
};

/* ---- events and the trace ---- */

void sim_arm(struct sim_event *e, uint64_t at)
{
    sim_disarm(e);
    e->node.key = at > e->sim->now ? at : e->sim->now;
    heap_push(&e->sim->events, &e->node);
    e->armed = true;
    e->sim->urgent += !e->patient;
}

void sim_disarm(struct sim_event *e)
{
    if (!e->armed)
        return;
    heap_remove(&e->sim->events, &e->node);
    e->armed = false;
    e->sim->urgent -= !e->patient;
}

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

void sim_note(struct sim *s, const char *what, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t h = mix(mix(mix(mix(s->hash, s->now), a), b), c);
    for (const char *p = what; *p; p++)
        h = mix(h, (uint64_t)(unsigned char)*p);
    s->hash = h;
    if (s->trace)
        fprintf(s->trace, "%13.6f ms  %-9s %llu %llu %llu\n", (double)(s->now - START) / 1e6, what,
                (unsigned long long)a, (unsigned long long)b, (unsigned long long)c);
}

uint64_t sim_trace_hash(const struct sim *s)
{
    return s->hash;
}

void sim_trace(struct sim *s, FILE *to)
{
    s->trace = to;
}

/* ---- hosts and links ---- */

static bool same_ip(const struct addr *a, const struct addr *b)
{
    struct addr x = *a, y = *b;
    addr_set_port(&x, 0);
    addr_set_port(&y, 0);
    return addr_eq(&x, &y);
}

bool sim_host_has(const struct sim_host *h, const struct addr *a)
{
    if (addr_is_loopback(a) || a->sa.sa_family == AF_UNIX)
        return true;
    for (int i = 0; i < h->n_ips; i++)
        if (same_ip(&h->ips[i], a))
            return true;
    return false;
}

struct sim_host *sim_find_host(struct sim *s, const struct addr *a)
{
    list_each (it, &s->hosts) {
        struct sim_host *h = container_of(it, struct sim_host, link);
        for (int i = 0; i < h->n_ips; i++)
            if (same_ip(&h->ips[i], a))
                return h;
    }
    return NULL;
}

static struct addr ip_of(const char *text)
{
    struct addr a;
    if (addr_ip(&a, sv_of(text), 0)) {
        fprintf(stderr, "simulation: \"%s\" is not an IP address\n", text);
        abort();
    }
    return a;
}

static struct sim_host *host_of(struct sim *s, const char *ip)
{
    struct addr a = ip_of(ip);
    struct sim_host *h = sim_find_host(s, &a);
    if (h)
        return h;
    h = mem_new(struct sim_host);
    h->os.ops = &sim_ops;
    h->os.self = h;
    h->sim = s;
    h->ips[h->n_ips++] = a;
    h->next_port = 32768;
    h->number = ++s->next_host;
    list_push(&s->hosts, &h->link);
    return h;
}

struct os *sim_host(struct sim *s, const char *ip)
{
    return &host_of(s, ip)->os;
}

void sim_host_add_ip(struct sim *s, const char *ip, const char *another)
{
    struct sim_host *h = host_of(s, ip);
    struct addr a = ip_of(another);
    if (h->n_ips == SIM_IPS || sim_find_host(s, &a)) {
        fprintf(stderr, "simulation: %s cannot be an address of %s\n", another, ip);
        abort();
    }
    h->ips[h->n_ips++] = a;
}

void sim_intercept(struct sim *s, const char *ip, uint16_t out_port, uint32_t mark,
                   uint16_t in_port, const uint16_t *not_in)
{
    struct sim_host *h = host_of(s, ip);
    h->out_port = out_port;
    h->exempt_mark = mark;
    h->in_port = in_port;
    memset(h->not_in, 0, sizeof h->not_in);
    for (int i = 0; not_in && not_in[i] && i < SIM_PORTS; i++)
        h->not_in[i] = not_in[i];
}

size_t sim_open_sockets(struct sim *s, const char *ip)
{
    return host_of(s, ip)->sockets;
}

void sim_set_fd_limit(struct sim *s, const char *ip, size_t n)
{
    host_of(s, ip)->socket_limit = n;
}

static struct sim_link *find_link(struct sim *s, struct sim_host *a, struct sim_host *b)
{
    list_each (it, &s->links) {
        struct sim_link *k = container_of(it, struct sim_link, link);
        if ((k->a == a && k->b == b) || (k->a == b && k->b == a))
            return k;
    }
    return NULL;
}

static struct sim_link *link_of(struct sim *s, const char *a, const char *b)
{
    struct sim_host *x = host_of(s, a), *y = host_of(s, b);
    struct sim_link *k = find_link(s, x, y);
    if (!k) {
        k = mem_new(struct sim_link);
        k->a = x;
        k->b = y;
        list_push(&s->links, &k->link);
    }
    return k;
}

bool sim_reachable(struct sim *s, struct sim_host *a, struct sim_host *b)
{
    struct sim_link *k = a != b ? find_link(s, a, b) : NULL;
    return !a->down && !b->down && !(k && k->cut);
}

uint64_t sim_latency(struct sim *s, struct sim_host *a, struct sim_host *b)
{
    struct sim_link *k = find_link(s, a, b);
    uint64_t min = a == b ? LOCAL_MIN : s->min_ns, max = a == b ? LOCAL_MAX : s->max_ns;
    if (k && k->has_latency) {
        min = k->min_ns;
        max = k->max_ns;
    }
    return min + (max > min ? rand_below(&s->rand, max - min + 1) : 0);
}

void sim_set_latency(struct sim *s, const char *a, const char *b, uint64_t min_ns, uint64_t max_ns)
{
    if (!a && !b) {
        s->min_ns = min_ns;
        s->max_ns = max_ns;
        return;
    }
    struct sim_link *k = link_of(s, a, b);
    k->has_latency = true;
    k->min_ns = min_ns;
    k->max_ns = max_ns;
}

void sim_set_buffer(struct sim *s, size_t bytes)
{
    s->buffer = bytes;
}

void sim_set_segments(struct sim *s, bool random)
{
    s->whole_segments = !random;
}

void sim_set_loss(struct sim *s, double udp_loss)
{
    s->udp_loss = udp_loss;
}

/* ---- faults ---- */

void sim_partition(struct sim *s, const char *a, const char *b)
{
    struct sim_link *k = link_of(s, a, b);
    k->cut = true;
    sim_note(s, "partition", (uint64_t)k->a->number, (uint64_t)k->b->number, 0);
}

void sim_heal(struct sim *s, const char *a, const char *b)
{
    struct sim_link *k = link_of(s, a, b);
    k->cut = false;
    sim_note(s, "heal", (uint64_t)k->a->number, (uint64_t)k->b->number, 0);
}

static size_t each_connection(struct sim *s, struct sim_host *a, struct sim_host *b,
                              void (*fn)(struct sim_tcp *t, struct sim_host *a))
{
    size_t n = 0;
    list_each_safe (it, &s->tcps) {
        struct sim_tcp *t = container_of(it, struct sim_tcp, link);
        struct sim_host *x = t->side[0].host, *y = t->side[1].host;
        if ((x == a && (!b || y == b)) || (y == a && (!b || x == b))) {
            fn(t, a);
            n++;
        }
    }
    return n;
}

static void reset_both(struct sim_tcp *t, struct sim_host *a)
{
    sim_tcp_reset_both(t);
}

static void silence(struct sim_tcp *t, struct sim_host *a)
{
    sim_tcp_silence(t, a);
}

void sim_kill_host(struct sim *s, const char *ip)
{
    struct sim_host *h = host_of(s, ip);
    sim_note(s, "kill", (uint64_t)h->number, 0, 0);
    h->down = true;
    h->life++;
    each_connection(s, h, NULL, silence);
}

void sim_revive_host(struct sim *s, const char *ip)
{
    struct sim_host *h = host_of(s, ip);
    sim_note(s, "revive", (uint64_t)h->number, 0, 0);
    h->down = false;
}

void sim_crash_host(struct sim *s, const char *ip)
{
    struct sim_host *h = host_of(s, ip);
    sim_note(s, "crash", (uint64_t)h->number, 0, 0);
    each_connection(s, h, NULL, reset_both);
    h->life++;
}

size_t sim_reset_connections(struct sim *s, const char *a, const char *b)
{
    struct sim_host *x = host_of(s, a), *y = b ? host_of(s, b) : NULL;
    sim_note(s, "reset", (uint64_t)x->number, y ? (uint64_t)y->number : 0, 0);
    return each_connection(s, x, y, reset_both);
}

/* ---- running ---- */

uint64_t sim_now(const struct sim *s)
{
    return s->now;
}

struct rand_state *sim_rand(struct sim *s)
{
    return &s->rand;
}

static void run_script(struct sim_event *e)
{
    struct script *x = container_of(e, struct script, e);
    void (*fn)(void *) = x->fn;
    void *arg = x->arg;
    list_del(&x->link);
    free(x);
    fn(arg);
}

void sim_at(struct sim *s, uint64_t ns, void (*fn)(void *arg), void *arg)
{
    struct script *x = mem_new(struct script);
    x->e.fn = run_script;
    x->e.sim = s;
    x->e.patient = true;
    x->fn = fn;
    x->arg = arg;
    list_push(&s->scripts, &x->link);
    sim_arm(&x->e, ns);
}

static bool alive(const struct sim_poll *p)
{
    return p->loop && !p->host->down && p->life == p->host->life && !loop_stopped(p->loop);
}

static bool runnable(const struct sim *s, const struct sim_poll *p)
{
    return alive(p) && (p->dirty || p->woken || !list_empty(&p->ready) || p->deadline <= s->now);
}

/* One of the loops that have something to do, drawn by the seed. */
static struct sim_poll *pick(struct sim *s)
{
    struct sim_poll *found = NULL;
    uint64_t n = 0;
    for (int i = 0; i < s->n_polls; i++)
        if (s->polls[i] && runnable(s, s->polls[i]) && rand_below(&s->rand, ++n) == 0)
            found = s->polls[i];
    return found;
}

static bool is_there(const struct sim *s, const struct sim_poll *p, int number)
{
    for (int i = 0; i < s->n_polls; i++)
        if (s->polls[i] == p && p->number == number)
            return true;
    return false;
}

static void turn(struct sim *s, struct sim_poll *p)
{
    int number = p->number;
    p->woken = p->dirty = false;
    /* poll_wait notes until when the loop would sleep, and returns at once. */
    int ran = loop_turn(p->loop, UINT64_MAX);
    if (!is_there(s, p, number))
        return;
    if (ran) {
        p->dirty = true; /* what ran may have set timers: it is asked again */
        sim_note(s, "turn", (uint64_t)number, (uint64_t)ran, 0);
        s->now += TURN_LEAST + rand_below(&s->rand, TURN_LEAST);
    }
}

static uint64_t next_time(const struct sim *s, bool timers)
{
    const struct heap_node *top = heap_top(&s->events);
    uint64_t t = top ? top->key : UINT64_MAX;
    for (int i = 0; timers && i < s->n_polls; i++)
        if (s->polls[i] && alive(s->polls[i]) && s->polls[i]->deadline < t)
            t = s->polls[i]->deadline;
    return t;
}

void sim_watch(struct sim *s, void (*fn)(void *arg), void *arg)
{
    s->watch = fn;
    s->watch_arg = arg;
}

void sim_set_batch(struct sim *s, int n)
{
    s->batch = n;
}

void sim_leap(struct sim *s, uint64_t ns)
{
    s->now += ns;
    sim_note(s, "leap", ns, 0, 0);
}

/* Something is about to happen. */
static void tell_watch(struct sim *s)
{
    if (s->watch)
        s->watch(s->watch_arg);
}

/* One event, one turn, or one jump of the clock to at most `end`. False: there is nothing before
 * `end`. */
static bool step(struct sim *s, uint64_t end)
{
    struct heap_node *top = heap_top(&s->events);
    if (top && top->key <= s->now) {
        tell_watch(s);
        if (top != heap_top(&s->events))
            return true; /* the watcher changed the world: look again */
        struct sim_event *e = container_of(top, struct sim_event, node);
        sim_disarm(e);
        e->fn(e);
        return true;
    }
    struct sim_poll *p = s->now < end ? pick(s) : NULL;
    if (p) {
        int number = p->number;
        tell_watch(s);
        if (is_there(s, p, number))
            turn(s, p);
        return true;
    }
    uint64_t t = next_time(s, true);
    if (t >= end || s->now >= end)
        return false;
    if (t > s->now)
        s->now = t;
    return true;
}

static void touch_all(struct sim *s)
{
    for (int i = 0; i < s->n_polls; i++)
        if (s->polls[i])
            s->polls[i]->dirty = true; /* the test may have set timers */
}

void sim_run_until(struct sim *s, uint64_t ns)
{
    touch_all(s);
    while (step(s, ns))
        ;
    if (s->now < ns)
        s->now = ns;
}

void sim_run_for(struct sim *s, uint64_t ns)
{
    sim_run_until(s, s->now + ns);
}

bool sim_run_while(struct sim *s, bool (*done)(void *arg), void *arg, uint64_t max_ns)
{
    uint64_t end = s->now + max_ns;
    touch_all(s);
    while (!done(arg))
        if (!step(s, end)) {
            if (s->now < end)
                s->now = end;
            return done(arg);
        }
    return true;
}

bool sim_run_idle(struct sim *s)
{
    uint64_t end = s->now + IDLE_MAX;
    touch_all(s);
    while (s->now < end) {
        bool busy = s->urgent > 0;
        for (int i = 0; i < s->n_polls && !busy; i++)
            busy = s->polls[i] && runnable(s, s->polls[i]);
        if (!busy)
            return true;
        if (!step(s, end))
            return false;
    }
    return false;
}

/* ---- life ---- */

struct sim *sim_new(uint64_t seed)
{
    struct sim *s = mem_new(struct sim);
    s->now = START;
    rand_seed(&s->rand, seed);
    heap_init(&s->events);
    list_init(&s->hosts);
    list_init(&s->links);
    list_init(&s->tcps);
    list_init(&s->scripts);
    list_init(&s->datagrams);
    s->min_ns = LATENCY_MIN;
    s->max_ns = LATENCY_MAX;
    return s;
}

void sim_free(struct sim *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->n_socks; i++)
        if (s->socks[i])
            sim_ops.close(s->socks[i]->host, SIM_FD_BASE + i);
    list_each_safe (it, &s->tcps) {
        sim_tcp_free(container_of(it, struct sim_tcp, link));
    }
    sim_udp_drop_all(s);
    list_each_safe (it, &s->scripts) {
        sim_disarm(&container_of(it, struct script, link)->e);
        free(container_of(it, struct script, link));
    }
    list_each_safe (it, &s->links) {
        free(container_of(it, struct sim_link, link));
    }
    list_each_safe (it, &s->hosts) {
        free(container_of(it, struct sim_host, link));
    }
    for (int i = 0; i < s->n_polls; i++)
        free(s->polls[i]);
    free(s->polls);
    free(s->socks);
    heap_fini(&s->events);
    free(s);
}
