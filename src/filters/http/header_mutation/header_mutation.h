/* envoy.filters.http.header_mutation: changes fields, trailers and query parameters.
 * Thread: main for parsing, else the stream's worker. */
#ifndef WEFT_FILTERS_HTTP_HEADER_MUTATION_H
#define WEFT_FILTERS_HTTP_HEADER_MUTATION_H

#include "filters/registry.h"

extern const struct http_filter_type http_header_mutation_type;

#endif
