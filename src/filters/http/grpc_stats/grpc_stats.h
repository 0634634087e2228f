/* envoy.filters.http.grpc_stats: counts gRPC calls and messages by service and method. README.md
 * says how. Thread: main for parsing, else the stream's worker. */
#ifndef WEFT_FILTERS_HTTP_GRPC_STATS_H
#define WEFT_FILTERS_HTTP_GRPC_STATS_H

#include "filters/registry.h"

extern const struct http_filter_type http_grpc_stats_type;

#endif
