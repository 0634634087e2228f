/* VirtualService: hosts, gateways, TCP and TLS rules. HTTP rules: validate_http_route.c. */
#include "mesh/model/validate_internal.h"

#include "net/addr.h"

static const struct validate_refusal refused[] = {
    {"HTTPFaultInjection.Delay", "exponentialDelay", "use fixedDelay"},
    {"HTTPFaultInjection.Abort", "http2Error", "use httpStatus or grpcStatus"},
};

/* Pairs of ranges and server names of one match. */
#define COMBINATIONS_MAX 4096

/* ---- what several rules have ---- */

int validate_percent(struct validating *c, const char *path, const struct istio_Percent *p)
{
    bool ok = !p || (p->value >= 0 && p->value <= 100 && (p->value == 0 || p->value >= 0.0001));
    return ok ? 0
              : validate_bad(c, path, "InvalidPercent", "%s.value: must be 0, or 0.0001 to 100",
                             path);
}

bool validate_dns_label(sv v)
{
    for (size_t i = 0; i < v.n; i++) {
        char ch = v.p[i];
        if (!((ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9') ||
              ((ch == '-' || ch == '.') && i && i + 1 < v.n)))
            return false;
    }
    return v.n > 0 && v.n <= 253;
}

int validate_gateways(struct validating *c, const char *path, const sv *v, uint32_t n)
{
    sv ns, name;

    for (uint32_t i = 0; i < n; i++) {
        bool two = sv_cut(v[i], '/', &ns, &name);
        if (validate_dns_label(ns) && (!two || validate_dns_label(name)))
            continue;
        path = validate_path(c, "%s.gateways[%u]", path, i);
        return validate_bad(c, path, "InvalidGateway",
                            "%s: '%.*s' is neither mesh, nor NAME, nor NAMESPACE/NAME", path,
                            SV_ARG(v[i]));
    }
    return 0;
}

static int check_cidr(struct validating *c, const char *path, sv text)
{
    struct cidr x;
    return cidr_parse(&x, text)
               ? validate_bad(c, path, "InvalidAddress", "%s: '%.*s' is no address and no range",
                              path, SV_ARG(text))
               : 0;
}

/* What the matches of TCP and TLS rules have in common. */
#define CHECK_L4(rc, c, at, m)                                                                     \
    do {                                                                                           \
        for (uint32_t s_ = 0; s_ < (m)->destination_subnets.n && !(rc); s_++)                      \
            (rc) = check_cidr((c), validate_path((c), "%s.destinationSubnets[%u]", (at), s_),      \
                              (m)->destination_subnets.v[s_]);                                     \
        if (!(rc) && (m)->port)                                                                    \
            (rc) = validate_port((c), validate_path((c), "%s.port", (at)), (m)->port);             \
        if (!(rc))                                                                                 \
            (rc) = validate_gateways((c), (at), (m)->gateways.v, (m)->gateways.n);                 \
    } while (0)

static int check_route(struct validating *c, const char *path,
                       const struct istio_RouteDestination **v, uint32_t n)
{
    int64_t total = 0;
    int rc = 0;

    path = validate_path(c, "%s.route", path);
    if (!n)
        return validate_bad(c, path, "Required", "%s: at least one destination is needed", path);
    for (uint32_t k = 0; k < n && !rc; k++) {
        rc = validate_destination(c, validate_path(c, "%s[%u]", path, k), v[k]->destination,
                                  v[k]->weight);
        total += v[k]->weight;
    }
    return !rc && n > 1 && !total
               ? validate_bad(c, path, "InvalidWeight",
                              "%s: the weights of several destinations must not all be 0", path)
               : rc;
}

/* ---- TCP ---- */

static int check_tcp(struct validating *c, const char *path, const struct istio_TCPRoute *r)
{
    int rc = 0;

    for (uint32_t k = 0; k < r->match.n && !rc; k++) {
        const struct istio_L4MatchAttributes *m = r->match.v[k];
        const char *at = validate_path(c, "%s.match[%u]", path, k);
        CHECK_L4(rc, c, at, m);
        if (!rc && m->source_subnet.n)
            rc = check_cidr(c, validate_path(c, "%s.sourceSubnet", at), m->source_subnet);
    }
    return rc ? rc : check_route(c, path, r->route.v, r->route.n);
}

/* ---- TLS ---- */

/* A server name that a host of the VirtualService takes. */
static bool within_hosts(const struct istio_VirtualService *vs, sv name)
{
    for (uint32_t i = 0; i < vs->hosts.n; i++) {
        sv host = vs->hosts.v[i];
        if (sv_eq_icase(host, name) || model_wildcard_matches(host, name) ||
            /* A short name is known by its longer forms. */
            (sv_starts(name, host) && name.n > host.n && name.p[host.n] == '.' && host.n &&
             host.p[0] != '*'))
            return true;
    }
    return false;
}

static int check_tls_match(struct validating *c, const char *at,
                           const struct istio_VirtualService *vs,
                           const struct istio_TLSMatchAttributes *m)
{
    int rc = 0;

    if (!m->sni_hosts.n) {
        at = validate_path(c, "%s.sniHosts", at);
        return validate_bad(c, at, "Required", "%s: at least one server name is needed", at);
    }
    for (uint32_t i = 0; i < m->sni_hosts.n && !rc; i++) {
        const char *sub = validate_path(c, "%s.sniHosts[%u]", at, i);
        rc = validate_host(c, sub, m->sni_hosts.v[i]);
        if (!rc && !within_hosts(vs, m->sni_hosts.v[i]))
            rc = validate_bad(c, sub, "InvalidHost",
                              "%s: '%.*s' is not among the hosts of this VirtualService", sub,
                              SV_ARG(m->sni_hosts.v[i]));
    }
    CHECK_L4(rc, c, at, m);
    if (!rc && (uint64_t)m->sni_hosts.n * (m->destination_subnets.n + 1) > COMBINATIONS_MAX)
        rc = validate_bad(c, at, "TooLarge", "%s: more than %u pairs of server name and range", at,
                          COMBINATIONS_MAX);
    return rc;
}

static int check_tls(struct validating *c, const char *path, const struct istio_VirtualService *vs,
                     const struct istio_TLSRoute *r)
{
    int rc = 0;

    if (!r->match.n) {
        path = validate_path(c, "%s.match", path);
        return validate_bad(c, path, "Required", "%s: at least one match is needed", path);
    }
    for (uint32_t k = 0; k < r->match.n && !rc; k++)
        rc = check_tls_match(c, validate_path(c, "%s.match[%u]", path, k), vs, r->match.v[k]);
    return rc ? rc : check_route(c, path, r->route.v, r->route.n);
}

/* ---- the whole ---- */

/* An address, a name, or a wildcard; of HTTP also "*-suffix", which no server name of TLS can be.
 */
static int check_host(struct validating *c, const char *at, const struct istio_VirtualService *vs,
                      sv host)
{
    struct addr ip;

    if (addr_ip(&ip, host, 0) == 0)
        return 0;
    if (!vs->tls.n && host.n > 2 && host.p[0] == '*' && host.p[1] != '.' && host.p[1] != '*')
        host = sv_from(host, host.p[1] == '-' ? 2 : 1);
    return validate_host(c, at, host);
}

/* Without hosts it is a delegate, and has HTTP rules only. */
static int check_hosts(struct validating *c, const struct istio_VirtualService *vs)
{
    const char *only = vs->gateways.n ? "gateways" : vs->tls.n ? "tls" : vs->tcp.n ? "tcp" : NULL;
    int rc = 0;

    if (!vs->hosts.n && only) {
        const char *at = validate_path(c, "spec.%s", only);
        return validate_bad(
            c, at, "InvalidDelegate",
            "%s: a VirtualService without hosts is a delegate, and has http rules only", at);
    }
    for (uint32_t i = 0; i < vs->hosts.n && !rc; i++) {
        const char *at = validate_path(c, "spec.hosts[%u]", i);
        rc = check_host(c, at, vs, vs->hosts.v[i]);
        if (!rc && sv_eq_c(vs->hosts.v[i], "*") && model_for_mesh(vs->gateways.v, vs->gateways.n))
            rc = validate_bad(c, at, "InvalidHost", "%s: '*' alone would be every host of the mesh",
                              at);
        for (uint32_t k = 0; k < vs->hosts.n && !rc; k++) {
            if (k != i && ((k < i && sv_eq_icase(vs->hosts.v[i], vs->hosts.v[k])) ||
                           model_wildcard_matches(vs->hosts.v[k], vs->hosts.v[i])))
                rc = validate_bad(c, at, "Duplicate", "%s: spec.hosts[%u] takes '%.*s' already", at,
                                  k, SV_ARG(vs->hosts.v[i]));
        }
    }
    return rc;
}

int validate_virtual_service(struct validating *c, const struct istio_VirtualService *vs)
{
    int rc = validate_walk(c, refused, sizeof refused / sizeof *refused, &istio_VirtualService_pb,
                           vs, "spec");

    rc = rc ? rc : check_hosts(c, vs);
    rc = rc ? rc : validate_gateways(c, "spec", vs->gateways.v, vs->gateways.n);
    rc = rc ? rc : validate_export(c, vs->export_to.v, vs->export_to.n, false);
    if (!rc && !vs->http.n && !vs->tcp.n && !vs->tls.n)
        rc = validate_bad(c, "spec", "Required",
                          "spec: at least one of http, tcp and tls is needed");
    for (uint32_t i = 0; i < vs->http.n && !rc; i++)
        rc = validate_http_route(c, validate_path(c, "spec.http[%u]", i), vs->http.v[i],
                                 !vs->hosts.n);
    for (uint32_t i = 0; i < vs->tcp.n && !rc; i++)
        rc = check_tcp(c, validate_path(c, "spec.tcp[%u]", i), vs->tcp.v[i]);
    for (uint32_t i = 0; i < vs->tls.n && !rc; i++)
        rc = check_tls(c, validate_path(c, "spec.tls[%u]", i), vs, vs->tls.v[i]);
    return rc;
}
