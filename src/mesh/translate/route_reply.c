/* Rules that answer, or get in the way: redirects, direct responses, faults, CORS. */
#include "base/strbuf.h"
#include "mesh/translate/route.h"

/* ---- redirects and direct responses ---- */

/* The port that the location names; 0: none, the scheme's own. */
static uint32_t redirect_port(const struct istio_HTTPRedirect *in, uint16_t port)
{
    /* A sidecar hears no TLS of its application: without a scheme it is http. */
    bool https = sv_eq_c(in->scheme, "https");
    uint32_t to = 0;

    if (in->which_redirect_port == istio_HTTPRedirect_port_tag)
        to = in->port;
    else if (in->which_redirect_port == istio_HTTPRedirect_derive_port_tag &&
             in->derive_port == istio_HTTPRedirect_FROM_REQUEST_PORT)
        to = port;
    return to == (https ? 443u : 80u) ? 0 : to;
}

const struct envoy_RedirectAction *
route_redirect(struct build *b, const struct istio_HTTPRedirect *in, uint16_t port)
{
    struct envoy_RedirectAction *r = MAKE(b, envoy_RedirectAction, .host_redirect = in->authority);

    if (in->uri.n) {
        r->which_path_rewrite_specifier = envoy_RedirectAction_path_redirect_tag;
        r->path_redirect = in->uri;
    } else if (in->prefix_rewrite.n) {
        r->which_path_rewrite_specifier = envoy_RedirectAction_prefix_rewrite_tag;
        r->prefix_rewrite = in->prefix_rewrite;
    }
    if (in->scheme.n) {
        r->which_scheme_rewrite_specifier = envoy_RedirectAction_scheme_redirect_tag;
        r->scheme_redirect = in->scheme;
    }
    r->port_redirect = redirect_port(in, port);
    switch (in->redirect_code) {
    case 302:
        r->response_code = envoy_RedirectAction_FOUND;
        break;
    case 303:
        r->response_code = envoy_RedirectAction_SEE_OTHER;
        break;
    case 307:
        r->response_code = envoy_RedirectAction_TEMPORARY_REDIRECT;
        break;
    case 308:
        r->response_code = envoy_RedirectAction_PERMANENT_REDIRECT;
        break;
    default:
        r->response_code = envoy_RedirectAction_MOVED_PERMANENTLY;
    }
    return r;
}

const struct envoy_DirectResponseAction *route_direct(struct build *b,
                                                      const struct istio_HTTPDirectResponse *in)
{
    struct envoy_DirectResponseAction *d =
        MAKE(b, envoy_DirectResponseAction, .status = in->status);

    if (in->body && in->body->which_specifier) {
        bool text = in->body->which_specifier == istio_HTTPBody_string_tag;
        d->body = MAKE(b, envoy_DataSource,
                       .which_specifier = text ? envoy_DataSource_inline_string_tag
                                               : envoy_DataSource_inline_bytes_tag,
                       .inline_string = in->body->string, .inline_bytes = in->body->bytes);
    }
    return d;
}

/* ---- faults ---- */

const struct envoy_FractionalPercent *route_percent(struct build *b, double value)
{
    return MAKE(b, envoy_FractionalPercent, .numerator = (uint32_t)(value * 10000.0 + 0.5),
                .denominator = envoy_FractionalPercent_MILLION);
}

static uint32_t grpc_code(sv name)
{
    uint32_t code = 2; /* UNKNOWN; validation lets no other name in */
    model_grpc_status(name, &code);
    return code;
}

/* Without a percentage nothing is delayed or aborted, as in Istio. */
static const struct envoy_HTTPFault *fault(struct build *b,
                                           const struct istio_HTTPFaultInjection *in)
{
    struct envoy_HTTPFault *f = MAKE0(b, envoy_HTTPFault);
    const struct istio_HTTPFaultInjection_Delay *d = in->delay;
    const struct istio_HTTPFaultInjection_Abort *a = in->abort;

    if (d && d->which_http_delay_type == istio_HTTPFaultInjection_Delay_fixed_delay_tag)
        f->delay = MAKE(b, envoy_FaultDelay,
                        .which_fault_delay_secifier = envoy_FaultDelay_fixed_delay_tag,
                        .fixed_delay = d->fixed_delay,
                        .percentage = route_percent(b, d->percentage ? d->percentage->value
                                                                     : (double)d->percent));
    if (a && a->which_error_type) {
        bool grpc = a->which_error_type == istio_HTTPFaultInjection_Abort_grpc_status_tag;
        struct envoy_FaultAbort *out =
            MAKE(b, envoy_FaultAbort,
                 .percentage = route_percent(b, a->percentage ? a->percentage->value : 0.0));
        out->which_error_type =
            grpc ? envoy_FaultAbort_grpc_status_tag : envoy_FaultAbort_http_status_tag;
        if (grpc)
            out->grpc_status = grpc_code(a->grpc_status);
        else
            out->http_status = (uint32_t)a->http_status;
        f->abort = out;
    }
    return f->delay || f->abort ? f : NULL;
}

/* ---- CORS ---- */

static sv joined(struct build *b, const sv *v, uint32_t n)
{
    struct strbuf s;
    sv out;

    strbuf_init(&s, 1 << 20);
    for (uint32_t i = 0; i < n; i++)
        strbuf_addf(&s, "%s%.*s", i ? "," : "", SV_ARG(v[i]));
    out = arena_sv(b->a, strbuf_sv(&s));
    strbuf_fini(&s);
    return out;
}

static const struct envoy_cors_CorsPolicy *cors(struct build *b, const struct istio_CorsPolicy *in)
{
    const struct envoy_StringMatcher **origins = arena_array(
        b->a, const struct envoy_StringMatcher *, in->allow_origins.n + in->allow_origin.n + 1);
    struct envoy_cors_CorsPolicy *c =
        MAKE(b, envoy_cors_CorsPolicy,
             .allow_methods = joined(b, in->allow_methods.v, in->allow_methods.n),
             .allow_headers = joined(b, in->allow_headers.v, in->allow_headers.n),
             .expose_headers = joined(b, in->expose_headers.v, in->expose_headers.n),
             .allow_credentials = in->allow_credentials);
    uint32_t n = 0;

    for (uint32_t i = 0; i < in->allow_origins.n; i++)
        origins[n++] = build_string_matcher(b, in->allow_origins.v[i]);
    /* The old form counts where the new one says nothing. */
    for (uint32_t i = 0; !in->allow_origins.n && i < in->allow_origin.n; i++)
        origins[n++] =
            MAKE(b, envoy_StringMatcher, .which_match_pattern = envoy_StringMatcher_exact_tag,
                 .exact = in->allow_origin.v[i]);
    c->allow_origin_string_match.v = origins;
    c->allow_origin_string_match.n = n;
    if (in->max_age)
        c->max_age = arena_printf(b->a, "%lld", (long long)in->max_age->seconds);
    c->filter_enabled =
        MAKE(b, envoy_RuntimeFractionalPercent, .default_value = route_percent(b, 100));
    c->forward_not_matching_preflights =
        build_bool(b, in->unmatched_preflights != istio_CorsPolicy_IGNORE);
    return c;
}

void route_filters(struct build *b, const struct istio_HTTPRoute *in, struct envoy_Route *out)
{
    const struct envoy_HTTPFault *f = in->fault ? fault(b, in->fault) : NULL;
    const struct envoy_Route_TypedPerFilterConfigEntry **list =
        arena_array(b->a, const struct envoy_Route_TypedPerFilterConfigEntry *, 2);
    uint32_t n = 0;

    if (f)
        list[n++] =
            MAKE(b, envoy_Route_TypedPerFilterConfigEntry, .key = SV("envoy.filters.http.fault"),
                 .value = pb_any_pack(&envoy_HTTPFault_pb, f, b->a));
    if (in->cors_policy)
        list[n++] =
            MAKE(b, envoy_Route_TypedPerFilterConfigEntry, .key = SV("envoy.filters.http.cors"),
                 .value = pb_any_pack(&envoy_cors_CorsPolicy_pb, cors(b, in->cors_policy), b->a));
    out->typed_per_filter_config.v = list;
    out->typed_per_filter_config.n = n;
}
