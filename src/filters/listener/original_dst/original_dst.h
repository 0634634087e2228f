/* envoy.filters.listener.original_dst: the destination the client meant, before a redirect. */
#ifndef WEFT_FILTERS_LISTENER_ORIGINAL_DST_H
#define WEFT_FILTERS_LISTENER_ORIGINAL_DST_H

#include "filters/listener.h"

extern const struct listener_filter_type listener_original_dst_type;

#endif
