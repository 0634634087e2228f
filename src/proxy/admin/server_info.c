/* /server_info, /ready, /memory, /hot_restart_version */
#include "proxy/admin/admin.h"

#include <stdio.h>

#include "api/envoy.pb.h"
#include "api/google.pb.h"
#include "base/mem.h"
#include "proxy/server_private.h"

static const char *state_name(enum proxy_state st)
{
    static const char *const v[] = {"PRE_INITIALIZING", "INITIALIZING", "LIVE", "DRAINING"};
    return v[st];
}

void admin_ready(struct proxy_server *s, struct serve_request *r)
{
    enum proxy_state st = proxy_server_state(s);
    bool ready = proxy_server_ready(s);
    if (st == PROXY_LIVE && !ready)
        st = PROXY_INITIALIZING; /* its agent still is */
    serve_reply_text(r, ready ? 200 : 503, "%s\n", state_name(st));
}

static const struct google_Duration *seconds(struct arena *a, uint64_t n)
{
    struct google_Duration *d = arena_new(a, struct google_Duration);
    d->seconds = (int64_t)n;
    return d;
}

static const struct google_Duration *millis(struct arena *a, uint64_t n)
{
    struct google_Duration *d = arena_new(a, struct google_Duration);
    d->seconds = (int64_t)(n / 1000);
    d->nanos = (int32_t)(n % 1000 * 1000000);
    return d;
}

static const struct envoy_CommandLineOptions *command_line(struct proxy_server *s, struct arena *a)
{
    const struct proxy_options *o = proxy_server_options(s);
    struct envoy_CommandLineOptions *m = arena_new(a, struct envoy_CommandLineOptions);
    m->base_id = o->base_id;
    m->use_dynamic_base_id = o->use_dynamic_base_id;
    m->concurrency = proxy_server_concurrency(s);
    m->config_path = sv_of(o->config_path);
    m->config_yaml = sv_of(o->config_yaml);
    m->allow_unknown_static_fields = o->allow_unknown_static;
    m->reject_unknown_dynamic_fields = !o->ignore_unknown_dynamic;
    m->ignore_unknown_dynamic_fields = o->ignore_unknown_dynamic;
    m->admin_address_path = sv_of(o->admin_address_path);
    m->local_address_ip_version =
        o->local_address_v6 ? envoy_CommandLineOptions_v6 : envoy_CommandLineOptions_v4;
    m->log_level = sv_of(o->log_level_text);
    m->component_log_level = sv_of(o->component_log_level);
    m->log_format = sv_of(o->log_format);
    m->log_format_escaped = o->log_format_escaped;
    m->log_path = sv_of(o->log_path);
    m->service_cluster = sv_of(o->service_cluster);
    m->service_node = sv_of(o->service_node);
    m->service_zone = sv_of(o->service_zone);
    m->file_flush_interval = millis(a, o->file_flush_ms);
    m->drain_time = seconds(a, o->drain_time_s);
    m->drain_strategy = o->drain_immediately ? envoy_CommandLineOptions_Immediate
                                             : envoy_CommandLineOptions_Gradual;
    m->parent_shutdown_time = seconds(a, o->parent_shutdown_time_s);
    m->mode = o->mode == PROXY_SERVE      ? envoy_CommandLineOptions_Serve
              : o->mode == PROXY_VALIDATE ? envoy_CommandLineOptions_Validate
                                          : envoy_CommandLineOptions_InitOnly;
    m->disable_hot_restart = o->disable_hot_restart;
    m->restart_epoch = o->restart_epoch;
    m->cpuset_threads = o->cpuset_threads;
    return m;
}

void admin_server_info(struct proxy_server *s, struct serve_request *r)
{
    static const int32_t states[] = {envoy_ServerInfo_PRE_INITIALIZING,
                                     envoy_ServerInfo_INITIALIZING, envoy_ServerInfo_LIVE,
                                     envoy_ServerInfo_DRAINING};
    struct strbuf b;
    struct envoy_ServerInfo m = {
        .version = SV("weft/" WEFT_VERSION "/Clean/RELEASE/OpenSSL"),
        .state = states[proxy_server_state(s)],
        .uptime_current_epoch = seconds(r->arena, proxy_server_uptime_s(s)),
        .uptime_all_epochs = seconds(r->arena, proxy_server_uptime_s(s)),
        .hot_restart_version = SV("disabled"),
        .command_line_options = command_line(s, r->arena),
        .node = proxy_server_bootstrap(s)->node,
    };
    strbuf_init(&b, ADMIN_TEXT_MAX);
    admin_json(&envoy_ServerInfo_pb, &m, &b);
    serve_reply_strbuf(r, 200, ADMIN_JSON, &b);
}

void admin_memory(struct proxy_server *s, struct serve_request *r)
{
    struct strbuf b;
    struct mem_use use = mem_use();
    proxy_server_stats_update(s);
    struct envoy_Memory m = {
        .allocated = use.allocated,
        .heap_size = use.heap,
        .pageheap_free = use.unused,
        .total_physical_bytes = stat_get(&s->server_stats, server_stats_memory_physical_size),
    };
    strbuf_init(&b, 65536);
    admin_json(&envoy_Memory_pb, &m, &b);
    serve_reply_strbuf(r, 200, ADMIN_JSON, &b);
}

void admin_hot_restart_version(struct proxy_server *s, struct serve_request *r)
{
    serve_reply_text(r, 200, "disabled\n");
}
