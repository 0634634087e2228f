#include "proxy/subscription.h"

STAT_GROUP_DEFINE(subscription_stats, SUBSCRIPTION_STATS);

static void count(struct stat_group *g, unsigned id)
{
    if (g->def)
        stat_inc(g, id);
}

void subscription_asked(struct stat_group *g)
{
    count(g, subscription_stats_update_attempt);
}

void subscription_taken(struct stat_group *g, sv version, struct loop *loop)
{
    if (!g->def)
        return;
    stat_inc(g, subscription_stats_update_attempt);
    stat_inc(g, subscription_stats_update_success);
    stat_gauge_set(g, subscription_stats_update_time, loop_wall_ns(loop) / 1000000u);
    stat_text_set(g, subscription_stats_version_text, version);
    stat_gauge_set(g, subscription_stats_version, sv_hash_xx64(version, 0));
}

void subscription_rejected(struct stat_group *g)
{
    count(g, subscription_stats_update_attempt);
    count(g, subscription_stats_update_rejected);
}

void subscription_failed(struct stat_group *g)
{
    count(g, subscription_stats_update_attempt);
    count(g, subscription_stats_update_failure);
}

void subscription_timed_out(struct stat_group *g)
{
    count(g, subscription_stats_init_fetch_timeout);
}
