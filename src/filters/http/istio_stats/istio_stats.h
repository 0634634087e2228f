/* See README.md in this folder. */
#ifndef WEFT_FILTERS_HTTP_ISTIO_STATS_H
#define WEFT_FILTERS_HTTP_ISTIO_STATS_H

#include "filters/registry.h"

extern const struct http_filter_type http_istio_stats_type;

#endif
