#include "route/mutations.h"

#include "route/match.h"
#include "route/route_int.h"

struct mutation {
    uint32_t kind; /* envoy_HeaderMutation_*_tag */
    sv remove;
    struct route_op append;
    struct string_match names;
};

struct header_mutations {
    uint32_t n;
    struct mutation v[];
};

static int build_one(struct route_builder *b, const struct envoy_HeaderMutation *m,
                     struct mutation *out)
{
    out->kind = m->which_action;
    switch (m->which_action) {
    case envoy_HeaderMutation_remove_tag: {
        int rc = route_op_name(b, m->remove, &out->remove);
        if (rc != 0)
            error_prefix(b->err, ".remove");
        return rc;
    }
    case envoy_HeaderMutation_append_tag: {
        int rc = route_op_build(b, m->append, &out->append);
        if (rc != 0)
            error_prefix(b->err, ".append");
        return rc;
    }
    case envoy_HeaderMutation_remove_on_match_tag:
        if (!m->remove_on_match->key_matcher)
            return error_set(b->err, E_INVALID, ".remove_on_match.key_matcher: must be set");
        return string_match_build(m->remove_on_match->key_matcher, ".remove_on_match.key_matcher",
                                  b->a, &out->names, b->err);
    default:
        return error_set(b->err, E_INVALID, ": one of remove, append, remove_on_match must be set");
    }
}

int header_mutations_build(const struct envoy_HeaderMutation *const *v, uint32_t n,
                           const char *path, struct arena *a, const struct header_mutations **out,
                           struct error *err)
{
    struct route_builder b = {.a = a, .tmp = a, .err = err};
    *out = NULL;
    if (!n)
        return 0;
    struct header_mutations *m = arena_zalloc(a, sizeof *m + n * sizeof *m->v);
    for (m->n = 0; m->n < n; m->n++) {
        int rc = build_one(&b, v[m->n], &m->v[m->n]);
        if (rc != 0) {
            error_prefix(err, "%s[%u]", path, m->n);
            return rc;
        }
    }
    *out = m;
    return 0;
}

static void remove_matching(struct http_headers *h, const struct string_match *names)
{
    for (uint32_t i = 0; i < h->n;) {
        sv name = h->v[i].name;
        if (!string_match(names, name))
            i++;
        else if (!http_headers_remove(h, name))
            return; /* cannot be: it stands there */
    }
}

void header_mutations_apply(const struct header_mutations *m, struct http_headers *h,
                            const struct substitution_ctx *c, struct arena *a)
{
    for (uint32_t i = 0; m && i < m->n; i++) {
        const struct mutation *one = &m->v[i];
        if (one->kind == envoy_HeaderMutation_remove_tag)
            http_headers_remove(h, one->remove);
        else if (one->kind == envoy_HeaderMutation_remove_on_match_tag)
            remove_matching(h, &one->names);
        else
            route_op_apply(&one->append, h, substitution_eval_arena(one->append.value, c, a));
    }
}
