/* envoy.filters.network.tcp_proxy: bytes from a downstream connection to one of a cluster, and
 * back. README.md says what is configured and how it fails. Thread: the connection's worker. */
#ifndef WEFT_FILTERS_NETWORK_TCP_PROXY_H
#define WEFT_FILTERS_NETWORK_TCP_PROXY_H

#include "filters/network.h"

extern const struct network_filter_type network_tcp_proxy_type;

#endif
