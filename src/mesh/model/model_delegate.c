#include "mesh/model/model_delegate.h"

#include <string.h>

/* ---- do they contradict each other? ---- */

static sv text_of(const struct istio_StringMatch *s, uint32_t tag)
{
    if (!s || s->which_match_type != tag)
        return (sv){NULL, 0};
    return tag == istio_StringMatch_exact_tag    ? s->exact
           : tag == istio_StringMatch_prefix_tag ? s->prefix
                                                 : s->regex;
}

/* The leaf must take no more than the root: an expression is comparable with nothing. */
static bool strings_conflict(const struct istio_StringMatch *root,
                             const struct istio_StringMatch *leaf)
{
    if (!root || !leaf)
        return false;
    sv exact = text_of(root, istio_StringMatch_exact_tag);
    sv prefix = text_of(root, istio_StringMatch_prefix_tag);
    sv leaf_exact = text_of(leaf, istio_StringMatch_exact_tag);
    sv leaf_prefix = text_of(leaf, istio_StringMatch_prefix_tag);

    if (text_of(root, istio_StringMatch_regex_tag).n ||
        text_of(leaf, istio_StringMatch_regex_tag).n)
        return true;
    if (exact.n)
        return !sv_eq(leaf_exact, exact);
    if (prefix.n)
        return !sv_starts(leaf_prefix.n ? leaf_prefix : leaf_exact, prefix);
    return true;
}

/* The value under a key of a map of the message, or NULL. */
#define ENTRY(out, list, want)                                                                     \
    do {                                                                                           \
        (out) = NULL;                                                                              \
        for (uint32_t e_ = 0; e_ < (list).n; e_++) {                                               \
            if (sv_eq((list).v[e_]->key, (want)))                                                  \
                (out) = (list).v[e_];                                                              \
        }                                                                                          \
    } while (0)

#define STRING_MAPS_CONFLICT(conflict, root, leaf)                                                 \
    do {                                                                                           \
        for (uint32_t i_ = 0; i_ < (leaf).n; i_++) {                                               \
            __typeof__(*(root).v) e_found;                                                         \
            ENTRY(e_found, root, (leaf).v[i_]->key);                                               \
            if (e_found && strings_conflict(e_found->value, (leaf).v[i_]->value))                  \
                (conflict) = true;                                                                 \
        }                                                                                          \
    } while (0)

static bool has_name(const sv *v, uint32_t n, sv name)
{
    for (uint32_t i = 0; i < n; i++) {
        if (sv_eq(v[i], name))
            return true;
    }
    return false;
}

static bool gateways_conflict(const struct istio_HTTPMatchRequest *root,
                              const struct istio_HTTPMatchRequest *leaf)
{
    for (uint32_t i = 0; root->gateways.n && i < leaf->gateways.n; i++) {
        if (!has_name(root->gateways.v, root->gateways.n, leaf->gateways.v[i]))
            return true;
    }
    return false;
}

static bool matches_conflict(const struct istio_HTTPMatchRequest *root,
                             const struct istio_HTTPMatchRequest *leaf)
{
    bool conflict =
        strings_conflict(root->uri, leaf->uri) || strings_conflict(root->scheme, leaf->scheme) ||
        strings_conflict(root->method, leaf->method) ||
        strings_conflict(root->authority, leaf->authority) ||
        root->ignore_uri_case != leaf->ignore_uri_case ||
        (root->port && leaf->port && root->port != leaf->port) ||
        (root->source_namespace.n && !sv_eq(root->source_namespace, leaf->source_namespace)) ||
        gateways_conflict(root, leaf);

    STRING_MAPS_CONFLICT(conflict, root->headers, leaf->headers);
    STRING_MAPS_CONFLICT(conflict, root->without_headers, leaf->without_headers);
    STRING_MAPS_CONFLICT(conflict, root->query_params, leaf->query_params);
    for (uint32_t i = 0; i < leaf->source_labels.n; i++) {
        const struct istio_HTTPMatchRequest_SourceLabelsEntry *e;
        ENTRY(e, root->source_labels, leaf->source_labels.v[i]->key);
        conflict |= e && !sv_eq(e->value, leaf->source_labels.v[i]->value);
    }
    return conflict;
}

/* ---- merging ---- */

/* The leaf's entries, and those of the root whose keys it does not have. */
#define MERGE_MAPS(a, out, root, leaf)                                                             \
    do {                                                                                           \
        (out).v = arena_array((a), __typeof__(*(out).v), (root).n + (leaf).n + 1);                 \
        (out).n = 0;                                                                               \
        for (uint32_t i_ = 0; i_ < (leaf).n; i_++)                                                 \
            (out).v[(out).n++] = (leaf).v[i_];                                                     \
        for (uint32_t i_ = 0; i_ < (root).n; i_++) {                                               \
            __typeof__(*(out).v) e_found;                                                          \
            ENTRY(e_found, leaf, (root).v[i_]->key);                                               \
            if (!e_found)                                                                          \
                (out).v[(out).n++] = (root).v[i_];                                                 \
        }                                                                                          \
    } while (0)

#define INHERIT(out, root, part)                                                                   \
    do {                                                                                           \
        if (!(out)->part)                                                                          \
            (out)->part = (root)->part;                                                            \
    } while (0)

static sv join_names(struct arena *a, sv root, sv leaf)
{
    if (!root.n || !leaf.n)
        return root.n ? root : leaf;
    return arena_printf(a, "%.*s-%.*s", SV_ARG(root), SV_ARG(leaf));
}

static const struct istio_HTTPMatchRequest *merge_match(struct arena *a,
                                                        const struct istio_HTTPMatchRequest *root,
                                                        const struct istio_HTTPMatchRequest *leaf)
{
    struct istio_HTTPMatchRequest *out = arena_new(a, struct istio_HTTPMatchRequest);

    *out = *leaf;
    out->name = join_names(a, root->name, leaf->name);
    INHERIT(out, root, uri);
    INHERIT(out, root, scheme);
    INHERIT(out, root, method);
    INHERIT(out, root, authority);
    INHERIT(out, root, port);
    MERGE_MAPS(a, out->headers, root->headers, leaf->headers);
    MERGE_MAPS(a, out->without_headers, root->without_headers, leaf->without_headers);
    MERGE_MAPS(a, out->query_params, root->query_params, leaf->query_params);
    MERGE_MAPS(a, out->source_labels, root->source_labels, leaf->source_labels);
    if (!out->source_namespace.n)
        out->source_namespace = root->source_namespace;
    if (!out->gateways.n)
        out->gateways = root->gateways;
    if (!out->stat_prefix.n)
        out->stat_prefix = root->stat_prefix;
    return out;
}

/* False when a match of the leaf contradicts every one of the root. */
static bool merge_matches(struct arena *a, const struct istio_HTTPRoute *root,
                          const struct istio_HTTPRoute *leaf, struct istio_HTTPRoute *out)
{
    const struct istio_HTTPMatchRequest **v;
    uint32_t n = 0;

    if (!root->match.n || !leaf->match.n) {
        out->match = root->match.n ? root->match : leaf->match;
        return true;
    }
    v = arena_array(a, const struct istio_HTTPMatchRequest *,
                    (size_t)root->match.n * leaf->match.n);
    for (uint32_t l = 0; l < leaf->match.n; l++) {
        uint32_t before = n;
        for (uint32_t r = 0; r < root->match.n; r++) {
            if (!matches_conflict(root->match.v[r], leaf->match.v[l]))
                v[n++] = merge_match(a, root->match.v[r], leaf->match.v[l]);
        }
        if (n == before)
            return false;
    }
    out->match.v = v;
    out->match.n = n;
    return true;
}

static const struct istio_Destination *resolved(struct model *m, const struct istio_Destination *d,
                                                sv ns)
{
    struct istio_Destination *out;

    if (!d)
        return NULL;
    out = arena_new(&m->arena, struct istio_Destination);
    *out = *d;
    out->host = model_host_resolve(m, d->host, ns, &m->arena);
    return out;
}

/* What the root says of mirrors holds in its namespace, also under a delegate of another one. */
static void inherit_mirrors(struct model *m, struct istio_HTTPRoute *out,
                            const struct istio_HTTPRoute *root, sv root_ns)
{
    INHERIT(out, root, mirror_percent);
    INHERIT(out, root, mirror_percentage);
    if (out->mirror || out->mirrors.n)
        return;
    out->mirror = resolved(m, root->mirror, root_ns);
    out->mirrors.v =
        arena_array(&m->arena, const struct istio_HTTPMirrorPolicy *, root->mirrors.n + 1);
    for (uint32_t i = 0; i < root->mirrors.n; i++) {
        struct istio_HTTPMirrorPolicy *p = arena_new(&m->arena, struct istio_HTTPMirrorPolicy);
        *p = *root->mirrors.v[i];
        p->destination = resolved(m, p->destination, root_ns);
        out->mirrors.v[out->mirrors.n++] = p;
    }
}

const struct istio_HTTPRoute *model_delegate_merge(struct model *m,
                                                   const struct istio_HTTPRoute *root, sv root_ns,
                                                   const struct istio_HTTPRoute *leaf)
{
    struct istio_HTTPRoute *out = arena_new(&m->arena, struct istio_HTTPRoute);

    *out = *leaf;
    if (!merge_matches(&m->arena, root, leaf, out))
        return NULL;
    out->name = join_names(&m->arena, root->name, leaf->name);
    INHERIT(out, root, timeout);
    INHERIT(out, root, retries);
    INHERIT(out, root, cors_policy);
    INHERIT(out, root, headers);
    /* A redirect or a direct response takes neither. */
    if (out->route.n) {
        INHERIT(out, root, rewrite);
        INHERIT(out, root, fault);
        inherit_mirrors(m, out, root, root_ns);
    }
    return out;
}
