/* envoy.filters.listener.http_inspector: is plain text HTTP, and which version? */
#ifndef WEFT_FILTERS_LISTENER_HTTP_INSPECTOR_H
#define WEFT_FILTERS_LISTENER_HTTP_INSPECTOR_H

#include "filters/listener.h"

extern const struct listener_filter_type listener_http_inspector_type;

/* What the first bytes are: "http/1.0", "http/1.1", "h2c"; empty with *more when more are needed,
 * empty without when they are not HTTP. Exposed for tests and fuzzing. */
sv http_inspector_look(sv bytes, bool *more);

#endif
