/* DestinationRule. */
#include "mesh/model/validate_internal.h"

#include <stdio.h>

static const struct validate_refusal refused[] = {
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
};

int validate_destination_rule(struct validating *c, const struct istio_DestinationRule *r)
{
    char path[VALIDATE_PATH_BYTES];
    int rc = validate_walk(c, refused, sizeof refused / sizeof *refused, &istio_DestinationRule_pb,
                           r, "spec");

    if (rc)
        return rc;
    if (!r->host.n)
        return validate_bad(c, "spec.host", "Required", "spec.host: a host is needed");
    for (uint32_t i = 0; i < r->subsets.n; i++) {
        snprintf(path, sizeof path, "spec.subsets[%u].name", i);
        if (!r->subsets.v[i]->name.n)
            return validate_bad(c, path, "Required", "%s: a subset needs a name", path);
        for (uint32_t k = 0; k < i; k++) {
            if (sv_eq(r->subsets.v[i]->name, r->subsets.v[k]->name))
                return validate_bad(c, path, "Duplicate", "%s: subset '%.*s' is defined twice",
                                    path, SV_ARG(r->subsets.v[i]->name));
        }
    }
    return 0;
}
