/* Circuit breakers of a cluster: how many connections, pending requests, requests, retries and
 * pools there may be at once, over all workers, per priority.
 *
 *   limits_take -> true: one is taken, give it back with limits_give
 *
 * Counting is one relaxed atomic addition; the gauges circuit_breakers.PRIORITY.*_open are written
 * when a limit is reached or left, remaining_* only when they are asked for.
 * Thread: any. */
#ifndef WEFT_UPSTREAM_LIMITS_H
#define WEFT_UPSTREAM_LIMITS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "telemetry/stats.h"

enum limit_kind { LIMIT_CX, LIMIT_PENDING, LIMIT_RQ, LIMIT_RETRY, LIMIT_POOLS, LIMIT_COUNT };

struct limit_config {
    uint32_t max[LIMIT_COUNT];
    bool track_remaining;
    /* Retries by share of the requests instead of a number. */
    bool budget;
    double budget_percent;
    uint32_t budget_min;
};
/* Envoy's: 1024 connections, pending requests and requests, 3 retries, any number of pools. */
void limit_config_default(struct limit_config *c);

struct limits {
    struct limit_config cfg[2];
    _Atomic uint32_t used[2][LIMIT_COUNT];
    struct stat_group stats[2];
};
/* The scope is the cluster's. */
void limits_init(struct limits *l, const struct limit_config cfg[2], struct stats_scope *scope);
void limits_fini(struct limits *l);
bool limits_take(struct limits *l, unsigned priority, enum limit_kind k);
/* Takes one whatever the limit says (the first connection of a host always may be). */
void limits_force(struct limits *l, unsigned priority, enum limit_kind k);
void limits_give(struct limits *l, unsigned priority, enum limit_kind k);
uint32_t limits_used(const struct limits *l, unsigned priority, enum limit_kind k);
/* What is allowed now: with a retry budget this follows the requests. */
uint32_t limits_max(const struct limits *l, unsigned priority, enum limit_kind k);

#endif
