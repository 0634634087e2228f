/* Interception of a workload's traffic by nftables, in the calling process' network namespace.
 *
 *   output       the proxy's own (mark) -> as it is; DNS (53) -> 15053; loopback, excluded -> as it
 * is; other TCP -> 15001 prerouting   from eth0: 15020, 15021, 15090, excluded ports -> as it is;
 * other TCP -> 15006
 *
 * IPv4 and IPv6. The proxy's sockets carry a mark (SO_MARK), which works for one user, in user
 * namespaces, and for any proxy whose bootstrap sets the socket option. One table, `inet weft`,
 * which intercept_remove deletes whole. Thread: any. */
#ifndef WEFT_AGENT_INTERCEPT_H
#define WEFT_AGENT_INTERCEPT_H

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "base/strbuf.h"
#include "base/sv.h"

#define INTERCEPT_MARK 1337

struct intercept {
    uint16_t outbound_port, inbound_port, dns_port; /* dns_port 0: DNS is not captured */
    uint32_t mark;                                  /* 0: INTERCEPT_MARK */
    const uint16_t *exclude_inbound_ports;
    uint32_t n_exclude_inbound_ports;
    const uint16_t *exclude_outbound_ports;
    uint32_t n_exclude_outbound_ports;
    const sv *exclude_outbound_cidrs; /* IPv4 or IPv6, checked */
    uint32_t n_exclude_outbound_cidrs;
};

/* The rules as text, as `nft -f` takes them. E_INVALID names a bad CIDR. */
int intercept_rules(const struct intercept *i, struct strbuf *out, struct error *err) MUST_CHECK;
/* Replaces the table in one transaction. */
int intercept_apply(const struct intercept *i, struct error *err) MUST_CHECK;
int intercept_remove(struct error *err);

#endif
