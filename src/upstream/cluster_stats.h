/* Stats of a cluster by Envoy's names, in the scope cluster.NAME. (NAME: alt_stat_name or name).
 * No memory but the handles until something is counted. Counting: any thread. */
#ifndef WEFT_UPSTREAM_CLUSTER_STATS_H
#define WEFT_UPSTREAM_CLUSTER_STATS_H

#include "http/codec.h"
#include "telemetry/stats.h"
#include "upstream/lb/lb.h"

#define CLUSTER_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                          \
    COUNTER(P, assignment_stale)                                                                   \
    COUNTER(P, assignment_timeout_received)                                                        \
    COUNTER(P, bind_errors)                                                                        \
    COUNTER(P, lb_healthy_panic)                                                                   \
    COUNTER(P, lb_local_cluster_not_ok)                                                            \
    COUNTER(P, lb_recalculate_zone_structures)                                                     \
    GAUGE(P, lb_subsets_active)                                                                    \
    COUNTER(P, lb_subsets_created)                                                                 \
    COUNTER(P, lb_subsets_fallback)                                                                \
    COUNTER(P, lb_subsets_fallback_panic)                                                          \
    COUNTER(P, lb_subsets_removed)                                                                 \
    COUNTER(P, lb_subsets_selected)                                                                \
    GAUGE(P, lb_subsets_single_host_per_subset_duplicate)                                          \
    COUNTER(P, lb_zone_cluster_too_small)                                                          \
    COUNTER(P, lb_zone_no_capacity_left)                                                           \
    COUNTER(P, lb_zone_number_differs)                                                             \
    COUNTER(P, lb_zone_routing_all_directly)                                                       \
    COUNTER(P, lb_zone_routing_cross_zone)                                                         \
    COUNTER(P, lb_zone_routing_sampled)                                                            \
    GAUGE(P, max_host_weight)                                                                      \
    COUNTER(P, membership_change)                                                                  \
    GAUGE(P, membership_degraded)                                                                  \
    GAUGE(P, membership_excluded)                                                                  \
    GAUGE(P, membership_healthy)                                                                   \
    GAUGE(P, membership_total)                                                                     \
    COUNTER(P, original_dst_host_invalid)                                                          \
    COUNTER(P, retry_or_shadow_abandoned)                                                          \
    COUNTER(P, update_attempt)                                                                     \
    COUNTER(P, update_empty)                                                                       \
    COUNTER(P, update_failure)                                                                     \
    COUNTER(P, update_no_rebuild)                                                                  \
    COUNTER(P, update_rejected)                                                                    \
    COUNTER(P, update_success)                                                                     \
    GAUGE(P, upstream_cx_active)                                                                   \
    COUNTER(P, upstream_cx_close_notify)                                                           \
    COUNTER(P, upstream_cx_connect_attempts_exceeded)                                              \
    COUNTER(P, upstream_cx_connect_fail)                                                           \
    HISTOGRAM(P, upstream_cx_connect_ms, STAT_UNIT_MS)                                             \
    COUNTER(P, upstream_cx_connect_timeout)                                                        \
    COUNTER(P, upstream_cx_connect_with_0_rtt)                                                     \
    COUNTER(P, upstream_cx_destroy)                                                                \
    COUNTER(P, upstream_cx_destroy_local)                                                          \
    COUNTER(P, upstream_cx_destroy_local_with_active_rq)                                           \
    COUNTER(P, upstream_cx_destroy_remote)                                                         \
    COUNTER(P, upstream_cx_destroy_remote_with_active_rq)                                          \
    COUNTER(P, upstream_cx_destroy_with_active_rq)                                                 \
    COUNTER(P, upstream_cx_http1_total)                                                            \
    COUNTER(P, upstream_cx_http2_total)                                                            \
    COUNTER(P, upstream_cx_http3_total)                                                            \
    COUNTER(P, upstream_cx_idle_timeout)                                                           \
    HISTOGRAM(P, upstream_cx_length_ms, STAT_UNIT_MS)                                              \
    COUNTER(P, upstream_cx_max_duration_reached)                                                   \
    COUNTER(P, upstream_cx_max_requests)                                                           \
    COUNTER(P, upstream_cx_none_healthy)                                                           \
    COUNTER(P, upstream_cx_overflow)                                                               \
    COUNTER(P, upstream_cx_pool_overflow)                                                          \
    COUNTER(P, upstream_cx_protocol_error)                                                         \
    GAUGE(P, upstream_cx_rx_bytes_buffered)                                                        \
    COUNTER(P, upstream_cx_rx_bytes_total)                                                         \
    COUNTER(P, upstream_cx_total)                                                                  \
    GAUGE(P, upstream_cx_tx_bytes_buffered)                                                        \
    COUNTER(P, upstream_cx_tx_bytes_total)                                                         \
    COUNTER(P, upstream_flow_control_backed_up_total)                                              \
    COUNTER(P, upstream_flow_control_drained_total)                                                \
    COUNTER(P, upstream_flow_control_paused_reading_total)                                         \
    COUNTER(P, upstream_flow_control_resumed_reading_total)                                        \
    COUNTER(P, upstream_http3_broken)                                                              \
    COUNTER(P, upstream_internal_redirect_failed_total)                                            \
    COUNTER(P, upstream_internal_redirect_succeeded_total)                                         \
    COUNTER(P, upstream_rq_0rtt)                                                                   \
    COUNTER(P, upstream_rq_active_overflow)                                                        \
    GAUGE(P, upstream_rq_active)                                                                   \
    COUNTER(P, upstream_rq_cancelled)                                                              \
    COUNTER(P, upstream_rq_dropped_overload)                                                       \
    COUNTER(P, upstream_rq_maintenance_mode)                                                       \
    COUNTER(P, upstream_rq_max_duration_reached)                                                   \
    COUNTER(P, upstream_rq_pending_failure_eject)                                                  \
    GAUGE(P, upstream_rq_pending_active)                                                           \
    COUNTER(P, upstream_rq_pending_overflow)                                                       \
    COUNTER(P, upstream_rq_pending_total)                                                          \
    HISTOGRAM(P, upstream_rq_per_cx, STAT_UNIT_NONE)                                               \
    COUNTER(P, upstream_rq_per_try_idle_timeout)                                                   \
    COUNTER(P, upstream_rq_per_try_timeout)                                                        \
    COUNTER(P, upstream_rq_retry)                                                                  \
    COUNTER(P, upstream_rq_retry_backoff_exponential)                                              \
    COUNTER(P, upstream_rq_retry_backoff_ratelimited)                                              \
    COUNTER(P, upstream_rq_retry_limit_exceeded)                                                   \
    COUNTER(P, upstream_rq_retry_overflow)                                                         \
    COUNTER(P, upstream_rq_replay)                                                                 \
    COUNTER(P, upstream_rq_retry_success)                                                          \
    COUNTER(P, upstream_rq_rx_reset)                                                               \
    COUNTER(P, upstream_rq_timeout)                                                                \
    COUNTER(P, upstream_rq_total)                                                                  \
    COUNTER(P, upstream_rq_tx_reset)                                                               \
    GAUGE(P, warming_state)
STAT_GROUP_DECLARE(cluster_stat, CLUSTER_STATS);

/* Answers by origin; also under "internal." and "external.", or under "retry.". */
#define CLUSTER_RQ_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                       \
    COUNTER(P, upstream_rq_1xx)                                                                    \
    COUNTER(P, upstream_rq_2xx)                                                                    \
    COUNTER(P, upstream_rq_3xx)                                                                    \
    COUNTER(P, upstream_rq_4xx)                                                                    \
    COUNTER(P, upstream_rq_5xx)                                                                    \
    COUNTER(P, upstream_rq_completed)                                                              \
    HISTOGRAM(P, upstream_rq_time, STAT_UNIT_MS)
STAT_GROUP_DECLARE(cluster_rq_stat, CLUSTER_RQ_STATS);

#define CLUSTER_TLS_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                      \
    COUNTER(P, connection_error)                                                                   \
    COUNTER(P, fail_verify_cert_hash)                                                              \
    COUNTER(P, fail_verify_error)                                                                  \
    COUNTER(P, fail_verify_no_cert)                                                                \
    COUNTER(P, fail_verify_san)                                                                    \
    COUNTER(P, handshake)                                                                          \
    COUNTER(P, no_certificate)                                                                     \
    COUNTER(P, session_reused)                                                                     \
    COUNTER(P, upstream_context_secrets_not_ready)
STAT_GROUP_DECLARE(cluster_tls_stat, CLUSTER_TLS_STATS);

/* CLUSTER_RETRIED: answers that were not passed on because the request was sent again. */
enum cluster_origin {
    CLUSTER_ALL,
    CLUSTER_INTERNAL,
    CLUSTER_EXTERNAL,
    CLUSTER_RETRIED,
    CLUSTER_ORIGINS
};

struct cluster_stats {
    struct stats_scope *scope;
    struct stat_group g;            /* cluster_stat_… */
    struct stat_group tls;          /* cluster_tls_stat_… under ssl. */
    struct stat_group ring, maglev; /* lb_ring_stat_… under ring_hash_lb. and the like */
    struct {
        struct stat_group g; /* cluster_rq_stat_… */
        struct stat_codes codes;
    } rq[CLUSTER_ORIGINS];
    struct stat_group http1, http2; /* of codecs, see cluster_stats_codec */
};

void cluster_stats_init(struct cluster_stats *s, struct stats *registry, sv name);
void cluster_stats_fini(struct cluster_stats *s);
/* upstream_rq_completed, upstream_rq_2xx, upstream_rq_200, upstream_rq_time. */
void cluster_stats_response(struct cluster_stats *s, uint16_t status, uint64_t time_us,
                            bool internal);
/* The same of an answer after which the request is sent again: under "retry." alone. */
void cluster_stats_retried(struct cluster_stats *s, uint16_t status);
/* Moves what a codec counted into http1.* or http2.*, and zeroes it. */
void cluster_stats_codec(struct cluster_stats *s, bool http2, struct http_codec_stats *c);

#endif
