/* Dynamic metadata of a stream as values of the API (google.protobuf.Struct), for filters that set
 * it from configuration and for balancers, which match it. Thread: the stream's worker. */
#ifndef WEFT_FILTERS_METADATA_H
#define WEFT_FILTERS_METADATA_H

#include "api/envoy.pb.h"
#include "http/stream_info.h"

/* ns[key] = v. With `merge` into what is there, as Envoy's set_metadata does: tables go into
 * tables field by field, lists behind lists; all else takes the place of what is there. */
void filter_metadata_set(struct stream_info *si, sv ns, sv key, const struct google_Value *v,
                         bool merge);
/* Whether anything stands in ns. */
bool filter_metadata_has(const struct stream_info *si, sv ns);
/* What subsets are chosen by: the route's metadata_match (may be NULL), over whose "envoy.lb" the
 * stream's own goes, key by key. In the stream's arena, or `route` itself. */
const struct envoy_Metadata *filter_metadata_match(const struct stream_info *si,
                                                   const struct envoy_Metadata *route);

#endif
