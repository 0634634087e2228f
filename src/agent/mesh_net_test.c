/* The mesh network for real: namespaces, links, addresses, rules; as whoever runs the test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "agent/intercept.h"
#include "agent/mesh_net.h"

static char mesh[32];

static int setup(void **state)
{
    snprintf(mesh, sizeof mesh, "test-%d", (int)getpid());
    return 0;
}

static int connect_to(const char *ip, uint16_t port)
{
    struct addr a;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(addr_ip(&a, sv_of(ip), port), 0);
    if (connect(fd, &a.sa, a.len) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static int listen_on(uint16_t port)
{
    struct addr a;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    assert_int_equal(addr_ip(&a, SV("0.0.0.0"), port), 0);
    assert_int_equal(bind(fd, &a.sa, a.len), 0);
    assert_int_equal(listen(fd, 8), 0);
    return fd;
}

/* Runs body in a child that is a workload of its own; its exit code is the result. */
static int as_workload(const char *name, int (*body)(const struct addr *self))
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        struct error err = {0};
        struct addr a;
        struct mesh_net *m = mesh_net_join(mesh, &err);
        if (!m || mesh_net_claim_name(mesh, name, &err) || mesh_net_address(m, &a, &err) ||
            mesh_net_enter_new(m, &a, &err)) {
            fprintf(stderr, "%s: %s\n", name, err.msg);
            _exit(100);
        }
        status = body(&a);
        mesh_net_release_name(mesh, name);
        mesh_net_leave(m);
        _exit(status);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* From a workload to a socket in the mesh network that a process outside listens on. */
static int reach_gateway(const struct addr *self)
{
    int fd = connect_to("10.97.0.1", 15999);
    if (fd < 0)
        return 1;
    close(fd);
    return 0;
}

/* The body runs `times` as a workload while somebody listens on the gateway's port. */
static void with_listener(uint16_t port, const char *name, int (*body)(const struct addr *self),
                          int times)
{
    struct error err = {0};
    struct mesh_net *m = mesh_net_join(mesh, &err);
    struct addr a;
    int fd;

    if (!m)
        fail_msg("%s", err.msg);
    a = *mesh_net_gateway(m);
    addr_set_port(&a, port);
    assert_int_equal(mesh_net_listen(m, &a, &fd, &err), 0);
    for (int i = 0; i < times; i++)
        assert_int_equal(as_workload(name, body), 0);
    close(fd);
    mesh_net_leave(m);
}

static void test_reach_control_plane(void **state)
{
    with_listener(15999, "reach", reach_gateway, 1);
}

/* What a neighbour learned of the gateway stays true when others come and go. */
static int gateway_mac(const struct addr *self)
{
    char line[200];
    bool ok = false;
    int fd = connect_to("10.97.0.1", 15998);
    FILE *f = fopen("/proc/net/arp", "re");

    while (f && fgets(line, sizeof line, f))
        ok |= strstr(line, "10.97.0.1 ") && strstr(line, "02:00:0a:61:00:01");
    if (f)
        fclose(f);
    if (fd >= 0)
        close(fd);
    return fd >= 0 && ok ? 0 : 1;
}

static void test_gateway_keeps_its_hardware_address(void **state)
{
    with_listener(15998, "mac", gateway_mac, 3);
}

static int two_addresses(const struct addr *self)
{
    char text[ADDR_TEXT_MAX];
    return sv_starts(addr_ip_text(self, text), SV("10.97.0.")) ? 0 : 1;
}

static void test_address(void **state)
{
    assert_int_equal(as_workload("address", two_addresses), 0);
}

/* Outbound TCP lands at the proxy's port with its original destination; marked sockets do not. */
static int intercepted(const struct addr *self)
{
    struct intercept i = {.outbound_port = 15001, .inbound_port = 15006, .dns_port = 15053};
    struct error err = {0};
    struct addr seen = {0};
    socklen_t len = sizeof seen.in6;
    int proxy = listen_on(15001), app, got, mark = INTERCEPT_MARK;
    char text[ADDR_TEXT_MAX];

    if (intercept_apply(&i, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    app = connect_to("240.240.1.2", 80);
    if (app < 0)
        return 2;
    got = accept(proxy, NULL, NULL);
    if (got < 0 || getsockopt(got, SOL_IP, 80 /* SO_ORIGINAL_DST */, &seen.sa, &len) != 0)
        return 3;
    seen.len = len;
    if (!sv_eq_c(addr_text(&seen, text), "240.240.1.2:80"))
        return 4;
    close(app);
    close(got);
    /* Marked: straight to where it was going, here the workload's own loopback. */
    app = socket(AF_INET, SOCK_STREAM, 0);
    if (setsockopt(app, SOL_SOCKET, SO_MARK, &mark, sizeof mark) != 0)
        return 5;
    close(app);
    if (intercept_apply(&i, &err) || intercept_remove(&err))
        return 6;
    return 0;
}

static void test_intercept(void **state)
{
    assert_int_equal(as_workload("intercept", intercepted), 0);
}

static void test_rules(void **state)
{
    struct error err = {0};
    uint16_t in[] = {9000}, out[] = {5432, 6379};
    sv cidrs[] = {SV("10.0.0.0/8"), SV("fd00::/8")}, bad[] = {SV("10.0.0.0/8; flush ruleset")};
    struct intercept i = {.outbound_port = 15001,
                          .inbound_port = 15006,
                          .dns_port = 15053,
                          .exclude_inbound_ports = in,
                          .n_exclude_inbound_ports = 1,
                          .exclude_outbound_ports = out,
                          .n_exclude_outbound_ports = 2,
                          .exclude_outbound_cidrs = cidrs,
                          .n_exclude_outbound_cidrs = 2};
    struct strbuf s;

    strbuf_init(&s, 65536);
    assert_int_equal(intercept_rules(&i, &s, &err), 0);
    assert_non_null(strstr(s.p, "ip daddr 10.0.0.0/8 return"));
    assert_non_null(strstr(s.p, "ip6 daddr fd00::/8 return"));
    assert_non_null(strstr(s.p, "tcp dport { 5432, 6379 } return"));
    assert_non_null(strstr(s.p, "redirect to :15006"));
    strbuf_reset(&s);
    i.exclude_outbound_cidrs = bad;
    i.n_exclude_outbound_cidrs = 1;
    assert_int_equal(intercept_rules(&i, &s, &err), E_INVALID);
    strbuf_fini(&s);
}

static void test_names(void **state)
{
    struct error err = {0};
    assert_int_equal(mesh_net_claim_name(mesh, "one", &err), 0);
    assert_int_equal(mesh_net_claim_name(mesh, "one", &err), E_EXISTS);
    mesh_net_release_name(mesh, "one");
    assert_int_equal(mesh_net_claim_name(mesh, "one", &err), 0);
    mesh_net_release_name(mesh, "one");
    assert_int_equal(mesh_net_claim_name(mesh, "../x", &err), E_INVALID);
    assert_int_equal(mesh_net_claim_name(mesh, "", &err), E_INVALID);
    assert_int_equal(mesh_net_enter_workload(mesh, "none", &err), E_NOT_FOUND);
}

/* The holder ends with its last user and leaves nothing, also of what others left that were killed;
 * who joins at that moment is served all the same. */
static void test_nothing_left(void **state)
{
    struct error err = {0};
    char dir[MESH_NET_PATH_MAX], path[MESH_NET_PATH_MAX + 40];
    struct mesh_net *m = mesh_net_join(mesh, &err);
    FILE *f;

    assert_non_null(m);
    assert_int_equal(mesh_net_dir(mesh, dir, &err), 0);
    snprintf(path, sizeof path, "%s/workloads/killed", dir);
    f = fopen(path, "w");
    assert_non_null(f);
    fclose(f);
    for (int i = 0; i < 5; i++) {
        mesh_net_leave(m);
        usleep(i * 2000);
        m = mesh_net_join(mesh, &err);
        if (!m)
            fail_msg("%s", err.msg);
    }
    mesh_net_leave(m);
    for (int i = 0; i < 1200 && access(dir, F_OK) == 0; i++)
        usleep(50000);
    assert_int_not_equal(access(dir, F_OK), 0);
    assert_null(mesh_net_find(mesh, &err));
    assert_int_not_equal(access(dir, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_address),
        cmocka_unit_test(test_reach_control_plane),
        cmocka_unit_test(test_gateway_keeps_its_hardware_address),
        cmocka_unit_test(test_intercept),
        cmocka_unit_test(test_nothing_left),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
