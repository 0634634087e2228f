/* Query parameters changed as envoy.config.core.v3.KeyValueMutation says. The query is
 * written anew with the parameters in the order of their names, as Envoy does; those that stay are
 * written as they came (Envoy writes them without their escapes).
 * Thread: building: any; a built list is immutable and may be shared. */
#ifndef WEFT_FILTERS_HTTP_HEADER_MUTATION_QUERY_H
#define WEFT_FILTERS_HTTP_HEADER_MUTATION_QUERY_H

#include "api/envoy.pb.h"
#include "base/arena.h"
#include "base/error.h"
#include "http/substitution.h"

struct query_mutations;

/* path names the list. *out is NULL when there are none. E_INVALID. */
int query_mutations_build(const struct envoy_KeyValueMutation *const *v, uint32_t n,
                          const char *path, struct arena *a, const struct query_mutations **out,
                          struct error *err) MUST_CHECK;
/* The path of a request with its query changed, in a; m is not NULL. */
sv query_mutations_apply(const struct query_mutations *m, sv path, const struct substitution_ctx *c,
                         struct arena *a);

#endif
