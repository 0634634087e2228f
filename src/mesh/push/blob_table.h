/* Resources of one type by the number of their name: what scopes and streams keep. Thread: main. */
#ifndef WEFT_MESH_PUSH_BLOB_TABLE_H
#define WEFT_MESH_PUSH_BLOB_TABLE_H

#include "mesh/push/push_internal.h"

void id_list_add(struct id_list *l, struct xds_names *names, enum xds_type t, uint32_t id);
/* Lets go of all; the list is empty. */
void id_list_reset(struct id_list *l, struct xds_names *names, enum xds_type t);

static inline struct xds_blob *blob_table_get(const struct blob_table *t, uint32_t id)
{
    return id < t->cap ? t->v[id] : NULL;
}
/* Takes over the reference of b (NULL: there is none now). True when it is another than before. */
bool blob_table_set(struct blob_table *t, uint32_t id, struct xds_blob *b);
/* Makes a complete type anew: `make` emits every resource of it. Numbers of those that came, went
 * or changed are added to `changed` (may be NULL). */
void blob_table_replace(struct blob_table *t, struct xds_names *names, enum xds_type type,
                        void (*make)(void *arg, struct arena *a, translate_emit emit, void *to),
                        void *arg, struct id_list *changed);
/* The blob of the name with this content; what the table has, if that is it. */
struct xds_blob *blob_table_make(const struct blob_table *t, struct xds_names *names,
                                 enum xds_type type, sv name, sv packed);
void blob_table_each(const struct blob_table *t, void (*fn)(void *arg, struct xds_blob *b),
                     void *arg);
void blob_table_free(struct blob_table *t, struct xds_names *names, enum xds_type type);

#endif
