#include "agent/agent.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "agent/names_client.h"
#include "agent/sds_server.h"
#include "api/pb.h"
#include "api/weft.pb.h"
#include "base/log.h"
#include "base/mem.h"
#include "tls/tls_cert.h"

LOG_COMPONENT(agent);

#define DNS_PORT    53
#define SERVERS_MAX 8

/* A secret that a store wants. */
struct wish {
    struct list link;
    struct tls_secret_store *store;
    char *name, *config;
    size_t name_n, config_n;
};

struct agent {
    struct agent_opts o;
    struct arena arena;
    const struct weft_AgentConfig *config;
    struct identity *identity;
    struct sds_server *sds; /* NULL: not asked for */
    struct dns_proxy *dns;  /* NULL: not asked for */
    struct names_client *names;
    struct list wishes;
    bool ready;
};

static int64_t wall_s(const struct agent *a)
{
    return (int64_t)(loop_wall_ns(a->o.loop) / 1000000000u);
}

/* ---- secrets ---- */

static void supply(struct agent *a, const struct wish *w)
{
    struct error e = {0};
    sv name = sv_make(w->name, w->name_n), config = sv_make(w->config, w->config_n);
    int code;
    if (!identity_ready(a->identity))
        return;
    if (sv_eq_c(name, SDS_CERT_NAME)) {
        struct tls_cert_opts c = {.chain_pem = identity_chain_pem(a->identity),
                                  .key = identity_key(a->identity)};
        code = tls_secret_store_set_cert(w->store, name, config, &c, wall_s(a), &e);
    } else {
        struct tls_validation v = {.ca_pem = identity_roots_pem(a->identity)};
        code = tls_secret_store_set_validation(w->store, name, config, &v, wall_s(a), &e);
    }
    if (code)
        log_error(&log_agent, "secret %s cannot be put in force: %s", w->name, e.msg);
}

static void supply_sds(struct agent *a)
{
    size_t n;
    char *key = tls_key_to_pem(identity_key(a->identity), &n);
    sds_server_set(a->sds, identity_chain_pem(a->identity), sv_make(key, n),
                   identity_roots_pem(a->identity));
    tls_key_pem_free(key, n);
}

static void start_names(struct agent *a);

static void on_identity(void *arg, struct identity *id)
{
    struct agent *a = arg;
    char until[TLS_TIME_TEXT];
    const struct identity_stats *st = identity_stats(id);
    log_info(&log_agent, "certificate in force identity=%.*s until=%s renewal_in_s=%" PRId64,
             SV_ARG(identity_uri(id)), tls_time_text(st->not_after_s, until),
             st->next_s - wall_s(a));
    list_each_safe (it, &a->wishes)
        supply(a, container_of(it, struct wish, link));
    if (a->sds)
        supply_sds(a);
    if (a->ready)
        return;
    a->ready = true;
    if (a->o.own_ads && a->dns)
        start_names(a);
    if (a->o.on_ready)
        a->o.on_ready(a->o.arg);
}

static void on_failure(void *arg, const char *why, uint64_t retry_ms)
{
    struct agent *a = arg;
    const struct identity_stats *st = identity_stats(a->identity);
    int64_t left = st->not_after_s - wall_s(a);
    if (!st->not_after_s)
        log_warn(&log_agent, "no certificate yet, next attempt in %" PRIu64 " ms: %s", retry_ms,
                 why);
    else if (left > 0)
        log_warn(&log_agent,
                 "certificate not renewed, it ends in %" PRId64 " s, next attempt in %" PRIu64
                 " ms: %s",
                 left, retry_ms, why);
    else
        log_error(&log_agent,
                  "certificate HAS EXPIRED and cannot be renewed: others refuse this workload's "
                  "requests and its answers until it is, next attempt in %" PRIu64 " ms: %s",
                  retry_ms, why);
}

bool agent_has_secret(const struct agent *a, sv name)
{
    return sv_eq_c(name, SDS_CERT_NAME) || sv_eq_c(name, SDS_ROOTS_NAME);
}

static struct wish *find_wish(struct agent *a, struct tls_secret_store *st, sv name, sv config)
{
    list_each (it, &a->wishes) {
        struct wish *w = container_of(it, struct wish, link);
        if (w->store == st && sv_eq(sv_make(w->name, w->name_n), name) &&
            sv_eq(sv_make(w->config, w->config_n), config))
            return w;
    }
    return NULL;
}

void agent_want(struct agent *a, struct tls_secret_store *st, sv name, sv config)
{
    if (!agent_has_secret(a, name) || find_wish(a, st, name, config))
        return;
    struct wish *w = mem_new(struct wish);
    w->store = st;
    w->name = sv_dup(name);
    w->name_n = name.n;
    w->config = sv_dup(config);
    w->config_n = config.n;
    list_push(&a->wishes, &w->link);
    supply(a, w);
}

static void wish_free(struct wish *w)
{
    list_del(&w->link);
    free(w->name);
    free(w->config);
    free(w);
}

void agent_unwant(struct agent *a, struct tls_secret_store *st, sv name, sv config)
{
    struct wish *w = find_wish(a, st, name, config);
    if (!w)
        return;
    wish_free(w);
    tls_secret_store_remove(st, name, config);
}

/* ---- names ---- */

bool agent_wants_names(const struct agent *a)
{
    return a->dns != NULL;
}

int agent_set_names(struct agent *a, sv packed, struct error *err)
{
    if (!a->dns)
        return 0;
    struct dns_table *t = dns_table_new(packed, a->config->namespace, a->config->dns_domain, err);
    if (!t)
        return E_INVALID;
    log_debug(&log_agent, "names in force hosts=%u skipped=%u", dns_table_hosts(t),
              dns_table_skipped(t));
    dns_proxy_set_table(a->dns, t);
    return 0;
}

static int on_names(void *arg, sv packed, struct error *err)
{
    return agent_set_names(arg, packed, err);
}

static void start_names(struct agent *a)
{
    const struct weft_AgentConfig *c = a->config;
    a->names = names_client_new(&(struct names_client_opts){.loop = a->o.loop,
                                                            .identity = a->identity,
                                                            .discovery_address = c->ca_address,
                                                            .node_id = c->node_id,
                                                            .config = c,
                                                            .ns = c->namespace,
                                                            .service_account = c->service_account,
                                                            .mark = c->socket_mark,
                                                            .on_names = on_names,
                                                            .arg = a});
}

/* ---- starting ---- */

static int dns_servers(const struct agent *a, struct addr out[SERVERS_MAX], uint32_t *n,
                       struct error *err)
{
    const struct weft_AgentConfig *c = a->config;
    for (uint32_t i = 0; i < c->dns_upstreams.n && *n < SERVERS_MAX; i++) {
        sv text = c->dns_upstreams.v[i];
        if (addr_ip(&out[*n], text, DNS_PORT) && addr_parse(&out[*n], text))
            return error_set(err, E_INVALID, "%s: dns_upstreams[%u]: \"%.*s\" is no address",
                             a->o.file, i, SV_ARG(text));
        ++*n;
    }
    return 0;
}

/* The mesh's suffix: of "books.svc.cluster.local" in namespace books it is "cluster.local". */
static sv own_suffix(const struct weft_AgentConfig *c)
{
    sv ns, svc, rest;
    if (!sv_cut(c->dns_domain, '.', &ns, &rest) || !sv_cut(rest, '.', &svc, &rest) ||
        !sv_eq(ns, c->namespace) || !sv_eq(svc, SV("svc")))
        return sv_make(NULL, 0);
    return rest;
}

/* Captured questions arrive at loopback, of both families; a socket on any address would answer
 * from another one than it was asked at. */
static int start_dns(struct agent *a, struct error *err)
{
    const struct weft_AgentConfig *c = a->config;
    struct addr listen[2], servers[SERVERS_MAX];
    uint32_t n_servers = 0, n_listen = 1;
    if (c->dns_listen.n == 0)
        return 0;
    if (addr_parse(&listen[0], c->dns_listen))
        return error_set(err, E_INVALID, "%s: dns_listen: \"%.*s\" is no address with a port",
                         a->o.file, SV_ARG(c->dns_listen));
    int code = dns_servers(a, servers, &n_servers, err);
    if (code)
        return code;
    if (addr_is_any(&listen[0]) || addr_is_loopback(&listen[0])) {
        uint16_t port = addr_port(&listen[0]);
        if (addr_is_any(&listen[0]))
            addr_ip(&listen[0], SV("127.0.0.1"), port);
        addr_ip(&listen[1], SV("::1"), port);
        n_listen = port ? 2 : 1;
    }
    struct dns_proxy_opts o = {.loop = a->o.loop,
                               .listen = listen,
                               .n_listen = n_listen,
                               .upstreams = servers,
                               .n_upstreams = n_servers,
                               .own_suffix = own_suffix(c),
                               .mark = c->socket_mark};
    a->dns = dns_proxy_new(&o, n_listen == 2 ? NULL : err);
    if (!a->dns && n_listen == 2) { /* a machine without IPv6 */
        o.n_listen = 1;
        a->dns = dns_proxy_new(&o, err);
    }
    return a->dns ? 0 : E_IO;
}

static int start_identity(struct agent *a, struct error *err)
{
    const struct weft_AgentConfig *c = a->config;
    a->identity = identity_new(&(struct identity_opts){.loop = a->o.loop,
                                                       .ca_address = c->ca_address,
                                                       .roots_pem = c->root_certificates,
                                                       .token = c->token,
                                                       .token_file = c->token_file,
                                                       .trust_domain = c->trust_domain,
                                                       .ns = c->namespace,
                                                       .service_account = c->service_account,
                                                       .ttl_s = c->certificate_seconds,
                                                       .mark = c->socket_mark,
                                                       .on_change = on_identity,
                                                       .on_failure = on_failure,
                                                       .arg = a},
                               err);
    if (!a->identity)
        error_prefix(err, "%s: ", a->o.file);
    return a->identity ? 0 : E_INVALID;
}

static int start_sds(struct agent *a, struct error *err)
{
    if (a->config->sds_socket.n == 0)
        return 0;
    a->sds = sds_server_new(a->o.loop, arena_cstr(&a->arena, a->config->sds_socket), err);
    return a->sds ? 0 : E_IO;
}

struct agent *agent_new(const struct agent_opts *o, struct error *err)
{
    struct agent *a = mem_new(struct agent);
    void *msg;
    arena_init(&a->arena);
    list_init(&a->wishes);
    a->o = *o;
    a->o.file = arena_cstr(&a->arena, sv_of(o->file ? o->file : "agent's configuration"));
    sv text = arena_sv(&a->arena, o->config);
    int code = pb_from_text(&weft_AgentConfig_pb, text, a->o.file, &a->arena, NULL, &msg, err);
    if (code == 0) {
        a->config = msg;
        code = start_dns(a, err);
    }
    if (code || start_sds(a, err) || start_identity(a, err)) {
        agent_free(a);
        return NULL;
    }
    return a;
}

void agent_free(struct agent *a)
{
    if (!a)
        return;
    names_client_free(a->names);
    identity_free(a->identity);
    sds_server_free(a->sds);
    dns_proxy_free(a->dns);
    list_each_safe (it, &a->wishes)
        wish_free(container_of(it, struct wish, link));
    arena_free(&a->arena);
    free(a);
}

const struct identity *agent_identity(const struct agent *a)
{
    return a->identity;
}

/* ---- metrics ---- */

static void metric(struct strbuf *out, const char *name, const char *type, uint64_t v)
{
    strbuf_addf(out, "# TYPE %s %s\n%s %" PRIu64 "\n", name, type, name, v);
}

void agent_metrics(const struct agent *a, struct strbuf *out)
{
    const struct identity_stats *st = identity_stats(a->identity);
    strbuf_addf(out,
                "# TYPE istio_agent_cert_expiry_seconds gauge\n"
                "istio_agent_cert_expiry_seconds{resource_name=\"default\"} %" PRId64 "\n",
                st->not_after_s ? st->not_after_s - wall_s(a) : 0);
    metric(out, "weft_agent_certificate_expired", "gauge", identity_expired(a->identity));
    metric(out, "weft_agent_certificate_requests_total", "counter", st->attempts);
    metric(out, "weft_agent_certificate_failures_total", "counter", st->failures);
    metric(out, "weft_agent_certificate_rotations_total", "counter", st->rotations);
    if (a->sds)
        metric(out, "weft_agent_sds_streams", "gauge", sds_server_streams(a->sds));
    if (!a->dns)
        return;
    const struct dns_proxy_stats *d = dns_proxy_stats(a->dns);
    metric(out, "istio_agent_dns_requests_total", "counter", d->questions);
    metric(out, "istio_agent_dns_upstream_requests_total", "counter", d->passed_on);
    metric(out, "istio_agent_dns_upstream_failures_total", "counter", d->upstream_failures);
    metric(out, "weft_agent_dns_malformed_total", "counter", d->malformed);
    metric(out, "weft_agent_dns_overflow_total", "counter", d->overflow);
}
