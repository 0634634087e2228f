#include "telemetry/istio_peer.h"

#include <stdlib.h>

#include "api/envoy.pb.h"
#include "api/pb_struct.h"
#include "base/mem.h"

#define BOOK_MAX   20000 /* names, peers and rows together */
#define BOOK_BYTES (4u << 20)

static const sv none = {NULL, 0};

/* ---- structs ---- */

const struct google_Struct *istio_metadata_find(const struct envoy_Metadata *m, sv ns)
{
    for (uint32_t i = 0; m && i < m->filter_metadata.n; i++)
        if (sv_eq(m->filter_metadata.v[i]->key, ns))
            return m->filter_metadata.v[i]->value;
    return NULL;
}

static sv first(sv a, sv b)
{
    return a.n ? a : b;
}

void istio_peer_of_node(const struct google_Struct *m, struct istio_peer *out)
{
    const struct google_Struct *labels = pb_struct_table(m, SV("LABELS"));
    *out = (struct istio_peer){
        .workload = pb_struct_text(m, SV("WORKLOAD_NAME")),
        .ns = pb_struct_text(m, SV("NAMESPACE")),
        .cluster = pb_struct_text(m, SV("CLUSTER_ID")),
        .app = pb_struct_text(labels, SV("app")),
        .version = pb_struct_text(labels, SV("version")),
        .service = pb_struct_text(labels, SV("service.istio.io/canonical-name")),
        .revision = pb_struct_text(labels, SV("service.istio.io/canonical-revision")),
    };
    /* What Istio's injector would have put into the labels. */
    sv app = first(pb_struct_text(labels, SV("app.kubernetes.io/name")), out->app);
    sv version = first(pb_struct_text(labels, SV("app.kubernetes.io/version")), out->version);
    out->service = first(out->service, first(app, out->workload));
    out->revision = first(out->revision, first(version, SV("latest")));
}

/* ---- the header of this node ---- */

static void put_text(struct arena *a, struct google_Struct *s, sv key, sv text)
{
    if (text.n)
        pb_struct_put_text(s, a, key, text);
}

sv istio_peer_value(const struct google_Struct *node, struct arena *a)
{
    struct istio_peer me;
    struct google_Struct *s = pb_struct_new(a, 6), *labels = pb_struct_new(a, 4);
    istio_peer_of_node(node, &me);
    put_text(a, s, SV("NAME"), pb_struct_text(node, SV("NAME")));
    put_text(a, s, SV("NAMESPACE"), me.ns);
    put_text(a, s, SV("WORKLOAD_NAME"), me.workload);
    put_text(a, s, SV("CLUSTER_ID"), me.cluster);
    put_text(a, s, SV("OWNER"), pb_struct_text(node, SV("OWNER")));
    put_text(a, labels, SV("service.istio.io/canonical-name"), me.service);
    put_text(a, labels, SV("service.istio.io/canonical-revision"), me.revision);
    put_text(a, labels, SV("app"), me.app);
    put_text(a, labels, SV("version"), me.version);
    pb_struct_put_table(s, a, SV("LABELS"), labels);
    struct strbuf b;
    strbuf_init(&b, ISTIO_HEADER_MAX);
    pb_base64_print(pb_encode_arena(&google_Struct_pb, s, a), &b);
    sv out = b.overflow ? none : arena_sv(a, strbuf_sv(&b));
    strbuf_fini(&b);
    return out;
}

/* ---- books ---- */

struct istio_book *istio_book_new(void)
{
    struct istio_book *b = mem_new(struct istio_book);
    b->refs = 1;
    arena_init(&b->arena);
    map_init_borrow(&b->names);
    map_init_borrow(&b->peers);
    map_init_borrow(&b->ends);
    map_init_borrow(&b->rows);
    return b;
}

void istio_book_unref(struct istio_book *b)
{
    if (!b || --b->refs)
        return;
    if (b->rows_free)
        b->rows_free(b);
    map_fini(&b->names);
    map_fini(&b->peers);
    map_fini(&b->ends);
    map_fini(&b->rows);
    arena_free(&b->arena);
    free(b);
}

bool istio_book_full(const struct istio_book *b)
{
    return b->arena.used >= BOOK_BYTES ||
           map_len(&b->names) + map_len(&b->peers) + map_len(&b->ends) + map_len(&b->rows) >=
               BOOK_MAX;
}

/* A copy that may stand in a label. */
static sv clean(struct arena *a, sv v)
{
    sv out = arena_sv(a, sv_first(v, ISTIO_TEXT_MAX));
    char *p = (char *)(uintptr_t)out.p;
    for (size_t i = 0; i < out.n; i++)
        if (p[i] < ' ' || p[i] > '~')
            p[i] = '_';
    return out;
}

const struct istio_name *istio_book_name(struct istio_book *b, sv text)
{
    text = sv_first(text, ISTIO_TEXT_MAX);
    if (!text.n)
        return NULL;
    struct istio_name *n = map_get(&b->names, text);
    if (n)
        return n;
    n = arena_new(&b->arena, struct istio_name);
    n->id = ++b->last_id;
    n->text = clean(&b->arena, text);
    map_put(&b->names, arena_sv(&b->arena, text), n);
    return n;
}

/* Kept also when it is NULL: what made no sense once makes none the next time. */
static const struct istio_peer unknown_peer;

static const struct istio_peer *keep(struct istio_book *b, struct map *m, sv source,
                                     const struct istio_peer *p)
{
    struct istio_peer *mine = (struct istio_peer *)(uintptr_t)&unknown_peer;
    if (p) {
        struct arena *a = &b->arena;
        mine = arena_new(a, struct istio_peer);
        *mine = (struct istio_peer){++b->last_id,         clean(a, p->workload), clean(a, p->ns),
                                    clean(a, p->service), clean(a, p->revision), clean(a, p->app),
                                    clean(a, p->version), clean(a, p->cluster)};
    }
    map_put(m, arena_sv(&b->arena, source), mine);
    return p ? mine : NULL;
}

static const struct istio_peer *find(const struct map *m, sv source, bool *known)
{
    const struct istio_peer *p = map_get(m, source);
    *known = p != NULL;
    return p == &unknown_peer ? NULL : p;
}

static bool parse_header(sv value, struct arena *a, struct istio_peer *out)
{
    struct error err = {0};
    void *m;
    sv bytes;
    if (value.n > ISTIO_HEADER_MAX || pb_base64_parse(value, a, &bytes) < 0 ||
        pb_decode(&google_Struct_pb, bytes, a, NULL, &m, &err) < 0)
        return false;
    istio_peer_of_node(m, out);
    return true;
}

const struct istio_peer *istio_peer_of_header(struct istio_book *b, sv value)
{
    bool known;
    const struct istio_peer *p = find(&b->peers, value, &known);
    if (known || !value.n || value.n > ISTIO_HEADER_MAX)
        return p;
    struct arena a;
    struct istio_peer out;
    arena_init(&a);
    p = keep(b, &b->peers, value, parse_header(value, &a, &out) ? &out : NULL);
    arena_free(&a);
    return p;
}

const struct istio_peer *istio_peer_of_endpoint(struct istio_book *b,
                                                const struct envoy_Metadata *m)
{
    sv text = pb_struct_text(istio_metadata_find(m, SV("istio")), SV("workload")), rest;
    bool known;
    if (!text.n)
        return NULL;
    const struct istio_peer *p = find(&b->ends, text, &known);
    if (known)
        return p;
    struct istio_peer out = {0};
    sv_cut(text, ';', &out.workload, &rest);
    sv_cut(rest, ';', &out.ns, &rest);
    sv_cut(rest, ';', &out.service, &rest);
    sv_cut(rest, ';', &out.revision, &rest);
    sv_cut(rest, ';', &out.cluster, &rest);
    /* The encoding has no room for these labels; where nothing else was said they are the same. */
    out.app = out.service;
    out.version = out.revision;
    return keep(b, &b->ends, text, out.workload.n ? &out : NULL);
}

sv istio_principal_namespace(sv principal)
{
    ptrdiff_t at = sv_find_sv(principal, SV("/ns/"));
    if (!sv_starts(principal, SV("spiffe://")) || at < 0)
        return none;
    sv ns, rest;
    sv_cut(sv_from(principal, (size_t)at + 4), '/', &ns, &rest);
    return ns;
}
