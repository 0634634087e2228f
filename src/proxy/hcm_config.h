/* What one HTTP connection manager was configured to do: the runtime form of
 * envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.
 *
 * Immutable; lives in the arena of its listener's snapshot and as long as that, which connections
 * hold. Thread: made on main, read by workers. */
#ifndef WEFT_PROXY_HCM_CONFIG_H
#define WEFT_PROXY_HCM_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include "filters/context.h"
#include "http/filter.h"
#include "http/limits.h"
#include "http/path.h"
#include "net/addr.h"
#include "proxy/hcm_extensions.h"
#include "proxy/hcm_stats.h"
#include "route/match.h"

struct rds_provider;
struct access_log;
struct hcm_reply_config;
struct hcm_tracing;

enum hcm_codec { HCM_CODEC_AUTO, HCM_CODEC_HTTP1, HCM_CODEC_HTTP2 };
enum hcm_server_header { HCM_SERVER_OVERWRITE, HCM_SERVER_IF_ABSENT, HCM_SERVER_PASS };
/* forward_client_cert_details, in the order of Envoy's enum. */
enum hcm_xfcc {
    HCM_XFCC_SANITIZE,
    HCM_XFCC_FORWARD_ONLY,
    HCM_XFCC_APPEND,
    HCM_XFCC_SET,
    HCM_XFCC_ALWAYS_FORWARD,
};
/* set_current_client_cert_details */
#define HCM_XFCC_SUBJECT 1u
#define HCM_XFCC_CERT    2u
#define HCM_XFCC_CHAIN   4u
#define HCM_XFCC_DNS     8u
#define HCM_XFCC_URI     16u

struct hcm_upgrade {
    sv type; /* lower case */
    bool enabled;
    const struct http_filter_conf *filters; /* NULL: the usual chain */
    uint32_t n_filters;
};

struct hcm_config {
    sv stat_prefix;
    enum hcm_codec codec;
    struct http_limits limits;
    struct rds_provider *routes; /* one reference, dropped with the arena */

    const struct http_filter_conf *filters;
    uint32_t n_filters;
    const struct hcm_upgrade *upgrades;
    uint32_t n_upgrades;

    /* Addresses and trust. */
    bool use_remote_address;
    bool skip_xff_append;
    bool append_forwarded_port;
    uint32_t trusted_hops;
    const struct cidr *internal; /* internal_address_config.cidr_ranges */
    uint32_t n_internal;
    bool internal_unix;
    struct hcm_extensions extensions;
    /* Fields. */
    sv via, server_name, user_agent; /* user_agent: service cluster with add_user_agent, or empty */
    enum hcm_server_header server_header;
    bool generate_request_id, preserve_request_id, request_id_in_response;
    bool pack_trace_reason, use_request_id_for_sampling;
    enum hcm_xfcc xfcc;
    unsigned xfcc_set; /* HCM_XFCC_* */
    sv scheme_overwrite;
    bool scheme_of_upstream;
    sv default_host; /* HTTP/1.0 without Host */
    struct path_opts path;
    bool strip_port, strip_matching_port, strip_dot;
    bool proxy_100_continue;
    bool stream_error_on_bad; /* stream_error_on_invalid_http_message: 400 keeps the connection */
    const struct string_match *ignored_upgrades; /* ignore_http_11_upgrade */
    uint32_t n_ignored_upgrades;

    /* Time, in ms; 0 never. */
    uint64_t idle_ms;                           /* connection without streams; default 1 h */
    uint64_t max_connection_ms;                 /* max_connection_duration */
    uint64_t max_stream_ms;                     /* max_stream_duration */
    uint64_t stream_idle_ms;                    /* default 5 min */
    uint64_t request_ms;                        /* request_timeout */
    uint64_t request_headers_ms;                /* request_headers_timeout */
    uint64_t drain_ms;                          /* between the two GOAWAYs; default 5 s */
    uint64_t delayed_close_ms;                  /* default 1 s */
    uint64_t ping_interval_ms, ping_timeout_ms; /* HTTP/2 connection_keepalive */
    uint32_t ping_jitter_percent;
    uint64_t ping_idle_ms;
    uint64_t log_flush_ms; /* access_log_flush_interval */
    bool log_on_request, log_on_tunnel;
    uint32_t max_requests; /* per connection, 0: any number */

    const struct access_log *logs;          /* NULL: none */
    const struct hcm_reply_config *replies; /* local_reply_config, or NULL */
    const struct hcm_tracing *tracing;      /* NULL: none */

    /* Counters change, the handles do not. */
    struct stat_group *stats;          /* hcm_stats */
    struct stat_group *listener_stats; /* hcm_listener_stats, or NULL */
};

/* Decodes, checks and builds; errors name x->path and the field. */
int hcm_config_parse(const struct filter_ctx *x, sv packed, const void **config,
                     struct error *err) MUST_CHECK;

#endif
