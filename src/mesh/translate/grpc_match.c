/* Matches of proxyless gRPC clients. */
#include <string.h>
#include "api/regex.h"
#include "mesh/translate/grpc.h"

#define SPLIT_MAX 4 /* headers that are matched in two ways: 2^4 matches */

/* ---- what is known of a call beforehand ---- */

static bool text_fits(const struct istio_StringMatch *s, sv text)
{
    struct error err = {0};
    struct regex *r;
    bool fits;

    if (!build_string_set(s))
        return true;
    switch (s->which_match_type) {
    case istio_StringMatch_exact_tag:
        return sv_eq(s->exact, text);
    case istio_StringMatch_prefix_tag:
        return sv_starts(text, s->prefix);
    default:
        if (regex_new(s->regex, 0, &r, &err))
            return false; /* validation has refused it */
        fits = regex_full(r, text);
        regex_free(r);
        return fits;
    }
}

static bool may_fit(struct build *b, const struct istio_HTTPMatchRequest *in, sv host,
                    uint16_t port)
{
    sv authority = arena_printf(b->a, "%.*s:%u", SV_ARG(host), port);

    return !in->query_params.n && text_fits(in->method, SV("POST")) &&
           text_fits(in->scheme, SV("http")) &&
           (text_fits(in->authority, authority) || text_fits(in->authority, host));
}

/* ---- headers ---- */

static bool has_value(const struct envoy_HeaderMatcher *h)
{
    return h->which_header_match_specifier == envoy_HeaderMatcher_string_match_tag;
}

/* One way to fit: of inverted headers with a value, number i is absent where bit i is set, else
 * there with another value. */
static const struct envoy_RouteMatch *way(struct build *b, const struct envoy_RouteMatch *all,
                                          uint32_t absent)
{
    struct envoy_RouteMatch *out = build_copy(b, all, sizeof *out);
    const struct envoy_HeaderMatcher **v =
        arena_array(b->a, const struct envoy_HeaderMatcher *, all->headers.n + 1);
    uint32_t bit = 0;

    for (uint32_t i = 0; i < all->headers.n; i++) {
        struct envoy_HeaderMatcher *h = build_copy(b, all->headers.v[i], sizeof *h);
        h->treat_missing_header_as_empty = false;
        if (h->invert_match && has_value(h) && (absent & (1u << bit++))) {
            h->which_header_match_specifier = envoy_HeaderMatcher_present_match_tag;
            h->string_match = NULL;
            h->present_match = true;
        }
        v[i] = h;
    }
    out->headers.v = v;
    return out;
}

bool grpc_match(struct grpc_build *g, const struct istio_HTTPMatchRequest *in, sv host,
                uint16_t port, struct grpc_matches *out)
{
    struct build *b = &g->b;
    struct istio_HTTPMatchRequest rest;
    const struct envoy_RouteMatch *m;
    uint32_t split = 0;

    *out = (struct grpc_matches){0};
    if (in && !may_fit(b, in, host, port))
        return true;
    if (in) {
        rest = *in;
        rest.scheme = rest.method = rest.authority = NULL;
    }
    m = build_route_match(b, in ? &rest : NULL);
    for (uint32_t i = 0; i < m->headers.n; i++)
        split += m->headers.v[i]->invert_match && has_value(m->headers.v[i]);
    if (split > SPLIT_MAX)
        return false;
    out->v = arena_array(b->a, const struct envoy_RouteMatch *, 1u << split);
    for (uint32_t k = 0; k < 1u << split; k++)
        out->v[out->n++] = way(b, m, k);
    return true;
}
