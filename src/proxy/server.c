#include "proxy/server.h"

#include <malloc.h>
#include <ifaddrs.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/addr.h"
#include "proxy/admin/admin.h"
#include "proxy/bootstrap.h"
#include "proxy/config_ads.h"
#include "proxy/config_files.h"
#include "proxy/hcm.h"
#include "proxy/listener_manager.h"
#include "proxy/log_hooks.h"
#include "proxy/rds.h"
#include "proxy/server_private.h"
#include "xds/xds_type.h"
#include "telemetry/access_log_file.h"
#include "upstream/tls_options.h"

LOG_COMPONENT(main);

const struct filter_hcm_glue proxy_hcm_glue = {hcm_config_parse, hcm_start};

#define SWEEP_MS  5000
#define GIVE_BACK (512u << 10) /* so much configuration is worth looking for free pages */

/* ---- who this is ---- */

static sv first_of(sv a, const char *b)
{
    return a.n ? a : sv_of(b);
}

/* What other machines could call this one; the same choice Envoy makes. */
static sv find_local_ip(struct proxy_server *s)
{
    struct ifaddrs *list = NULL;
    sv out = {NULL, 0};
    if (s->os || getifaddrs(&list) < 0)
        return out;
    int family = s->cli->local_address_v6 ? AF_INET6 : AF_INET;
    for (struct ifaddrs *i = list; i && !out.n; i = i->ifa_next) {
        struct addr a;
        char text[ADDR_TEXT_MAX];
        if (!i->ifa_addr || i->ifa_addr->sa_family != family)
            continue;
        addr_from_sockaddr(&a, i->ifa_addr,
                           family == AF_INET ? sizeof(struct sockaddr_in)
                                             : sizeof(struct sockaddr_in6));
        if (!addr_is_loopback(&a))
            out = arena_sv(&s->arena, addr_ip_text(&a, text));
    }
    freeifaddrs(list);
    return out;
}

static void fill_node(struct proxy_server *s)
{
    const struct envoy_Node *n = s->bootstrap->node;
    const struct envoy_Locality *l = n ? n->locality : NULL;
    static const sv none = {NULL, 0};
    s->node.id = first_of(n ? n->id : none, s->cli->service_node);
    s->node.cluster = first_of(n ? n->cluster : none, s->cli->service_cluster);
    s->node.zone = first_of(l ? l->zone : none, s->cli->service_zone);
    s->node.region = l ? l->region : none;
    s->node.sub_zone = l ? l->sub_zone : none;
    s->node.local_ip = find_local_ip(s);
    s->node.metadata = n ? n->metadata : NULL;
}

const struct envoy_Node *proxy_server_node_message(struct proxy_server *s)
{
    struct envoy_Node *n = arena_new(&s->arena, struct envoy_Node);
    if (s->bootstrap->node)
        *n = *s->bootstrap->node;
    n->id = s->node.id;
    n->cluster = s->node.cluster;
    n->user_agent_name = SV("weft");
    n->which_user_agent_version_type = envoy_Node_user_agent_version_tag;
    n->user_agent_version = SV(WEFT_VERSION);
    sv *features = arena_array(&s->arena, sv, n->client_features.n + 1);
    for (uint32_t i = 0; i < n->client_features.n; i++)
        features[i] = n->client_features.v[i];
    features[n->client_features.n++] = SV(XDS_FEATURE_VHDS);
    n->client_features.v = features;
    return n;
}

static uint32_t processors(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n > 0 ? (uint32_t)n : 1;
}

/* ---- parts ---- */

static int make_loop(struct proxy_server *s, const struct proxy_server_opts *o, struct error *err)
{
    s->own_loop = !o->loop;
    s->loop = o->loop ? o->loop : loop_new(o->os);
    if (!s->loop)
        return error_set(err, E_LIMIT, "cannot make an event loop");
    s->started_ns = loop_clock_ns(s->loop);
    s->started_wall_ns = loop_wall_ns(s->loop);
    return 0;
}

static int load_bootstrap(struct proxy_server *s, const struct proxy_server_opts *o,
                          struct error *err)
{
    int rc = o->bootstrap.p
                 ? bootstrap_parse(o->bootstrap, "bootstrap", s->cli->allow_unknown_static,
                                   &s->arena, &s->bootstrap, err)
                 : bootstrap_load(s->cli, &s->arena, &s->bootstrap, err);
    return rc < 0 ? rc : bootstrap_check(s->bootstrap, err);
}

static int make_clusters(struct proxy_server *s, const struct proxy_server_opts *o,
                         struct error *err)
{
    struct eds_source *src = arena_new(&s->arena, struct eds_source);
    *src = (struct eds_source){proxy_eds_want, proxy_eds_unwant, s, !proxy_server_has_ads(s)};
    struct bind_source bind = bootstrap_bind(s->bootstrap);
    struct cluster_manager_opts co = {
        .bind = &bind,
        .main = s->loop,
        .stats = s->stats,
        .eds = src,
        .secrets = s->secrets,
        .dns_servers = o->dns_servers,
        .resolver = o->resolver,
        .local_zone = s->node.zone,
        .local_region = s->node.region,
        .local_sub_zone = s->node.sub_zone,
        .socket_mark = bootstrap_socket_mark(s->bootstrap),
        .static_fields = &s->static_pb,
        .dynamic_fields = &s->dynamic_pb,
    };
    s->clusters = cluster_manager_new(&co);
    return s->clusters ? 0 : error_set(err, E_NO_MEMORY, "cannot make the cluster manager");
}

static int make_workers(struct proxy_server *s, struct error *err)
{
    s->workers = mem_array(struct worker *, s->concurrency);
    s->worker_loops = mem_array(struct loop *, s->concurrency);
    for (uint32_t i = 0; i < s->concurrency; i++) {
        struct worker_opts wo = {
            .server = s,
            .os = s->os,
            .loop = s->threads ? NULL : s->loop,
            .stats = s->stats,
            .node = &s->node,
            .logs = access_log_writer_new(s->sinks),
            .health_failed = &s->health_failed,
            .index = i,
            .count = s->concurrency,
            .drain_ms = (uint64_t)s->cli->drain_time_s * 1000,
            .drain_gradually = !s->cli->drain_immediately,
            .flush_ms = s->cli->file_flush_ms,
        };
        s->workers[i] = worker_new(&wo);
        if (!s->workers[i]) {
            access_log_writer_free(wo.logs);
            return error_set(err, E_LIMIT, "cannot make a worker");
        }
        s->worker_loops[i] = s->workers[i]->f.loop;
    }
    return 0;
}

static void make_managers(struct proxy_server *s)
{
    struct rds_manager_opts ro = {
        .main = s->loop,
        .workers = s->worker_loops,
        .n_workers = s->concurrency,
        .stats = s->stats,
        .clusters = s->clusters,
        .source = s->source,
        .pb = &s->dynamic_pb,
        .runtime = s->runtime,
    };
    s->rds = rds_manager_new(&ro);
    s->listeners = listener_manager_new(s, s->workers, s->concurrency);
    for (uint32_t i = 0; i < s->concurrency; i++)
        s->workers[i]->f.upstream = upstream_worker_new(s->clusters, s->worker_loops[i]);
}

/* ---- static resources ---- */

static int put_secrets(struct proxy_server *s, struct error *err)
{
    const struct envoy_Bootstrap_StaticResources *r = s->bootstrap->static_resources;
    int64_t now = (int64_t)(loop_wall_ns(s->loop) / 1000000000u);
    for (uint32_t i = 0; r && i < r->secrets.n; i++) {
        int rc = tls_options_secret(r->secrets.v[i], (sv){NULL, 0}, now, s->secrets, err);
        if (rc < 0) {
            error_prefix(err, "static_resources.secrets[%u]: ", i);
            return rc;
        }
    }
    return 0;
}

static int put_clusters(struct proxy_server *s, struct error *err)
{
    const struct envoy_Bootstrap_StaticResources *r = s->bootstrap->static_resources;
    cluster_manager_set_static(s->clusters, true);
    for (uint32_t i = 0; r && i < r->clusters.n; i++) {
        struct strbuf b;
        strbuf_init(&b, 64u << 20);
        pb_encode(&envoy_Cluster_pb, r->clusters.v[i], &b);
        int rc = b.overflow ? error_set(err, E_LIMIT, "the cluster is too large")
                 : cluster_manager_has(s->clusters, r->clusters.v[i]->name)
                     ? error_set(err, E_EXISTS, "cluster '%.*s' is there twice",
                                 SV_ARG(r->clusters.v[i]->name))
                     : cluster_manager_put(s->clusters, strbuf_sv(&b), err);
        strbuf_fini(&b);
        if (rc < 0) {
            error_prefix(err, "static_resources.clusters[%u]: ", i);
            return rc;
        }
    }
    cluster_manager_set_static(s->clusters, false);
    return 0;
}

static int put_listeners(struct proxy_server *s, struct error *err)
{
    const struct envoy_Bootstrap_StaticResources *r = s->bootstrap->static_resources;
    for (uint32_t i = 0; r && i < r->listeners.n; i++) {
        struct strbuf b;
        strbuf_init(&b, 64u << 20);
        pb_encode(&envoy_Listener_pb, r->listeners.v[i], &b);
        int rc = b.overflow ? error_set(err, E_LIMIT, "the listener is too large")
                            : listener_manager_put(s->listeners, strbuf_sv(&b), true, (sv){NULL, 0},
                                                   &s->static_pb, err);
        strbuf_fini(&b);
        if (rc < 0) {
            error_prefix(err, "static_resources.listeners[%u]: ", i);
            return rc;
        }
    }
    return 0;
}

/* ---- putting together ---- */

static int name_files(struct proxy_server *s, const struct envoy_Bootstrap_DynamicResources *d,
                      struct error *err)
{
    const sv all = {NULL, 0};
    int rc = d->cds_config
                 ? s->source->ops->from(s->source->self, CONFIG_CDS, all, d->cds_config, err)
                 : 0;
    return rc == 0 && d->lds_config
               ? s->source->ops->from(s->source->self, CONFIG_LDS, all, d->lds_config, err)
               : rc;
}

/* Before anything that may ask it: also static listeners and clusters name what comes by ADS. */
static int make_source(struct proxy_server *s, struct error *err)
{
    const struct envoy_Bootstrap_DynamicResources *d = s->bootstrap->dynamic_resources;
    struct config_source *ads = NULL;
    if (s->source)
        return 0;
    if (d && d->ads_config && !(ads = config_ads_new(s, d->ads_config, err)))
        return err->code;
    s->source = config_files_new(s, ads);
    return d ? name_files(s, d, err) : 0;
}

static sv source_cluster(const struct proxy_server *s)
{
    const struct envoy_Bootstrap_DynamicResources *d = s->bootstrap->dynamic_resources;
    return d && d->ads_config ? config_ads_cluster(d->ads_config) : (sv){NULL, 0};
}

static int check_source_cluster(struct proxy_server *s, struct error *err)
{
    sv name = source_cluster(s);
    if (!name.n || cluster_manager_has(s->clusters, name))
        return 0;
    return error_set(err, E_NOT_FOUND,
                     "bootstrap: dynamic_resources.ads_config.grpc_services[0].envoy_grpc."
                     "cluster_name: there is no static cluster '%.*s'",
                     SV_ARG(name));
}

static int start_agent(struct proxy_server *s, struct error *err)
{
    if (!s->agent || s->validating)
        return 0;
    int rc = s->agent->start(s->agent->self, s->loop, err);
    s->agent_started = rc == 0;
    return rc;
}

static int build(struct proxy_server *s, const struct proxy_server_opts *o, struct error *err)
{
    int rc = make_loop(s, o, err);
    if (rc == 0)
        rc = load_bootstrap(s, o, err);
    if (rc < 0)
        return rc;
    fill_node(s);
    rc = proxy_runtime_load(s, err);
    if (rc < 0)
        return rc;
    s->static_pb.allow_unknown = s->cli->allow_unknown_static;
    s->dynamic_pb.allow_unknown = s->cli->ignore_unknown_dynamic;
    s->dynamic_pb.lenient = true; /* of files */
    s->stats = stats_new();
    proxy_server_stats_init(s);
    proxy_runtime_stats(s);
    s->sinks = access_log_sinks_new(s->stats);
    access_log_sinks_set_runtime(s->sinks, s->runtime);
    s->secret_source = (struct tls_secret_source){.want = proxy_secret_want,
                                                  .unwant = proxy_secret_unwant,
                                                  .self = s,
                                                  .check = proxy_secret_check};
    s->secrets = tls_secret_store_new(&s->secret_source);
    rc = start_agent(s, err);
    if (rc == 0)
        rc = put_secrets(s, err);
    if (rc == 0)
        rc = make_clusters(s, o, err);
    if (rc == 0)
        rc = make_source(s, err);
    if (rc == 0)
        rc = make_workers(s, err);
    if (rc < 0)
        return rc;
    make_managers(s);
    rc = put_clusters(s, err);
    if (rc == 0)
        rc = check_source_cluster(s, err);
    if (rc == 0)
        rc = put_listeners(s, err);
    if (rc == 0 && !s->validating)
        rc = admin_new(s, &s->admin, err);
    return rc;
}

/* A long bootstrap is read and built in much more memory than what is made of it. */
static void give_back(const struct proxy_server *s)
{
    if (s->os)
        return; /* simulated: its pools are shared by many */
    arena_trim();
    buf_pool_trim(0);
    malloc_trim(0);
}

struct proxy_server *proxy_server_new(const struct proxy_server_opts *o, struct error *err)
{
    struct proxy_server *s = mem_new(struct proxy_server);
    arena_init_malloc(&s->arena);
    map_init(&s->eds_names);
    map_init(&s->ads_secrets);
    proxy_options_default(&s->own_options);
    s->cli = o->cli ? o->cli : &s->own_options;
    s->os = o->os;
    s->source = o->source;
    s->given_source = o->source != NULL;
    s->agent = o->agent;
    s->no_signals = o->no_signals;
    s->validating = s->cli->mode == PROXY_VALIDATE;
    s->threads = o->concurrency != PROXY_NO_THREADS;
    s->concurrency = !s->threads           ? 1
                     : o->concurrency      ? o->concurrency
                     : s->cli->concurrency ? s->cli->concurrency
                                           : processors();
    log_hooks_install();
    if (build(s, o, err) < 0) {
        proxy_server_free(s);
        return NULL;
    }
    give_back(s);
    return s;
}

int proxy_server_validate(const struct proxy_options *cli, const struct proxy_agent *agent,
                          struct error *err)
{
    struct proxy_server_opts o = {
        .cli = cli, .agent = agent, .concurrency = PROXY_NO_THREADS, .no_signals = true};
    struct proxy_server *s = proxy_server_new(&o, err);
    if (!s)
        return err->code ? err->code : E_INVALID;
    proxy_server_free(s);
    return 0;
}

/* ---- life ---- */

static void on_signal(int signo, void *arg)
{
    struct proxy_server *s = arg;
    switch (signo) {
    case SIGUSR1:
        proxy_server_reopen_logs(s);
        return;
    case SIGHUP:
        return; /* as Envoy: no meaning, and not the end */
    default:
        log_info(&log_main, "caught signal name=%s", strsignal(signo));
        proxy_server_drain(s);
    }
}

static void on_tick(struct timer *t)
{
    struct proxy_server *s = container_of(t, struct proxy_server, tick);
    proxy_server_stats_update(s);
    stats_sweep(s->stats, loop_now_ms(s->loop));
    /* What came over xDS was read in more memory than what is made of it, as a bootstrap is. */
    if (s->config_bytes >= GIVE_BACK && !s->os) {
        s->config_bytes = 0;
        malloc_trim(0);
    }
    timer_set(t, SWEEP_MS);
}

static int handle_signals(struct proxy_server *s, struct error *err)
{
    static const int v[] = {SIGTERM, SIGINT, SIGUSR1, SIGHUP};
    for (unsigned i = 0; !s->no_signals && i < sizeof v / sizeof v[0]; i++)
        if (loop_on_signal(s->loop, v[i], on_signal, s) < 0)
            return error_set(err, E_IO, "cannot watch signals");
    return 0;
}

static void on_static_warm(void *arg)
{
    struct proxy_server *s = arg;
    s->static_warm = true;
    if (!s->stopped)
        proxy_server_check_initialised(s);
}

static void source_in_reach(void *arg)
{
    struct proxy_server *s = arg;
    if (s->stopped)
        return;
    s->state = PROXY_INITIALIZING;
    proxy_server_start_source(s);
    proxy_server_check_initialised(s);
}

/* Only the control plane's own cluster has to be there: others may need what it sends. The news
 * that it is there is on its way to this thread's own table of clusters; posts keep their order. */
static void on_source_warm(void *arg)
{
    struct proxy_server *s = arg;
    loop_post(s->loop, source_in_reach, s);
}

int proxy_server_start(struct proxy_server *s, struct error *err)
{
    signal(SIGPIPE, SIG_IGN);
    int rc = handle_signals(s, err);
    if (rc < 0)
        return rc;
    s->started = true;
    proxy_drain_init(s);
    timer_init(&s->tick, s->loop, on_tick);
    timer_set(&s->tick, SWEEP_MS);
    for (uint32_t i = 0; i < s->concurrency; i++)
        if (worker_start(s->workers[i], s->cli->cpuset_threads) < 0)
            return error_set(err, E_LIMIT, "cannot start a worker thread");
    if (s->admin)
        admin_start(s->admin);
    cluster_manager_when_one_warm(s->clusters, source_cluster(s), on_source_warm, s);
    cluster_manager_when_warm(s->clusters, on_static_warm, s);
    return 0;
}

int proxy_server_run(struct proxy_server *s)
{
    loop_run(s->loop);
    return s->exit_status;
}

/* ---- the end ----
 * In steps, with a turn of the loop after each: what a step closes is freed at the end of a turn,
 * and still looks at what the next step frees. */

static void end_traffic(struct proxy_server *s)
{
    timer_cancel(&s->tick);
    timer_cancel(&s->drain_timer);
    timer_cancel(&s->fetch_timer);
    admin_free(s->admin);
    s->admin = NULL;
    if (s->source) {
        s->source->ops->free(s->source->self);
        if (s->rds)
            rds_manager_set_source(s->rds, NULL);
        s->source = NULL;
    }
    for (uint32_t i = 0; s->workers && i < s->concurrency && s->workers[i]; i++)
        worker_stop(s->workers[i]);
}

static void end_upstreams(struct proxy_server *s)
{
    for (uint32_t i = 0; s->workers && i < s->concurrency && s->workers[i]; i++) {
        upstream_worker_free(s->workers[i]->f.upstream);
        s->workers[i]->f.upstream = NULL;
    }
    upstream_worker_free(s->main_upstream);
    s->main_upstream = NULL;
}

static void end_listeners(struct proxy_server *s)
{
    listener_manager_free(s->listeners);
    s->listeners = NULL;
    for (uint32_t i = 0; s->workers && i < s->concurrency; i++) {
        worker_free(s->workers[i]);
        s->workers[i] = NULL;
    }
}

static void (*const end_steps[])(struct proxy_server *s) = {end_traffic, end_upstreams,
                                                            end_listeners};
#define END_STEPS (sizeof end_steps / sizeof end_steps[0])

/* On a loop that somebody else turns. */
static void next_end_step(void *arg)
{
    struct proxy_server *s = arg;
    end_steps[s->end_step++](s);
    if (s->end_step < END_STEPS)
        loop_post(s->loop, next_end_step, s);
}

static void stop_on_main(void *arg)
{
    struct proxy_server *s = arg;
    if (s->stopped)
        return;
    s->stopped = true;
    if (s->own_loop)
        loop_stop(s->loop);
    else
        next_end_step(s);
}

void proxy_server_stop(struct proxy_server *s)
{
    loop_post(s->loop, stop_on_main, s);
}

bool proxy_server_ended(const struct proxy_server *s)
{
    return s->end_step == END_STEPS;
}

void proxy_server_free(struct proxy_server *s)
{
    if (!s)
        return;
    while (s->end_step < END_STEPS) {
        end_steps[s->end_step++](s);
        if (s->loop && s->own_loop)
            loop_turn(s->loop, 0);
    }
    rds_manager_free(s->rds);
    cluster_manager_free(s->clusters);
    if (s->agent_started)
        s->agent->stop(s->agent->self);
    if (s->secrets)
        tls_secret_store_free(s->secrets);
    proxy_runtime_unwatch(s);
    if (s->loop && s->own_loop)
        loop_free(s->loop);
    if (s->sinks)
        access_log_sinks_free(s->sinks);
    if (s->stats) {
        proxy_server_stats_fini(s);
        stats_free(s->stats);
    }
    proxy_runtime_fini(s);
    for (unsigned i = 0; i < CONFIG_TYPE_COUNT; i++)
        free(s->versions[i]);
    map_fini(&s->eds_names);
    map_fini(&s->ads_secrets);
    free(s->workers);
    free(s->worker_loops);
    arena_free(&s->arena);
    free(s);
}

void proxy_server_reopen_logs(struct proxy_server *s)
{
    log_reopen();
    access_log_sinks_reopen(s->sinks);
    log_info(&log_main, "reopened logs");
}

/* ---- its parts ---- */

void proxy_server_filter_ctx(struct proxy_server *s, struct filter_ctx *x)
{
    memset(x, 0, sizeof *x);
    x->stats = s->stats;
    x->clusters = s->clusters;
    x->hcm = &proxy_hcm_glue;
    x->node = &s->node;
    x->runtime = s->runtime;
    x->log_sinks = s->validating ? NULL : s->sinks;
    x->proxy = s;
}

struct loop *proxy_server_loop(const struct proxy_server *s)
{
    return s->loop;
}
struct stats *proxy_server_stats(const struct proxy_server *s)
{
    return s->stats;
}
struct cluster_manager *proxy_server_clusters(const struct proxy_server *s)
{
    return s->clusters;
}
struct rds_manager *proxy_server_rds(const struct proxy_server *s)
{
    return s->rds;
}
struct listener_manager *proxy_server_listeners(const struct proxy_server *s)
{
    return s->listeners;
}
struct tls_secret_store *proxy_server_secrets(const struct proxy_server *s)
{
    return s->secrets;
}
const struct proxy_options *proxy_server_options(const struct proxy_server *s)
{
    return s->cli;
}
const struct envoy_Bootstrap *proxy_server_bootstrap(const struct proxy_server *s)
{
    return s->bootstrap;
}
enum proxy_state proxy_server_state(const struct proxy_server *s)
{
    return s->state;
}
bool proxy_server_ready(const struct proxy_server *s)
{
    return s->state == PROXY_LIVE && (!s->agent_started || s->agent->ready(s->agent->self));
}
void proxy_server_agent_metrics(const struct proxy_server *s, struct strbuf *out)
{
    if (s->agent_started)
        s->agent->metrics(s->agent->self, out);
}
uint32_t proxy_server_concurrency(const struct proxy_server *s)
{
    return s->concurrency;
}
uint64_t proxy_server_started_wall_ns(const struct proxy_server *s)
{
    return s->started_wall_ns;
}
uint64_t proxy_server_uptime_s(const struct proxy_server *s)
{
    return (loop_clock_ns(s->loop) - s->started_ns) / 1000000000u;
}
bool proxy_server_validating(const struct proxy_server *s)
{
    return s->validating;
}
void proxy_server_set_health(struct proxy_server *s, bool failed)
{
    atomic_store_explicit(&s->health_failed, failed, memory_order_relaxed);
}
