/* envoy.filters.http.health_check: answers health checks of load balancers.
 * Thread: main for parsing, else the stream's worker. */
#ifndef WEFT_FILTERS_HTTP_HEALTH_CHECK_H
#define WEFT_FILTERS_HTTP_HEALTH_CHECK_H

#include "filters/registry.h"

extern const struct http_filter_type http_health_check_type;

#endif
