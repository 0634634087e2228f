#include "net/loop.h"
#include "base/code.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include "base/arena.h"
#include "base/buf.h"
#include "base/mem.h"
#include "net/loop_private.h"
#include "net/timer_wheel.h"

#define EVENTS_MAX  256
#define FULL        49152u      /* bytes read that are passed on before more is read */
#define TURN_MOST   262144u     /* bytes read by deferred work of one turn */
#define TRIM_NS     1000000000u /* between two steps of giving pooled memory back */
#define TRIM_MALLOC 1048576u    /* so much of it makes malloc give back, too */

struct post {
    struct post *next;
    void (*fn)(void *arg);
    void *arg;
};
static struct post posts_closed; /* in place of the stack: nothing more is taken */

struct loop {
    struct os *os;
    int poll;
    uint64_t now_ns;
    uint64_t stamp_ns; /* when the clock was last asked */
    uint64_t wall_ns;  /* what the wall clock is ahead of the other */
    bool turning;      /* inside a turn */
    bool stamped;      /* stamp_ns is of the callback under way */
    bool wall_known;   /* wall_ns is of this turn */
    struct timer_wheel wheel;
    struct list soon; /* timers without a delay, for the next turn */
    struct list due;  /* timers that fire in this turn */
    struct deferred *deferred, **deferred_end;
    struct os_event ev[EVENTS_MAX];
    int ev_at, ev_n; /* the batch under way */
    struct rand_state rand;
    struct loop_part *files, *signals;
    size_t taken;         /* bytes read since deferred work had its turn */
    uint64_t trim_due_ns; /* 0: the pools are at rest */
    size_t trimmed;
    _Atomic(struct post *) posts; /* a stack, newest first */
    _Atomic bool woken;           /* a wake-up is on its way */
    _Atomic bool stop;
};

static __thread struct loop *current;

struct loop *loop_new(struct os *os)
{
    struct loop *l = mem_new(struct loop);
    l->os = os ? os : os_real();
    l->poll = l->os->ops->poll_new(l->os->self);
    if (l->poll < 0) {
        free(l);
        return NULL;
    }
    l->now_ns = l->os->ops->mono_ns(l->os->self);
    timer_wheel_init(&l->wheel, l->now_ns / 1000000u);
    list_init(&l->soon);
    list_init(&l->due);
    l->deferred_end = &l->deferred;
    rand_seed(&l->rand, l->os->ops->seed(l->os->self));
    if (l->os->ops->attach)
        l->os->ops->attach(l->os->self, l->poll, l);
    return l;
}

/* Past TURN_MOST, what is left waits for its next time: a peer that sends as fast as it is read
 * does not keep the others waiting. */
static int run_deferred(struct loop *l)
{
    int n = 0;
    size_t most = TURN_MOST;
    for (struct deferred *d; most && (d = l->deferred); n++) {
        l->deferred = d->next;
        if (!l->deferred)
            l->deferred_end = &l->deferred;
        l->stamped = false;
        l->taken = 0;
        d->fn(d);
        most -= l->taken < most ? l->taken : most;
    }
    l->taken = 0;
    return n;
}

static void end_deferred(struct loop *l)
{
    while (l->deferred)
        run_deferred(l);
}

/* The posts in the order in which they came; what stands in their place is `left`. */
static struct post *take_posts(struct loop *l, struct post *left)
{
    struct post *p = atomic_exchange_explicit(&l->posts, left, memory_order_seq_cst), *out = NULL;
    if (p == &posts_closed)
        return NULL;
    for (struct post *next; p; p = next) {
        next = p->next;
        p->next = out;
        out = p;
    }
    return out;
}

static void drop_timers(struct list *head)
{
    list_each_safe (it, head) {
        list_del(it);
    }
}

void loop_free(struct loop *l)
{
    if (!l)
        return;
    for (struct post *p = take_posts(l, &posts_closed), *next; p; p = next) {
        next = p->next;
        free(p);
    }
    end_deferred(l);
    if (l->files)
        l->files->free(l->files);
    if (l->signals)
        l->signals->free(l->signals);
    end_deferred(l);
    drop_timers(&l->soon);
    drop_timers(&l->due);
    for (int i = 0; i < WHEEL_LEVELS; i++)
        for (int k = 0; k < WHEEL_SLOTS; k++)
            drop_timers(&l->wheel.slot[i][k]);
    l->os->ops->poll_free(l->os->self, l->poll);
    if (current == l)
        current = NULL;
    free(l);
}

/* ---- a turn ---- */

/* Memory that the pools do not need goes back in steps, once a second, until they hold only a
 * working minimum. Simulated loops leave the (shared) pools alone: time there must not depend on
 * what ran before. */
static void trim_pools(struct loop *l)
{
    if (l->trim_due_ns == 0) {
        if (l->os == os_real() && !(buf_pool_idle() && arena_pool_idle()))
            l->trim_due_ns = l->now_ns + TRIM_NS;
        return;
    }
    if (l->now_ns < l->trim_due_ns)
        return;
    l->trimmed += buf_pool_age() + arena_age();
    bool idle = buf_pool_idle() && arena_pool_idle();
    l->trim_due_ns = idle ? 0 : l->now_ns + TRIM_NS;
    if (idle && l->trimmed >= TRIM_MALLOC) {
        malloc_trim(0);
        l->trimmed = 0;
    }
}

static uint64_t wait_ns(struct loop *l, uint64_t most)
{
    if (most == 0 || !list_empty(&l->soon) || l->deferred ||
        atomic_load_explicit(&l->posts, memory_order_relaxed) ||
        atomic_load_explicit(&l->stop, memory_order_relaxed))
        return 0;
    uint64_t next_ms = timer_wheel_next(&l->wheel), due = UINT64_MAX;
    if (next_ms < UINT64_MAX / 1000000u)
        due = next_ms * 1000000u;
    if (l->trim_due_ns && l->trim_due_ns < due)
        due = l->trim_due_ns;
    if (due == UINT64_MAX)
        return most;
    uint64_t now = l->os->ops->mono_ns(l->os->self), wait = due > now ? due - now : 0;
    return wait < most ? wait : most;
}

static int run_events(struct loop *l)
{
    int ran = 0;
    for (l->ev_at = 0; l->ev_at < l->ev_n; l->ev_at++) {
        struct io *io = l->ev[l->ev_at].data;
        if (l->ev_at + 1 < l->ev_n)
            __builtin_prefetch(l->ev[l->ev_at + 1].data);
        if (!io || io->dead)
            continue;
        l->stamped = false;
        io->fn(io, l->ev[l->ev_at].events);
        ran++;
        if (loop_full(l))
            ran += run_deferred(l);
    }
    l->ev_at = l->ev_n = 0;
    return ran;
}

static int run_timers(struct loop *l)
{
    int ran = 0;
    timer_wheel_advance(&l->wheel, l->now_ns / 1000000u, &l->due);
    for (; !list_empty(&l->due); ran++) {
        struct timer *t = container_of(l->due.next, struct timer, link);
        list_del(&t->link);
        l->stamped = false;
        t->fn(t);
        if (loop_full(l))
            ran += run_deferred(l);
    }
    return ran;
}

static int run_posts(struct loop *l)
{
    int ran = 0;
    /* Before taking: who posts after this wakes the loop again. */
    if (atomic_load_explicit(&l->woken, memory_order_relaxed))
        atomic_store_explicit(&l->woken, false, memory_order_seq_cst);
    if (!atomic_load_explicit(&l->posts, memory_order_seq_cst))
        return 0;
    for (struct post *p = take_posts(l, NULL), *next; p; p = next, ran++) {
        next = p->next;
        void (*fn)(void *) = p->fn;
        void *arg = p->arg;
        free(p);
        l->stamped = false;
        fn(arg);
    }
    return ran;
}

HOT int loop_turn(struct loop *l, uint64_t max_wait_ns)
{
    struct loop *outer = current;
    current = l;
    int n = l->os->ops->poll_wait(l->os->self, l->poll, l->ev, EVENTS_MAX, wait_ns(l, max_wait_ns));
    l->now_ns = l->os->ops->mono_ns(l->os->self);
    l->turning = true;
    l->wall_known = false;
    l->ev_n = n > 0 ? n : 0;
    /* What asks for "the next turn" from now on means the one after this. */
    while (!list_empty(&l->soon)) {
        struct list *first = l->soon.next;
        list_del(first);
        list_push(&l->due, first);
    }
    int ran = run_events(l);
    ran += run_timers(l);
    ran += run_posts(l);
    ran += run_deferred(l);
    trim_pools(l);
    l->turning = l->stamped = false;
    current = outer;
    return ran;
}

void loop_run(struct loop *l)
{
    struct loop *outer = current;
    while (!atomic_load_explicit(&l->stop, memory_order_acquire))
        loop_turn(l, UINT64_MAX);
    atomic_store_explicit(&l->stop, false, memory_order_relaxed);
    current = outer;
}

void loop_stop(struct loop *l)
{
    atomic_store_explicit(&l->stop, true, memory_order_release);
    l->os->ops->poll_wake(l->os->self, l->poll);
}

bool loop_stopped(const struct loop *l)
{
    return atomic_load_explicit(&l->stop, memory_order_acquire);
}

void loop_defer(struct loop *l, struct deferred *d, void (*fn)(struct deferred *d))
{
    d->next = NULL;
    d->fn = fn;
    *l->deferred_end = d;
    l->deferred_end = &d->next;
}

void loop_took(struct loop *l, size_t n)
{
    l->taken += n;
}

bool loop_full(const struct loop *l)
{
    return l->taken >= FULL;
}

void loop_post(struct loop *l, void (*fn)(void *arg), void *arg)
{
    struct post *p = mem_alloc(sizeof *p);
    *p = (struct post){NULL, fn, arg};
    struct post *head = atomic_load_explicit(&l->posts, memory_order_relaxed);
    do {
        if (head == &posts_closed) {
            free(p);
            return;
        }
        p->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&l->posts, &head, p, memory_order_seq_cst,
                                                    memory_order_relaxed));
    if (!atomic_exchange_explicit(&l->woken, true, memory_order_seq_cst))
        l->os->ops->poll_wake(l->os->self, l->poll);
}

/* ---- what a loop knows ---- */

struct loop *loop_current(void)
{
    return current;
}

struct os *loop_os(struct loop *l)
{
    return l->os;
}

uint64_t loop_now_ns(const struct loop *l)
{
    return l->now_ns;
}

uint64_t loop_clock_ns(struct loop *l)
{
    l->stamped = l->turning;
    return l->stamp_ns = l->os->ops->mono_ns(l->os->self);
}

uint64_t loop_wall_ns(struct loop *l)
{
    return l->os->ops->wall_ns(l->os->self);
}

uint64_t loop_stamp_ns(struct loop *l)
{
    return l->stamped ? l->stamp_ns : loop_clock_ns(l);
}

HOT uint64_t loop_stamp_wall_ns(struct loop *l)
{
    uint64_t now = loop_stamp_ns(l);
    if (!l->wall_known) {
        l->wall_ns = l->os->ops->wall_ns(l->os->self) - now;
        l->wall_known = l->turning;
    }
    return now + l->wall_ns;
}

struct rand_state *loop_rand(struct loop *l)
{
    return &l->rand;
}

struct loop_part **loop_files(struct loop *l)
{
    return &l->files;
}

struct loop_part **loop_signals(struct loop *l)
{
    return &l->signals;
}

/* ---- descriptors ---- */

int io_add_events(struct loop *l, struct io *io, int fd, io_fn fn, uint32_t events)
{
    int rc = l->os->ops->poll_add(l->os->self, l->poll, fd, events, io);
    io->loop = l;
    io->fn = fn;
    io->fd = rc < 0 ? -1 : fd;
    io->dead = rc < 0;
    return rc < 0 ? error_from_errno(-rc) : 0;
}

int io_add(struct loop *l, struct io *io, int fd, io_fn fn)
{
    return io_add_events(l, io, fd, fn, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
}

void io_forget(struct io *io)
{
    struct loop *l = io->loop;
    if (io->dead || io->fd < 0)
        return;
    io->dead = true;
    io->fd = -1;
    /* An event of this batch must not reach the io after it was added again. */
    for (int i = l->ev_at + 1; i < l->ev_n; i++)
        if (l->ev[i].data == io)
            l->ev[i].data = NULL;
}

void io_del(struct io *io)
{
    if (io->dead || io->fd < 0)
        return;
    io->loop->os->ops->poll_del(io->loop->os->self, io->loop->poll, io->fd);
    io_forget(io);
}

/* ---- timers ---- */

void timer_init(struct timer *t, struct loop *l, timer_fn fn)
{
    list_init(&t->link);
    t->due_ms = 0;
    t->fn = fn;
    t->loop = l;
}

HOT void timer_set(struct timer *t, uint64_t delay_ms)
{
    struct loop *l = t->loop;
    timer_cancel(t);
    if (delay_ms == 0) {
        t->due_ms = 0;
        list_push(&l->soon, &t->link);
        return;
    }
    uint64_t now_up = (l->now_ns + 999999u) / 1000000u;
    timer_wheel_add(&l->wheel, t, delay_ms < UINT64_MAX / 2 ? now_up + delay_ms : UINT64_MAX / 2);
}

HOT void timer_remove(struct timer *t)
{
    timer_wheel_remove(&t->loop->wheel, t);
}
