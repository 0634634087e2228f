/* For the unit test and the fuzz target: one stream through envoy.filters.http.grpc_web without a
 * connection manager. Body pieces go in, what the next filter would get is kept. */
#ifndef WEFT_FILTERS_GRPC_WEB_TESTLIB_H
#define WEFT_FILTERS_GRPC_WEB_TESTLIB_H

#include "base/strbuf.h"
#include "filters/http/grpc_web/grpc_web.h"

struct grpc_web_rig {
    struct arena arena;
    struct stream_info info;
    struct http_filter_host host;
    struct http_filter *f;
    struct http_head req, resp;
    struct strbuf request, response; /* bodies as they go on */
    bool stopped;                    /* the response's head waits */
    uint16_t replied;                /* status of a local reply, or 0 */
};

/* A request of that content type and accept. */
void grpc_web_rig_init(struct grpc_web_rig *r, const char *type, const char *accept);
void grpc_web_rig_fini(struct grpc_web_rig *r);
/* False once a local reply was made. */
bool grpc_web_rig_request(struct grpc_web_rig *r, const void *p, size_t n, bool end);
void grpc_web_rig_answer(struct grpc_web_rig *r, uint16_t status, const char *type, bool end);
void grpc_web_rig_response(struct grpc_web_rig *r, const void *p, size_t n, bool end);
/* name, value, ..., NULL */
void grpc_web_rig_trailers(struct grpc_web_rig *r, const char *const *fields);

#endif
