/* What belongs to one proxy alone: its inbound clusters and listeners. A handful for each of
 * thousands of proxies, so a list and no table by number. */
#include <stdlib.h>
#include "base/mem.h"
#include "mesh/push/blob_table.h"

static bool has_own(const struct push_stream *s, enum xds_type t)
{
    return !s->proxy.grpc && (t == XDS_CDS || t == XDS_LDS);
}

struct collecting {
    const struct own_list *before;
    struct own_list list;
    struct xds_names *names;
    enum xds_type type;
};

static struct xds_blob *find_id(const struct own_list *l, uint32_t id)
{
    for (uint32_t i = 0; i < l->n; i++) {
        if (l->v[i]->id == id)
            return l->v[i];
    }
    return NULL;
}

static void collect(void *arg, sv name, sv packed)
{
    struct collecting *c = arg;
    struct own_list *l = &c->list;

    l->v = mem_realloc(l->v, (l->n + 1) * sizeof *l->v);
    uint32_t id = xds_names_get(c->names, c->type, name);
    l->v[l->n++] = xds_blob_remake(c->names, c->type, id, packed, find_id(c->before, id));
}

/* `before` is what the list replaces. */
static struct own_list make(const struct push_stream *s, enum xds_type t,
                            const struct own_list *before)
{
    const struct push *p = s->push;
    struct collecting c = {.before = before, .list = {.made = true}, .names = p->names, .type = t};
    struct arena a;

    arena_init(&a);
    if (t == XDS_CDS)
        translate_clusters_inbound(p->t, p->m, &s->proxy, &a, collect, &c);
    else
        translate_listeners_inbound(p->t, p->m, &s->proxy, &a, collect, &c);
    arena_free(&a);
    return c.list;
}

static void drop(struct own_list *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        xds_blob_unref(l->v[i]);
    free(l->v);
    *l = (struct own_list){0};
}

static bool has_blob(const struct own_list *l, const struct xds_blob *b)
{
    for (uint32_t i = 0; i < l->n; i++) {
        if (l->v[i] == b)
            return true;
    }
    return false;
}

void push_own_list(struct push_stream *s, enum xds_type t,
                   void (*add)(void *arg, struct xds_blob *b), void *arg)
{
    if (!has_own(s, t))
        return;
    if (!s->own[t].made)
        s->own[t] = make(s, t, &s->own[t]);
    for (uint32_t i = 0; i < s->own[t].n; i++)
        add(arg, s->own[t].v[i]);
}

struct xds_blob *push_own_find(struct push_stream *s, enum xds_type t, uint32_t id)
{
    return find_id(&s->own[t], id);
}

/* Those of `a` that are not in `b`, as they are there. */
static void mark_other(struct push_stream *s, enum xds_type t, const struct own_list *a,
                       const struct own_list *b)
{
    for (uint32_t i = 0; i < a->n; i++) {
        if (!has_blob(b, a->v[i]))
            ads_session_mark(s->session, t, &a->v[i]->id, 1);
    }
}

void push_own_refresh(struct push_stream *s)
{
    for (int i = 0; i < XDS_TYPES; i++) {
        enum xds_type t = (enum xds_type)i;
        struct own_list old = s->own[t];
        if (!old.made)
            continue;
        s->own[t] = make(s, t, &old);
        mark_other(s, t, &old, &s->own[t]);
        mark_other(s, t, &s->own[t], &old);
        drop(&old);
    }
}

void push_own_free(struct push_stream *s)
{
    for (int t = 0; t < XDS_TYPES; t++)
        drop(&s->own[t]);
}
