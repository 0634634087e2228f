#include "mesh/model/validate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "api/google.pb.h"
#include "api/istio.pb.h"
#include "api/node.h"
#include "api/pb.h"
#include "api/regex.h"

#define PATH_MAX_BYTES 512

struct check {
    const struct node *doc;
    struct arena *a;
    struct model_problem *p;
};

/* Fields of the published API that are read but not carried out; a remedy in the user's words. */
static const struct {
    const char *message, *field, *reason;
} not_carried_out[] = {
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
    {"TrafficPolicy", "tunnel", "tunnelling through CONNECT is not supported"},
    {"TrafficPolicy", "proxyProtocol", "the PROXY protocol to upstreams is not supported"},
    {"TrafficPolicy", "retryBudget", "use connectionPool.http.maxRetries"},
    {"TrafficPolicy", "outlierDetection", "outlier detection is not supported"},
    {"LoadBalancerSettings", "consistentHash", "consistent hashing is not supported"},
    {"LoadBalancerSettings", "localityLbSetting", "locality settings are not supported"},
    {"LoadBalancerSettings", "zoneAwareLbSetting", "zone-aware balancing is not supported"},
    {"LoadBalancerSettings", "warmupDurationSecs", "slow start is not supported"},
    {"LoadBalancerSettings", "warmup", "slow start is not supported"},
    {"ConnectionPoolSettings.HTTPSettings", "useClientProtocol", "use h2UpgradePolicy"},
    {"ConnectionPoolSettings.HTTPSettings", "http2KeepAlive",
     "HTTP/2 keep-alive pings are not supported"},
    {"ConnectionPoolSettings.TCPSettings", "idleTimeout", "idle timeouts of TCP are not supported"},
    {"ClientTLSSettings", "credentialName", "use files, or mode ISTIO_MUTUAL"},
    {"ClientTLSSettings", "caCrl", "revocation lists are not supported here"},
    {"DestinationRule", "workloadSelector", "a rule holds for every client of its host"},
    {"L4MatchAttributes", "sourceSubnet", "match on port or destinationSubnets"},
};

static int bad(struct check *c, const char *path, const char *code, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
static int bad(struct check *c, const char *path, const char *code, const char *fmt, ...)
{
    char text[1024];
    const struct node *at = c->doc ? model_node_at(c->doc, path) : NULL;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    c->p->severity = MODEL_ERROR;
    if (at)
        c->p->line = at->line;
    c->p->field = arena_sv(c->a, sv_of(path));
    c->p->code = arena_sv(c->a, sv_of(code));
    c->p->text = arena_sv(c->a, sv_of(text));
    return E_INVALID;
}

const struct node *model_node_at(const struct node *doc, const char *path)
{
    const struct node *n = doc;
    char key[128];

    while (*path) {
        const struct node *next = NULL;
        size_t len = strcspn(path, ".[");
        if (*path == '[') {
            unsigned long i = strtoul(path + 1, NULL, 10);
            path += strcspn(path, "]");
            path += *path == ']';
            if (n->kind == NODE_SEQ && i < n->n)
                next = n->v[i];
        } else {
            if (len >= sizeof key)
                return n;
            memcpy(key, path, len);
            key[len] = 0;
            next = node_get(n, key);
            path += len;
        }
        path += *path == '.';
        if (!next)
            return n;
        n = next;
    }
    return n;
}

/* ---- fields that are not carried out ---- */

static const char *reason_of(const struct pb_message *m, const struct pb_field *f)
{
    static const char package[] = "istio.networking.v1alpha3.";
    const char *name = m->full_name;

    if (strncmp(name, package, sizeof package - 1) != 0)
        return NULL;
    name += sizeof package - 1;
    for (size_t i = 0; i < sizeof not_carried_out / sizeof *not_carried_out; i++) {
        if (strcmp(not_carried_out[i].message, name) == 0 &&
            strcmp(not_carried_out[i].field, f->json) == 0)
            return not_carried_out[i].reason;
    }
    return NULL;
}

struct any_list {
    void *v;
    uint32_t n;
};

static bool field_set(const void *msg, const struct pb_field *f)
{
    const char *at = (const char *)msg + f->offset;

    if (f->label == PB_ONEOF)
        return *(const uint32_t *)((const char *)msg + f->has_offset) == f->number;
    if (f->label == PB_OPTIONAL)
        return *(const bool *)((const char *)msg + f->has_offset);
    if (f->label == PB_REPEATED || f->label == PB_MAP)
        return ((const struct any_list *)at)->n > 0;
    switch (f->kind) {
    case PB_MESSAGE:
        return *(void *const *)at != NULL;
    case PB_STRING:
    case PB_BYTES:
        return ((const sv *)at)->n > 0;
    case PB_BOOL:
        return *(const bool *)at;
    case PB_DOUBLE:
    case PB_INT64:
    case PB_UINT64:
        return *(const uint64_t *)at != 0;
    default:
        return *(const uint32_t *)at != 0;
    }
}

static int walk(struct check *c, const struct pb_message *m, const void *msg, const char *path)
{
    char sub[PATH_MAX_BYTES];
    int rc = 0;

    for (uint32_t i = 0; i < m->n_fields && !rc; i++) {
        const struct pb_field *f = &m->fields[i];
        const char *at = (const char *)msg + f->offset, *why;
        if (!field_set(msg, f))
            continue;
        snprintf(sub, sizeof sub, "%s%s%s", path, *path ? "." : "", f->json);
        why = reason_of(m, f);
        if (why)
            return bad(c, sub, "Unsupported", "%s: not supported by weft: %s", sub, why);
        if (f->kind != PB_MESSAGE)
            continue;
        if (f->label != PB_REPEATED && f->label != PB_MAP) {
            rc = walk(c, f->type, *(void *const *)at, sub);
            continue;
        }
        const struct any_list *list = (const void *)at;
        for (uint32_t k = 0; k < list->n && !rc; k++) {
            snprintf(sub, sizeof sub, "%s%s%s[%u]", path, *path ? "." : "", f->json, k);
            rc = walk(c, f->type, ((void *const *)list->v)[k], sub);
        }
    }
    return rc;
}

/* ---- VirtualService ---- */

static int check_string_match(struct check *c, const char *path, const struct istio_StringMatch *s)
{
    struct error err = {0};
    struct regex *re;

    if (!s || s->which_match_type != istio_StringMatch_regex_tag)
        return 0;
    if (regex_new(s->regex, REGEX_MAX_PROGRAM, &re, &err))
        return bad(c, path, "InvalidRegex", "%s.regex: %s", path, err.msg);
    regex_free(re);
    return 0;
}

static int check_match(struct check *c, const char *path, const struct istio_HTTPMatchRequest *m)
{
    char sub[PATH_MAX_BYTES];
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

static int check_destination(struct check *c, const char *path, const struct istio_Destination *d,
                             int32_t weight)
{
    char sub[PATH_MAX_BYTES];

    if (!d || !d->host.n) {
        snprintf(sub, sizeof sub, "%s.destination.host", path);
        return bad(c, sub, "Required", "%s: a destination needs a host", sub);
    }
    if (d->port && (d->port->number < 1 || d->port->number > 65535)) {
        snprintf(sub, sizeof sub, "%s.destination.port.number", path);
        return bad(c, sub, "InvalidPort", "%s: must be 1 to 65535", sub);
    }
    if (weight < 0) {
        snprintf(sub, sizeof sub, "%s.weight", path);
        return bad(c, sub, "InvalidWeight", "%s: must not be negative", sub);
    }
    return 0;
}

static int check_actions(struct check *c, const char *path, const struct istio_HTTPRoute *r)
{
    char sub[PATH_MAX_BYTES];
    int kinds = (r->route.n > 0) + (r->redirect != NULL) + (r->direct_response != NULL);
    int64_t total = 0;
    int rc;

    if (kinds != 1)
        return bad(c, path, "InvalidRoute",
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
        return bad(c, sub, "InvalidWeight",
                   "%s: the weights of several destinations must not all be 0", sub);
    }
    if (r->direct_response &&
        (r->direct_response->status < 200 || r->direct_response->status > 599)) {
        snprintf(sub, sizeof sub, "%s.directResponse.status", path);
        return bad(c, sub, "InvalidStatus", "%s: must be 200 to 599", sub);
    }
    if (r->redirect && r->redirect->redirect_code &&
        (r->redirect->redirect_code < 301 || r->redirect->redirect_code > 308 ||
         (r->redirect->redirect_code > 303 && r->redirect->redirect_code < 307))) {
        snprintf(sub, sizeof sub, "%s.redirect.redirectCode", path);
        return bad(c, sub, "InvalidStatus", "%s: must be 301, 302, 303, 307 or 308", sub);
    }
    return 0;
}

static int check_route_rest(struct check *c, const char *path, const struct istio_HTTPRoute *r)
{
    char sub[PATH_MAX_BYTES];
    int rc = 0;

    if (r->timeout && (r->timeout->seconds < 0 || r->timeout->nanos < 0)) {
        snprintf(sub, sizeof sub, "%s.timeout", path);
        return bad(c, sub, "InvalidDuration", "%s: must not be negative", sub);
    }
    if (r->retries && r->retries->attempts < 0) {
        snprintf(sub, sizeof sub, "%s.retries.attempts", path);
        return bad(c, sub, "InvalidRetries", "%s: must not be negative", sub);
    }
    if (r->mirror && r->mirrors.n) {
        snprintf(sub, sizeof sub, "%s.mirrors", path);
        return bad(c, sub, "InvalidMirror", "%s: use mirror or mirrors, not both", path);
    }
    for (uint32_t i = 0; i < r->mirrors.n && !rc; i++) {
        snprintf(sub, sizeof sub, "%s.mirrors[%u]", path, i);
        rc = check_destination(c, sub, r->mirrors.v[i]->destination, 0);
    }
    if (r->rewrite && r->rewrite->uri.n && r->rewrite->uri_regex_rewrite) {
        snprintf(sub, sizeof sub, "%s.rewrite", path);
        return bad(c, sub, "InvalidRewrite", "%s: use uri or uriRegexRewrite, not both", sub);
    }
    return rc;
}

static int check_host(struct check *c, const char *path, sv host)
{
    bool ok = host.n > 0 && host.n <= 253;
    for (size_t i = 0; i < host.n && ok; i++) {
        char ch = host.p[i];
        ok = (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9') || ch == '-' || ch == '.' ||
             (ch == '*' && i == 0 && (host.n == 1 || host.p[1] == '.')) ||
             (ch >= 'A' && ch <= 'Z') || ch == '_';
    }
    return ok ? 0
              : bad(c, path, "InvalidHost",
                    "%s: '%.*s' is no host name; a wildcard is '*' or '*.suffix'", path,
                    SV_ARG(host));
}

static int check_virtual_service(struct check *c, const struct istio_VirtualService *vs)
{
    char path[PATH_MAX_BYTES];
    int rc = 0;

    if (!vs->hosts.n)
        return bad(c, "spec.hosts", "Required", "spec.hosts: at least one host is needed");
    for (uint32_t i = 0; i < vs->hosts.n && !rc; i++) {
        snprintf(path, sizeof path, "spec.hosts[%u]", i);
        rc = check_host(c, path, vs->hosts.v[i]);
    }
    if (!rc && !vs->http.n && !vs->tcp.n && !vs->tls.n)
        rc = bad(c, "spec", "Required", "spec: at least one of http, tcp and tls is needed");
    for (uint32_t i = 0; i < vs->http.n && !rc; i++) {
        const struct istio_HTTPRoute *r = vs->http.v[i];
        snprintf(path, sizeof path, "spec.http[%u]", i);
        for (uint32_t k = 0; k < r->match.n && !rc; k++) {
            char sub[PATH_MAX_BYTES];
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
            rc = bad(c, path, "Required", "%s: at least one destination is needed", path);
        }
    }
    return rc;
}

/* ---- DestinationRule ---- */

static int check_destination_rule(struct check *c, const struct istio_DestinationRule *r)
{
    char path[PATH_MAX_BYTES];

    if (!r->host.n)
        return bad(c, "spec.host", "Required", "spec.host: a host is needed");
    for (uint32_t i = 0; i < r->subsets.n; i++) {
        snprintf(path, sizeof path, "spec.subsets[%u].name", i);
        if (!r->subsets.v[i]->name.n)
            return bad(c, path, "Required", "%s: a subset needs a name", path);
        for (uint32_t k = 0; k < i; k++) {
            if (sv_eq(r->subsets.v[i]->name, r->subsets.v[k]->name))
                return bad(c, path, "Duplicate", "%s: subset '%.*s' is defined twice", path,
                           SV_ARG(r->subsets.v[i]->name));
        }
    }
    return 0;
}

int model_validate(const struct model_object *o, const struct node *doc, struct arena *a,
                   struct model_problem *problem)
{
    struct check c = {.doc = doc, .a = a, .p = problem};
    int rc;

    switch (o->kind) {
    case MODEL_VIRTUAL_SERVICE:
        rc = walk(&c, &istio_VirtualService_pb, o->spec, "spec");
        return rc ? rc : check_virtual_service(&c, o->spec);
    case MODEL_DESTINATION_RULE:
        rc = walk(&c, &istio_DestinationRule_pb, o->spec, "spec");
        return rc ? rc : check_destination_rule(&c, o->spec);
    case MODEL_WORKLOAD_ENTRY:
        if (!((const struct istio_WorkloadEntry *)o->spec)->address.n)
            return bad(&c, "spec.address", "Required", "spec.address: an address is needed");
        return 0;
    default:
        return 0;
    }
}
