/* Matching dynamic metadata by filter, path and value. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "api/node.h"
#include "route/match.h"

#define DEPTH_MAX 16 /* of nested or_match and list_match */

struct value_match {
    uint32_t kind; /* envoy_ValueMatcher_*_tag */
    bool want;     /* bool_match, present_match */
    bool is_range;
    double exact, start, end; /* double_match: [start, end) */
    struct string_match string;
    struct value_match *sub; /* list_match: one; or_match: n */
    uint32_t n;
};

struct metadata_match {
    sv filter;
    sv *path;
    uint32_t n_path;
    bool invert;
    struct value_match value;
};

/* What stands at the path. */
struct value {
    enum { ABSENT, NIL, TEXT, NUMBER, BOOLEAN, LIST, OTHER } kind;
    sv text;
    double number;
    bool boolean;
    const struct node *list;
};

static int value_build(const struct envoy_ValueMatcher *m, const char *path, int depth,
                       struct arena *a, struct value_match *out, struct error *err)
{
    char sub[512];
    if (!m || m->which_match_pattern == 0)
        return error_set(err, E_INVALID, "%s: says nothing to match", path);
    if (depth > DEPTH_MAX)
        return error_set(err, E_LIMIT, "%s: is nested more than %d deep", path, DEPTH_MAX);
    *out = (struct value_match){.kind = m->which_match_pattern};
    switch (m->which_match_pattern) {
    case envoy_ValueMatcher_double_match_tag:
        out->is_range = m->double_match->which_match_pattern == envoy_DoubleMatcher_range_tag;
        out->exact = m->double_match->exact;
        if (out->is_range) {
            out->start = m->double_match->range->start;
            out->end = m->double_match->range->end;
        }
        return 0;
    case envoy_ValueMatcher_string_match_tag:
        snprintf(sub, sizeof(sub), "%s.string_match", path);
        return string_match_build(m->string_match, sub, a, &out->string, err);
    case envoy_ValueMatcher_bool_match_tag:
        out->want = m->bool_match;
        return 0;
    case envoy_ValueMatcher_present_match_tag:
        out->want = m->present_match;
        return 0;
    case envoy_ValueMatcher_list_match_tag:
        snprintf(sub, sizeof(sub), "%s.list_match.one_of", path);
        out->n = 1;
        out->sub = arena_new(a, struct value_match);
        return value_build(m->list_match->one_of, sub, depth + 1, a, out->sub, err);
    case envoy_ValueMatcher_or_match_tag:
        out->n = m->or_match->value_matchers.n;
        if (out->n < 2)
            return error_set(err, E_INVALID, "%s.or_match: needs two or more", path);
        out->sub = arena_array(a, struct value_match, out->n);
        for (uint32_t i = 0; i < out->n; i++) {
            snprintf(sub, sizeof(sub), "%s.or_match.value_matchers[%u]", path, i);
            int rc =
                value_build(m->or_match->value_matchers.v[i], sub, depth + 1, a, &out->sub[i], err);
            if (rc != 0)
                return rc;
        }
        return 0;
    default:
        return 0; /* null_match */
    }
}

int metadata_match_build(const struct envoy_MetadataMatcher *m, const char *path, struct arena *a,
                         const struct metadata_match **out, struct error *err)
{
    struct metadata_match *x = arena_new(a, struct metadata_match);
    if (m->filter.n == 0)
        return error_set(err, E_INVALID, "%s.filter: must not be empty", path);
    if (m->path.n == 0)
        return error_set(err, E_INVALID, "%s.path: must not be empty", path);
    x->filter = m->filter;
    x->invert = m->invert;
    x->n_path = m->path.n;
    x->path = arena_array(a, sv, m->path.n);
    for (uint32_t i = 0; i < m->path.n; i++) {
        x->path[i] = m->path.v[i]->key;
        if (x->path[i].n == 0)
            return error_set(err, E_INVALID, "%s.path[%u].key: must not be empty", path, i);
    }
    char sub[512];
    snprintf(sub, sizeof(sub), "%s.value", path);
    int rc = value_build(m->value, sub, 0, a, &x->value, err);
    if (rc == 0)
        *out = x;
    return rc;
}

static struct value from_node(const struct node *n)
{
    if (!n)
        return (struct value){.kind = ABSENT};
    if (n->kind == NODE_SEQ)
        return (struct value){.kind = LIST, .list = n};
    if (n->kind == NODE_MAP)
        return (struct value){.kind = OTHER};
    if (n->kind == NODE_NULL || (!n->quoted && sv_eq(n->text, SV("null"))))
        return (struct value){.kind = NIL};
    if (n->quoted)
        return (struct value){.kind = TEXT, .text = n->text};
    if (sv_eq(n->text, SV("true")) || sv_eq(n->text, SV("false")))
        return (struct value){.kind = BOOLEAN, .boolean = n->text.p[0] == 't'};
    char text[64], *end;
    snprintf(text, sizeof(text), "%.*s", SV_ARG(n->text));
    double d = strtod(text, &end);
    return *end ? (struct value){.kind = OTHER} : (struct value){.kind = NUMBER, .number = d};
}

static struct value find_value(const struct metadata_match *m, const struct stream_info *si,
                               struct arena *scratch)
{
    const struct stream_meta *e = si ? stream_info_meta_get(si, m->filter, m->path[0]) : NULL;
    if (!e)
        return (struct value){.kind = ABSENT};
    if (e->kind == STREAM_META_JSON) {
        struct node *n = NULL;
        if (node_parse(e->text, "metadata", scratch, &n, NULL) != 0)
            return (struct value){.kind = ABSENT};
        const struct node *at = n;
        for (uint32_t i = 1; i < m->n_path && at; i++) {
            char *key = arena_cstr(scratch, m->path[i]);
            at = node_get(at, key);
        }
        return from_node(at);
    }
    if (m->n_path > 1)
        return (struct value){.kind = ABSENT};
    switch (e->kind) {
    case STREAM_META_STRING:
        return (struct value){.kind = TEXT, .text = e->text};
    case STREAM_META_NUMBER:
        return (struct value){.kind = NUMBER, .number = e->number};
    default:
        return (struct value){.kind = BOOLEAN, .boolean = e->boolean};
    }
}

static bool value_matches(const struct value_match *m, const struct value *v)
{
    switch (m->kind) {
    case envoy_ValueMatcher_null_match_tag:
        return v->kind == NIL;
    case envoy_ValueMatcher_double_match_tag:
        if (v->kind != NUMBER)
            return false;
        /* As close as printing and reading back a number keeps it. */
        return m->is_range ? v->number >= m->start && v->number < m->end
                           : fabs(v->number - m->exact) <= 1e-9;
    case envoy_ValueMatcher_string_match_tag:
        return v->kind == TEXT && string_match(&m->string, v->text);
    case envoy_ValueMatcher_bool_match_tag:
        return v->kind == BOOLEAN && v->boolean == m->want;
    case envoy_ValueMatcher_present_match_tag:
        return (v->kind != ABSENT) == m->want;
    case envoy_ValueMatcher_list_match_tag:
        if (v->kind != LIST)
            return false;
        for (uint32_t i = 0; i < v->list->n; i++) {
            struct value item = from_node(v->list->v[i]);
            if (value_matches(m->sub, &item))
                return true;
        }
        return false;
    default: /* or_match */
        for (uint32_t i = 0; i < m->n; i++)
            if (value_matches(&m->sub[i], v))
                return true;
        return false;
    }
}

bool metadata_match(const struct metadata_match *m, const struct stream_info *si,
                    struct arena *scratch)
{
    struct value v = find_value(m, si, scratch);
    return value_matches(&m->value, &v) != m->invert;
}
