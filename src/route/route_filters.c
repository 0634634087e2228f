/* typed_per_filter_config: parsed by whoever knows the filter, found by the filter's name. */
#include "api/google.pb.h"
#include "route/route_int.h"

struct make_arg {
    sv name;
    const struct google_Any *any;
};

static int make_config(struct route_builder *b, const void *arg, struct route_kept *out)
{
    const struct make_arg *m = arg;
    const struct route_table_opts *o = &b->h->opts;
    if (!o->filter_config)
        return error_set(b->err, E_UNSUPPORTED, ": no filter takes a configuration here");
    return o->filter_config(o->arg, m->name, m->any, &b->keep->arena, &out->obj, b->err);
}

static bool is_wrapper(const struct google_Any *any)
{
    return sv_eq(pb_any_type(any->type_url), SV("envoy.config.route.v3.FilterConfig"));
}

static int build_entry(struct route_builder *b, const struct route_filter_msg *m,
                       struct route_filter_entry *e)
{
    const struct google_Any *any = m->value;
    bool optional = false;
    e->name = m->key;
    if (!any)
        return error_set(b->err, E_INVALID, ": has no value");
    if (is_wrapper(any)) {
        void *w = NULL;
        struct pb_opts o = route_decode_opts(b);
        int rc = pb_any_unpack(any, &envoy_FilterConfig_pb, b->tmp, &o, &w, b->err);
        if (rc != 0) {
            error_prefix(b->err, ": ");
            return rc;
        }
        const struct envoy_FilterConfig *f = w;
        e->disabled = f->disabled;
        optional = f->is_optional;
        any = f->config;
        if (!any || any->type_url.n == 0)
            return 0; /* only on or off */
    }
    struct make_arg arg = {m->key, any};
    struct route_kept kept = {0};
    int rc = route_keep(b, make_config, &arg, &kept);
    if (rc != 0 && optional && (rc == E_UNSUPPORTED || rc == E_NOT_FOUND))
        rc = route_keep(b, NULL, NULL, &kept); /* it may be unknown: keep that it is nothing */
    e->config = kept.obj;
    e->packed = any->value;
    return rc;
}

int route_filters_build(struct route_builder *b, const struct route_filter_msg *const *v,
                        uint32_t n, const struct route_filter_config **out)
{
    *out = NULL;
    if (n == 0)
        return 0;
    struct route_filter_config *c = arena_new(b->a, struct route_filter_config);
    c->v = arena_array(b->a, struct route_filter_entry, n);
    for (c->n = 0; c->n < n; c->n++) {
        int rc = build_entry(b, v[c->n], &c->v[c->n]);
        if (rc != 0) {
            error_prefix(b->err, ".typed_per_filter_config['%.*s']", SV_ARG(v[c->n]->key));
            return rc;
        }
    }
    *out = c;
    return 0;
}

/* ---- finding ---- */

static const struct route_filter_entry *find(const struct route_filter_config *c, sv name)
{
    for (uint32_t i = 0; c && i < c->n; i++)
        if (sv_eq(c->v[i].name, name))
            return &c->v[i];
    return NULL;
}

/* The levels of a match, most specific first. */
static unsigned levels(const struct route_match *m, const struct route_filter_config *out[4])
{
    unsigned n = 0;
    if (m->weight)
        out[n++] = m->weight->filters;
    if (m->route)
        out[n++] = m->route->filters;
    if (m->vhost)
        out[n++] = m->vhost->filters;
    if (m->table)
        out[n++] = m->table->head->filters;
    return n;
}

const void *route_match_filter_config(const struct route_match *m, sv filter_name, int *disabled)
{
    const struct route_filter_config *v[4];
    unsigned n = levels(m, v);
    const void *config = NULL;
    int said = -1;
    for (unsigned i = 0; i < n; i++) {
        const struct route_filter_entry *e = find(v[i], filter_name);
        if (!e)
            continue;
        if (said < 0)
            said = e->disabled;
        if (!config)
            config = e->config;
    }
    if (disabled)
        *disabled = said;
    return config;
}

unsigned route_match_filter_configs(const struct route_match *m, sv filter_name, const void *out[4])
{
    const struct route_filter_config *v[4];
    unsigned n = levels(m, v), count = 0;
    while (n-- > 0) {
        const struct route_filter_entry *e = find(v[n], filter_name);
        if (e && e->config)
            out[count++] = e->config;
    }
    return count;
}

sv route_match_filter_config_bytes(const struct route_match *m, sv filter_name)
{
    const struct route_filter_config *v[4];
    unsigned n = levels(m, v);
    for (unsigned i = 0; i < n; i++) {
        const struct route_filter_entry *e = find(v[i], filter_name);
        if (e && e->config)
            return e->packed;
    }
    return (sv){0};
}
