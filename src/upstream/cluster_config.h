/* The runtime form of an envoy.config.cluster.v3.Cluster: defaults filled in, times in
 * milliseconds, extensions unpacked, everything that is parsed but not built refused with its field
 * path ("cluster 'x': outlier_detection.max_ejection_time_jitter: not supported").
 *
 *   packed bytes -> cluster_config_new -> struct cluster_config   (one arena; read-only afterwards)
 *
 * Made on main to validate, and again at first use by whoever uses the cluster first. Files and
 * certificates are not touched here: see cluster_tls.h.
 * Thread: any; the result may be shared. */
#ifndef WEFT_UPSTREAM_CLUSTER_CONFIG_H
#define WEFT_UPSTREAM_CLUSTER_CONFIG_H

#include "api/envoy.pb.h"
#include "base/arena.h"
#include "http/limits.h"
#include "net/conn.h"
#include "net/resolver.h"
#include "upstream/bind_source.h"
#include "upstream/lb/lb.h"
#include "upstream/limits.h"

enum cluster_type {
    CLUSTER_STATIC,
    CLUSTER_STRICT_DNS,
    CLUSTER_LOGICAL_DNS,
    CLUSTER_EDS,
    CLUSTER_ORIGINAL_DST,
};

/* What is spoken to the hosts. */
enum cluster_http {
    CLUSTER_HTTP1,
    CLUSTER_HTTP2,
    CLUSTER_HTTP_DOWNSTREAM, /* what the client spoke */
    CLUSTER_HTTP_ALPN,       /* what the TLS handshake settles */
};

struct cluster_http_config {
    enum cluster_http protocol;
    struct http_limits h1, h2;
    uint64_t idle_timeout_ms;             /* 0: none */
    uint64_t max_connection_ms;           /* 0: none */
    uint64_t max_requests_per_connection; /* 0: any number */
    bool auto_sni, auto_san_validation;
    sv auto_sni_header; /* empty: the authority */
    /* HTTP/2 PING; interval 0: none */
    uint64_t keepalive_interval_ms, keepalive_timeout_ms, keepalive_idle_ms;
    uint32_t keepalive_jitter_percent;
};

struct cluster_transport {
    sv name;                           /* of the match, for stats; empty for the default one */
    const struct google_Struct *match; /* NULL: the default one */
    const char *path;                  /* of its field, for errors */
    const struct envoy_UpstreamTlsContext *tls; /* NULL: plain text */
    uint8_t proxy_protocol; /* version of the PROXY header that goes first; 0: none */
};

struct cluster_dns {
    uint64_t refresh_ms, jitter_ms;
    uint64_t failure_base_ms, failure_max_ms; /* 0: refresh_ms */
    bool respect_ttl;
    enum resolve_family family;
    const char *servers; /* "ip:port,..."; NULL: the process's */
};

/* outlier_detection with its defaults filled in. */
struct outlier_config {
    bool on;
    uint32_t consecutive_5xx, consecutive_gateway, consecutive_local;
    /* Statuses that are errors, in place of 500 and above; bit by bit. */
    bool by_status;
    uint64_t statuses[10];
    bool split_local; /* failures that are ours (connect, reset, timeout) are judged apart */
    uint64_t interval_ms, base_ms, max_ms, jitter_ms;
    uint32_t max_percent;
    bool always_one;
    bool forgiven_by_health_check;                         /* a good active check lets it back in */
    uint32_t sr_minimum_hosts, sr_volume, sr_stdev_factor; /* factor in thousandths */
    uint32_t fp_minimum_hosts, fp_volume, fp_threshold;
    /* Percent of detections that eject. */
    uint32_t enforce_5xx, enforce_gateway, enforce_local;
    uint32_t enforce_sr, enforce_sr_local, enforce_fp, enforce_fp_local;
};

/* The one active health check. */
enum health_kind { HEALTH_NONE, HEALTH_HTTP, HEALTH_TCP, HEALTH_GRPC };
struct status_range {
    int64_t from, to; /* to is not part of it */
};
struct health_config {
    enum health_kind kind;
    uint64_t timeout_ms, interval_ms, initial_jitter_ms, interval_jitter_ms;
    uint32_t interval_jitter_percent;
    uint32_t unhealthy_threshold, healthy_threshold;
    uint32_t alt_port; /* 0: the endpoint's */
    bool reuse_connection;
    uint64_t no_traffic_ms, no_traffic_healthy_ms;
    uint64_t unhealthy_ms, unhealthy_edge_ms, healthy_edge_ms;
    const sv *alpn; /* offered to TLS endpoints */
    uint32_t n_alpn;
    /* HTTP and gRPC */
    bool http2;
    sv method, host, path;
    const struct status_range *expected, *retriable;
    uint32_t n_expected, n_retriable;
    const struct envoy_HeaderValueOption **headers;
    uint32_t n_headers;
    const sv *remove;
    uint32_t n_remove;
    sv grpc_service;
    /* TCP: bytes to send, and those that must come back, in this order with anything between */
    sv send;
    const sv *receive;
    uint32_t n_receive;
};

struct cluster_config {
    struct arena arena;
    const struct envoy_Cluster *pb;
    sv name, stat_name;
    enum cluster_type type;
    sv eds_name;             /* EDS: what the assignment is called */
    sv eds_file;             /* its ConfigSource, packed, where that is a file */
    uint64_t eds_timeout_ms; /* initial_fetch_timeout; 0: waits for ever */
    uint64_t connect_timeout_ms;
    uint32_t buffer_limit; /* per_connection_buffer_limit_bytes */
    bool wait_for_warm;    /* part of cluster_manager_when_warm */
    struct lb_config lb;
    struct limit_config limits[2]; /* by priority */
    uint32_t per_host_max_connections;
    struct cluster_http_config http;
    struct cluster_transport *transports; /* [0] the default, then the matches in order */
    uint32_t n_transports;
    struct cluster_dns dns;
    struct sock_opts sock; /* bind_to: see bind */
    struct bind_source bind;
    /* ORIGINAL_DST */
    sv original_dst_header;     /* empty: none is looked at */
    uint32_t original_dst_port; /* 0: the original one */
    uint64_t cleanup_ms;
    struct outlier_config outlier;
    struct health_config health;
};

/* `fields`: what to do about unknown fields, NULL: refuse. `packed` must outlive the result.
 * NULL on failure. */
struct cluster_config *cluster_config_new(sv packed, const struct pb_opts *fields,
                                          struct error *err);
void cluster_config_free(struct cluster_config *c); /* NULL is fine */
/* The index of the transport socket for an endpoint with this metadata (may be NULL). Fits
 * endpoint_transport_fn. */
uint32_t cluster_config_transport(const void *cfg, const struct envoy_Metadata *m);

/* The name of the cluster in packed bytes, without decoding all of it; empty when there is none. */
sv cluster_config_peek_name(sv packed);

#endif
