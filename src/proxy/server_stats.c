/* server.*: gauges that are read off the process now and then. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "proxy/listener_manager.h"
#include "proxy/server_private.h"
#include "proxy/subscription.h"
#include "tls/tls_slot.h"

LOG_COMPONENT(main);

STAT_GROUP_DEFINE(server_stats, SERVER_STATS);

void proxy_server_stats_init(struct proxy_server *s)
{
    static const char *const prefixes[] = {
#define X(id, type, stats) stats,
        CONFIG_TYPES(X)
#undef X
    };
    struct stats_scope *sc = stats_scope_plain(s->stats, SV("server."));
    stat_group_init(&s->server_stats, &server_stats_def, sc);
    stats_scope_unref(sc);
    stat_group_touch(&s->server_stats);
    for (unsigned i = 0; i < CONFIG_TYPE_COUNT; i++) {
        if (!prefixes[i][0])
            continue;
        sc = stats_scope_plain(s->stats, sv_of(prefixes[i]));
        stat_group_init(&s->subscriptions[i], &subscription_stats_def, sc);
        stats_scope_unref(sc);
    }
}

/* Resident bytes of the process, from /proc: what `memory at rest` means to a user. */
static uint64_t resident(void)
{
    unsigned long pages = 0, rss = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    if (fscanf(f, "%lu %lu", &pages, &rss) != 2)
        rss = 0;
    fclose(f);
    return (uint64_t)rss * (uint64_t)sysconf(_SC_PAGESIZE);
}

struct expiry {
    int64_t first;
};

static void look_at_slot(void *arg, sv listener, struct tls_slot *slot)
{
    struct expiry *e = arg;
    struct tls_ctx *c = tls_slot_get(slot);
    if (!c)
        return;
    if (tls_ctx_expires_s(c) < e->first)
        e->first = tls_ctx_expires_s(c);
    tls_ctx_unref(c);
}

static uint64_t days_left(struct proxy_server *s)
{
    struct expiry e = {INT64_MAX};
    int64_t now = (int64_t)(loop_wall_ns(s->loop) / 1000000000u);
    listener_manager_each_tls(s->listeners, look_at_slot, &e);
    if (e.first == INT64_MAX)
        return UINT32_MAX; /* Envoy's value for "none" */
    return e.first > now ? (uint64_t)(e.first - now) / 86400u : 0;
}

/* Memory that was out (base/mem.h). */
static void show_failures(struct proxy_server *s)
{
    uint64_t all = mem_failures(), before = s->memory_failures;
    stat_gauge_set(&s->server_stats, server_stats_memory_short, mem_short());
    if (all == before)
        return;
    s->memory_failures = all;
    stat_add(&s->server_stats, server_stats_memory_allocation_failures, all - before);
    log_warn(&log_main,
             "memory was short: new connections, requests and configuration are refused "
             "while it is failures=%" PRIu64,
             all - before);
}

void proxy_server_stats_update(struct proxy_server *s)
{
    struct stat_group *g = &s->server_stats;
    struct mem_use use = mem_use();
    uint32_t connections = 0;
    for (uint32_t i = 0; i < s->concurrency; i++)
        connections += __atomic_load_n(&s->workers[i]->connections, __ATOMIC_RELAXED);
    stat_gauge_set(g, server_stats_concurrency, s->concurrency);
    stat_gauge_set(g, server_stats_uptime, proxy_server_uptime_s(s));
    stat_gauge_set(g, server_stats_live, s->state == PROXY_LIVE);
    /* Envoy's numbers: 0 live, 1 draining, 2 before initialising, 3 initialising. */
    static const uint64_t numbers[] = {2, 3, 0, 1};
    stat_gauge_set(g, server_stats_state, numbers[s->state]);
    stat_gauge_set(g, server_stats_total_connections, connections);
    show_failures(s);
    stat_gauge_set(g, server_stats_memory_allocated, use.allocated);
    stat_gauge_set(g, server_stats_memory_heap_size, use.heap);
    stat_gauge_set(g, server_stats_memory_physical_size, resident());
    stat_gauge_set(g, server_stats_days_until_first_cert_expiring, days_left(s));
    stat_gauge_set(g, server_stats_version, 0);
    stat_gauge_set(g, server_stats_hot_restart_epoch, s->cli->restart_epoch);
}

void proxy_server_stats_fini(struct proxy_server *s)
{
    stat_group_fini(&s->server_stats);
    for (unsigned i = 0; i < CONFIG_TYPE_COUNT; i++)
        stat_group_fini(&s->subscriptions[i]);
}
