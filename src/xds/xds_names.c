#include "xds/xds_names.h"

#include <stdlib.h>
#include <string.h>
#include "base/map.h"
#include "base/mem.h"

struct entry {
    char *text; /* NULL: free */
    uint32_t len;
    uint32_t refs; /* of a free one: the next free one */
    struct xds_blob *latest;
    uint32_t serial; /* of its last blob */
};

struct table {
    struct map numbers; /* text -> 1 + number; keys are the entries' */
    struct entry *v;
    uint32_t n, cap, free; /* free: first free entry + 1, 0 none */
};

struct xds_names {
    struct table t[XDS_TYPES];
};

struct xds_names *xds_names_new(void)
{
    struct xds_names *n = mem_new(struct xds_names);
    for (int t = 0; t < XDS_TYPES; t++)
        map_init_borrow(&n->t[t].numbers);
    return n;
}

void xds_names_free(struct xds_names *n)
{
    if (!n)
        return;
    for (int t = 0; t < XDS_TYPES; t++) {
        for (uint32_t i = 0; i < n->t[t].n; i++)
            free(n->t[t].v[i].text);
        map_fini(&n->t[t].numbers);
        free(n->t[t].v);
    }
    free(n);
}

uint32_t xds_names_find(const struct xds_names *n, enum xds_type t, sv name)
{
    uintptr_t at = (uintptr_t)map_get(&n->t[t].numbers, name);
    return at ? (uint32_t)(at - 1) : XDS_NO_NAME;
}

static uint32_t entry_new(struct table *t)
{
    if (t->free) {
        uint32_t id = t->free - 1;
        t->free = t->v[id].refs;
        return id;
    }
    if (t->n == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 64;
        t->v = mem_realloc(t->v, t->cap * sizeof *t->v);
    }
    return t->n++;
}

uint32_t xds_names_get(struct xds_names *n, enum xds_type type, sv name)
{
    struct table *t = &n->t[type];
    uint32_t id = xds_names_find(n, type, name);

    if (id != XDS_NO_NAME) {
        t->v[id].refs++;
        return id;
    }
    id = entry_new(t);
    t->v[id] = (struct entry){.text = sv_dup(name), .len = (uint32_t)name.n, .refs = 1};
    map_put(&t->numbers, sv_make(t->v[id].text, name.n), (void *)(uintptr_t)(id + 1));
    return id;
}

void xds_names_ref(struct xds_names *n, enum xds_type t, uint32_t id)
{
    n->t[t].v[id].refs++;
}

void xds_names_unref(struct xds_names *n, enum xds_type type, uint32_t id)
{
    struct table *t = &n->t[type];
    struct entry *e = &t->v[id];

    if (--e->refs)
        return;
    map_del(&t->numbers, sv_make(e->text, e->len));
    free(e->text);
    *e = (struct entry){.refs = t->free};
    t->free = id + 1;
}

sv xds_names_text(const struct xds_names *n, enum xds_type t, uint32_t id)
{
    return sv_make(n->t[t].v[id].text, n->t[t].v[id].len);
}

uint32_t xds_names_end(const struct xds_names *n, enum xds_type t)
{
    return n->t[t].n;
}

struct xds_blob **xds_names_latest(struct xds_names *n, enum xds_type t, uint32_t id)
{
    return &n->t[t].v[id].latest;
}

uint32_t xds_names_serial(struct xds_names *n, enum xds_type t, uint32_t id)
{
    struct entry *e = &n->t[t].v[id];
    e->serial += e->serial == UINT32_MAX ? 2 : 1; /* never 0 */
    return e->serial;
}
