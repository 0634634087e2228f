#include "agent/dns_table.h"

#include <stdio.h>
#include <string.h>
#include "agent/dns_msg.h"
#include "api/istio.pb.h"
#include "base/arena.h"
#include "base/map.h"
#include "base/mem.h"

#define MAX_IPS 4096 /* of one name; what is beyond could not be answered anyhow */

struct host {
    const struct addr *addrs;
    uint32_t n;
};

struct dns_table {
    struct arena arena;
    struct map hosts; /* name -> struct host */
    sv search;        /* with a dot before it */
    uint32_t n_hosts, n_skipped;
};

static const struct host *read_host(struct dns_table *t,
                                    const struct istio_NameTable_NameInfo *info)
{
    struct host *h = arena_new(&t->arena, struct host);
    uint32_t n = info->ips.n < MAX_IPS ? info->ips.n : MAX_IPS;
    struct addr *list = arena_array(&t->arena, struct addr, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        if (addr_ip(&list[h->n], info->ips.v[i], 0) == 0)
            h->n++;
        else
            t->n_skipped++;
    }
    h->addrs = list;
    return h;
}

/* The first that claims a name keeps it: the table's own hosts come before short forms. */
static void add(struct dns_table *t, sv name, const struct host *h)
{
    if (!map_has(&t->hosts, name))
        map_put(&t->hosts, arena_sv(&t->arena, name), (void *)(uintptr_t)h);
}

static bool add_host(struct dns_table *t, sv name, const struct host *h)
{
    char text[DNS_NAME_MAX];
    size_t n;
    if (dns_name_normal(name, text, &n))
        return false;
    add(t, sv_make(text, n), h);
    return true;
}

static void add_short_forms(struct dns_table *t, const struct istio_NameTable_NameInfo *info,
                            const struct host *h, sv own_ns)
{
    char text[DNS_NAME_MAX + 8];
    if (!sv_eq_c(info->registry, "Kubernetes") || info->shortname.n == 0 || info->namespace.n == 0)
        return;
    if (info->shortname.n + info->namespace.n + 6 > DNS_NAME_MAX)
        return;
    snprintf(text, sizeof text, "%.*s.%.*s", SV_ARG(info->shortname), SV_ARG(info->namespace));
    add_host(t, sv_of(text), h);
    snprintf(text, sizeof text, "%.*s.%.*s.svc", SV_ARG(info->shortname), SV_ARG(info->namespace));
    add_host(t, sv_of(text), h);
    if (sv_eq(info->namespace, own_ns))
        add_host(t, info->shortname, h);
}

static void fill(struct dns_table *t, const struct istio_NameTable *msg, sv own_ns)
{
    const struct host **hosts = mem_array(const struct host *, msg->table.n + 1);
    for (uint32_t i = 0; i < msg->table.n; i++) {
        const struct istio_NameTable_TableEntry *e = msg->table.v[i];
        if (!e->value)
            continue;
        hosts[i] = read_host(t, e->value);
        if (add_host(t, e->key, hosts[i]))
            t->n_hosts++;
        else
            t->n_skipped++;
    }
    for (uint32_t i = 0; i < msg->table.n; i++)
        if (hosts[i])
            add_short_forms(t, msg->table.v[i]->value, hosts[i], own_ns);
    free(hosts);
}

struct dns_table *dns_table_new(sv packed, sv own_ns, sv search, struct error *err)
{
    struct arena scratch;
    void *msg;
    arena_init(&scratch);
    struct pb_opts opts = {.allow_unknown = true};
    int code = pb_decode(&istio_NameTable_pb, packed, &scratch, &opts, &msg, err);
    struct dns_table *t = NULL;
    if (code == 0) {
        char text[DNS_NAME_MAX];
        size_t n = 0;
        t = mem_new(struct dns_table);
        arena_init(&t->arena);
        map_init_borrow(&t->hosts);
        if (dns_name_normal(search, text, &n) == 0)
            t->search = arena_printf(&t->arena, ".%.*s", (int)n, text);
        fill(t, msg, own_ns);
    }
    arena_free(&scratch);
    return t;
}

void dns_table_free(struct dns_table *t)
{
    if (!t)
        return;
    map_fini(&t->hosts);
    arena_free(&t->arena);
    free(t);
}

/* Exactly, else the wildcard of the nearest parent. */
static const struct host *find(const struct dns_table *t, sv name)
{
    const struct host *h = map_get(&t->hosts, name);
    char wild[DNS_NAME_MAX + 2];
    for (sv rest = name; !h;) {
        sv label;
        if (!sv_cut(rest, '.', &label, &rest) || rest.n + 2 > sizeof wild)
            return NULL;
        memcpy(wild, "*.", 2);
        memcpy(wild + 2, rest.p, rest.n);
        h = map_get(&t->hosts, sv_make(wild, rest.n + 2));
    }
    return h;
}

bool dns_table_find(const struct dns_table *t, sv name, struct dns_answer *out)
{
    static __thread char cname[DNS_NAME_MAX];
    const struct host *h = find(t, name);
    *out = (struct dns_answer){0};
    if (!h && t->search.n && sv_ends(name, t->search) && name.n > t->search.n) {
        sv base = sv_first(name, name.n - t->search.n);
        h = find(t, base);
        memcpy(cname, base.p, base.n);
        cname[base.n] = '\0';
        out->cname = cname;
    }
    if (!h)
        return false;
    out->addrs = h->addrs;
    out->n = h->n;
    return true;
}

uint32_t dns_table_hosts(const struct dns_table *t)
{
    return t->n_hosts;
}

uint32_t dns_table_skipped(const struct dns_table *t)
{
    return t->n_skipped;
}
