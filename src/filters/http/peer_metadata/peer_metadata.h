/* See README.md in this folder. */
#ifndef WEFT_FILTERS_HTTP_PEER_METADATA_H
#define WEFT_FILTERS_HTTP_PEER_METADATA_H

#include "filters/registry.h"

extern const struct http_filter_type http_peer_metadata_type;

#endif
