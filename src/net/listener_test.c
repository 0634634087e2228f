#include "net/listener.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "net/net_fixture.h"

static struct loop *l;

static int up(void **state)
{
    l = loop_new(NULL);
    return 0;
}

static int down(void **state)
{
    loop_turn(l, 0);
    loop_free(l);
    return 0;
}

/* Plain clients of the kernel. */
static int dial(const struct addr *to)
{
    struct sockaddr_storage ss;
    int fd = socket(to->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (connect(fd, (struct sockaddr *)&ss, addr_sockaddr(to, &ss)) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

struct sink {
    int n;
    struct net_listener *stop, *free;
};

static void count_and_close(void *user, int fd, const struct addr *local, const struct addr *remote)
{
    struct sink *s = user;
    s->n++;
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
    if (s->stop)
        net_listener_stop(s->stop);
    net_listener_free(s->free);
}

static struct net_listener *listen_on(const char *where, const struct listen_opts *o, void *user,
                                      struct error *err)
{
    struct addr a;
    if (where[0] == '/' || where[0] == '@')
        assert_int_equal(addr_unix(&a, sv_of(where)), 0);
    else
        assert_int_equal(addr_parse(&a, sv_of(where)), 0);
    return net_listener_new(l, &a, o, count_and_close, user, err);
}

static void a_burst_comes_in_one_turn(void **state)
{
    struct sink s = {0};
    struct error err = {0};
    int fds[400];
    struct net_listener *n = listen_on("[::1]:0", NULL, &s, &err);
    if (!n) /* no IPv6 here */
        n = listen_on("127.0.0.1:0", NULL, &s, &err);
    assert_non_null(n);
    assert_true(addr_port(net_listener_addr(n)) > 0);
    for (int i = 0; i < 400; i++)
        fds[i] = dial(net_listener_addr(n));
    turn_quiet(l);
    assert_int_equal(s.n, 0); /* not started */
    net_listener_start(n);
    net_listener_start(n);
    loop_turn(l, 1000000000);
    assert_int_equal(s.n, 256); /* then others get their turn */
    loop_turn(l, 1000000000);
    assert_int_equal(s.n, 400);
    for (int i = 0; i < 400; i++)
        close(fds[i]);
    assert_int_equal(net_listener_failures(n), 0);
    net_listener_free(n);
    net_listener_free(NULL);
}

static void stopping_leaves_the_socket_bound(void **state)
{
    struct sink s = {0};
    struct error err = {0};
    struct net_listener *n = listen_on("127.0.0.1:0", NULL, &s, &err);
    s.stop = n;
    net_listener_start(n);
    int a = dial(net_listener_addr(n)), b = dial(net_listener_addr(n));
    turn_quiet(l);
    assert_int_equal(s.n, 1); /* the callback stopped it within the batch */
    turn_quiet(l);
    assert_int_equal(s.n, 1);
    s.stop = NULL;
    net_listener_start(n); /* what waited meanwhile is taken */
    turn_quiet(l);
    assert_int_equal(s.n, 2);
    s.free = n;
    close(a);
    a = dial(net_listener_addr(n));
    turn_quiet(l);
    assert_int_equal(s.n, 3);
    close(a);
    close(b);
}

static void out_of_descriptors(void **state)
{
    struct sink s = {0};
    struct error err = {0};
    struct rlimit old, low;
    struct net_listener *n = listen_on("127.0.0.1:0", NULL, &s, &err);
    net_listener_start(n);
    turn_quiet(l);
    int a = dial(net_listener_addr(n));
    getrlimit(RLIMIT_NOFILE, &old);
    low = old;
    low.rlim_cur = 3; /* all of these are taken */
    setrlimit(RLIMIT_NOFILE, &low);
    uint64_t start = loop_clock_ns(l);
    turn_until(l, net_listener_failures(n) >= 3);
    /* 50 ms, 100 ms between them: it does not spin. */
    assert_true(loop_clock_ns(l) - start >= 140000000);
    assert_int_equal(s.n, 0);
    setrlimit(RLIMIT_NOFILE, &old);
    turn_until(l, s.n == 1);
    uint64_t failed = net_listener_failures(n);
    int b = dial(net_listener_addr(n));
    turn_until(l, s.n == 2);
    assert_int_equal(net_listener_failures(n), failed);
    /* Somebody else takes what it was waiting for: it goes on nevertheless. */
    low.rlim_cur = 3;
    int c = dial(net_listener_addr(n));
    setrlimit(RLIMIT_NOFILE, &low);
    turn_until(l, net_listener_failures(n) > failed);
    setrlimit(RLIMIT_NOFILE, &old);
    close(accept(net_listener_fd(n), NULL, NULL));
    turn_quiet(l);
    usleep(60000);
    turn_quiet(l);
    assert_int_equal(s.n, 2);
    close(c);
    c = dial(net_listener_addr(n));
    turn_until(l, s.n == 3);
    close(a);
    close(b);
    close(c);
    net_listener_free(n);
}

static void errors_name_the_address(void **state)
{
    struct sink s = {0};
    struct error err = {0};
    char text[ADDR_TEXT_MAX], want[300];
    struct net_listener *n = listen_on("127.0.0.1:0", NULL, &s, &err);
    addr_text(net_listener_addr(n), text);
    assert_null(listen_on(text, NULL, &s, &err));
    snprintf(want, sizeof want, "cannot listen on %s: bind: Address already in use", text);
    assert_string_equal(err.msg, want);
    assert_int_equal(err.code, E_EXISTS);
    assert_null(listen_on("192.0.2.1:80", NULL, &s, &err));
    assert_int_equal(err.code, E_UNREACHABLE);
    struct listen_opts o = {.free_bind = true};
    struct net_listener *far = listen_on("192.0.2.1:0", &o, &s, &err);
    assert_non_null(far);
    net_listener_free(far);
    net_listener_free(n);
}

static void workers_share_a_port(void **state)
{
    struct sink s[2] = {{0}};
    struct error err = {0};
    struct listen_opts o = {.reuse_port = true, .backlog = 10};
    char text[ADDR_TEXT_MAX];
    int fds[64];
    struct net_listener *a = listen_on("127.0.0.1:0", &o, &s[0], &err);
    addr_text(net_listener_addr(a), text);
    struct net_listener *b = listen_on(text, &o, &s[1], &err);
    assert_non_null(b);
    net_listener_start(a);
    net_listener_start(b);
    for (int i = 0; i < 64; i++) {
        fds[i] = dial(net_listener_addr(a));
        loop_turn(l, 1000000);
    }
    turn_until(l, s[0].n + s[1].n == 64);
    assert_true(s[0].n > 0 && s[1].n > 0);
    for (int i = 0; i < 64; i++)
        close(fds[i]);
    net_listener_free(a);
    net_listener_free(b);
}

static void loops_share_a_descriptor(void **state)
{
    struct sink s[2] = {{0}};
    struct error err = {0};
    struct loop *other = loop_new(NULL);
    struct net_listener *a = listen_on("127.0.0.1:0", NULL, &s[0], &err);
    struct net_listener *b =
        net_listener_from_fd(other, dup(net_listener_fd(a)), count_and_close, &s[1], &err);
    assert_non_null(b);
    assert_true(addr_eq(net_listener_addr(a), net_listener_addr(b)));
    struct net_listener *c =
        net_listener_from_fd(l, dup(net_listener_fd(a)), count_and_close, &s[0], &err);
    net_listener_free(a); /* the dup'ed ones go on */
    net_listener_start(c);
    net_listener_start(b);
    int fd = dial(net_listener_addr(b));
    loop_turn(other, 1000000000);
    assert_int_equal(s[1].n, 1);
    turn_quiet(l);
    assert_int_equal(s[0].n, 0);
    close(fd);
    net_listener_free(b);
    net_listener_free(c);
    loop_turn(other, 0);
    loop_free(other);
    assert_null(net_listener_from_fd(l, socket(AF_INET, SOCK_STREAM, 0), count_and_close, s, &err));
    assert_int_equal(err.code, E_INVALID);
}

static void unix_sockets_and_what_is_left_of_them(void **state)
{
    struct sink s = {0};
    struct error err = {0};
    char path[100], text[ADDR_TEXT_MAX];
    struct listen_opts o = {.unix_mode = 0620};
    struct stat st;
    snprintf(path, sizeof path, "/tmp/weft_listener_test_%d.sock", (int)getpid());
    struct net_listener *n = listen_on(path, &o, &s, &err);
    assert_non_null(n);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0620);
    /* In use: left alone. */
    assert_null(listen_on(path, NULL, &s, &err));
    assert_int_equal(err.code, E_EXISTS);
    /* Its process died: the file stays, nobody listens. */
    int fd = dup(net_listener_fd(n));
    char kept[110];
    snprintf(kept, sizeof kept, "%s.kept", path);
    rename(path, kept);
    net_listener_free(n);
    rename(kept, path);
    close(fd);
    assert_int_equal(access(path, F_OK), 0);
    o.keep_stale = true;
    assert_null(listen_on(path, &o, &s, &err));
    o.keep_stale = false;
    n = listen_on(path, &o, &s, &err);
    assert_non_null(n);
    net_listener_start(n);
    fd = dial(net_listener_addr(n));
    turn_until(l, s.n == 1);
    close(fd);
    net_listener_free(n);
    assert_int_equal(access(path, F_OK), -1);
    /* Something else of that name is not removed. */
    fd = open(path, O_CREAT | O_WRONLY, 0600);
    close(fd);
    assert_null(listen_on(path, NULL, &s, &err));
    assert_int_equal(access(path, F_OK), 0);
    unlink(path);
    /* Without a file. */
    snprintf(path, sizeof path, "@weft_listener_test_%d", (int)getpid());
    n = listen_on(path, NULL, &s, &err);
    assert_non_null(n);
    assert_string_equal(addr_text(net_listener_addr(n), text).p, path);
    net_listener_start(n);
    fd = dial(net_listener_addr(n));
    turn_until(l, s.n == 2);
    close(fd);
    net_listener_free(n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, up, down)
        T(a_burst_comes_in_one_turn),
        T(stopping_leaves_the_socket_bound),
        T(out_of_descriptors),
        T(errors_name_the_address),
        T(workers_share_a_port),
        T(loops_share_a_descriptor),
        T(unix_sockets_and_what_is_left_of_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
