/* Virtual hosts by the resource that brought them: their bytes, what was made of these on main, and
 * the built form that workers make at the first match. Tables share them. */
#include <stdlib.h>
#include "api/google.pb.h"
#include "base/mem.h"
#include "route/route_int.h"

#define WIRE_BYTES 2

/* ---- taking the packed configuration apart ----
 * The virtual hosts stay as they are; what is around them is decoded once (route_table.c). */

static bool varint(sv *v, uint64_t *out)
{
    uint64_t x = 0;
    for (unsigned shift = 0; shift < 64 && v->n; shift += 7) {
        uint8_t c = (uint8_t)v->p[0];
        *v = sv_from(*v, 1);
        x |= (uint64_t)(c & 0x7f) << shift;
        if (!(c & 0x80)) {
            *out = x;
            return true;
        }
    }
    return false;
}

/* Takes one field off *v; *value gets its bytes when it is length-delimited, else p == NULL. */
bool route_next_field(sv *v, uint32_t *number, sv *value)
{
    uint64_t tag, n;
    *value = (sv){0};
    if (!varint(v, &tag) || tag >> 3 > UINT32_MAX)
        return false;
    *number = (uint32_t)(tag >> 3);
    switch (tag & 7) {
    case 0:
        return varint(v, &n);
    case 1:
    case 5:
        n = (tag & 7) == 1 ? 8 : 4;
        break;
    case WIRE_BYTES:
        if (!varint(v, &n) || n > v->n)
            return false;
        *value = sv_make(v->p, n);
        break;
    default:
        return false;
    }
    if (n > v->n)
        return false;
    *v = sv_from(*v, n);
    return true;
}

/* The last value of a string field. */
sv route_string_field(sv packed, uint32_t field)
{
    uint32_t number;
    sv value, found = {0};
    while (packed.n && route_next_field(&packed, &number, &value))
        if (number == field && value.p)
            found = value;
    return found;
}

/* ---- kept objects ---- */

int route_keep(struct route_builder *b, route_make_fn make, const void *arg, struct route_kept *out)
{
    struct route_keeper *k = b->keep;
    if (!b->checking) {
        *out = k->v[b->kept++];
        return 0;
    }
    struct route_kept made = {0};
    int rc = make ? make(b, arg, &made) : 0;
    if (rc != 0)
        return rc;
    if (k->n == k->cap) {
        k->cap = k->cap ? k->cap * 2 : 8;
        k->v = mem_realloc(k->v, k->cap * sizeof(*k->v));
    }
    k->v[k->n++] = made;
    b->kept = k->n;
    *out = made;
    return 0;
}

const void *route_copy(struct route_builder *b, const struct pb_message *type, const void *m)
{
    void *copy = NULL;
    if (!m)
        return NULL;
    sv packed = pb_encode_arena(type, m, b->a);
    struct pb_opts o = {.allow_unknown = true};
    if (pb_decode(type, packed, b->a, &o, &copy, NULL) != 0)
        abort(); /* just encoded */
    return copy;
}

/* ---- life ---- */

static struct route_hosts *hosts_new(struct route_head *head, sv packed, uint32_t n)
{
    size_t slots = sizeof(struct route_hosts) + n * sizeof(struct route_vhost_slot);
    struct route_hosts *h = mem_zalloc(slots + packed.n + 1);
    char *bytes = (char *)h + slots;
    refcount_init(&h->ref);
    arena_init_malloc(&h->keep.arena);
    h->head = head;
    refcount_get(&head->ref);
    if (packed.n)
        memcpy(bytes, packed.p, packed.n);
    h->packed = sv_make(bytes, packed.n);
    h->n = n;
    for (uint32_t i = 0; i < n; i++)
        h->slots[i].of = h;
    return h;
}

void route_hosts_unref(struct route_hosts *h)
{
    if (!h || !refcount_put(&h->ref))
        return;
    for (uint32_t i = 0; i < h->n; i++) {
        struct route_vhost_built *v = atomic_load(&h->slots[i].built);
        if (!v)
            continue;
        arena_free(&v->arena);
        free(v);
    }
    route_head_unref(h->head);
    arena_free(&h->keep.arena);
    free(h->keep.v);
    free(h);
}

sv route_hosts_packed(const struct route_hosts *h)
{
    return h->packed;
}

/* ---- checking ---- */

static uint32_t count_fields(sv packed, uint32_t field)
{
    uint32_t number, n = 0;
    sv value;
    while (packed.n && route_next_field(&packed, &number, &value))
        n += number == field;
    return n;
}

static int check_slot(struct route_hosts *h, uint32_t i, sv name, const struct pb_opts *pb,
                      struct error *err)
{
    struct arena a, tmp;
    arena_init(&a);
    arena_init(&tmp);
    struct route_builder b = {.h = h->head,
                              .keep = &h->keep,
                              .a = &a,
                              .tmp = &tmp,
                              .err = err,
                              .checking = true,
                              .pb = pb,
                              .vhost = i,
                              .host = name};
    struct route_vhost dropped = {0};
    b.kept = h->slots[i].kept_from = h->keep.n;
    int rc = route_vhost_build(&b, h->slots[i].packed, &dropped);
    if (rc == 0 && dropped.name.n == 0)
        rc = error_set(err, E_INVALID, ".name: must not be empty");
    if (rc == 0 && count_fields(h->slots[i].packed, ROUTE_DOMAINS_FIELD) == 0)
        rc = error_set(err, E_INVALID, ".domains: must not be empty");
    arena_free(&a);
    arena_free(&tmp);
    return rc;
}

int route_hosts_inline(struct route_head *head, sv packed, const struct pb_opts *pb,
                       struct route_hosts **out, struct error *err)
{
    struct route_hosts *h = hosts_new(head, packed, count_fields(packed, ROUTE_VHOSTS_FIELD));
    sv rest = h->packed, value;
    uint32_t number, n = 0;
    int rc = 0;
    while (rest.n && route_next_field(&rest, &number, &value)) {
        if (number == ROUTE_VHOSTS_FIELD)
            h->slots[n++].packed = value;
    }
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        rc = check_slot(h, i, (sv){0}, pb, err);
        if (rc != 0)
            error_prefix(err, "virtual_hosts[%u]", i);
    }
    if (rc != 0)
        route_hosts_unref(h);
    else
        *out = h;
    return rc;
}

int route_hosts_build(const struct route_table *base, sv name, sv packed, const struct pb_opts *pb,
                      struct route_hosts **out, struct error *err)
{
    struct route_hosts *h = hosts_new(base->head, packed, 1);
    h->slots[0].packed = h->packed;
    int rc = check_slot(h, 0, name, pb, err);
    if (rc != 0) {
        if (err && err->msg[0] == '.')
            memmove(err->msg, err->msg + 1, strlen(err->msg));
        route_hosts_unref(h);
        return rc;
    }
    *out = h;
    return 0;
}

/* ---- at work ---- */

static struct route_vhost_built *build_vhost(struct route_vhost_slot *slot)
{
    struct route_vhost_built *v = mem_new(struct route_vhost_built);
    struct arena tmp;
    struct error err = {0};
    arena_init(&tmp);
    arena_init_malloc(&v->arena);
    struct route_builder b = {.h = slot->of->head,
                              .keep = &slot->of->keep,
                              .a = &v->arena,
                              .tmp = &tmp,
                              .err = &err,
                              .kept = slot->kept_from};
    int rc = route_vhost_build(&b, slot->packed, &v->pub);
    arena_free(&tmp);
    if (rc != 0)
        abort(); /* the same bytes were built before, when they were checked */
    return v;
}

const struct route_vhost *route_slot_vhost(struct route_vhost_slot *slot)
{
    struct route_vhost_built *v = atomic_load_explicit(&slot->built, memory_order_acquire);
    if (__builtin_expect(v != NULL, 1))
        return &v->pub;
    pthread_mutex_lock(&slot->of->head->build_lock);
    v = atomic_load_explicit(&slot->built, memory_order_relaxed);
    if (!v) {
        v = build_vhost(slot);
        atomic_store_explicit(&slot->built, v, memory_order_release);
    }
    pthread_mutex_unlock(&slot->of->head->build_lock);
    return &v->pub;
}
