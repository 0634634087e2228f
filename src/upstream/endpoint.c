#include "upstream/endpoint.h"

#include "api/envoy.pb.h"
#include "api/pb_struct.h"
#include "base/mem.h"
#include "upstream/endpoint_private.h"

const char *endpoint_flag_text(enum endpoint_flag_bit b)
{
    static const char *const text[] = {
#define X(id, t) t,
        ENDPOINT_FLAGS(X)
#undef X
    };
    return text[b];
}

uint32_t endpoint_flags(const struct endpoint *e)
{
    uint32_t f = atomic_load_explicit(&e->info->state->flags, memory_order_relaxed);
    switch (e->eds_health) {
    case envoy_HealthStatus_DRAINING:
        return f | ENDPOINT_EDS_DRAINING;
    case envoy_HealthStatus_UNHEALTHY:
    case envoy_HealthStatus_TIMEOUT:
        return f | ENDPOINT_FAILED_EDS;
    case envoy_HealthStatus_DEGRADED:
        return f | ENDPOINT_DEGRADED_EDS;
    default:
        return f;
    }
}

enum endpoint_health endpoint_health(const struct endpoint *e)
{
    uint32_t f = endpoint_flags(e);
    if (f & (ENDPOINT_PENDING_ACTIVE_HC | ENDPOINT_EDS_DRAINING))
        return ENDPOINT_IS_EXCLUDED;
    if (f & (ENDPOINT_FAILED_ACTIVE_HC | ENDPOINT_FAILED_OUTLIER | ENDPOINT_FAILED_EDS))
        return f & ENDPOINT_EXCLUDED_HC_FAIL ? ENDPOINT_IS_EXCLUDED : ENDPOINT_IS_UNHEALTHY;
    if (f & (ENDPOINT_DEGRADED_ACTIVE_HC | ENDPOINT_DEGRADED_EDS))
        return ENDPOINT_IS_DEGRADED;
    return ENDPOINT_IS_HEALTHY;
}

/* ---- registry ---- */

void endpoint_registry_init(struct endpoint_registry *r)
{
    pthread_mutex_init(&r->lock, NULL);
    map_init_borrow(&r->infos);
    map_init_borrow(&r->states);
}

void endpoint_registry_fini(struct endpoint_registry *r)
{
    map_fini(&r->infos);
    map_fini(&r->states);
    pthread_mutex_destroy(&r->lock);
}

static struct endpoint_state *state_get(struct endpoint_registry *r, sv key)
{
    struct endpoint_state *s = map_get(&r->states, key);
    if (s) {
        s->refs++;
        return s;
    }
    s = mem_zalloc(sizeof *s + key.n);
    s->refs = 1;
    s->key_n = (uint32_t)key.n;
    memcpy(s->key, key.p, key.n);
    s->outlier.success_rate = s->outlier.local_success_rate = -1;
    map_put(&r->states, sv_make(s->key, s->key_n), s);
    return s;
}

static void state_put(struct endpoint_registry *r, struct endpoint_state *s)
{
    if (--s->refs)
        return;
    map_del(&r->states, sv_make(s->key, s->key_n));
    free(s);
}

struct info_store *info_store_new(void)
{
    struct info_store *st = mem_new(struct info_store);
    arena_init_malloc(&st->arena);
    st->refs = 1;
    return st;
}

void info_store_put(struct info_store *st)
{
    if (!st || --st->refs)
        return;
    arena_free(&st->arena);
    free(st);
}

static void info_free(struct endpoint_info *i)
{
    struct endpoint_registry *r = i->registry;
    if (map_get(&r->infos, addr_key(&i->addr)) == i)
        map_del(&r->infos, addr_key(&i->addr));
    info_store_put(i->store);
    state_put(r, i->state);
    free(i);
}

void endpoint_info_put_locked(struct endpoint_info *i)
{
    if (--i->refs == 0)
        info_free(i);
}

struct endpoint_info *endpoint_info_ref(struct endpoint_info *i)
{
    pthread_mutex_lock(&i->registry->lock);
    i->refs++;
    pthread_mutex_unlock(&i->registry->lock);
    return i;
}

void endpoint_info_unref(struct endpoint_info *i)
{
    if (!i)
        return;
    struct endpoint_registry *r = i->registry;
    pthread_mutex_lock(&r->lock);
    endpoint_info_put_locked(i);
    pthread_mutex_unlock(&r->lock);
}

void endpoint_registry_each(struct endpoint_registry *r,
                            void (*fn)(void *arg, const struct endpoint_info *i), void *arg)
{
    pthread_mutex_lock(&r->lock);
    map_each (e, &r->infos) {
        fn(arg, e->val);
    }
    pthread_mutex_unlock(&r->lock);
}

/* ---- infos ---- */

/* Copies v to *p and moves it on; the copy is what the info keeps. */
static sv put(char **p, sv v)
{
    if (v.n == 0)
        return (sv){0};
    memcpy(*p, v.p, v.n);
    sv out = sv_make(*p, v.n);
    *p += v.n;
    return out;
}

const struct google_Struct *endpoint_lb_metadata(const struct envoy_Metadata *m)
{
    for (uint32_t i = 0; m && i < m->filter_metadata.n; i++) {
        if (sv_eq(m->filter_metadata.v[i]->key, SV("envoy.lb")))
            return m->filter_metadata.v[i]->value;
    }
    return NULL;
}

static struct endpoint_info *info_new(struct endpoint_registry *r, const struct info_spec *s)
{
    char text_buf[ADDR_TEXT_MAX];
    sv text = addr_text(&s->addr, text_buf);
    const struct google_Struct *lb = endpoint_lb_metadata(s->metadata);
    const struct google_Value *hk = pb_struct_get(lb, SV("hash_key"));
    const struct google_Value *canary = pb_struct_get(lb, SV("canary"));
    sv hash_key =
        hk && hk->which_kind == google_Value_string_value_tag ? hk->string_value : (sv){0};
    struct endpoint_info *i =
        mem_zalloc(sizeof *i + text.n + s->hostname.n + s->region.n + s->zone.n + s->sub_zone.n +
                   hash_key.n + s->health_hostname.n + s->content.n + 1);
    char *p = i->bytes;
    i->refs = 1;
    i->registry = r;
    i->addr = s->addr;
    i->addr_text = put(&p, text);
    i->hostname = put(&p, s->hostname);
    i->region = put(&p, s->region);
    i->zone = put(&p, s->zone);
    i->sub_zone = put(&p, s->sub_zone);
    i->hash_key = put(&p, hash_key);
    i->health_hostname = put(&p, s->health_hostname);
    i->content = put(&p, s->content);
    i->health_addr = s->health_addr;
    i->no_health_check = s->no_health_check;
    i->canary = canary && canary->which_kind == google_Value_bool_value_tag && canary->bool_value;
    i->transport = s->transport;
    return i;
}

/* Its own copy of the metadata, decoded from the bytes that the info keeps. */
static void info_decode_metadata(struct endpoint_info *i, const struct info_spec *s,
                                 struct info_store **store)
{
    if (!s->metadata)
        return;
    if (!*store)
        *store = info_store_new();
    void *m;
    sv packed = sv_make(i->content.p, s->metadata_n);
    struct pb_opts o = {.allow_unknown = true};
    if (pb_decode(&envoy_Metadata_pb, packed, &(*store)->arena, &o, &m, NULL) != 0)
        return; /* it was decoded before and encoded by us */
    i->metadata = m;
    i->store = *store;
    (*store)->refs++;
}

struct endpoint_info *endpoint_info_get_locked(struct endpoint_registry *r,
                                               const struct info_spec *s, struct info_store **store)
{
    struct endpoint_info *old = map_get(&r->infos, addr_key(&s->addr));
    if (old && sv_eq(old->content, s->content)) {
        old->refs++;
        return old;
    }
    struct endpoint_info *i = info_new(r, s);
    i->state = state_get(r, s->logical ? SV("logical") : addr_key(&s->addr));
    info_decode_metadata(i, s, store);
    if (old)
        map_del(&r->infos, addr_key(&s->addr));
    map_put(&r->infos, addr_key(&i->addr), i);
    return i;
}

struct endpoint_info *endpoint_info_adhoc(struct endpoint_registry *r, const struct addr *a,
                                          uint32_t transport)
{
    struct info_spec s = {.addr = *a, .transport = transport};
    struct info_store *none = NULL;
    pthread_mutex_lock(&r->lock);
    struct endpoint_info *i = endpoint_info_get_locked(r, &s, &none);
    pthread_mutex_unlock(&r->lock);
    return i;
}
