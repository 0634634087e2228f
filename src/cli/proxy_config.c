#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "agent/mesh_net.h"
#include "api/node.h"
#include "cli/cli.h"

#define PAGE_MAX (512u << 20)

struct asking {
    struct arena a;
    struct node *dump;
    struct cli_table t;
};

static void cell(struct asking *q, sv v)
{
    cli_table_add(&q->t, v);
}

static void head(struct asking *q, const char *const *names, size_t n)
{
    cli_table_init(&q->t, n);
    for (size_t i = 0; i < n; i++)
        cell(q, sv_of(names[i]));
}

/* Calls fn for every item of a list of the dump, wherever it stands: config_dump's sections are
 * told by the names of their lists. `inner` is the path from the item to the resource. */
static void each(struct asking *q, const char *list, const char *inner,
                 void (*fn)(struct asking *q, const struct node *n))
{
    const struct node *configs = node_get(q->dump, "configs");

    for (uint32_t i = 0; configs && i < configs->n; i++) {
        const struct node *l = node_get(configs->v[i], list);
        for (uint32_t k = 0; l && l->kind == NODE_SEQ && k < l->n; k++) {
            const struct node *n = node_path(l->v[k], inner);
            if (n)
                fn(q, n);
        }
    }
}

/* ---- clusters ---- */

static void cluster(struct asking *q, const struct node *n)
{
    sv name = node_str(n, "name"), direction, port, subset, host, rest;
    sv type = node_str(n, "type");

    if (sv_cut(name, '|', &direction, &rest) && sv_cut(rest, '|', &port, &rest) &&
        sv_cut(rest, '|', &subset, &host)) {
        cell(q, host);
        cell(q, port);
        cell(q, subset);
        cell(q, direction);
    } else {
        cell(q, name);
        for (int i = 0; i < 3; i++)
            cell(q, (sv){NULL, 0});
    }
    cell(q, type.n ? type : SV("STATIC"));
}

static void clusters(struct asking *q)
{
    static const char *const names[] = {"SERVICE", "PORT", "SUBSET", "DIRECTION", "TYPE"};
    head(q, names, 5);
    each(q, "static_clusters", "cluster", cluster);
    each(q, "dynamic_active_clusters", "cluster", cluster);
    each(q, "dynamic_warming_clusters", "cluster", cluster);
}

/* ---- listeners ---- */

static void listener(struct asking *q, const struct node *n)
{
    const struct node *s = node_path(n, "address.socket_address"), *chains;

    cell(q, node_str(s, "address"));
    cell(q, node_str(s, "port_value"));
    cell(q, node_str(n, "name"));
    cell(q, node_str(n, "traffic_direction"));
    chains = node_get(n, "filter_chains");
    cell(q, arena_printf(&q->a, "%u", chains ? chains->n : 0));
}

static void listeners(struct asking *q)
{
    static const char *const names[] = {"ADDRESS", "PORT", "NAME", "DIRECTION", "CHAINS"};
    head(q, names, 5);
    each(q, "static_listeners", "listener", listener);
    each(q, "dynamic_listeners", "active_state.listener", listener);
}

/* ---- routes ---- */

static sv describe_match(struct asking *q, const struct node *m)
{
    static const char *const kinds[] = {"prefix", "path", "path_separated_prefix"};
    struct strbuf s;
    const struct node *headers = node_get(m, "headers");
    sv out;

    strbuf_init(&s, 65536);
    for (size_t i = 0; i < 3; i++) {
        if (node_get(m, kinds[i]))
            strbuf_addf(&s, "%.*s%s", SV_ARG(node_str(m, kinds[i])), i == 1 ? "" : "*");
    }
    if (node_get(m, "safe_regex"))
        strbuf_addf(&s, "regex %.*s", SV_ARG(node_str(node_get(m, "safe_regex"), "regex")));
    for (uint32_t i = 0; headers && i < headers->n; i++) {
        sv exact = node_str(node_get(headers->v[i], "string_match"), "exact");
        strbuf_addf(&s, " %.*s%s%.*s", SV_ARG(node_str(headers->v[i], "name")), exact.n ? "=" : "",
                    SV_ARG(exact));
    }
    out = arena_sv(&q->a, strbuf_sv(&s));
    strbuf_fini(&s);
    return out;
}

static sv describe_action(struct asking *q, const struct node *r)
{
    const struct node *action = node_get(r, "route"), *list;
    struct strbuf s;
    sv out;

    if (node_get(r, "redirect"))
        return SV("redirect");
    if (node_get(r, "direct_response"))
        return SV("direct response");
    if (node_str(action, "cluster").n)
        return node_str(action, "cluster");
    list = node_path(action, "weighted_clusters.clusters");
    strbuf_init(&s, 65536);
    for (uint32_t i = 0; list && i < list->n; i++)
        strbuf_addf(&s, "%s%.*s (%.*s)", i ? ", " : "", SV_ARG(node_str(list->v[i], "name")),
                    SV_ARG(node_str(list->v[i], "weight")));
    out = arena_sv(&q->a, strbuf_sv(&s));
    strbuf_fini(&s);
    return out;
}

static void route_config(struct asking *q, const struct node *n)
{
    const struct node *hosts = node_get(n, "virtual_hosts");

    for (uint32_t i = 0; hosts && i < hosts->n; i++) {
        const struct node *routes = node_get(hosts->v[i], "routes");
        for (uint32_t k = 0; routes && k < routes->n; k++) {
            cell(q, node_str(n, "name"));
            cell(q, node_str(hosts->v[i], "name"));
            cell(q, node_str(routes->v[k], "name"));
            cell(q, describe_match(q, node_get(routes->v[k], "match")));
            cell(q, describe_action(q, routes->v[k]));
        }
    }
}

static void routes(struct asking *q)
{
    static const char *const names[] = {"CONFIG", "VIRTUAL HOST", "RULE", "MATCH", "TO"};
    head(q, names, 5);
    each(q, "static_route_configs", "route_config", route_config);
    each(q, "dynamic_route_configs", "route_config", route_config);
}

/* ---- endpoints ---- */

static void endpoints(struct asking *q)
{
    static const char *const names[] = {"ENDPOINT", "HEALTH", "CLUSTER"};
    const struct node *list = node_get(q->dump, "cluster_statuses");

    head(q, names, 3);
    for (uint32_t i = 0; list && i < list->n; i++) {
        const struct node *hosts = node_get(list->v[i], "host_statuses");
        for (uint32_t k = 0; hosts && k < hosts->n; k++) {
            const struct node *s = node_path(hosts->v[k], "address.socket_address");
            sv health = node_str(node_get(hosts->v[k], "health_status"), "eds_health_status");
            cell(q, arena_printf(&q->a, "%.*s:%.*s", SV_ARG(node_str(s, "address")),
                                 SV_ARG(node_str(s, "port_value"))));
            cell(q, health.n ? health : SV("HEALTHY"));
            cell(q, node_str(list->v[i], "name"));
        }
    }
}

static const struct {
    const char *name, *page;
    void (*print)(struct asking *q);
} kinds[] = {
    {"clusters", "/config_dump", clusters},
    {"listeners", "/config_dump", listeners},
    {"routes", "/config_dump", routes},
    {"endpoints", "/clusters?format=json", endpoints},
    {"all", "/config_dump?include_eds", NULL},
    {"certs", "/certs", NULL},
    {"stats", "/stats", NULL},
};
#define N_KINDS (sizeof kinds / sizeof *kinds)

static int show(size_t k, const char *address, bool json, struct error *err)
{
    struct asking q = {0};
    struct strbuf page;
    int rc;

    arena_init(&q.a);
    strbuf_init(&page, PAGE_MAX);
    rc = cli_get(address, kinds[k].page, &page, err);
    if (!rc && (json || !kinds[k].print)) {
        fwrite(page.p, 1, page.n, stdout);
    } else if (!rc) {
        rc = node_parse(strbuf_sv(&page), kinds[k].page, &q.a, &q.dump, err);
        if (!rc) {
            kinds[k].print(&q);
            cli_table_print(&q.t);
        }
    }
    strbuf_fini(&page);
    arena_free(&q.a);
    return rc;
}

int cmd_proxy_config(int argc, char **argv)
{
    const char *mesh = CLI_MESH, *admin = NULL, *address = "127.0.0.1:15000";
    bool json = false;
    const struct cli_option options[] = {
        {"--mesh", "NAME", "mesh network (default: default)", &mesh},
        {"--admin", "ADDR", "ask this admin address instead of a workload of weft run", &admin},
        {"--json", NULL, "as the proxy answers", .flag = &json},
    };
    struct error err = {0};
    size_t k = 0;
    int first,
        rc = cli_options("weft proxy-config [OPTIONS] "
                         "clusters|listeners|routes|endpoints|all|certs|stats [WORKLOAD]",
                         options, sizeof options / sizeof *options, argc, argv, &first, &err);

    if (rc == E_CANCELLED)
        return 0;
    while (!rc && first < argc && k < N_KINDS && strcmp(kinds[k].name, argv[first]) != 0)
        k++;
    if (!rc && (first >= argc || k == N_KINDS))
        rc = error_set(&err, E_INVALID,
                       "say what: clusters, listeners, routes, endpoints, all, "
                       "certs or stats");
    if (!rc && !admin && first + 1 >= argc)
        rc = error_set(&err, E_INVALID, "say which workload, or --admin ADDR");
    if (!rc && !admin)
        rc = mesh_net_enter_workload(mesh, argv[first + 1], &err);
    rc = rc ? rc : show(k, admin ? admin : address, json, &err);
    if (rc)
        fprintf(stderr, "weft proxy-config: %s\n", err.msg);
    return rc ? 1 : 0;
}
