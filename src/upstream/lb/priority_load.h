/* How load is spread over priorities, as Envoy spreads it.
 *
 *   availability of a priority = min(100, overprovisioning (140) * healthy / hosts) percent
 *   priority 0 gets what it can carry, the next one what is left, and so on; healthy hosts of all
 *   priorities first, degraded ones after them. What is missing to 100 is scaled up.
 *   Panic: where fewer than the threshold (50 %) are healthy or degraded, all hosts of the
 *   priority are used, but only while all priorities together cannot carry 100 %. When every
 *   priority is in panic, load follows the number of hosts.
 *
 * Pure. Thread: any. */
#ifndef WEFT_UPSTREAM_LB_PRIORITY_LOAD_H
#define WEFT_UPSTREAM_LB_PRIORITY_LOAD_H

#include <stdbool.h>
#include <stdint.h>

struct priority_hosts {
    uint32_t hosts; /* all */
    uint32_t healthy, degraded, excluded;
    /* weighted_priority_health: sums of weights, else the same as the counts (total without the
     * excluded). */
    uint64_t healthy_weight, degraded_weight, total_weight;
};

struct priority_load {
    uint32_t healthy, degraded; /* percent of all traffic */
    bool panic;
};

/* out[i] for each of the n priorities; the loads add up to 100 if there is any host at all, else
 * priority 0 has it all. */
void priority_load_compute(const struct priority_hosts *in, uint32_t n, uint32_t overprovisioning,
                           uint32_t panic_percent, struct priority_load *out);
/* The priority for a hash or random number; *degraded: its degraded hosts are meant. */
uint32_t priority_load_choose(const struct priority_load *v, uint32_t n, uint64_t hash,
                              bool *degraded);

#endif
