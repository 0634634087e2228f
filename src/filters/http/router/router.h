/* envoy.filters.http.router: the last filter of a chain. It asks the route what is to be done with
 * the request and does it: forward (with timeouts and retries), redirect, answer. README.md says
 * what is configured and how it fails. Thread: main for parsing, else the stream's worker. */
#ifndef WEFT_FILTERS_HTTP_ROUTER_H
#define WEFT_FILTERS_HTTP_ROUTER_H

#include "filters/registry.h"

extern const struct http_filter_type http_router_type;

#endif
