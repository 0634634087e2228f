/* Header operations of rules and destinations. */
#include <string.h>
#include "mesh/translate/route.h"

/* What cannot be set, added or removed like other fields. */
static bool is_authority(sv key)
{
    return sv_eq_icase(key, SV("host")) || sv_eq_icase(key, SV(":authority"));
}

static bool is_internal(sv key)
{
    return sv_starts(key, SV(":")) || sv_eq_icase(key, SV("host"));
}

struct operations {
    const struct envoy_HeaderValueOption **add;
    uint32_t n_add;
    sv *remove;
    uint32_t n_remove;
};

static void add_operation(struct build *b, struct operations *o, sv key, sv value,
                          enum envoy_HeaderValueOption_HeaderAppendAction action)
{
    struct envoy_HeaderValue *h = MAKE(b, envoy_HeaderValue, .key = key, .value = value);
    o->add[o->n_add++] = MAKE(b, envoy_HeaderValueOption, .header = h, .append_action = action);
}

static uint32_t entries(const struct istio_Headers_HeaderOperations *x)
{
    return x ? x->set.n + x->add.n + x->remove.n : 0;
}

static void append(struct build *b, struct operations *o, sv *authority,
                   const struct istio_Headers_HeaderOperations *in)
{
    sv added = {NULL, 0}, set = {NULL, 0};

    for (uint32_t i = 0; in && i < in->set.n; i++) {
        if (is_authority(in->set.v[i]->key))
            set = in->set.v[i]->value;
        else if (!is_internal(in->set.v[i]->key))
            add_operation(b, o, in->set.v[i]->key, in->set.v[i]->value,
                          envoy_HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD);
    }
    for (uint32_t i = 0; in && i < in->add.n; i++) {
        if (is_authority(in->add.v[i]->key))
            added = in->add.v[i]->value;
        else if (!is_internal(in->add.v[i]->key))
            add_operation(b, o, in->add.v[i]->key, in->add.v[i]->value,
                          envoy_HeaderValueOption_APPEND_IF_EXISTS_OR_ADD);
    }
    for (uint32_t i = 0; in && i < in->remove.n; i++) {
        if (!is_internal(in->remove.v[i]))
            o->remove[o->n_remove++] = in->remove.v[i];
    }
    if (authority && !authority->n)
        *authority = set.n ? set : added;
}

static struct operations both(struct build *b, sv *authority,
                              const struct istio_Headers_HeaderOperations *x,
                              const struct istio_Headers_HeaderOperations *y)
{
    uint32_t n = entries(x) + entries(y);
    struct operations o = {0};

    if (!n)
        return o;
    o.add = arena_array(b->a, const struct envoy_HeaderValueOption *, n);
    o.remove = arena_array(b->a, sv, n);
    append(b, &o, authority, x);
    append(b, &o, authority, y);
    return o;
}

struct route_headers route_headers(struct build *b, const struct istio_Headers *x,
                                   const struct istio_Headers *y)
{
    struct route_headers out = {0};
    struct operations rq = both(b, &out.authority, x ? x->request : NULL, y ? y->request : NULL);
    struct operations rs = both(b, NULL, x ? x->response : NULL, y ? y->response : NULL);

    out.request.add = rq.add;
    out.request.n_add = rq.n_add;
    out.request.remove = rq.remove;
    out.request.n_remove = rq.n_remove;
    out.response.add = rs.add;
    out.response.n_add = rs.n_add;
    out.response.remove = rs.remove;
    out.response.n_remove = rs.n_remove;
    return out;
}
