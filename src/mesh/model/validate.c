#include "mesh/model/validate_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "api/node.h"

int validate_bad(struct validating *c, const char *path, const char *code, const char *fmt, ...)
{
    char text[1024];
    const struct node *at = c->doc ? model_node_at(c->doc, path) : NULL;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    c->p->severity = MODEL_ERROR;
    if (at)
        c->p->line = at->line;
    c->p->field = arena_sv(c->a, sv_of(path));
    c->p->code = arena_sv(c->a, sv_of(code));
    c->p->text = arena_sv(c->a, sv_of(text));
    return E_INVALID;
}

const struct node *model_node_at(const struct node *doc, const char *path)
{
    const struct node *n = doc;
    char key[128];

    while (*path) {
        const struct node *next = NULL;
        size_t len = strcspn(path, ".[");
        if (*path == '[') {
            unsigned long i = strtoul(path + 1, NULL, 10);
            path += strcspn(path, "]");
            path += *path == ']';
            if (n->kind == NODE_SEQ && i < n->n)
                next = n->v[i];
        } else {
            if (len >= sizeof key)
                return n;
            memcpy(key, path, len);
            key[len] = 0;
            next = node_get(n, key);
            path += len;
        }
        path += *path == '.';
        if (!next)
            return n;
        n = next;
    }
    return n;
}

/* ---- fields that are not carried out ---- */

static const char *reason_of(const struct validate_refusal *table, size_t n,
                             const struct pb_message *m, const struct pb_field *f)
{
    static const char package[] = "istio.networking.v1alpha3.";
    const char *name = m->full_name;

    if (strncmp(name, package, sizeof package - 1) != 0)
        return NULL;
    name += sizeof package - 1;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(table[i].message, name) == 0 && strcmp(table[i].field, f->json) == 0)
            return table[i].reason;
    }
    return NULL;
}

struct any_list {
    void *v;
    uint32_t n;
};

static bool field_set(const void *msg, const struct pb_field *f)
{
    const char *at = (const char *)msg + f->offset;

    if (f->label == PB_ONEOF)
        return *(const uint32_t *)((const char *)msg + f->has_offset) == f->number;
    if (f->label == PB_OPTIONAL)
        return *(const bool *)((const char *)msg + f->has_offset);
    if (f->label == PB_REPEATED || f->label == PB_MAP)
        return ((const struct any_list *)at)->n > 0;
    switch (f->kind) {
    case PB_MESSAGE:
        return *(void *const *)at != NULL;
    case PB_STRING:
    case PB_BYTES:
        return ((const sv *)at)->n > 0;
    case PB_BOOL:
        return *(const bool *)at;
    case PB_DOUBLE:
    case PB_INT64:
    case PB_UINT64:
        return *(const uint64_t *)at != 0;
    default:
        return *(const uint32_t *)at != 0;
    }
}

int validate_walk(struct validating *c, const struct validate_refusal *table, size_t n,
                  const struct pb_message *m, const void *msg, const char *path)
{
    char sub[VALIDATE_PATH_BYTES];
    int rc = 0;

    for (uint32_t i = 0; i < m->n_fields && !rc; i++) {
        const struct pb_field *f = &m->fields[i];
        const char *at = (const char *)msg + f->offset, *why;
        if (!field_set(msg, f))
            continue;
        snprintf(sub, sizeof sub, "%s%s%s", path, *path ? "." : "", f->json);
        why = reason_of(table, n, m, f);
        if (why)
            return validate_bad(c, sub, "Unsupported", "%s: not supported by weft: %s", sub, why);
        if (f->kind != PB_MESSAGE)
            continue;
        if (f->label != PB_REPEATED && f->label != PB_MAP) {
            rc = validate_walk(c, table, n, f->type, *(void *const *)at, sub);
            continue;
        }
        const struct any_list *list = (const void *)at;
        for (uint32_t k = 0; k < list->n && !rc; k++) {
            snprintf(sub, sizeof sub, "%s%s%s[%u]", path, *path ? "." : "", f->json, k);
            rc = validate_walk(c, table, n, f->type, ((void *const *)list->v)[k], sub);
        }
    }
    return rc;
}

/* ---- what several kinds check ---- */

const char *validate_path(struct validating *c, const char *fmt, ...)
{
    char text[VALIDATE_PATH_BYTES];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return arena_printf(c->a, "%s", text).p;
}

/* Letters, digits, '-' and '_', a '-' neither first nor last. */
static bool host_label(sv v)
{
    for (size_t i = 0; i < v.n; i++) {
        char ch = v.p[i];
        if (!((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
              ch == '_' || (ch == '-' && i && i + 1 < v.n)))
            return false;
    }
    return v.n > 0;
}

int validate_host(struct validating *c, const char *path, sv host)
{
    bool ok = host.n > 0 && host.n <= 253;
    sv label, rest = sv_starts(host, SV("*.")) ? sv_from(host, 2) : host;

    ok &= rest.n > 0;
    while (ok && rest.n && !sv_eq_c(host, "*")) {
        sv_cut(rest, '.', &label, &rest);
        ok = host_label(label);
    }
    return ok ? 0
              : validate_bad(c, path, "InvalidHost",
                             "%s: '%.*s' is no host name; a wildcard is '*' or '*.suffix'", path,
                             SV_ARG(host));
}

int validate_export(struct validating *c, const sv *v, uint32_t n, bool none)
{
    for (uint32_t i = 0; i < n; i++) {
        const char *at = validate_path(c, "spec.exportTo[%u]", i);
        bool star = sv_eq_c(v[i], "*"), nobody = none && sv_eq_c(v[i], "~");
        if (!star && !nobody && !sv_eq_c(v[i], ".") && !validate_dns_label(v[i]))
            return validate_bad(c, at, "InvalidExportTo",
                                "%s: '%.*s' is neither '.', '*' nor a namespace", at, SV_ARG(v[i]));
        if ((star || nobody) && n > 1)
            return validate_bad(c, at, "InvalidExportTo", "%s: '%.*s' is %s; name nobody else", at,
                                SV_ARG(v[i]), star ? "everybody" : "nobody");
        for (uint32_t k = 0; k < i; k++) {
            if (sv_eq(v[i], v[k]))
                return validate_bad(c, at, "Duplicate", "%s: '%.*s' stands there twice", at,
                                    SV_ARG(v[i]));
        }
    }
    return 0;
}

int validate_label(struct validating *c, const char *path, sv key, sv value)
{
    if (!key.n)
        return validate_bad(c, path, "Required", "%s: a label has a name", path);
    if (sv_find(key, '*') >= 0 || sv_find(value, '*') >= 0)
        return validate_bad(c, path, "InvalidValue",
                            "%s: '%.*s: %.*s' is taken as it stands, there are no wildcards; name "
                            "one value, or leave the label out",
                            path, SV_ARG(key), SV_ARG(value));
    return 0;
}

int validate_port(struct validating *c, const char *path, uint32_t port)
{
    return port >= 1 && port <= 65535
               ? 0
               : validate_bad(c, path, "InvalidPort", "%s: must be 1 to 65535", path);
}

int validate_duration(struct validating *c, const char *path, const struct google_Duration *d,
                      bool zero)
{
    if (!d || (zero && !d->seconds && !d->nanos))
        return 0;
    if (d->seconds < 0 || d->nanos < 0 || (!d->seconds && d->nanos < 1000000))
        return validate_bad(c, path, "InvalidDuration", "%s: must be at least 1ms", path);
    return d->nanos % 1000000
               ? validate_bad(c, path, "InvalidDuration", "%s: whole milliseconds only", path)
               : 0;
}

int model_validate(const struct model_object *o, const struct node *doc, struct arena *a,
                   struct model_problem *problem)
{
    struct validating c = {.doc = doc, .a = a, .p = problem};

    switch (o->kind) {
    case MODEL_VIRTUAL_SERVICE:
        return validate_virtual_service(&c, o->spec);
    case MODEL_DESTINATION_RULE:
        return validate_destination_rule(&c, o->spec);
    case MODEL_SERVICE_ENTRY:
        return validate_service_entry(&c, o->spec);
    case MODEL_SIDECAR:
        return validate_sidecar(&c, o->spec);
    case MODEL_WORKLOAD_ENTRY:
        return validate_workload_entry(&c, o->spec);
    default:
        return 0;
    }
}
