/* envoy.filters.http.fault: delays and aborts requests on purpose.
 * Thread: main for parsing, else the stream's worker. */
#ifndef WEFT_FILTERS_HTTP_FAULT_H
#define WEFT_FILTERS_HTTP_FAULT_H

#include "filters/registry.h"

extern const struct http_filter_type http_fault_type;

#endif
