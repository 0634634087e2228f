#include "filters/http/set_metadata/set_metadata.h"

#include "api/envoy.pb.h"
#include "api/google.pb.h"
#include "filters/metadata.h"
#include "telemetry/stats.h"

#define SET_METADATA_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT) COUNTER(P, overwrite_denied)
STAT_GROUP_DECLARE(set_metadata_stats, SET_METADATA_STATS);
STAT_GROUP_DEFINE(set_metadata_stats, SET_METADATA_STATS);

struct entry {
    sv ns;
    const struct google_Struct *value;
    bool merge;
};

struct config {
    struct entry *v;
    uint32_t n;
    struct stat_group stats;
};

struct set_metadata {
    struct http_filter f;
    struct config *cfg;
};

/* ---- configuration ---- */

static void fini(void *stats)
{
    stat_group_fini(stats);
}

/* A copy that stays: decoded messages go with x->scratch. */
static int add(const struct filter_ctx *x, struct config *c, sv ns, const struct google_Struct *s,
               bool merge, struct error *err)
{
    void *copy;
    int rc = pb_decode(&google_Struct_pb, pb_encode_arena(&google_Struct_pb, s, x->arena), x->arena,
                       NULL, &copy, err);
    if (rc == 0)
        c->v[c->n++] = (struct entry){ns, copy, merge};
    return rc;
}

static int build(const struct filter_ctx *x, const struct envoy_SetMetadata *m, struct config *c,
                 struct error *err)
{
    int rc = 0;
    c->v = arena_array(x->arena, struct entry, m->metadata.n + 1);
    if (m->value && !m->metadata_namespace.n)
        return error_set(err, E_INVALID, "%s: is required beside value",
                         filter_path(x, "metadata_namespace"));
    if (m->value)
        rc = add(x, c, m->metadata_namespace, m->value, true, err);
    for (uint32_t i = 0; rc == 0 && i < m->metadata.n; i++) {
        const struct envoy_SetMetadata_Metadata *e = m->metadata.v[i];
        if (!e->metadata_namespace.n)
            return error_set(err, E_INVALID, "%s: must not be empty",
                             filter_path(x, "metadata[%u].metadata_namespace", i));
        if (e->typed_value)
            return error_set(err, E_UNSUPPORTED, "%s: is not supported",
                             filter_path(x, "metadata[%u].typed_value", i));
        if (e->value)
            rc = add(x, c, e->metadata_namespace, e->value, e->allow_overwrite, err);
    }
    return rc;
}

static int parse(const struct filter_ctx *x, sv packed, const void **config, struct error *err)
{
    const struct envoy_SetMetadata *m;
    int rc = filter_decode(x, &envoy_SetMetadata_pb, packed, (const void **)&m, err);
    if (rc < 0)
        return rc;
    struct config *c = arena_new(x->arena, struct config);
    rc = build(x, m, c, err);
    if (rc < 0)
        return rc;
    struct stats_scope *http = stats_scope_http(x->stats, x->stat_prefix);
    struct stats_scope *sc = stats_scope_sub(http, SV("set_metadata."), (sv){NULL, 0}, NULL, 0);
    stat_group_init(&c->stats, &set_metadata_stats_def, sc);
    stats_scope_unref(sc);
    stats_scope_unref(http);
    arena_on_free(x->arena, fini, &c->stats);
    *config = c;
    return 0;
}

/* ---- requests ---- */

static enum http_filter_status decode_head(struct http_filter *f, struct http_head *head, bool end)
{
    struct config *c = container_of(f, struct set_metadata, f)->cfg;
    struct stream_info *si = f->host->info;
    for (uint32_t i = 0; i < c->n; i++) {
        const struct entry *e = &c->v[i];
        if (!e->merge && filter_metadata_has(si, e->ns)) {
            stat_inc(&c->stats, set_metadata_stats_overwrite_denied);
            continue;
        }
        for (uint32_t k = 0; k < e->value->fields.n; k++)
            filter_metadata_set(si, e->ns, e->value->fields.v[k]->key, e->value->fields.v[k]->value,
                                true);
    }
    return HTTP_FILTER_CONTINUE;
}

static const struct http_filter_ops ops = {
    .name = "envoy.filters.http.set_metadata",
    .decode_head = decode_head,
};

static struct http_filter *make(const void *config, struct http_filter_host *host)
{
    struct set_metadata *s = arena_new(host->arena, struct set_metadata);
    s->f.ops = &ops;
    s->cfg = (struct config *)config; /* only its counters change */
    return &s->f;
}

const struct http_filter_type http_set_metadata_type = {
    .name = "envoy.filters.http.set_metadata",
    .config_type = "envoy.extensions.filters.http.set_metadata.v3.Config",
    .parse = parse,
    .make = make,
};
