#include "net/loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/mem.h"

/* The kernel with a clock of our own: waiting moves it. */
static uint64_t fake_ns;
static int waits;
static uint64_t last_wait_ns;

static uint64_t fake_mono(void *os)
{
    return fake_ns;
}

static int fake_wait(void *os, int poll, struct os_event *ev, int max, uint64_t timeout_ns)
{
    struct os *real = os_real();
    waits++;
    last_wait_ns = timeout_ns;
    int n = real->ops->poll_wait(real->self, poll, ev, max, 0);
    if (n == 0 && timeout_ns != UINT64_MAX)
        fake_ns += timeout_ns;
    return n;
}

static struct os *fake_os(void)
{
    static struct os_ops ops;
    static struct os os = {.ops = &ops};
    ops = *os_real()->ops;
    ops.mono_ns = fake_mono;
    ops.poll_wait = fake_wait;
    fake_ns = 5000000123;
    waits = 0;
    return &os;
}

static struct {
    struct timer t;
    uint64_t at_ns;
    int fired;
} tm[8];

static void on_timer(struct timer *t)
{
    size_t i = (size_t)((char *)t - (char *)tm) / sizeof *tm;
    assert_false(timer_active(t));
    tm[i].fired++;
    tm[i].at_ns = loop_now_ns(t->loop);
}

static void init_timers(struct loop *l)
{
    for (int i = 0; i < 8; i++) {
        timer_init(&tm[i].t, l, on_timer);
        tm[i].fired = 0;
    }
}

static void timers_fire_once_and_never_early(void **state)
{
    struct loop *l = loop_new(fake_os());
    static const uint64_t delay[] = {1, 2, 63, 64, 1000, 60000, 3600000};
    init_timers(l);
    uint64_t start = loop_now_ns(l);
    for (int i = 0; i < 7; i++)
        timer_set(&tm[i].t, delay[i]);
    waits = 0;
    for (int i = 0; i < 7; i++)
        assert_int_equal(loop_turn(l, UINT64_MAX), 1);
    assert_int_equal(waits, 7); /* each wait ended with its timer: none in vain */
    for (int i = 0; i < 7; i++) {
        assert_int_equal(tm[i].fired, 1);
        assert_true(tm[i].at_ns >= start + delay[i] * 1000000);
        assert_true(tm[i].at_ns < start + (delay[i] + 1) * 1000000);
    }
    loop_turn(l, UINT64_MAX);
    assert_true(last_wait_ns == UINT64_MAX);
    loop_free(l);
}

static void setting_again_moves(void **state)
{
    struct loop *l = loop_new(fake_os());
    init_timers(l);
    timer_set(&tm[0].t, 10);
    timer_set(&tm[0].t, 1000);
    timer_set(&tm[1].t, 500);
    timer_cancel(&tm[1].t);
    timer_cancel(&tm[1].t);
    assert_false(timer_active(&tm[1].t));
    waits = 0;
    loop_turn(l, UINT64_MAX);
    assert_int_equal(waits, 1);
    assert_int_equal(tm[0].fired, 1);
    assert_true(tm[0].at_ns >= 6000000123);
    struct timer zero = {.fn = NULL};
    timer_cancel(&zero);
    assert_int_equal(loop_turn(l, 7000000), 0); /* nothing: waits as long as it may */
    assert_true(last_wait_ns == 7000000);
    timer_set(&tm[0].t, 100); /* still there when the loop goes */
    loop_free(l);
    assert_false(timer_active(&tm[0].t));
}

static int order_n;
static int order_of[16];
static void note(int what)
{
    order_of[order_n++] = what;
}

static void again(struct timer *t)
{
    note(1);
    if (order_n < 3)
        timer_set(t, 0);
}

static void zero_delay_is_the_next_turn(void **state)
{
    struct loop *l = loop_new(fake_os());
    struct timer t;
    order_n = 0;
    timer_init(&t, l, again);
    timer_set(&t, 0);
    uint64_t before = fake_ns;
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(loop_turn(l, UINT64_MAX), 1);
        assert_int_equal(order_n, i);
    }
    assert_true(fake_ns == before);
    loop_free(l);
}

static void cancels_the_others(struct timer *t)
{
    on_timer(t);
    for (int i = 0; i < 8; i++)
        timer_cancel(&tm[i].t);
}

static void a_timer_may_cancel_those_due_with_it(void **state)
{
    struct loop *l = loop_new(fake_os());
    init_timers(l);
    for (int i = 0; i < 8; i++) {
        tm[i].t.fn = cancels_the_others;
        timer_set(&tm[i].t, i < 4 ? 0 : 5);
    }
    assert_int_equal(loop_turn(l, UINT64_MAX), 1);
    assert_int_equal(loop_turn(l, 10000000), 0);
    loop_free(l);
}

/* ---- the order of a turn ---- */

struct thing {
    struct io io;
    struct deferred d;
    int fd;
};

static void thing_io(struct io *io, uint32_t events)
{
    note(1);
}
static void turn_timer(struct timer *t)
{
    note(2);
}
static void turn_post(void *arg)
{
    note(3);
}
static void turn_deferred(struct deferred *d)
{
    note(4);
}

static void a_turn_has_its_order(void **state)
{
    struct loop *l = loop_new(NULL);
    int sv[2];
    struct thing x;
    struct timer t;
    order_n = 0;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv), 0);
    loop_defer(l, &x.d, turn_deferred);
    loop_post(l, turn_post, NULL);
    timer_init(&t, l, turn_timer);
    timer_set(&t, 0);
    assert_int_equal(io_add(l, &x.io, sv[0], thing_io), 0);
    assert_int_equal(loop_turn(l, 0), 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(order_of[i], i + 1);
    assert_int_equal(io_add(l, &(struct io){.fd = 0}, 9999, thing_io), E_INVALID);
    io_del(&x.io);
    io_del(&x.io);
    close(sv[0]);
    close(sv[1]);
    loop_free(l);
}

/* ---- what was read is passed on ---- */

static size_t took_each;

static void thing_reads(struct io *io, uint32_t events)
{
    struct thing *x = container_of(io, struct thing, io);
    note(1);
    loop_took(io->loop, took_each);
    loop_defer(io->loop, &x->d, turn_deferred);
}

static void much_that_was_read_is_passed_on_at_once(void **state)
{
    static const int expected[2][4] = {{1, 1, 4, 4}, {1, 4, 1, 4}};
    for (int much = 0; much < 2; much++) {
        struct loop *l = loop_new(NULL);
        int sv[2];
        struct thing x[2];
        order_n = 0;
        took_each = much ? 64 << 10 : 1000;
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv), 0);
        for (int i = 0; i < 2; i++)
            assert_int_equal(io_add(l, &x[i].io, sv[i], thing_reads), 0);
        assert_int_equal(loop_turn(l, 0), 4);
        assert_false(loop_full(l));
        for (int i = 0; i < 4; i++)
            assert_int_equal(order_of[i], expected[much][i]);
        for (int i = 0; i < 2; i++) {
            io_del(&x[i].io);
            close(sv[i]);
        }
        loop_free(l);
    }
}

static struct loop *endless_loop;
static int endless_left;

static void reads_on(struct deferred *d)
{
    assert_false(loop_full(endless_loop)); /* of what went before it nothing counts */
    loop_took(endless_loop, 64 << 10);
    if (--endless_left)
        loop_defer(endless_loop, d, reads_on);
}

static void who_reads_on_leaves_turns_to_others(void **state)
{
    struct loop *l = endless_loop = loop_new(fake_os());
    struct deferred d;
    init_timers(l);
    endless_left = 10;
    loop_defer(l, &d, reads_on);
    assert_int_equal(loop_turn(l, UINT64_MAX), 4); /* 256 KB */
    timer_set(&tm[0].t, 0);
    assert_int_equal(loop_turn(l, UINT64_MAX), 1 + 4);
    assert_int_equal(tm[0].fired, 1);
    assert_int_equal(last_wait_ns, 0);
    loop_free(l); /* runs what is left */
    assert_int_equal(endless_left, 0);
}

/* ---- removing under callbacks ---- */

static struct thing *pair_of[2];
static int pair_calls;

static void free_thing(struct deferred *d)
{
    struct thing *x = container_of(d, struct thing, d);
    close(x->fd);
    free(x);
}

static void kills_both(struct io *io, uint32_t events)
{
    pair_calls++;
    for (int i = 0; i < 2; i++) {
        io_del(&pair_of[i]->io);
        loop_defer(io->loop, &pair_of[i]->d, free_thing);
    }
}

static void removed_while_its_event_is_on_the_way(void **state)
{
    struct loop *l = loop_new(NULL);
    int sv[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv), 0);
    for (int i = 0; i < 2; i++) {
        pair_of[i] = mem_new(struct thing);
        pair_of[i]->fd = sv[i];
        assert_int_equal(io_add(l, &pair_of[i]->io, sv[i], kills_both), 0);
    }
    assert_int_equal(loop_turn(l, 0), 1 + 2);
    assert_int_equal(pair_calls, 1);
    loop_free(l);
}

static struct io again_io;
static int again_fd, again_calls;

static void re_adds(struct io *io, uint32_t events)
{
    again_calls++;
    if (io == &again_io)
        return;
    /* The other's event is in this batch; added anew it must not see it. */
    io_del(&again_io);
    assert_int_equal(io_add(io->loop, &again_io, again_fd, re_adds), 0);
}

static void an_old_event_does_not_reach_a_new_registration(void **state)
{
    struct loop *l = loop_new(NULL);
    int sv[2];
    struct io first;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv), 0);
    again_fd = sv[1];
    assert_int_equal(io_add(l, &first, sv[0], re_adds), 0);
    assert_int_equal(io_add(l, &again_io, sv[1], re_adds), 0);
    assert_int_equal(loop_turn(l, 0), 1);
    assert_int_equal(loop_turn(l, 0), 1); /* the new registration's own event */
    assert_int_equal(again_calls, 2);
    io_del(&first);
    io_del(&again_io);
    close(sv[0]);
    close(sv[1]);
    loop_free(l);
}

/* ---- posts ---- */

enum { THREADS = 4, POSTS = 20000 };
struct poster {
    struct loop *l;
    int next, seen;
};
struct msg {
    struct poster *from;
    int n;
};
static int arrived;

static void on_msg(void *arg)
{
    struct msg *m = arg;
    assert_int_equal(m->n, m->from->seen);
    m->from->seen++;
    arrived++;
    if (arrived == THREADS * POSTS)
        loop_stop(loop_current());
    free(m);
}

static void *post_many(void *arg)
{
    struct poster *p = arg;
    for (int i = 0; i < POSTS; i++) {
        struct msg *m = malloc(sizeof *m);
        *m = (struct msg){p, i};
        loop_post(p->l, on_msg, m);
        if (i % 1000 == 0)
            usleep(100); /* lets the loop fall asleep in between */
    }
    return NULL;
}

static void posts_arrive_in_order_and_none_is_lost(void **state)
{
    struct loop *l = loop_new(NULL);
    pthread_t t[THREADS];
    struct poster p[THREADS];
    assert_null(loop_current());
    for (int i = 0; i < THREADS; i++) {
        p[i] = (struct poster){l, 0, 0};
        pthread_create(&t[i], NULL, post_many, &p[i]);
    }
    loop_run(l);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(arrived, THREADS * POSTS);
    loop_post(l, on_msg, NULL); /* dropped with the loop */
    loop_free(l);
}

static void *ping(void *arg)
{
    struct loop *l = arg;
    loop_post(l, turn_post, NULL);
    return NULL;
}

static void a_post_wakes_a_sleeping_loop(void **state)
{
    struct loop *l = loop_new(NULL);
    for (int i = 0; i < 200; i++) {
        pthread_t t;
        order_n = 0;
        pthread_create(&t, NULL, ping, l);
        int rounds = 0;
        while (order_n == 0) {
            loop_turn(l, 5000000000u);
            assert_true(++rounds < 5);
        }
        pthread_join(t, NULL);
    }
    loop_free(l);
}

static void *stop_it(void *arg)
{
    usleep(1000);
    loop_stop(arg);
    return NULL;
}

static void stopping(void **state)
{
    struct loop *l = loop_new(NULL);
    pthread_t t;
    loop_stop(l);
    loop_run(l);
    pthread_create(&t, NULL, stop_it, l);
    loop_run(l);
    pthread_join(t, NULL);
    loop_free(l);
}

/* ---- signals ---- */

static int got[65];
static void on_signal(int signo, void *arg)
{
    got[signo]++;
    assert_ptr_equal(arg, got);
}

static void signals_come_on_the_loop(void **state)
{
    struct loop *l = loop_new(NULL);
    assert_int_equal(loop_on_signal(l, SIGUSR1, on_signal, got), 0);
    assert_int_equal(loop_on_signal(l, SIGUSR2, on_signal, got), 0);
    assert_int_equal(loop_on_signal(l, 0, on_signal, got), E_INVALID);
    raise(SIGUSR1);
    raise(SIGUSR2);
    assert_int_equal(got[SIGUSR1], 0);
    loop_turn(l, 1000000000);
    assert_int_equal(got[SIGUSR1], 1);
    assert_int_equal(got[SIGUSR2], 1);
    assert_int_equal(loop_on_signal(l, SIGUSR2, NULL, NULL), 0);
    raise(SIGUSR2);
    raise(SIGUSR1);
    loop_turn(l, 1000000000);
    assert_int_equal(got[SIGUSR1], 2);
    assert_int_equal(got[SIGUSR2], 1);
    loop_free(l);
}

static void times_and_random_numbers(void **state)
{
    struct loop *l = loop_new(NULL);
    assert_true(loop_clock_ns(l) >= loop_now_ns(l));
    assert_true(loop_wall_ns(l) > 1600000000000000000u);
    assert_true(rand_u64(loop_rand(l)) != rand_u64(loop_rand(l)));
    assert_ptr_equal(loop_os(l), os_real());
    loop_free(l);
    loop_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_once_and_never_early),
        cmocka_unit_test(setting_again_moves),
        cmocka_unit_test(zero_delay_is_the_next_turn),
        cmocka_unit_test(a_timer_may_cancel_those_due_with_it),
        cmocka_unit_test(a_turn_has_its_order),
        cmocka_unit_test(much_that_was_read_is_passed_on_at_once),
        cmocka_unit_test(who_reads_on_leaves_turns_to_others),
        cmocka_unit_test(removed_while_its_event_is_on_the_way),
        cmocka_unit_test(an_old_event_does_not_reach_a_new_registration),
        cmocka_unit_test(posts_arrive_in_order_and_none_is_lost),
        cmocka_unit_test(a_post_wakes_a_sleeping_loop),
        cmocka_unit_test(stopping),
        cmocka_unit_test(signals_come_on_the_loop),
        cmocka_unit_test(times_and_random_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
