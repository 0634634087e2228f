/* Inside the TCP proxy: tcp_proxy.c moves bytes, tcp_proxy_config.c reads configuration. */
#ifndef WEFT_FILTERS_NETWORK_TCP_PROXY_PRIVATE_H
#define WEFT_FILTERS_NETWORK_TCP_PROXY_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "base/sv.h"
#include "telemetry/stats.h"

struct filter_ctx;
struct access_log;

#define TCP_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                              \
    COUNTER(P, downstream_cx_no_route)                                                             \
    COUNTER(P, downstream_cx_rx_bytes_total)                                                       \
    COUNTER(P, downstream_cx_total)                                                                \
    COUNTER(P, downstream_cx_tx_bytes_total)                                                       \
    COUNTER(P, downstream_flow_control_paused_reading_total)                                       \
    COUNTER(P, downstream_flow_control_resumed_reading_total)                                      \
    COUNTER(P, early_data_received_count_total)                                                    \
    COUNTER(P, idle_timeout)                                                                       \
    COUNTER(P, max_downstream_connection_duration)                                                 \
    COUNTER(P, upstream_flush_total)                                                               \
    GAUGE(P, upstream_flush_active)
STAT_GROUP_DECLARE(tcp_stats, TCP_STATS);

struct tcp_weighted {
    sv cluster;
    uint32_t upto; /* sum of the weights so far */
    const void *metadata;
};

/* tunneling_config: the upstream is asked with CONNECT (or POST) to carry the bytes on. */
struct tcp_tunnel {
    const struct substitution *host;
    bool post;
    sv path;
    uint32_t n_headers;
    struct tcp_tunnel_header {
        sv name;
        bool append;
        const struct substitution *value;
    } * headers;
};

struct tcp_proxy_config {
    sv cluster;
    const struct tcp_weighted *weighted; /* NULL: one cluster */
    uint32_t n_weighted;
    const void *metadata; /* const struct envoy_Metadata * */
    uint64_t idle_ms;     /* default 1 h; 0: never */
    uint64_t max_ms;      /* max_downstream_connection_duration */
    uint32_t attempts;
    bool hash_source_ip;
    const struct tcp_tunnel *tunnel; /* NULL: none */
    const struct access_log *logs;
    bool log_on_connected;
    uint64_t log_flush_ms;
    struct stat_group stats;
};

int tcp_proxy_parse(const struct filter_ctx *x, sv packed, const void **config, struct error *err);

#endif
