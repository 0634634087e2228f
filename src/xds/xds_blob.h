/* A resource as it goes to proxies: encoded once, immutable, shared by everybody who gets it.
 *
 *   bytes    tag 2, length, Resource { version, Any, name }        field `resources` of
 *                           |------- any -------|                  DeltaDiscoveryResponse
 *            the part `any` of it (tag 2, length, Any) is      field `resources` of
 *                                                              DiscoveryResponse
 *
 * so a response of either variant is put together from references, without a copy.
 * Making a blob with the content that the name's latest one has, or the one it is to replace, gives
 * that one: after a rebuild, what did not change is the same pointer. Blobs of one name have serial
 * numbers: a session remembers what it sent in four bytes. Thread: one (bytes are counted without
 * atomics). */
#ifndef WEFT_XDS_BLOB_H
#define WEFT_XDS_BLOB_H

#include "base/buf.h"
#include "xds/xds_names.h"

struct xds_blob {
    uint32_t refs;
    uint32_t id; /* of the name; a reference is held */
    enum xds_type type;
    struct xds_names *names;
    uint64_t version; /* hash of the resource; never 0 */
    uint32_t serial;  /* among the blobs of the name; never 0 */
    sv name;
    struct buf bytes;
    size_t any_from, any_n; /* within bytes */
};

/* A reference to the blob of this content. names outlives it. */
struct xds_blob *xds_blob_new(struct xds_names *names, enum xds_type t, sv name, sv packed);
/* The same by the name's number, whose reference it takes over; old (may be NULL) is what the
 * caller has so far: several holders may have different contents under one name. */
struct xds_blob *xds_blob_remake(struct xds_names *names, enum xds_type t, uint32_t id, sv packed,
                                 struct xds_blob *old);
struct xds_blob *xds_blob_ref(struct xds_blob *b);
void xds_blob_unref(struct xds_blob *b); /* NULL is fine */

#endif
