/* Which labels of a proxy its outbound resources depend on: those that configuration selects
 * clients by. Proxies that agree in them (and in namespace) share their resources. */
#include <string.h>
#include "api/istio.pb.h"
#include "mesh/translate/internal.h"

struct walk {
    struct arena *a;
    struct map seen;
};

static void note(struct walk *w, sv key)
{
    sv ignored;
    /* "key" or, in a list of failover priorities, "key=value" */
    sv_cut(key, '=', &key, &ignored);
    if (key.n && !map_has(&w->seen, key))
        map_put(&w->seen, key, w);
}

struct any_list {
    void *v;
    uint32_t n;
};

static bool selects_clients(const struct pb_field *f)
{
    return !strcmp(f->name, "source_labels") || !strcmp(f->name, "workload_selector");
}

static void walk(struct walk *w, const struct pb_message *m, const void *msg, bool selecting)
{
    for (uint32_t i = 0; i < m->n_fields; i++) {
        const struct pb_field *f = &m->fields[i];
        const char *at = (const char *)msg + f->offset;
        const struct any_list *list = (const void *)at;
        bool in = selecting || selects_clients(f);

        if (f->kind == PB_STRING && f->label == PB_REPEATED &&
            !strcmp(f->name, "failover_priority")) {
            for (uint32_t k = 0; k < list->n; k++)
                note(w, ((const sv *)list->v)[k]);
        } else if (f->kind == PB_STRING && m->is_map_entry && selecting && f->number == 1) {
            note(w, *(const sv *)at);
        } else if (f->kind == PB_MESSAGE && (f->label == PB_REPEATED || f->label == PB_MAP)) {
            for (uint32_t k = 0; k < list->n; k++)
                walk(w, f->type, ((void *const *)list->v)[k], in);
        } else if (f->kind == PB_MESSAGE && *(void *const *)at) {
            walk(w, f->type, *(void *const *)at, in);
        }
    }
}

static const struct pb_message *message_of(enum model_kind k)
{
    switch (k) {
    case MODEL_VIRTUAL_SERVICE:
        return &istio_VirtualService_pb;
    case MODEL_DESTINATION_RULE:
        return &istio_DestinationRule_pb;
    case MODEL_SIDECAR:
        return &istio_Sidecar_pb;
    default:
        return NULL;
    }
}

uint32_t translate_label_keys(const struct model *m, struct arena *a, const sv **out)
{
    struct walk w = {.a = a};
    uint32_t n = 0;
    sv *keys;

    map_init_borrow(&w.seen);
    for (int k = 0; k < MODEL_KINDS; k++) {
        const struct pb_message *type = message_of((enum model_kind)k);
        for (uint32_t i = 0; type && i < m->n_objects[k]; i++) {
            if (m->objects[k][i]->spec)
                walk(&w, type, m->objects[k][i]->spec, false);
        }
    }
    keys = arena_array(a, sv, map_len(&w.seen) + 1);
    map_each (e, &w.seen)
        keys[n++] = arena_sv(a, e->key);
    map_fini(&w.seen);
    *out = keys;
    return n;
}
