/* What a subscription counts, under Envoy's names and whoever it is for: all clusters, all
 * listeners, a route table, its virtual hosts, a secret. Each of the calls is one attempt, but for
 * subscription_timed_out, where nothing came to be counted.
 *
 *   asked        update_attempt                                 a request leaves
 *   taken        update_success, update_time, version(_text)    what came is in force
 *   rejected     update_rejected                                it is not; what was before stays
 *   failed       update_failure                                 nothing could be read or asked
 *   timed_out    init_fetch_timeout                             the first one did not come in time
 *
 * update_time and the version are therefore those of what is in force. A group that was never
 * initialised (a type that nobody counts, a rig without stats) counts nothing. Thread: main. */
#ifndef WEFT_PROXY_SUBSCRIPTION_H
#define WEFT_PROXY_SUBSCRIPTION_H

#include "net/loop.h"
#include "telemetry/stats.h"

#define SUBSCRIPTION_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                     \
    COUNTER(P, init_fetch_timeout)                                                                 \
    COUNTER(P, update_attempt)                                                                     \
    HISTOGRAM(P, update_duration, STAT_UNIT_MS)                                                    \
    COUNTER(P, update_failure)                                                                     \
    COUNTER(P, update_rejected)                                                                    \
    COUNTER(P, update_success)                                                                     \
    GAUGE(P, update_time)                                                                          \
    GAUGE(P, version)                                                                              \
    TEXT(P, version_text)
STAT_GROUP_DECLARE(subscription_stats, SUBSCRIPTION_STATS);

void subscription_asked(struct stat_group *g);
void subscription_taken(struct stat_group *g, sv version, struct loop *loop);
void subscription_rejected(struct stat_group *g);
void subscription_failed(struct stat_group *g);
void subscription_timed_out(struct stat_group *g);

#endif
