#include "agent/workload.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "agent/forward.h"
#include "agent/intercept.h"
#include "agent/mesh_net.h"
#include "agent/registration.h"
#include "agent/sidecar.h"
#include "agent/token_file.h"
#include "api/pb.h"
#include "api/weft.pb.h"
#include "base/log.h"
#include "net/addr.h"

LOG_COMPONENT(run);

#define CONFIG_MAX      (1u << 20)
#define CONTROL_WAIT_MS 10000
#define READY_WAIT_MS   30000
#define POLL_MS         10
#define STOP_WAIT_MS    10000 /* a command that was told to end has this long */
#define SETTLE_MS       2000  /* at most, for others to learn that they should send no more */
#define CALM_MS         30    /* without a request under way: what was on its way has come */
#define RESTART_MS      500
#define QUIET_MS        3000 /* a command that does not listen by then is spoken of */
#define LEASE_MS        50   /* between attempts to register anew */

#define WORKLOAD_PUBLISH_MAX 16

struct workload {
    const struct workload_opts *o;
    char dir[MESH_NET_PATH_MAX];
    char sds_path[MESH_NET_PATH_MAX + 80];
    struct mesh_net *net;
    struct addr address;
    struct arena arena;
    const struct weft_WorkloadReply *reply;
    int lease;
    int bootstrap_fd, agent_fd; /* in memory only */
    struct token_file token;
    bool envoy;
    pid_t proxy, agent, command, publisher;
    int publish_fd[WORKLOAD_PUBLISH_MAX]; /* listen on the host, -1: none */
    int exit_code;
    bool claimed, ready, stopping;
    bool refused; /* by a control plane that was started again; said once */
    bool said_quiet;
    uint64_t start_ms; /* of the command */
    uint64_t stop_ms;  /* when the command was told to end */
};

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void nap(unsigned ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

/* ---- registration ---- */

static int introduce(struct workload *w, int wait_ms, bool token_only, struct arena *a,
                     const struct weft_WorkloadReply **reply, int *lease, struct error *err)
{
    const struct workload_opts *o = w->o;
    struct weft_WorkloadRegistration r = {.name = sv_of(o->name),
                                          .namespace = sv_of(o->ns),
                                          .service_account = sv_of(o->service_account),
                                          .ready = w->ready && !w->stopping,
                                          .token_only = token_only};
    const struct weft_WorkloadRegistration_LabelsEntry **labels =
        arena_array(a, const struct weft_WorkloadRegistration_LabelsEntry *, o->n_labels + 1);
    const struct weft_WorkloadPort **ports =
        arena_array(a, const struct weft_WorkloadPort *, o->n_ports + 1);
    char ip[ADDR_TEXT_MAX];

    for (uint32_t i = 0; i < o->n_labels; i++) {
        struct weft_WorkloadRegistration_LabelsEntry *e =
            arena_new(a, struct weft_WorkloadRegistration_LabelsEntry);
        e->key = o->labels[i].key;
        e->value = o->labels[i].value;
        labels[i] = e;
    }
    for (uint32_t i = 0; i < o->n_ports; i++) {
        struct weft_WorkloadPort *p = arena_new(a, struct weft_WorkloadPort);
        p->port = o->ports[i];
        ports[i] = p;
    }
    r.labels.v = labels;
    r.labels.n = o->n_labels;
    r.ports.v = ports;
    r.ports.n = o->n_ports;
    r.address = addr_ip_text(&w->address, ip);
    return registration_start(w->dir, &r, wait_ms, a, reply, lease, err);
}

static int check_ports(const struct workload_opts *o, struct error *err)
{
    for (uint32_t i = 0; i < o->n_ports; i++)
        if (bootstrap_own_port(o->ports[i]))
            return error_set(err, E_INVALID,
                             "--port %u is the sidecar's own: let the command listen at another",
                             o->ports[i]);
    return 0;
}

static int join(struct workload *w, struct error *err)
{
    const struct workload_opts *o = w->o;
    int rc = check_ports(o, err);

    rc = rc ? rc : mesh_net_dir(o->mesh, w->dir, err);
    if (rc)
        return rc;
    w->net = mesh_net_join(o->mesh, err);
    if (!w->net)
        return err->code;
    rc = mesh_net_claim_name(o->mesh, o->name, err);
    if (rc)
        return rc;
    w->claimed = true;
    rc = mesh_net_address(w->net, &w->address, err);
    return rc ? rc : introduce(w, CONTROL_WAIT_MS, false, &w->arena, &w->reply, &w->lease, err);
}

static void check_token(struct workload *w)
{
    const struct weft_WorkloadReply *reply;
    struct error err = {0};
    struct arena a;
    int fd = -1;

    if (w->lease < 0 || w->stopping || !token_file_due(&w->token, time(NULL)))
        return;
    arena_init(&a);
    int rc = introduce(w, 0, true, &a, &reply, &fd, &err);
    rc = rc ? rc : token_file_put(&w->token, reply, time(NULL), &err);
    if (rc) {
        log_warn(&log_run, "no new token: %s workload=%s", err.msg, w->o->name);
        token_file_later(&w->token, time(NULL));
    }
    if (fd >= 0)
        close(fd);
    arena_free(&a);
}

/* The control plane ended: the next one has to hear of this workload. What it says of roots and
 * addresses is what the first one said. */
static void introduce_again(struct workload *w)
{
    const struct weft_WorkloadReply *reply;
    struct error err = {0};
    struct arena a;

    arena_init(&a);
    if (introduce(w, 0, false, &a, &reply, &w->lease, &err) == 0) {
        if (token_file_put(&w->token, reply, time(NULL), &err))
            log_error(&log_run, "%s workload=%s", err.msg, w->o->name);
        log_info(&log_run, "registered anew workload=%s", w->o->name);
        w->refused = false;
    } else if (err.code == E_DENIED && !w->refused) {
        log_error(&log_run, "%s workload=%s", err.msg, w->o->name);
        w->refused = true;
    }
    arena_free(&a);
}

/* Looks whether the control plane hung up. */
static void check_lease(struct workload *w)
{
    char text[256];
    ssize_t n = recv(w->lease, text, sizeof text, MSG_DONTWAIT);

    if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
        return;
    close(w->lease);
    w->lease = -1;
    log_warn(&log_run, "the control plane is gone; the workload stays as it is workload=%s",
             w->o->name);
}

/* ---- what the sidecar is started with ---- */

static int memory_file(const char *name, const struct strbuf *text, struct error *err)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    size_t at = 0;

    while (fd >= 0 && at < text->n) {
        ssize_t n = write(fd, text->p + at, text->n - at);
        if (n <= 0) {
            close(fd);
            fd = -1;
        } else {
            at += (size_t)n;
        }
    }
    if (fd < 0)
        error_set(err, E_IO, "memory file for the %s: %s", name, strerror(errno));
    return fd;
}

static void add_labels(struct workload *w, struct weft_AgentConfig *c)
{
    const struct weft_AgentConfig_LabelsEntry **list =
        arena_array(&w->arena, const struct weft_AgentConfig_LabelsEntry *, w->o->n_labels + 1);

    for (uint32_t i = 0; i < w->o->n_labels; i++) {
        struct weft_AgentConfig_LabelsEntry *e =
            arena_new(&w->arena, struct weft_AgentConfig_LabelsEntry);
        e->key = w->o->labels[i].key;
        e->value = w->o->labels[i].value;
        list[i] = e;
    }
    c->labels.v = list;
    c->labels.n = w->o->n_labels;
}

static int write_agent_config(struct workload *w, struct error *err)
{
    struct weft_AgentConfig c = {.ca_address = w->reply->discovery_address,
                                 .token_file =
                                     arena_printf(&w->arena, "/proc/self/fd/%d", w->token.fd),
                                 .root_certificates = w->reply->root_certificates,
                                 .trust_domain = w->reply->trust_domain,
                                 .namespace = sv_of(w->o->ns),
                                 .service_account = sv_of(w->o->service_account),
                                 .certificate_seconds = w->o->certificate_seconds,
                                 .socket_mark = INTERCEPT_MARK};
    char gateway[ADDR_TEXT_MAX];
    struct strbuf s;

    if (!w->o->no_dns) {
        c.dns_listen = arena_printf(&w->arena, "127.0.0.1:%d", BOOTSTRAP_DNS_PORT);
        c.dns_domain =
            arena_printf(&w->arena, "%s.svc.%.*s", w->o->ns, SV_ARG(w->reply->domain_suffix));
        /* The way out of the mesh network answers for the rest of the world (uplink.h). */
        c.dns_upstreams.v = arena_array(&w->arena, sv, 1);
        c.dns_upstreams.v[c.dns_upstreams.n++] =
            arena_sv(&w->arena, addr_ip_text(mesh_net_gateway(w->net), gateway));
    }
    if (w->envoy) {
        char ip[ADDR_TEXT_MAX];
        c.sds_socket = sv_of(w->sds_path);
        c.node_id = arena_printf(&w->arena, "sidecar~%.*s~%s.%s~%s.svc.%.*s",
                                 SV_ARG(addr_ip_text(&w->address, ip)), w->o->name, w->o->ns,
                                 w->o->ns, SV_ARG(w->reply->domain_suffix));
        add_labels(w, &c);
    }
    strbuf_init(&s, CONFIG_MAX);
    pb_to_json(&weft_AgentConfig_pb, &c, &(struct pb_json_opts){.snake_case = true}, &s);
    w->agent_fd = memory_file("agent's configuration", &s, err);
    strbuf_fini(&s);
    return w->agent_fd < 0 ? err->code : 0;
}

static int write_bootstrap(struct workload *w, struct error *err)
{
    struct bootstrap b;
    struct strbuf s;
    char ip[ADDR_TEXT_MAX];

    bootstrap_init(&b);
    b.name = sv_of(w->o->name);
    b.ns = sv_of(w->o->ns);
    b.service_account = sv_of(w->o->service_account);
    b.address = addr_ip_text(&w->address, ip);
    b.labels = w->o->labels;
    b.n_labels = w->o->n_labels;
    b.mesh = sv_of(w->o->mesh);
    b.domain_suffix = w->reply->domain_suffix;
    b.trust_domain = w->reply->trust_domain;
    b.discovery_address = w->reply->discovery_address;
    b.roots = w->reply->root_certificates;
    b.dns_capture = !w->o->no_dns;
    b.mark = INTERCEPT_MARK;
    if (w->envoy)
        b.sds_socket = sv_of(w->sds_path);
    strbuf_init(&s, CONFIG_MAX);
    bootstrap_json(&b, &s);
    w->bootstrap_fd = memory_file("bootstrap", &s, err);
    strbuf_fini(&s);
    return w->bootstrap_fd < 0 ? err->code : 0;
}

/* ---- namespaces ---- */

/* The application resolves through its sidecar: any server's address is captured, so the file only
 * has to name one, and the search domains of Kubernetes. */
static int own_resolv_conf(struct workload *w, struct error *err)
{
    char path[MESH_NET_PATH_MAX + 100], target[PATH_MAX], ip[ADDR_TEXT_MAX];
    sv suffix = w->reply->domain_suffix;
    FILE *f;

    if (w->o->no_dns || !realpath("/etc/resolv.conf", target))
        return 0;
    snprintf(path, sizeof path, "%s/workloads/.%s.resolv", w->dir, w->o->name);
    f = fopen(path, "we");
    if (!f)
        return error_set(err, E_IO, "%s: %s", path, strerror(errno));
    fprintf(f, "nameserver %.*s\nsearch %s.svc.%.*s svc.%.*s %.*s\noptions ndots:5\n",
            SV_ARG(addr_ip_text(mesh_net_gateway(w->net), ip)), w->o->ns, SV_ARG(suffix),
            SV_ARG(suffix), SV_ARG(suffix));
    fclose(f);
    chmod(path, 0644);
    int rc = mount(path, target, NULL, MS_BIND, NULL);
    if (rc != 0)
        error_set(err, E_DENIED, "resolv.conf of the workload: %s", strerror(errno));
    unlink(path);
    return rc ? err->code : 0;
}

static int isolate(struct workload *w, struct error *err)
{
    const struct workload_opts *o = w->o;
    struct intercept i = {.outbound_port = 15001,
                          .inbound_port = 15006,
                          .dns_port = o->no_dns ? 0 : BOOTSTRAP_DNS_PORT,
                          .exclude_inbound_ports = o->exclude_inbound_ports,
                          .n_exclude_inbound_ports = o->n_exclude_inbound_ports,
                          .exclude_outbound_ports = o->exclude_outbound_ports,
                          .n_exclude_outbound_ports = o->n_exclude_outbound_ports,
                          .exclude_outbound_cidrs = o->exclude_outbound_cidrs,
                          .n_exclude_outbound_cidrs = o->n_exclude_outbound_cidrs};
    int rc = mesh_net_enter_new(w->net, &w->address, err);

    rc = rc ? rc : own_resolv_conf(w, err);
    return rc ? rc : intercept_apply(&i, err);
}

/* ---- ports on the host's loopback ---- */

/* Before this process leaves the host's namespaces. */
static int listen_on_host(struct workload *w, struct error *err)
{
    for (uint32_t i = 0; i < w->o->n_publish; i++) {
        struct addr a;
        int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        if (i == WORKLOAD_PUBLISH_MAX)
            return error_set(err, E_LIMIT, "more than %d ports to publish", WORKLOAD_PUBLISH_MAX);
        w->publish_fd[i] = fd;
        addr_ip(&a, SV("127.0.0.1"), w->o->publish[i].host_port);
        if (fd >= 0)
            setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (fd < 0 || bind(fd, &a.sa, a.len) != 0 || listen(fd, 256) != 0)
            return error_set(err, error_from_errno(errno), "127.0.0.1:%u on the host: %s",
                             w->o->publish[i].host_port, strerror(errno));
    }
    return 0;
}

/* In the workload's network namespace: connections are made here. */
static void run_publisher(const struct workload *w)
{
    struct loop *l = loop_new(NULL);

    for (uint32_t i = 0; i < w->o->n_publish; i++) {
        struct forward_opts o = {.loop = l, .fd = w->publish_fd[i]};
        struct error err = {0};
        addr_ip(&o.to, SV("127.0.0.1"), w->o->publish[i].port);
        if (!forward_new(&o, &err))
            log_error(&log_run, "port %u is not published: %s", w->o->publish[i].port, err.msg);
    }
    loop_run(l);
}

static int start_publisher(struct workload *w, struct error *err)
{
    pid_t parent = getpid();

    if (!w->o->n_publish)
        return 0;
    w->publisher = fork();
    if (w->publisher < 0)
        return error_set(err, E_IO, "fork: %s", strerror(errno));
    if (w->publisher == 0) {
        sigset_t none;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_NAME, "weft-publish");
        setpgid(0, 0);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        signal(SIGPIPE, SIG_IGN);
        close(w->lease); /* not this process' to hold */
        close(mesh_net_fd(w->net));
        if (getppid() == parent)
            run_publisher(w);
        _exit(0);
    }
    for (uint32_t i = 0; i < w->o->n_publish; i++) {
        close(w->publish_fd[i]);
        w->publish_fd[i] = -1;
    }
    return 0;
}

/* ---- processes ---- */

/* An ordinary user has its capabilities only inside the user namespace, and loses them at exec
 * unless they are ambient. The sidecar needs one: to mark its sockets. */
static void keep_net_admin(void)
{
    struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct d[2];

    if (geteuid() == 0 || syscall(SYS_capget, &h, d) != 0)
        return;
    d[0].inheritable |= 1u << CAP_NET_ADMIN;
    if (syscall(SYS_capset, &h, d) == 0)
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_ADMIN, 0, 0);
}

static void inherit(int fd)
{
    int flags = fcntl(fd, F_GETFD);
    fcntl(fd, F_SETFD, flags & ~FD_CLOEXEC);
}

static pid_t spawn_helper(struct workload *w, char *const *argv, struct error *err)
{
    pid_t parent = getpid(), pid = fork();

    if (pid < 0)
        return error_set(err, E_IO, "fork: %s", strerror(errno)), -1;
    if (pid > 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(1);
    /* A group of its own: Ctrl-C is for the application, the sidecar goes after it. */
    setpgid(0, 0);
    int null = open("/dev/null", O_RDONLY);
    dup2(null, 0);
    if (w->o->proxy_log) {
        int log = open(w->o->proxy_log, O_WRONLY | O_CREAT | O_APPEND, 0600);
        dup2(log < 0 ? 2 : log, 1);
        dup2(log < 0 ? 2 : log, 2);
    } else {
        dup2(2, 1);
    }
    inherit(w->bootstrap_fd);
    inherit(w->agent_fd);
    inherit(w->token.fd);
    keep_net_admin();
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execv(argv[0], argv);
    fprintf(stderr, "weft run: %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

static int start_sidecar(struct workload *w, struct error *err)
{
    char config[40], agent[40], workers[16], drain[16];
    const char *level = w->o->log_level ? w->o->log_level : "warning";
    char *argv[24];
    int n = 0;

    snprintf(config, sizeof config, "/proc/self/fd/%d", w->bootstrap_fd);
    snprintf(agent, sizeof agent, "/proc/self/fd/%d", w->agent_fd);
    snprintf(workers, sizeof workers, "%u", w->o->concurrency ? w->o->concurrency : 1);
    snprintf(drain, sizeof drain, "%u", w->o->drain_s);
    if (w->envoy && !w->agent) {
        char *const helper[] = {(char *)w->o->agent, "agent", "--config", agent, NULL};
        w->agent = spawn_helper(w, helper, err);
        if (w->agent < 0)
            return err->code;
    }
    argv[n++] = (char *)w->o->proxy;
    argv[n++] = "-c";
    argv[n++] = config;
    argv[n++] = "--concurrency";
    argv[n++] = workers;
    argv[n++] = "-l";
    argv[n++] = (char *)level;
    argv[n++] = "--drain-time-s";
    argv[n++] = drain;
    argv[n++] = "--file-flush-interval-msec";
    argv[n++] = "200";
    if (w->envoy) {
        argv[n++] = "--disable-hot-restart";
        argv[n++] = "--config-yaml"; /* Envoy tells the format of a file by its name */
        struct stat st;
        if (fstat(w->bootstrap_fd, &st) != 0)
            return error_set(err, E_IO, "bootstrap: %s", strerror(errno));
        char *text = arena_zalloc(&w->arena, (size_t)st.st_size + 1);
        if (pread(w->bootstrap_fd, text, (size_t)st.st_size, 0) != st.st_size)
            return error_set(err, E_IO, "bootstrap: %s", strerror(errno));
        argv[n++] = text;
        argv[1] = argv[n - 2];
        argv[2] = argv[n - 1];
        n -= 2;
    } else {
        argv[n++] = "--agent";
        argv[n++] = agent;
    }
    argv[n] = NULL;
    w->proxy = spawn_helper(w, argv, err);
    return w->proxy < 0 ? err->code : 0;
}

/* True when a TCP connection to the address is accepted. */
static bool accepts(const struct addr *to)
{
    int fd = socket(to->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && connect(fd, &to->sa, to->len) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

static int await_sidecar(struct workload *w, struct error *err)
{
    uint64_t end = now_ms() + READY_WAIT_MS;
    int status;

    while (now_ms() < end) {
        sigset_t pending;
        if (sidecar_ready())
            return 0;
        check_token(w);
        if (waitpid(w->proxy, &status, WNOHANG) == w->proxy) {
            w->proxy = 0;
            return error_set(err, E_CLOSED, "the sidecar ended before it was ready (%s %d)",
                             WIFEXITED(status) ? "exit code" : "signal",
                             WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
        }
        if (sigpending(&pending) == 0 &&
            (sigismember(&pending, SIGTERM) || sigismember(&pending, SIGINT)))
            return error_set(err, E_CANCELLED, "ended before the sidecar was ready");
        nap(POLL_MS);
    }
    return error_set(err, E_TIMEOUT, "the sidecar was not ready within %d s", READY_WAIT_MS / 1000);
}

static int start_command(struct workload *w, const sigset_t *outer_mask, struct error *err)
{
    pid_t parent = getpid();

    w->command = fork();
    if (w->command < 0)
        return error_set(err, E_IO, "fork: %s", strerror(errno));
    if (w->command > 0) {
        w->start_ms = now_ms();
        return 0;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    sigprocmask(SIG_SETMASK, outer_mask, NULL);
    execvp(w->o->command[0], w->o->command);
    fprintf(stderr, "weft run: %s: %s\n", w->o->command[0], strerror(errno));
    _exit(errno == ENOENT ? 127 : 126);
}

/* ---- while it runs ---- */

/* The command's first port accepts. On the loopback alone it does too, but not for the mesh: that
 * is said, since only the server's own sidecar could tell. */
static bool listens(struct workload *w)
{
    struct addr a = w->address, loopback;
    char text[ADDR_TEXT_MAX];

    addr_set_port(&a, w->o->ports[0]);
    addr_ip(&loopback, SV("127.0.0.1"), w->o->ports[0]);
    if (accepts(&a))
        return true;
    addr_text(&a, text);
    if (!accepts(&loopback)) {
        if (!w->said_quiet && now_ms() > w->start_ms + QUIET_MS)
            log_warn(&log_run,
                     "nothing listens on %s yet: no requests are sent to this workload until then "
                     "(is --port the right one, does the command listen over IPv4?) workload=%s",
                     text, w->o->name);
        w->said_quiet |= now_ms() > w->start_ms + QUIET_MS;
        return false;
    }
    if (!accepts(&a)) /* it may have begun in between */
        log_warn(&log_run,
                 "the command listens on 127.0.0.1 only, where the mesh does not reach it: let it "
                 "listen on 0.0.0.0 or %s workload=%s",
                 text, w->o->name);
    return true;
}

static void check_ready(struct workload *w)
{
    if (w->ready || w->stopping)
        return;
    if (w->o->n_ports && !listens(w))
        return;
    w->ready = true;
    if (w->lease >= 0)
        registration_update(w->lease, true);
}

/* ---- leaving: others stop sending, what is under way ends, then the command is told ---- */

/* The command has ended, or somebody insists. */
static bool hurried(const struct workload *w)
{
    siginfo_t ended = {0};
    sigset_t pending;

    if (waitid(P_PID, (id_t)w->command, &ended, WEXITED | WNOHANG | WNOWAIT) != 0 || ended.si_pid)
        return true;
    return sigpending(&pending) == 0 &&
           (sigismember(&pending, SIGTERM) || sigismember(&pending, SIGINT) ||
            sigismember(&pending, SIGHUP) || sigismember(&pending, SIGQUIT));
}

/* Until every proxy has acknowledged that this endpoint is gone. */
static void await_removal(struct workload *w)
{
    uint64_t end = now_ms() + SETTLE_MS;
    int heard = w->lease < 0 ? -1 : registration_update(w->lease, false);

    while (heard == 0 && now_ms() < end && !hurried(w)) {
        struct pollfd p = {.fd = w->lease, .events = POLLIN};
        char text[256];
        if (poll(&p, 1, POLL_MS) > 0)
            heard = recv(w->lease, text, sizeof text, MSG_DONTWAIT) > 0 ? 1 : -1;
    }
    if (heard == 0)
        log_warn(&log_run, "not every proxy has acknowledged that the workload leaves workload=%s",
                 w->o->name);
}

static void await_requests(struct workload *w)
{
    uint64_t now = now_ms(), end = now + w->o->drain_s * 1000ull, calm = now;

    while (now < end && now - calm < CALM_MS && !hurried(w)) {
        bool busy = sidecar_inbound_requests() != 0; /* no answer: it is not known to be calm */
        nap(POLL_MS);
        now = now_ms();
        if (busy)
            calm = now;
    }
    if (now >= end)
        log_warn(&log_run, "the drain time is over with requests under way workload=%s",
                 w->o->name);
}

static void stop_command(struct workload *w, int signo)
{
    if (!w->stopping) {
        w->stopping = true;
        if (w->o->n_ports) {
            await_removal(w);
            if (sidecar_drain_inbound())
                await_requests(w);
        }
        w->stop_ms = now_ms();
    }
    if (w->command > 0)
        kill(w->command, signo);
}

static void restart_sidecar(struct workload *w)
{
    struct error err = {0};

    log_error(&log_run, "the sidecar died and is started again workload=%s", w->o->name);
    nap(RESTART_MS);
    w->proxy = 0;
    if (start_sidecar(w, &err))
        log_error(&log_run, "the sidecar cannot be started: %s", err.msg);
}

/* False when the command has ended. */
static bool reap(struct workload *w)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == w->command) {
            w->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            w->command = 0;
        } else if (pid == w->proxy && !w->stopping) {
            restart_sidecar(w);
        } else if (pid == w->proxy) {
            w->proxy = 0;
        } else if (pid == w->agent) {
            w->agent = 0;
        } else if (pid == w->publisher) {
            w->publisher = 0;
        }
    }
    return w->command > 0;
}

/* The next signal, or 0 when something else happened or the time is over. */
static int next_signal(struct workload *w, int signals_fd)
{
    struct pollfd p[2] = {{.fd = signals_fd, .events = POLLIN}, {.fd = w->lease, .events = POLLIN}};
    struct signalfd_siginfo got;
    int ms = !w->ready || w->stopping ? POLL_MS : w->lease < 0 ? LEASE_MS : 1000;

    poll(p, 2, ms);
    if (p[1].revents)
        check_lease(w);
    else if (w->lease < 0 && !w->stopping)
        introduce_again(w);
    check_token(w);
    return read(signals_fd, &got, sizeof got) == sizeof got ? (int)got.ssi_signo : 0;
}

static void supervise(struct workload *w, int signals_fd)
{
    while (reap(w)) {
        int signo;
        check_ready(w);
        signo = next_signal(w, signals_fd);
        if (signo == SIGTERM || signo == SIGINT || signo == SIGHUP || signo == SIGQUIT)
            stop_command(w, signo);
        else if (signo > 0 && signo != SIGCHLD && w->command > 0)
            kill(w->command, signo);
        if (w->stopping && w->command > 0 && now_ms() > w->stop_ms + STOP_WAIT_MS)
            kill(w->command, SIGKILL);
    }
}

static void end_helper(pid_t pid, unsigned wait_ms)
{
    uint64_t end = now_ms() + wait_ms;

    if (pid <= 0)
        return;
    kill(pid, SIGTERM);
    while (waitpid(pid, NULL, WNOHANG) == 0) {
        if (now_ms() > end)
            kill(pid, SIGKILL);
        nap(POLL_MS);
    }
}

static void clean_up(struct workload *w)
{
    w->stopping = true;
    if (w->command > 0) {
        kill(w->command, SIGKILL);
        waitpid(w->command, NULL, 0);
    }
    end_helper(w->proxy, (w->o->drain_s + 5) * 1000);
    end_helper(w->agent, 3000);
    end_helper(w->publisher, 0);
    for (int i = 0; i < WORKLOAD_PUBLISH_MAX; i++) {
        if (w->publish_fd[i] >= 0)
            close(w->publish_fd[i]);
    }
    if (w->lease >= 0)
        close(w->lease);
    if (w->envoy)
        unlink(w->sds_path);
    if (w->claimed)
        mesh_net_release_name(w->o->mesh, w->o->name);
    if (w->bootstrap_fd >= 0)
        close(w->bootstrap_fd);
    if (w->agent_fd >= 0)
        close(w->agent_fd);
    token_file_fini(&w->token);
    mesh_net_leave(w->net);
    arena_free(&w->arena);
}

int workload_run(const struct workload_opts *o, struct error *err)
{
    struct workload w = {
        .o = o, .lease = -1, .bootstrap_fd = -1, .agent_fd = -1, .token.fd = -1, .exit_code = 125};
    const char *base = strrchr(o->proxy, '/');
    sigset_t signals, outer;
    int rc;

    arena_init(&w.arena);
    memset(w.publish_fd, -1, sizeof w.publish_fd);
    w.envoy = strstr(base ? base : o->proxy, "envoy") != NULL;
    sigemptyset(&signals);
    for (int s = 1; s < 32; s++) {
        if (s != SIGKILL && s != SIGSTOP && s != SIGSEGV && s != SIGBUS && s != SIGFPE &&
            s != SIGILL && s != SIGTTOU && s != SIGTTIN && s != SIGTSTP && s != SIGCONT &&
            s != SIGABRT && s != SIGPIPE)
            sigaddset(&signals, s);
    }
    sigprocmask(SIG_BLOCK, &signals, &outer);
    int signals_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    rc = join(&w, err);
    if (!rc)
        snprintf(w.sds_path, sizeof w.sds_path, "%s/.%s.sds", w.dir, o->name);
    rc = rc ? rc : listen_on_host(&w, err);
    rc = rc ? rc : isolate(&w, err);
    rc = rc ? rc : start_publisher(&w, err);
    rc = rc ? rc : token_file_put(&w.token, w.reply, time(NULL), err);
    rc = rc ? rc : write_agent_config(&w, err);
    rc = rc ? rc : write_bootstrap(&w, err);
    rc = rc ? rc : start_sidecar(&w, err);
    rc = rc ? rc : await_sidecar(&w, err);
    rc = rc ? rc : start_command(&w, &outer, err);
    if (!rc)
        supervise(&w, signals_fd);
    clean_up(&w);
    if (signals_fd >= 0)
        close(signals_fd);
    sigprocmask(SIG_SETMASK, &outer, NULL);
    return w.exit_code;
}
