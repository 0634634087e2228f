/* The few rtnetlink requests that a workload's network needs: bridge, veth pair, addresses, routes.
 * Blocking; each acts in the calling thread's network namespace. Errors are whole sentences.
 * Thread: any, one caller at a time. */
#ifndef WEFT_AGENT_NETLINK_H
#define WEFT_AGENT_NETLINK_H

#include <stdint.h>
#include "base/error.h"
#include "net/addr.h"

/* A link is made up or down by name. */
int netlink_up(const char *name, struct error *err) MUST_CHECK;
/* A bridge; E_EXISTS when there is one of that name. Its hardware address is given: left to itself
 * a bridge takes the lowest of its ports', and changes it when that one goes. Its neighbours then
 * keep sending to the old one until their tables age, for most of a minute. */
int netlink_bridge(const char *name, const uint8_t mac[6], struct error *err) MUST_CHECK;
/* A veth pair: `name` here, `peer_name` in the namespace of peer_ns_fd. */
int netlink_veth(const char *name, const char *peer_name, int peer_ns_fd,
                 struct error *err) MUST_CHECK;
/* Puts a link under a bridge. */
int netlink_enslave(const char *name, const char *bridge, struct error *err) MUST_CHECK;
/* IPv4 or IPv6 address with prefix length. */
int netlink_address(const char *name, const struct addr *a, uint8_t prefix,
                    struct error *err) MUST_CHECK;
/* Default route through a gateway. */
int netlink_default_route(const struct addr *gateway, struct error *err) MUST_CHECK;

#endif
