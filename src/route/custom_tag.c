#include "route/custom_tag.h"

#include <stdlib.h>

#include "api/envoy.pb.h"
#include "base/strbuf.h"

struct place {
    const char *path; /* custom_tags */
    uint32_t i;
    struct arena *a;
    struct error *err;
};

static int bad(const struct place *p, int code, const char *field, const char *why)
{
    return error_set(p->err, code, "%s[%u]%s: %s", p->path, p->i, field, why);
}

static int compile(const struct place *p, sv format, struct custom_tag *out)
{
    const struct substitution_opts o = {.use = SUBSTITUTION_BODY, .omit_empty = true};
    int rc = substitution_compile(format, &o, p->a, &out->format, p->err);
    out->kind = CUSTOM_TAG_FORMAT;
    if (rc < 0)
        error_prefix(p->err, "%s[%u].value: ", p->path, p->i);
    return rc;
}

/* What separates keys in the operator that reads the metadata cannot be part of one. */
static bool plain_key(sv v)
{
    for (size_t i = 0; i < v.n; i++)
        if (v.p[i] == ':' || v.p[i] == ')' || v.p[i] == '%')
            return false;
    return v.n > 0;
}

/* %DYNAMIC_METADATA(ns:key:key)% and its sisters read the same, and print it the same. */
static int metadata(const struct place *p, const struct envoy_CustomTag_Metadata *m,
                    struct custom_tag *out)
{
    static const struct {
        uint32_t kind;
        const char *op;
    } ops[] = {
        {envoy_MetadataKind_request_tag, "DYNAMIC_METADATA("},
        {envoy_MetadataKind_route_tag, "METADATA(ROUTE:"},
        {envoy_MetadataKind_cluster_tag, "CLUSTER_METADATA("},
        {envoy_MetadataKind_host_tag, "UPSTREAM_METADATA("},
    };
    const struct envoy_MetadataKey *k = m->metadata_key;
    const char *op = NULL;
    struct strbuf format;
    for (unsigned i = 0; i < sizeof ops / sizeof *ops; i++)
        if (m->kind && m->kind->which_kind == ops[i].kind)
            op = ops[i].op;
    if (!op)
        return bad(p, E_INVALID, ".metadata.kind", "must be set");
    if (!k || !k->path.n)
        return bad(p, E_INVALID, ".metadata.metadata_key", "needs a key and a path");
    bool plain = plain_key(k->key);
    for (uint32_t i = 0; i < k->path.n; i++)
        plain &= plain_key(k->path.v[i]->key);
    if (!plain)
        return bad(p, E_UNSUPPORTED, ".metadata.metadata_key",
                   "keys that are empty or have ':', ')' or '%' in them are not supported");
    strbuf_init(&format, 65536);
    strbuf_addf(&format, "%%%s%.*s", op, SV_ARG(k->key));
    for (uint32_t i = 0; i < k->path.n; i++)
        strbuf_addf(&format, ":%.*s", SV_ARG(k->path.v[i]->key));
    strbuf_add_c(&format, ")%");
    int rc = compile(p, strbuf_sv(&format), out);
    strbuf_fini(&format);
    out->fallback = m->default_value;
    return rc;
}

static int build(const struct place *p, const struct envoy_CustomTag *m, struct custom_tag *out)
{
    const char *e;
    *out = (struct custom_tag){.tag = m->tag};
    if (!m->tag.n)
        return bad(p, E_INVALID, ".tag", "must not be empty");
    switch (m->which_type) {
    case envoy_CustomTag_literal_tag:
        out->text = m->literal->value;
        return out->text.n ? 0 : bad(p, E_INVALID, ".literal.value", "must not be empty");
    case envoy_CustomTag_environment_tag:
        if (!m->environment->name.n)
            return bad(p, E_INVALID, ".environment.name", "must not be empty");
        e = getenv(arena_cstr(p->a, m->environment->name));
        out->kind = CUSTOM_TAG_ENVIRONMENT;
        out->text = e ? arena_sv(p->a, sv_of(e)) : m->environment->default_value;
        return 0;
    case envoy_CustomTag_request_header_tag:
        out->kind = CUSTOM_TAG_HEADER;
        out->text = m->request_header->name;
        out->fallback = m->request_header->default_value;
        return out->text.n ? 0 : bad(p, E_INVALID, ".request_header.name", "must not be empty");
    case envoy_CustomTag_metadata_tag:
        return metadata(p, m->metadata, out);
    case envoy_CustomTag_value_tag:
        return compile(p, m->value, out);
    default:
        return bad(p, E_INVALID, "", "names no source");
    }
}

int custom_tags_build(const struct envoy_CustomTag *const *v, uint32_t n, const char *path,
                      struct arena *a, struct custom_tags *out, struct error *err)
{
    struct custom_tag *t = arena_array(a, struct custom_tag, n);
    for (uint32_t i = 0; i < n; i++) {
        const struct place p = {path, i, a, err};
        int rc = build(&p, v[i], &t[i]);
        if (rc < 0)
            return rc;
    }
    *out = (struct custom_tags){t, n};
    return 0;
}

sv custom_tag_value(const struct custom_tag *t, const struct substitution_ctx *c)
{
    const struct http_head *req = c->req ? c->req : c->si->req;
    sv v = t->text;
    if (t->kind == CUSTOM_TAG_HEADER)
        v = req ? http_head_get(req, t->text, c->si->arena) : (sv){NULL, 0};
    else if (t->kind == CUSTOM_TAG_FORMAT)
        v = substitution_eval_arena(t->format, c, c->si->arena);
    bool absent = t->kind == CUSTOM_TAG_FORMAT ? !v.n : !v.p;
    return absent ? t->fallback : v;
}
