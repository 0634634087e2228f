#include "mesh/control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/log.h"
#include "base/mem.h"
#include "mesh/ca/ca.h"
#include "mesh/push/push.h"
#include "mesh/serve/monitor.h"
#include "mesh/serve/services.h"
#include "mesh/source/file_source.h"
#include "mesh/source/run_source.h"
#include "serve/serve_server.h"
#include "tls/tls_key.h"
#include "tls/tls_slot.h"

LOG_COMPONENT(control);

#define OWN_SECRET   SV("control-plane")
#define ROOTS_SECRET SV("roots")
#define OWN_TTL_S    (24 * 3600)
#define TOKEN_TTL_S  3600
#define RETRY_S      60
#define LOOK_MS      10000
#define STREAM_TIMES                                                                               \
    {                                                                                              \
        .connect_ms = 10000, .head_ms = 10000, .ping_ms = 30000, .ping_timeout_ms = 20000          \
    }

struct control {
    struct control_opts o;
    struct loop *loop;
    struct model_store *store;
    struct translate *t;
    struct push *push;
    struct ca *ca;
    struct file_source *files;
    struct run_source *run;
    struct grpc_server *grpc;
    struct grpc_health *health;
    struct ads_service *ads;
    struct ca_service *certificates;
    struct monitor monitor;
    struct tls_secret_store *secrets;
    struct tls_slot *slot;
    struct tls_key *key; /* in memory only, made anew at each start */
    struct timer renew;
    int64_t renew_s; /* wall time of the next renewal */
    struct serve_server *plain, *tls, *http;
    bool ready; /* what it knows is whole: it may be told */
};

static int64_t now_s(const struct control *c)
{
    return (int64_t)(loop_wall_ns(c->loop) / 1000000000u);
}

/* ---- the control plane's own certificate: from its CA, renewed at half-life ----
 * By the wall clock, which is looked at often: timers stand still while a machine sleeps. */

static int issue_own(struct control *c, struct error *err)
{
    sv uri;
    struct arena a;
    struct strbuf pem;
    int rc;

    arena_init(&a);
    strbuf_init(&pem, 1 << 20);
    uri = arena_printf(&a, "spiffe://%.*s/ns/istio-system/sa/weft-control",
                       SV_ARG(c->o.trust_domain));
    const struct tls_san sans[] = {
        {TLS_SAN_DNS, SV("istiod.istio-system.svc")},
        {TLS_SAN_DNS, SV("weft-control.istio-system.svc")},
        {TLS_SAN_DNS, SV("localhost")},
        {TLS_SAN_URI, uri},
    };
    rc = ca_issue(c->ca, c->key, sans, sizeof sans / sizeof *sans, OWN_TTL_S, now_s(c), &pem, err);
    if (!rc) {
        struct tls_cert_opts cert = {.chain_pem = strbuf_sv(&pem), .key = c->key};
        rc = tls_secret_store_set_cert(c->secrets, OWN_SECRET, (sv){NULL, 0}, &cert, now_s(c), err);
    }
    if (!rc) {
        struct tls_validation v = {.ca_pem = ca_roots_pem(c->ca)};
        rc = tls_secret_store_set_validation(c->secrets, ROOTS_SECRET, (sv){NULL, 0}, &v, now_s(c),
                                             err);
    }
    strbuf_fini(&pem);
    arena_free(&a);
    return rc;
}

static void renew_own(struct timer *t)
{
    struct control *c = container_of(t, struct control, renew);
    struct error err = {0};

    timer_set(&c->renew, LOOK_MS);
    if (now_s(c) < c->renew_s)
        return;
    c->renew_s = now_s(c) + OWN_TTL_S / 2;
    if (issue_own(c, &err)) {
        log_error(&log_control, "own certificate not renewed: %s", err.msg);
        c->renew_s = now_s(c) + RETRY_S;
    }
}

static int start_tls(struct control *c, struct error *err)
{
    static const sv alpn[] = {SV_INIT("h2")};
    struct tls_secret_name cert = {.name = OWN_SECRET};
    struct tls_slot_opts o = {
        .ctx = {.server = true, .client_auth = TLS_CLIENT_OPTIONAL, .alpn = alpn, .n_alpn = 1},
        .certs = &cert,
        .n_certs = 1,
        .validation = {.name = ROOTS_SECRET}};
    int rc;

    c->secrets = tls_secret_store_new(NULL);
    c->key = tls_key_generate(TLS_KEY_EC_P256, err);
    if (!c->key)
        return err->code;
    rc = issue_own(c, err);
    if (rc)
        return rc;
    o.store = c->secrets;
    c->slot = tls_slot_new(&o, err);
    if (!c->slot)
        return err->code;
    c->renew_s = now_s(c) + OWN_TTL_S / 2;
    timer_init(&c->renew, c->loop, renew_own);
    timer_set(&c->renew, LOOK_MS);
    return 0;
}

/* ---- callbacks of the sources ---- */

static void changed(void *arg)
{
    struct control *c = arg;
    if (c->push)
        push_changed(c->push);
}

static sv token(void *arg, sv ns, sv service_account, struct arena *a)
{
    struct control *c = arg;
    struct ca_identity who = {0};
    struct error err = {0};
    struct strbuf s;
    sv out = {NULL, 0};

    if (ns.n >= sizeof who.ns || service_account.n >= sizeof who.sa)
        return out;
    memcpy(who.ns, ns.p, ns.n);
    memcpy(who.sa, service_account.p, service_account.n);
    strbuf_init(&s, CA_TOKEN_MAX);
    if (ca_token_make(c->ca, &who, service_account, now_s(c) + c->o.token_ttl_s, &s, &err) == 0)
        out = arena_sv(a, strbuf_sv(&s));
    else
        log_error(&log_control, "no bootstrap token: %s", err.msg);
    strbuf_fini(&s);
    return out;
}

/* Every workload is known: proxies may ask. Before, an endpoint that only has not registered anew
 * would be taken from them. */
static void complete(void *arg)
{
    struct control *c = arg;
    c->ready = true;
    if (c->plain) {
        serve_server_pause(c->plain, false);
        serve_server_pause(c->tls, false);
    }
}

static bool settled(void *arg)
{
    return push_applied(((struct control *)arg)->push);
}

static sv roots(void *arg)
{
    return ca_roots_pem(((struct control *)arg)->ca);
}

/* ---- ports ---- */

static struct serve_server *server(struct control *c, struct tls_slot *slot)
{
    return serve_server_new(&(struct serve_server_opts){
        .loop = c->loop, .tls = slot, .times = STREAM_TIMES, .max_conns = 100000});
}

static int listen_text(struct serve_server *s, const char *address, struct error *err)
{
    return address && *address ? serve_server_listen_text(s, sv_of(address), err) : 0;
}

/* Without proof of identity only callers on this machine are believed. */
static int check_loopback(const char *address, struct error *err)
{
    struct addr a;

    if (!address || !*address)
        return 0;
    if (serve_addr_parse(&a, sv_of(address)))
        return error_set(err, E_INVALID, "'%s' is no address to listen on", address);
    if (a.sa.sa_family != AF_UNIX && !addr_is_loopback(&a))
        return error_set(err, E_DENIED,
                         "'%s': plaintext discovery is for loopback only; use the TLS port",
                         address);
    return 0;
}

static int start_servers(struct control *c, struct error *err)
{
    int rc = check_loopback(c->o.plain_address, err);

    c->grpc = grpc_server_new(4u << 20);
    c->health = grpc_health_new(c->grpc);
    c->ads = ads_service_new(c->grpc, c->push, c->ca, c->loop);
    c->certificates = ca_service_new(c->grpc, c->ca, c->loop);
    monitor_init(&c->monitor, c->push, c->ca, c->certificates, c->files, &c->ready);
    c->plain = server(c, NULL);
    serve_server_add(c->plain, grpc_server_accept, c->grpc);
    c->tls = server(c, c->slot);
    serve_server_add(c->tls, grpc_server_accept, c->grpc);
    serve_server_pause(c->plain, !c->ready);
    serve_server_pause(c->tls, !c->ready);
    c->http = serve_server_new(&(struct serve_server_opts){.loop = c->loop});
    serve_server_add(c->http, serve_http_accept, &c->monitor.http);
    rc = rc ? rc : listen_text(c->plain, c->o.plain_address, err);
    rc = rc ? rc : listen_text(c->tls, c->o.tls_address, err);
    rc = rc ? rc : listen_text(c->http, c->o.monitoring_address, err);
    if (!rc && c->o.tls_fd >= 0)
        rc = serve_server_listen_fd(c->tls, c->o.tls_fd, err);
    return rc;
}

static int start_ca(struct control *c, struct error *err)
{
    struct ca_opts o = {.dir = c->o.state_dir,
                        .trust_domain = c->o.trust_domain,
                        .default_ttl_s = c->o.certificate_ttl_s};

    c->ca = ca_open(&o, now_s(c), err);
    return c->ca ? 0 : err->code;
}

static int start(struct control *c, struct error *err)
{
    int rc = start_ca(c, err);

    rc = rc ? rc : start_tls(c, err);
    if (rc)
        return rc;
    c->t = translate_new(&c->o.translate, err);
    if (!c->t)
        return err->code;
    c->store = model_store_new(c->o.trust_domain, c->o.domain_suffix);
    if (c->o.config_dir) {
        c->files =
            file_source_new(c->loop, c->o.config_dir, c->o.namespace, c->store, changed, c, err);
        if (!c->files)
            return err->code;
    }
    c->push = push_new(c->loop, c->store, c->t);
    c->ready = !c->o.n_expected;
    if (c->o.run_socket) {
        c->run =
            run_source_new(&(struct run_source_opts){.loop = c->loop,
                                                     .socket_path = c->o.run_socket,
                                                     .store = c->store,
                                                     .changed = changed,
                                                     .token = token,
                                                     .token_s = c->o.token_ttl_s,
                                                     .roots = roots,
                                                     .expected = c->o.expected,
                                                     .n_expected = c->o.n_expected,
                                                     .complete = complete,
                                                     .settled = settled,
                                                     .arg = c,
                                                     .discovery_address = c->o.discovery_address,
                                                     .trust_domain = c->o.trust_domain,
                                                     .domain_suffix = c->o.domain_suffix},
                           err);
        if (!c->run)
            return err->code;
    }
    return start_servers(c, err);
}

struct control *control_new(const struct control_opts *o, struct error *err)
{
    struct control *c = mem_new(struct control);

    c->o = *o;
    c->loop = o->loop;
    if (!c->o.trust_domain.n)
        c->o.trust_domain = SV("cluster.local");
    if (!c->o.namespace.n)
        c->o.namespace = SV("default");
    if (!c->o.token_ttl_s)
        c->o.token_ttl_s = TOKEN_TTL_S;
    if (!c->o.domain_suffix.n)
        c->o.domain_suffix = SV("cluster.local");
    if (start(c, err)) {
        control_free(c);
        return NULL;
    }
    log_info(&log_control, "control plane is up services=%u trust_domain=%.*s",
             push_model(c->push)->n_services, SV_ARG(c->o.trust_domain));
    return c;
}

void control_free(struct control *c)
{
    if (!c)
        return;
    timer_cancel(&c->renew);
    run_source_free(c->run);
    if (c->grpc)
        grpc_server_shutdown(c->grpc, "the control plane ends");
    serve_server_free(c->plain);
    serve_server_free(c->tls);
    serve_server_free(c->http);
    /* What the closing connections deferred runs now, while the services are there. */
    loop_turn(c->loop, 0);
    if (c->health)
        grpc_health_free(c->health);
    if (c->grpc)
        grpc_server_free(c->grpc);
    ads_service_free(c->ads);
    ca_service_free(c->certificates);
    push_free(c->push);
    file_source_free(c->files);
    model_store_free(c->store);
    translate_free(c->t);
    tls_slot_free(c->slot);
    if (c->secrets)
        tls_secret_store_free(c->secrets);
    tls_key_unref(c->key);
    ca_close(c->ca);
    free(c);
}
