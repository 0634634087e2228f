/* envoy.filters.network.http_connection_manager: the entry in the registry; the manager itself is
 * src/proxy/hcm_*.c and is reached through filter_ctx.hcm. */
#ifndef WEFT_FILTERS_NETWORK_HTTP_CONNECTION_MANAGER_H
#define WEFT_FILTERS_NETWORK_HTTP_CONNECTION_MANAGER_H

#include "filters/network.h"

extern const struct network_filter_type network_http_connection_manager_type;

#endif
