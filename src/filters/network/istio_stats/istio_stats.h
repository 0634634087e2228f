/* See README.md in this folder. */
#ifndef WEFT_FILTERS_NETWORK_ISTIO_STATS_H
#define WEFT_FILTERS_NETWORK_ISTIO_STATS_H

#include "filters/registry.h"

extern const struct network_filter_type network_istio_stats_type;

#endif
