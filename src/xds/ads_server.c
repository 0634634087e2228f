#include "xds/ads_server.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "api/envoy.pb.h"
#include "api/google.pb.h"
#include "api/pb.h"
#include "base/arena.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/strbuf.h"

#define MESSAGE_MAX       (256u << 20)
#define MAX_NAMES_DEFAULT 100000u
#define NACK_TEXT_MAX     4096u

/* What the session knows about one resource name of a type. */
struct sent {
    uint64_t version; /* 0: nothing was sent */
    bool wanted;      /* subscribed by name */
    bool told_absent; /* the client knows that it does not exist */
    bool seen;        /* mark of a listing pass */
    bool rewarm;      /* CDS: it was sent anew, its endpoints are to follow */
    char name[];
};

struct type_state {
    struct map names; /* name -> struct sent */
    bool subscribed, wildcard;
    bool outstanding; /* a response waits for its ACK or NACK */
    bool all_dirty;   /* look at everything once it came */
    bool force;       /* state of the world: the list of names changed, answer even if equal */
    struct map dirty; /* names to look at, when not all_dirty */
    uint64_t serial;  /* of the last nonce */
    char *nack;
    uint64_t n_sent, n_acked, n_nacked;
    uint32_t n_resources;
};

struct ads_session {
    struct ads_session_opts o;
    void *user;
    bool greeted, hold_removals;
    struct type_state types[XDS_TYPES];
};

/* ---- blobs ---- */

struct xds_blob *xds_blob_new(enum xds_type t, sv name, sv packed)
{
    struct google_Any any = {.type_url = xds_type_url(t), .value = packed};
    struct xds_blob *b;
    struct strbuf s;
    char *p;

    strbuf_init(&s, MESSAGE_MAX);
    pb_encode(&google_Any_pb, &any, &s);
    b = mem_alloc(sizeof *b + s.n + name.n + 1);
    p = (char *)(b + 1);
    refcount_init(&b->refs);
    memcpy(p, s.p, s.n);
    if (name.n)
        memcpy(p + s.n, name.p, name.n);
    b->any = sv_make(p, s.n);
    b->name = sv_make(p + s.n, name.n);
    b->version = sv_hash_stable(b->any) | 1; /* never 0 */
    strbuf_fini(&s);
    return b;
}

struct xds_blob *xds_blob_ref(struct xds_blob *b)
{
    refcount_get(&b->refs);
    return b;
}

void xds_blob_unref(struct xds_blob *b)
{
    if (b && refcount_put(&b->refs))
        free(b);
}

/* ---- life ---- */

struct ads_session *ads_session_new(const struct ads_session_opts *o)
{
    struct ads_session *s = mem_new(struct ads_session);
    s->o = *o;
    if (!s->o.max_names)
        s->o.max_names = MAX_NAMES_DEFAULT;
    for (int t = 0; t < XDS_TYPES; t++) {
        map_init_borrow(&s->types[t].names);
        map_init(&s->types[t].dirty);
    }
    return s;
}

void ads_session_free(struct ads_session *s)
{
    if (!s)
        return;
    for (int t = 0; t < XDS_TYPES; t++) {
        map_each (e, &s->types[t].names)
            free(e->val);
        map_fini(&s->types[t].names);
        map_fini(&s->types[t].dirty);
        free(s->types[t].nack);
    }
    free(s);
}

void ads_session_set_user(struct ads_session *s, void *user)
{
    s->user = user;
}

void *ads_session_user(const struct ads_session *s)
{
    return s->user;
}

static struct sent *sent_get(struct type_state *t, sv name)
{
    struct sent *e = map_get(&t->names, name);
    if (e)
        return e;
    e = mem_zalloc(sizeof *e + name.n + 1);
    if (name.n)
        memcpy(e->name, name.p, name.n);
    map_put(&t->names, sv_make(e->name, name.n), e);
    return e;
}

static void sent_drop(struct type_state *t, sv name)
{
    free(map_del(&t->names, name));
}

/* ---- what differs ---- */

/* The difference between what a session has and what it should have, for one type. */
struct diff {
    struct ads_session *s;
    struct type_state *t;
    enum xds_type type;
    struct arena a;
    struct xds_blob **blobs; /* referenced until the message is made */
    uint32_t n, cap;
    sv *removed;
    uint32_t n_removed, cap_removed;
    bool everything; /* state of the world of a complete type: also what did not change */
    bool changed;
    bool rewarm; /* CDS: clusters that the client had are among them */
};

static void diff_push(struct diff *d, struct xds_blob *b)
{
    if (d->n == d->cap) {
        d->cap = d->cap ? d->cap * 2 : 16;
        d->blobs = mem_realloc(d->blobs, d->cap * sizeof *d->blobs);
    }
    d->blobs[d->n++] = xds_blob_ref(b);
}

/* Removals of what routes and listeners may still name are held back. */
static bool removal_held(const struct diff *d)
{
    return d->s->hold_removals && d->s->o.delta && (d->type == XDS_CDS || d->type == XDS_EDS);
}

static void diff_remove(struct diff *d, sv name)
{
    if (d->n_removed == d->cap_removed) {
        d->cap_removed = d->cap_removed ? d->cap_removed * 2 : 16;
        d->removed = mem_realloc(d->removed, d->cap_removed * sizeof *d->removed);
    }
    d->removed[d->n_removed++] = arena_sv(&d->a, name);
    d->changed = true;
}

/* Endpoints of a cluster that was sent anew are sent again, once. */
static bool take_rewarm(struct diff *d, sv name)
{
    struct sent *c = d->type == XDS_EDS ? map_get(&d->s->types[XDS_CDS].names, name) : NULL;
    bool rewarm = c && c->rewarm;
    if (rewarm)
        c->rewarm = false;
    return rewarm;
}

static void diff_one(struct diff *d, struct sent *e, struct xds_blob *b)
{
    bool again = take_rewarm(d, b->name);
    e->seen = true;
    if (d->type == XDS_CDS && e->version && e->version != b->version)
        e->rewarm = d->rewarm = true;
    if (e->version != b->version || again) {
        e->version = b->version;
        e->told_absent = false;
        d->changed = true;
        diff_push(d, b);
    } else if (d->everything) {
        diff_push(d, b);
    }
}

static void diff_add(void *arg, struct xds_blob *b)
{
    struct diff *d = arg;
    diff_one(d, sent_get(d->t, b->name), b);
}

/* One name: sent when it is new or other, removed when it is gone. */
static void diff_name(struct diff *d, sv name)
{
    struct sent *e = map_get(&d->t->names, name);
    struct xds_blob *b;

    if (!d->t->wildcard && (!e || !e->wanted))
        return;
    b = d->s->o.source->find(d->s->o.source->self, d->s, d->type, name);
    if (b) {
        diff_one(d, sent_get(d->t, name), b);
    } else if (e && (e->version || (e->wanted && !e->told_absent)) &&
               !(e->version && removal_held(d))) {
        e->version = 0;
        e->told_absent = true;
        diff_remove(d, name);
        if (!e->wanted)
            sent_drop(d->t, name);
    }
}

static void diff_wildcard(struct diff *d)
{
    struct type_state *t = d->t;
    uint32_t first = d->n_removed;

    map_each (e, &t->names)
        ((struct sent *)e->val)->seen = false;
    d->s->o.source->list(d->s->o.source->self, d->s, d->type, diff_add, d);
    map_each (e, &t->names) {
        struct sent *x = e->val;
        if (x->seen || (!x->version && (!x->wanted || x->told_absent)) ||
            (x->version && removal_held(d)))
            continue;
        x->version = 0;
        x->told_absent = true;
        diff_remove(d, e->key);
    }
    for (uint32_t i = first; i < d->n_removed; i++) {
        struct sent *x = map_get(&t->names, d->removed[i]);
        if (x && !x->wanted)
            sent_drop(t, d->removed[i]);
    }
}

static void diff_all(struct diff *d)
{
    if (d->t->wildcard) {
        diff_wildcard(d);
        return;
    }
    for (uint32_t i = 0; i < d->t->names.n; i++)
        diff_name(d, d->t->names.entries[i].key);
}

static void diff_free(struct diff *d)
{
    for (uint32_t i = 0; i < d->n; i++)
        xds_blob_unref(d->blobs[i]);
    free(d->blobs);
    free(d->removed);
    arena_free(&d->a);
}

/* ---- messages ---- */

static void emit(struct ads_session *s, const struct pb_message *m, const void *msg)
{
    struct strbuf out;
    strbuf_init(&out, MESSAGE_MAX);
    pb_encode(m, msg, &out);
    if (!out.overflow)
        s->o.send(s->o.arg, strbuf_sv(&out));
    strbuf_fini(&out);
}

static const struct google_Any *blob_any(struct arena *a, const struct xds_blob *b)
{
    struct error err = {0};
    void *any = NULL;
    if (pb_decode(&google_Any_pb, b->any, a, NULL, &any, &err))
        return NULL; /* we encoded it ourselves */
    return any;
}

static void emit_delta(struct diff *d)
{
    struct envoy_ControlPlane cp = {.identifier = d->s->o.control_plane};
    struct envoy_DeltaDiscoveryResponse r = {
        .type_url = xds_type_url(d->type),
        .nonce = arena_printf(&d->a, "%" PRIu64, d->t->serial),
        .system_version_info = arena_printf(&d->a, "%" PRIu64, d->t->serial),
        .control_plane = &cp,
    };
    r.resources.v = arena_array(&d->a, const struct envoy_Resource *, d->n + 1);
    for (uint32_t i = 0; i < d->n; i++) {
        struct envoy_Resource *res = arena_new(&d->a, struct envoy_Resource);
        res->name = d->blobs[i]->name;
        res->version = arena_printf(&d->a, "%016" PRIx64, d->blobs[i]->version);
        res->resource = blob_any(&d->a, d->blobs[i]);
        r.resources.v[r.resources.n++] = res;
    }
    r.removed_resources.v = d->removed;
    r.removed_resources.n = d->n_removed;
    emit(d->s, &envoy_DeltaDiscoveryResponse_pb, &r);
}

static void emit_sotw(struct diff *d)
{
    struct envoy_ControlPlane cp = {.identifier = d->s->o.control_plane};
    struct envoy_DiscoveryResponse r = {
        .type_url = xds_type_url(d->type),
        .nonce = arena_printf(&d->a, "%" PRIu64, d->t->serial),
        .version_info = arena_printf(&d->a, "%" PRIu64, d->t->serial),
        .control_plane = &cp,
    };
    r.resources.v = arena_array(&d->a, const struct google_Any *, d->n + 1);
    for (uint32_t i = 0; i < d->n; i++) {
        const struct google_Any *any = blob_any(&d->a, d->blobs[i]);
        if (any)
            r.resources.v[r.resources.n++] = any;
    }
    emit(d->s, &envoy_DiscoveryResponse_pb, &r);
}

static void push(struct ads_session *s, enum xds_type type, bool answer_even_if_empty);

static void push_endpoints_of_clusters(struct ads_session *s)
{
    struct type_state *eds = &s->types[XDS_EDS];
    if (!eds->subscribed)
        return;
    map_each (e, &s->types[XDS_CDS].names) {
        if (((struct sent *)e->val)->rewarm && map_has(&eds->names, e->key))
            map_put(&eds->dirty, e->key, eds);
    }
    push(s, XDS_EDS, false);
}

/* Sends what differs of one type, unless a response of it is on its way. */
static void push(struct ads_session *s, enum xds_type type, bool answer_even_if_empty)
{
    struct type_state *t = &s->types[type];
    struct diff d = {.s = s, .t = t, .type = type};

    if (!t->subscribed || t->outstanding || (!t->all_dirty && !map_len(&t->dirty) && !t->force))
        return;
    arena_init(&d.a);
    /* State of the world sends whole answers: complete ones for wildcards, and for named types all
     * that is subscribed, since some clients drop what an answer leaves out. */
    d.everything = !s->o.delta;
    if (t->all_dirty || d.everything) {
        diff_all(&d);
    } else {
        map_each (e, &t->dirty)
            diff_name(&d, e->key);
    }
    map_fini(&t->dirty);
    map_init(&t->dirty);
    t->all_dirty = false;
    if (d.changed || t->force || answer_even_if_empty) {
        t->serial++;
        t->outstanding = true;
        t->n_sent++;
        if (s->o.delta)
            emit_delta(&d);
        else
            emit_sotw(&d);
    }
    t->force = false;
    t->n_resources = 0;
    map_each (e, &t->names)
        t->n_resources += ((struct sent *)e->val)->version != 0;
    diff_free(&d);
    if (d.rewarm)
        push_endpoints_of_clusters(s);
}

void ads_session_changed(struct ads_session *s, uint32_t types)
{
    for (int i = 0; i < XDS_TYPES; i++) {
        if ((types & (1u << i)) && s->types[i].subscribed)
            s->types[i].all_dirty = true;
    }
    for (int i = 0; i < XDS_TYPES; i++) {
        if (types & (1u << i))
            push(s, (enum xds_type)i, false);
    }
}

void ads_session_changed_names(struct ads_session *s, enum xds_type type, const sv *names,
                               uint32_t n)
{
    struct type_state *t = &s->types[type];
    if (!t->subscribed)
        return;
    for (uint32_t i = 0; i < n && !t->all_dirty; i++) {
        if (t->wildcard || map_has(&t->names, names[i]))
            map_put(&t->dirty, names[i], t);
    }
    push(s, type, false);
}

/* ---- requests ---- */

/* What both variants have in common at the start of a request. */
static int begin(struct ads_session *s, sv type_url, const struct envoy_Node *node,
                 enum xds_type *type, struct error *err)
{
    if (!s->greeted) {
        int rc;
        if (!node || !node->id.n)
            return error_set(err, E_INVALID, "the first request must carry a node with an id");
        rc = s->o.source->hello(s->o.source->self, s, node, err);
        if (rc)
            return rc;
        s->greeted = true;
    }
    if (!xds_type_find(type_url, type))
        return error_set(err, E_UNSUPPORTED, "resource type '%.*s' is not served here",
                         SV_ARG(type_url));
    return 0;
}

/* An ACK or NACK of the outstanding response; one of an older response is ignored. */
static void acknowledge(struct ads_session *s, enum xds_type type, sv nonce,
                        const struct google_Status *detail)
{
    struct type_state *t = &s->types[type];
    uint64_t serial;

    if (!t->outstanding || sv_to_u64(nonce, &serial) || serial != t->serial)
        return;
    t->outstanding = false;
    free(t->nack);
    t->nack = NULL;
    if (detail) {
        t->nack =
            sv_dup(sv_first(detail->message.n ? detail->message : SV("refused"), NACK_TEXT_MAX));
        t->n_nacked++;
        if (s->o.source->nacked)
            s->o.source->nacked(s->o.source->self, s, type, sv_of(t->nack));
    } else {
        t->n_acked++;
        if (s->o.source->acked)
            s->o.source->acked(s->o.source->self, s, type);
    }
}

static int want(struct ads_session *s, struct type_state *t, sv name, struct error *err)
{
    struct sent *e;
    if (map_len(&t->names) >= s->o.max_names && !map_has(&t->names, name))
        return error_set(err, E_LIMIT, "more than %u resource names subscribed", s->o.max_names);
    e = sent_get(t, name);
    e->wanted = true;
    /* A name that is subscribed again is sent again: the client says it does not have it. */
    e->version = 0;
    e->told_absent = false;
    map_put(&t->dirty, name, t);
    return 0;
}

static void unwant(struct type_state *t, sv name)
{
    struct sent *e = map_get(&t->names, name);
    if (!e)
        return;
    e->wanted = false;
    if (!t->wildcard)
        sent_drop(t, name);
}

static uint64_t parse_version(sv v)
{
    uint64_t out = 0;
    for (size_t i = 0; i < v.n && i < 16; i++) {
        char ch = v.p[i];
        unsigned digit = ch >= '0' && ch <= '9'   ? (unsigned)(ch - '0')
                         : ch >= 'a' && ch <= 'f' ? (unsigned)(ch - 'a') + 10
                                                  : 16;
        if (digit == 16)
            return 0;
        out = out << 4 | digit;
    }
    return out;
}

static int receive_delta(struct ads_session *s, struct arena *a, sv message, struct error *err)
{
    const struct envoy_DeltaDiscoveryRequest *r;
    struct type_state *t;
    enum xds_type type;
    bool first;
    void *out;
    int rc = pb_decode(&envoy_DeltaDiscoveryRequest_pb, message, a,
                       &(struct pb_opts){.allow_unknown = true}, &out, err);
    if (rc)
        return rc;
    r = out;
    rc = begin(s, r->type_url, r->node, &type, err);
    if (rc)
        return rc;
    t = &s->types[type];
    if (r->response_nonce.n)
        acknowledge(s, type, r->response_nonce, r->error_detail);
    first = !t->subscribed;
    t->subscribed = true;
    if (first && !r->resource_names_subscribe.n && xds_type_wildcard(type))
        t->wildcard = t->all_dirty = true;
    for (uint32_t i = 0; i < r->resource_names_subscribe.n; i++) {
        sv name = r->resource_names_subscribe.v[i];
        if (sv_eq_c(name, "*")) {
            t->wildcard = t->all_dirty = true;
            continue;
        }
        rc = want(s, t, name, err);
        if (rc)
            return rc;
    }
    for (uint32_t i = 0; i < r->resource_names_unsubscribe.n; i++) {
        if (sv_eq_c(r->resource_names_unsubscribe.v[i], "*"))
            t->wildcard = false;
        else
            unwant(t, r->resource_names_unsubscribe.v[i]);
    }
    /* What a client that comes back says it has. */
    if (first) {
        for (uint32_t i = 0; i < r->initial_resource_versions.n; i++) {
            sv name = r->initial_resource_versions.v[i]->key;
            if (map_len(&t->names) >= s->o.max_names)
                return error_set(err, E_LIMIT, "more than %u resource names", s->o.max_names);
            if (t->wildcard || map_has(&t->names, name))
                sent_get(t, name)->version =
                    parse_version(r->initial_resource_versions.v[i]->value) | 1;
        }
        if (r->initial_resource_versions.n)
            t->all_dirty = true;
    }
    /* The first wildcard request is answered even when there is nothing: the client waits. */
    push(s, type, first && t->wildcard);
    return 0;
}

/* True when the names of a request are other than those subscribed; brings them in line. */
static int sotw_names(struct ads_session *s, struct type_state *t, const sv *names, uint32_t n,
                      bool *changed, struct error *err)
{
    uint32_t wanted = 0;
    struct map now;

    *changed = false;
    map_init_borrow(&now);
    for (uint32_t i = 0; i < n; i++)
        map_put(&now, names[i], t);
    for (uint32_t i = 0; i < t->names.n;) {
        struct map_entry *e = &t->names.entries[i];
        if (map_has(&now, e->key)) {
            wanted++;
            i++;
        } else {
            /* Deleting moves another entry here. */
            sent_drop(t, e->key);
            *changed = true;
        }
    }
    if (wanted != map_len(&now)) {
        *changed = true;
        map_each (e, &now) {
            if (map_has(&t->names, e->key))
                continue;
            int rc = want(s, t, e->key, err);
            if (rc) {
                map_fini(&now);
                return rc;
            }
        }
    }
    map_fini(&now);
    return 0;
}

static int receive_sotw(struct ads_session *s, struct arena *a, sv message, struct error *err)
{
    const struct envoy_DiscoveryRequest *r;
    struct type_state *t;
    enum xds_type type;
    bool first, changed = false;
    void *out;
    uint64_t serial;
    int rc = pb_decode(&envoy_DiscoveryRequest_pb, message, a,
                       &(struct pb_opts){.allow_unknown = true}, &out, err);
    if (rc)
        return rc;
    r = out;
    rc = begin(s, r->type_url, r->node, &type, err);
    if (rc)
        return rc;
    t = &s->types[type];
    first = !t->subscribed;
    /* A request that answers an older response is stale: a newer one will follow. */
    if (!first && r->response_nonce.n &&
        (sv_to_u64(r->response_nonce, &serial) || serial != t->serial))
        return 0;
    if (!first && r->response_nonce.n)
        acknowledge(s, type, r->response_nonce, r->error_detail);
    t->subscribed = true;
    if (!r->resource_names.n && xds_type_wildcard(type) && (first || t->wildcard)) {
        t->wildcard = true;
        changed = first;
    } else {
        t->wildcard = false;
        rc = sotw_names(s, t, r->resource_names.v, r->resource_names.n, &changed, err);
        if (rc)
            return rc;
    }
    if (first)
        t->all_dirty = true;
    if (changed)
        t->force = true;
    push(s, type, first && t->wildcard);
    return 0;
}

int ads_session_receive(struct ads_session *s, sv message, struct error *err)
{
    struct arena a;
    int rc;

    arena_init(&a);
    rc = s->o.delta ? receive_delta(s, &a, message, err) : receive_sotw(s, &a, message, err);
    arena_free(&a);
    return rc;
}

void ads_session_hold_removals(struct ads_session *s, bool on)
{
    s->hold_removals = on;
}

bool ads_session_settled(const struct ads_session *s, uint32_t types)
{
    for (int i = 0; i < XDS_TYPES; i++) {
        if ((types & (1u << i)) && s->types[i].outstanding)
            return false;
    }
    return true;
}

void ads_session_each_sent(const struct ads_session *s, enum xds_type type,
                           void (*fn)(void *arg, sv name), void *arg)
{
    map_each (e, &s->types[type].names) {
        if (((struct sent *)e->val)->version)
            fn(arg, e->key);
    }
}

/* ---- status ---- */

void ads_session_status(const struct ads_session *s, enum xds_type type,
                        struct ads_type_status *out)
{
    const struct type_state *t = &s->types[type];
    *out = (struct ads_type_status){
        .subscribed = t->subscribed,
        .in_sync = t->subscribed && !t->outstanding && !t->nack,
        .resources = t->n_resources,
        .sent = t->n_sent,
        .acked = t->n_acked,
        .nacked = t->n_nacked,
        .nack = sv_of(t->nack),
    };
}

bool ads_session_subscribed(const struct ads_session *s, enum xds_type type, sv name)
{
    const struct type_state *t = &s->types[type];
    const struct sent *e = map_get(&t->names, name);
    return t->subscribed && (t->wildcard || (e && e->wanted));
}
