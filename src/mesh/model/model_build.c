/* Builds a snapshot: indexes over the store's objects, and what changed since the previous one. */
#include "mesh/model/model_store.h"

#include <stdio.h>
#include <stdlib.h>
#include "api/istio.pb.h"
#include "base/mem.h"

struct builder {
    struct model_store *s;
    struct model *m;
    const struct model *prev;
    struct arena scratch;
    struct map
        by_ns[MODEL_KINDS]; /* ns -> struct vec of objects: pods, workloads, entries, slices */
};

struct vec {
    const void **v;
    uint32_t n, cap;
};

static void vec_add(struct vec *x, struct arena *a, const void *p)
{
    if (x->n == x->cap) {
        uint32_t cap = x->cap ? x->cap * 2 : 8;
        const void **v = arena_array(a, const void *, cap);
        if (x->n)
            memcpy(v, x->v, x->n * sizeof *v);
        x->v = v;
        x->cap = cap;
    }
    x->v[x->n++] = p;
}

static struct vec *vec_of(struct map *m, struct arena *a, sv key)
{
    struct vec *x = map_get(m, key);
    if (!x) {
        x = arena_new(a, struct vec);
        map_put(m, key, x);
    }
    return x;
}

/* Precedence: older first, then name, then namespace (as Istio sorts). */
static int by_precedence(const void *pa, const void *pb)
{
    const struct model_object *a = *(const struct model_object *const *)pa;
    const struct model_object *b = *(const struct model_object *const *)pb;
    int rc;

    if (a->created_ns != b->created_ns)
        return a->created_ns < b->created_ns ? -1 : 1;
    rc = sv_cmp(a->name, b->name);
    return rc ? rc : sv_cmp(a->ns, b->ns);
}

static void release_object(void *o)
{
    model_object_unref(o);
}

static void take_objects(struct builder *b, enum model_kind k)
{
    struct map *src = &b->s->objects[k];
    const struct model_object **list =
        arena_array(&b->m->arena, const struct model_object *, map_len(src) + 1);
    uint32_t n = 0;

    map_init_borrow(&b->by_ns[k]);
    map_each (e, src) {
        struct stored *st = e->val;
        list[n++] = model_object_ref(st->object);
        arena_on_free(&b->m->arena, release_object, st->object);
    }
    if (n > 1)
        qsort(list, n, sizeof(*list), by_precedence);
    for (uint32_t i = 0; i < n; i++)
        vec_add(vec_of(&b->by_ns[k], &b->scratch, list[i]->ns), &b->scratch, list[i]);
    b->m->objects[k] = list;
    b->m->n_objects[k] = n;
}

/* ---- endpoints of a service ---- */

static uint16_t target_port(const struct model_port *port, const struct model_port *named,
                            uint32_t n_named)
{
    if (port->target_port)
        return port->target_port;
    if (!port->target_name.n)
        return port->port;
    for (uint32_t i = 0; i < n_named; i++) {
        if (sv_eq(named[i].name, port->target_name))
            return named[i].port;
    }
    return 0; /* this workload does not have the port */
}

static void add_pod(struct builder *b, struct vec *out, const struct model_object *o,
                    const struct model_port *port)
{
    const struct model_pod_spec *p = o->spec;
    uint16_t target = target_port(port, p->ports, p->n_ports);
    struct model_endpoint *e;

    if (!target || !p->n_ips || (!p->ready && !p->terminating))
        return;
    e = arena_new(&b->m->arena, struct model_endpoint);
    *e = (struct model_endpoint){.address = p->ips[0],
                                 .port = target,
                                 .weight = 1,
                                 .labels = o->labels,
                                 .service_account = p->service_account,
                                 .ns = o->ns,
                                 .workload = o->name,
                                 .region = p->region,
                                 .zone = p->zone,
                                 .sub_zone = p->sub_zone,
                                 .node = p->node,
                                 .healthy = p->ready,
                                 .draining = p->terminating,
                                 .tls = p->sidecar};
    vec_add(out, &b->scratch, e);
}

static void add_entry(struct builder *b, struct vec *out, const struct model_object *o,
                      const struct model_port *port)
{
    struct model_endpoint *e = arena_new(&b->m->arena, struct model_endpoint);

    *e = (struct model_endpoint){.labels = o->labels, .ns = o->ns, .workload = o->name};
    model_entry_endpoint(o->spec, port, e);
    vec_add(out, &b->scratch, e);
}

/* Endpoints that a ServiceEntry lists itself; a name to resolve is one too. */
static void add_inline(struct builder *b, struct vec *out, const struct model_service *svc,
                       const struct model_port *port)
{
    const struct istio_ServiceEntry *se = svc->entry;

    for (uint32_t i = 0; se && i < se->endpoints.n; i++) {
        struct model_endpoint *e = arena_new(&b->m->arena, struct model_endpoint);
        *e = (struct model_endpoint){.labels = model_entry_labels(&b->m->arena, se->endpoints.v[i]),
                                     .ns = svc->ns,
                                     .workload = svc->name};
        model_entry_endpoint(se->endpoints.v[i], port, e);
        vec_add(out, &b->scratch, e);
    }
    if ((!se || !se->endpoints.n) && !svc->spec->selects &&
        (svc->resolution == MODEL_RESOLVE_DNS || svc->resolution == MODEL_RESOLVE_DNS_ONE)) {
        struct model_endpoint *e = arena_new(&b->m->arena, struct model_endpoint);
        *e = (struct model_endpoint){.address = se ? svc->host : svc->spec->external_name,
                                     .port = port->target_port ? port->target_port : port->port,
                                     .weight = 1,
                                     .ns = svc->ns,
                                     .workload = svc->name,
                                     .healthy = true};
        vec_add(out, &b->scratch, e);
    }
}

static const struct model_port *slice_port(const struct model_slice_spec *s,
                                           const struct model_port *port)
{
    for (uint32_t i = 0; i < s->n_ports; i++) {
        if (sv_eq(s->ports[i].name, port->name))
            return &s->ports[i];
    }
    return NULL;
}

static void add_slice(struct builder *b, struct vec *out, const struct model_object *o,
                      const struct model_port *port)
{
    const struct model_slice_spec *s = o->spec;
    const struct model_port *sp = slice_port(s, port);

    for (uint32_t i = 0; sp && i < s->n_endpoints; i++) {
        const struct model_slice_endpoint *se = &s->endpoints[i];
        for (uint32_t a = 0; a < se->n_addresses; a++) {
            const struct model_object *pod = map_get(&b->m->workloads_by_ip, se->addresses[a]);
            const struct model_pod_spec *p = pod ? pod->spec : NULL;
            struct model_endpoint *e = arena_new(&b->m->arena, struct model_endpoint);
            *e = (struct model_endpoint){.address = se->addresses[a],
                                         .port = sp->port,
                                         .weight = 1,
                                         .zone = se->zone,
                                         .node = se->node,
                                         .ns = o->ns,
                                         .workload = se->pod,
                                         .healthy = se->ready,
                                         .draining = se->terminating && se->serving};
            if (!e->healthy && !e->draining)
                continue;
            if (pod) {
                e->labels = pod->labels;
                e->service_account = p->service_account;
                e->workload = pod->name;
                e->region = p->region;
                e->sub_zone = p->sub_zone;
                e->tls = p->sidecar;
                if (!e->zone.n)
                    e->zone = p->zone;
            }
            vec_add(out, &b->scratch, e);
        }
    }
}

static int by_address(const void *pa, const void *pb)
{
    const struct model_endpoint *a = *(const struct model_endpoint *const *)pa;
    const struct model_endpoint *b = *(const struct model_endpoint *const *)pb;
    int rc = sv_cmp(a->address, b->address);
    return rc ? rc : (int)a->port - (int)b->port;
}

static uint64_t mix(uint64_t h, sv v)
{
    return (h * 1099511628211u) ^ sv_hash_stable(v);
}

static uint64_t endpoint_hash(uint64_t h, const struct model_endpoint *e)
{
    const sv texts[] = {e->address, e->service_account, e->ns,   e->workload, e->region,
                        e->zone,    e->sub_zone,        e->node, e->network};
    const uint32_t numbers[] = {e->port, e->weight,
                                (uint32_t)e->healthy | (uint32_t)e->draining << 1 |
                                    (uint32_t)e->tls << 2};

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        h = mix(h, texts[i]);
    for (uint32_t i = 0; i < e->labels.n; i++)
        h = mix(mix(h, e->labels.v[i].key), e->labels.v[i].value);
    return mix(h, sv_make((const char *)numbers, sizeof numbers));
}

static sv endpoint_key(struct arena *a, sv host, uint16_t port)
{
    return arena_printf(a, "%.*s|%u", SV_ARG(host), port);
}

static void find_endpoints(struct builder *b, const struct model_service *svc,
                           const struct model_port *port, struct vec *found)
{
    bool sliced = false;
    struct vec *list = map_get(&b->by_ns[MODEL_ENDPOINT_SLICE], svc->ns);

    if (svc->entry || svc->spec->external_name.n)
        add_inline(b, found, svc, port);
    for (uint32_t i = 0; !svc->entry && list && i < list->n; i++) {
        const struct model_object *o = list->v[i];
        if (!sv_eq(((const struct model_slice_spec *)o->spec)->service, svc->name))
            continue;
        sliced = true;
        add_slice(b, found, o, port);
    }
    /* Where no controller makes slices (files alone), pods are selected here. */
    for (enum model_kind k = MODEL_POD; svc->spec->selects && k < MODEL_KINDS; k++) {
        if ((k != MODEL_POD || sliced) && k != MODEL_WORKLOAD && k != MODEL_WORKLOAD_ENTRY)
            continue;
        list = map_get(&b->by_ns[k], svc->ns);
        for (uint32_t i = 0; list && i < list->n; i++) {
            const struct model_object *o = list->v[i];
            if (!model_labels_match(o->labels, svc->spec->selector))
                continue;
            if (k == MODEL_WORKLOAD_ENTRY)
                add_entry(b, found, o, port);
            else
                add_pod(b, found, o, port);
        }
    }
}

/* Several ServiceEntries of the host: an endpoint that two of them name is one, as the older has
 * it; with DNS_ROUND_ROBIN there is one in all. */
static void find_parts(struct builder *b, const struct model_service *svc, uint16_t number,
                       struct vec *found)
{
    struct map seen;

    map_init(&seen);
    for (const struct model_service *part = svc->more; part; part = part->more) {
        struct vec more = {0};
        for (uint32_t i = 0; i < part->spec->n_ports; i++) {
            if (part->spec->ports[i].port == number)
                find_endpoints(b, part, &part->spec->ports[i], &more);
        }
        for (uint32_t i = 0; i < more.n; i++) {
            const struct model_endpoint *e = more.v[i];
            sv key = arena_printf(&b->scratch, "%.*s|%u", SV_ARG(e->address), e->port);
            if (map_has(&seen, key) || (found->n && svc->resolution == MODEL_RESOLVE_DNS_ONE))
                continue;
            map_put(&seen, key, b);
            vec_add(found, &b->scratch, e);
        }
    }
    map_fini(&seen);
}

static void build_port(struct builder *b, const struct model_service *svc,
                       const struct model_port *port)
{
    struct model_endpoints *out = arena_new(&b->m->arena, struct model_endpoints);
    struct vec found = {0};
    struct model_endpoint *flat;

    if (svc->more)
        find_parts(b, svc, port->port, &found);
    else
        find_endpoints(b, svc, port, &found);
    if (found.n > 1)
        qsort(found.v, found.n, sizeof(*found.v), by_address);
    flat = arena_array(&b->m->arena, struct model_endpoint, found.n + 1);
    for (uint32_t i = 0; i < found.n; i++) {
        flat[i] = *(const struct model_endpoint *)found.v[i];
        flat[i].tls &= !svc->mesh_external; /* the mesh's identities end at its border */
        out->version = endpoint_hash(out->version, &flat[i]);
    }
    out->v = flat;
    out->n = found.n;
    map_put(&b->m->endpoints, endpoint_key(&b->m->arena, svc->host, port->port), out);
}

/* ---- services ---- */

static int by_host(const void *pa, const void *pb)
{
    const struct model_service *a = *(const struct model_service *const *)pa;
    const struct model_service *b = *(const struct model_service *const *)pb;
    return sv_cmp(a->host, b->host);
}

static void take_addresses(struct arena *a, struct model_service *svc)
{
    const struct model_service_spec *s = svc->spec;
    sv *v;

    if (svc->entry || s->headless)
        return;
    svc->addresses = s->cluster_ips;
    svc->n_addresses = s->n_cluster_ips;
    if (!svc->n_addresses && s->cluster_ip.n) {
        svc->addresses = v = arena_array(a, sv, 1);
        v[0] = s->cluster_ip;
        svc->n_addresses = 1;
    }
}

static const struct model_service *add_service(struct builder *b, struct model_service *svc)
{
    take_addresses(&b->m->arena, svc);
    if (svc->n_addresses)
        svc->vip = svc->addresses[0];
    map_put(&b->m->services, svc->host, svc);
    return svc;
}

/* Wildcards cannot be asked for, and what goes where it was going needs no address. */
static bool wants_vip(const struct model_service *svc)
{
    if (svc->vip.n || svc->spec->headless || !svc->spec->n_ports)
        return false;
    return !svc->entry ||
           (!svc->n_cidrs && svc->host.p[0] != '*' && svc->resolution != MODEL_RESOLVE_NONE);
}

/* A service without an address of its own gets one of 240.240.0.0/16, which no network routes: the
 * sidecar's DNS answers with it and its listeners match it. By the host's hash, so that it stays
 * the same while services come and go; a taken one moves on to the next. */
static sv automatic_vip(struct builder *b, struct map *taken, sv host)
{
    uint32_t n = (uint32_t)(sv_hash_stable(host) % 65000) + 257;
    sv ip;

    for (uint32_t tries = 0; tries < 65000; tries++, n = n == 65534 ? 257 : n + 1) {
        ip = arena_printf(&b->m->arena, "240.240.%u.%u", n >> 8 & 255, n & 255);
        if (!map_has(taken, ip)) {
            map_put(taken, ip, b);
            return ip;
        }
    }
    return (sv){NULL, 0};
}

/* An ExternalName that is a service of the mesh has that one's endpoints; another one is resolved
 * by the sidecars. */
static void find_alias(struct builder *b, struct model_service *svc)
{
    if (svc->entry || !svc->spec->external_name.n ||
        !map_has(&b->m->services, svc->spec->external_name))
        return;
    svc->resolution = MODEL_RESOLVE_ENDPOINTS;
    svc->mesh_external = false;
}

static void take_endpoints(struct builder *b, const struct model_service *svc)
{
    struct model *m = b->m;

    if (svc->entry || !svc->spec->external_name.n || svc->resolution != MODEL_RESOLVE_ENDPOINTS)
        return;
    for (uint32_t p = 0; p < svc->spec->n_ports; p++) {
        uint16_t port = svc->spec->ports[p].port;
        const struct model_endpoints *eps = model_endpoints_find(m, svc->spec->external_name, port);
        if (eps)
            map_put(&m->endpoints, endpoint_key(&m->arena, svc->host, port), (void *)eps);
    }
}

static void build_services(struct builder *b)
{
    struct model *m = b->m;
    uint32_t n = m->n_objects[MODEL_SERVICE], k = 0;
    const struct model_service **list;
    struct map taken;

    for (uint32_t i = 0; i < m->n_objects[MODEL_SERVICE_ENTRY]; i++)
        n += ((const struct istio_ServiceEntry *)m->objects[MODEL_SERVICE_ENTRY][i]->spec)->hosts.n;
    list = arena_array(&m->arena, const struct model_service *, n + 1);
    for (uint32_t i = 0; i < m->n_objects[MODEL_SERVICE]; i++) {
        const struct model_object *o = m->objects[MODEL_SERVICE][i];
        struct model_service *svc = arena_new(&m->arena, struct model_service);
        svc->host = arena_printf(&m->arena, "%.*s.%.*s.svc.%.*s", SV_ARG(o->name), SV_ARG(o->ns),
                                 SV_ARG(m->domain_suffix));
        svc->ns = o->ns;
        svc->name = o->name;
        svc->object = o;
        svc->spec = o->spec;
        if (svc->spec->external_name.n) {
            svc->resolution = MODEL_RESOLVE_DNS;
            svc->mesh_external = true;
        }
        list[k++] = add_service(b, svc);
    }
    /* A host has one owner: a Service, else the first ServiceEntry and those that are like it. */
    for (uint32_t i = 0; i < m->n_objects[MODEL_SERVICE_ENTRY]; i++) {
        const struct model_object *o = m->objects[MODEL_SERVICE_ENTRY][i];
        const struct istio_ServiceEntry *se = o->spec;
        for (uint32_t h = 0; h < se->hosts.n; h++) {
            struct model_service *svc = model_entry_service(&m->arena, o, se->hosts.v[h]);
            struct model_service *owner = map_get(&m->services, svc->host);
            if (!owner)
                list[k++] = add_service(b, svc);
            else if (owner->object != o && !model_entry_merge(&m->arena, owner, svc))
                (void)model_entry_repeats(&m->arena, owner, svc);
        }
    }
    n = k;
    for (uint32_t i = 0; i < n; i++)
        find_alias(b, map_get(&m->services, list[i]->host));
    if (n > 1)
        qsort(list, n, sizeof(*list), by_host);
    m->service_list = list;
    m->n_services = n;
    map_init_borrow(&taken);
    for (uint32_t i = 0; i < n; i++) {
        struct model_service *svc = map_get(&m->services, list[i]->host);
        if (wants_vip(svc)) {
            svc->vip = automatic_vip(b, &taken, svc->host);
            svc->auto_vip = true;
        }
    }
    map_fini(&taken);
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t p = 0; p < list[i]->spec->n_ports; p++)
            build_port(b, list[i], &list[i]->spec->ports[p]);
    }
    for (uint32_t i = 0; i < n; i++)
        take_endpoints(b, list[i]);
}

static void build_ips(struct builder *b)
{
    static const enum model_kind kinds[] = {MODEL_POD, MODEL_WORKLOAD};
    for (size_t k = 0; k < 2; k++) {
        for (uint32_t i = 0; i < b->m->n_objects[kinds[k]]; i++) {
            const struct model_object *o = b->m->objects[kinds[k]][i];
            const struct model_pod_spec *p = o->spec;
            for (uint32_t a = 0; a < p->n_ips; a++)
                map_put(&b->m->workloads_by_ip, p->ips[a], (void *)o);
        }
    }
}

/* ---- config by host ---- */

static sv index_host(struct builder *b, struct map *index, sv name, const struct model_object *o)
{
    sv host = model_host_resolve(b->m, name, o->ns, &b->m->arena);
    struct model_list *l = map_get(index, host);
    const struct model_object **v;

    if (!l) {
        l = arena_new(&b->m->arena, struct model_list);
        map_put(index, host, l);
    }
    v = arena_array(&b->m->arena, const struct model_object *, l->n + 1);
    if (l->n)
        memcpy(v, l->v, l->n * sizeof(*v));
    v[l->n] = o;
    l->v = v;
    l->n++;
    return host;
}

static void build_config(struct builder *b)
{
    struct model *m = b->m;
    for (uint32_t i = 0; i < m->n_objects[MODEL_DESTINATION_RULE]; i++) {
        const struct model_object *o = m->objects[MODEL_DESTINATION_RULE][i];
        const struct istio_DestinationRule *r = o->spec;
        model_rules_add(m, o, index_host(b, &m->rules_by_host, arena_lower(&m->arena, r->host), o));
    }
    model_virtual_build(m);
}

static void build_problems(struct builder *b)
{
    struct model_problem *out =
        arena_array(&b->m->arena, struct model_problem, b->s->n_problems + 1);
    for (uint32_t i = 0; i < b->s->n_problems; i++) {
        const struct model_problem *p = &b->s->problems[i]->p;
        out[i] = *p;
        out[i].ns = arena_sv(&b->m->arena, p->ns);
        out[i].name = arena_sv(&b->m->arena, p->name);
        out[i].file = arena_sv(&b->m->arena, p->file);
        out[i].field = arena_sv(&b->m->arena, p->field);
        out[i].text = arena_sv(&b->m->arena, p->text);
        out[i].code = arena_sv(&b->m->arena, p->code);
    }
    b->m->problems = out;
    b->m->n_problems = b->s->n_problems;
}

/* ---- what changed ---- */

static bool same_objects(const struct model *a, const struct model *b, enum model_kind k)
{
    if (a->n_objects[k] != b->n_objects[k])
        return false;
    for (uint32_t i = 0; i < a->n_objects[k]; i++) {
        if (a->objects[k][i] != b->objects[k][i])
            return false;
    }
    return true;
}

/* Objects that are in one snapshot and not in the other. */
static void diff_objects(struct vec *out, struct arena *a, const struct model *x,
                         const struct model *y)
{
    for (enum model_kind k = MODEL_SERVICE_ENTRY; k <= MODEL_SIDECAR; k++) {
        struct map seen;
        map_init(&seen);
        for (uint32_t i = 0; i < y->n_objects[k]; i++)
            map_put(&seen, sv_make((const char *)&y->objects[k][i], sizeof(void *)), (void *)y);
        for (uint32_t i = 0; i < x->n_objects[k]; i++) {
            if (!map_has(&seen, sv_make((const char *)&x->objects[k][i], sizeof(void *))))
                vec_add(out, a, x->objects[k][i]);
        }
        map_fini(&seen);
    }
}

static bool endpoints_differ(const struct model *a, const struct model *b,
                             const struct model_service *svc)
{
    for (uint32_t p = 0; p < svc->spec->n_ports; p++) {
        const struct model_endpoints *x =
            model_endpoints_find(a, svc->host, svc->spec->ports[p].port);
        const struct model_endpoints *y =
            model_endpoints_find(b, svc->host, svc->spec->ports[p].port);
        if (!x || !y || x->version != y->version || x->n != y->n)
            return true;
    }
    return false;
}

/* The same objects say what the service is. */
static bool same_parts(const struct model_service *x, const struct model_service *y)
{
    const struct model_service *also_x = x->also, *also_y = y->also;

    while (x && y && x->object == y->object) {
        x = x->more;
        y = y->more;
    }
    while (also_x && also_y && also_x->object == also_y->object) {
        also_x = also_x->also;
        also_y = also_y->also;
    }
    return !x && !y && !also_x && !also_y;
}

/* Endpoints that stand in clusters or listeners, not in endpoint resources. */
static bool endpoints_in_config(const struct model_service *svc)
{
    return svc->spec->headless || svc->resolution != MODEL_RESOLVE_ENDPOINTS;
}

static const sv *flatten(struct arena *a, const struct vec *x)
{
    sv *out = arena_array(a, sv, x->n + 1);
    for (uint32_t i = 0; i < x->n; i++)
        out[i] = *(const sv *)x->v[i];
    return out;
}

static const struct model_delta *compare(struct builder *b)
{
    struct model *m = b->m;
    const struct model *prev = b->prev;
    struct model_delta *d = arena_new(&m->arena, struct model_delta);
    struct vec hosts = {0}, endpoint_hosts = {0}, objects = {0};

    for (uint32_t i = 0; i < m->n_services; i++) {
        const struct model_service *now = m->service_list[i];
        const struct model_service *was = prev ? map_get(&prev->services, now->host) : NULL;
        if (!was || !same_parts(was, now) || was->resolution != now->resolution ||
            !sv_eq(was->vip, now->vip))
            vec_add(&hosts, &b->scratch, &now->host);
        else if (endpoints_differ(m, prev, now))
            vec_add(endpoints_in_config(now) ? &hosts : &endpoint_hosts, &b->scratch, &now->host);
    }
    for (uint32_t i = 0; prev && i < prev->n_services; i++) {
        if (!map_has(&m->services, prev->service_list[i]->host))
            vec_add(&hosts, &b->scratch, &prev->service_list[i]->host);
    }
    if (prev) {
        diff_objects(&objects, &b->scratch, m, prev);
        diff_objects(&objects, &b->scratch, prev, m);
    }
    d->hosts = flatten(&m->arena, &hosts);
    d->n_hosts = hosts.n;
    d->endpoint_hosts = flatten(&m->arena, &endpoint_hosts);
    d->n_endpoint_hosts = endpoint_hosts.n;
    d->n_objects = objects.n;
    const struct model_object **list =
        arena_array(&m->arena, const struct model_object *, objects.n + 1);
    for (uint32_t i = 0; i < objects.n; i++) {
        /* Old forms stay alive as long as this snapshot does. */
        list[i] = model_object_ref((struct model_object *)objects.v[i]);
        arena_on_free(&m->arena, release_object, (void *)objects.v[i]);
    }
    d->objects = list;
    d->config = !prev || hosts.n || objects.n;
    for (enum model_kind k = MODEL_SERVICE_ENTRY; prev && k <= MODEL_SIDECAR; k++)
        d->config |= !same_objects(m, prev, k);
    return d;
}

struct model *model_store_build(struct model_store *s, const struct model *prev,
                                const struct model_delta **delta)
{
    struct model *m = mem_new(struct model);
    struct builder b = {.s = s, .m = m, .prev = prev};

    arena_init_malloc(&m->arena);
    arena_init(&b.scratch);
    m->generation = ++s->generation;
    m->trust_domain = arena_sv(&m->arena, s->trust_domain);
    m->domain_suffix = arena_sv(&m->arena, s->domain_suffix);
    map_init_borrow(&m->services);
    map_init_borrow(&m->endpoints);
    map_init_borrow(&m->workloads_by_ip);
    map_init_borrow(&m->rules_by_host);
    map_init_borrow(&m->rules);
    map_init_borrow(&m->virtuals_by_host);
    for (int k = 0; k < MODEL_KINDS; k++)
        take_objects(&b, (enum model_kind)k);
    build_ips(&b);
    build_services(&b);
    build_config(&b);
    build_problems(&b);
    if (delta)
        *delta = compare(&b);
    for (int k = 0; k < MODEL_KINDS; k++)
        map_fini(&b.by_ns[k]);
    arena_free(&b.scratch);
    return m;
}

void model_free(struct model *m)
{
    if (!m)
        return;
    map_fini(&m->services);
    map_fini(&m->endpoints);
    map_fini(&m->workloads_by_ip);
    map_fini(&m->rules_by_host);
    map_fini(&m->rules);
    map_fini(&m->virtuals_by_host);
    arena_free(&m->arena);
    free(m);
}
