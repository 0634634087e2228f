#include "upstream/cluster_stats.h"
#include "base/code.h"

#include <string.h>

STAT_GROUP_DEFINE(cluster_stat, CLUSTER_STATS);
STAT_GROUP_DEFINE(cluster_rq_stat, CLUSTER_RQ_STATS);
STAT_GROUP_DEFINE(cluster_tls_stat, CLUSTER_TLS_STATS);

/* The codecs' counters, all of them: their order is that of struct http_codec_stats. */
static const struct stat_def codec_defs[] = {
#define X(name) {#name, STAT_COUNTER, STAT_UNIT_NONE},
    HTTP_CODEC_COUNTERS(X)
#undef X
};
#define CODEC_COUNT (sizeof codec_defs / sizeof *codec_defs)
static const struct stat_group_def codec_def = {"codec", codec_defs, CODEC_COUNT};

static void sub_group(struct stat_group *g, const struct stat_group_def *def,
                      struct stats_scope *parent, sv name)
{
    struct stats_scope *sub = stats_scope_sub(parent, name, (sv){0}, NULL, 0);
    stat_group_init(g, def, sub);
    stats_scope_unref(sub);
}

void cluster_stats_init(struct cluster_stats *s, struct stats *registry, sv name)
{
    static const char *const origins[CLUSTER_ORIGINS] = {NULL, "internal.", "external.", "retry."};
    *s = (struct cluster_stats){.scope = stats_scope_cluster(registry, name)};
    stat_group_init(&s->g, &cluster_stat_def, s->scope);
    sub_group(&s->tls, &cluster_tls_stat_def, s->scope, SV("ssl."));
    sub_group(&s->ring, &lb_ring_stat_def, s->scope, SV("ring_hash_lb."));
    sub_group(&s->maglev, &lb_maglev_stat_def, s->scope, SV("maglev_lb."));
    sub_group(&s->http1, &codec_def, s->scope, SV("http1."));
    sub_group(&s->http2, &codec_def, s->scope, SV("http2."));
    for (int i = 0; i < CLUSTER_ORIGINS; i++) {
        struct stats_scope *sc = s->scope;
        if (origins[i])
            sc = stats_scope_sub(s->scope, sv_of(origins[i]), (sv){0}, NULL, 0);
        stat_group_init(&s->rq[i].g, &cluster_rq_stat_def, sc);
        stat_codes_init(&s->rq[i].codes, "upstream_rq", sc);
        if (origins[i])
            stats_scope_unref(sc);
    }
}

void cluster_stats_fini(struct cluster_stats *s)
{
    stat_group_fini(&s->g);
    stat_group_fini(&s->tls);
    stat_group_fini(&s->ring);
    stat_group_fini(&s->maglev);
    stat_group_fini(&s->http1);
    stat_group_fini(&s->http2);
    for (int i = 0; i < CLUSTER_ORIGINS; i++) {
        stat_group_fini(&s->rq[i].g);
        stat_codes_fini(&s->rq[i].codes);
    }
    stats_scope_unref(s->scope);
    s->scope = NULL;
}

HOT static void count_status(struct cluster_stats *s, enum cluster_origin o, uint16_t status)
{
    unsigned class = status / 100u;
    stat_inc(&s->rq[o].g, cluster_rq_stat_upstream_rq_completed);
    if (class >= 1 && class <= 5)
        stat_inc(&s->rq[o].g, cluster_rq_stat_upstream_rq_1xx + class - 1);
    stat_codes_inc(&s->rq[o].codes, status);
}

void cluster_stats_retried(struct cluster_stats *s, uint16_t status)
{
    count_status(s, CLUSTER_RETRIED, status);
}

HOT void cluster_stats_response(struct cluster_stats *s, uint16_t status, uint64_t time_us,
                                bool internal)
{
    const enum cluster_origin to[2] = {CLUSTER_ALL, internal ? CLUSTER_INTERNAL : CLUSTER_EXTERNAL};
    for (int i = 0; i < 2; i++) {
        count_status(s, to[i], status);
        if (time_us != UINT64_MAX) /* UPSTREAM_NO_TIME */
            stat_record(&s->rq[to[i]].g, cluster_rq_stat_upstream_rq_time, time_us / 1000);
    }
}

HOT void cluster_stats_codec(struct cluster_stats *s, bool http2, struct http_codec_stats *c)
{
    struct stat_group *g = http2 ? &s->http2 : &s->http1;
    static const struct http_codec_stats nothing;
    uint64_t *v = (uint64_t *)c;
    _Static_assert(sizeof *c == CODEC_COUNT * sizeof *v, "codec counters are plain numbers");
    if (!memcmp(c, &nothing, sizeof nothing))
        return;
    for (unsigned i = 0; i < CODEC_COUNT; i++) {
        if (!v[i])
            continue;
        stat_add(g, i, v[i]);
        v[i] = 0;
    }
}
