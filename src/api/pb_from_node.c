#include "api/pb.h"

#include "api/pb_reader.h"

int pb_read_value(struct pb_reader *r, const struct pb_field *f, const struct node *n, void *at,
                  const struct pb_frame *fr)
{
    if (f->kind != PB_MESSAGE)
        return pb_read_scalar(r, f, n, at, fr);
    *(void **)at = pb_new(f->type, r->a);
    return pb_read_message(r, f->type, n, *(void **)at, fr);
}

static int read_repeated(struct pb_reader *r, const struct pb_field *f, const struct node *n,
                         struct pb_array *list, const struct pb_frame *fr, sv name)
{
    struct pb_frame here = {fr, name, -1, {NULL, 0}, NULL};
    size_t each = pb_kind_size(f->kind);
    if (n->kind != NODE_SEQ && n->kind != NODE_NULL && pb_reader_lenient(r)) {
        list->v = arena_zalloc(r->a, each);
        list->n = 1;
        return pb_read_value(r, f, n, list->v, &here);
    }
    if (pb_reader_need(r, n, NODE_SEQ, "a list", &here) < 0)
        return E_INVALID;
    list->v = arena_zalloc(r->a, n->n * each);
    for (uint32_t i = 0; i < n->n; i++) {
        here.index = i;
        if (n->v[i]->kind == NODE_NULL && !pb_takes_null(f))
            return pb_reader_fail(r, n->v[i], &here, "null in a list");
        int rc = pb_read_value(r, f, n->v[i], (char *)list->v + i * each, &here);
        if (rc < 0)
            return rc;
        list->n++;
    }
    return 0;
}

/* Map keys stand as text; numbers and booleans are read back from it. */
static int read_key(struct pb_reader *r, const struct pb_field *f, const struct node *map,
                    uint32_t i, void *at, const struct pb_frame *fr)
{
    struct node key = {
        .kind = NODE_SCALAR, .line = map->key_lines[i], .file = map->file, .text = map->keys[i]};
    return pb_read_value(r, f, &key, at, fr);
}

static int read_map(struct pb_reader *r, const struct pb_field *f, const struct node *n,
                    struct pb_array *list, const struct pb_frame *fr, sv name)
{
    const struct pb_message *entry = f->type;
    const struct pb_field *k = &entry->fields[0], *v = &entry->fields[1];
    struct pb_frame here = {fr, name, -1, {NULL, 0}, NULL};
    if (pb_reader_need(r, n, NODE_MAP, "a mapping", &here) < 0)
        return E_INVALID;
    char **entries = arena_alloc(r->a, n->n * sizeof *entries);
    list->v = entries;
    for (uint32_t i = 0; i < n->n; i++) {
        here.key = n->keys[i];
        if (n->v[i]->kind == NODE_NULL && !pb_takes_null(v))
            return pb_reader_fail(r, n->v[i], &here, "null in a mapping");
        entries[i] = pb_new(entry, r->a);
        int rc = read_key(r, k, n, i, entries[i] + k->offset, &here);
        if (rc == 0)
            rc = pb_read_value(r, v, n->v[i], entries[i] + v->offset, &here);
        if (rc < 0)
            return rc;
        list->n++;
    }
    return 0;
}

/* E_INVALID when another member of f's oneof is set already. */
static int mark(struct pb_reader *r, const struct pb_message *m, const struct pb_field *f,
                char *msg, const struct node *n, uint32_t i, const struct pb_frame *fr)
{
    if (f->label == PB_OPTIONAL) {
        *(bool *)(msg + f->has_offset) = true;
    } else if (f->label == PB_ONEOF) {
        uint32_t *which = (uint32_t *)(void *)(msg + f->has_offset);
        if (*which)
            return pb_reader_fail_at(r, n->file, n->key_lines[i], fr, n->keys[i],
                                     "excludes %s, which is set too (oneof %s)",
                                     pb_field_by_number(m, *which)->name, f->oneof);
        *which = f->number;
    }
    return 0;
}

static int read_member(struct pb_reader *r, const struct pb_message *m, const struct pb_field *f,
                       const struct node *n, uint32_t i, char *msg, const struct pb_frame *fr)
{
    const struct node *v = n->v[i];
    void *at = msg + f->offset;
    if (f->label == PB_REPEATED)
        return read_repeated(r, f, v, at, fr, n->keys[i]);
    if (f->label == PB_MAP)
        return read_map(r, f, v, at, fr, n->keys[i]);
    int rc = mark(r, m, f, msg, n, i, fr);
    if (rc < 0)
        return rc;
    struct pb_frame here = {fr, n->keys[i], -1, {NULL, 0}, NULL};
    return pb_read_value(r, f, v, at, &here);
}

int pb_read_message(struct pb_reader *r, const struct pb_message *m, const struct node *n,
                    void *msg, const struct pb_frame *fr)
{
    return m->well_known != PB_WKT_NONE ? pb_read_well_known(r, m, n, msg, fr)
                                        : pb_read_fields(r, m, n, msg, fr);
}

int pb_read_fields(struct pb_reader *r, const struct pb_message *m, const struct node *n, void *msg,
                   const struct pb_frame *fr)
{
    uint64_t seen[4] = {0};
    if (pb_reader_need(r, n, NODE_MAP, "a mapping", fr) < 0)
        return E_INVALID;
    for (uint32_t i = 0; i < n->n; i++) {
        const struct pb_field *f = pb_field_by_name(m, n->keys[i]);
        int rc = 0;
        if (!f) {
            if (n != r->any || !sv_eq(n->keys[i], SV("@type")))
                rc = pb_reader_unknown_field(r, m, n, i, fr);
        } else {
            size_t bit = (size_t)(f - m->fields);
            if (seen[bit / 64] >> bit % 64 & 1)
                return pb_reader_fail_at(r, n->file, n->key_lines[i], fr, n->keys[i],
                                         "is given twice, as %s and as %s", f->name, f->json);
            seen[bit / 64] |= (uint64_t)1 << bit % 64;
            if (n->v[i]->kind != NODE_NULL || pb_takes_null(f))
                rc = read_member(r, m, f, n, i, msg, fr);
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

int pb_from_node(const struct pb_message *m, const struct node *n, struct arena *a,
                 const struct pb_opts *o, void **out, struct error *err)
{
    struct pb_reader r = {a, o, err, NULL};
    void *msg = pb_new(m, a);
    int rc = pb_read_message(&r, m, n, msg, NULL);
    if (rc == 0)
        *out = msg;
    return rc;
}

int pb_from_text(const struct pb_message *m, sv text, const char *file, struct arena *a,
                 const struct pb_opts *o, void **out, struct error *err)
{
    struct node *n;
    int rc = node_parse(text, file, a, &n, err);
    return rc < 0 ? rc : pb_from_node(m, n, a, o, out, err);
}
