/* envoy.filters.http.header_to_metadata: dynamic metadata out of fields of the message.
 * Thread: main for parsing, else the stream's worker. */
#ifndef WEFT_FILTERS_HTTP_HEADER_TO_METADATA_H
#define WEFT_FILTERS_HTTP_HEADER_TO_METADATA_H

#include "filters/registry.h"

extern const struct http_filter_type http_header_to_metadata_type;

#endif
