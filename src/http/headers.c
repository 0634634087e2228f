#include "http/headers.h"
#include "base/code.h"
#include <stdio.h>

void http_headers_init(struct http_headers *h, struct arena *a)
{
    h->v = NULL;
    h->n = h->cap = 0;
    h->seen = 0;
    h->arena = a;
    h->spelled = false;
}

HOT struct http_header *http_headers_push(struct http_headers *h)
{
    if (h->n == h->cap) {
        uint32_t cap = h->cap ? h->cap * 2 : 16;
        struct http_header *v = arena_alloc(h->arena, sizeof(*v) * cap);
        if (h->n)
            memcpy(v, h->v, sizeof(*v) * h->n);
        h->v = v;
        h->cap = cap;
    }
    struct http_header *e = &h->v[h->n++];
    *e = (struct http_header){0};
    http_headers_name(h, e, HTTP_H_OTHER); /* until it gets another */
    return e;
}

static void headers_add(struct http_headers *h, enum http_name id, sv name, sv value)
{
    struct http_header *e = http_headers_push(h);
    e->name = name;
    e->value = value;
    http_headers_name(h, e, id);
}

void http_headers_add(struct http_headers *h, sv name, sv value)
{
    headers_add(h, http_name_find(name), name, value);
}

void http_headers_add_id(struct http_headers *h, enum http_name id, sv value)
{
    headers_add(h, id, http_name_text(id), value);
}

void http_headers_add_all(struct http_headers *h, const struct http_headers *more)
{
    if (!more)
        return;
    for (uint32_t i = 0; i < more->n; i++)
        *http_headers_push(h) = more->v[i];
    h->seen |= more->seen;
}

/* Interned names compare by id, others by bytes: an id of 0 never equals an interned name. */
static inline bool header_is(const struct http_header *e, enum http_name id, sv name)
{
    if (id != HTTP_H_OTHER)
        return e->id == id;
    return e->id == HTTP_H_OTHER && sv_eq(e->name, name);
}

static struct http_header *headers_first(const struct http_headers *h, enum http_name id, sv name,
                                         uint32_t from)
{
    if (!http_headers_may_have(h, id))
        return NULL;
    for (uint32_t i = from; i < h->n; i++)
        if (header_is(&h->v[i], id, name))
            return &h->v[i];
    return NULL;
}

sv http_headers_find(const struct http_headers *h, enum http_name id)
{
    for (uint32_t i = 0; i < h->n; i++)
        if (h->v[i].id == id)
            return h->v[i].value.p ? h->v[i].value : SV("");
    return (sv){NULL, 0};
}

HOT sv http_headers_get_sv(const struct http_headers *h, sv name)
{
    struct http_header *e = headers_first(h, http_name_find(name), name, 0);
    if (!e)
        return (sv){NULL, 0};
    return e->value.p ? e->value : SV("");
}

sv http_name_to_lower(sv name, struct arena *a)
{
    char *p = arena_cstr(a, name);
    for (size_t i = 0; i < name.n; i++)
        if (p[i] >= 'A' && p[i] <= 'Z')
            p[i] = (char)(p[i] + 32);
    return sv_make(p, name.n);
}

static sv unquoted(sv v)
{
    return v.n >= 2 && v.p[0] == '"' && v.p[v.n - 1] == '"' ? sv_make(v.p + 1, v.n - 2) : v;
}

sv http_headers_cookie(const struct http_headers *h, sv name)
{
    for (uint32_t i = 0; i < h->n; i++) {
        if (h->v[i].id != HTTP_H_COOKIE)
            continue;
        sv rest = h->v[i].value, one, key, value;
        while (rest.n) {
            sv_cut(rest, ';', &one, &rest);
            if (sv_cut(sv_trim(one), '=', &key, &value) && sv_eq(key, name))
                return unquoted(value);
        }
    }
    return (sv){0};
}

sv http_headers_joined(const struct http_headers *h, sv name, struct arena *a)
{
    enum http_name id = http_name_find(name);
    struct http_header *first = headers_first(h, id, name, 0);
    if (!first)
        return (sv){NULL, 0};
    size_t total = 0;
    uint32_t count = 0, from = (uint32_t)(first - h->v);
    for (struct http_header *e = first; e;
         e = headers_first(h, id, name, (uint32_t)(e - h->v) + 1)) {
        total += e->value.n + 1;
        count++;
    }
    if (count == 1)
        return first->value.p ? first->value : SV("");
    char *out = arena_alloc(a, total), *p = out;
    for (struct http_header *e = first; e;
         e = headers_first(h, id, name, (uint32_t)(e - h->v) + 1)) {
        if (e != &h->v[from])
            *p++ = ',';
        if (e->value.n)
            memcpy(p, e->value.p, e->value.n);
        p += e->value.n;
    }
    return sv_make(out, (size_t)(p - out));
}

HOT static uint32_t headers_remove_from(struct http_headers *h, enum http_name id, sv name,
                                        uint32_t from)
{
    uint32_t w = from;
    if (!http_headers_may_have(h, id))
        return 0;
    for (uint32_t i = from; i < h->n; i++) {
        if (header_is(&h->v[i], id, name))
            continue;
        if (w != i)
            h->v[w] = h->v[i];
        w++;
    }
    uint32_t gone = h->n - w;
    h->n = w;
    return gone;
}

HOT static void headers_set(struct http_headers *h, enum http_name id, sv name, sv value)
{
    struct http_header *e = headers_first(h, id, name, 0);
    if (!e) {
        headers_add(h, id, name, value);
        return;
    }
    e->value = value;
    headers_remove_from(h, id, e->name, (uint32_t)(e - h->v) + 1);
}

void http_headers_set(struct http_headers *h, sv name, sv value)
{
    headers_set(h, http_name_find(name), name, value);
}

void http_headers_set_id(struct http_headers *h, enum http_name id, sv value)
{
    headers_set(h, id, http_name_text(id), value);
}

uint32_t http_headers_remove(struct http_headers *h, sv name)
{
    return headers_remove_from(h, http_name_find(name), name, 0);
}

uint32_t http_headers_remove_id(struct http_headers *h, enum http_name id)
{
    return headers_remove_from(h, id, http_name_text(id), 0);
}

size_t http_headers_bytes(const struct http_headers *h, bool hpack_overhead)
{
    size_t n = hpack_overhead ? (size_t)h->n * 32 : 0;
    for (uint32_t i = 0; i < h->n; i++)
        n += h->v[i].name.n + h->v[i].value.n;
    return n;
}

void http_headers_copy(struct http_headers *dst, const struct http_headers *src, struct arena *a)
{
    http_headers_init(dst, a);
    dst->spelled = src->spelled;
    dst->seen = src->seen;
    if (src->n == 0)
        return;
    dst->v = arena_alloc(a, sizeof(*dst->v) * src->n);
    dst->n = dst->cap = src->n;
    for (uint32_t i = 0; i < src->n; i++) {
        struct http_header *e = &dst->v[i];
        *e = src->v[i];
        e->name = e->id ? http_name_text(e->id) : arena_sv(a, e->name);
        e->value = arena_sv(a, e->value);
        if (e->raw)
            e->raw = arena_sv(a, sv_make(e->raw, e->name.n)).p;
    }
}
