/* Between the files of src/route: the private parts of tables, and how they are built. Private.
 *
 * Builders take a struct route_builder. Errors start with the field's path relative to the message
 * at hand (".match.headers[2].name: …"); whoever called puts its own part in front with
 * error_prefix, so that a path costs nothing as long as all is well.
 *
 *   route_table ──> route_head                 what stands around the virtual hosts
 *       │ index ──> slots of
 *       └────────> route_hosts, route_hosts …  one for the virtual hosts that stand in the
 *                                              configuration, one for each that came on its own
 *
 * All three are counted: a table that replaces another one shares its head and the virtual hosts
 * that did not change, also in their built form, so that only the index is made anew.
 *
 * A virtual host is built twice from the same bytes: once to check it when it comes, on main, into
 * an arena that is dropped; and again at its first match, on a worker. What must be made on main
 * only (parsed filter configs, files) is made in the first pass and kept beside the bytes, in the
 * order in which the builders ask for it: route_keep() stores it, or gives it back. */
#ifndef WEFT_ROUTE_ROUTE_INT_H
#define WEFT_ROUTE_ROUTE_INT_H

#include <pthread.h>
#include <stdatomic.h>
#include "api/pb.h"
#include "base/refcount.h"
#include "http/substitution.h"
#include "route/route.h"
#include "route/route_index.h"

/* ---- path ---- */
enum path_match_kind { PATH_PREFIX, PATH_EXACT, PATH_REGEX, PATH_SEPARATED, PATH_CONNECT };
struct route_path_match {
    enum path_match_kind kind;
    bool ignore_case;
    sv text;
    const struct regex *regex;
};

/* The start of a route's path, beside those of its neighbours: most routes of a virtual host are
 * passed over without a look at anything else, which is what keeps large tables fast when their
 * hosts take turns (two routes a cache line). */
struct route_probe {
    uint8_t kind;   /* enum path_match_kind */
    uint8_t head_n; /* bytes in head; 0: nothing can be said, look at the route */
    uint32_t n;     /* length of the whole text */
    char head[24];
};

/* ---- header operations ---- */
enum route_op_action { OP_APPEND, OP_ADD_IF_ABSENT, OP_OVERWRITE, OP_OVERWRITE_IF_EXISTS };
struct route_op {
    enum route_op_action action;
    bool keep_empty;
    enum http_name id;
    sv name; /* lower case */
    const struct substitution *value;
};
struct route_op_list {
    const sv *remove;
    const struct route_op *add;
    uint32_t n_remove, n_add;
};
struct route_ops {
    struct route_op_list request, response;
};

/* ---- typed_per_filter_config ---- */
struct route_filter_entry {
    sv name;
    const void *config; /* NULL: only said to be on or off */
    sv packed;          /* value of the Any */
    bool disabled;
};
struct route_filter_config {
    uint32_t n;
    struct route_filter_entry *v;
};

/* ---- weighted clusters ---- */
struct route_weight {
    sv cluster, cluster_header, host_rewrite;
    uint64_t end;    /* this one takes selections below it that the one before did not take */
    uint32_t weight; /* as configured */
    const struct runtime_key *live;              /* its weight now, with runtime_key_prefix */
    const struct envoy_Metadata *metadata_match; /* merged with the route's */
    const struct route_ops *ops;
    const struct route_filter_config *filters;
};
struct route_weighted {
    struct route_weight *v;
    uint32_t n;
    uint64_t total;
    sv random_header;
    bool use_hash, live; /* live: some weights may change */
};

/* ---- rewrites and redirects ---- */
struct route_rewrite {
    sv prefix;                /* p == NULL: none */
    const struct regex *path; /* regex_rewrite */
    sv path_to;
    sv host, host_header;
    const struct regex *host_path; /* host_rewrite_path_regex */
    sv host_to;
    /* redirects */
    bool https, strip_query, path_has_query;
    sv scheme, redirect_host, redirect_path;
    sv redirect_port; /* ":8443" */
};

/* ---- hash policies ---- */
enum hash_kind { HASH_HEADER, HASH_COOKIE, HASH_SOURCE_IP, HASH_QUERY, HASH_FILTER_STATE };
struct route_hash_policy {
    enum hash_kind kind;
    bool terminal, has_ttl;
    sv name, path, attributes; /* attributes: "; A=b; C", ready to append */
    uint64_t ttl_s;
    const struct regex *regex;
    sv to;
};
struct route_hash {
    uint32_t n;
    struct route_hash_policy *v;
};

/* ---- table ---- */
struct route_vhost_slot {
    sv packed;
    _Atomic(struct route_vhost_built *) built;
    struct route_hosts *of;
    uint32_t kept_from; /* first of its kept objects */
};
struct route_vhost_built {
    struct route_vhost pub;
    struct arena arena;
};

/* Levels that a virtual host or the table gives to routes that say nothing themselves. */
struct route_defaults {
    const struct route_retry_policy *retry;
    const struct route_mirror *mirrors;
    uint32_t n_mirrors;
    bool has_body_limit, hedge;
    uint64_t body_limit;
};

/* What was made on main and is given back to workers. */
struct route_keeper {
    struct arena arena;
    struct route_kept {
        const void *obj;
        sv text;
    } * v;
    uint32_t n, cap;
};

struct route_head {
    struct refcount ref;
    struct route_keeper keep;
    sv name;
    struct route_table_opts opts;
    bool allow_unknown;
    bool most_specific_wins, ignore_port, ignore_path_params, check_clusters;
    bool vhds;
    uint64_t vhds_wait_ms;
    uint32_t max_body;
    const sv *internal_only; /* lower case */
    uint32_t n_internal_only;
    const struct route_ops *ops;
    const struct route_filter_config *filters;
    const struct envoy_Metadata *metadata;
    struct route_defaults defaults;
    pthread_mutex_t build_lock; /* one builder at a time */
    /* For require_tls: "https://" with the same host and path. */
    struct route https_route;
    struct route_rewrite https_rewrite;
};

/* One allocation with its slots and bytes. */
struct route_hosts {
    struct refcount ref;
    struct route_head *head; /* a reference */
    struct route_keeper keep;
    sv packed;
    uint32_t n;
    struct route_vhost_slot slots[];
};

struct route_table {
    struct refcount ref;
    struct route_head *head;    /* a reference */
    struct arena arena;         /* domains that were not lower case */
    struct route_hosts **hosts; /* references; the first: what stands in the configuration */
    uint32_t n_hosts;
    struct route_vhost_slot **vhosts; /* all of them, by their number in the index */
    uint32_t n_vhosts;
    struct route_index index;
};

struct route_builder {
    const struct route_head *h;
    struct route_keeper *keep;
    struct arena *a;   /* results */
    struct arena *tmp; /* decoded messages */
    struct error *err;
    bool checking;            /* first pass: make and keep; second pass: give back */
    uint32_t kept;            /* number of the next kept object */
    const struct pb_opts *pb; /* first pass: strictness */
    uint32_t vhost;           /* which one, or */
    sv host;                  /* its resource's name, for reports of unknown fields */
    struct route_defaults defaults;
};

/* Fields that are not known are refused in the first pass alone. */
static inline struct pb_opts route_decode_opts(const struct route_builder *b)
{
    return (struct pb_opts){.allow_unknown = b->h->allow_unknown || !b->checking};
}

/* route_vhost.c: the virtual host in `packed`. */
int route_vhost_build(struct route_builder *b, sv packed, struct route_vhost *out) MUST_CHECK;
/* route_build.c */
int route_build(struct route_builder *b, const struct envoy_Route *m, struct route *out) MUST_CHECK;
int route_build_headers(struct route_builder *b, const struct envoy_HeaderMatcher *const *v,
                        uint32_t n, const char *field, const struct header_match **out) MUST_CHECK;
/* route_action.c: m->route, redirect, direct_response into out. */
int route_action_build(struct route_builder *b, const struct envoy_Route *m,
                       struct route *out) MUST_CHECK;
/* route_policy.c */
int route_retry_build(struct route_builder *b, const struct envoy_RetryPolicy *m,
                      const struct route_retry_policy **out) MUST_CHECK;
int route_hedge_build(struct route_builder *b, const struct envoy_HedgePolicy *m,
                      bool *out) MUST_CHECK;
int route_mirrors_build(struct route_builder *b,
                        const struct envoy_RouteAction_RequestMirrorPolicy *const *v, uint32_t n,
                        const struct route_mirror **out) MUST_CHECK;
int route_upgrades_build(struct route_builder *b, const struct envoy_RouteAction *m,
                         struct route *out) MUST_CHECK;
/* route_redirect.c */
int route_internal_redirect_build(struct route_builder *b,
                                  const struct envoy_InternalRedirectPolicy *m,
                                  const struct route_internal_redirect **out) MUST_CHECK;
/* route_hash.c */
int route_hash_build(struct route_builder *b, const struct envoy_RouteAction *m,
                     const struct route_hash **out) MUST_CHECK;
/* route_ops.c: *out is NULL when there is nothing to do. */
struct route_ops_msg {
    const struct envoy_HeaderValueOption *const *req_add, *const *resp_add;
    const sv *req_remove, *resp_remove;
    uint32_t n_req_add, n_resp_add, n_req_remove, n_resp_remove;
};
#define ROUTE_OPS_MSG(m)                                                                           \
    (&(struct route_ops_msg){(m)->request_headers_to_add.v, (m)->response_headers_to_add.v,        \
                             (m)->request_headers_to_remove.v, (m)->response_headers_to_remove.v,  \
                             (m)->request_headers_to_add.n, (m)->response_headers_to_add.n,        \
                             (m)->request_headers_to_remove.n, (m)->response_headers_to_remove.n})
int route_ops_build(struct route_builder *b, const struct route_ops_msg *m,
                    const struct route_ops **out) MUST_CHECK;
/* One of them alone: a field's name, checked and in lower case; an operation; what it does. */
int route_op_name(struct route_builder *b, sv name, sv *out) MUST_CHECK;
int route_op_build(struct route_builder *b, const struct envoy_HeaderValueOption *m,
                   struct route_op *op) MUST_CHECK;
void route_op_apply(const struct route_op *op, struct http_headers *h, sv value);
void route_ops_apply(const struct route_op_list *l, struct http_headers *h,
                     const struct substitution_ctx *c, struct arena *a);
/* route_filters.c: the entries of a typed_per_filter_config map, whatever its parent. */
struct route_filter_msg {
    sv key;
    const struct google_Any *value;
};
int route_filters_build(struct route_builder *b, const struct route_filter_msg *const *v,
                        uint32_t n, const struct route_filter_config **out) MUST_CHECK;
/* Map entries of all parents have this shape. */
#define ROUTE_FILTERS(m)                                                                           \
    (const struct route_filter_msg *const *)(const void *)(m)->typed_per_filter_config.v,          \
        (m)->typed_per_filter_config.n

/* route_hosts.c: the virtual hosts that stand in a packed RouteConfiguration, checked. */
int route_hosts_inline(struct route_head *h, sv packed, const struct pb_opts *pb,
                       struct route_hosts **out, struct error *err) MUST_CHECK;
const struct route_vhost *route_slot_vhost(struct route_vhost_slot *slot);
/* Takes one field off packed bytes; *value gets its bytes when it is length-delimited, else
 * p == NULL. False when they are no protobuf. */
bool route_next_field(sv *v, uint32_t *number, sv *value);
/* The last value of a string field. */
sv route_string_field(sv packed, uint32_t field);
/* Of RouteConfiguration and VirtualHost. */
enum { ROUTE_NAME_FIELD = 1, ROUTE_VHOSTS_FIELD = 2, ROUTE_DOMAINS_FIELD = 2 };
void route_head_unref(struct route_head *h);

/* What must be made on main only. First pass: calls make() and keeps; second: gives back. */
typedef int (*route_make_fn)(struct route_builder *b, const void *arg, struct route_kept *out);
int route_keep(struct route_builder *b, route_make_fn make, const void *arg,
               struct route_kept *out) MUST_CHECK;
/* A copy of a decoded message in b->a, NULL for NULL. */
const void *route_copy(struct route_builder *b, const struct pb_message *type, const void *m);
/* cluster names must be known when the table asks for it. field: ".cluster". */
int route_cluster_check(struct route_builder *b, sv name, const char *field) MUST_CHECK;

/* route_hash.c, used where a weighted cluster is chosen by it. */
bool route_hash_of(const struct route *r, const struct http_head *req, const struct stream_info *si,
                   struct arena *a, uint64_t *hash, sv *set_cookie);
/* route_match.c */
bool route_path_matches(const struct route_path_match *m, const struct http_head *head, sv path);

#endif
