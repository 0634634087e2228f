/* Resources made once for each scope and shared by the proxies of it. */
#include <stdlib.h>
#include "base/mem.h"
#include "mesh/push/push_internal.h"

/* Stands for "looked up, does not exist". */
static struct xds_blob absent;

struct collecting {
    struct blob_list *list;
    enum xds_type type;
};

static void collect(void *arg, sv name, sv packed)
{
    struct collecting *c = arg;
    struct blob_list *l = c->list;

    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 16;
        l->v = mem_realloc(l->v, l->cap * sizeof(*l->v));
    }
    l->v[l->n++] = xds_blob_new(c->type, name, packed);
}

static void list_free(struct blob_list *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        xds_blob_unref(l->v[i]);
    free(l->v);
    free(l);
}

const struct blob_list *push_cache_list(struct push *p, const struct push_stream *s,
                                        enum xds_type t)
{
    struct arena a;
    struct blob_list *l;
    struct collecting c = {.type = t};
    sv key;

    arena_init(&a);
    key = arena_printf(&a, "%d|%.*s", (int)t, SV_ARG(s->scope));
    l = map_get(&p->lists, key);
    if (!l) {
        c.list = l = mem_new(struct blob_list);
        map_put(&p->lists, key, l);
        switch (t) {
        case XDS_CDS:
            translate_clusters_outbound(p->t, p->m, &s->proxy, &a, collect, &c);
            break;
        case XDS_LDS:
            translate_listeners_outbound(p->t, p->m, &s->proxy, &a, collect, &c);
            break;
        case XDS_NDS:
            collect(&c, (sv){NULL, 0}, translate_names(p->t, p->m, &s->proxy, &a));
            break;
        default:
            break;
        }
    }
    arena_free(&a);
    return l;
}

struct xds_blob *push_cache_find(struct push *p, const struct push_stream *s, enum xds_type t,
                                 sv name)
{
    struct arena a;
    struct xds_blob *b;
    sv key, packed;
    bool ok = false;

    arena_init(&a);
    key = arena_printf(&a, "%d|%.*s|%.*s", (int)t, SV_ARG(s->scope), SV_ARG(name));
    b = map_get(&p->blobs, key);
    if (!b) {
        if (t == XDS_EDS)
            ok = translate_endpoints(p->t, p->m, &s->proxy, name, &a, &packed);
        else if (t == XDS_RDS)
            ok = translate_routes(p->t, p->m, &s->proxy, name, &a, &packed);
        b = ok ? xds_blob_new(t, name, packed) : &absent;
        /* Names come from proxies: what does not exist is not remembered. */
        if (ok)
            map_put(&p->blobs, key, b);
    }
    arena_free(&a);
    return b == &absent ? NULL : b;
}

static void drop_blobs(struct push *p, bool (*which)(sv key, const void *arg), const void *arg)
{
    for (uint32_t i = 0; i < p->blobs.n;) {
        struct map_entry *e = &p->blobs.entries[i];
        if (which && !which(e->key, arg)) {
            i++;
            continue;
        }
        struct xds_blob *b = e->val;
        map_del(&p->blobs, e->key);
        xds_blob_unref(b);
    }
}

void push_cache_clear_type(struct push *p, enum xds_type t)
{
    for (uint32_t i = 0; i < p->lists.n;) {
        struct map_entry *e = &p->lists.entries[i];
        if (e->key.p[0] != (char)('0' + t)) {
            i++;
            continue;
        }
        struct blob_list *l = e->val;
        map_del(&p->lists, e->key);
        list_free(l);
    }
}

void push_cache_clear(struct push *p)
{
    map_each (e, &p->lists)
        list_free(e->val);
    map_fini(&p->lists);
    map_init(&p->lists);
    map_each (e, &p->blobs)
        xds_blob_unref(e->val);
    map_fini(&p->blobs);
    map_init(&p->blobs);
}

struct hosts {
    const sv *v;
    uint32_t n;
};

/* "1|scope|outbound|80|v1|host": EDS of one of the hosts. */
static bool is_endpoint_of(sv key, const void *arg)
{
    const struct hosts *h = arg;
    sv host = sv_from(key, (size_t)(sv_rfind(key, '|') + 1));

    if (key.p[0] != (char)('0' + XDS_EDS))
        return false;
    for (uint32_t i = 0; i < h->n; i++) {
        if (sv_eq(host, h->v[i]))
            return true;
    }
    return false;
}

void push_cache_clear_endpoints(struct push *p, const sv *hosts, uint32_t n)
{
    struct hosts h = {hosts, n};
    drop_blobs(p, is_endpoint_of, &h);
}
