/* What belongs to one proxy alone: its inbound clusters and listeners. */
#include "mesh/push/blob_table.h"

struct making {
    const struct push_stream *s;
    enum xds_type type;
};

static void make(void *arg, struct arena *a, translate_emit emit, void *to)
{
    const struct making *k = arg;
    const struct push *p = k->s->push;

    if (k->type == XDS_CDS)
        translate_clusters_inbound(p->t, p->m, &k->s->proxy, a, emit, to);
    else
        translate_listeners_inbound(p->t, p->m, &k->s->proxy, a, emit, to);
}

static bool has_own(enum xds_type t)
{
    return t == XDS_CDS || t == XDS_LDS;
}

void push_own_list(struct push_stream *s, enum xds_type t,
                   void (*add)(void *arg, struct xds_blob *b), void *arg)
{
    struct making k = {s, t};

    if (!has_own(t))
        return;
    if (!s->own[t].listed)
        blob_table_replace(&s->own[t], s->push->names, t, make, &k, NULL);
    blob_table_each(&s->own[t], add, arg);
}

struct xds_blob *push_own_find(struct push_stream *s, enum xds_type t, uint32_t id)
{
    return blob_table_get(&s->own[t], id);
}

void push_own_refresh(struct push_stream *s)
{
    for (int t = 0; t < XDS_TYPES; t++) {
        struct making k = {s, (enum xds_type)t};
        struct id_list changed = {0};
        if (!has_own((enum xds_type)t) || !s->own[t].listed)
            continue;
        blob_table_replace(&s->own[t], s->push->names, (enum xds_type)t, make, &k, &changed);
        ads_session_mark(s->session, (enum xds_type)t, changed.v, changed.n);
        id_list_reset(&changed, s->push->names, (enum xds_type)t);
    }
}

void push_own_free(struct push_stream *s)
{
    for (int t = 0; t < XDS_TYPES; t++)
        blob_table_free(&s->own[t], s->push->names, (enum xds_type)t);
}
