#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "agent/mesh_net.h"
#include "agent/workload.h"
#include "cli/cli.h"

#define LIST_MAX 64

struct lists {
    struct bootstrap_label labels[LIST_MAX];
    uint16_t ports[LIST_MAX], in[LIST_MAX], out[LIST_MAX];
    sv cidrs[LIST_MAX];
    struct workload_publish publish[LIST_MAX];
    uint32_t n_labels, n_ports, n_in, n_out, n_cidrs, n_publish;
};

/* "app=flaskapp,version=v1" */
static int add_labels(void *arg, const char *value, struct error *err)
{
    struct lists *l = arg;
    sv rest = sv_of(value), item, key, v;

    while (rest.n) {
        sv_cut(rest, ',', &item, &rest);
        if (!sv_cut(item, '=', &key, &v) || !key.n)
            return error_set(err, E_INVALID, "--labels: '%.*s' is not of the form key=value",
                             SV_ARG(item));
        if (l->n_labels == LIST_MAX)
            return error_set(err, E_LIMIT, "--labels: more than %d", LIST_MAX);
        l->labels[l->n_labels++] = (struct bootstrap_label){key, v};
    }
    return 0;
}

static int add_ports(uint16_t *list, uint32_t *n, const char *value, struct error *err)
{
    sv rest = sv_of(value), item;

    while (rest.n) {
        char text[16];
        int rc;
        sv_cut(rest, ',', &item, &rest);
        snprintf(text, sizeof text, "%.*s", item.n > 10 ? 10 : (int)item.n, item.p);
        if (*n == LIST_MAX)
            return error_set(err, E_LIMIT, "more than %d ports", LIST_MAX);
        rc = cli_port(text, &list[*n], err);
        if (rc)
            return rc;
        (*n)++;
    }
    return 0;
}

static int add_port(void *arg, const char *value, struct error *err)
{
    struct lists *l = arg;
    return add_ports(l->ports, &l->n_ports, value, err);
}

static int exclude_in(void *arg, const char *value, struct error *err)
{
    struct lists *l = arg;
    return add_ports(l->in, &l->n_in, value, err);
}

static int exclude_out(void *arg, const char *value, struct error *err)
{
    struct lists *l = arg;
    return add_ports(l->out, &l->n_out, value, err);
}

static int exclude_cidr(void *arg, const char *value, struct error *err)
{
    struct lists *l = arg;
    if (l->n_cidrs == LIST_MAX)
        return error_set(err, E_LIMIT, "more than %d CIDRs", LIST_MAX);
    l->cidrs[l->n_cidrs++] = sv_of(value);
    return 0;
}

/* "18080:8080" */
static int add_publish(void *arg, const char *value, struct error *err)
{
    struct lists *l = arg;
    uint16_t pair[2];
    char text[16];
    const char *colon = strchr(value, ':');
    int rc;

    if (!colon || colon - value > 10)
        return error_set(err, E_INVALID, "--publish: '%s' is not of the form HOSTPORT:PORT", value);
    if (l->n_publish == LIST_MAX)
        return error_set(err, E_LIMIT, "--publish: more than %d", LIST_MAX);
    snprintf(text, sizeof text, "%.*s", (int)(colon - value), value);
    rc = cli_port(text, &pair[0], err);
    rc = rc ? rc : cli_port(colon + 1, &pair[1], err);
    if (!rc)
        l->publish[l->n_publish++] = (struct workload_publish){pair[0], pair[1]};
    return rc;
}

int cmd_run(int argc, char **argv)
{
    struct workload_opts o = {.mesh = CLI_MESH, .ns = "default", .service_account = "default"};
    struct lists l = {0};
    const char *concurrency = "1", *seconds = "0", *drain = "5";
    const struct cli_option options[] = {
        {"--name", "NAME", "of the workload (required)", &o.name},
        {"--namespace", "NS", "default: default", &o.ns},
        {"--labels", "K=V,…", "what services and subsets select on", .many = add_labels, .arg = &l},
        {"--service-account", "NAME", "of its identity (default: default)", &o.service_account},
        {"--port", "PORT,…", "that the command listens on", .many = add_port, .arg = &l},
        {"--publish", "HOSTPORT:PORT", "offered on the host's 127.0.0.1; may repeat",
         .many = add_publish, .arg = &l},
        {"--mesh", "NAME", "mesh network to join (default: default)", &o.mesh},
        {"--proxy", "PATH", "weft-proxy, or an Envoy to take its place", &o.proxy},
        {"--proxy-log", "FILE", "the sidecar's own output (default: standard error)", &o.proxy_log},
        {"--proxy-log-level", "LEVEL", "default: warning", &o.log_level},
        {"--concurrency", "N", "workers of the sidecar (1)", &concurrency},
        {"--drain-time-s", "N", "for requests under way when the workload is told to end (5)",
         &drain},
        {"--certificate-seconds", "N", "lifetime of its certificate (what the CA gives)", &seconds},
        {"--no-dns-capture", NULL, "names resolve as on the host", .flag = &o.no_dns},
        {"--exclude-inbound-ports", "PORT,…", "not intercepted", .many = exclude_in, .arg = &l},
        {"--exclude-outbound-ports", "PORT,…", "not intercepted", .many = exclude_out, .arg = &l},
        {"--exclude-outbound-cidr", "CIDR", "not intercepted; may repeat", .many = exclude_cidr,
         .arg = &l},
    };
    struct error err = {0};
    struct arena a;
    char self[4096];
    ssize_t n;
    int first, rc;

    rc = cli_options("weft run --name NAME [OPTIONS] -- COMMAND [ARGUMENTS]", options,
                     sizeof options / sizeof *options, argc, argv, &first, &err);
    if (rc == E_CANCELLED)
        return 0;
    if (!rc && !o.name)
        rc = error_set(&err, E_INVALID, "--name NAME is missing");
    if (!rc && first >= argc)
        rc = error_set(&err, E_INVALID, "the command is missing: weft run --name NAME -- COMMAND");
    rc = rc ? rc : cli_u32(concurrency, "--concurrency", &o.concurrency, &err);
    rc = rc ? rc : cli_u32(seconds, "--certificate-seconds", &o.certificate_seconds, &err);
    rc = rc ? rc : cli_u32(drain, "--drain-time-s", &o.drain_s, &err);
    if (rc) {
        fprintf(stderr, "weft run: %s\n", err.msg);
        return 2;
    }
    arena_init(&a);
    n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n < 0 ? 0 : n] = 0;
    o.agent = self;
    if (!o.proxy)
        o.proxy = cli_sibling("weft-proxy", &a);
    o.labels = l.labels;
    o.n_labels = l.n_labels;
    o.ports = l.ports;
    o.n_ports = l.n_ports;
    o.exclude_inbound_ports = l.in;
    o.n_exclude_inbound_ports = l.n_in;
    o.exclude_outbound_ports = l.out;
    o.n_exclude_outbound_ports = l.n_out;
    o.exclude_outbound_cidrs = l.cidrs;
    o.n_exclude_outbound_cidrs = l.n_cidrs;
    o.publish = l.publish;
    o.n_publish = l.n_publish;
    o.command = argv + first;
    if (!o.proxy) {
        error_set(&err, E_NOT_FOUND, "weft-proxy is not beside this program: say --proxy PATH");
        rc = 125;
    } else {
        rc = workload_run(&o, &err);
    }
    if (err.code)
        fprintf(stderr, "weft run: %s: %s\n", o.name, err.msg);
    arena_free(&a);
    return rc;
}

int cmd_exec(int argc, char **argv)
{
    const char *mesh = CLI_MESH, *workload;
    const struct cli_option options[] = {
        {"--mesh", "NAME", "mesh network (default: default)", &mesh},
    };
    struct error err = {0};
    int first, rc = cli_options("weft exec [OPTIONS] WORKLOAD -- COMMAND [ARGUMENTS]", options, 1,
                                argc, argv, &first, &err);

    if (rc == E_CANCELLED)
        return 0;
    if (!rc && first < argc) {
        workload = argv[first++];
        if (first < argc && !strcmp(argv[first], "--"))
            first++;
    } else {
        workload = NULL;
    }
    if (!rc && (!workload || first >= argc))
        rc = error_set(&err, E_INVALID, "weft exec WORKLOAD -- COMMAND");
    if (rc) {
        fprintf(stderr, "weft exec: %s\n", err.msg);
        return 2;
    }
    rc = mesh_net_enter_workload(mesh, workload, &err);
    if (!rc) {
        execvp(argv[first], argv + first);
        error_set(&err, E_IO, "%s could not be started", argv[first]);
    }
    fprintf(stderr, "weft exec: %s\n", err.msg);
    return 125;
}
