/* ServiceEntry and WorkloadEntry. */
#include "mesh/model/validate_internal.h"

#include <stdio.h>
#include "net/addr.h"

static const struct validate_refusal refused[] = {
    {"ServiceEntryStatus", "conditions", "a status is written for people, and not read"},
    {"ServiceEntryStatus", "validationMessages", "a status is written for people, and not read"},
    {"ServiceEntryStatus", "observedGeneration", "a status is written for people, and not read"},
    {"ServiceEntryStatus", "addresses",
     "automatic addresses are made from the host's name, the same everywhere, and not read"},
};

/* The weights of a service's endpoints are added up in 32 bits. */
#define WEIGHT_MAX 1000000u

#define PATH(buf, ...) (snprintf(buf, sizeof buf, __VA_ARGS__), buf)

static bool is_ip(sv v)
{
    struct addr a;
    return addr_ip(&a, v, 0) == 0;
}

/* ---- WorkloadEntry, alone or inside a ServiceEntry ---- */

static int check_unix(struct validating *c, const char *path, const struct istio_WorkloadEntry *w)
{
    sv file = sv_from(w->address, 7);

    if (!file.n || (file.p[0] != '/' && file.p[0] != '@') || file.p[file.n - 1] == '/')
        return validate_bad(c, path, "InvalidAddress",
                            "%s: a Unix socket is 'unix:///path' or 'unix://@name'", path);
    if (w->ports.n)
        return validate_bad(c, path, "InvalidAddress", "%s: a Unix socket has no ports", path);
    return 0;
}

static int check_workload(struct validating *c, const char *base,
                          const struct istio_WorkloadEntry *w)
{
    char path[VALIDATE_PATH_BYTES];
    int rc = 0;

    PATH(path, "%s.address", base);
    if (!w->address.n)
        return validate_bad(c, path, "Required", "%s: an address is needed", path);
    if (sv_starts(w->address, SV("unix://")))
        rc = check_unix(c, path, w);
    else if (!is_ip(w->address))
        rc = w->address.p[0] == '*'
                 ? validate_bad(c, path, "InvalidAddress", "%s: must not be a wildcard", path)
                 : validate_host(c, path, w->address);
    PATH(path, "%s.weight", base);
    if (!rc && w->weight > WEIGHT_MAX)
        rc = validate_bad(c, path, "InvalidWeight", "%s: must be at most %u", path, WEIGHT_MAX);
    for (uint32_t i = 0; i < w->ports.n && !rc; i++)
        rc = validate_port(c, PATH(path, "%s.ports.%.*s", base, SV_ARG(w->ports.v[i]->key)),
                           w->ports.v[i]->value);
    return rc;
}

int validate_workload_entry(struct validating *c, const struct istio_WorkloadEntry *w)
{
    return check_workload(c, "spec", w);
}

/* ---- ServiceEntry ---- */

static int check_ports(struct validating *c, const struct istio_ServiceEntry *e)
{
    static const char *const known[] = {"HTTP", "HTTPS", "GRPC",  "GRPC-WEB", "HTTP2", "TCP",
                                        "TLS",  "UDP",   "MONGO", "MYSQL",    "REDIS"};
    char path[VALIDATE_PATH_BYTES];

    for (uint32_t i = 0; i < e->ports.n; i++) {
        const struct istio_ServicePort *p = e->ports.v[i];
        bool ok = !p->protocol.n;
        int rc = validate_port(c, PATH(path, "spec.ports[%u].number", i), p->number);
        if (!rc && p->target_port)
            rc = validate_port(c, PATH(path, "spec.ports[%u].targetPort", i), p->target_port);
        if (rc)
            return rc;
        PATH(path, "spec.ports[%u].protocol", i);
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            ok |= sv_eq_icase(p->protocol, sv_of(known[k]));
        if (!ok)
            return validate_bad(c, path, "InvalidProtocol",
                                "%s: '%.*s' is not one of HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, TCP, "
                                "TLS, UDP, MONGO, MYSQL, REDIS",
                                path, SV_ARG(p->protocol));
        PATH(path, "spec.ports[%u].name", i);
        if (!p->name.n)
            return validate_bad(c, path, "Required", "%s: a port needs a name", path);
        for (uint32_t k = 0; k < i; k++) {
            if (e->ports.v[k]->number == p->number || sv_eq(e->ports.v[k]->name, p->name))
                return validate_bad(c, path, "Duplicate",
                                    "%s: two ports have the same number or name", path);
        }
    }
    return 0;
}

static int check_addresses(struct validating *c, const struct istio_ServiceEntry *e)
{
    bool by_name = e->resolution == istio_ServiceEntry_DNS ||
                   e->resolution == istio_ServiceEntry_DNS_ROUND_ROBIN;
    char path[VALIDATE_PATH_BYTES];

    for (uint32_t i = 0; i < e->addresses.n; i++) {
        sv ip, bits;
        bool cidr = sv_cut(e->addresses.v[i], '/', &ip, &bits);
        uint64_t n = 0;
        PATH(path, "spec.addresses[%u]", i);
        if (!is_ip(ip) ||
            (cidr && (sv_to_u64(bits, &n) || n > (sv_find(ip, ':') >= 0 ? 128u : 32u))))
            return validate_bad(c, path, "InvalidAddress",
                                "%s: '%.*s' is neither an IP address nor a range", path,
                                SV_ARG(e->addresses.v[i]));
        if (cidr && by_name)
            return validate_bad(c, path, "InvalidAddress",
                                "%s: ranges go only with resolution NONE or STATIC", path);
    }
    return 0;
}

/* Names of an endpoint's ports are those of the service's ports. */
static int check_port_names(struct validating *c, const char *base,
                            const struct istio_ServiceEntry *e, const struct istio_WorkloadEntry *w)
{
    char path[VALIDATE_PATH_BYTES];

    for (uint32_t i = 0; i < w->ports.n; i++) {
        bool known = false;
        for (uint32_t k = 0; k < e->ports.n; k++)
            known |= sv_eq(e->ports.v[k]->name, w->ports.v[i]->key);
        PATH(path, "%s.ports.%.*s", base, SV_ARG(w->ports.v[i]->key));
        if (!known)
            return validate_bad(c, path, "PortNotFound",
                                "%s: spec.ports has no port of this name; correct it", path);
    }
    return 0;
}

static int check_endpoints(struct validating *c, const struct istio_ServiceEntry *e)
{
    char path[VALIDATE_PATH_BYTES];
    int rc = 0;

    if (e->endpoints.n && e->workload_selector)
        return validate_bad(c, "spec.endpoints", "InvalidValue",
                            "spec.endpoints: use endpoints or workloadSelector, not both");
    if (e->endpoints.n && e->resolution == istio_ServiceEntry_NONE)
        return validate_bad(c, "spec.endpoints", "InvalidValue",
                            "spec.endpoints: resolution NONE goes where the connection was going");
    if (e->endpoints.n > 1 && e->resolution == istio_ServiceEntry_DNS_ROUND_ROBIN)
        return validate_bad(c, "spec.endpoints", "InvalidValue",
                            "spec.endpoints: DNS_ROUND_ROBIN has at most one endpoint");
    for (uint32_t i = 0; i < e->endpoints.n && !rc; i++) {
        const struct istio_WorkloadEntry *w = e->endpoints.v[i];
        bool unix_ = sv_starts(w->address, SV("unix://"));
        rc = check_workload(c, PATH(path, "spec.endpoints[%u]", i), w);
        rc = rc ? rc : check_port_names(c, path, e, w);
        PATH(path, "spec.endpoints[%u].address", i);
        if (!rc && e->resolution == istio_ServiceEntry_STATIC && !unix_ && !is_ip(w->address))
            rc = validate_bad(c, path, "InvalidAddress",
                              "%s: must be an IP address; names need resolution DNS", path);
        if (!rc && unix_ && (e->resolution != istio_ServiceEntry_STATIC || e->ports.n != 1))
            rc = validate_bad(c, path, "InvalidAddress",
                              "%s: a Unix socket needs resolution STATIC and exactly one port",
                              path);
    }
    return rc;
}

int validate_service_entry(struct validating *c, const struct istio_ServiceEntry *e)
{
    bool by_name = e->resolution == istio_ServiceEntry_DNS ||
                   e->resolution == istio_ServiceEntry_DNS_ROUND_ROBIN;
    char path[VALIDATE_PATH_BYTES];
    int rc = validate_walk(c, refused, sizeof refused / sizeof *refused, &istio_ServiceEntry_pb, e,
                           "spec");

    if (rc)
        return rc;
    if (e->resolution == istio_ServiceEntry_DYNAMIC_DNS)
        return validate_bad(c, "spec.resolution", "Unsupported",
                            "spec.resolution: not supported by weft: names of wildcards cannot be "
                            "resolved one by one; use NONE");
    if (!e->hosts.n)
        return validate_bad(c, "spec.hosts", "Required", "spec.hosts: at least one host is needed");
    for (uint32_t i = 0; i < e->hosts.n && !rc; i++) {
        PATH(path, "spec.hosts[%u]", i);
        rc = validate_host(c, path, e->hosts.v[i]);
        if (!rc && sv_eq_c(e->hosts.v[i], "*"))
            rc = validate_bad(c, path, "InvalidHost", "%s: '*' alone would be every host", path);
        if (!rc && by_name && e->hosts.v[i].p[0] == '*' && !e->endpoints.n)
            rc = validate_bad(c, path, "InvalidHost",
                              "%s: a wildcard cannot be resolved; give endpoints, or use NONE",
                              path);
    }
    if (!rc && e->workload_selector)
        rc = VALIDATE_LABELS(c, "spec.workloadSelector.labels", e->workload_selector->labels);
    rc = rc ? rc : validate_export(c, e->export_to.v, e->export_to.n, true);
    rc = rc ? rc : check_ports(c, e);
    rc = rc ? rc : check_addresses(c, e);
    return rc ? rc : check_endpoints(c, e);
}
