/* internal_redirect_policy: which redirects of hosts the proxy follows by itself. */
#include "api/google.pb.h"
#include "route/route_int.h"

#define PACKAGE "envoy.extensions.internal_redirect."

static int build_allowed(struct route_builder *b, const struct google_Any *any,
                         struct route_redirect_predicate *p)
{
    void *x = NULL;
    struct pb_opts o = route_decode_opts(b);
    int rc = pb_any_unpack(any, &envoy_AllowListedRoutesConfig_pb, b->tmp, &o, &x, b->err);
    if (rc != 0) {
        error_prefix(b->err, ".typed_config: ");
        return rc;
    }
    const struct envoy_AllowListedRoutesConfig *m = x;
    sv *names = arena_array(b->a, sv, m->allowed_route_names.n);
    for (uint32_t i = 0; i < m->allowed_route_names.n; i++)
        names[i] = m->allowed_route_names.v[i];
    p->names = names;
    p->n_names = m->allowed_route_names.n;
    return 0;
}

static int build_predicate(struct route_builder *b, const struct envoy_TypedExtensionConfig *m,
                           struct route_redirect_predicate *p)
{
    sv type = m->typed_config ? pb_any_type(m->typed_config->type_url) : (sv){0};
    if (sv_eq_c(type, PACKAGE "previous_routes.v3.PreviousRoutesConfig")) {
        p->kind = ROUTE_PREVIOUS_ROUTES;
    } else if (sv_eq_c(type, PACKAGE "safe_cross_scheme.v3.SafeCrossSchemeConfig")) {
        p->kind = ROUTE_SAFE_CROSS_SCHEME;
    } else if (sv_eq_c(type, PACKAGE "allow_listed_routes.v3.AllowListedRoutesConfig")) {
        p->kind = ROUTE_ALLOW_LISTED;
        return build_allowed(b, m->typed_config, p);
    } else {
        return error_set(b->err, E_UNSUPPORTED, ": '%.*s' (%.*s) is not supported", SV_ARG(m->name),
                         SV_ARG(type));
    }
    return 0;
}

/* Only what is a redirect with a Location counts; other codes are ignored, as in Envoy. */
static void build_codes(const struct envoy_InternalRedirectPolicy *m,
                        struct route_internal_redirect *p)
{
    static const uint16_t known[] = {301, 302, 303, 307, 308};
    for (unsigned k = 0; k < 5; k++)
        for (uint32_t i = 0; i < m->redirect_response_codes.n; i++)
            if (m->redirect_response_codes.v[i] == known[k]) {
                p->codes[p->n_codes++] = known[k];
                break;
            }
    if (!m->redirect_response_codes.n)
        p->codes[p->n_codes++] = 302;
}

static int build_copy(struct route_builder *b, const struct envoy_InternalRedirectPolicy *m,
                      struct route_internal_redirect *p)
{
    sv *copy = arena_array(b->a, sv, m->response_headers_to_copy.n);
    for (uint32_t i = 0; i < m->response_headers_to_copy.n; i++) {
        sv name = m->response_headers_to_copy.v[i];
        copy[i] = http_name_to_lower(name, b->a);
        if (!http_name_valid(name) || sv_eq(copy[i], SV("host")))
            return error_set(b->err, E_INVALID,
                             ".response_headers_to_copy[%u]: '%.*s' cannot be copied", i,
                             SV_ARG(name));
    }
    p->copy = copy;
    p->n_copy = m->response_headers_to_copy.n;
    return 0;
}

int route_internal_redirect_build(struct route_builder *b,
                                  const struct envoy_InternalRedirectPolicy *m,
                                  const struct route_internal_redirect **out)
{
    *out = NULL;
    if (!m)
        return 0;
    struct route_internal_redirect *p = arena_new(b->a, struct route_internal_redirect);
    struct route_redirect_predicate *v =
        arena_array(b->a, struct route_redirect_predicate, m->predicates.n);
    p->max = m->max_internal_redirects ? m->max_internal_redirects->value : 1;
    p->cross_scheme = m->allow_cross_scheme_redirect;
    build_codes(m, p);
    int rc = build_copy(b, m, p);
    for (uint32_t i = 0; rc == 0 && i < m->predicates.n; i++) {
        rc = build_predicate(b, m->predicates.v[i], &v[i]);
        if (rc != 0)
            error_prefix(b->err, ".predicates[%u]", i);
    }
    p->predicates = v;
    p->n_predicates = m->predicates.n;
    if (rc != 0)
        error_prefix(b->err, ".internal_redirect_policy");
    *out = p;
    return rc;
}
