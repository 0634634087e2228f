/* The sidecar's DNS where it belongs: in a workload's namespaces, questions captured by the rules,
 * as an application asks them; as whoever runs the test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "agent/dns_msg.h"
#include "agent/dns_proxy.h"
#include "agent/intercept.h"
#include "agent/mesh_net.h"
#include "api/istio.pb.h"
#include "net/udp.h"

#define LISTEN 15053

/* ---- the sidecar, and a server outside that it passes questions on to ---- */

struct server {
    struct udp_sock *udp;
    int asked;
};

static void on_question(void *user, const char *p, size_t n, const struct addr *from)
{
    struct server *s = user;
    struct dns_query q;
    struct dns_writer w;
    struct addr a;
    uint8_t r[600];
    s->asked++;
    if (dns_query_parse(&q, p, n))
        return;
    addr_ip(&a, SV("192.0.2.1"), 0);
    dns_write_begin(&w, &q, r, 512, DNS_OK, false);
    dns_write_addr(&w, NULL, &a, 5);
    udp_send(s->udp, from, r, dns_write_end(&w));
}

static struct dns_table *make_table(void)
{
    struct error e = {0};
    struct strbuf out;
    sv ip = SV("10.97.0.77");
    struct istio_NameTable_NameInfo info = {.ips = {&ip, 1},
                                            .registry = SV("Kubernetes"),
                                            .shortname = SV("flaskapp"),
                                            .namespace = SV("books")};
    struct istio_NameTable_TableEntry e1 = {SV("flaskapp.books.svc.cluster.local"), &info};
    const struct istio_NameTable_TableEntry *rows[] = {&e1};
    struct istio_NameTable t = {.table = {rows, 1}};
    strbuf_init(&out, 65536);
    pb_encode(&istio_NameTable_pb, &t, &out);
    struct dns_table *r =
        dns_table_new(strbuf_sv(&out), SV("books"), SV("books.svc.cluster.local"), &e);
    strbuf_fini(&out);
    return r;
}

/* Serves until the application (child) has ended; its exit code. */
static int serve(pid_t app, const struct addr *self, int ready)
{
    struct error e = {0};
    struct loop *l = loop_new(NULL);
    struct server outside = {0};
    struct addr server = *self, listen[2];
    int status, n_listen = 2;
    addr_set_port(&server, 53);
    outside.udp = udp_new(l, &server, on_question, &outside, &e);
    addr_ip(&listen[0], SV("127.0.0.1"), LISTEN);
    addr_ip(&listen[1], SV("::1"), LISTEN);
    struct dns_proxy_opts o = {.loop = l,
                               .listen = listen,
                               .n_listen = n_listen,
                               .upstreams = &server,
                               .n_upstreams = 1,
                               .own_suffix = SV("cluster.local"),
                               .mark = INTERCEPT_MARK};
    struct dns_proxy *d = dns_proxy_new(&o, &e);
    if (!outside.udp || !d) {
        fprintf(stderr, "%s\n", e.msg);
        kill(app, SIGKILL);
        return 99;
    }
    dns_proxy_set_table(d, make_table());
    if (write(ready, "x", 1) != 1)
        return 98;
    while (waitpid(app, &status, WNOHANG) == 0)
        loop_turn(l, 5000000);
    if (outside.asked != 2)
        fprintf(stderr, "the server outside was asked %d times\n", outside.asked);
    dns_proxy_free(d);
    udp_free(outside.udp);
    loop_turn(l, 0);
    loop_free(l);
    return WIFEXITED(status) ? (outside.asked == 2 ? WEXITSTATUS(status) : 97) : 96;
}

/* ---- an application ---- */

/* Last byte of the first address, or a negative number. */
static int ask(const char *server, const char *name, int type)
{
    uint8_t p[600];
    struct dns_query q;
    struct addr a;
    struct timeval wait = {3, 0};
    bool tcp = type == SOCK_STREAM;
    size_t n = dns_query_write(p + 2, 512, 7, sv_of(name), DNS_A, false);
    if (addr_ip(&a, sv_of(server), 53) || dns_query_parse(&q, p + 2, n))
        return -1;
    p[0] = (uint8_t)(n >> 8);
    p[1] = (uint8_t)n;
    /* Connected, as resolvers do: an answer from another address would not be seen. */
    int fd = socket(a.sa.sa_family, type, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    if (connect(fd, &a.sa, a.len) || send(fd, tcp ? p : p + 2, tcp ? n + 2 : n, 0) < 0) {
        close(fd);
        return -2;
    }
    ssize_t got = recv(fd, p, sizeof p, 0);
    close(fd);
    const uint8_t *m = tcp ? p + 2 : p;
    if (got < 0)
        return -3;
    got -= tcp ? 2 : 0;
    if (got < 12 || dns_response_check(m, (size_t)got, 7, &q))
        return -4;
    return dns_rcode_of(m) == DNS_OK && m[7] ? m[got - 1] : -10 - (int)dns_rcode_of(m);
}

static int application(void)
{
    static const char *const servers[] = {"10.97.0.1", "127.0.0.53", "240.240.1.2", "::1"};
    for (int i = 0; i < 4; i++) {
        for (int tcp = 0; tcp < 2; tcp++) {
            int r = ask(servers[i], "flaskapp.books", tcp ? SOCK_STREAM : SOCK_DGRAM);
            if (r != 77) {
                fprintf(stderr, "%s %s: %d\n", servers[i], tcp ? "tcp" : "udp", r);
                return 1;
            }
        }
    }
    if (ask("10.97.0.1", "nobody.books.svc.cluster.local", SOCK_DGRAM) != -10 - DNS_NXDOMAIN)
        return 2;
    /* Passed on by a marked socket, which the rules let out. */
    if (ask("10.97.0.1", "www.example.org", SOCK_DGRAM) != 1)
        return 3;
    if (ask("127.0.0.53", "www.example.com", SOCK_DGRAM) != 1)
        return 4;
    return 0;
}

static int in_workload(const char *mesh)
{
    struct intercept i = {.outbound_port = 15001, .inbound_port = 15006, .dns_port = LISTEN};
    struct error e = {0};
    struct addr self;
    struct mesh_net *m = mesh_net_join(mesh, &e);
    int go[2];
    char c;
    if (!m || mesh_net_address(m, &self, &e) || mesh_net_enter_new(m, &self, &e) ||
        intercept_apply(&i, &e) || pipe(go)) {
        fprintf(stderr, "%s\n", e.msg);
        return 100;
    }
    pid_t app = fork();
    if (app == 0)
        _exit(read(go[0], &c, 1) == 1 ? application() : 95);
    int code = serve(app, &self, go[1]);
    mesh_net_leave(m);
    return code;
}

static void test_capture(void **state)
{
    char mesh[32];
    int status;
    snprintf(mesh, sizeof mesh, "dns-%d", (int)getpid());
    pid_t pid = fork();
    if (pid == 0)
        _exit(in_workload(mesh));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_capture)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
