/* Route tables: from a request's head to what is to be done with it, as Envoy does it.
 *
 *   envoy.config.route.v3.RouteConfiguration (packed, kept)
 *     └ index: domain ─hash─> virtual host (packed until its first match)
 *          └ routes in order, each: match + action, built at the first match under a once-guard
 *
 *   route_table_build ──> route_table (immutable, refcounted)
 *   route_table_match(table, head, ctx) ──> struct route_match   (values; borrows from the table)
 *     route_match_request / _response     header operations, host and path rewrites
 *     route_match_redirect                Location
 *     route_match_hash                    the number for ring hash and Maglev
 *
 * Everything is validated when the table is built; errors name the field's path:
 * "route_config 'x': virtual_hosts[3].routes[2].match.safe_regex.regex: …". The runtime form of a
 * virtual host exists once a request met it: 10,000 virtual hosts of which five are used cost
 * hardly more than five.
 *
 * Pure: no clock, no I/O; randomness is an argument. The proxy runs it, `weft explain` asks it.
 * Thread: building: any (main). Matching: any number of workers at once. */
#ifndef WEFT_ROUTE_ROUTE_H
#define WEFT_ROUTE_ROUTE_H

#include <stdbool.h>
#include <stdint.h>
#include "api/envoy.pb.h"
#include "base/arena.h"
#include "base/error.h"
#include "base/strbuf.h"
#include "base/sv.h"
#include "http/headers.h"
#include "http/stream_info.h"
#include "route/custom_tag.h"
#include "route/match.h"

struct route_table;
struct runtime;

/* Who understands typed_per_filter_config, and what else only the assembler knows. */
struct route_table_opts {
    /* Parses one filter's config; called on main only, when the table is built. *out may be
     * anything that lives in `a`, which is freed with the table (on any thread). E_UNSUPPORTED or
     * E_NOT_FOUND when no such filter is known: allowed if the entry says is_optional. NULL: every
     * per-filter config is refused by name. */
    int (*filter_config)(void *arg, sv filter_name, const struct google_Any *config,
                         struct arena *a, const void **out, struct error *err);
    /* Whether a cluster is known, asked on main when validate_clusters is true, or when it is not
     * set and check_clusters is (Envoy: for static route_config, not for RDS). */
    bool (*cluster_known)(void *arg, sv name);
    bool check_clusters;
    void *arg;
    /* Reads files that direct responses name (DataSource.filename), on main. NULL: refused by name.
     */
    int (*read_file)(void *arg, sv path, struct arena *a, sv *out, struct error *err);
    /* Strictness of the source; NULL: strict. Used during the call only. */
    const struct pb_opts *pb;
    struct runtime *runtime; /* where runtime keys are looked up; NULL: defaults hold */
};

/* packed: envoy.config.route.v3.RouteConfiguration; copied. o is copied; its arg must outlive the
 * table. On failure *out is untouched and err holds the sentence. */
int route_table_build(sv packed, const struct route_table_opts *o, struct route_table **out,
                      struct error *err) MUST_CHECK;
void route_table_ref(struct route_table *t);
void route_table_unref(struct route_table *t); /* NULL is fine */
sv route_table_name(const struct route_table *t);
/* The configuration as it came, without what came on its own. */
/* Names of headers that only internal requests may carry (internal_only_headers), lower case. */
const sv *route_table_internal_only(const struct route_table *t, uint32_t *n);
sv route_table_packed(const struct route_table *t);
/* The same with all virtual hosts, for config_dump. */
sv route_table_whole(const struct route_table *t, struct arena *a);
uint32_t route_table_vhosts(const struct route_table *t);
/* Virtual hosts whose runtime form exists (tests, memory accounting). */
uint32_t route_table_built_vhosts(const struct route_table *t);
/* ---- virtual hosts that come on their own (VHDS) ----
 * A configuration may say that (more of) its virtual hosts come as resources. Each is checked when
 * it comes; a table is then put together from the configuration's own hosts and these. Tables share
 * them by reference, with what was built of them: a change costs the index and what changed. */

/* The configuration refers to VHDS; *wait_ms: its initial_fetch_timeout, 0: none. */
bool route_table_vhds(const struct route_table *t, uint64_t *wait_ms);
struct route_hosts;
/* One virtual host, packed (copied), checked against the configuration of `base`. name is the
 * resource's. Errors start with the field's path. */
int route_hosts_build(const struct route_table *base, sv name, sv packed, const struct pb_opts *pb,
                      struct route_hosts **out, struct error *err) MUST_CHECK;
void route_hosts_unref(struct route_hosts *h); /* NULL is fine */
sv route_hosts_packed(const struct route_hosts *h);
/* `base` with these virtual hosts, all built against it; takes no reference of the caller's. A
 * domain that two of them have is an error, and *culprit the later one of them. */
int route_table_extend(const struct route_table *base, struct route_hosts *const *v, uint32_t n,
                       struct route_table **out, uint32_t *culprit, struct error *err) MUST_CHECK;

/* Calls fn for every cluster named anywhere (route, weighted, mirror), also several times. */
void route_table_each_cluster(const struct route_table *t, void (*fn)(void *arg, sv cluster),
                              void *arg);

/* ---------------- what a route says ---------------- */

enum route_action {
    ROUTE_NONE,            /* nothing matched: 404, NR */
    ROUTE_FORWARD,         /* to match->cluster */
    ROUTE_REDIRECT,        /* route_match_redirect */
    ROUTE_DIRECT_RESPONSE, /* status, body */
    ROUTE_NON_FORWARDING,  /* matched, but the proxy does not forward it: 500 as Envoy */
};

/* retry_on, one bit each: id, word. */
#define ROUTE_RETRY_ON(X)                                                                          \
    X(5XX, "5xx")                                                                                  \
    X(GATEWAY_ERROR, "gateway-error")                                                              \
    X(RESET, "reset")                                                                              \
    X(RESET_BEFORE_REQUEST, "reset-before-request")                                                \
    X(CONNECT_FAILURE, "connect-failure")                                                          \
    X(ENVOY_RATELIMITED, "envoy-ratelimited")                                                      \
    X(RETRIABLE_4XX, "retriable-4xx")                                                              \
    X(REFUSED_STREAM, "refused-stream")                                                            \
    X(RETRIABLE_STATUS_CODES, "retriable-status-codes")                                            \
    X(RETRIABLE_HEADERS, "retriable-headers")                                                      \
    X(HTTP3_POST_CONNECT_FAILURE, "http3-post-connect-failure")                                    \
    X(GRPC_CANCELLED, "cancelled")                                                                 \
    X(GRPC_DEADLINE_EXCEEDED, "deadline-exceeded")                                                 \
    X(GRPC_INTERNAL, "internal")                                                                   \
    X(GRPC_RESOURCE_EXHAUSTED, "resource-exhausted")                                               \
    X(GRPC_UNAVAILABLE, "unavailable")
enum route_retry_bit {
#define X(id, text) ROUTE_RETRY_BIT_##id,
    ROUTE_RETRY_ON(X)
#undef X
};
enum route_retry_on {
#define X(id, text) ROUTE_RETRY_##id = 1 << ROUTE_RETRY_BIT_##id,
    ROUTE_RETRY_ON(X)
#undef X
};
/* Bits of a comma-separated list; words that are not known are skipped and reported in *unknown
 * (may be NULL; n == 0: none): x-envoy-retry-on ignores them, configuration does not. */
uint32_t route_retry_on_parse(sv list, sv *unknown);

enum route_host_predicate { ROUTE_HOSTS_PREVIOUS = 1, ROUTE_HOSTS_OMIT_CANARY = 2 };

struct route_retry_policy {
    uint32_t retry_on; /* enum route_retry_on */
    uint32_t num_retries;
    bool has_num_retries;
    uint64_t per_try_timeout_ms;              /* 0: none (the route's timeout bounds it) */
    uint64_t per_try_idle_timeout_ms;         /* 0: none */
    uint64_t backoff_base_ms, backoff_max_ms; /* 25 and 10 × base unless given */
    uint32_t n_codes, n_headers, n_request_headers, n_reset_headers;
    const uint16_t *codes;
    const struct header_match *headers;         /* any of these in the response */
    const struct header_match *request_headers; /* all of these in the request, if there are any */
    const struct route_reset_header {
        sv name;
        bool unix_time;       /* else seconds from now */
    } * reset_headers;        /* rate_limited_retry_back_off */
    uint64_t reset_max_ms;    /* 300000 unless given */
    uint32_t host_predicates; /* enum route_host_predicate */
    const struct envoy_Metadata
        *omit_hosts;          /* omit_host_metadata: hosts with all of its envoy.lb */
    uint32_t host_attempts;   /* host_selection_retry_max_attempts, 1 unless given */
    uint32_t priority_update; /* previous_priorities update_frequency, 0: not configured */
};

struct route_mirror {
    sv cluster, cluster_header; /* one of them */
    bool has_fraction;
    struct fraction fraction;
    int8_t trace_sampled; /* -1: as the original, 0, 1 */
    bool keep_host;       /* no "-shadow" on the host */
    sv host_rewrite;
};

struct route_upgrade {
    sv type; /* as configured: "websocket", "CONNECT"; compare without case */
    bool enabled;
    bool connect; /* connect_config: CONNECT ends here, payload goes to TCP */
    bool connect_allow_post;
    uint8_t connect_proxy_protocol; /* 0: none, 1, 2: version sent to the upstream */
};

/* internal_redirect_policy: a redirect that a host answers is followed by the proxy itself. */
struct route_internal_redirect {
    uint32_t max;      /* max_internal_redirects, 1 unless given */
    uint16_t codes[5]; /* redirect_response_codes, 302 unless given */
    uint32_t n_codes;
    bool cross_scheme; /* allow_cross_scheme_redirect */
    const sv *copy;    /* response_headers_to_copy, lower case */
    uint32_t n_copy;
    const struct route_redirect_predicate {
        enum { ROUTE_PREVIOUS_ROUTES, ROUTE_ALLOW_LISTED, ROUTE_SAFE_CROSS_SCHEME } kind;
        const sv *names; /* ROUTE_ALLOW_LISTED */
        uint32_t n_names;
    } * predicates;
    uint32_t n_predicates;
};

struct route_ops;           /* header operations of one level, private */
struct route_filter_config; /* private */
struct route_hash;          /* private */
struct route_weighted;      /* private */
struct route_path_match;    /* private */
struct route_probe;         /* private */

struct route_tracing {
    bool set;
    struct fraction client, random, overall;
    struct custom_tags tags;
    const struct substitution *operation, *upstream_operation; /* names of spans, or NULL */
};

/* One virtual host, built. */
struct route_vhost {
    sv name;
    bool include_attempt_count, include_attempt_count_in_response, include_is_timeout_retry;
    uint8_t require_tls; /* envoy_VirtualHost_TlsRequirementType */
    const struct route_ops *ops;
    const struct route_filter_config *filters;
    const struct envoy_Metadata *metadata;
    struct route *routes;
    const struct route_probe *probes; /* one a route: what matching looks at first */
    uint32_t n_routes;
    struct route_virtual_cluster {
        sv name;
        const struct header_match *headers;
        uint32_t n_headers;
    } * vclusters;
    uint32_t n_vclusters;
};

/* One route, built. Immutable; lives as long as the table. */
struct route {
    sv name, stat_prefix;
    uint32_t index; /* in its virtual host */
    enum route_action action;
    const struct route_vhost *vhost;

    /* match */
    const struct route_path_match *path;
    const struct header_match *headers;
    const struct query_match *query;
    const struct metadata_match *const *metadata_matches;
    uint32_t n_headers, n_query, n_metadata_matches;
    bool grpc, has_fraction;
    int8_t tls_presented, tls_validated; /* -1: not asked */
    struct fraction fraction;

    /* ROUTE_FORWARD */
    sv cluster, cluster_header; /* one of them, or weighted */
    const struct route_weighted *weighted;
    uint16_t cluster_not_found_status; /* 503 unless given */
    const struct envoy_Metadata *metadata_match;
    uint64_t timeout_ms;      /* 15000 unless given; 0: none */
    bool has_idle_timeout;    /* overrides the manager's stream_idle_timeout */
    uint64_t idle_timeout_ms; /* 0: none */
    /* max_stream_duration is there, maybe empty: it, and grpc-timeout as it says, bound the stream
     * as a whole (the connection manager's work), and timeout_ms does not hold. */
    bool new_timeouts;
    bool has_max_stream_duration;    /* overrides the manager's */
    uint64_t max_stream_duration_ms; /* 0: none */
    bool has_grpc_timeout_max;       /* grpc-timeout is honoured */
    uint64_t grpc_timeout_max_ms;    /* 0: no bound */
    uint64_t grpc_timeout_offset_ms;
    const struct route_retry_policy *retry; /* the route's, else the virtual host's, else NULL */
    uint8_t priority;                       /* enum upstream_priority: 0 default, 1 high */
    uint32_t n_mirrors, n_upgrades;
    const struct route_mirror *mirrors; /* route's, else virtual host's, else table's */
    const struct route_upgrade *upgrades;
    const struct route_hash *hash;
    const struct route_internal_redirect *internal_redirect; /* or NULL */
    bool hedge; /* hedge_on_per_try_timeout: the route's, else the virtual host's */
    bool auto_host_rewrite, append_x_forwarded_host;
    bool has_body_limit;
    uint64_t body_limit; /* request_body_buffer_limit / per_request_buffer_limit_bytes */

    /* ROUTE_DIRECT_RESPONSE and ROUTE_REDIRECT */
    uint16_t status;
    sv body;
    const struct substitution *body_format; /* instead of body */
    sv body_content_type;                   /* of body_format; empty: text/plain */

    const struct route_ops *ops;
    const struct route_filter_config *filters;
    const struct envoy_Metadata *metadata;
    sv decorator; /* operation, empty: none */
    bool decorator_propagate;
    struct route_tracing tracing;
    const struct route_rewrite *rewrite; /* private: path and host rewrites, redirect parts */
};

/* ---------------- matching ---------------- */

/* What the decision may depend on besides the head. Zero-initialise. */
struct route_ctx {
    uint64_t random;                   /* uniform: runtime_fraction, weighted clusters */
    bool tls_presented, tls_validated; /* the downstream's certificate */
    bool internal;                     /* internal request, for require_tls EXTERNAL_ONLY */
    const struct stream_info *si;      /* dynamic metadata; hash policies; may be NULL */
    struct strbuf *trail;              /* NULL, or where the explanation is appended: one line a
                                          step, which virtual host and why, each route passed
                                          over with the reason, the one that matched */
};

/* The answer. Views live as long as the table, or, for names from headers, as the head. */
struct route_match {
    enum route_action action;
    const struct route_table *table;
    const struct route_vhost *vhost;   /* NULL: no virtual host */
    const struct route *route;         /* NULL: no route */
    sv cluster;                        /* ROUTE_FORWARD; empty: the cluster header is missing */
    const struct route_weight *weight; /* the weighted cluster chosen, or NULL; private */
    const struct envoy_Metadata *metadata_match; /* merged with the weighted cluster's, or NULL */
    bool https_only; /* a redirect because of the virtual host's require_tls */
};

/* Finds virtual host, route and cluster. scratch holds joined header values. Returns
 * out->action. */
enum route_action route_table_match(const struct route_table *t, const struct http_head *head,
                                    const struct route_ctx *ctx, struct arena *scratch,
                                    struct route_match *out);
/* Which virtual host takes that authority (any case, port or not), NULL for none. *domain (may be
 * NULL) gets the domain that matched. Builds it. */
const struct route_vhost *route_table_vhost(const struct route_table *t, sv authority, sv *domain);

/* ---------------- acting on the answer ---------------- */

/* Before the request goes upstream: header operations of weighted cluster, route, virtual host and
 * table in Envoy's order, then host and path rewrites; x-envoy-original-path is set when the path
 * changed and set_original_path (not suppress_envoy_headers). Strings go into a. */
void route_match_request(const struct route_match *m, struct http_head *req,
                         const struct stream_info *si, bool set_original_path, struct arena *a);
/* Header operations on the response (also of redirects and direct responses). */
void route_match_response(const struct route_match *m, struct http_head *resp,
                          const struct stream_info *si, struct arena *a);
/* Sets the authority; the old one goes to x-forwarded-host when `append` says so. For
 * auto_host_rewrite, once the endpoint is known. */
void route_set_authority(struct http_head *req, sv host, bool append, struct arena *a);
/* The Location of ROUTE_REDIRECT, in a; *path_changed (may be NULL) gets whether prefix or regex
 * changed the path. */
sv route_match_redirect(const struct route_match *m, const struct http_head *req, struct arena *a);
/* Body of ROUTE_DIRECT_RESPONSE; *content_type empty: text/plain. */
sv route_match_body(const struct route_match *m, const struct stream_info *si, struct arena *a,
                    sv *content_type);

/* The hash of the route's policies: false when there is none. A cookie policy with a ttl whose
 * cookie is missing makes one: *set_cookie then gets the value of a set-cookie field for the
 * response (else p == NULL); its value depends on the connection's addresses only. */
bool route_match_hash(const struct route_match *m, const struct http_head *req,
                      const struct stream_info *si, struct arena *a, uint64_t *hash,
                      sv *set_cookie);

/* typed_per_filter_config of a filter, most specific first: weighted cluster, route, virtual host,
 * table. NULL: none. *disabled (may be NULL): 1 or 0 as the most specific entry says, -1 without.
 */
const void *route_match_filter_config(const struct route_match *m, sv filter_name, int *disabled);
/* All of them from least to most specific. Returns how many. */
unsigned route_match_filter_configs(const struct route_match *m, sv filter_name,
                                    const void *out[4]);
/* The most specific one's packed google.protobuf.Any value (after FilterConfig was taken off). */
sv route_match_filter_config_bytes(const struct route_match *m, sv filter_name);

/* The virtual cluster a request counts in; "other" past the list when the host has any, empty
 * when it has none. */
sv route_match_virtual_cluster(const struct route_match *m, const struct http_head *req,
                               struct arena *scratch);
/* Whether an upgrade (or CONNECT) of that type is let through: 1, 0, or -1: the route does not
 * say, ask the connection manager. *u (may be NULL) gets the entry. */
int route_upgrade_allowed(const struct route *r, sv type, const struct route_upgrade **u);

#endif
