#include "proxy/admin/admin.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/envoy.pb.h"
#include "api/google.pb.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/loop.h"
#include "proxy/server.h"
#include "serve/serve_server.h"

LOG_COMPONENT(admin);

/* ================ the table ================ */

static const struct endpoint {
    const char *path;
    admin_fn fn;
    bool mutates;
    const char *help;
} endpoints[] = {
    {"/", admin_home, false, "Admin home page"},
    {"/certs", admin_certs, false, "print certs on machine"},
    {"/clusters", admin_clusters, false, "upstream cluster status"},
    {"/config_dump", admin_config_dump, false,
     "dump current configuration (?resource= ?mask= ?name_regex= ?include_eds)"},
    {"/drain_listeners", admin_drain_listeners, true,
     "drain listeners (?graceful ?inboundonly ?skip_exit)"},
    {"/healthcheck/fail", admin_healthcheck_fail, true, "cause the server to fail health checks"},
    {"/healthcheck/ok", admin_healthcheck_ok, true, "cause the server to pass health checks"},
    {"/help", admin_help, false, "print out list of admin commands"},
    {"/hot_restart_version", admin_hot_restart_version, false,
     "print the hot restart compatibility version"},
    {"/listeners", admin_listeners, false, "print listener info (?format=json)"},
    {"/logging", admin_logging, true, "query/change logging levels (?level= ?NAME= ?paths=)"},
    {"/memory", admin_memory, false, "print current allocation/heap usage"},
    {"/quitquitquit", admin_quit, true, "exit the server"},
    {"/ready", admin_ready, false, "print server state, return 200 if LIVE, otherwise return 503"},
    {"/reopen_logs", admin_reopen_logs, true, "reopen access logs"},
    {"/reset_counters", admin_reset_counters, true, "reset all counters to zero"},
    {"/runtime", admin_runtime, false, "print runtime values"},
    {"/runtime_modify", admin_runtime_modify, true,
     "add or remove runtime values (?key=value; ?key= takes it back)"},
    {"/server_info", admin_server_info, false, "print server version/status information"},
    {"/stats", admin_stats, false,
     "print server stats (?usedonly ?filter= ?format= ?type= ?histogram_buckets=)"},
    {"/stats/prometheus", admin_stats, false,
     "print server stats in prometheus format (?usedonly ?text_readouts ?filter=)"},
};
#define N_ENDPOINTS (sizeof endpoints / sizeof endpoints[0])

void admin_each(void (*fn)(void *arg, const char *path, bool mutates, const char *help), void *arg)
{
    for (size_t i = 0; i < N_ENDPOINTS; i++)
        fn(arg, endpoints[i].path, endpoints[i].mutates, endpoints[i].help);
}

/* ================ requests ================ */

struct admin {
    struct proxy_server *s;
    struct serve_server *server;
    struct serve_http http;
};

static const struct endpoint *find(sv path)
{
    while (path.n > 1 && path.p[path.n - 1] == '/')
        path.n--;
    for (size_t i = 0; i < N_ENDPOINTS; i++)
        if (sv_eq_c(path, endpoints[i].path))
            return &endpoints[i];
    return NULL;
}

static void add_help_line(void *arg, const char *path, bool mutates, const char *help)
{
    strbuf_addf(arg, "  %s%s: %s\n", path, mutates ? " (POST)" : "", help);
}

static void not_found(struct serve_request *r)
{
    struct strbuf b;
    strbuf_init(&b, 65536);
    strbuf_add_c(&b, "invalid path. admin commands are:\n");
    admin_each(add_help_line, &b);
    serve_reply_strbuf(r, 404, ADMIN_TEXT, &b);
}

static void handle(void *user, struct serve_request *r)
{
    struct admin *a = user;
    const struct endpoint *e = find(r->path);
    if (!e) {
        not_found(r);
        return;
    }
    serve_reply_header(r, "cache-control", SV("no-cache, max-age=0"));
    serve_reply_header(r, "x-content-type-options", SV("nosniff"));
    if (e->mutates && !sv_eq(r->method, SV("POST"))) {
        serve_reply_header(r, "allow", SV("POST"));
        serve_reply_text(r, 405, "Method %.*s not allowed, POST required.", SV_ARG(r->method));
        return;
    }
    e->fn(a->s, r);
}

/* ================ life ================ */

static int listen_on(struct admin *a, const struct envoy_Address *m, struct error *err)
{
    struct addr at;
    int rc;
    if (m->which_address == envoy_Address_pipe_tag)
        rc = addr_unix(&at, m->pipe->path);
    else if (m->which_address == envoy_Address_socket_address_tag &&
             m->socket_address->port_value <= 65535)
        rc = addr_ip(&at, m->socket_address->address, (uint16_t)m->socket_address->port_value);
    else
        rc = E_INVALID;
    if (rc < 0)
        return error_set(err, E_INVALID, "bootstrap: admin.address: is not usable");
    rc = serve_server_listen(a->server, &at, err);
    if (rc < 0)
        error_prefix(err, "bootstrap: admin.address: ");
    return rc;
}

int admin_new(struct proxy_server *s, struct admin **out, struct error *err)
{
    const struct envoy_Admin *m = proxy_server_bootstrap(s)->admin;
    if (!m || !m->address)
        return 0;
    struct admin *a = mem_new(struct admin);
    struct serve_server_opts o = {.loop = proxy_server_loop(s)};
    a->s = s;
    a->server = serve_server_new(&o);
    serve_http_init(&a->http, handle, a);
    serve_server_add(a->server, serve_http_accept, &a->http);
    int rc = listen_on(a, m->address, err);
    if (rc < 0) {
        admin_free(a);
        return rc;
    }
    *out = a;
    return 0;
}

void admin_start(struct admin *a)
{
    const char *path = proxy_server_options(a->s)->admin_address_path;
    char text[ADDR_TEXT_MAX];
    sv at = addr_text(admin_addr(a), text);
    log_info(&log_admin, "admin address=%.*s", SV_ARG(at));
    if (!path)
        return;
    FILE *f = fopen(path, "we");
    if (!f || fprintf(f, "%.*s", SV_ARG(at)) < 0)
        log_error(&log_admin, "cannot write admin address path=%s reason=%s", path,
                  strerror(errno));
    if (f)
        fclose(f);
}

void admin_free(struct admin *a)
{
    if (!a)
        return;
    serve_server_free(a->server);
    free(a);
}

const struct addr *admin_addr(const struct admin *a)
{
    return serve_server_addr(a->server, 0);
}

/* ================ for endpoints ================ */

bool admin_has_param(const struct serve_request *r, sv key)
{
    return serve_query(r, key).p != NULL;
}

void admin_json(const struct pb_message *m, const void *msg, struct strbuf *out)
{
    struct pb_json_opts o = {.snake_case = true, .pretty = true, .redact_secrets = true};
    pb_to_json(m, msg, &o, out);
}

struct google_Timestamp *admin_time(struct arena *a, uint64_t wall_ns)
{
    struct google_Timestamp *t = arena_new(a, struct google_Timestamp);
    t->seconds = (int64_t)(wall_ns / 1000000000u);
    t->nanos = (int32_t)(wall_ns % 1000000000u / 1000000u * 1000000u);
    return t;
}
