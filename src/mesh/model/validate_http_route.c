/* HTTP rules of VirtualServices. */
#include "mesh/model/validate_internal.h"

#include "api/regex.h"
#include "http/substitution.h"

#define BODY_MAX (1u << 20)

/* ---- matches ---- */

int validate_regex(struct validating *c, const char *path, sv text)
{
    struct error err = {0};
    struct regex *re;

    if (!text.n)
        return validate_bad(c, path, "InvalidRegex", "%s: an expression is needed", path);
    if (regex_new(text, REGEX_MAX_PROGRAM, &re, &err))
        return validate_bad(c, path, "InvalidRegex", "%s: %s", path, err.msg);
    regex_free(re);
    return 0;
}

/* An empty prefix takes everything: of the path that is fine, elsewhere it is a slip. */
static int check_string(struct validating *c, const char *path, const struct istio_StringMatch *s,
                        bool empty)
{
    if (!s)
        return 0;
    if (s->which_match_type == istio_StringMatch_regex_tag)
        return validate_regex(c, validate_path(c, "%s.regex", path), s->regex);
    if (s->which_match_type == istio_StringMatch_prefix_tag && !s->prefix.n && !empty) {
        path = validate_path(c, "%s.prefix", path);
        return validate_bad(c, path, "Required",
                            "%s: must not be empty; leave the match out for any value", path);
    }
    return 0;
}

static bool token(sv name)
{
    for (size_t i = 0; i < name.n; i++) {
        char ch = name.p[i];
        if (!((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
              sv_find(SV("!#$%&'*+-.^_`|~"), ch) >= 0))
            return false;
    }
    return name.n > 0;
}

static int check_header_match(struct validating *c, const char *path, sv name,
                              const struct istio_StringMatch *s)
{
    bool pseudo = sv_eq_c(name, ":method") || sv_eq_c(name, ":scheme") ||
                  sv_eq_c(name, ":authority") || sv_eq_c(name, ":path");

    if (sv_starts(name, SV("@request.auth.claims")))
        return validate_bad(c, path, "Unsupported",
                            "%s: routing by claims of a token is for gateways, not for sidecars",
                            path);
    if (!pseudo && !token(name))
        return validate_bad(c, path, "InvalidHeader", "%s: '%.*s' is no header name", path,
                            SV_ARG(name));
    /* "*" is no expression: it says that the header is there. */
    if (s && s->which_match_type == istio_StringMatch_regex_tag && sv_eq_c(s->regex, "*"))
        return 0;
    return check_string(c, path, s, false);
}

static int check_match(struct validating *c, const char *path,
                       const struct istio_HTTPMatchRequest *m)
{
    int rc = check_string(c, validate_path(c, "%s.uri", path), m->uri, true);
    const struct {
        const char *name;
        const struct istio_StringMatch *s;
    } strings[] = {{"scheme", m->scheme}, {"method", m->method}, {"authority", m->authority}};

    for (size_t i = 0; i < 3 && !rc; i++)
        rc = check_string(c, validate_path(c, "%s.%s", path, strings[i].name), strings[i].s, false);
    for (uint32_t i = 0; i < m->headers.n && !rc; i++)
        rc = check_header_match(
            c, validate_path(c, "%s.headers.%.*s", path, SV_ARG(m->headers.v[i]->key)),
            m->headers.v[i]->key, m->headers.v[i]->value);
    for (uint32_t i = 0; i < m->without_headers.n && !rc; i++)
        rc = check_header_match(
            c,
            validate_path(c, "%s.withoutHeaders.%.*s", path, SV_ARG(m->without_headers.v[i]->key)),
            m->without_headers.v[i]->key, m->without_headers.v[i]->value);
    for (uint32_t i = 0; i < m->query_params.n && !rc; i++)
        rc = check_string(
            c, validate_path(c, "%s.queryParams.%.*s", path, SV_ARG(m->query_params.v[i]->key)),
            m->query_params.v[i]->value, false);
    if (!rc && m->port)
        rc = validate_port(c, validate_path(c, "%s.port", path), m->port);
    return rc ? rc : validate_gateways(c, path, m->gateways.v, m->gateways.n);
}

/* ---- destinations ---- */

int validate_destination(struct validating *c, const char *path, const struct istio_Destination *d,
                         int32_t weight)
{
    const char *sub;

    if (!d || !d->host.n) {
        sub = validate_path(c, "%s.destination.host", path);
        return validate_bad(c, sub, "Required", "%s: a destination needs a host", sub);
    }
    sub = validate_path(c, "%s.destination.host", path);
    if (sv_eq_c(d->host, "*"))
        return validate_bad(c, sub, "InvalidHost", "%s: '*' is no destination; name a service",
                            sub);
    if (validate_host(c, sub, d->host))
        return E_INVALID;
    if (d->port && (d->port->number < 1 || d->port->number > 65535)) {
        sub = validate_path(c, "%s.destination.port.number", path);
        return validate_bad(c, sub, "InvalidPort", "%s: must be 1 to 65535", sub);
    }
    if (weight < 0) {
        sub = validate_path(c, "%s.weight", path);
        return validate_bad(c, sub, "InvalidWeight", "%s: must not be negative", sub);
    }
    return 0;
}

static int check_header_name(struct validating *c, const char *path, sv name, bool authority)
{
    if (sv_eq_icase(name, SV("host")) || sv_eq_icase(name, SV(":authority")))
        return authority ? 0
                         : validate_bad(c, path, "InvalidHeader",
                                        "%s: %.*s can only be set, and only in requests", path,
                                        SV_ARG(name));
    return token(name) ? 0
                       : validate_bad(c, path, "InvalidHeader", "%s: '%.*s' is no header name",
                                      path, SV_ARG(name));
}

/* A value has no control bytes, and its %OPERATORS% are ones that proxies know: with an unknown one
 * they would refuse all routes of the port. */
static int check_header_value(struct validating *c, const char *path, sv value)
{
    struct substitution_opts o = {.use = SUBSTITUTION_HEADER};
    const struct substitution *f;
    struct error err = {0};
    struct arena a;
    int rc;

    for (size_t i = 0; i < value.n; i++) {
        unsigned char ch = (unsigned char)value.p[i];
        if ((ch < 0x20 && ch != '\t') || ch == 0x7f)
            return validate_bad(c, path, "InvalidHeader", "%s: has a control character", path);
    }
    arena_init(&a);
    rc = substitution_compile(value, &o, &a, &f, &err);
    if (rc)
        rc = validate_bad(c, path, "InvalidHeader", "%s: %s", path, err.msg);
    arena_free(&a);
    return rc;
}

/* authority counts how often the request gets a new one. */
static int check_operations(struct validating *c, const char *path,
                            const struct istio_Headers_HeaderOperations *o, uint32_t *authority)
{
    int rc = 0;

    for (uint32_t i = 0; o && i < o->set.n && !rc; i++) {
        const char *at = validate_path(c, "%s.set.%.*s", path, SV_ARG(o->set.v[i]->key));
        rc = check_header_name(c, at, o->set.v[i]->key, authority != NULL);
        rc = rc ? rc : check_header_value(c, at, o->set.v[i]->value);
        if (authority)
            *authority += !token(o->set.v[i]->key) || sv_eq_icase(o->set.v[i]->key, SV("host"));
    }
    for (uint32_t i = 0; o && i < o->add.n && !rc; i++) {
        const char *at = validate_path(c, "%s.add.%.*s", path, SV_ARG(o->add.v[i]->key));
        rc = check_header_name(c, at, o->add.v[i]->key, authority != NULL);
        rc = rc ? rc : check_header_value(c, at, o->add.v[i]->value);
        if (authority)
            *authority += !token(o->add.v[i]->key) || sv_eq_icase(o->add.v[i]->key, SV("host"));
    }
    for (uint32_t i = 0; o && i < o->remove.n && !rc; i++)
        rc =
            check_header_name(c, validate_path(c, "%s.remove[%u]", path, i), o->remove.v[i], false);
    return rc;
}

static int check_headers(struct validating *c, const char *path, const struct istio_Headers *h,
                         uint32_t *authority)
{
    int rc;

    if (!h)
        return 0;
    rc = check_operations(c, validate_path(c, "%s.headers.request", path), h->request, authority);
    return rc ? rc
              : check_operations(c, validate_path(c, "%s.headers.response", path), h->response,
                                 NULL);
}

static int check_destinations(struct validating *c, const char *path,
                              const struct istio_HTTPRoute *r)
{
    int64_t total = 0;
    int rc = 0;

    for (uint32_t i = 0; i < r->route.n && !rc; i++) {
        const struct istio_HTTPRouteDestination *d = r->route.v[i];
        const char *at = validate_path(c, "%s.route[%u]", path, i);
        uint32_t authority = 0;
        rc = validate_destination(c, at, d->destination, d->weight);
        rc = rc ? rc : check_headers(c, at, d->headers, &authority);
        total += d->weight;
    }
    if (!rc && r->route.n > 1 && total == 0) {
        path = validate_path(c, "%s.route", path);
        rc = validate_bad(c, path, "InvalidWeight",
                          "%s: the weights of several destinations must not all be 0", path);
    }
    return rc;
}

static int check_mirrors(struct validating *c, const char *path, const struct istio_HTTPRoute *r)
{
    int rc =
        validate_percent(c, validate_path(c, "%s.mirrorPercentage", path), r->mirror_percentage);

    if (!rc && r->mirror_percent && r->mirror_percent->value > 100) {
        path = validate_path(c, "%s.mirrorPercent", path);
        return validate_bad(c, path, "InvalidPercent", "%s: must be 0 to 100", path);
    }
    if (!rc && r->mirror && r->mirrors.n) {
        path = validate_path(c, "%s.mirrors", path);
        return validate_bad(c, path, "InvalidMirror", "%s: use mirror or mirrors, not both", path);
    }
    if (!rc && r->mirror && (!r->mirror->host.n || sv_eq_c(r->mirror->host, "*"))) {
        path = validate_path(c, "%s.mirror.host", path);
        return validate_bad(c, path, "Required", "%s: a destination needs a host", path);
    }
    if (!rc && r->mirror)
        rc = validate_host(c, validate_path(c, "%s.mirror.host", path), r->mirror->host);
    for (uint32_t i = 0; i < r->mirrors.n && !rc; i++) {
        const char *at = validate_path(c, "%s.mirrors[%u]", path, i);
        rc = validate_destination(c, at, r->mirrors.v[i]->destination, 0);
        rc = rc ? rc
                : validate_percent(c, validate_path(c, "%s.percentage", at),
                                   r->mirrors.v[i]->percentage);
    }
    return rc;
}

/* ---- rewrites, redirects, direct responses ---- */

static int check_rewrite(struct validating *c, const char *path, const struct istio_HTTPRewrite *rw)
{
    const struct istio_RegexRewrite *re = rw ? rw->uri_regex_rewrite : NULL;
    struct error err = {0};
    struct regex *compiled;
    int rc;

    if (!rw)
        return 0;
    path = validate_path(c, "%s.rewrite", path);
    if (rw->uri.n && re)
        return validate_bad(c, path, "InvalidRewrite", "%s: use uri or uriRegexRewrite, not both",
                            path);
    if (!rw->uri.n && !re && !rw->authority.n)
        return validate_bad(c, path, "Required", "%s: needs uri, uriRegexRewrite or authority",
                            path);
    if (!re)
        return 0;
    path = validate_path(c, "%s.uriRegexRewrite", path);
    if (!re->match.n || !re->rewrite.n)
        return validate_bad(c, path, "Required", "%s: needs both match and rewrite", path);
    rc = validate_regex(c, validate_path(c, "%s.match", path), re->match);
    if (rc || regex_new(re->match, REGEX_MAX_PROGRAM, &compiled, &err))
        return E_INVALID;
    path = validate_path(c, "%s.rewrite", path);
    if (regex_check_rewrite(compiled, re->rewrite, &err))
        rc = validate_bad(c, path, "InvalidRewrite", "%s: %s", path, err.msg);
    regex_free(compiled);
    return rc;
}

static int check_redirect(struct validating *c, const char *path, const struct istio_HTTPRoute *r)
{
    const struct istio_HTTPRedirect *d = r->redirect;
    uint32_t code = d ? d->redirect_code : 0;

    if (!d)
        return 0;
    path = validate_path(c, "%s.redirect", path);
    if (d->uri.n && d->prefix_rewrite.n)
        return validate_bad(c, path, "InvalidRedirect", "%s: use uri or prefixRewrite, not both",
                            path);
    for (uint32_t i = 0; d->prefix_rewrite.n && i < r->match.n; i++) {
        const struct istio_StringMatch *uri = r->match.v[i]->uri;
        if (uri && uri->which_match_type != istio_StringMatch_prefix_tag)
            return validate_bad(
                c, path, "InvalidRedirect",
                "%s: prefixRewrite needs uri matches by prefix; match[%u] is another kind", path,
                i);
    }
    if (!d->uri.n && !d->prefix_rewrite.n && !d->authority.n && !d->which_redirect_port &&
        !d->scheme.n)
        return validate_bad(c, path, "Required",
                            "%s: needs uri, prefixRewrite, authority, port, derivePort or scheme",
                            path);
    if (d->scheme.n && !sv_eq_c(d->scheme, "http") && !sv_eq_c(d->scheme, "https")) {
        path = validate_path(c, "%s.scheme", path);
        return validate_bad(c, path, "InvalidScheme", "%s: must be http or https", path);
    }
    if (code && code != 301 && code != 302 && code != 303 && code != 307 && code != 308) {
        path = validate_path(c, "%s.redirectCode", path);
        return validate_bad(c, path, "InvalidStatus", "%s: must be 301, 302, 303, 307 or 308",
                            path);
    }
    return d->which_redirect_port == istio_HTTPRedirect_port_tag
               ? validate_port(c, validate_path(c, "%s.port", path), d->port)
               : 0;
}

static int check_direct(struct validating *c, const char *path,
                        const struct istio_HTTPDirectResponse *d)
{
    size_t n = d && d->body ? d->body->string.n + d->body->bytes.n : 0;

    if (!d)
        return 0;
    path = validate_path(c, "%s.directResponse.%s", path, n > BODY_MAX ? "body" : "status");
    if (n > BODY_MAX)
        return validate_bad(c, path, "TooLarge", "%s: may have 1 MiB", path);
    return d->status < 200 || d->status > 599
               ? validate_bad(c, path, "InvalidStatus", "%s: must be 200 to 599", path)
               : 0;
}

/* ---- faults, CORS, time-outs, retries ---- */

static int check_fault(struct validating *c, const char *path,
                       const struct istio_HTTPFaultInjection *f)
{
    const struct istio_HTTPFaultInjection_Delay *d = f ? f->delay : NULL;
    const struct istio_HTTPFaultInjection_Abort *a = f ? f->abort : NULL;
    uint32_t code;
    int rc = 0;

    if (!f)
        return 0;
    path = validate_path(c, "%s.fault", path);
    if (!d && !a)
        return validate_bad(c, path, "Required", "%s: needs delay or abort", path);
    if (d) {
        const char *at = validate_path(c, "%s.delay.fixedDelay", path);
        if (d->which_http_delay_type != istio_HTTPFaultInjection_Delay_fixed_delay_tag)
            return validate_bad(c, at, "Required", "%s: how long is needed", at);
        rc = validate_duration(c, at, d->fixed_delay, false);
        rc = rc ? rc
                : validate_percent(c, validate_path(c, "%s.delay.percentage", path), d->percentage);
        if (!rc && (d->percent < 0 || d->percent > 100)) {
            at = validate_path(c, "%s.delay.percent", path);
            return validate_bad(c, at, "InvalidPercent", "%s: must be 0 to 100", at);
        }
    }
    if (rc || !a)
        return rc;
    path = validate_path(c, "%s.abort", path);
    rc = validate_percent(c, validate_path(c, "%s.percentage", path), a->percentage);
    if (rc)
        return rc;
    if (!a->which_error_type)
        return validate_bad(c, path, "Required", "%s: needs httpStatus or grpcStatus", path);
    if (a->which_error_type == istio_HTTPFaultInjection_Abort_grpc_status_tag &&
        !model_grpc_status(a->grpc_status, &code)) {
        path = validate_path(c, "%s.grpcStatus", path);
        return validate_bad(c, path, "InvalidStatus",
                            "%s: '%.*s' is no gRPC status; write e.g. UNAVAILABLE", path,
                            SV_ARG(a->grpc_status));
    }
    if (a->which_error_type == istio_HTTPFaultInjection_Abort_http_status_tag &&
        (a->http_status < 200 || a->http_status > 599)) {
        path = validate_path(c, "%s.httpStatus", path);
        return validate_bad(c, path, "InvalidStatus", "%s: must be 200 to 599", path);
    }
    return 0;
}

static int check_cors(struct validating *c, const char *path, const struct istio_CorsPolicy *p)
{
    static const char *const methods[] = {"GET",    "HEAD",    "POST",    "PUT",   "PATCH",
                                          "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"};
    int rc = 0;

    if (!p)
        return 0;
    path = validate_path(c, "%s.corsPolicy", path);
    for (uint32_t i = 0; i < p->allow_origins.n && !rc; i++) {
        const char *at = validate_path(c, "%s.allowOrigins[%u]", path, i);
        if (!p->allow_origins.v[i]->which_match_type)
            return validate_bad(c, at, "Required", "%s: needs exact, prefix or regex", at);
        rc = check_string(c, at, p->allow_origins.v[i], false);
    }
    for (uint32_t i = 0; i < p->allow_methods.n && !rc; i++) {
        bool known = false;
        const char *at = validate_path(c, "%s.allowMethods[%u]", path, i);
        for (size_t k = 0; k < sizeof methods / sizeof *methods; k++)
            known |= sv_eq_c(p->allow_methods.v[i], methods[k]);
        if (!known)
            rc = validate_bad(c, at, "InvalidMethod", "%s: '%.*s' is no method of HTTP", at,
                              SV_ARG(p->allow_methods.v[i]));
    }
    for (uint32_t i = 0; i < p->allow_headers.n && !rc; i++)
        rc = check_header_name(c, validate_path(c, "%s.allowHeaders[%u]", path, i),
                               p->allow_headers.v[i], false);
    for (uint32_t i = 0; i < p->expose_headers.n && !rc; i++)
        rc = check_header_name(c, validate_path(c, "%s.exposeHeaders[%u]", path, i),
                               p->expose_headers.v[i], false);
    path = validate_path(c, "%s.maxAge", path);
    if (!rc && p->max_age && p->max_age->nanos)
        return validate_bad(c, path, "InvalidDuration", "%s: whole seconds only", path);
    return rc ? rc : validate_duration(c, path, p->max_age, true);
}

static int check_retry_on(struct validating *c, const char *path, sv list)
{
    static const char *const known[] = {"5xx",
                                        "gateway-error",
                                        "reset",
                                        "reset-before-request",
                                        "connect-failure",
                                        "retriable-4xx",
                                        "refused-stream",
                                        "retriable-status-codes",
                                        "retriable-headers",
                                        "envoy-ratelimited",
                                        "http3-post-connect-failure",
                                        "cancelled",
                                        "deadline-exceeded",
                                        "internal",
                                        "resource-exhausted",
                                        "unavailable"};
    sv item;

    while (list.n) {
        uint64_t code = 0;
        bool ok = false;
        sv_cut(list, ',', &item, &list);
        item = sv_trim(item);
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            ok |= sv_eq_c(item, known[i]);
        ok |= !item.n || (item.n == 3 && sv_to_u64(item, &code) == 0 && code >= 100 && code <= 599);
        if (!ok)
            return validate_bad(c, path, "InvalidRetries",
                                "%s: '%.*s' is no condition for retries, and no status", path,
                                SV_ARG(item));
    }
    return 0;
}

static int check_retries(struct validating *c, const char *path, const struct istio_HTTPRetry *r)
{
    int rc;

    if (!r)
        return 0;
    path = validate_path(c, "%s.retries", path);
    if (r->attempts < 0 ||
        (!r->attempts && (r->per_try_timeout || r->retry_on.n || r->retry_remote_localities))) {
        path = validate_path(c, "%s.attempts", path);
        return validate_bad(c, path, "InvalidRetries",
                            r->attempts < 0
                                ? "%s: must not be negative"
                                : "%s: 0 switches retries off, but the rule says how to retry",
                            path);
    }
    rc =
        validate_duration(c, validate_path(c, "%s.perTryTimeout", path), r->per_try_timeout, false);
    rc = rc ? rc : validate_duration(c, validate_path(c, "%s.backoff", path), r->backoff, false);
    return rc ? rc : check_retry_on(c, validate_path(c, "%s.retryOn", path), r->retry_on);
}

/* ---- the rule ---- */

static int check_delegate(struct validating *c, const char *path, const struct istio_HTTPRoute *r,
                          bool in_delegate)
{
    const char *at = validate_path(c, "%s.delegate", path);

    if (in_delegate)
        return validate_bad(c, at, "InvalidDelegate",
                            "%s: a delegate (a VirtualService without hosts) cannot delegate", at);
    if (r->route.n || r->redirect || r->direct_response)
        return validate_bad(c, at, "InvalidDelegate",
                            "%s: a rule that delegates has no route, redirect or directResponse",
                            at);
    if (!r->delegate->name.n) {
        at = validate_path(c, "%s.name", at);
        return validate_bad(c, at, "Required", "%s: which VirtualService is needed", at);
    }
    return 0;
}

static int check_kind(struct validating *c, const char *path, const struct istio_HTTPRoute *r,
                      bool in_delegate)
{
    const char *other = r->fault ? "fault" : r->rewrite ? "rewrite" : NULL;

    if (r->delegate)
        return check_delegate(c, path, r, in_delegate);
    if ((r->route.n > 0) + (r->redirect != NULL) + (r->direct_response != NULL) != 1)
        return validate_bad(c, path, "InvalidRoute",
                            "%s: needs exactly one of route, redirect and directResponse", path);
    if (!r->route.n && other) {
        path = validate_path(c, "%s.%s", path, other);
        return validate_bad(c, path, "InvalidRoute",
                            "%s: goes with route, not with redirect or directResponse", path);
    }
    return 0;
}

int validate_http_route(struct validating *c, const char *path, const struct istio_HTTPRoute *r,
                        bool in_delegate)
{
    uint32_t authority = r->rewrite && r->rewrite->authority.n;
    int rc = check_kind(c, path, r, in_delegate);

    for (uint32_t k = 0; k < r->match.n && !rc; k++)
        rc = check_match(c, validate_path(c, "%s.match[%u]", path, k), r->match.v[k]);
    rc = rc ? rc : check_destinations(c, path, r);
    rc = rc ? rc : check_headers(c, path, r->headers, &authority);
    if (!rc && authority > 1)
        rc = validate_bad(c, path, "InvalidHeader",
                          "%s: the authority is set more than once (rewrite.authority, headers)",
                          path);
    rc = rc ? rc : check_mirrors(c, path, r);
    rc = rc ? rc : check_redirect(c, path, r);
    rc = rc ? rc : check_direct(c, path, r->direct_response);
    rc = rc ? rc : check_rewrite(c, path, r->rewrite);
    rc = rc ? rc : check_fault(c, path, r->fault);
    rc = rc ? rc : check_cors(c, path, r->cors_policy);
    rc = rc ? rc : check_retries(c, path, r->retries);
    return rc ? rc : validate_duration(c, validate_path(c, "%s.timeout", path), r->timeout, true);
}
