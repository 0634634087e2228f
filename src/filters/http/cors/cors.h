/* envoy.filters.http.cors: answers preflight requests and allows origins, by the route's policy.
 * Thread: main for parsing, else the stream's worker. */
#ifndef WEFT_FILTERS_HTTP_CORS_H
#define WEFT_FILTERS_HTTP_CORS_H

#include "filters/registry.h"

extern const struct http_filter_type http_cors_type;

#endif
