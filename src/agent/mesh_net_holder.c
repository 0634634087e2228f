/* The process that keeps a mesh's namespaces. It does little, in a plain poll loop, and ends by
 * itself. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "agent/mesh_net_wire.h"
#include "agent/netlink.h"
#include "agent/uplink.h"

#define USERS_MAX     1024
#define ADDRESSES_MAX 65000
#define LINGER_MS                                                                                  \
    200 /* between the last user's leaving and the end, so that a successor finds it */

struct user {
    int fd;
    uint32_t address; /* host part, 0 none */
};

static struct user users[USERS_MAX];
static int n_users;
static uint8_t taken[ADDRESSES_MAX + 2];
static uint32_t next_address = 2;

int mesh_net_send(int fd, const void *p, size_t n, const int *fds, int n_fds)
{
    struct iovec iov = {(void *)p, n};
    union {
        struct cmsghdr h;
        char room[CMSG_SPACE(4 * sizeof(int))];
    } c;
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

    if (n_fds) {
        memset(&c, 0, sizeof c);
        m.msg_control = &c;
        m.msg_controllen = CMSG_SPACE((size_t)n_fds * sizeof(int));
        c.h.cmsg_level = SOL_SOCKET;
        c.h.cmsg_type = SCM_RIGHTS;
        c.h.cmsg_len = CMSG_LEN((size_t)n_fds * sizeof(int));
        memcpy(CMSG_DATA(&c.h), fds, (size_t)n_fds * sizeof(int));
    }
    return sendmsg(fd, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

ssize_t mesh_net_recv(int fd, void *p, size_t n, int *fds, int max)
{
    struct iovec iov = {p, n};
    union {
        struct cmsghdr h;
        char room[CMSG_SPACE(4 * sizeof(int))];
    } c;
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof c};
    ssize_t got;

    for (int i = 0; i < max; i++)
        fds[i] = -1;
    do
        got = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return -errno;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
        int k = 0;
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t at = 0; at + sizeof(int) <= h->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
            int got_fd;
            memcpy(&got_fd, CMSG_DATA(h) + at, sizeof got_fd);
            if (k < max)
                fds[k++] = got_fd;
            else
                close(got_fd);
        }
    }
    return got;
}

/* In the user namespace the user is itself: its files stay its files. */
static int map_self(uid_t uid, gid_t gid, struct error *err)
{
    const struct {
        const char *path;
        unsigned id;
    } maps[] = {{"/proc/self/uid_map", uid}, {"/proc/self/gid_map", gid}};
    int fd = open("/proc/self/setgroups", O_WRONLY | O_CLOEXEC);

    if (fd >= 0) {
        if (write(fd, "deny", 4) != 4)
            return error_set(err, E_IO, "/proc/self/setgroups: %s", strerror(errno));
        close(fd);
    }
    for (int i = 0; i < 2; i++) {
        char line[64];
        int n = snprintf(line, sizeof line, "%u %u 1\n", maps[i].id, maps[i].id);
        fd = open(maps[i].path, O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, line, (size_t)n) != n)
            return error_set(err, E_IO, "%s: %s", maps[i].path, strerror(errno));
        close(fd);
    }
    return 0;
}

static int make_network(struct error *err)
{
    static const uint8_t bridge_mac[6] = MESH_NET_BRIDGE_MAC;
    uid_t uid = geteuid();
    gid_t gid = getegid();
    struct addr gateway;
    int rc;

    if (unshare(uid == 0 ? CLONE_NEWNET : CLONE_NEWUSER | CLONE_NEWNET) != 0)
        return error_set(err, E_DENIED,
                         "no namespace of one's own can be made here: %s (as root it works; for "
                         "users the kernel must allow user namespaces)",
                         strerror(errno));
    rc = uid == 0 ? 0 : map_self(uid, gid, err);
    rc = rc ? rc : netlink_up("lo", err);
    rc = rc ? rc : netlink_bridge(MESH_NET_BRIDGE, bridge_mac, err);
    rc = rc ? rc : addr_ip(&gateway, SV(MESH_NET_BASE), 0);
    rc = rc ? rc : netlink_address(MESH_NET_BRIDGE, &gateway, MESH_NET_PREFIX, err);
    return rc ? rc : netlink_up(MESH_NET_BRIDGE, err);
}

static int open_socket(const char *dir, struct error *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    snprintf(a.sun_path, sizeof a.sun_path, "%.90s/net.sock", dir);
    unlink(a.sun_path); /* the caller holds the lock: whatever is there is dead */
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || chmod(a.sun_path, 0600) != 0 ||
        listen(fd, 64) != 0)
        return error_set(err, E_IO, "%s: %s", a.sun_path, strerror(errno)), -1;
    return fd;
}

static uint32_t take_address(void)
{
    for (uint32_t tries = 0; tries < ADDRESSES_MAX; tries++) {
        uint32_t i = next_address++;
        if (next_address >= ADDRESSES_MAX)
            next_address = 2;
        if (!taken[i]) {
            taken[i] = 1;
            return i;
        }
    }
    return 0;
}

static void answer_address(struct user *u, struct mesh_net_answer *a)
{
    struct in_addr base;

    if (!u->address)
        u->address = take_address();
    if (!u->address) {
        a->code = E_LIMIT;
        snprintf(a->text, sizeof a->text, "the mesh network has no free address");
        return;
    }
    addr_ip(&a->addr, SV(MESH_NET_BASE), 0);
    base = a->addr.in4.sin_addr;
    a->addr.in4.sin_addr.s_addr = htonl(ntohl(base.s_addr) - 1 + u->address);
}

static int answer_listen(const struct addr *at, struct mesh_net_answer *a)
{
    int one = 1, fd = socket(at->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, &at->sa, at->len) != 0 || listen(fd, 4096) != 0) {
        char text[ADDR_TEXT_MAX];
        a->code = error_from_errno(errno);
        snprintf(a->text, sizeof a->text, "%.*s in the mesh network: %s",
                 SV_ARG(addr_text(at, text)), strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

/* False when the user is gone. */
static bool serve(struct user *u, const int *namespaces)
{
    struct mesh_net_request r;
    struct mesh_net_answer a = {0};
    int fds[2] = {-1, -1}, n_fds = 0, extra[4];
    ssize_t n = mesh_net_recv(u->fd, &r, sizeof r, extra, 4);

    for (int i = 0; i < 4; i++) {
        if (extra[i] >= 0)
            close(extra[i]);
    }
    if (n == -EAGAIN)
        return true;
    if (n != (ssize_t)sizeof r || r.addr.len > sizeof r.addr.in6 ||
        (r.addr.len && r.addr.sa.sa_family == AF_UNIX)) /* its path may be elsewhere */
        return false;
    switch (r.op) {
    case MESH_NET_HELLO:
        fds[0] = namespaces[0];
        fds[1] = namespaces[1];
        n_fds = namespaces[1] < 0 ? 1 : 2;
        addr_ip(&a.addr, SV(MESH_NET_BASE), 0);
        break;
    case MESH_NET_ADDRESS:
        answer_address(u, &a);
        break;
    case MESH_NET_LISTEN:
        fds[0] = answer_listen(&r.addr, &a);
        n_fds = fds[0] >= 0;
        break;
    default:
        a.code = E_INVALID;
    }
    n = mesh_net_send(u->fd, &a, sizeof a, fds, n_fds);
    if (r.op == MESH_NET_LISTEN && fds[0] >= 0)
        close(fds[0]);
    return n == 0;
}

static void accept_user(int listener)
{
    struct ucred who;
    socklen_t len = sizeof who;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return;
    /* The directory is private already; this is the second lock on the door. In a user namespace
     * other users' ids read as the overflow id. */
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) != 0 ||
        (who.uid != geteuid() && who.uid != 0) || n_users == USERS_MAX) {
        close(fd);
        return;
    }
    users[n_users++] = (struct user){.fd = fd};
}

static void drop_user(int i)
{
    close(users[i].fd);
    if (users[i].address)
        taken[users[i].address] = 0;
    users[i] = users[--n_users];
}

static void loop(int listener, const int *namespaces)
{
    static struct pollfd p[USERS_MAX + 1];
    bool had_user = false;

    for (;;) {
        int n;
        p[0] = (struct pollfd){.fd = listener, .events = POLLIN};
        for (int i = 0; i < n_users; i++)
            p[i + 1] = (struct pollfd){.fd = users[i].fd, .events = POLLIN};
        n = poll(p, (nfds_t)n_users + 1, n_users ? -1 : had_user ? LINGER_MS : 10000);
        if (n == 0)
            return;
        if (n < 0)
            continue;
        for (int i = n_users - 1; i >= 0; i--) {
            if (p[i + 1].revents && !serve(&users[i], namespaces))
                drop_user(i);
        }
        if (p[0].revents) {
            accept_user(listener);
            had_user = true;
        }
    }
}

static void unlink_all(const char *dir)
{
    char path[400];
    struct dirent *e;
    DIR *d = opendir(dir);

    while (d && (e = readdir(d))) {
        snprintf(path, sizeof path, "%.110s/%.255s", dir, e->d_name);
        unlink(path); /* not what is a directory */
    }
    if (d)
        closedir(d);
}

/* Without users nothing in the runtime directory means anything, also what killed ones left. Who is
 * just joining holds the lock, or finds that it is gone and begins anew. */
static void remove_dir(const char *dir)
{
    char path[140];
    int lock;

    snprintf(path, sizeof path, "%.90s/net.sock", dir);
    unlink(path);
    snprintf(path, sizeof path, "%.90s/lock", dir);
    lock = open(path, O_RDWR | O_CLOEXEC);
    if (lock < 0 || flock(lock, LOCK_EX | LOCK_NB) != 0)
        return;
    snprintf(path, sizeof path, "%.90s/workloads", dir);
    unlink_all(path);
    rmdir(path);
    unlink_all(dir);
    rmdir(dir);
}

void mesh_net_holder_run(const char *dir, int ready_fd)
{
    struct error err = {0};
    int namespaces[2] = {-1, -1}, listener = -1, user_ns, uplink = -1;

    prctl(PR_SET_NAME, "weft-net");
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN); /* Ctrl-C is for the mesh's users; the holder goes after them */
    signal(SIGTERM, SIG_IGN);
    setsid();
    user_ns = geteuid() != 0;
    signal(SIGCHLD, SIG_IGN);             /* no zombies */
    pid_t helper = uplink_start(&uplink); /* before this process leaves the host's namespaces */
    if (make_network(&err) == 0)
        listener = open_socket(dir, &err);
    /* A mesh that cannot reach the world outside is a mesh all the same. */
    if (listener >= 0 && helper > 0 && uplink_connect(uplink, &err) != 0)
        err = (struct error){0};
    if (listener >= 0) {
        namespaces[0] = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        if (user_ns)
            namespaces[1] = open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC);
        if (namespaces[0] < 0 || (user_ns && namespaces[1] < 0)) {
            error_set(&err, E_IO, "/proc/self/ns: %s", strerror(errno));
            listener = -1;
        }
    }
    if (listener < 0) {
        if (write(ready_fd, err.msg, strlen(err.msg)) < 0)
            _exit(1);
        _exit(1);
    }
    if (write(ready_fd, "", 1) != 1)
        _exit(1);
    close(ready_fd);
    if (chdir("/") != 0)
        _exit(1);
    loop(listener, namespaces);
    remove_dir(dir);
    _exit(0);
}
