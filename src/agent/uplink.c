#include "agent/uplink.h"

#include <errno.h>
#include <nftables/libnftables.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "agent/dns_proxy.h"
#include "agent/forward.h"
#include "agent/mesh_net_wire.h"

#define DNS_PORT    53
#define SERVERS_MAX 8

/* ---- the process ---- */

/* Where a captured connection was going, if that is a place to go to. */
static bool target(void *arg, struct conn *c, struct addr *to)
{
    if (conn_original_dst(c))
        return false;
    *to = c->original_dst;
    if (to->sa.sa_family != AF_INET)
        return false;
    uint32_t ip = ntohl(to->in4.sin_addr.s_addr);
    return ip >> 24 != 0 && ip >> 24 != 127 && ip >> 16 != 0xa9fe && ip >> 28 < 0xe;
}

static uint32_t host_servers(struct addr out[SERVERS_MAX])
{
    FILE *f = fopen("/etc/resolv.conf", "re");
    char line[512], ip[64];
    uint32_t n = 0;

    while (f && fgets(line, sizeof line, f) && n < SERVERS_MAX) {
        if (sscanf(line, " nameserver %63s", ip) == 1 && addr_ip(&out[n], sv_of(ip), DNS_PORT) == 0)
            n++;
    }
    if (f)
        fclose(f);
    if (n == 0) /* as resolvers do */
        addr_ip(&out[n++], SV("127.0.0.1"), DNS_PORT);
    return n;
}

static void on_control(struct io *io, uint32_t events)
{
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        loop_stop(io->loop);
}

static int run(int control)
{
    struct addr servers[SERVERS_MAX];
    struct error err = {0};
    struct io io = {.fd = -1};
    int fds[3];
    char byte;

    if (mesh_net_recv(control, &byte, 1, fds, 3) != 1 || fds[2] < 0)
        return 0; /* the mesh did not come to be */
    struct loop *l = loop_new(NULL);
    struct dns_proxy_opts dns = {.loop = l,
                                 .has_fds = true,
                                 .udp_fd = fds[1],
                                 .tcp_fd = fds[2],
                                 .upstreams = servers,
                                 .n_upstreams = host_servers(servers)};
    struct forward *f =
        forward_new(&(struct forward_opts){.loop = l, .fd = fds[0], .target = target}, &err);
    struct dns_proxy *d = dns_proxy_new(&dns, &err);
    if (f && d && io_add(l, &io, control, on_control) == 0)
        loop_run(l);
    forward_free(f);
    dns_proxy_free(d);
    loop_free(l);
    return 0;
}

pid_t uplink_start(int *control)
{
    int pair[2];
    pid_t parent = getpid(), pid;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return error_from_errno(errno);
    pid = fork();
    if (pid < 0) {
        close(pair[0]);
        close(pair[1]);
        return error_from_errno(errno);
    }
    if (pid == 0) {
        close(pair[0]);
        prctl(PR_SET_NAME, "weft-uplink");
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGCHLD, SIG_DFL);
        _exit(getppid() == parent ? run(pair[1]) : 0);
    }
    close(pair[1]);
    *control = pair[0];
    return pid;
}

/* ---- in the mesh namespace ---- */

static int make_socket(int type, uint16_t port, struct error *err)
{
    struct addr a;
    int one = 1, fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    addr_ip(&a, SV(MESH_NET_BASE), port);
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd >= 0 && bind(fd, &a.sa, a.len) == 0 && (type == SOCK_DGRAM || listen(fd, 1024) == 0))
        return fd;
    error_set(err, error_from_errno(errno), "way out of the mesh network, port %u: %s", port,
              strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

static int apply_rules(struct error *err)
{
    struct nft_ctx *ctx = nft_ctx_new(NFT_CTX_DEFAULT);
    char rules[1024];
    int rc = 0;

    if (!ctx)
        return error_set(err, E_NO_MEMORY, "nftables: no context");
    snprintf(rules, sizeof rules,
             "table ip weft_uplink {\n"
             "  chain prerouting {\n"
             "    type nat hook prerouting priority -100; policy accept;\n"
             "    iifname != \"" MESH_NET_BRIDGE "\" return\n"
             "    ip daddr " MESH_NET_BASE "/%d return\n"
             "    udp dport 53 redirect to :%d\n"
             "    meta l4proto tcp redirect to :%d\n"
             "  }\n"
             "}\n",
             MESH_NET_PREFIX, DNS_PORT, UPLINK_PORT);
    nft_ctx_buffer_output(ctx);
    nft_ctx_buffer_error(ctx);
    if (nft_run_cmd_from_buffer(ctx, rules) != 0)
        rc = error_set(err, E_IO, "way out of the mesh network: nftables refused the rules: %s",
                       nft_ctx_get_error_buffer(ctx));
    nft_ctx_free(ctx);
    return rc;
}

int uplink_connect(int control, struct error *err)
{
    int fds[3] = {make_socket(SOCK_STREAM, UPLINK_PORT, err), -1, -1}, rc = 0;

    if (fds[0] >= 0)
        fds[1] = make_socket(SOCK_DGRAM, DNS_PORT, err);
    if (fds[1] >= 0)
        fds[2] = make_socket(SOCK_STREAM, DNS_PORT, err);
    rc = fds[2] < 0 ? E_IO : apply_rules(err);
    if (!rc && mesh_net_send(control, "u", 1, fds, 3) != 0)
        rc = error_set(err, E_CLOSED, "way out of the mesh network: its process is gone");
    for (int i = 0; i < 3; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    return rc;
}
