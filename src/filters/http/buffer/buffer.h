/* envoy.filters.http.buffer: a request goes on when all of it is there.
 * Thread: main for parsing, else the stream's worker. */
#ifndef WEFT_FILTERS_HTTP_BUFFER_H
#define WEFT_FILTERS_HTTP_BUFFER_H

#include "filters/registry.h"

extern const struct http_filter_type http_buffer_type;

#endif
