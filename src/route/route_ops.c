/* Header operations: request_headers_to_add, …_to_remove and their response kin. */
#include "base/mem.h"
#include "route/route_int.h"

static int check_name(struct route_builder *b, sv name)
{
    if (name.n && (name.p[0] == ':' || sv_eq_icase(name, SV("host"))))
        return error_set(b->err, E_INVALID,
                         ": '%.*s' must not be changed by header operations; use host_rewrite, "
                         "prefix_rewrite and their like",
                         SV_ARG(name));
    if (!http_name_valid(name))
        return error_set(b->err, E_INVALID, ": '%.*s' is no header name", SV_ARG(name));
    return 0;
}

static int set_action(struct route_builder *b, const struct envoy_HeaderValueOption *m,
                      struct route_op *op)
{
    static const enum route_op_action actions[] = {OP_APPEND, OP_ADD_IF_ABSENT, OP_OVERWRITE,
                                                   OP_OVERWRITE_IF_EXISTS};
    if (m->append_action < 0 || m->append_action > 3)
        return error_set(b->err, E_INVALID, ".append_action: %d is not known", m->append_action);
    op->action = actions[m->append_action];
    if (!m->append)
        return 0;
    if (m->append_action != 0)
        return error_set(b->err, E_INVALID,
                         ".append: must not be set beside append_action; drop append");
    op->action = m->append->value ? OP_APPEND : OP_OVERWRITE;
    return 0;
}

int route_op_name(struct route_builder *b, sv name, sv *out)
{
    int rc = check_name(b, name);
    if (rc == 0)
        *out = http_name_to_lower(name, b->a);
    return rc;
}

int route_op_build(struct route_builder *b, const struct envoy_HeaderValueOption *m,
                   struct route_op *op)
{
    if (!m->header)
        return error_set(b->err, E_INVALID, ".header: must be set");
    int rc = route_op_name(b, m->header->key, &op->name);
    if (rc != 0) {
        error_prefix(b->err, ".header.key");
        return rc;
    }
    rc = set_action(b, m, op);
    if (rc != 0)
        return rc;
    op->id = http_name_find(op->name);
    op->keep_empty = m->keep_empty_value;
    sv value = m->header->value;
    if (m->header->raw_value.n) {
        if (value.n)
            return error_set(b->err, E_INVALID,
                             ".header: value and raw_value must not both be set");
        value = m->header->raw_value;
    }
    if (!http_value_valid(value))
        return error_set(b->err, E_INVALID,
                         ".header.value: has bytes that a header value may not have");
    struct substitution_opts o = {.use = SUBSTITUTION_HEADER, .omit_empty = true};
    rc = substitution_compile(value, &o, b->a, &op->value, b->err);
    if (rc != 0)
        error_prefix(b->err, ".header.value: ");
    return rc;
}

static int build_list(struct route_builder *b, const struct envoy_HeaderValueOption *const *add,
                      uint32_t n_add, const sv *remove, uint32_t n_remove, const char *kind,
                      struct route_op_list *out)
{
    struct route_op *ops = arena_array(b->a, struct route_op, n_add);
    sv *names = arena_array(b->a, sv, n_remove);
    for (uint32_t i = 0; i < n_remove; i++) {
        int rc = route_op_name(b, remove[i], &names[i]);
        if (rc != 0) {
            error_prefix(b->err, ".%s_headers_to_remove[%u]", kind, i);
            return rc;
        }
    }
    for (uint32_t i = 0; i < n_add; i++) {
        int rc = route_op_build(b, add[i], &ops[i]);
        if (rc != 0) {
            error_prefix(b->err, ".%s_headers_to_add[%u]", kind, i);
            return rc;
        }
    }
    *out = (struct route_op_list){names, ops, n_remove, n_add};
    return 0;
}

int route_ops_build(struct route_builder *b, const struct route_ops_msg *m,
                    const struct route_ops **out)
{
    *out = NULL;
    if (!m->n_req_add && !m->n_resp_add && !m->n_req_remove && !m->n_resp_remove)
        return 0;
    struct route_ops *o = arena_new(b->a, struct route_ops);
    int rc = build_list(b, m->req_add, m->n_req_add, m->req_remove, m->n_req_remove, "request",
                        &o->request);
    if (rc == 0)
        rc = build_list(b, m->resp_add, m->n_resp_add, m->resp_remove, m->n_resp_remove, "response",
                        &o->response);
    if (rc == 0)
        *out = o;
    return rc;
}

/* ---- applying ---- */

static void add(struct http_headers *h, const struct route_op *op, sv value)
{
    if (op->id != HTTP_H_OTHER)
        http_headers_add_id(h, op->id, value);
    else
        http_headers_add(h, op->name, value);
}

static void set(struct http_headers *h, const struct route_op *op, sv value)
{
    if (op->id != HTTP_H_OTHER)
        http_headers_set_id(h, op->id, value);
    else
        http_headers_set(h, op->name, value);
}

static bool present(const struct http_headers *h, const struct route_op *op)
{
    sv v = op->id != HTTP_H_OTHER ? http_headers_get(h, op->id) : http_headers_get_sv(h, op->name);
    return v.p != NULL;
}

static bool overwrites(const struct route_op *op)
{
    return op->action == OP_OVERWRITE || op->action == OP_OVERWRITE_IF_EXISTS;
}

/* Whether it has something to do, as the message is. */
static bool applies(const struct route_op *op, const struct http_headers *h, sv value)
{
    if (value.n == 0 && !op->keep_empty)
        return false;
    return op->action == OP_APPEND || op->action == OP_OVERWRITE ||
           present(h, op) == (op->action == OP_OVERWRITE_IF_EXISTS);
}

void route_op_apply(const struct route_op *op, struct http_headers *h, sv value)
{
    if (!applies(op, h, value))
        return;
    if (overwrites(op))
        set(h, op, value);
    else
        add(h, op, value);
}

/* A value is made of the message as it is before anything is added; then what overwrites goes in,
 * then what appends: Envoy's order. */
void route_ops_apply(const struct route_op_list *l, struct http_headers *h,
                     const struct substitution_ctx *c, struct arena *a)
{
    struct pending {
        const struct route_op *op;
        sv value;
    } stack[16], *todo = stack;
    for (uint32_t i = 0; i < l->n_remove; i++)
        http_headers_remove(h, l->remove[i]);
    if (l->n_add == 0)
        return;
    if (l->n_add > sizeof(stack) / sizeof(stack[0]))
        todo = arena_array(a, struct pending, l->n_add);
    uint32_t n = 0;
    for (uint32_t i = 0; i < l->n_add; i++) {
        const struct route_op *op = &l->add[i];
        sv value = substitution_eval_arena(op->value, c, a);
        if (applies(op, h, value))
            todo[n++] = (struct pending){op, value};
    }
    for (uint32_t i = 0; i < n; i++)
        if (overwrites(todo[i].op))
            set(h, todo[i].op, todo[i].value);
    for (uint32_t i = 0; i < n; i++)
        if (!overwrites(todo[i].op))
            add(h, todo[i].op, todo[i].value);
}
