/* Custom tags of spans, as routes and the connection manager have them.
 * Thread: building: main; evaluating: the stream's worker. */
#ifndef WEFT_ROUTE_CUSTOM_TAG_H
#define WEFT_ROUTE_CUSTOM_TAG_H

#include "base/error.h"
#include "http/substitution.h"

struct envoy_CustomTag;

enum custom_tag_kind {
    CUSTOM_TAG_LITERAL,
    CUSTOM_TAG_ENVIRONMENT,
    CUSTOM_TAG_HEADER,
    CUSTOM_TAG_FORMAT
};

struct custom_tag {
    enum custom_tag_kind kind;
    sv tag;
    sv text; /* the value, or the name of the header */
    sv fallback;
    const struct substitution *format; /* value, and metadata of any kind */
};

struct custom_tags {
    const struct custom_tag *v;
    uint32_t n;
};

/* Built into `a`; errors name path[i] and the field. Views point into the messages, which must live
 * as long. The environment is asked now. */
int custom_tags_build(const struct envoy_CustomTag *const *v, uint32_t n, const char *path,
                      struct arena *a, struct custom_tags *out, struct error *err) MUST_CHECK;
/* The value for a request; empty: the tag is left out. Views may point into its arena. */
sv custom_tag_value(const struct custom_tag *t, const struct substitution_ctx *c);

#endif
