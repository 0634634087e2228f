#include "upstream/eds.h"

#include "base/mem.h"

struct eds_resource {
    struct list users;
    struct endpoint_blob *blob;
    sv name;
    char bytes[];
};

void eds_init(struct eds *e, const struct eds_source *source)
{
    map_init_borrow(&e->resources);
    e->source = source;
}

void eds_fini(struct eds *e)
{
    map_fini(&e->resources);
}

static struct eds_resource *resource_new(struct eds *e, sv name)
{
    struct eds_resource *r = mem_zalloc(sizeof *r + name.n + 1);
    list_init(&r->users);
    memcpy(r->bytes, name.p, name.n);
    r->name = sv_make(r->bytes, name.n);
    map_put(&e->resources, r->name, r);
    return r;
}

struct endpoint_blob *eds_join(struct eds *e, struct eds_user *u, sv name, sv file)
{
    struct eds_resource *r = map_get(&e->resources, name);
    bool first = !r;
    if (!r)
        r = resource_new(e, name);
    u->resource = r;
    list_push(&r->users, &u->link);
    if (first && e->source)
        e->source->want(e->source->self, r->name, file);
    u->told = r->blob; /* want() may have answered at once */
    return r->blob;
}

void eds_leave(struct eds *e, struct eds_user *u)
{
    struct eds_resource *r = u->resource;
    if (!r)
        return;
    u->resource = NULL;
    list_del(&u->link);
    if (!list_empty(&r->users))
        return;
    map_del(&e->resources, r->name);
    if (e->source)
        e->source->unwant(e->source->self, r->name);
    endpoint_blob_unref(r->blob);
    free(r);
}

bool eds_wanted(const struct eds *e, sv name)
{
    return map_has(&e->resources, name);
}

/* Somebody who has not heard of b yet; NULL also when b is no longer the newest. */
static struct eds_user *next_untold(struct eds *e, sv name, const struct endpoint_blob *b)
{
    struct eds_resource *r = map_get(&e->resources, name);
    if (!r || r->blob != b)
        return NULL;
    list_each (it, &r->users) {
        struct eds_user *u = container_of(it, struct eds_user, link);
        if (u->told != b)
            return u;
    }
    return NULL;
}

bool eds_set(struct eds *e, sv name, sv packed)
{
    struct eds_resource *r = map_get(&e->resources, name);
    if (!r || (r->blob && sv_eq(sv_make(r->blob->bytes, r->blob->n), packed)))
        return false;
    struct endpoint_blob *b = endpoint_blob_new(packed);
    endpoint_blob_unref(r->blob);
    r->blob = b;
    refcount_get(&b->ref);
    /* A callee may join, leave, or set again: look anew each time. */
    for (struct eds_user *u; (u = next_untold(e, name, b));) {
        u->told = b;
        if (u->on_blob)
            u->on_blob(u, b);
    }
    endpoint_blob_unref(b);
    return true;
}

void eds_each_user(struct eds *e, sv name, void (*fn)(struct eds_user *u, void *arg), void *arg)
{
    struct eds_resource *r = map_get(&e->resources, name);
    if (!r)
        return;
    list_each (it, &r->users) {
        fn(container_of(it, struct eds_user, link), arg);
    }
}
