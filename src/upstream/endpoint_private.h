/* Between endpoint.c and endpoint_table.c: how infos are made. The caller holds the registry's
 * lock. Thread: any. */
#ifndef WEFT_UPSTREAM_ENDPOINT_PRIVATE_H
#define WEFT_UPSTREAM_ENDPOINT_PRIVATE_H

#include "upstream/endpoint.h"

/* Decoded metadata of the infos that one table made; lives as long as one of them. */
struct info_store {
    uint32_t refs;
    struct arena arena;
};
struct info_store *info_store_new(void);
void info_store_put(struct info_store *st); /* NULL is fine */

/* What an info is to hold; views are copied. */
struct info_spec {
    struct addr addr;
    sv hostname, region, zone, sub_zone;
    sv health_hostname;
    struct addr health_addr;
    bool no_health_check, logical;
    uint32_t transport;
    const struct envoy_Metadata *metadata;
    sv content;        /* packed metadata first, then all else that identifies it */
    size_t metadata_n; /* bytes of the metadata in content */
};
/* The info with this address and content, new or known. One reference belongs to the caller. *store
 * is made when the first new info has metadata; the caller holds one reference on it. */
struct endpoint_info *endpoint_info_get_locked(struct endpoint_registry *r,
                                               const struct info_spec *s,
                                               struct info_store **store);
void endpoint_info_put_locked(struct endpoint_info *i);

#endif
