/* What a session has against what it should have, and the message that tells the difference. */
#include <inttypes.h>
#include <stdlib.h>
#include "api/envoy.pb.h"
#include "api/pb.h"
#include "base/arena.h"
#include "base/mem.h"
#include "xds/ads_internal.h"

#define ENVELOPE_MAX (64u << 20)

struct diff {
    struct ads_session *s;
    struct type_state *t;
    enum xds_type type;
    struct arena a;
    struct buf resources; /* of the message: references to the blobs' bytes */
    sv *removed;
    uint32_t n_removed, cap_removed;
    bool everything; /* state of the world of a complete type: also what did not change */
    bool changed;
    bool rewarm; /* CDS: clusters that the client had are among them */
};

static void add(struct diff *d, const struct xds_blob *b)
{
    if (d->s->o.delta)
        buf_share(&d->resources, &b->bytes, 0, b->bytes.len);
    else
        buf_share(&d->resources, &b->bytes, b->any_from, b->any_n);
}

/* Removals of what routes and listeners may still name are held back. */
static bool removal_held(const struct diff *d)
{
    bool held = d->s->hold_removals && d->s->o.delta && (d->type == XDS_CDS || d->type == XDS_EDS);
    d->t->held |= held;
    return held;
}

static void remove_name(struct diff *d, uint32_t id)
{
    if (d->n_removed == d->cap_removed) {
        d->cap_removed = d->cap_removed ? d->cap_removed * 2 : 16;
        d->removed = mem_realloc(d->removed, d->cap_removed * sizeof *d->removed);
    }
    /* The message outlives the session's reference to the name. */
    d->removed[d->n_removed++] = arena_sv(&d->a, xds_names_text(d->s->o.names, d->type, id));
    d->changed = true;
    if (d->t->flags[id] & NAME_SENT)
        d->t->n_sent--;
    d->t->flags[id] = (uint8_t)((d->t->flags[id] & ~NAME_SENT) | NAME_ABSENT);
    if (!(d->t->flags[id] & NAME_WANTED))
        ads_forget(d->s, d->type, id);
}

/* Endpoints of a cluster that was sent anew are sent again, once. */
static bool take_rewarm(struct diff *d, const struct xds_blob *b)
{
    struct type_state *cds = &d->s->types[XDS_CDS];
    uint32_t id;

    if (d->type != XDS_EDS || !d->s->types[XDS_CDS].subscribed)
        return false;
    id = xds_names_find(d->s->o.names, XDS_CDS, b->name);
    if (id == XDS_NO_NAME || !(ads_flags(cds, id) & NAME_REWARM))
        return false;
    cds->flags[id] &= (uint8_t)~NAME_REWARM;
    return true;
}

static bool client_has(struct type_state *t, uint32_t id, const struct xds_blob *b)
{
    if (!(t->flags[id] & NAME_SENT))
        return false;
    if (id < t->n_claimed && t->claimed[id] == b->version)
        t->version[id] = b->serial;
    return t->version[id] == b->serial;
}

static void diff_one(struct diff *d, const struct xds_blob *b)
{
    struct type_state *t = d->t;
    uint32_t id = b->id;
    bool same, again = false;

    if (!(ads_flags(t, id) & NAME_KNOWN))
        ads_know(d->s, d->type, id);
    t->flags[id] |= NAME_SEEN;
    same = client_has(t, id, b);
    if (d->type == XDS_EDS)
        again = take_rewarm(d, b);
    if (same && !again) {
        if (d->everything)
            add(d, b);
        return;
    }
    if (d->type == XDS_CDS && (t->flags[id] & NAME_SENT)) {
        t->flags[id] |= NAME_REWARM;
        d->rewarm = true;
    }
    if (!(t->flags[id] & NAME_SENT))
        t->n_sent++;
    t->version[id] = b->serial;
    t->flags[id] = (uint8_t)((t->flags[id] & ~NAME_ABSENT) | NAME_SENT);
    d->changed = true;
    add(d, b);
}

static void diff_add(void *arg, struct xds_blob *b)
{
    diff_one(arg, b);
}

static bool to_be_told(const struct diff *d, uint8_t f)
{
    return (f & NAME_SENT) || ((f & NAME_WANTED) && !(f & NAME_ABSENT));
}

/* One name: sent when it is new or other, removed when it is gone. */
static void diff_id(struct diff *d, uint32_t id)
{
    uint8_t f = ads_flags(d->t, id);
    struct xds_blob *b;

    if (!d->t->wildcard && !(f & NAME_WANTED))
        return;
    b = d->s->o.source->find(d->s->o.source->self, d->s, d->type, id,
                             xds_names_text(d->s->o.names, d->type, id));
    if (b)
        diff_one(d, b);
    else if (to_be_told(d, f) && !((f & NAME_SENT) && removal_held(d)))
        remove_name(d, id);
}

static void diff_wildcard(struct diff *d)
{
    struct type_state *t = d->t;

    for (uint32_t i = 0; i < t->cap; i++)
        t->flags[i] &= (uint8_t)~NAME_SEEN;
    d->s->o.source->list(d->s->o.source->self, d->s, d->type, diff_add, d);
    for (uint32_t i = 0; i < t->cap; i++) {
        uint8_t f = t->flags[i];
        if (!(f & NAME_KNOWN) || (f & NAME_SEEN) || !to_be_told(d, f) ||
            ((f & NAME_SENT) && removal_held(d)))
            continue;
        remove_name(d, i);
    }
}

static void diff_all(struct diff *d)
{
    if (d->t->wildcard) {
        diff_wildcard(d);
        return;
    }
    for (uint32_t i = 0; i < d->t->cap; i++) {
        if (d->t->flags[i] & NAME_WANTED)
            diff_id(d, i);
    }
}

/* ---- the message ---- */

/* Fields may come in any order: the small ones are encoded as a message of their own, the resources
 * stand behind it. */
static void emit(struct diff *d, const struct pb_message *m, const void *envelope)
{
    struct buf out;
    struct strbuf s;

    buf_init(&out);
    strbuf_init(&s, ENVELOPE_MAX);
    pb_encode(m, envelope, &s);
    if (!s.overflow) {
        buf_append(&out, s.p, s.n);
        buf_move(&out, &d->resources);
        d->s->o.send(d->s->o.arg, &out);
    }
    buf_reset(&out);
    strbuf_fini(&s);
}

static void emit_delta(struct diff *d)
{
    struct envoy_ControlPlane cp = {.identifier = d->s->o.control_plane};
    struct envoy_DeltaDiscoveryResponse r = {
        .type_url = xds_type_url(d->type),
        .nonce = arena_printf(&d->a, "%" PRIu64, d->t->serial),
        .system_version_info = arena_printf(&d->a, "%" PRIu64, d->t->serial),
        .control_plane = &cp,
        .removed_resources = {.v = d->removed, .n = d->n_removed},
    };
    emit(d, &envoy_DeltaDiscoveryResponse_pb, &r);
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
    emit(d, &envoy_DiscoveryResponse_pb, &r);
}

static void push_endpoints_of_clusters(struct ads_session *s)
{
    struct type_state *cds = &s->types[XDS_CDS], *eds = &s->types[XDS_EDS];

    if (!eds->subscribed)
        return;
    for (uint32_t i = 0; i < cds->cap; i++) {
        if (!(cds->flags[i] & NAME_REWARM))
            continue;
        uint32_t id = xds_names_find(s->o.names, XDS_EDS, xds_names_text(s->o.names, XDS_CDS, i));
        if (id != XDS_NO_NAME && (ads_flags(eds, id) & NAME_KNOWN))
            ads_mark_dirty(eds, id);
    }
    ads_push(s, XDS_EDS, false);
}

static void look(struct diff *d)
{
    struct type_state *t = d->t;

    if (t->all_dirty || d->everything) {
        diff_all(d);
        ads_claims_over(t);
    } else {
        for (uint32_t i = 0; i < t->n_dirty; i++)
            diff_id(d, t->dirty[i]);
    }
    for (uint32_t i = 0; i < t->n_dirty; i++) {
        uint32_t id = t->dirty[i];
        t->flags[id] &= (uint8_t)~NAME_DIRTY;
        ads_forget(d->s, d->type, id);
    }
    free(t->dirty);
    t->dirty = NULL;
    t->n_dirty = t->cap_dirty = 0;
    t->all_dirty = false;
}

void ads_push(struct ads_session *s, enum xds_type type, bool answer_even_if_empty)
{
    struct type_state *t = &s->types[type];
    struct diff d = {.s = s, .t = t, .type = type};

    if (!t->subscribed || t->outstanding || (s->hold & (1u << type)) ||
        (type == XDS_VHDS && s->types[XDS_RDS].outstanding) ||
        (!t->all_dirty && !t->n_dirty && !t->force))
        return;
    arena_init(&d.a);
    buf_init(&d.resources);
    /* State of the world sends whole answers: complete ones for wildcards, and for named types all
     * that is subscribed, since some clients drop what an answer leaves out. */
    d.everything = !s->o.delta;
    look(&d);
    if (d.changed || t->force || answer_even_if_empty) {
        t->serial++;
        t->outstanding = true;
        t->n_responses++;
        s->tables_sent |= type == XDS_RDS;
        if (s->o.delta)
            emit_delta(&d);
        else
            emit_sotw(&d);
    }
    t->force = false;
    buf_reset(&d.resources);
    free(d.removed);
    arena_free(&d.a);
    if (d.rewarm)
        push_endpoints_of_clusters(s);
}
