/* The names of one server's resources, numbered, so that what a session remembers of a name is a
 * place in an array and not an entry of a map of its own: a control plane with M sidecars and N
 * resources holds N names, not M x N.
 *
 * A number is valid while somebody holds a reference to it; the last one gives it free for another
 * name. Names come from peers, too: who counts references bounds them (ads_server.h: max_names).
 * Thread: one. */
#ifndef WEFT_XDS_NAMES_H
#define WEFT_XDS_NAMES_H

#include <stdint.h>
#include "base/sv.h"
#include "xds/xds_type.h"

#define XDS_NO_NAME UINT32_MAX

struct xds_names;
struct xds_blob;

struct xds_names *xds_names_new(void);
void xds_names_free(struct xds_names *n); /* all references are gone */
/* The number of a name, with a reference; it is given one when it has none. */
uint32_t xds_names_get(struct xds_names *n, enum xds_type t, sv name);
/* Without a reference; XDS_NO_NAME when nobody holds it. */
uint32_t xds_names_find(const struct xds_names *n, enum xds_type t, sv name);
void xds_names_ref(struct xds_names *n, enum xds_type t, uint32_t id);
void xds_names_unref(struct xds_names *n, enum xds_type t, uint32_t id);
/* Lives as long as a reference. */
sv xds_names_text(const struct xds_names *n, enum xds_type t, uint32_t id);
/* Numbers of this type are below it. */
uint32_t xds_names_end(const struct xds_names *n, enum xds_type t);

/* Private to xds_blob.c: the blob that was made last for a name, while it lives; and the number of
 * the next one. */
struct xds_blob **xds_names_latest(struct xds_names *n, enum xds_type t, uint32_t id);
uint32_t xds_names_serial(struct xds_names *n, enum xds_type t, uint32_t id);

#endif
