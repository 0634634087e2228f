/* `weft demo`: the books mesh on this machine. It is made of the parts that stay (weft control,
 * weft run, the proxies' admin pages) and only starts them, asks, and tells what happened. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "agent/mesh_net.h"
#include "api/node.h"
#include "cli/cli.h"
#include "cli/embedded.h"

#define LINE_MAX_BYTES (4u << 20)
#define START_MS       30000
#define ANSWER_MS      60000
#define HOLDER_MS      10000
#define BURST          "2000"
#define HOST           "flaskapp.books.svc.cluster.local"

struct workload {
    const char *name, *labels, *account, *script, *port;
    pid_t pid;
};

struct demo {
    char dir[64], mesh[32], monitoring[32], log[96];
    char net[MESH_NET_PATH_MAX]; /* runtime directory of the mesh */
    const char *self, *proxy;
    struct arena a;
    pid_t control;
    struct workload w[3];
    int to_client, from_client;
    unsigned checks, failed;
    bool keep;
};

static volatile sig_atomic_t stopped;

static void on_signal(int signo)
{
    (void)signo;
    stopped = 1;
}

static void say(const char *fmt, ...) PRINTF_LIKE(1, 2);
static void say(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    fflush(stdout);
}

/* An expectation: printed, counted. */
static bool expect(struct demo *d, bool ok, const char *fmt, ...) PRINTF_LIKE(3, 4);
static bool expect(struct demo *d, bool ok, const char *fmt, ...)
{
    va_list ap;

    d->checks++;
    d->failed += !ok;
    printf("   %s ", ok ? "ok    " : "FAILED");
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
    fflush(stdout);
    return ok;
}

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

/* ---- files ---- */

static const char *text_of(const char *name)
{
    for (const struct embedded *e = embedded; e->name; e++) {
        if (!strcmp(e->name, name))
            return e->text;
    }
    return NULL;
}

/* Written beside and renamed, as editors do: nobody reads half a file. */
static int put_file(struct demo *d, const char *folder, const char *name, const char *as,
                    struct error *err)
{
    const char *text = text_of(name);
    char tmp[200], path[200];
    FILE *f;

    snprintf(tmp, sizeof tmp, "%s/%s.new", d->dir, as);
    snprintf(path, sizeof path, "%s/%s%s", d->dir, folder, as);
    f = fopen(tmp, "we");
    if (!f || fputs(text, f) < 0 || fclose(f) != 0 || rename(tmp, path) != 0)
        return error_set(err, E_IO, "%s: %s", path, strerror(errno));
    return 0;
}

static int prepare(struct demo *d, struct error *err)
{
    char path[200];
    int rc = 0;

    /* The mesh's name carries the same number: what belongs to this demo can be told. */
    snprintf(d->dir, sizeof d->dir, "/tmp/weft-demo-%d-XXXXXX", (int)getpid());
    if (!mkdtemp(d->dir))
        return error_set(err, E_IO, "%s: %s", d->dir, strerror(errno));
    snprintf(path, sizeof path, "%s/config", d->dir);
    snprintf(d->log, sizeof d->log, "%s/access.log", d->dir);
    if (mkdir(path, 0700) != 0)
        return error_set(err, E_IO, "%s: %s", path, strerror(errno));
    rc = mesh_net_dir(d->mesh, d->net, err);
    for (const struct embedded *e = embedded; e->name && !rc; e++) {
        if (sv_ends(sv_of(e->name), SV(".py")))
            rc = put_file(d, "", e->name, e->name, err);
        else if (strcmp(e->name, "virtual-service-split.yaml") != 0)
            rc = put_file(d, "config/", e->name, e->name, err);
    }
    return rc;
}

/* ---- processes ---- */

static pid_t start(struct demo *d, char *const *argv, int in, int out, const char *log)
{
    pid_t pid = fork();

    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    setpgid(0, 0); /* Ctrl-C is for the demo, which ends the others in order */
    if (log) {
        char path[200];
        snprintf(path, sizeof path, "%s/%s.log", d->dir, log);
        int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        dup2(fd, 2);
        if (out < 0)
            dup2(fd, 1);
    }
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    dup2(in < 0 ? null : in, 0);
    if (out >= 0)
        dup2(out, 1);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    execv(argv[0], argv);
    _exit(127);
}

static void show_log(struct demo *d, const char *name)
{
    char path[200], line[400];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s.log", d->dir, name);
    f = fopen(path, "re");
    if (f && fseek(f, 0, SEEK_END) == 0 && ftell(f) > 3000)
        fseek(f, -3000, SEEK_END);
    else if (f)
        rewind(f);
    while (f && fgets(line, sizeof line, f))
        fprintf(stderr, "   | %s", line);
    if (f)
        fclose(f);
}

static int start_control(struct demo *d, struct error *err)
{
    static const char json[] =
        "{\"id\":\"%REQ(X-REQUEST-ID)%\",\"route\":\"%ROUTE_NAME%\","
        "\"cluster\":\"%UPSTREAM_CLUSTER_RAW%\",\"endpoint\":\"%UPSTREAM_HOST%\","
        "\"code\":\"%RESPONSE_CODE%\",\"flags\":\"%RESPONSE_FLAGS%\","
        "\"peer\":\"%DOWNSTREAM_PEER_URI_SAN%\",\"local\":\"%DOWNSTREAM_LOCAL_URI_SAN%\","
        "\"tls\":\"%DOWNSTREAM_TLS_VERSION%\"}";
    char config[100], state[100];
    uint64_t end = now_ms() + START_MS;
    struct strbuf page;
    int rc;

    snprintf(config, sizeof config, "%s/config", d->dir);
    snprintf(state, sizeof state, "%s/state", d->dir);
    char *argv[] = {(char *)d->self,
                    "control",
                    "--config",
                    config,
                    "--namespace",
                    "books",
                    "--state",
                    state,
                    "--mesh",
                    d->mesh,
                    "--discovery-address",
                    "",
                    "--monitoring-address",
                    d->monitoring,
                    "--access-log-file",
                    d->log,
                    "--access-log-json",
                    (char *)json,
                    NULL};
    d->control = start(d, argv, -1, -1, "control");
    strbuf_init(&page, 1 << 20);
    do {
        struct error ignored = {0};
        if (waitpid(d->control, NULL, WNOHANG) == d->control) {
            d->control = 0;
            show_log(d, "control");
            strbuf_fini(&page);
            return error_set(err, E_CLOSED, "the control plane did not start");
        }
        nap(5);
        rc = cli_get(d->monitoring, "/ready", &page, &ignored);
    } while (rc && now_ms() < end && !stopped);
    strbuf_fini(&page);
    return rc ? error_set(err, E_TIMEOUT, "the control plane is not ready") : 0;
}

static int start_workload(struct demo *d, struct workload *w, int in, int out)
{
    char script[120], proxy_log[120], *argv[40];
    int n = 0;

    snprintf(script, sizeof script, "%s/%s", d->dir, w->script);
    snprintf(proxy_log, sizeof proxy_log, "%s/%s.log", d->dir, w->name);
    argv[n++] = (char *)d->self;
    argv[n++] = "run";
    argv[n++] = "--mesh";
    argv[n++] = d->mesh;
    argv[n++] = "--name";
    argv[n++] = (char *)w->name;
    argv[n++] = "--namespace";
    argv[n++] = "books";
    argv[n++] = "--labels";
    argv[n++] = (char *)w->labels;
    argv[n++] = "--service-account";
    argv[n++] = (char *)w->account;
    argv[n++] = "--proxy-log";
    argv[n++] = proxy_log;
    argv[n++] = "--drain-time-s";
    argv[n++] = "1";
    if (d->proxy) {
        argv[n++] = "--proxy";
        argv[n++] = (char *)d->proxy;
    }
    if (w->port) {
        argv[n++] = "--port";
        argv[n++] = (char *)w->port;
    }
    argv[n++] = "--";
    argv[n++] = "env";
    argv[n++] =
        (char *)arena_printf(&d->a, "VERSION=%s",
                             strstr(w->labels, "version=") ? strstr(w->labels, "version=") + 8 : "")
            .p;
    argv[n++] = "python3";
    argv[n++] = script;
    if (w->port)
        argv[n++] = (char *)w->port;
    argv[n] = NULL;
    w->pid = start(d, argv, in, out, w->name);
    return w->pid < 0 ? E_IO : 0;
}

static int start_workloads(struct demo *d, struct error *err)
{
    int to[2], from[2];

    if (pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0)
        return error_set(err, E_IO, "pipe: %s", strerror(errno));
    for (int i = 0; i < 3; i++) {
        bool client = !d->w[i].port;
        if (start_workload(d, &d->w[i], client ? to[0] : -1, client ? from[1] : -1))
            return error_set(err, E_IO, "fork: %s", strerror(errno));
    }
    close(to[0]);
    close(from[1]);
    d->to_client = to[1];
    d->from_client = from[0];
    return 0;
}

static bool end_one(pid_t pid)
{
    uint64_t end = now_ms() + 20000;

    if (pid <= 0)
        return true;
    kill(pid, SIGTERM);
    while (waitpid(pid, NULL, WNOHANG) == 0) {
        if (now_ms() > end) {
            kill(pid, SIGKILL);
            waitpid(pid, NULL, 0);
            return false;
        }
        nap(10);
    }
    return true;
}

static void remove_tree(const char *dir)
{
    char command[200];

    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    if (system(command) != 0)
        fprintf(stderr, "weft demo: %s is left behind\n", dir);
}

/* The network's holder ends by itself when its last user is gone, and takes the directory with it;
 * one that was killed leaves it. */
static void end_network(struct demo *d)
{
    char path[MESH_NET_PATH_MAX + 16];
    uint64_t end = now_ms() + HOLDER_MS;

    if (!d->net[0])
        return;
    snprintf(path, sizeof path, "%s/net.sock", d->net);
    while (access(path, F_OK) == 0 && now_ms() < end)
        nap(20);
    for (int i = 0; i < 20 && access(d->net, F_OK) == 0; i++)
        nap(20); /* the socket goes first, the rest at once after it */
    if (access(d->net, F_OK) == 0)
        remove_tree(d->net);
    *strrchr(d->net, '/') = 0;
    rmdir(d->net); /* when this was the last mesh of the user */
}

static void end_all(struct demo *d)
{

    if (d->to_client >= 0)
        close(d->to_client);
    for (int i = 0; i < 3; i++) {
        if (d->w[i].pid > 0)
            kill(d->w[i].pid, SIGTERM);
    }
    for (int i = 0; i < 3; i++)
        end_one(d->w[i].pid);
    end_one(d->control);
    if (d->from_client >= 0)
        close(d->from_client);
    if (!d->keep && d->dir[0])
        remove_tree(d->dir);
    end_network(d);
    arena_free(&d->a);
}

/* ---- asking ---- */

static uint32_t ready_endpoints(struct demo *d)
{
    struct error err = {0};
    struct node *list;
    uint32_t n = 0;

    if (cli_get_node(d->monitoring, "/debug/registryz", &d->a, &list, &err))
        return 0;
    for (uint32_t i = 0; i < list->n; i++) {
        const struct node *ports = node_get(list->v[i], "ports");
        const struct node *eps = ports && ports->n ? node_get(ports->v[0], "endpoints") : NULL;
        for (uint32_t k = 0; eps && k < eps->n; k++)
            n += node_bool(eps->v[k], "healthy", false);
    }
    return n;
}

/* Every sidecar is connected and has applied what the control plane knows: the endpoints that
 * became ready last have reached the client too. */
static bool applied_everywhere(struct demo *d)
{
    struct error err = {0};
    struct node *c;

    return !cli_get_node(d->monitoring, "/debug/configz", &d->a, &c, &err) &&
           !node_bool(c, "pending", true) && node_int(c, "proxies", 0) == 3 &&
           node_int(c, "applied", 0) == 3;
}

static int await_workloads(struct demo *d, struct error *err)
{
    uint64_t end = now_ms() + START_MS;

    while (ready_endpoints(d) < 2 || !applied_everywhere(d)) {
        for (int i = 0; i < 3; i++) {
            if (waitpid(d->w[i].pid, NULL, WNOHANG) == d->w[i].pid) {
                d->w[i].pid = 0;
                show_log(d, d->w[i].name);
                return error_set(err, E_CLOSED, "workload %s did not start", d->w[i].name);
            }
        }
        if (now_ms() > end || stopped)
            return error_set(err, E_TIMEOUT, "the workloads are not ready");
        nap(20);
    }
    return 0;
}

/* A job for the client, one line back. */
static int job(struct demo *d, const char *text, struct node **out, struct error *err)
{
    struct strbuf line;
    char chunk[65536];
    uint64_t end = now_ms() + ANSWER_MS;
    int rc = 0;

    if (write(d->to_client, text, strlen(text)) < 0 || write(d->to_client, "\n", 1) != 1)
        return error_set(err, E_IO, "the client is gone");
    strbuf_init(&line, LINE_MAX_BYTES);
    while (!rc && (!line.n || line.p[line.n - 1] != '\n')) {
        struct pollfd p = {.fd = d->from_client, .events = POLLIN};
        ssize_t n;
        if (now_ms() > end || stopped) {
            rc = error_set(err, E_TIMEOUT, "the client does not answer");
        } else if (poll(&p, 1, 200) > 0) {
            n = read(d->from_client, chunk, sizeof chunk);
            if (n <= 0)
                rc = error_set(err, E_CLOSED, "the client is gone");
            else
                strbuf_add(&line, chunk, (size_t)n);
        }
    }
    rc = rc ? rc : node_parse(arena_sv(&d->a, strbuf_sv(&line)), "client", &d->a, out, err);
    strbuf_fini(&line);
    return rc;
}

/* The log lines of one request, the client's sidecar's and the server's. */
struct trace {
    sv route, cluster, endpoint, peer, local, tls;
    bool outbound, inbound;
};

static bool read_trace(struct demo *d, sv id, struct trace *t)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    FILE *f = fopen(d->log, "re");

    memset(t, 0, sizeof *t);
    while (f && (n = getline(&line, &cap, f)) > 0) {
        struct error err = {0};
        struct node *x;
        if (sv_find_sv(sv_make(line, (size_t)n), id) < 0 ||
            node_parse(arena_sv(&d->a, sv_make(line, (size_t)n)), "log", &d->a, &x, &err))
            continue;
        if (sv_starts(node_str(x, "cluster"), SV("outbound"))) {
            t->outbound = true;
            t->route = node_str(x, "route");
            t->cluster = node_str(x, "cluster");
            t->endpoint = node_str(x, "endpoint");
        } else {
            t->inbound = true;
            t->peer = node_str(x, "peer");
            t->local = node_str(x, "local");
            t->tls = node_str(x, "tls");
        }
    }
    free(line);
    if (f)
        fclose(f);
    return t->outbound && t->inbound;
}

/* ---- what is shown ---- */

static void show_topology(struct demo *d)
{
    struct error err = {0};
    struct cli_table t;
    struct node *list;

    if (cli_get_node(d->monitoring, "/debug/syncz", &d->a, &list, &err)) {
        fprintf(stderr, "weft demo: %s\n", err.msg);
        return;
    }
    cli_table_init(&t, 4);
    cli_table_add(&t, SV("   WORKLOAD"));
    cli_table_add(&t, SV("ADDRESS"));
    cli_table_add(&t, SV("CONFIGURATION"));
    cli_table_add(&t, SV("IDENTITY"));
    for (uint32_t i = 0; i < list->n; i++) {
        const struct node *p = list->v[i];
        cli_table_add(&t, arena_printf(&d->a, "   %.*s.%.*s", SV_ARG(node_str(p, "name")),
                                       SV_ARG(node_str(p, "namespace"))));
        cli_table_add(&t, node_str(p, "ip"));
        cli_table_add(&t, node_str(node_get(p, "LDS"), "state"));
        cli_table_add(&t, node_str(p, "identity"));
    }
    cli_table_print(&t);
    expect(d, list->n == 3, "three sidecars are connected");
}

static void show_request(struct demo *d, const char *url, const char *user, const char *version)
{
    struct error err = {0};
    struct node *r;
    struct trace t;
    sv text = arena_printf(&d->a, "{\"url\": \"%s\", \"headers\": {%s%s%s}}", url,
                           user ? "\"end-user\": \"" : "", user ? user : "", user ? "\"" : "");
    uint64_t end = now_ms() + 10000;

    say("\n   GET %s%s%s\n", url, user ? "   end-user: " : "", user ? user : "");
    if (job(d, text.p, &r, &err)) {
        expect(d, false, "%s", err.msg);
        return;
    }
    sv got = node_str(node_get(r, "body"), "version");
    sv id = node_str(node_path(r, "body.headers"), "x-request-id");
    expect(d, sv_eq_c(got, version), "answered by %.*s%.*s", SV_ARG(got),
           SV_ARG(node_str(r, "error")));
    while (id.n && !read_trace(d, id, &t) && now_ms() < end)
        nap(50);
    if (!id.n || !t.outbound) {
        expect(d, false, "the sidecars logged the request");
        return;
    }
    say("          rule      %.*s\n", SV_ARG(t.route));
    say("          subset    %.*s\n", SV_ARG(t.cluster));
    say("          endpoint  %.*s\n", SV_ARG(t.endpoint));
    say("          from      %.*s\n", SV_ARG(t.peer));
    say("          to        %.*s  (%.*s)\n", SV_ARG(t.local), SV_ARG(t.tls));
    expect(d, sv_ends(t.peer, SV("/ns/books/sa/client")) && sv_starts(t.tls, SV("TLS")),
           "mutual TLS, both identities from the mesh's CA");
    expect(d, sv_find_sv(t.cluster, sv_of(version)) >= 0, "through the subset of %s", version);
}

/* A counter of the client's sidecar, asked inside its namespace. */
static long counter(struct demo *d, const char *name)
{
    char text[32] = "";
    int out[2];
    pid_t pid;

    if (pipe2(out, O_CLOEXEC) != 0)
        return -1;
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        struct error err = {0};
        struct strbuf s;
        sv rest, line, key, value;
        strbuf_init(&s, 64u << 20);
        if (mesh_net_enter_workload(d->mesh, "client", &err) ||
            cli_get("127.0.0.1:15000", "/stats", &s, &err))
            _exit(1);
        for (rest = strbuf_sv(&s); rest.n;) {
            sv_cut(rest, '\n', &line, &rest);
            ptrdiff_t colon = sv_rfind(line, ':');
            key = sv_first(line, colon < 0 ? 0 : (size_t)colon);
            value = sv_trim(sv_from(line, (size_t)colon + 1));
            if (sv_eq_c(key, name) && write(out[1], value.p, value.n) > 0)
                _exit(0);
        }
        _exit(1);
    }
    close(out[1]);
    ssize_t n = read(out[0], text, sizeof text - 1);
    close(out[0]);
    waitpid(pid, NULL, 0);
    return n > 0 ? strtol(text, NULL, 10) : -1;
}

static void show_metrics(struct demo *d, long least_v1, long least_v2)
{
    static const char v1[] = "cluster.outbound|80|subset-v1|" HOST ".upstream_rq_200";
    static const char v2[] = "cluster.outbound|80|subset-v2|" HOST ".upstream_rq_200";
    long a = counter(d, v1), b = counter(d, v2);

    expect(d, a >= least_v1, "%s: %ld", v1, a);
    expect(d, b >= least_v2, "%s: %ld", v2, b);
}

static void show_split(struct demo *d)
{
    struct error err = {0};
    struct node *r;
    long v1, v2, failed;

    say("\n5. The VirtualService becomes a 90/10 split while requests run\n");
    if (write(
            d->to_client, "{\"url\": \"http://" HOST "/\", \"count\": " BURST ", \"threads\": 4}\n",
            strlen("{\"url\": \"http://" HOST "/\", \"count\": " BURST ", \"threads\": 4}\n")) < 0)
        return;
    nap(200);
    if (put_file(d, "config/", "virtual-service-split.yaml", "virtual-service.yaml", &err)) {
        expect(d, false, "%s", err.msg);
        return;
    }
    /* Its answer is the first line; then a second burst, all of it under the new rule. */
    if (job(d, "{\"url\": \"http://" HOST "/\", \"count\": " BURST ", \"threads\": 4}", &r, &err)) {
        expect(d, false, "%s", err.msg);
        return;
    }
    sv both = r->kind == NODE_MAP ? node_str(r, "count") : (sv){NULL, 0};
    failed = (long)node_int(r, "failed", -1);
    expect(d, both.n && failed == 0, "%.*s requests across the change, %ld failed", SV_ARG(both),
           failed);
    struct strbuf line;
    strbuf_init(&line, LINE_MAX_BYTES);
    uint64_t end = now_ms() + ANSWER_MS;
    while ((!line.n || line.p[line.n - 1] != '\n') && now_ms() < end) {
        char chunk[4096];
        struct pollfd p = {.fd = d->from_client, .events = POLLIN};
        ssize_t n = poll(&p, 1, 200) > 0 ? read(d->from_client, chunk, sizeof chunk) : 0;
        if (n > 0)
            strbuf_add(&line, chunk, (size_t)n);
    }
    if (node_parse(arena_sv(&d->a, strbuf_sv(&line)), "client", &d->a, &r, &err) == 0) {
        v1 = (long)node_int(r, "v1", 0);
        v2 = (long)node_int(r, "v2", 0);
        failed = (long)node_int(r, "failed", -1);
        say("          v1 %ld   v2 %ld   failed %ld\n", v1, v2, failed);
        /* Five standard deviations of 2,000 draws at 10 % are 67. */
        expect(d, failed == 0 && v2 > 130 && v2 < 270, "the split holds and no request failed");
    } else {
        expect(d, false, "%s", err.msg);
    }
    strbuf_fini(&line);
}

static void show_next(struct demo *d)
{
    const char *me = program_invocation_name;

    say("\n6. Go on exploring\n"
        "          http://%s/                       status and metrics of the control plane\n"
        "          %s/config             the mesh's configuration: edit it\n"
        "          %s proxy-status --control %s\n"
        "          %s proxy-config --mesh %s routes client\n"
        "          %s proxy-config --mesh %s endpoints client\n"
        "          %s exec --mesh %s client -- curl -s -H 'end-user: jason' "
        "http://flaskapp.books/\n"
        "          tail -f %s\n",
        d->monitoring, d->dir, me, d->monitoring, me, d->mesh, me, d->mesh, me, d->mesh, d->log);
}

static int play(struct demo *d, struct error *err)
{
    uint64_t began = now_ms();
    int rc;

    say("weft %s: the books mesh on this machine (%s)\n\n", WEFT_VERSION,
        geteuid() == 0 ? "as root" : "as an ordinary user, in a user namespace");
    say("1. A control plane and three workloads, each in a network namespace of its own\n");
    rc = start_control(d, err);
    rc = rc ? rc : start_workloads(d, err);
    rc = rc ? rc : await_workloads(d, err);
    if (rc)
        return rc;
    expect(d, true, "everything is up after %lu ms", now_ms() - began);
    say("\n2. Who is there\n");
    show_topology(d);
    say("\n3. Requests, and the path each one took\n");
    show_request(d, "http://" HOST "/", NULL, "v1");
    show_request(d, "http://" HOST "/", "jason", "v2");
    show_request(d, "http://flaskapp.books/", "jason", "v2");
    show_request(d, "http://flaskapp.books/", "somebody", "v1");
    say("\n4. The metrics of the client's sidecar that counted them\n");
    show_metrics(d, 2, 2);
    show_split(d);
    return 0;
}

static int pick_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), port = 15014;

    if (fd >= 0 && bind(fd, (struct sockaddr *)&a, n) == 0 &&
        getsockname(fd, (struct sockaddr *)&a, &n) == 0)
        port = ntohs(a.sin_port);
    close(fd);
    return port;
}

int cmd_demo(int argc, char **argv)
{
    struct demo d = {.to_client = -1, .from_client = -1};
    const struct cli_option options[] = {
        {"--proxy", "PATH", "sidecar to use: weft-proxy (default) or an Envoy", &d.proxy},
        {"--keep", NULL, "leave the files of the demo behind", .flag = &d.keep},
    };
    struct error err = {0};
    struct sigaction sa = {.sa_handler = on_signal};
    bool interactive = isatty(0);
    char self[4096];
    ssize_t n;
    int first, rc = cli_options("weft demo [OPTIONS]", options, 2, argc, argv, &first, &err);

    if (rc == E_CANCELLED)
        return 0;
    if (rc) {
        fprintf(stderr, "weft demo: %s\n", err.msg);
        return 2;
    }
    n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n < 0 ? 0 : n] = 0;
    d.self = self;
    arena_init(&d.a);
    snprintf(d.mesh, sizeof d.mesh, "demo-%d", (int)getpid());
    snprintf(d.monitoring, sizeof d.monitoring, "127.0.0.1:%d", pick_port());
    d.w[0] = (struct workload){
        "flaskapp-v1", "app=flaskapp,version=v1", "flaskapp-v1", "flaskapp.py", "8080", 0};
    d.w[1] = (struct workload){
        "flaskapp-v2", "app=flaskapp,version=v2", "flaskapp-v2", "flaskapp.py", "8080", 0};
    d.w[2] = (struct workload){"client", "app=client", "client", "client.py", NULL, 0};
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    signal(SIGPIPE, SIG_IGN);
    rc = prepare(&d, &err);
    rc = rc ? rc : play(&d, &err);
    if (rc) {
        fprintf(stderr, "weft demo: %s\n", err.msg);
    } else {
        show_next(&d);
        say("\n%u expectations, %u failed\n", d.checks, d.failed);
        if (interactive && !stopped) {
            say("\nThe mesh stays up; Ctrl-C ends it.\n");
            while (!stopped)
                pause();
        }
    }
    say("\nending the mesh\n");
    end_all(&d);
    return rc || d.failed ? 1 : 0;
}
