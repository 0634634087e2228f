/* envoy.filters.http.grpc_web: lets browsers talk to gRPC servers. README.md says how.
 * Thread: main for parsing, else the stream's worker. */
#ifndef WEFT_FILTERS_HTTP_GRPC_WEB_H
#define WEFT_FILTERS_HTTP_GRPC_WEB_H

#include "filters/registry.h"

extern const struct http_filter_type http_grpc_web_type;

#endif
