#include "proxy/hcm_stats.h"
#include "base/code.h"

#include <string.h>

STAT_GROUP_DEFINE(hcm_stats, HCM_STATS);
STAT_GROUP_DEFINE(hcm_listener_stats, HCM_LISTENER_STATS);

/* The group has the codec's counters in the order of its X-macro, so that an index serves both. */
static const struct stat_def codec_defs[] = {
#define X(name) {#name, STAT_COUNTER, STAT_UNIT_NONE},
    HTTP_CODEC_COUNTERS(X)
#undef X
};
#define N_CODEC (sizeof codec_defs / sizeof codec_defs[0])
static const struct stat_group_def codec_def = {"codec", codec_defs, N_CODEC};

_Static_assert(sizeof(struct http_codec_stats) == N_CODEC * sizeof(uint64_t),
               "codec counters are an array of uint64_t");

void hcm_codec_counters_init(struct hcm_codec_counters *c, struct stats *st, sv prefix)
{
    memset(c, 0, sizeof *c);
    struct stats_scope *scope = stats_scope_plain(st, prefix);
    stat_group_init(&c->group, &codec_def, scope);
    stats_scope_unref(scope);
}

void hcm_codec_counters_fini(struct hcm_codec_counters *c)
{
    hcm_codec_counters_tell(c);
    stat_group_fini(&c->group);
}

HOT void hcm_codec_counters_tell(struct hcm_codec_counters *c)
{
    if (!memcmp(&c->now, &c->told, sizeof c->now))
        return;
    const uint64_t *now = (const uint64_t *)&c->now;
    const uint64_t *told = (const uint64_t *)&c->told;
    for (unsigned i = 0; i < N_CODEC; i++)
        if (now[i] != told[i])
            stat_add(&c->group, i, now[i] - told[i]);
    c->told = c->now;
}
