#include "xds/ads_client.h"

#include <stdlib.h>
#include "api/envoy.pb.h"
#include "api/google.pb.h"
#include "api/pb.h"
#include "base/arena.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/strbuf.h"

#define MESSAGE_MAX  (64u << 20)
#define GRPC_INVALID 3 /* google.rpc.Code INVALID_ARGUMENT */

/* One subscribed or held name. */
struct held {
    uint32_t wanted; /* subscriptions by name */
    uint64_t hash;   /* of the bytes that are in force; 0 none */
    bool on_stream;  /* the server knows that this name is wanted */
    bool seen;       /* state of the world: part of the answer being read */
    bool has;        /* a version is in force */
    char version[40];
    char name[];
};

struct type_state {
    struct map names; /* name -> struct held */
    uint32_t wildcard;
    bool wildcard_on_stream;
    bool started; /* a first request of this type left on this stream */
    bool dirty;
    char *version; /* last accepted */
    char *nonce;   /* last received */
};

struct ads_client {
    struct ads_client_opts o;
    struct arena node_arena;
    const struct envoy_Node *node;
    struct type_state types[XDS_TYPES];
    struct map tables; /* VHDS: name -> subscriptions, as uintptr_t */
    void (*send)(void *arg, sv message);
    void *send_arg;
    void (*on_dirty)(void *arg);
    void *dirty_arg;
    char *control_plane;
    bool node_sent;
};

struct ads_client *ads_client_new(const struct ads_client_opts *o)
{
    struct ads_client *c = mem_new(struct ads_client);
    struct error err = {0};
    void *node = NULL;

    c->o = *o;
    arena_init(&c->node_arena);
    /* A copy through the packed form: the caller's node may die. */
    if (o->node) {
        sv packed = pb_encode_arena(&envoy_Node_pb, o->node, &c->node_arena);
        if (pb_decode(&envoy_Node_pb, packed, &c->node_arena, NULL, &node, &err) == 0)
            c->node = node;
    }
    for (int t = 0; t < XDS_TYPES; t++)
        map_init_borrow(&c->types[t].names);
    map_init(&c->tables);
    return c;
}

void ads_client_free(struct ads_client *c)
{
    if (!c)
        return;
    for (int t = 0; t < XDS_TYPES; t++) {
        map_each (e, &c->types[t].names)
            free(e->val);
        map_fini(&c->types[t].names);
        free(c->types[t].version);
        free(c->types[t].nonce);
    }
    map_fini(&c->tables);
    arena_free(&c->node_arena);
    free(c->control_plane);
    free(c);
}

static struct held *held_get(struct type_state *t, sv name)
{
    struct held *h = map_get(&t->names, name);
    if (h)
        return h;
    h = mem_zalloc(sizeof *h + name.n + 1);
    if (name.n)
        memcpy(h->name, name.p, name.n);
    map_put(&t->names, sv_make(h->name, name.n), h);
    return h;
}

static void held_drop(struct type_state *t, sv name)
{
    free(map_del(&t->names, name));
}

static void mark(struct ads_client *c, struct type_state *t)
{
    t->dirty = true;
    if (c->on_dirty && c->send)
        c->on_dirty(c->dirty_arg);
}

void ads_client_on_dirty(struct ads_client *c, void (*fn)(void *arg), void *arg)
{
    c->on_dirty = fn;
    c->dirty_arg = arg;
}

/* ---- virtual hosts by their table ---- */

static void subscribe_table(struct ads_client *c, sv table)
{
    struct type_state *t = &c->types[XDS_VHDS];
    uintptr_t n = (uintptr_t)map_get(&c->tables, table);

    map_put(&c->tables, table, (void *)(n + 1));
    if (!t->wildcard) {
        t->wildcard = 1; /* and stays, as in Envoy: what comes is what this client's tables have */
        mark(c, t);
    }
}

static void unsubscribe_table(struct ads_client *c, sv table)
{
    struct type_state *t = &c->types[XDS_VHDS];
    uintptr_t n = (uintptr_t)map_get(&c->tables, table);
    uint32_t n_gone = 0;
    sv *gone;

    if (n > 1)
        map_put(&c->tables, table, (void *)(n - 1));
    if (n != 1)
        return;
    map_del(&c->tables, table);
    gone = mem_alloc((map_len(&t->names) + 1) * sizeof *gone);
    map_each (e, &t->names) {
        if (sv_eq(xds_host_table(e->key), table))
            gone[n_gone++] = e->key;
    }
    for (uint32_t i = 0; i < n_gone; i++)
        held_drop(t, gone[i]);
    free(gone);
}

/* ---- subscriptions ---- */

static void want(struct ads_client *c, struct type_state *t, sv name)
{
    struct held *h = held_get(t, name);

    if (h->wanted++)
        return;
    /* Nobody wanted it for a while, and the server may not have been told, or a last answer was on
     * its way: whoever wants it now does not have it. */
    if (h->on_stream || !t->wildcard) {
        h->on_stream = h->has = false;
        h->hash = 0;
    }
    mark(c, t);
}

void ads_client_subscribe(struct ads_client *c, enum xds_type type, sv name)
{
    struct type_state *t = &c->types[type];

    if (type == XDS_VHDS)
        subscribe_table(c, name);
    else if (name.n)
        want(c, t, name);
    else if (t->wildcard++ == 0)
        mark(c, t);
}

void ads_client_unsubscribe(struct ads_client *c, enum xds_type type, sv name)
{
    struct type_state *t = &c->types[type];
    struct held *h;
    if (type == XDS_VHDS) {
        unsubscribe_table(c, name);
        return;
    }
    if (!name.n) {
        if (t->wildcard && --t->wildcard == 0)
            mark(c, t);
        return;
    }
    h = map_get(&t->names, name);
    if (h && h->wanted && --h->wanted == 0)
        mark(c, t);
}

/* ---- requests ---- */

static void send_message(struct ads_client *c, const struct pb_message *m, const void *msg)
{
    struct strbuf out;
    strbuf_init(&out, MESSAGE_MAX);
    pb_encode(m, msg, &out);
    if (!out.overflow)
        c->send(c->send_arg, strbuf_sv(&out));
    strbuf_fini(&out);
}

static const struct google_Status *status_of(struct arena *a, sv sentence)
{
    struct google_Status *s = arena_new(a, struct google_Status);
    s->code = GRPC_INVALID;
    s->message = sentence;
    return s;
}

/* Delta: tells what changed in the subscriptions; also carries ACKs and NACKs. */
static void send_delta(struct ads_client *c, enum xds_type type, sv nonce, sv nack)
{
    struct type_state *t = &c->types[type];
    struct envoy_DeltaDiscoveryRequest r = {.type_url = xds_type_url(type),
                                            .response_nonce = nonce};
    struct arena a;
    uint32_t n = map_len(&t->names) + 1, n_versions = 0;
    sv *drop_now;

    arena_init(&a);
    r.resource_names_subscribe.v = arena_array(&a, sv, n);
    r.resource_names_unsubscribe.v = drop_now = arena_array(&a, sv, n);
    r.initial_resource_versions.v =
        arena_array(&a, const struct envoy_DeltaDiscoveryRequest_InitialResourceVersionsEntry *, n);
    if (!c->node_sent)
        r.node = c->node;
    if (t->wildcard && !t->wildcard_on_stream) {
        /* The legacy form, no names in the first request, is what every server knows; "*" is for a
         * wildcard that joins named subscriptions or comes later. */
        bool named = t->started;
        map_each (e, &t->names)
            named |= ((struct held *)e->val)->wanted > 0;
        if (named)
            r.resource_names_subscribe.v[r.resource_names_subscribe.n++] = SV("*");
    } else if (!t->wildcard && t->wildcard_on_stream) {
        r.resource_names_unsubscribe.v[r.resource_names_unsubscribe.n++] = SV("*");
    }
    t->wildcard_on_stream = t->wildcard > 0;
    map_each (e, &t->names) {
        struct held *h = e->val;
        if (h->wanted && !h->on_stream) {
            r.resource_names_subscribe.v[r.resource_names_subscribe.n++] = e->key;
            h->on_stream = true;
        } else if (!h->wanted && h->on_stream) {
            r.resource_names_unsubscribe.v[r.resource_names_unsubscribe.n++] = e->key;
            h->on_stream = false;
        }
        if (!t->started && h->has) {
            struct envoy_DeltaDiscoveryRequest_InitialResourceVersionsEntry *v =
                arena_new(&a, struct envoy_DeltaDiscoveryRequest_InitialResourceVersionsEntry);
            v->key = e->key;
            v->value = sv_of(h->version);
            r.initial_resource_versions.v[n_versions++] = v;
        }
    }
    r.initial_resource_versions.n = n_versions;
    if (nack.n)
        r.error_detail = status_of(&a, nack);
    t->started = true;
    t->dirty = false;
    c->node_sent = true;
    send_message(c, &envoy_DeltaDiscoveryRequest_pb, &r);
    /* A name nobody wants any more is forgotten once the server was told. */
    if (!t->wildcard) {
        for (uint32_t i = 0; i < r.resource_names_unsubscribe.n; i++) {
            if (!sv_eq_c(drop_now[i], "*"))
                held_drop(t, drop_now[i]);
        }
    }
    arena_free(&a);
}

static void drop_unwanted(struct type_state *t)
{
    sv *gone = mem_alloc((map_len(&t->names) + 1) * sizeof *gone);
    uint32_t n = 0;

    map_each (e, &t->names) {
        if (!((struct held *)e->val)->wanted)
            gone[n++] = e->key;
    }
    while (n)
        held_drop(t, gone[--n]);
    free(gone);
}

/* State of the world: every request lists all names. */
static void send_sotw(struct ads_client *c, enum xds_type type, sv nack)
{
    struct type_state *t = &c->types[type];
    struct envoy_DiscoveryRequest r = {.type_url = xds_type_url(type)};
    struct arena a;

    arena_init(&a);
    r.version_info = sv_of(t->version);
    r.response_nonce = sv_of(t->nonce);
    if (!c->node_sent)
        r.node = c->node;
    r.resource_names.v = arena_array(&a, sv, map_len(&t->names) + 1);
    if (!t->wildcard) {
        map_each (e, &t->names) {
            if (((struct held *)e->val)->wanted)
                r.resource_names.v[r.resource_names.n++] = e->key;
        }
    }
    if (nack.n)
        r.error_detail = status_of(&a, nack);
    t->started = true;
    t->dirty = false;
    c->node_sent = true;
    send_message(c, &envoy_DiscoveryRequest_pb, &r);
    if (!t->wildcard)
        drop_unwanted(t);
    arena_free(&a);
}

static bool type_wanted(const struct type_state *t)
{
    if (t->wildcard)
        return true;
    map_each (e, &t->names) {
        if (((struct held *)e->val)->wanted)
            return true;
    }
    return false;
}

void ads_client_flush(struct ads_client *c)
{
    if (!c->send)
        return;
    for (int i = 0; i < XDS_TYPES; i++) {
        struct type_state *t = &c->types[i];
        if (!t->dirty || (!t->started && !type_wanted(t)))
            continue;
        if (c->o.delta)
            send_delta(c, (enum xds_type)i, (sv){NULL, 0}, (sv){NULL, 0});
        else
            send_sotw(c, (enum xds_type)i, (sv){NULL, 0});
    }
}

void ads_client_stream_open(struct ads_client *c, void (*send)(void *arg, sv message), void *arg)
{
    c->send = send;
    c->send_arg = arg;
    c->node_sent = false;
    for (int i = 0; i < XDS_TYPES; i++) {
        struct type_state *t = &c->types[i];
        t->started = t->wildcard_on_stream = false;
        t->dirty = true;
        free(t->nonce);
        t->nonce = NULL;
        map_each (e, &t->names)
            ((struct held *)e->val)->on_stream = false;
    }
    ads_client_flush(c);
}

void ads_client_stream_closed(struct ads_client *c)
{
    c->send = NULL;
    c->send_arg = NULL;
}

/* ---- responses ---- */

struct batch {
    struct ads_client *c;
    struct arena a;
    struct ads_update u;
    uint64_t *hashes;
    sv *removed;
};

static void batch_add(struct batch *b, sv name, sv version, sv packed)
{
    struct type_state *t = &b->c->types[b->u.type];
    struct held *h = map_get(&t->names, name);
    uint64_t hash = sv_hash_stable(packed);

    if (b->u.type == XDS_VHDS && !map_has(&b->c->tables, xds_host_table(name)))
        return; /* it crossed our unsubscription, or the server sends what was not asked for */
    if (h)
        h->seen = true;
    if (h && h->has && h->hash == hash) {
        if (version.n && version.n < sizeof h->version)
            memcpy(h->version, version.p, version.n), h->version[version.n] = 0;
        return;
    }
    b->hashes[b->u.n_changed] = hash;
    b->u.changed[b->u.n_changed++] =
        (struct ads_resource){.name = name, .version = version, .packed = packed};
}

/* Remembers what is in force now and gathers one sentence for each refusal. */
static sv batch_settle(struct batch *b)
{
    struct type_state *t = &b->c->types[b->u.type];
    struct strbuf text;
    sv out;

    strbuf_init(&text, 16384);
    for (uint32_t i = 0; i < b->u.n_changed; i++) {
        struct ads_resource *r = &b->u.changed[i];
        struct held *h;
        if (r->refused.code) {
            strbuf_addf(&text, "%s%s '%.*s': %s", text.n ? "\n" : "", xds_type_short(b->u.type),
                        SV_ARG(r->name), r->refused.msg);
            continue;
        }
        h = t->wildcard ? held_get(t, r->name) : map_get(&t->names, r->name);
        if (!h)
            continue; /* it crossed our unsubscription */
        h->has = true;
        h->hash = b->hashes[i];
        h->version[0] = 0;
        if (r->version.n < sizeof h->version)
            memcpy(h->version, r->version.p, r->version.n), h->version[r->version.n] = 0;
    }
    for (uint32_t i = 0; i < b->u.n_removed; i++) {
        struct held *h = map_get(&t->names, b->removed[i]);
        if (!h)
            continue;
        h->has = false;
        h->hash = 0;
        if (!h->wanted && !h->on_stream)
            held_drop(t, b->removed[i]);
    }
    out = text.n ? arena_sv(&b->a, strbuf_sv(&text)) : (sv){NULL, 0};
    strbuf_fini(&text);
    return out;
}

static void keep(char **slot, sv v)
{
    free(*slot);
    *slot = sv_dup(v);
}

static void keep_control_plane(struct ads_client *c, const struct envoy_ControlPlane *p)
{
    if (p && !sv_eq(sv_of(c->control_plane), p->identifier))
        keep(&c->control_plane, p->identifier);
}

static void batch_run(struct batch *b, sv extra_refusals, sv nonce, sv version)
{
    struct ads_client *c = b->c;
    enum xds_type type = b->u.type;
    sv nack;

    b->u.removed = b->removed;
    b->u.version = version;
    c->o.handler.update(c->o.handler.self, &b->u);
    nack = batch_settle(b);
    if (extra_refusals.n)
        nack = nack.n ? arena_printf(&b->a, "%.*s\n%.*s", SV_ARG(extra_refusals), SV_ARG(nack))
                      : extra_refusals;
    keep(&c->types[type].nonce, nonce);
    if (!nack.n)
        keep(&c->types[type].version, version);
    if (c->o.handler.on_ack)
        c->o.handler.on_ack(c->o.handler.self, type, !nack.n, nack);
    if (!c->send)
        return;
    if (c->o.delta)
        send_delta(c, type, nonce, nack);
    else
        send_sotw(c, type, nack);
}

static void batch_init(struct batch *b, struct ads_client *c, enum xds_type type, uint32_t n,
                       uint32_t removed)
{
    b->c = c;
    b->u.type = type;
    b->u.changed = arena_array(&b->a, struct ads_resource, n + 1);
    b->hashes = arena_array(&b->a, uint64_t, n + 1);
    b->removed = arena_array(&b->a, sv, removed + 1);
}

static int receive_delta(struct ads_client *c, struct batch *b, sv message, struct error *err)
{
    void *out;
    const struct envoy_DeltaDiscoveryResponse *r;
    enum xds_type type;
    sv bad = {NULL, 0};
    int rc = pb_decode(&envoy_DeltaDiscoveryResponse_pb, message, &b->a,
                       &(struct pb_opts){.allow_unknown = true}, &out, err);
    if (rc)
        return rc;
    r = out;
    if (!xds_type_find(r->type_url, &type))
        return error_set(err, E_PROTOCOL, "response of unknown type %.*s", SV_ARG(r->type_url));
    batch_init(b, c, type, r->resources.n, r->removed_resources.n);
    for (uint32_t i = 0; i < r->resources.n; i++) {
        const struct envoy_Resource *res = r->resources.v[i];
        if (type == XDS_VHDS && !res->resource)
            continue; /* how a server says that a host that was asked for does not exist */
        if (!res->resource || !sv_eq(res->resource->type_url, r->type_url)) {
            bad = arena_printf(&b->a, "%s '%.*s': its type is not that of the response",
                               xds_type_short(type), SV_ARG(res->name));
            continue;
        }
        batch_add(b, res->name, res->version, res->resource->value);
    }
    for (uint32_t i = 0; i < r->removed_resources.n; i++)
        b->removed[b->u.n_removed++] = r->removed_resources.v[i];
    keep_control_plane(c, r->control_plane);
    batch_run(b, bad, r->nonce, r->system_version_info);
    return 0;
}

static int receive_sotw(struct ads_client *c, struct batch *b, sv message, struct error *err)
{
    void *out;
    const struct envoy_DiscoveryResponse *r;
    enum xds_type type;
    sv bad = {NULL, 0};
    int rc = pb_decode(&envoy_DiscoveryResponse_pb, message, &b->a,
                       &(struct pb_opts){.allow_unknown = true}, &out, err);
    if (rc)
        return rc;
    r = out;
    if (!xds_type_find(r->type_url, &type))
        return error_set(err, E_PROTOCOL, "response of unknown type %.*s", SV_ARG(r->type_url));
    batch_init(b, c, type, r->resources.n, map_len(&c->types[type].names));
    map_each (e, &c->types[type].names)
        ((struct held *)e->val)->seen = false;
    for (uint32_t i = 0; i < r->resources.n; i++) {
        const struct google_Any *any = r->resources.v[i];
        void *wrapped;
        if (sv_eq(pb_any_type(any->type_url), SV("envoy.service.discovery.v3.Resource"))) {
            rc = pb_decode(&envoy_Resource_pb, any->value, &b->a,
                           &(struct pb_opts){.allow_unknown = true}, &wrapped, err);
            if (rc)
                return rc;
            any = ((const struct envoy_Resource *)wrapped)->resource;
        }
        if (!any || !sv_eq(any->type_url, r->type_url)) {
            bad = arena_printf(&b->a, "%s resource %u: its type is not that of the response",
                               xds_type_short(type), i);
            continue;
        }
        batch_add(b, xds_resource_name(type, any->value), r->version_info, any->value);
    }
    /* LDS and CDS answers are complete; RDS, EDS and SDS are not: a missing name is no removal. */
    if (c->types[type].wildcard) {
        map_each (e, &c->types[type].names) {
            struct held *h = e->val;
            if (h->has && !h->seen)
                b->removed[b->u.n_removed++] = arena_sv(&b->a, e->key);
        }
    }
    keep_control_plane(c, r->control_plane);
    batch_run(b, bad, r->nonce, r->version_info);
    return 0;
}

int ads_client_receive(struct ads_client *c, sv message, struct error *err)
{
    struct batch b = {0};
    int rc;

    arena_init(&b.a);
    rc = c->o.delta ? receive_delta(c, &b, message, err) : receive_sotw(c, &b, message, err);
    arena_free(&b.a);
    return rc;
}

sv ads_client_version(const struct ads_client *c, enum xds_type t)
{
    return sv_of(c->types[t].version);
}

sv ads_client_control_plane(const struct ads_client *c)
{
    return sv_of(c->control_plane);
}

const char *ads_client_method(const struct ads_client *c)
{
    return c->o.delta ? "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
                        "DeltaAggregatedResources"
                      : "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
                        "StreamAggregatedResources";
}
