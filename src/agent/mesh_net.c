#include "agent/mesh_net.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "agent/mesh_net_wire.h"
#include "agent/netlink.h"
#include "base/mem.h"

struct mesh_net {
    int fd;      /* connection to the holder */
    int net_ns;  /* of the mesh */
    int user_ns; /* -1 as root */
    struct addr gateway;
};

/* ---- runtime directory ---- */

static int make_dir(const char *path, struct error *err)
{
    struct stat st;

    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return error_set(err, E_IO, "%s: %s", path, strerror(errno));
    if (lstat(path, &st) != 0 || !S_ISDIR(st.st_mode))
        return error_set(err, E_IO, "%s is no directory", path);
    if (st.st_uid != geteuid() || (st.st_mode & 077))
        return error_set(err, E_DENIED, "%s belongs to somebody else or is open to others", path);
    return 0;
}

int mesh_net_dir(const char *mesh, char out[MESH_NET_PATH_MAX], struct error *err)
{
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    char base[64], sub[MESH_NET_PATH_MAX + 16];
    int n, rc;

    for (const char *p = mesh; *p; p++) {
        if (!((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || *p == '-') || p - mesh > 30)
            return error_set(err, E_INVALID,
                             "mesh name '%s': at most 30 lower-case letters, digits and '-'", mesh);
    }
    if (geteuid() == 0)
        snprintf(base, sizeof base, "/run/weft");
    else if (xdg && *xdg == '/' && strlen(xdg) < 50 && access(xdg, W_OK) == 0)
        snprintf(base, sizeof base, "%s/weft", xdg);
    else
        snprintf(base, sizeof base, "/tmp/weft-%u", geteuid());
    rc = make_dir(base, err);
    if (rc)
        return rc;
    n = snprintf(out, MESH_NET_PATH_MAX, "%s/%s", base, mesh);
    if (n < 0 || n > 85)
        return error_set(err, E_LIMIT, "%s/%s is too long for a socket's path", base, mesh);
    rc = make_dir(out, err);
    snprintf(sub, sizeof sub, "%s/workloads", out);
    return rc ? rc : make_dir(sub, err);
}

/* ---- the holder ---- */

static int call(struct mesh_net *m, const struct mesh_net_request *r, struct mesh_net_answer *a,
                int *fds, int max, struct error *err)
{
    ssize_t n = mesh_net_send(m->fd, r, sizeof *r, NULL, 0);

    if (n == 0)
        n = mesh_net_recv(m->fd, a, sizeof *a, fds, max);
    if (n != (ssize_t)sizeof *a)
        return error_set(err, E_CLOSED, "the mesh network's holder does not answer");
    if (a->code) {
        a->text[sizeof a->text - 1] = 0;
        return error_set(err, a->code, "%s", *a->text ? a->text : error_text(a->code));
    }
    return 0;
}

static struct mesh_net *connect_holder(const char *dir, struct error *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct mesh_net_request r = {.op = MESH_NET_HELLO};
    struct mesh_net_answer answer;
    struct mesh_net *m;
    int fds[2], fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    snprintf(a.sun_path, sizeof a.sun_path, "%.90s/net.sock", dir);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) != 0) {
        if (fd >= 0)
            close(fd);
        error_set(err, E_NOT_FOUND, "the mesh is not running (%s)", a.sun_path);
        return NULL;
    }
    m = mem_new(struct mesh_net);
    *m = (struct mesh_net){.fd = fd, .net_ns = -1, .user_ns = -1};
    if (call(m, &r, &answer, fds, 2, err)) {
        mesh_net_leave(m);
        return NULL;
    }
    m->net_ns = fds[0];
    m->user_ns = fds[1];
    m->gateway = answer.addr;
    return m;
}

/* Forks twice, so that the holder is nobody's child and nobody's zombie. */
static int start_holder(const char *dir, struct error *err)
{
    char text[300];
    int ready[2];
    ssize_t n;
    pid_t pid;

    if (pipe2(ready, O_CLOEXEC) != 0)
        return error_set(err, E_IO, "pipe: %s", strerror(errno));
    fflush(NULL);
    pid = fork();
    if (pid < 0)
        return error_set(err, E_IO, "fork: %s", strerror(errno));
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (fork() != 0)
            _exit(0);
        dup2(null, 0);
        dup2(null, 1);
        dup2(null, 2);
        /* Nothing that the caller had open stays open here: pipes must see their ends. */
        for (int fd = 3; fd < 1024; fd++) {
            if (fd != ready[1])
                close(fd);
        }
        mesh_net_holder_run(dir, ready[1]);
    }
    close(ready[1]);
    waitpid(pid, NULL, 0);
    do
        n = read(ready[0], text, sizeof text - 1);
    while (n < 0 && errno == EINTR);
    close(ready[0]);
    if (n == 1 && !text[0])
        return 0;
    text[n < 0 ? 0 : n] = 0;
    return error_set(err, E_DENIED, "%s", n > 0 ? text : "the mesh network could not be made");
}

/* Takes the lock of a runtime directory. E_AGAIN when the last holder has removed both meanwhile.
 */
static int take_lock(const char *dir, int *lock, struct error *err)
{
    char path[MESH_NET_PATH_MAX + 16];
    struct stat held, there;

    snprintf(path, sizeof path, "%s/lock", dir);
    *lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*lock < 0 && errno == ENOENT)
        return E_AGAIN;
    if (*lock < 0 || flock(*lock, LOCK_EX) != 0 || fstat(*lock, &held) != 0)
        return error_set(err, E_IO, "%s: %s", path, strerror(errno));
    if (stat(path, &there) != 0 || there.st_ino != held.st_ino || there.st_dev != held.st_dev)
        return E_AGAIN;
    return 0;
}

/* Who only asked leaves no directory; who joins at this moment notices and makes it again. */
static void forget_empty(const char *dir)
{
    char path[MESH_NET_PATH_MAX + 16];

    snprintf(path, sizeof path, "%s/workloads", dir);
    if (rmdir(path) == 0)
        rmdir(dir);
}

static struct mesh_net *join(const char *mesh, bool start, struct error *err)
{
    struct mesh_net *m = NULL;
    int rc = E_AGAIN;

    for (int tries = 0; !m && rc == E_AGAIN && tries < 20; tries++) {
        char dir[MESH_NET_PATH_MAX];
        int lock = -1;
        rc = mesh_net_dir(mesh, dir, err);
        if (rc)
            return NULL;
        m = connect_holder(dir, err);
        if (!m && !start)
            forget_empty(dir);
        if (m || !start)
            return m;
        /* Two first users at once: one starts the holder, the other waits for it. */
        rc = take_lock(dir, &lock, err);
        if (!rc)
            m = connect_holder(dir, err);
        if (!rc && !m && start_holder(dir, err) == 0)
            m = connect_holder(dir, err);
        if (lock >= 0)
            close(lock);
    }
    return m;
}

struct mesh_net *mesh_net_join(const char *mesh, struct error *err)
{
    return join(mesh, true, err);
}

struct mesh_net *mesh_net_find(const char *mesh, struct error *err)
{
    return join(mesh, false, err);
}

void mesh_net_leave(struct mesh_net *m)
{
    if (!m)
        return;
    close(m->fd);
    if (m->net_ns >= 0)
        close(m->net_ns);
    if (m->user_ns >= 0)
        close(m->user_ns);
    free(m);
}

int mesh_net_fd(const struct mesh_net *m)
{
    return m->fd;
}

const struct addr *mesh_net_gateway(const struct mesh_net *m)
{
    return &m->gateway;
}

int mesh_net_address(struct mesh_net *m, struct addr *out, struct error *err)
{
    struct mesh_net_request r = {.op = MESH_NET_ADDRESS};
    struct mesh_net_answer a;
    int rc = call(m, &r, &a, NULL, 0, err);

    if (!rc)
        *out = a.addr;
    return rc;
}

int mesh_net_listen(struct mesh_net *m, const struct addr *at, int *fd, struct error *err)
{
    struct mesh_net_request r = {.op = MESH_NET_LISTEN, .addr = *at};
    struct mesh_net_answer a;
    int fds[1], rc = call(m, &r, &a, fds, 1, err);

    if (!rc)
        *fd = fds[0];
    return rc;
}

/* ---- namespaces ---- */

static int enter(int fd, int kind, const char *what, struct error *err)
{
    if (setns(fd, kind) != 0)
        return error_set(err, E_DENIED, "cannot enter the %s namespace: %s", what, strerror(errno));
    return 0;
}

int mesh_net_enter_new(struct mesh_net *m, const struct addr *address, struct error *err)
{
    char host_end[16];
    int own, rc = m->user_ns < 0 ? 0 : enter(m->user_ns, CLONE_NEWUSER, "user", err);

    if (rc)
        return rc;
    if (unshare(CLONE_NEWNET | CLONE_NEWNS) != 0)
        return error_set(err, E_DENIED, "no network namespace can be made: %s", strerror(errno));
    /* Mounts of this workload are its own. */
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return error_set(err, E_DENIED, "mounts cannot be made private: %s", strerror(errno));
    own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (own < 0)
        return error_set(err, E_IO, "/proc/self/ns/net: %s", strerror(errno));
    /* From the mesh's side: the pair, one end here under the bridge, the other over there. */
    snprintf(host_end, sizeof host_end, "w%08x", ntohl(address->in4.sin_addr.s_addr));
    rc = enter(m->net_ns, CLONE_NEWNET, "mesh network", err);
    rc = rc ? rc : netlink_veth(host_end, "eth0", own, err);
    rc = rc ? rc : netlink_enslave(host_end, MESH_NET_BRIDGE, err);
    rc = rc ? rc : netlink_up(host_end, err);
    rc = rc ? rc : enter(own, CLONE_NEWNET, "workload's network", err);
    close(own);
    rc = rc ? rc : netlink_up("lo", err);
    rc = rc ? rc : netlink_address("eth0", address, MESH_NET_PREFIX, err);
    rc = rc ? rc : netlink_up("eth0", err);
    return rc ? rc : netlink_default_route(&m->gateway, err);
}

static pid_t read_pid(const char *mesh, const char *workload, struct error *err)
{
    char dir[MESH_NET_PATH_MAX], path[MESH_NET_PATH_MAX + 300], text[32] = "";
    int fd;

    if (mesh_net_dir(mesh, dir, err))
        return -1;
    snprintf(path, sizeof path, "%s/workloads/%.250s", dir, workload);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof text - 1) <= 0) {
        if (fd >= 0)
            close(fd);
        error_set(err, E_NOT_FOUND, "no workload '%s' runs in mesh '%s'", workload, mesh);
        return -1;
    }
    close(fd);
    pid_t pid = (pid_t)strtol(text, NULL, 10);
    if (pid <= 0 || kill(pid, 0) != 0) {
        error_set(err, E_NOT_FOUND, "workload '%s' of mesh '%s' has ended", workload, mesh);
        return -1;
    }
    return pid;
}

int mesh_net_enter_workload(const char *mesh, const char *workload, struct error *err)
{
    static const struct {
        const char *name;
        int kind;
    } all[] = {{"user", CLONE_NEWUSER}, {"net", CLONE_NEWNET}, {"mnt", CLONE_NEWNS}};
    pid_t pid = read_pid(mesh, workload, err);
    char path[64], cwd[4096];
    int fds[3], rc = 0;

    if (pid < 0)
        return err->code;
    if (!getcwd(cwd, sizeof cwd))
        cwd[0] = 0;
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)pid, all[i].name);
        fds[i] = open(path, O_RDONLY | O_CLOEXEC);
    }
    for (int i = geteuid() == 0 ? 1 : 0; i < 3 && !rc; i++)
        rc = fds[i] < 0
                 ? error_set(err, E_DENIED, "workload '%s' belongs to somebody else", workload)
                 : enter(fds[i], all[i].kind, all[i].name, err);
    for (int i = 0; i < 3; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    /* Entering a mount namespace moves to its root. */
    if (!rc && *cwd && chdir(cwd) != 0 && chdir("/") != 0)
        rc = error_set(err, E_IO, "%s: %s", cwd, strerror(errno));
    return rc;
}

/* ---- names of running workloads ---- */

int mesh_net_claim_name(const char *mesh, const char *workload, struct error *err)
{
    char dir[MESH_NET_PATH_MAX], path[MESH_NET_PATH_MAX + 300], text[32];
    struct error none = {0};
    int fd, n, rc;

    for (const char *p = workload; *p; p++) {
        if (!((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || *p == '-' || *p == '.') ||
            p - workload > 62)
            return error_set(err, E_INVALID,
                             "workload name '%s': at most 63 lower-case letters, digits, '-', '.'",
                             workload);
    }
    if (!*workload || *workload == '.')
        return error_set(err, E_INVALID, "a workload needs a name");
    if (read_pid(mesh, workload, &none) > 0)
        return error_set(err, E_EXISTS, "workload '%s' already runs in mesh '%s'", workload, mesh);
    rc = mesh_net_dir(mesh, dir, err);
    if (rc)
        return rc;
    snprintf(path, sizeof path, "%s/workloads/%s", dir, workload);
    n = snprintf(text, sizeof text, "%d\n", (int)getpid());
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, text, (size_t)n) != n)
        return error_set(err, E_IO, "%s: %s", path, strerror(errno));
    close(fd);
    return 0;
}

void mesh_net_release_name(const char *mesh, const char *workload)
{
    char dir[MESH_NET_PATH_MAX], path[MESH_NET_PATH_MAX + 300];
    struct error err = {0};

    if (mesh_net_dir(mesh, dir, &err))
        return;
    snprintf(path, sizeof path, "%s/workloads/%.250s", dir, workload);
    unlink(path);
}

void mesh_net_each(const char *mesh, void (*fn)(void *arg, const char *workload, pid_t pid),
                   void *arg)
{
    char dir[MESH_NET_PATH_MAX], path[MESH_NET_PATH_MAX + 16];
    struct error err = {0};
    struct dirent *e;
    DIR *d;

    if (mesh_net_dir(mesh, dir, &err))
        return;
    snprintf(path, sizeof path, "%s/workloads", dir);
    d = opendir(path);
    while (d && (e = readdir(d))) {
        pid_t pid = e->d_name[0] == '.' ? -1 : read_pid(mesh, e->d_name, &err);
        if (pid > 0)
            fn(arg, e->d_name, pid);
    }
    if (d)
        closedir(d);
}
