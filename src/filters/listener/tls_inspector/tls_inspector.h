/* envoy.filters.listener.tls_inspector: is it TLS, for which server name, with which protocols? */
#ifndef WEFT_FILTERS_LISTENER_TLS_INSPECTOR_H
#define WEFT_FILTERS_LISTENER_TLS_INSPECTOR_H

#include "filters/listener.h"

extern const struct listener_filter_type listener_tls_inspector_type;

#endif
