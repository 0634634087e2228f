/* Sidecar. */
#include "mesh/model/validate_internal.h"

#include <stdio.h>

static const struct validate_refusal refused[] = {
    {"Sidecar", "ingress", "the ports of the workload's services are served, as they are"},
    {"IstioEgressListener", "port", "hosts are seen on all of their ports; leave it out"},
    {"IstioEgressListener", "bind", "connections are intercepted wherever they go; leave it out"},
    {"IstioEgressListener", "captureMode", "connections are intercepted; leave it out"},
    {"OutboundTrafficPolicy", "egressProxy",
     "unknown hosts go where they were going, or nowhere; name them in a ServiceEntry"},
};

/* A namespace is "*", ".", "~" or a name; "~" in front of one takes its hosts out. */
static int check_egress_host(struct validating *c, const char *path, sv host)
{
    sv ns, name;
    bool ok = sv_cut(host, '/', &ns, &name) && ns.n && name.n;

    if (sv_starts(ns, SV("~")))
        ns = sv_from(ns, 1);
    ok &= !ns.n || sv_eq_c(ns, "*") || sv_eq_c(ns, ".") || validate_dns_label(ns);
    if (!ok)
        return validate_bad(c, path, "InvalidHost",
                            "%s: '%.*s' is not NAMESPACE/HOST, such as ./*, */x.test or shop/*",
                            path, SV_ARG(host));
    return validate_host(c, path, name);
}

int validate_sidecar(struct validating *c, const struct istio_Sidecar *s)
{
    char path[VALIDATE_PATH_BYTES];
    int rc =
        validate_walk(c, refused, sizeof refused / sizeof *refused, &istio_Sidecar_pb, s, "spec");

    for (uint32_t i = 0; i < s->egress.n && !rc; i++) {
        const struct istio_IstioEgressListener *e = s->egress.v[i];
        snprintf(path, sizeof path, "spec.egress[%u].hosts", i);
        if (!e->hosts.n)
            rc = validate_bad(c, path, "Required", "%s: at least one host is needed", path);
        for (uint32_t k = 0; k < e->hosts.n && !rc; k++) {
            snprintf(path, sizeof path, "spec.egress[%u].hosts[%u]", i, k);
            rc = check_egress_host(c, path, e->hosts.v[k]);
        }
    }
    if (!rc && s->workload_selector)
        rc = VALIDATE_LABELS(c, "spec.workloadSelector.labels", s->workload_selector->labels);
    if (!rc && s->inbound_connection_pool)
        rc = validate_pool(c, "spec.inboundConnectionPool", s->inbound_connection_pool);
    return rc;
}
