/* What the files that translate HTTP rules share.
 *
 *   route_match.c    what a rule matches
 *   route_headers.c  its header operations
 *   route_action.c   forwarding: destinations, mirrors, rewrites, time-outs, retries
 *   route_reply.c    answering: redirects, direct responses; faults and CORS
 *   route_rules.c    the rules of a VirtualService, one route each and match
 *   routes.c         virtual hosts
 *
 * Thread: main. */
#ifndef WEFT_MESH_TRANSLATE_ROUTE_H
#define WEFT_MESH_TRANSLATE_ROUTE_H

#include "mesh/translate/internal.h"

/* Header operations of a rule or of one of its destinations. */
struct route_headers {
    struct {
        const struct envoy_HeaderValueOption **add;
        uint32_t n_add;
        sv *remove;
        uint32_t n_remove;
    } request, response;
    sv authority; /* "host" or ":authority" that the request gets */
};
/* b comes behind a (either may be NULL): Istio appends those of a single destination. */
struct route_headers route_headers(struct build *b, const struct istio_Headers *x,
                                   const struct istio_Headers *y);
/* Route and weighted cluster have the same four lists under the same names. */
#define ROUTE_PUT_HEADERS(out, h)                                                                  \
    do {                                                                                           \
        (out)->request_headers_to_add.v = (h)->request.add;                                        \
        (out)->request_headers_to_add.n = (h)->request.n_add;                                      \
        (out)->request_headers_to_remove.v = (h)->request.remove;                                  \
        (out)->request_headers_to_remove.n = (h)->request.n_remove;                                \
        (out)->response_headers_to_add.v = (h)->response.add;                                      \
        (out)->response_headers_to_add.n = (h)->response.n_add;                                    \
        (out)->response_headers_to_remove.v = (h)->response.remove;                                \
        (out)->response_headers_to_remove.n = (h)->response.n_remove;                              \
    } while (0)

/* Where the rule at hand is translated. */
struct route_at {
    const struct model_virtual *vs;
    const struct model_http_rule *rule;
    uint16_t port; /* of the listener: what Istio calls the request's port */
};
const struct envoy_RouteAction *route_forward(struct build *b, const struct route_at *at,
                                              sv authority);
/* Of a service that no rule routes. */
const struct envoy_RouteAction *route_forward_plain(struct build *b, sv cluster);
const struct envoy_RedirectAction *
route_redirect(struct build *b, const struct istio_HTTPRedirect *in, uint16_t port);
const struct envoy_DirectResponseAction *route_direct(struct build *b,
                                                      const struct istio_HTTPDirectResponse *in);
/* Fault injection and CORS, as typed_per_filter_config; the filters of these names stand in every
 * outbound chain, disabled until a route has something for them. */
void route_filters(struct build *b, const struct istio_HTTPRoute *in, struct envoy_Route *out);
const struct envoy_FractionalPercent *route_percent(struct build *b, double value);

#endif
