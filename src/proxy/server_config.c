/* Resources that come while the proxy runs: from the config source to the managers, and the order
 * of initialising. */
#include "api/pb.h"
#include "base/log.h"
#include "base/mem.h"
#include "proxy/config_files.h"
#include "proxy/listener_manager.h"
#include "proxy/rds.h"
#include "proxy/sds.h"
#include "proxy/server_private.h"
#include "proxy/subscription.h"

LOG_COMPONENT(config);

#define FETCH_TIMEOUT_MS 15000u

/* ---- applying one resource ---- */

static void on_unknown(void *arg, const char *path)
{
    struct proxy_server *s = arg;
    stat_inc(&s->server_stats, server_stats_dynamic_unknown_fields);
    log_warn(&log_config, "unknown field ignored path=%s", path);
}

static int apply(struct proxy_server *s, enum config_type t, const struct config_resource *r,
                 sv version, struct error *err)
{
    switch (t) {
    case CONFIG_CDS:
        return cluster_manager_put(s->clusters, r->packed, err);
    case CONFIG_EDS:
        return cluster_manager_endpoints(s->clusters, r->packed, err);
    case CONFIG_LDS:
        return listener_manager_put(s->listeners, r->packed, false, r->version, &s->dynamic_pb,
                                    err);
    case CONFIG_RDS:
        return rds_update(s->rds, r, err);
    case CONFIG_SDS:
        return sds_apply(s, r, version, err);
    case CONFIG_NDS:
        if (s->agent_started)
            return s->agent->set_names(s->agent->self, r->packed, err);
        return 0;
    default:
        return error_set(err, E_UNSUPPORTED, "resource type %d is not known", (int)t);
    }
}

static void take_away(struct proxy_server *s, enum config_type t, sv name)
{
    switch (t) {
    case CONFIG_CDS:
        cluster_manager_remove(s->clusters, name);
        return;
    case CONFIG_LDS:
        listener_manager_remove(s->listeners, name);
        return;
    case CONFIG_RDS:
        rds_missing(s->rds, name); /* a table that is in force stays */
        return;
    default:
        return; /* endpoints and secrets stay in force until who named them goes */
    }
}

/* ---- one update ---- */

sv proxy_server_version(const struct proxy_server *s, enum config_type t)
{
    return sv_of(s->versions[t]);
}

static void count_update(struct proxy_server *s, const struct config_update *u, bool refused)
{
    struct stat_group *g = &s->subscriptions[u->type];
    if (refused) {
        subscription_rejected(g);
        return;
    }
    free(s->versions[u->type]);
    s->versions[u->type] = sv_dup(u->version);
    subscription_taken(g, u->version, s->loop);
}

static void clusters_warm(void *arg)
{
    struct proxy_server *s = arg;
    s->cds_warm = true;
    proxy_server_check_initialised(s);
}

static void first_update(struct proxy_server *s, enum config_type t)
{
    if (t == CONFIG_CDS && !s->cds_done) {
        s->cds_done = true;
        cluster_manager_when_warm(s->clusters, clusters_warm, s);
    } else if (t == CONFIG_LDS && !s->lds_done) {
        s->lds_done = true;
        proxy_server_check_initialised(s);
    }
}

static void on_update(void *self, struct config_update *u)
{
    struct proxy_server *s = self;
    bool refused = false;
    if (s->stopped)
        return;
    if (u->type == CONFIG_VHDS)
        rds_hosts_update(s->rds, u);
    for (uint32_t i = 0; i < u->n_removed; i++)
        take_away(s, u->type, u->removed[i]);
    for (uint32_t i = 0; i < u->n; i++) {
        struct config_resource *r = &u->v[i];
        s->config_bytes += r->packed.n;
        int rc = u->type == CONFIG_VHDS ? r->refused.code
                                        : apply(s, u->type, r, u->version, &r->refused);
        if (rc == 0) {
            r->refused = (struct error){0};
            continue;
        }
        refused = true;
        log_warn(&log_config, "resource refused type=%s name=%.*s reason=%s",
                 proxy_config_type_name(u->type), SV_ARG(r->name), r->refused.msg);
        if (u->type == CONFIG_LDS)
            listener_manager_refused(s->listeners, r->name, r->version, r->refused.msg);
    }
    if (u->type == CONFIG_LDS)
        listener_manager_reap(s->listeners);
    count_update(s, u, refused);
    first_update(s, u->type);
}

static void on_missing(void *self, enum config_type t, sv name)
{
    struct proxy_server *s = self;
    if (t == CONFIG_RDS)
        rds_missing(s->rds, name);
    if (!name.n)
        first_update(s, t);
}

const char *proxy_config_type_name(enum config_type t)
{
    static const char *const v[] = {
#define X(id, type, stats) type,
        CONFIG_TYPES(X)
#undef X
    };
    return v[t];
}

/* ---- initialising ---- */

static void subscribe(struct proxy_server *s, enum config_type t, sv name)
{
    s->source->ops->subscribe(s->source->self, t, name);
}

static uint64_t fetch_timeout(const struct envoy_ConfigSource *c)
{
    uint64_t ms = FETCH_TIMEOUT_MS;
    if (c && c->initial_fetch_timeout &&
        duration_ms(c->initial_fetch_timeout, "initial_fetch_timeout", &ms, NULL) < 0)
        ms = FETCH_TIMEOUT_MS;
    return ms;
}

static void on_fetch_timeout(struct timer *t)
{
    struct proxy_server *s = container_of(t, struct proxy_server, fetch_timer);
    static const enum config_type v[] = {CONFIG_CDS, CONFIG_LDS};
    for (unsigned i = 0; i < 2; i++) {
        bool done = v[i] == CONFIG_CDS ? s->cds_done && s->cds_warm : s->lds_done;
        if (done)
            continue;
        subscription_timed_out(&s->subscriptions[v[i]]);
        log_warn(&log_config, "no answer in time, going on without type=%s",
                 proxy_config_type_name(v[i]));
    }
    s->cds_done = s->cds_warm = s->lds_done = true;
    s->gave_up = true;
    proxy_server_check_initialised(s);
}

bool proxy_server_has_ads(const struct proxy_server *s)
{
    const struct envoy_Bootstrap_DynamicResources *d = s->bootstrap->dynamic_resources;
    return s->given_source || (d && d->ads_config);
}

/* Whether clusters, or listeners, come from the source at all. */
static bool wildcard(const struct proxy_server *s, const struct envoy_ConfigSource *c)
{
    return c || (s->given_source && !s->bootstrap->dynamic_resources);
}

void proxy_server_start_source(struct proxy_server *s)
{
    const struct envoy_Bootstrap_DynamicResources *d = s->bootstrap->dynamic_resources;
    if (!s->source) {
        s->cds_done = s->cds_warm = s->lds_done = true;
        return;
    }
    s->dynamic_pb.on_unknown = on_unknown;
    s->dynamic_pb.arg = s;
    bool cds = wildcard(s, d ? d->cds_config : NULL), lds = wildcard(s, d ? d->lds_config : NULL);
    s->cds_done = s->cds_warm = !cds;
    s->lds_done = !lds;
    s->sink = (struct config_sink){on_update, on_missing, s};
    if (cds)
        subscribe(s, CONFIG_CDS, (sv){NULL, 0});
    else if (lds)
        subscribe(s, CONFIG_LDS, (sv){NULL, 0});
    s->lds_asked = lds && !cds;
    if (s->agent_started && s->agent->wants_names(s->agent->self))
        subscribe(s, CONFIG_NDS, (sv){NULL, 0});
    s->source->ops->start(s->source->self, &s->sink);
    timer_init(&s->fetch_timer, s->loop, on_fetch_timeout);
    uint64_t ms = fetch_timeout(d ? d->cds_config : NULL);
    uint64_t lds_ms = fetch_timeout(d ? d->lds_config : NULL);
    if (lds_ms > ms)
        ms = lds_ms;
    if (ms && (cds || lds))
        timer_set(&s->fetch_timer, ms);
}

/* Clusters first: listeners name them. */
void proxy_server_check_initialised(struct proxy_server *s)
{
    const struct envoy_Bootstrap_DynamicResources *d = s->bootstrap->dynamic_resources;
    if (s->state != PROXY_INITIALIZING || !s->static_warm)
        return;
    if (s->cds_done && s->cds_warm && !s->lds_asked && s->source &&
        wildcard(s, d ? d->lds_config : NULL)) {
        s->lds_asked = true;
        subscribe(s, CONFIG_LDS, (sv){NULL, 0});
    }
    if (!s->cds_done || !s->cds_warm || !s->lds_done ||
        (!s->gave_up && !listener_manager_warm(s->listeners)))
        return;
    timer_cancel(&s->fetch_timer);
    s->state = PROXY_LIVE;
    listener_manager_open(s->listeners);
    uint64_t ms = (loop_clock_ns(s->loop) - s->started_ns) / 1000000u;
    stat_record(&s->server_stats, server_stats_initialization_time_ms, ms);
    log_info(&log_config, "all dependencies initialized, listeners are open after_ms=%llu",
             (unsigned long long)ms);
}

/* ---- warming ---- */

static void check_warm(struct deferred *d)
{
    struct proxy_server *s = container_of(d, struct proxy_server, warm_check);
    s->warm_queued = false;
    if (s->stopped)
        return;
    listener_manager_check_warm(s->listeners);
    proxy_server_check_initialised(s);
}

void proxy_server_warm_later(struct proxy_server *s)
{
    if (s->warm_queued || !s->listeners)
        return;
    s->warm_queued = true;
    loop_defer(s->loop, &s->warm_check, check_warm);
}

void proxy_server_tls_changed(struct proxy_server *s)
{
    proxy_server_warm_later(s);
}

/* ---- endpoints and secrets by name ---- */

/* Tells the source where a name comes from, by a packed ConfigSource; empty: where it likes. */
static int from(struct proxy_server *s, enum config_type t, sv name, sv config, struct error *err)
{
    struct arena a;
    void *m;
    int rc = 0;
    if (!config.n || !s->source || !s->source->ops->from)
        return 0;
    arena_init(&a);
    rc = pb_decode(&envoy_ConfigSource_pb, config, &a, NULL, &m, err);
    if (rc == 0)
        rc = s->source->ops->from(s->source->self, t, name, m, err);
    arena_free(&a);
    return rc;
}

void proxy_eds_want(void *self, sv name, sv file)
{
    struct proxy_server *s = self;
    struct error err = {0};
    map_put(&s->eds_names, name, s);
    if (from(s, CONFIG_EDS, name, file, &err) < 0)
        log_error(&log_config, "endpoints cannot come name=%.*s reason=%s", SV_ARG(name), err.msg);
    if (s->source)
        subscribe(s, CONFIG_EDS, name);
}

void proxy_eds_unwant(void *self, sv name)
{
    struct proxy_server *s = self;
    map_del(&s->eds_names, name);
    if (s->source)
        s->source->ops->unsubscribe(s->source->self, CONFIG_EDS, name);
}

/* Whether it comes through our source: ADS, or a file. */
static bool from_source(sv config)
{
    struct arena a;
    void *m;
    arena_init(&a);
    bool ours = config.n && pb_decode(&envoy_ConfigSource_pb, config, &a, NULL, &m, NULL) == 0 &&
                (((struct envoy_ConfigSource *)m)->which_config_source_specifier ==
                     envoy_ConfigSource_ads_tag ||
                 config_files_is(m));
    arena_free(&a);
    return ours;
}

static int check_secret_source(const struct proxy_server *s, sv name, sv config, struct error *err)
{
    struct arena a;
    void *m;
    arena_init(&a);
    int rc = pb_decode(&envoy_ConfigSource_pb, config, &a, NULL, &m, err);
    if (rc == 0 && config_files_is(m))
        rc = config_files_check(m, err);
    else if (rc == 0 && !proxy_server_has_ads(s))
        rc = error_set(err, E_INVALID, "dynamic_resources.ads_config is missing");
    if (rc == 0)
        rc = sds_check(s, name, m, err);
    arena_free(&a);
    return rc;
}

static bool of_agent(const struct proxy_server *s, sv name)
{
    return s->agent_started && s->agent->has_secret(s->agent->self, name);
}

/* In a validating run the agent is not there, but its names are no mistake. */
int proxy_secret_check(void *self, sv name, sv config, struct error *err)
{
    struct proxy_server *s = self;
    if (s->agent && s->agent->has_secret(s->agent->self, name))
        return 0;
    if (!config.n)
        return error_set(err, E_NOT_FOUND, "there is no static secret '%.*s'", SV_ARG(name));
    if (!from_source(config))
        return error_set(err, E_UNSUPPORTED,
                         "secret '%.*s': sds_config: only ads and path_config_source are supported "
                         "(others for the agent's own secrets)",
                         SV_ARG(name));
    int rc = check_secret_source(s, name, config, err);
    if (rc < 0)
        error_prefix(err, "secret '%.*s': sds_config: ", SV_ARG(name));
    return rc;
}

void proxy_secret_want(void *self, sv name, sv config)
{
    struct proxy_server *s = self;
    if (of_agent(s, name))
        s->agent->want(s->agent->self, s->secrets, name, config);
    if (of_agent(s, name) || !from_source(config))
        return;
    bool known = !sds_want(s, name, config);
    struct error err = {0};
    if (!known && from(s, CONFIG_SDS, name, config, &err) < 0)
        log_error(&log_config, "secret cannot come name=%.*s reason=%s", SV_ARG(name), err.msg);
    if (s->source && !known)
        subscribe(s, CONFIG_SDS, name);
}

void proxy_secret_unwant(void *self, sv name, sv config)
{
    struct proxy_server *s = self;
    if (of_agent(s, name))
        s->agent->unwant(s->agent->self, s->secrets, name, config);
    if (of_agent(s, name) || !from_source(config))
        return;
    sds_unwant(s, name, config);
}
