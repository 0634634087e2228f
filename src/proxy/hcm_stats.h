/* Counters of the HTTP connection manager: http.PREFIX.* and listener.ADDR.http.PREFIX.*, with
 * Envoy's names. Thread: counting: any. */
#ifndef WEFT_PROXY_HCM_STATS_H
#define WEFT_PROXY_HCM_STATS_H

#include "http/codec.h"
#include "telemetry/stats.h"

#define HCM_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                              \
    GAUGE(P, downstream_cx_active)                                                                 \
    COUNTER(P, downstream_cx_delayed_close_timeout)                                                \
    COUNTER(P, downstream_cx_destroy)                                                              \
    COUNTER(P, downstream_cx_destroy_active_rq)                                                    \
    COUNTER(P, downstream_cx_destroy_local)                                                        \
    COUNTER(P, downstream_cx_destroy_local_active_rq)                                              \
    COUNTER(P, downstream_cx_destroy_remote)                                                       \
    COUNTER(P, downstream_cx_destroy_remote_active_rq)                                             \
    COUNTER(P, downstream_cx_drain_close)                                                          \
    GAUGE(P, downstream_cx_http1_active)                                                           \
    COUNTER(P, downstream_cx_http1_total)                                                          \
    GAUGE(P, downstream_cx_http2_active)                                                           \
    COUNTER(P, downstream_cx_http2_total)                                                          \
    COUNTER(P, downstream_cx_idle_timeout)                                                         \
    HISTOGRAM(P, downstream_cx_length_ms, STAT_UNIT_MS)                                            \
    COUNTER(P, downstream_cx_max_duration_reached)                                                 \
    COUNTER(P, downstream_cx_max_requests_reached)                                                 \
    COUNTER(P, downstream_cx_protocol_error)                                                       \
    COUNTER(P, downstream_cx_rx_bytes_total)                                                       \
    GAUGE(P, downstream_cx_ssl_active)                                                             \
    COUNTER(P, downstream_cx_ssl_total)                                                            \
    COUNTER(P, downstream_cx_total)                                                                \
    COUNTER(P, downstream_cx_tx_bytes_total)                                                       \
    GAUGE(P, downstream_cx_upgrades_active)                                                        \
    COUNTER(P, downstream_cx_upgrades_total)                                                       \
    COUNTER(P, downstream_flow_control_paused_reading_total)                                       \
    COUNTER(P, downstream_flow_control_resumed_reading_total)                                      \
    COUNTER(P, downstream_rq_1xx)                                                                  \
    COUNTER(P, downstream_rq_2xx)                                                                  \
    COUNTER(P, downstream_rq_3xx)                                                                  \
    COUNTER(P, downstream_rq_4xx)                                                                  \
    COUNTER(P, downstream_rq_5xx)                                                                  \
    GAUGE(P, downstream_rq_active)                                                                 \
    COUNTER(P, downstream_rq_completed)                                                            \
    COUNTER(P, downstream_rq_failed_path_normalization)                                            \
    COUNTER(P, downstream_rq_header_timeout)                                                       \
    COUNTER(P, downstream_rq_http1_total)                                                          \
    COUNTER(P, downstream_rq_http2_total)                                                          \
    COUNTER(P, downstream_rq_idle_timeout)                                                         \
    COUNTER(P, downstream_rq_max_duration_reached)                                                 \
    COUNTER(P, downstream_rq_misdirected)                                                          \
    COUNTER(P, downstream_rq_non_relative_path)                                                    \
    COUNTER(P, downstream_rq_overload_close)                                                       \
    COUNTER(P, downstream_rq_redirected_with_normalized_path)                                      \
    COUNTER(P, downstream_rq_rejected_via_ip_detection)                                            \
    COUNTER(P, downstream_rq_response_before_rq_complete)                                          \
    COUNTER(P, downstream_rq_rx_reset)                                                             \
    HISTOGRAM(P, downstream_rq_time, STAT_UNIT_MS)                                                 \
    COUNTER(P, downstream_rq_timeout)                                                              \
    COUNTER(P, downstream_rq_too_large)                                                            \
    COUNTER(P, downstream_rq_too_many_premature_resets)                                            \
    COUNTER(P, downstream_rq_total)                                                                \
    COUNTER(P, downstream_rq_tx_reset)                                                             \
    COUNTER(P, downstream_rq_ws_on_non_ws_route)                                                   \
    COUNTER(P, rs_too_large)
STAT_GROUP_DECLARE(hcm_stats, HCM_STATS);

/* listener.ADDR.http.PREFIX.* */
#define HCM_LISTENER_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                     \
    COUNTER(P, downstream_rq_1xx)                                                                  \
    COUNTER(P, downstream_rq_2xx)                                                                  \
    COUNTER(P, downstream_rq_3xx)                                                                  \
    COUNTER(P, downstream_rq_4xx)                                                                  \
    COUNTER(P, downstream_rq_5xx)                                                                  \
    COUNTER(P, downstream_rq_completed)
STAT_GROUP_DECLARE(hcm_listener_stats, HCM_LISTENER_STATS);

/* The codecs' plain counters (one set a worker and protocol) as http1.NAME and http2.NAME. */
struct hcm_codec_counters {
    struct http_codec_stats now;  /* codecs write here */
    struct http_codec_stats told; /* what the group already has */
    struct stat_group group;
};
void hcm_codec_counters_init(struct hcm_codec_counters *c, struct stats *st, sv prefix);
void hcm_codec_counters_fini(struct hcm_codec_counters *c);
/* Adds what is new to the group. Worker. */
void hcm_codec_counters_tell(struct hcm_codec_counters *c);

#endif
