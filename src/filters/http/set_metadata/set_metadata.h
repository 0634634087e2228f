/* envoy.filters.http.set_metadata: dynamic metadata out of the configuration.
 * Thread: main for parsing, else the stream's worker. */
#ifndef WEFT_FILTERS_HTTP_SET_METADATA_H
#define WEFT_FILTERS_HTTP_SET_METADATA_H

#include "filters/registry.h"

extern const struct http_filter_type http_set_metadata_type;

#endif
