/* The addresses that connections to endpoints come from: upstream_bind_config of a cluster, or of
 * all that have none. One for each family at most. Thread: any. */
#ifndef WEFT_UPSTREAM_BIND_SOURCE_H
#define WEFT_UPSTREAM_BIND_SOURCE_H

#include "base/error.h"
#include "net/addr.h"

struct envoy_BindConfig;

struct bind_source {
    struct addr v[2];
    uint32_t n; /* 0: the system chooses */
};

/* Errors begin with `path`. Socket options are not read here. */
int bind_source_read(const struct envoy_BindConfig *b, const char *path, struct bind_source *out,
                     struct error *err) MUST_CHECK;
/* The one of the family of `to`, else the first; NULL when there is none. */
const struct addr *bind_source_for(const struct bind_source *b, const struct addr *to);

#endif
