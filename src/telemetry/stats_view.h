/* A flat, sorted view of everything in the registry, for pages. Private to this room's renderers.
 * Thread: main. */
#ifndef WEFT_TELEMETRY_STATS_VIEW_H
#define WEFT_TELEMETRY_STATS_VIEW_H

#include "telemetry/stats_internal.h"

struct stats_entry {
    sv name; /* full dotted name */
    const struct stats_scope *scope;
    sv tail;                         /* the name without the scope's prefix */
    const struct stat_label *labels; /* of a series, beside the scope's */
    uint32_t n_labels;
    uint8_t kind;
    bool used;
    uint64_t value;
    sv text;
    const struct stat_histogram *hist; /* NULL: no sample yet */
};

struct stats_view {
    struct stats *stats;
    struct arena arena;
    struct stats_entry *v;
    uint32_t n, cap;
    struct stats_scopes scopes; /* referenced while the view lives */
    struct stat_series **series;
    uint32_t n_series;
};

/* q NULL: everything. Else what q's filter, kind and used_only let through. Sorted by name. */
void stats_view_init(struct stats_view *v, struct stats *s, const struct stats_query *q);
void stats_view_fini(struct stats_view *v);

void stats_render_prometheus(const struct stats_view *v, const struct stats_query *q,
                             struct strbuf *out);

#endif
