#include "route/route_index.h"

#include <stdlib.h>
#include "base/mem.h"

void route_index_init(struct route_index *x)
{
    *x = (struct route_index){.any = ROUTE_INDEX_NONE};
}

void route_index_fini(struct route_index *x)
{
    free(x->entries);
    free(x->slots);
    free(x->lengths[0]);
    free(x->lengths[1]);
    route_index_init(x);
}

bool domain_parse(sv domain, enum domain_kind *kind, sv *text)
{
    sv t = domain;
    *kind = DOMAIN_EXACT;
    if (sv_eq(t, SV("*"))) {
        *kind = DOMAIN_ANY;
        t.n = 0;
    } else if (t.n && t.p[0] == '*') {
        *kind = DOMAIN_SUFFIX;
        t = sv_from(t, 1);
    } else if (t.n && t.p[t.n - 1] == '*') {
        *kind = DOMAIN_PREFIX;
        t.n--;
    }
    *text = t;
    return sv_find(t, '*') < 0;
}

/* The kinds share the table: a different constant for each keeps their keys apart. */
static uint32_t slot_hash(enum domain_kind kind, sv text)
{
    uint64_t h = sv_hash(text) + (uint64_t)kind * 0x9e3779b97f4a7c15ull;
    return (uint32_t)(h ^ h >> 32);
}

/* looked, unless NULL, counts the entries that were looked at. */
static inline uint32_t find(const struct route_index *x, enum domain_kind kind, sv text,
                            uint32_t *looked)
{
    if (!x->slots)
        return ROUTE_INDEX_NONE;
    for (uint32_t s = slot_hash(kind, text) & x->mask; x->slots[s]; s = (s + 1) & x->mask) {
        const struct domain_entry *e = &x->entries[x->slots[s] - 1];
        if (looked)
            ++*looked;
        if (e->kind == kind && sv_eq(sv_make(e->p, e->n), text))
            return x->slots[s] - 1;
    }
    return ROUTE_INDEX_NONE;
}

static void place(struct route_index *x, uint32_t i)
{
    const struct domain_entry *e = &x->entries[i];
    uint32_t s = slot_hash((enum domain_kind)e->kind, sv_make(e->p, e->n)) & x->mask;
    while (x->slots[s])
        s = (s + 1) & x->mask;
    x->slots[s] = i + 1;
}

static void grow(struct route_index *x)
{
    if (x->n == x->cap) {
        x->cap = x->cap ? x->cap * 2 : 8;
        x->entries = mem_realloc(x->entries, x->cap * sizeof(*x->entries));
    }
    if (x->slots && (x->n + 1) * 3 <= (x->mask + 1) * 2)
        return;
    free(x->slots);
    x->mask = x->slots ? x->mask * 2 + 1 : 15;
    x->slots = mem_zalloc((x->mask + 1) * sizeof(*x->slots));
    for (uint32_t i = 0; i < x->n; i++)
        place(x, i);
}

static void note_length(struct route_index *x, int which, uint32_t n)
{
    uint32_t *v = x->lengths[which], count = x->n_lengths[which], at = 0;
    while (at < count && v[at] > n)
        at++;
    if (at < count && v[at] == n)
        return;
    v = mem_realloc(v, (count + 1) * sizeof(*v));
    memmove(v + at + 1, v + at, (count - at) * sizeof(*v));
    v[at] = n;
    x->lengths[which] = v;
    x->n_lengths[which]++;
}

uint32_t route_index_add(struct route_index *x, enum domain_kind kind, sv text, uint32_t vhost)
{
    if (kind == DOMAIN_ANY) {
        if (x->any != ROUTE_INDEX_NONE)
            return x->any;
        x->any = vhost;
        return ROUTE_INDEX_NONE;
    }
    uint32_t old = find(x, kind, text, NULL);
    if (old != ROUTE_INDEX_NONE)
        return x->entries[old].vhost;
    grow(x);
    x->entries[x->n] = (struct domain_entry){
        .p = text.p, .n = (uint32_t)text.n, .vhost = vhost & 0x3fffffff, .kind = kind};
    place(x, x->n++);
    if (kind != DOMAIN_EXACT)
        note_length(x, kind == DOMAIN_PREFIX, (uint32_t)text.n);
    return ROUTE_INDEX_NONE;
}

static uint32_t found(const struct route_index *x, uint32_t i, const struct domain_entry **domain)
{
    if (domain)
        *domain = &x->entries[i];
    return x->entries[i].vhost;
}

static inline uint32_t look_up(const struct route_index *x, sv host,
                               const struct domain_entry **domain, uint32_t *looked)
{
    if (domain)
        *domain = NULL;
    if (host.n == 0)
        return x->n == 0 ? x->any : ROUTE_INDEX_NONE;
    uint32_t i = find(x, DOMAIN_EXACT, host, looked);
    if (i != ROUTE_INDEX_NONE)
        return found(x, i, domain);
    for (int which = 0; which < 2; which++) {
        for (uint32_t k = 0; k < x->n_lengths[which]; k++) {
            uint32_t n = x->lengths[which][k];
            if (n >= host.n) /* "*.foo.com" is not ".foo.com" */
                continue;
            i = which == 0 ? find(x, DOMAIN_SUFFIX, sv_from(host, host.n - n), looked)
                           : find(x, DOMAIN_PREFIX, sv_first(host, n), looked);
            if (i != ROUTE_INDEX_NONE)
                return found(x, i, domain);
        }
    }
    return x->any;
}

uint32_t route_index_find(const struct route_index *x, sv host, const struct domain_entry **domain)
{
    return look_up(x, host, domain, NULL);
}

uint32_t route_index_probes(const struct route_index *x, sv host)
{
    uint32_t looked = 0;
    (void)look_up(x, host, NULL, &looked);
    return looked;
}
