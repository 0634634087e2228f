/* Shared by the files of push/.
 *
 *   stream --- proxy's own resources (inbound)          made for it alone
 *     |
 *   scope ---- outbound resources, shared by all        made once for each scope, on first use;
 *              proxies that see the mesh alike          after a change only what it may concern is
 *                                                       made anew, and what differs is named
 */
#ifndef WEFT_MESH_PUSH_INTERNAL_H
#define WEFT_MESH_PUSH_INTERNAL_H

#include "mesh/push/push.h"

#define TYPE_BIT(t) (1u << (t))

/* Numbers of names of one type, each with a reference. */
struct id_list {
    uint32_t *v;
    uint32_t n, cap;
};

/* Resources of one type, by the number of their name. */
struct blob_table {
    struct xds_blob **v; /* NULL: not made, or there is none */
    uint32_t cap;
    struct id_list asked; /* types that go by name: names that were looked for */
    bool listed;          /* the complete types: everything is there */
};

/* Some resources of one type. */
struct own_list {
    struct xds_blob **v;
    uint32_t n;
    bool made;
};

struct push_scope {
    struct push *push;
    unsigned streams;
    struct arena arena;
    sv key; /* "ns,port,dns weft grpc,locality,network,label=value,..." */
    /* What translation of shared resources may look at; of the labels those that matter. */
    struct translate_proxy view;
    struct blob_table t[XDS_TYPES];
    /* By the number of a table's name (RDS): its virtual hosts, which t[XDS_VHDS] has, too. */
    struct own_list *hosts;
    uint32_t hosts_cap;
    struct id_list changed[XDS_TYPES]; /* by the last push_scope_refresh */
};

struct push_stream {
    struct list link;
    struct push *push;
    struct ads_session *session;
    struct arena arena; /* of what the node said */
    struct translate_proxy proxy;
    struct push_scope *scope;       /* NULL until greeted */
    struct own_list own[XDS_TYPES]; /* inbound clusters and listeners */
    sv node_id, identity, address;
    bool delta;
    bool greeted;
    bool clusters_sent; /* in this step */
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
    struct ads_source source; /* of every session */
    struct model *m;
    struct xds_names *names;
    struct arena check_arena;
    const struct model_problem **checks; /* between objects */
    uint32_t n_checks, cap_checks;
    struct list streams;
    struct map scopes; /* key -> struct push_scope */
    struct arena keys_arena;
    const sv *label_keys; /* that scopes depend on */
    uint32_t n_label_keys;
    struct timer window;
    bool in_window, again;
    struct push_counters counters;
};

/* ---- scopes ---- */
/* The scope of a greeted stream; leaves the one it is in. */
void push_scope_enter(struct push_stream *s);
void push_scope_leave(struct push_stream *s);
/* True when other labels than before decide about scopes: streams must enter anew. */
bool push_scope_keys_changed(struct push *p);
/* Calls add with the virtual hosts of the tables that the session has. */
void push_scope_list_hosts(struct push_scope *c, const struct ads_session *session,
                           void (*add)(void *arg, struct xds_blob *b), void *arg);
/* Calls add with every shared resource of a complete type. */
void push_scope_list(struct push_scope *c, enum xds_type t,
                     void (*add)(void *arg, struct xds_blob *b), void *arg);
/* One resource, NULL when there is none. */
struct xds_blob *push_scope_find(struct push_scope *c, enum xds_type t, uint32_t id, sv name);
/* Makes anew what there is of these types, and what names only hosts (n_hosts > 0) of EDS; fills
 * `changed`. */
void push_scope_refresh(struct push_scope *c, uint32_t types, const sv *hosts, uint32_t n_hosts);

/* What of the configuration the clients of the scope cannot do, as far as they asked for it. */
void push_scope_problems(struct push_scope *c, translate_problem fn, void *arg);

/* ---- a proxy's own resources ---- */
void push_own_list(struct push_stream *s, enum xds_type t,
                   void (*add)(void *arg, struct xds_blob *b), void *arg);
struct xds_blob *push_own_find(struct push_stream *s, enum xds_type t, uint32_t id);
/* Makes them anew; tells the session which differ. */
void push_own_refresh(struct push_stream *s);
void push_own_free(struct push_stream *s);

/* What a node says of itself, into the stream. Refusals name the field. */
int push_node_read(struct push_stream *s, const struct envoy_Node *node, struct error *err);

#endif
