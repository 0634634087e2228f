/* The way out of a mesh network and the forwarder, for real: a workload reaches the host's network,
 * not its loopback, not cloud metadata; as whoever runs the test. */
#include "agent/uplink.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "agent/dns_msg.h"
#include "agent/forward.h"
#include "agent/mesh_net.h"

/* ---- a server on the host: gives back what it got, once the client has ended ---- */

static int listen_on(const char *ip, struct addr *at)
{
    struct sockaddr_storage ss;
    socklen_t n = sizeof ss;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    addr_ip(at, sv_of(ip), 0);
    assert_int_equal(bind(fd, &at->sa, at->len), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&ss, &n), 0);
    addr_from_sockaddr(at, (struct sockaddr *)&ss, n);
    return fd;
}

static pid_t serve(int listener)
{
    pid_t pid = fork();
    if (pid)
        return pid;
    static char all[1 << 20];
    for (;;) {
        int c = accept(listener, NULL, NULL);
        size_t n = 0;
        ssize_t k;
        while ((k = read(c, all + n, sizeof all - n)) > 0)
            n += (size_t)k;
        for (size_t i = 0; i < n; i += (size_t)k)
            if ((k = write(c, all + i, n - i)) <= 0)
                break;
        close(c);
    }
}

static int dial(const struct addr *to)
{
    struct timeval wait = {8, 0};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    if (connect(fd, &to->sa, to->len) == 0)
        return fd;
    close(fd);
    return -1;
}

/* Sends, ends, and reads to the end: the number of bytes that came back right, or a negative one.
 */
static long echo(const struct addr *to, size_t n)
{
    int fd = dial(to);
    size_t sent = 0, got = 0;
    ssize_t k;
    char chunk[4096];
    if (fd < 0)
        return -1;
    while (sent < n) {
        size_t m = n - sent < sizeof chunk ? n - sent : sizeof chunk;
        for (size_t i = 0; i < m; i++)
            chunk[i] = (char)((sent + i) % 251);
        k = write(fd, chunk, m);
        if (k <= 0)
            break;
        sent += (size_t)k;
    }
    shutdown(fd, SHUT_WR);
    while ((k = read(fd, chunk, sizeof chunk)) > 0)
        for (ssize_t i = 0; i < k; i++, got++)
            if (chunk[i] != (char)(got % 251))
                return -3;
    close(fd);
    return k < 0 || sent < n ? -2 : (long)got; /* a reset may show when writing or when reading */
}

static bool host_address(char out[64])
{
    struct ifaddrs *all, *i;
    bool found = false;
    if (getifaddrs(&all))
        return false;
    for (i = all; i && !found; i = i->ifa_next) {
        struct addr a;
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET)
            continue;
        addr_from_sockaddr(&a, i->ifa_addr, sizeof(struct sockaddr_in));
        char text[ADDR_TEXT_MAX];
        sv ip = addr_ip_text(&a, text);
        found = !addr_is_loopback(&a) && !sv_starts(ip, SV("169.254."));
        snprintf(out, 64, "%.*s", SV_ARG(ip));
    }
    freeifaddrs(all);
    return found;
}

/* ---- from a workload ---- */

static int asks_dns(void)
{
    uint8_t p[600];
    struct dns_query q;
    struct addr a;
    struct timeval wait = {12, 0};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    size_t n = dns_query_write(p, sizeof p, 3, SV("localhost"), DNS_A, false);
    addr_ip(&a, SV("203.0.113.9"), 53); /* any server: the host's answer */
    if (dns_query_parse(&q, p, n) || connect(fd, &a.sa, a.len) || send(fd, p, n, 0) < 0)
        return 20;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    ssize_t got = recv(fd, p, sizeof p, 0);
    close(fd);
    return got < 12 || dns_response_check(p, (size_t)got, 3, &q) ? 21 : 0;
}

static int in_workload(const char *mesh, const struct addr *open, const struct addr *closed)
{
    struct error e = {0};
    struct addr self, metadata;
    struct mesh_net *m = mesh_net_join(mesh, &e);
    if (!m || mesh_net_address(m, &self, &e) || mesh_net_enter_new(m, &self, &e)) {
        fprintf(stderr, "%s\n", e.msg);
        return 100;
    }
    if (echo(open, 5) != 5)
        return 1;
    long n = echo(open, 700000);
    if (n != 700000) {
        fprintf(stderr, "700000 bytes: %ld (%s)\n", n, strerror(errno));
        return 2;
    }
    n = echo(closed, 5);
    if (n >= 0) { /* nobody listens there: the connection breaks */
        fprintf(stderr, "closed port: %ld\n", n);
        return 3;
    }
    addr_ip(&metadata, SV("169.254.169.254"), 80);
    if (echo(&metadata, 5) >= 0)
        return 4;
    return asks_dns();
}

static void test_uplink(void **state)
{
    char ip[64], mesh[32];
    struct addr open, closed;
    int status;
    if (!host_address(ip))
        skip();
    snprintf(mesh, sizeof mesh, "up-%d", (int)getpid());
    int listener = listen_on(ip, &open), other = listen_on(ip, &closed);
    close(other);
    pid_t server = serve(listener), app = fork();
    if (app == 0)
        _exit(in_workload(mesh, &open, &closed));
    assert_int_equal(waitpid(app, &status, 0), app);
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    close(listener);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- the forwarder alone ---- */

static void test_forward(void **state)
{
    struct addr server, offered;
    struct error e = {0};
    int listener = listen_on("127.0.0.1", &server), status;
    int fd = listen_on("127.0.0.1", &offered);
    struct loop *l = loop_new(NULL);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    struct forward *f = forward_new(&(struct forward_opts){.loop = l, .fd = fd, .to = server}, &e);
    assert_non_null(f);
    /* One of them is kept busy by the client that stays. */
    pid_t back = serve(listener), second = serve(listener), app = fork();
    if (app == 0) {
        int idle = dial(&offered); /* stays open while others work */
        _exit(idle < 0 || echo(&offered, 0) != 0 || echo(&offered, 1) != 1 ||
              echo(&offered, 900000) != 900000);
    }
    for (int i = 0; waitpid(app, &status, WNOHANG) == 0 && i < 20000; i++)
        loop_turn(l, 5000000);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    for (int i = 0; i < 12000 && forward_conns(f); i++)
        loop_turn(l, 5000000);
    assert_int_equal(forward_conns(f), 0);
    kill(back, SIGKILL);
    kill(second, SIGKILL);
    waitpid(back, NULL, 0);
    waitpid(second, NULL, 0);
    close(listener);
    forward_free(f);
    loop_turn(l, 0);
    loop_free(l);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forward),
                                       cmocka_unit_test(test_uplink)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
