/* Header mutations (envoy.config.common.mutation_rules.v3.HeaderMutation), shared by the filter
 * envoy.filters.http.header_mutation and by early_header_mutation_extensions.
 *
 * Each is carried out before the next one is looked at, unlike the header operations of routes,
 * whose values are all made of the message as it was. Pseudo fields and Host are not changed.
 * Thread: building: any; a built list is immutable and may be shared. */
#ifndef WEFT_ROUTE_MUTATIONS_H
#define WEFT_ROUTE_MUTATIONS_H

#include "api/envoy.pb.h"
#include "base/arena.h"
#include "base/error.h"
#include "http/headers.h"
#include "http/substitution.h"

struct header_mutations;

/* path names the list: "….request_mutations". *out is NULL when there are none. E_INVALID. */
int header_mutations_build(const struct envoy_HeaderMutation *const *v, uint32_t n,
                           const char *path, struct arena *a, const struct header_mutations **out,
                           struct error *err) MUST_CHECK;
/* To a head's fields or to trailers; m may be NULL. c: what values are made of. */
void header_mutations_apply(const struct header_mutations *m, struct http_headers *h,
                            const struct substitution_ctx *c, struct arena *a);

#endif
