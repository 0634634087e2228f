#include "xds/ads_server.h"

#include <stdlib.h>
#include <string.h>
#include "api/envoy.pb.h"
#include "api/google.pb.h"
#include "api/pb.h"
#include "base/arena.h"
#include "base/map.h"
#include "base/mem.h"
#include "xds/ads_internal.h"

#define MAX_NAMES_DEFAULT 100000u
#define NACK_TEXT_MAX     4096u

/* ---- life ---- */

struct ads_session *ads_session_new(const struct ads_session_opts *o)
{
    struct ads_session *s = mem_new(struct ads_session);
    s->o = *o;
    if (!s->o.max_names)
        s->o.max_names = MAX_NAMES_DEFAULT;
    return s;
}

void ads_session_free(struct ads_session *s)
{
    if (!s)
        return;
    for (int i = 0; i < XDS_TYPES; i++) {
        struct type_state *t = &s->types[i];
        for (uint32_t id = 0; id < t->cap; id++) {
            if (t->flags[id] & NAME_KNOWN)
                xds_names_unref(s->o.names, (enum xds_type)i, id);
        }
        free(t->version);
        free(t->claimed);
        free(t->flags);
        free(t->dirty);
        free(t->nack);
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

/* ---- what is known of names ---- */

void ads_know(struct ads_session *s, enum xds_type type, uint32_t id)
{
    struct type_state *t = &s->types[type];

    if (id >= t->cap) {
        uint32_t end = xds_names_end(s->o.names, type);
        t->version = mem_realloc(t->version, end * sizeof *t->version);
        t->flags = mem_realloc(t->flags, end);
        memset(t->version + t->cap, 0, (end - t->cap) * sizeof *t->version);
        memset(t->flags + t->cap, 0, end - t->cap);
        t->cap = end;
    }
    if (t->flags[id] & NAME_KNOWN)
        return;
    xds_names_ref(s->o.names, type, id);
    t->flags[id] = NAME_KNOWN;
    t->n_known++;
}

void ads_forget(struct ads_session *s, enum xds_type type, uint32_t id)
{
    struct type_state *t = &s->types[type];
    uint8_t f = ads_flags(t, id);

    if (!(f & NAME_KNOWN) || (f & (NAME_WANTED | NAME_SENT | NAME_DIRTY)))
        return;
    t->flags[id] = 0;
    t->n_known--;
    xds_names_unref(s->o.names, type, id);
}

void ads_mark_dirty(struct type_state *t, uint32_t id)
{
    if (t->flags[id] & NAME_DIRTY)
        return;
    t->flags[id] |= NAME_DIRTY;
    if (t->n_dirty == t->cap_dirty) {
        t->cap_dirty = t->cap_dirty ? t->cap_dirty * 2 : 8;
        t->dirty = mem_realloc(t->dirty, t->cap_dirty * sizeof *t->dirty);
    }
    t->dirty[t->n_dirty++] = id;
}

void ads_claims_over(struct type_state *t)
{
    free(t->claimed);
    t->claimed = NULL;
    t->n_claimed = 0;
}

/* ---- virtual hosts and their tables ---- */

/* The client does not have the hosts of a table, or of any (table.p NULL), whatever was sent. */
static void forget_hosts(struct ads_session *s, sv table)
{
    struct type_state *t = &s->types[XDS_VHDS];

    for (uint32_t i = 0; i < t->cap; i++) {
        if ((t->flags[i] & NAME_SENT) &&
            (!table.p || sv_eq(xds_host_table(xds_names_text(s->o.names, XDS_VHDS, i)), table)))
            t->version[i] = 0;
    }
    if (t->subscribed)
        t->all_dirty = true;
}

static void tables_answered(struct ads_session *s, bool accepted, bool refused_before)
{
    if (s->tables_sent && s->types[XDS_VHDS].subscribed)
        s->types[XDS_VHDS].all_dirty = true;
    if (accepted && refused_before)
        forget_hosts(s, (sv){NULL, 0});
    s->tables_sent = false;
}

/* ---- changes ---- */

void ads_session_push(struct ads_session *s, uint32_t types)
{
    for (int i = 0; i < XDS_TYPES; i++) {
        if (types & (1u << i))
            ads_push(s, (enum xds_type)i, false);
    }
}

void ads_session_mark_all(struct ads_session *s, uint32_t types)
{
    for (int i = 0; i < XDS_TYPES; i++) {
        if ((types & (1u << i)) && s->types[i].subscribed)
            s->types[i].all_dirty = true;
    }
}

void ads_session_changed(struct ads_session *s, uint32_t types)
{
    ads_session_mark_all(s, types);
    ads_session_push(s, types);
}

void ads_session_mark(struct ads_session *s, enum xds_type type, const uint32_t *ids, uint32_t n)
{
    struct type_state *t = &s->types[type];

    for (uint32_t i = 0; t->subscribed && i < n; i++) {
        if (!t->wildcard && !(ads_flags(t, ids[i]) & NAME_WANTED))
            continue;
        ads_know(s, type, ids[i]);
        ads_mark_dirty(t, ids[i]);
    }
}

void ads_session_mark_absent(struct ads_session *s, enum xds_type type)
{
    struct type_state *t = &s->types[type];

    for (uint32_t i = 0; t->n_known > t->n_sent && i < t->cap; i++) {
        if ((t->flags[i] & (NAME_WANTED | NAME_SENT)) == NAME_WANTED)
            ads_mark_dirty(t, i);
    }
}

bool ads_session_marked(const struct ads_session *s)
{
    for (int i = 0; i < XDS_TYPES; i++) {
        if (s->types[i].n_dirty || s->types[i].all_dirty)
            return true;
    }
    return false;
}

void ads_session_hold(struct ads_session *s, uint32_t types)
{
    s->hold = types;
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
    if (type == XDS_RDS)
        tables_answered(s, !detail, t->nack != NULL);
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

/* The number of a name that the session knows from now on. */
static int know_name(struct ads_session *s, enum xds_type type, sv name, uint32_t *id,
                     struct error *err)
{
    struct type_state *t = &s->types[type];

    *id = xds_names_find(s->o.names, type, name);
    if (*id != XDS_NO_NAME && (ads_flags(t, *id) & NAME_KNOWN))
        return 0;
    if (t->n_known >= s->o.max_names)
        return error_set(err, E_LIMIT, "more than %u resource names subscribed", s->o.max_names);
    *id = xds_names_get(s->o.names, type, name);
    ads_know(s, type, *id);
    xds_names_unref(s->o.names, type, *id); /* the session has its own */
    return 0;
}

static void clear_sent(struct type_state *t, uint32_t id)
{
    if (t->flags[id] & NAME_SENT)
        t->n_sent--;
    t->flags[id] &= (uint8_t) ~(NAME_SENT | NAME_ABSENT);
}

static int want(struct ads_session *s, enum xds_type type, sv name, struct error *err)
{
    struct type_state *t = &s->types[type];
    uint32_t id;
    int rc = know_name(s, type, name, &id, err);

    if (rc)
        return rc;
    /* A name that is subscribed again is sent again: the client says it does not have it. */
    if (type == XDS_RDS && (t->flags[id] & NAME_SENT))
        forget_hosts(s, name);
    clear_sent(t, id);
    t->flags[id] |= NAME_WANTED;
    ads_mark_dirty(t, id);
    return 0;
}

static void unwant(struct ads_session *s, enum xds_type type, uint32_t id)
{
    struct type_state *t = &s->types[type];

    if (!(ads_flags(t, id) & NAME_KNOWN))
        return;
    t->flags[id] &= (uint8_t)~NAME_WANTED;
    if (type == XDS_RDS && (t->flags[id] & NAME_SENT))
        forget_hosts(s, xds_names_text(s->o.names, type, id));
    if (!t->wildcard)
        clear_sent(t, id);
    ads_forget(s, type, id);
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

static void claim(struct type_state *t, uint32_t id, uint64_t version)
{
    if (id >= t->n_claimed) {
        t->claimed = mem_realloc(t->claimed, t->cap * sizeof *t->claimed);
        memset(t->claimed + t->n_claimed, 0, (t->cap - t->n_claimed) * sizeof *t->claimed);
        t->n_claimed = t->cap;
    }
    t->claimed[id] = version;
}

/* What a client that comes back says it has. */
static int take_initial_versions(struct ads_session *s, enum xds_type type,
                                 const struct envoy_DeltaDiscoveryRequest *r, struct error *err)
{
    struct type_state *t = &s->types[type];

    for (uint32_t i = 0; i < r->initial_resource_versions.n; i++) {
        sv name = r->initial_resource_versions.v[i]->key;
        uint32_t id = xds_names_find(s->o.names, type, name);
        int rc;
        if (!t->wildcard && (id == XDS_NO_NAME || !(ads_flags(t, id) & NAME_KNOWN)))
            continue;
        rc = know_name(s, type, name, &id, err);
        if (rc)
            return rc;
        if (!(t->flags[id] & NAME_SENT))
            t->n_sent++;
        t->flags[id] |= NAME_SENT;
        t->version[id] = 0;
        claim(t, id, parse_version(r->initial_resource_versions.v[i]->value) | 1);
    }
    if (r->initial_resource_versions.n)
        t->all_dirty = true;
    return 0;
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
        rc = want(s, type, name, err);
        if (rc)
            return rc;
    }
    for (uint32_t i = 0; i < r->resource_names_unsubscribe.n; i++) {
        sv name = r->resource_names_unsubscribe.v[i];
        if (sv_eq_c(name, "*"))
            t->wildcard = false;
        else
            unwant(s, type, xds_names_find(s->o.names, type, name));
    }
    if (first) {
        rc = take_initial_versions(s, type, r, err);
        if (rc)
            return rc;
    }
    /* The first wildcard request is answered even when there is nothing: the client waits. */
    ads_push(s, type, first && t->wildcard);
    if (type == XDS_RDS)
        ads_push(s, XDS_VHDS, false); /* they may have waited for the answer */
    return 0;
}

/* Brings the subscription in line with the names of a request; *changed: they were others. */
static int sotw_names(struct ads_session *s, enum xds_type type, const sv *names, uint32_t n,
                      bool *changed, struct error *err)
{
    struct type_state *t = &s->types[type];
    int rc = 0;

    *changed = false;
    for (uint32_t i = 0; i < t->cap; i++)
        t->flags[i] &= (uint8_t)~NAME_SEEN;
    for (uint32_t i = 0; i < n && !rc; i++) {
        uint32_t id;
        rc = know_name(s, type, names[i], &id, err);
        if (rc)
            break;
        t->flags[id] |= NAME_SEEN;
        if (t->flags[id] & NAME_WANTED)
            continue;
        *changed = true;
        rc = want(s, type, names[i], err);
    }
    for (uint32_t i = 0; i < t->cap && !rc; i++) {
        if (!(t->flags[i] & NAME_KNOWN) || (t->flags[i] & NAME_SEEN))
            continue;
        *changed = true;
        unwant(s, type, i);
    }
    return rc;
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
        rc = sotw_names(s, type, r->resource_names.v, r->resource_names.n, &changed, err);
        if (rc)
            return rc;
    }
    if (first)
        t->all_dirty = true;
    if (changed)
        t->force = true;
    ads_push(s, type, first && t->wildcard);
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

uint32_t ads_session_hold_removals(struct ads_session *s, bool on)
{
    uint32_t held = 0;

    s->hold_removals = on;
    for (int i = 0; i < XDS_TYPES && !on; i++) {
        if (s->types[i].held)
            held |= 1u << i;
        s->types[i].held = false;
    }
    return held;
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
    const struct type_state *t = &s->types[type];
    for (uint32_t i = 0; i < t->cap; i++) {
        if (t->flags[i] & NAME_SENT)
            fn(arg, xds_names_text(s->o.names, type, i));
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
        .resources = t->n_sent,
        .sent = t->n_responses,
        .acked = t->n_acked,
        .nacked = t->n_nacked,
        .nack = sv_of(t->nack),
    };
}

bool ads_session_has(const struct ads_session *s, enum xds_type type, sv name)
{
    uint32_t id = xds_names_find(s->o.names, type, name);
    return id != XDS_NO_NAME && (ads_flags(&s->types[type], id) & NAME_SENT);
}

bool ads_session_subscribed(const struct ads_session *s, enum xds_type type, sv name)
{
    const struct type_state *t = &s->types[type];
    uint32_t id = xds_names_find(s->o.names, type, name);
    return t->subscribed &&
           (t->wildcard || (id != XDS_NO_NAME && (ads_flags(t, id) & NAME_WANTED)));
}
