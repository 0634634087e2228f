/* What a filter's configuration is built with. A parse function decodes its message, checks all of
 * it, and leaves an immutable object in the arena, which lives as long as the snapshot (listener
 * or route table) that the configuration belongs to; what needs an end registers arena_on_free.
 * Nothing is changed outside of the arena but stats scopes, so that a configuration that turns out
 * to be wrong further on is dropped without a trace. Thread: main. */
#ifndef WEFT_FILTERS_CONTEXT_H
#define WEFT_FILTERS_CONTEXT_H

#include "api/pb.h"
#include "base/arena.h"
#include "base/error.h"
#include "base/sv.h"

struct stats;
struct stats_scope;
struct cluster_manager;
struct network_conn;
struct filter_node;
struct runtime;
struct access_log_sinks;

/* The HTTP connection manager lives above this room (src/proxy); the registry reaches it here. */
struct filter_ctx;
struct filter_hcm_glue {
    int (*parse)(const struct filter_ctx *x, sv packed, const void **config, struct error *err);
    void (*start)(const void *config, struct network_conn *nc);
};

enum filter_direction {
    FILTER_DIRECTION_UNSPECIFIED,
    FILTER_DIRECTION_INBOUND,
    FILTER_DIRECTION_OUTBOUND
};

struct filter_ctx {
    struct arena *arena;   /* results live here; chunks any thread may free */
    struct arena *scratch; /* decoded messages, paths: gone when the configuration is built. Views
                              of strings and bytes in messages stay: they point into the packed
                              form, which lives as long as the arena */
    struct stats *stats;
    struct stats_scope *scope;        /* "listener.ADDR.", NULL where there is no listener */
    struct cluster_manager *clusters; /* to check names against, where Envoy does; may be NULL */
    const struct pb_opts *pb;         /* strictness of the source; NULL: strict */
    const struct filter_hcm_glue *hcm;
    const struct filter_node *node;
    struct runtime *runtime; /* of layered_runtime; NULL: defaults hold */
    struct access_log_sinks *log_sinks;
    enum filter_direction direction; /* the listener's traffic_direction */
    sv stat_prefix;                  /* HTTP filters: stat_prefix of their manager, else "" */
    const char *path;                /* where in the object: "filter_chains[0].filters[1]" */
    void *proxy;                     /* struct proxy_server and struct listener_conf, */
    void *listener;                  /* for src/proxy only */
};

/* Decodes the message `want` out of packed bytes into x->scratch, with x's strictness and path. */
int filter_decode(const struct filter_ctx *x, const struct pb_message *want, sv packed,
                  const void **out, struct error *err) MUST_CHECK;
/* The configuration of the istio.stats filters, HTTP and TCP: a struct istio_metrics. */
int filter_istio_metrics(const struct filter_ctx *x, sv packed, const void **config,
                         struct error *err) MUST_CHECK;
/* access_log[] of a message, built into x->arena; without x->log_sinks (--mode validate) only
 * checked, and no file is opened. *out is NULL when there are none. */
struct access_log;
struct envoy_AccessLog;
int filter_access_logs(const struct filter_ctx *x, const struct envoy_AccessLog *const *v,
                       uint32_t n, const struct access_log **out, struct error *err) MUST_CHECK;
/* A copy of x in x->scratch whose path is x->path + "." + the text. */
struct filter_ctx *filter_ctx_at(const struct filter_ctx *x, const char *fmt, ...)
    PRINTF_LIKE(2, 3);
/* x->path + "." + field, in x->scratch: for builders that take the path of a field. */
const char *filter_path(const struct filter_ctx *x, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
