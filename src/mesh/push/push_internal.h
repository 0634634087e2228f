/* Shared by the files of push/. */
#ifndef WEFT_MESH_PUSH_INTERNAL_H
#define WEFT_MESH_PUSH_INTERNAL_H

#include "mesh/push/push.h"

struct push_stream {
    struct list link;
    struct push *push;
    struct ads_session *session;
    struct arena arena; /* of what the node said */
    struct translate_proxy proxy;
    sv scope; /* "ns|labels": what shared resources depend on */
    sv node_id, identity, address;
    bool greeted;
    /* A configuration change on its way: clusters and endpoints first, then listeners and routes;
     * what is no longer named goes last, when connections that began under the old listeners had
     * time to drain. Changes that follow one another put that off, but not for ever. */
    enum { STEP_NONE, STEP_CLUSTERS, STEP_ROUTES, STEP_LINGER } step;
    struct timer step_timer; /* a proxy that never answers holds nothing back for ever */
    uint64_t held_since_ms;  /* removals, 0: are not held */
};

struct push {
    struct loop *loop;
    struct model_store *store;
    const struct translate *t;
    struct model *m;
    struct arena check_arena;
    const struct model_problem **checks; /* between objects */
    uint32_t n_checks, cap_checks;
    struct list streams;
    struct map lists; /* "type|scope" -> struct blob_list */
    struct map blobs; /* "type|scope|name" -> struct xds_blob, or the absent mark */
    struct timer window;
    bool in_window, again;
    struct push_counters counters;
};

/* A complete set of one type for one scope. */
struct blob_list {
    struct xds_blob **v;
    uint32_t n, cap;
};

/* The resources of a type that the proxy shares with others of its scope. */
const struct blob_list *push_cache_list(struct push *p, const struct push_stream *s,
                                        enum xds_type t);
/* One EDS or RDS resource, NULL when there is none. */
struct xds_blob *push_cache_find(struct push *p, const struct push_stream *s, enum xds_type t,
                                 sv name);
/* Everything is stale / only endpoints of these hosts are. */
void push_cache_clear(struct push *p);
void push_cache_clear_endpoints(struct push *p, const sv *hosts, uint32_t n);
void push_cache_clear_type(struct push *p, enum xds_type t);

/* What a node says of itself, into the stream. Refusals name the field. */
int push_node_read(struct push_stream *s, const struct envoy_Node *node, struct error *err);

#endif
