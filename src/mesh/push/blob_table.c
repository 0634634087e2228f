#include "mesh/push/blob_table.h"

#include <stdlib.h>
#include <string.h>
#include "base/mem.h"

void id_list_add(struct id_list *l, struct xds_names *names, enum xds_type t, uint32_t id)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 16;
        l->v = mem_realloc(l->v, l->cap * sizeof *l->v);
    }
    xds_names_ref(names, t, id);
    l->v[l->n++] = id;
}

void id_list_reset(struct id_list *l, struct xds_names *names, enum xds_type t)
{
    for (uint32_t i = 0; i < l->n; i++)
        xds_names_unref(names, t, l->v[i]);
    free(l->v);
    *l = (struct id_list){0};
}

bool blob_table_set(struct blob_table *t, uint32_t id, struct xds_blob *b)
{
    struct xds_blob *old = blob_table_get(t, id);

    if (id >= t->cap) {
        uint32_t cap = t->cap ? t->cap : 64;
        while (cap <= id)
            cap *= 2;
        t->v = mem_realloc(t->v, cap * sizeof *t->v);
        memset(t->v + t->cap, 0, (cap - t->cap) * sizeof *t->v);
        t->cap = cap;
    }
    t->v[id] = b;
    xds_blob_unref(old);
    return old != b;
}

struct xds_blob *blob_table_make(const struct blob_table *t, struct xds_names *names,
                                 enum xds_type type, sv name, sv packed)
{
    uint32_t id = xds_names_get(names, type, name);
    return xds_blob_remake(names, type, id, packed, blob_table_get(t, id));
}

struct collecting {
    const struct blob_table *before;
    struct blob_table next;
    struct xds_names *names;
    enum xds_type type;
};

static void collect(void *arg, sv name, sv packed)
{
    struct collecting *c = arg;
    struct xds_blob *b = blob_table_make(c->before, c->names, c->type, name, packed);
    blob_table_set(&c->next, b->id, b);
}

void blob_table_replace(struct blob_table *t, struct xds_names *names, enum xds_type type,
                        void (*make)(void *arg, struct arena *a, translate_emit emit, void *to),
                        void *arg, struct id_list *changed)
{
    struct collecting c = {.before = t, .names = names, .type = type};
    struct arena a;
    uint32_t end;

    arena_init(&a);
    make(arg, &a, collect, &c);
    arena_free(&a);
    end = t->cap > c.next.cap ? t->cap : c.next.cap;
    for (uint32_t id = 0; changed && id < end; id++) {
        if (blob_table_get(t, id) != blob_table_get(&c.next, id))
            id_list_add(changed, names, type, id);
    }
    for (uint32_t id = 0; id < t->cap; id++)
        xds_blob_unref(t->v[id]);
    free(t->v);
    t->v = c.next.v;
    t->cap = c.next.cap;
    t->listed = true;
}

void blob_table_each(const struct blob_table *t, void (*fn)(void *arg, struct xds_blob *b),
                     void *arg)
{
    for (uint32_t id = 0; id < t->cap; id++) {
        if (t->v[id])
            fn(arg, t->v[id]);
    }
}

void blob_table_free(struct blob_table *t, struct xds_names *names, enum xds_type type)
{
    for (uint32_t id = 0; id < t->cap; id++)
        xds_blob_unref(t->v[id]);
    free(t->v);
    id_list_reset(&t->asked, names, type);
    *t = (struct blob_table){0};
}
