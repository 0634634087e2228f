/* What a rule matches: Istio's HTTPMatchRequest as Envoy's RouteMatch. */
#include "mesh/translate/internal.h"

/* ---- matches ---- */

const struct envoy_RegexMatcher *build_regex(struct build *b, sv text)
{
    return MAKE(b, envoy_RegexMatcher, .regex = text);
}

const struct envoy_StringMatcher *build_string_matcher(struct build *b,
                                                       const struct istio_StringMatch *s)
{
    struct envoy_StringMatcher *out = MAKE0(b, envoy_StringMatcher);

    switch (s->which_match_type) {
    case istio_StringMatch_exact_tag:
        out->which_match_pattern = envoy_StringMatcher_exact_tag;
        out->exact = s->exact;
        break;
    case istio_StringMatch_prefix_tag:
        out->which_match_pattern = envoy_StringMatcher_prefix_tag;
        out->prefix = s->prefix;
        break;
    default:
        out->which_match_pattern = envoy_StringMatcher_safe_regex_tag;
        out->safe_regex = build_regex(b, s->regex);
    }
    return out;
}

bool build_string_set(const struct istio_StringMatch *s)
{
    if (!s || !s->which_match_type)
        return false;
    return s->which_match_type != istio_StringMatch_prefix_tag || s->prefix.n > 0;
}

/* No pattern, or Istio's "*", which is no expression: present is enough. */
static bool only_present(const struct istio_StringMatch *s)
{
    return !build_string_set(s) ||
           (s->which_match_type == istio_StringMatch_regex_tag && sv_eq_c(s->regex, "*"));
}

static const struct envoy_HeaderMatcher *header(struct build *b, sv name,
                                                const struct istio_StringMatch *s, bool invert)
{
    struct envoy_HeaderMatcher *h =
        MAKE(b, envoy_HeaderMatcher, .name = arena_lower(b->a, name), .invert_match = invert);

    if (only_present(s)) {
        h->which_header_match_specifier = envoy_HeaderMatcher_present_match_tag;
        h->present_match = true;
        return h;
    }
    h->which_header_match_specifier = envoy_HeaderMatcher_string_match_tag;
    h->string_match = build_string_matcher(b, s);
    /* withoutHeaders: a header that is absent does not have the value. */
    h->treat_missing_header_as_empty = invert;
    return h;
}

static void match_path(struct build *b, struct envoy_RouteMatch *out,
                       const struct istio_HTTPMatchRequest *in)
{
    const struct istio_StringMatch *uri = in ? in->uri : NULL;

    out->which_path_specifier = envoy_RouteMatch_prefix_tag;
    out->prefix = SV("/");
    if (uri) {
        switch (uri->which_match_type) {
        case istio_StringMatch_exact_tag:
            out->which_path_specifier = envoy_RouteMatch_path_tag;
            out->path = uri->exact;
            break;
        case istio_StringMatch_regex_tag:
            out->which_path_specifier = envoy_RouteMatch_safe_regex_tag;
            out->safe_regex = build_regex(b, uri->regex);
            break;
        case istio_StringMatch_prefix_tag:
            out->prefix = uri->prefix;
            break;
        }
        if (in->ignore_uri_case && uri->which_match_type != istio_StringMatch_regex_tag)
            out->case_sensitive = build_bool(b, false);
    }
}

const struct envoy_RouteMatch *build_route_match(struct build *b,
                                                 const struct istio_HTTPMatchRequest *in)
{
    struct envoy_RouteMatch *out = MAKE0(b, envoy_RouteMatch);
    const struct envoy_HeaderMatcher **headers;
    const struct envoy_QueryParameterMatcher **params;
    uint32_t n = 0;

    match_path(b, out, in);
    if (!in)
        return out;
    headers = arena_array(b->a, const struct envoy_HeaderMatcher *,
                          in->headers.n + in->without_headers.n + 3);
    for (uint32_t i = 0; i < in->headers.n; i++)
        headers[n++] = header(b, in->headers.v[i]->key, in->headers.v[i]->value, false);
    for (uint32_t i = 0; i < in->without_headers.n; i++)
        headers[n++] =
            header(b, in->without_headers.v[i]->key, in->without_headers.v[i]->value, true);
    if (build_string_set(in->scheme))
        headers[n++] = header(b, SV(":scheme"), in->scheme, false);
    if (build_string_set(in->method))
        headers[n++] = header(b, SV(":method"), in->method, false);
    if (build_string_set(in->authority))
        headers[n++] = header(b, SV(":authority"), in->authority, false);
    out->headers.v = headers;
    out->headers.n = n;
    params = arena_array(b->a, const struct envoy_QueryParameterMatcher *, in->query_params.n + 1);
    for (uint32_t i = 0; i < in->query_params.n; i++) {
        const struct istio_StringMatch *s = in->query_params.v[i]->value;
        struct envoy_QueryParameterMatcher *q = MAKE(
            b, envoy_QueryParameterMatcher, .name = in->query_params.v[i]->key,
            .which_query_parameter_match_specifier = envoy_QueryParameterMatcher_present_match_tag,
            .present_match = true);
        if (!only_present(s)) {
            q->which_query_parameter_match_specifier = envoy_QueryParameterMatcher_string_match_tag;
            q->string_match = build_string_matcher(b, s);
        }
        params[i] = q;
    }
    out->query_parameters.v = params;
    out->query_parameters.n = in->query_params.n;
    return out;
}

bool build_port_matches(uint32_t want, uint16_t port)
{
    return !want || want == port;
}

bool build_match_holds(struct build *b, const struct istio_HTTPMatchRequest *m, uint16_t port)
{
    return BUILD_HOLDS_HERE(b, m, port);
}
