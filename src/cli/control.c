#include "mesh/control.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "agent/mesh_net.h"
#include "base/log.h"
#include "cli/cli.h"

LOG_COMPONENT(control);

#define EXPECTED_MAX 4096

struct settings {
    const char *config, *ns, *state, *mesh, *plain, *tls, *monitoring, *trust_domain, *domain, *ttl,
        *token_ttl;
    const char *log_file, *log_format, *log_json, *level, *tls_port, *otlp, *zipkin, *sampling;
    bool no_mesh, strict;
    /* What the texts say. */
    enum log_level log_level;
    uint32_t ttl_s, token_ttl_s;
    double percent;
};

static void on_signal(int signo, void *arg)
{
    (void)signo;
    loop_stop(arg);
}

static int cannot_keep(const char *path, struct error *err)
{
    return error_set(err, E_IO,
                     "%s cannot be made, and the root of the mesh's identities is to be kept there "
                     "(%s): say --state DIR",
                     path, strerror(errno));
}

/* Where the CA's root is kept between starts: a path of the user's own. */
static int state_dir(const struct settings *s, char out[PATH_MAX], struct error *err)
{
    const char *home = getenv("HOME"), *xdg = getenv("XDG_STATE_HOME");
    char part[PATH_MAX];

    if (s->state)
        snprintf(out, PATH_MAX, "%s", s->state);
    else if (geteuid() == 0)
        snprintf(out, PATH_MAX, "/var/lib/weft/%s", s->mesh);
    else if (xdg && *xdg == '/')
        snprintf(out, PATH_MAX, "%s/weft/%s", xdg, s->mesh);
    else if (home && *home == '/')
        snprintf(out, PATH_MAX, "%s/.local/state/weft/%s", home, s->mesh);
    else
        return error_set(err, E_INVALID, "no home directory: say --state DIR");
    for (char *p = out + 1; *p; p++) {
        if (*p != '/')
            continue;
        snprintf(part, sizeof part, "%.*s", (int)(p - out), out);
        if (mkdir(part, 0755) != 0 && errno != EEXIST)
            return cannot_keep(part, err);
    }
    if (mkdir(out, 0700) != 0 && errno != EEXIST)
        return cannot_keep(out, err);
    return 0;
}

struct names {
    struct arena *a;
    const char *v[EXPECTED_MAX];
    uint32_t n;
};

static void add_name(void *arg, const char *workload, pid_t pid)
{
    struct names *l = arg;
    (void)pid;
    if (l->n < EXPECTED_MAX)
        l->v[l->n++] = arena_sv(l->a, sv_of(workload)).p;
}

/* The mesh network of this machine, for workloads of `weft run`. */
static int join_network(const struct settings *s, struct mesh_net **net, char *socket_path,
                        size_t socket_size, struct control_opts *o, struct arena *a,
                        struct error *err)
{
    char dir[MESH_NET_PATH_MAX], text[ADDR_TEXT_MAX];
    struct addr at;
    uint16_t port;
    int rc;

    if (s->no_mesh)
        return 0;
    rc = cli_port(s->tls_port, &port, err);
    rc = rc ? rc : mesh_net_dir(s->mesh, dir, err);
    if (rc)
        return rc;
    struct names *running = arena_new(a, struct names);
    running->a = a;
    mesh_net_each(s->mesh, add_name, running);
    o->expected = running->v;
    o->n_expected = running->n;
    *net = mesh_net_join(s->mesh, err);
    if (!*net)
        return err->code;
    at = *mesh_net_gateway(*net);
    addr_set_port(&at, port);
    rc = mesh_net_listen(*net, &at, &o->tls_fd, err);
    if (rc == E_EXISTS)
        return error_set(err, rc,
                         "mesh '%s' has a control plane already (%.*s is in use): end that one, or "
                         "name another mesh with --mesh, here and to weft run",
                         s->mesh, SV_ARG(addr_text(&at, text)));
    if (rc)
        return rc;
    o->discovery_address = arena_sv(a, addr_text(&at, text));
    snprintf(socket_path, socket_size, "%s/control.sock", dir);
    o->run_socket = socket_path;
    return 0;
}

static int serve(struct control_opts *o, struct error *err)
{
    struct loop *l = loop_new(NULL);
    struct control *c;

    o->loop = l;
    c = control_new(o, err);
    if (!c) {
        struct error why = *err;
        loop_free(l);
        if (why.code != E_EXISTS)
            return why.code;
        return error_set(err, why.code,
                         "%s; beside another control plane give this one addresses of its own "
                         "(--discovery-address, --tls-address, --monitoring-address)",
                         why.msg);
    }
    loop_on_signal(l, SIGTERM, on_signal, l);
    loop_on_signal(l, SIGINT, on_signal, l);
    signal(SIGPIPE, SIG_IGN);
    loop_run(l);
    log_info(&log_control, "control plane ends");
    control_free(c);
    loop_free(l);
    return 0;
}

/* 0, E_CANCELLED (help was asked for), or a sentence. */
static int read_settings(int argc, char **argv, struct settings *s, struct error *err)
{
    const struct cli_option options[] = {
        {"--config", "DIR", "Kubernetes and Istio YAML, watched", &s->config},
        {"--namespace", "NS", "of objects that name none (default)", &s->ns},
        {"--state", "DIR", "where the root certificate is kept", &s->state},
        {"--mesh", "NAME", "mesh network of this machine (default: default)", &s->mesh},
        {"--no-mesh-network", NULL, "no mesh network and no registration of weft run",
         .flag = &s->no_mesh},
        {"--discovery-address", "ADDR",
         "plaintext discovery, loopback only (127.0.0.1:15010; '': none)", &s->plain},
        {"--tls-address", "ADDR", "discovery and certificates over TLS on this host ('': none)",
         &s->tls},
        {"--tls-port", "PORT", "the same inside the mesh network (15012)", &s->tls_port},
        {"--monitoring-address", "ADDR", "metrics and status (127.0.0.1:15014; '': none)",
         &s->monitoring},
        {"--trust-domain", "NAME", "of identities (cluster.local)", &s->trust_domain},
        {"--domain", "NAME", "suffix of service names (cluster.local)", &s->domain},
        {"--certificate-seconds", "N", "lifetime of workload certificates (86400)", &s->ttl},
        {"--token-seconds", "N", "lifetime of the tokens that weft run proves itself with (3600)",
         &s->token_ttl},
        {"--access-log-file", "PATH", "sidecars log requests there (/dev/stdout; default: not)",
         &s->log_file},
        {"--access-log-format", "TEXT", "Envoy's format string (default: Istio's)", &s->log_format},
        {"--access-log-json", "OBJECT", "log JSON of this form instead", &s->log_json},
        {"--tracing-otlp", "HOST:PORT", "sidecars send spans there: OTLP over gRPC", &s->otlp},
        {"--tracing-zipkin", "HOST:PORT", "the same, Zipkin's JSON at /api/v2/spans; B3",
         &s->zipkin},
        {"--tracing-sampling", "PERCENT", "of the requests that come without a decision (1)",
         &s->sampling},
        {"--mtls-strict", NULL, "sidecars refuse plaintext from others", .flag = &s->strict},
        {"--log-level", "LEVEL", "trace, debug, info, warning, error", &s->level},
    };
    int first, rc = cli_options("weft control --config DIR [OPTIONS]", options,
                                sizeof options / sizeof *options, argc, argv, &first, err);
    if (rc)
        return rc;
    if (first < argc)
        return error_set(err, E_INVALID, "'%s' is not understood", argv[first]);
    if (!s->config)
        return error_set(err, E_INVALID, "--config DIR is missing");
    if (log_level_parse(sv_of(s->level), &s->log_level))
        return error_set(err, E_INVALID, "--log-level: '%s' is no level", s->level);
    rc = cli_u32(s->ttl, "--certificate-seconds", &s->ttl_s, err);
    rc = rc ? rc : cli_u32(s->token_ttl, "--token-seconds", &s->token_ttl_s, err);
    return rc ? rc : cli_percent(s->sampling, "--tracing-sampling", &s->percent, err);
}

static void apply(const struct settings *s, struct control_opts *o)
{
    o->config_dir = s->config;
    o->namespace = sv_of(s->ns);
    o->plain_address = s->plain;
    o->tls_address = s->tls;
    o->monitoring_address = s->monitoring;
    o->trust_domain = sv_of(s->trust_domain);
    o->domain_suffix = sv_of(s->domain);
    o->certificate_ttl_s = s->ttl_s;
    o->token_ttl_s = s->token_ttl_s;
    o->translate = (struct translate_options){.access_log_path = sv_of(s->log_file),
                                              .access_log_format = sv_of(s->log_format),
                                              .access_log_json = sv_of(s->log_json),
                                              .tracing_otlp = sv_of(s->otlp),
                                              .tracing_zipkin = sv_of(s->zipkin),
                                              .tracing_sampling = s->percent,
                                              .mtls_strict = s->strict};
}

int cmd_control(int argc, char **argv)
{
    struct settings s = {.mesh = CLI_MESH,
                         .plain = "127.0.0.1:15010",
                         .tls = "",
                         .monitoring = "127.0.0.1:15014",
                         .trust_domain = "cluster.local",
                         .domain = "cluster.local",
                         .ttl = "0",
                         .token_ttl = "0",
                         .level = "info",
                         .sampling = "1",
                         .tls_port = "15012"};
    struct control_opts o = {.tls_fd = -1};
    struct error err = {0};
    struct mesh_net *net = NULL;
    char state[PATH_MAX], socket_path[MESH_NET_PATH_MAX + 32];
    struct arena a;

    int rc = read_settings(argc, argv, &s, &err);
    if (rc == E_CANCELLED)
        return 0;
    if (rc) {
        fprintf(stderr, "weft control: %s\n", err.msg);
        return 2;
    }
    log_set_level(NULL, s.log_level);
    arena_init(&a);
    apply(&s, &o);
    o.state_dir = state;
    rc = state_dir(&s, state, &err);
    rc = rc ? rc : join_network(&s, &net, socket_path, sizeof socket_path, &o, &a, &err);
    rc = rc ? rc : serve(&o, &err);
    if (o.run_socket)
        unlink(o.run_socket);
    mesh_net_leave(net);
    arena_free(&a);
    if (rc)
        fprintf(stderr, "weft control: %s\n", err.msg);
    return rc ? 1 : 0;
}
