/* VirtualService. */
#include "mesh/model/validate_internal.h"

#include <stdio.h>
#include "api/regex.h"

static const struct validate_refusal refused[] = {
    {"HTTPRoute", "delegate", "delegation between VirtualServices is not supported"},
    {"HTTPRoute", "fault", "fault injection is not supported"},
    {"HTTPRoute", "corsPolicy", "CORS policies are not supported"},
    {"HTTPMatchRequest", "statPrefix", "a stat prefix per match is not supported"},
    {"HTTPFaultInjection.Delay", "exponentialDelay", "use fixedDelay"},
    {"HTTPFaultInjection.Abort", "http2Error", "use httpStatus or grpcStatus"},
    {"HTTPFaultInjection.Abort", "grpcStatus", "use httpStatus"},
    {"CorsPolicy", "unmatchedPreflights", "it cannot be changed"},
    {"HTTPRetry", "retryRemoteLocalities", "it cannot be changed"},
    {"VirtualService", "tls",
     "routing of TLS by SNI is not supported; the connection is passed through"},
    {"L4MatchAttributes", "sourceSubnet", "match on port or destinationSubnets"},
};

static int check_string_match(struct validating *c, const char *path,
                              const struct istio_StringMatch *s)
{
    struct error err = {0};
    struct regex *re;

    if (!s || s->which_match_type != istio_StringMatch_regex_tag)
        return 0;
    if (regex_new(s->regex, REGEX_MAX_PROGRAM, &re, &err))
        return validate_bad(c, path, "InvalidRegex", "%s.regex: %s", path, err.msg);
    regex_free(re);
    return 0;
}

static int check_match(struct validating *c, const char *path,
                       const struct istio_HTTPMatchRequest *m)
{
    char sub[VALIDATE_PATH_BYTES];
    int rc = 0;
    const struct {
        const char *name;
        const struct istio_StringMatch *s;
    } strings[] = {
        {"uri", m->uri}, {"scheme", m->scheme}, {"method", m->method}, {"authority", m->authority}};

    for (size_t i = 0; i < 4 && !rc; i++) {
        snprintf(sub, sizeof sub, "%s.%s", path, strings[i].name);
        rc = check_string_match(c, sub, strings[i].s);
    }
    for (uint32_t i = 0; i < m->headers.n && !rc; i++) {
        snprintf(sub, sizeof sub, "%s.headers.%.*s", path, SV_ARG(m->headers.v[i]->key));
        rc = check_string_match(c, sub, m->headers.v[i]->value);
    }
    for (uint32_t i = 0; i < m->without_headers.n && !rc; i++) {
        snprintf(sub, sizeof sub, "%s.withoutHeaders.%.*s", path,
                 SV_ARG(m->without_headers.v[i]->key));
        rc = check_string_match(c, sub, m->without_headers.v[i]->value);
    }
    for (uint32_t i = 0; i < m->query_params.n && !rc; i++) {
        snprintf(sub, sizeof sub, "%s.queryParams.%.*s", path, SV_ARG(m->query_params.v[i]->key));
        rc = check_string_match(c, sub, m->query_params.v[i]->value);
    }
    return rc;
}

static int check_destination(struct validating *c, const char *path,
                             const struct istio_Destination *d, int32_t weight)
{
    char sub[VALIDATE_PATH_BYTES];

    if (!d || !d->host.n) {
        snprintf(sub, sizeof sub, "%s.destination.host", path);
        return validate_bad(c, sub, "Required", "%s: a destination needs a host", sub);
    }
    if (d->port && (d->port->number < 1 || d->port->number > 65535)) {
        snprintf(sub, sizeof sub, "%s.destination.port.number", path);
        return validate_bad(c, sub, "InvalidPort", "%s: must be 1 to 65535", sub);
    }
    if (weight < 0) {
        snprintf(sub, sizeof sub, "%s.weight", path);
        return validate_bad(c, sub, "InvalidWeight", "%s: must not be negative", sub);
    }
    return 0;
}

static int check_actions(struct validating *c, const char *path, const struct istio_HTTPRoute *r)
{
    char sub[VALIDATE_PATH_BYTES];
    int kinds = (r->route.n > 0) + (r->redirect != NULL) + (r->direct_response != NULL);
    int64_t total = 0;
    int rc;

    if (kinds != 1)
        return validate_bad(c, path, "InvalidRoute",
                            "%s: needs exactly one of route, redirect and directResponse", path);
    for (uint32_t i = 0; i < r->route.n; i++) {
        snprintf(sub, sizeof sub, "%s.route[%u]", path, i);
        rc = check_destination(c, sub, r->route.v[i]->destination, r->route.v[i]->weight);
        if (rc)
            return rc;
        total += r->route.v[i]->weight;
    }
    if (r->route.n > 1 && total == 0) {
        snprintf(sub, sizeof sub, "%s.route", path);
        return validate_bad(c, sub, "InvalidWeight",
                            "%s: the weights of several destinations must not all be 0", sub);
    }
    if (r->direct_response &&
        (r->direct_response->status < 200 || r->direct_response->status > 599)) {
        snprintf(sub, sizeof sub, "%s.directResponse.status", path);
        return validate_bad(c, sub, "InvalidStatus", "%s: must be 200 to 599", sub);
    }
    if (r->redirect && r->redirect->redirect_code &&
        (r->redirect->redirect_code < 301 || r->redirect->redirect_code > 308 ||
         (r->redirect->redirect_code > 303 && r->redirect->redirect_code < 307))) {
        snprintf(sub, sizeof sub, "%s.redirect.redirectCode", path);
        return validate_bad(c, sub, "InvalidStatus", "%s: must be 301, 302, 303, 307 or 308", sub);
    }
    return 0;
}

static int check_route_rest(struct validating *c, const char *path, const struct istio_HTTPRoute *r)
{
    char sub[VALIDATE_PATH_BYTES];
    int rc = 0;

    if (r->timeout && (r->timeout->seconds < 0 || r->timeout->nanos < 0)) {
        snprintf(sub, sizeof sub, "%s.timeout", path);
        return validate_bad(c, sub, "InvalidDuration", "%s: must not be negative", sub);
    }
    if (r->retries && r->retries->attempts < 0) {
        snprintf(sub, sizeof sub, "%s.retries.attempts", path);
        return validate_bad(c, sub, "InvalidRetries", "%s: must not be negative", sub);
    }
    if (r->mirror && r->mirrors.n) {
        snprintf(sub, sizeof sub, "%s.mirrors", path);
        return validate_bad(c, sub, "InvalidMirror", "%s: use mirror or mirrors, not both", path);
    }
    for (uint32_t i = 0; i < r->mirrors.n && !rc; i++) {
        snprintf(sub, sizeof sub, "%s.mirrors[%u]", path, i);
        rc = check_destination(c, sub, r->mirrors.v[i]->destination, 0);
    }
    if (r->rewrite && r->rewrite->uri.n && r->rewrite->uri_regex_rewrite) {
        snprintf(sub, sizeof sub, "%s.rewrite", path);
        return validate_bad(c, sub, "InvalidRewrite", "%s: use uri or uriRegexRewrite, not both",
                            sub);
    }
    return rc;
}

int validate_virtual_service(struct validating *c, const struct istio_VirtualService *vs)
{
    char path[VALIDATE_PATH_BYTES];
    int rc = validate_walk(c, refused, sizeof refused / sizeof *refused, &istio_VirtualService_pb,
                           vs, "spec");

    if (rc)
        return rc;
    if (!vs->hosts.n)
        return validate_bad(c, "spec.hosts", "Required", "spec.hosts: at least one host is needed");
    for (uint32_t i = 0; i < vs->hosts.n && !rc; i++) {
        snprintf(path, sizeof path, "spec.hosts[%u]", i);
        rc = validate_host(c, path, vs->hosts.v[i]);
    }
    if (!rc && !vs->http.n && !vs->tcp.n && !vs->tls.n)
        rc = validate_bad(c, "spec", "Required",
                          "spec: at least one of http, tcp and tls is needed");
    for (uint32_t i = 0; i < vs->http.n && !rc; i++) {
        const struct istio_HTTPRoute *r = vs->http.v[i];
        snprintf(path, sizeof path, "spec.http[%u]", i);
        for (uint32_t k = 0; k < r->match.n && !rc; k++) {
            char sub[VALIDATE_PATH_BYTES];
            snprintf(sub, sizeof sub, "spec.http[%u].match[%u]", i, k);
            rc = check_match(c, sub, r->match.v[k]);
        }
        rc = rc ? rc : check_actions(c, path, r);
        rc = rc ? rc : check_route_rest(c, path, r);
    }
    for (uint32_t i = 0; i < vs->tcp.n && !rc; i++) {
        for (uint32_t k = 0; k < vs->tcp.v[i]->route.n && !rc; k++) {
            snprintf(path, sizeof path, "spec.tcp[%u].route[%u]", i, k);
            rc = check_destination(c, path, vs->tcp.v[i]->route.v[k]->destination,
                                   vs->tcp.v[i]->route.v[k]->weight);
        }
        if (!rc && !vs->tcp.v[i]->route.n) {
            snprintf(path, sizeof path, "spec.tcp[%u].route", i);
            rc = validate_bad(c, path, "Required", "%s: at least one destination is needed", path);
        }
    }
    return rc;
}
