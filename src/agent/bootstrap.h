/* The Envoy v3 bootstrap of a sidecar, and the configuration of its agent: pure, JSON text out.
 *
 * The bootstrap is what weft-proxy and Envoy both run: node identity and metadata as Istio's, ADS
 * (delta) from the control plane over mTLS, admin on loopback, and the ports that people and probes
 * know: 15021 /healthz/ready, 15090 and 15020 /stats/prometheus. Thread: any. */
#ifndef WEFT_AGENT_BOOTSTRAP_H
#define WEFT_AGENT_BOOTSTRAP_H

#include <stdbool.h>
#include <stdint.h>
#include "base/strbuf.h"
#include "base/sv.h"

struct bootstrap_label {
    sv key, value;
};

struct bootstrap {
    sv name, ns, service_account, address;
    const struct bootstrap_label *labels;
    uint32_t n_labels;
    sv mesh;          /* CLUSTER_ID */
    sv domain_suffix; /* cluster.local */
    sv trust_domain;
    sv discovery_address; /* "IP:PORT" */
    sv roots;             /* PEM */
    uint16_t admin_port, outbound_port, inbound_port, health_port, stats_port, merged_stats_port;
    bool dns_capture;
    uint32_t mark; /* SO_MARK of upstream sockets, 0 none */
    sv sds_socket; /* Unix socket of the agent, for a proxy without one inside; or empty */
};

#define BOOTSTRAP_DNS_PORT 15053

/* Ports as Istio has them, everything else empty. */
void bootstrap_init(struct bootstrap *b);
/* Whether a sidecar listens at this port in the workload's namespace, so that nothing else can. */
bool bootstrap_own_port(uint16_t port);
void bootstrap_json(const struct bootstrap *b, struct strbuf *out);

#endif
