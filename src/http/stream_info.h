/* The record of one proxied request: what filters, the router, access logs, tracing and stats read
 * and write. One owner fills each part:
 *
 *   stream_conn (per connection)   connection owner: addresses, TLS, SNI; shared by its streams
 *   stream_info (per stream)       connection manager: start, heads, sizes, result
 *                                  router: upstream_*, attempts, cluster, upstream timing
 *
 * It lives in the stream's arena and dies with it; views in it live as long as the arena unless
 * said otherwise. Times are loop_stamp_ns() values; 0 means "did not happen".
 * The first cause of a failure is the one that is kept (rule of life 13): stream_info_fail().
 * Thread: the stream's worker. */
#ifndef WEFT_HTTP_STREAM_INFO_H
#define WEFT_HTTP_STREAM_INFO_H

#include <stdbool.h>
#include <stdint.h>
#include "base/arena.h"
#include "base/strbuf.h"
#include "base/sv.h"
#include "http/headers.h"

struct addr;     /* net/addr.h */
struct tls_info; /* tls/tls_info.h */

/* Response flags in the order in which %RESPONSE_FLAGS% prints them: Envoy prints the one that was
 * set first first, and URX is set before the flag of the last attempt ("URX,UF").
 * id, short name, long name. */
#define STREAM_FLAGS(X)                                                                            \
    X(URX, "URX", "UpstreamRetryLimitExceeded")                                                    \
    X(LH, "LH", "FailedLocalHealthCheck")                                                          \
    X(UH, "UH", "NoHealthyUpstream")                                                               \
    X(UT, "UT", "UpstreamRequestTimeout")                                                          \
    X(LR, "LR", "LocalReset")                                                                      \
    X(UR, "UR", "UpstreamRemoteReset")                                                             \
    X(UF, "UF", "UpstreamConnectionFailure")                                                       \
    X(UC, "UC", "UpstreamConnectionTermination")                                                   \
    X(UO, "UO", "UpstreamOverflow")                                                                \
    X(NR, "NR", "NoRouteFound")                                                                    \
    X(DI, "DI", "DelayInjected")                                                                   \
    X(FI, "FI", "FaultInjected")                                                                   \
    X(RL, "RL", "RateLimited")                                                                     \
    X(UAEX, "UAEX", "UnauthorizedExternalService")                                                 \
    X(RLSE, "RLSE", "RateLimitServiceError")                                                       \
    X(DC, "DC", "DownstreamConnectionTermination")                                                 \
    X(SI, "SI", "StreamIdleTimeout")                                                               \
    X(IH, "IH", "InvalidEnvoyRequestHeaders")                                                      \
    X(DPE, "DPE", "DownstreamProtocolError")                                                       \
    X(UMSDR, "UMSDR", "UpstreamMaxStreamDurationReached")                                          \
    X(RFCF, "RFCF", "ResponseFromCacheFilter")                                                     \
    X(NFCF, "NFCF", "NoFilterConfigFound")                                                         \
    X(DT, "DT", "DurationTimeout")                                                                 \
    X(UPE, "UPE", "UpstreamProtocolError")                                                         \
    X(NC, "NC", "NoClusterFound")                                                                  \
    X(OM, "OM", "OverloadManagerTerminated")                                                       \
    X(DF, "DF", "DnsResolutionFailed")                                                             \
    X(DO, "DO", "DropOverload")                                                                    \
    X(DR, "DR", "DownstreamRemoteReset")                                                           \
    X(UDO, "UDO", "UnconditionalDropOverload")

enum stream_flag_bit {
#define X(id, s, l) STREAM_FLAG_BIT_##id,
    STREAM_FLAGS(X)
#undef X
        STREAM_FLAG_COUNT
};
/* A set of flags is a uint64_t; each flag is one bit: STREAM_FLAG_UH … */
enum stream_flag {
#define X(id, s, l) STREAM_FLAG_##id = 1 << STREAM_FLAG_BIT_##id,
    STREAM_FLAGS(X)
#undef X
};

/* The bit of a short name, or -1 (access-log filters name flags). */
int stream_flag_find(sv short_name);
/* "URX,UF" (or the long names), "-" when the set is empty. */
void stream_flags_text(uint64_t flags, bool long_names, struct strbuf *out);

/* Response code details: Envoy's strings. STREAM_RCD_VIA_UPSTREAM is an sv. Those that take a
 * parameter are finished by stream_info_details(): upstream_reset_before_response_started{...}. */
#define STREAM_DETAILS(X)                                                                          \
    X(VIA_UPSTREAM, "via_upstream")                                                                \
    X(DIRECT_RESPONSE, "direct_response")                                                          \
    X(ROUTE_NOT_FOUND, "route_not_found")                                                          \
    X(CLUSTER_NOT_FOUND, "cluster_not_found")                                                      \
    X(MAINTENANCE_MODE, "maintenance_mode")                                                        \
    X(NO_HEALTHY_UPSTREAM, "no_healthy_upstream")                                                  \
    X(UPSTREAM_TIMEOUT, "response_timeout")                                                        \
    X(UPSTREAM_PER_TRY_TIMEOUT, "upstream_per_try_timeout")                                        \
    X(UPSTREAM_PER_TRY_IDLE_TIMEOUT, "upstream_per_try_idle_timeout")                              \
    X(UPSTREAM_MAX_STREAM_DURATION, "upstream_max_stream_duration_reached")                        \
    X(EARLY_UPSTREAM_RESET, "upstream_reset_before_response_started")                              \
    X(LATE_UPSTREAM_RESET, "upstream_reset_after_response_started")                                \
    X(REQUEST_OVERALL_TIMEOUT, "request_overall_timeout")                                          \
    X(REQUEST_HEADER_TIMEOUT, "request_header_timeout")                                            \
    X(STREAM_IDLE_TIMEOUT, "stream_idle_timeout")                                                  \
    X(MAX_DURATION_TIMEOUT, "max_duration_timeout")                                                \
    X(DURATION_TIMEOUT, "duration_timeout")                                                        \
    X(REQUEST_PAYLOAD_TOO_LARGE, "request_payload_too_large")                                      \
    X(REQUEST_PAYLOAD_RETRY_LIMIT, "request_payload_exceeded_retry_buffer_limit")                  \
    X(RESPONSE_PAYLOAD_TOO_LARGE, "response_payload_too_large")                                    \
    X(MISSING_HOST, "missing_host_header")                                                         \
    X(MISSING_PATH, "missing_path_rejected")                                                       \
    X(ABSOLUTE_PATH, "absolute_path_rejected")                                                     \
    X(PATH_NORMALIZATION_FAILED, "path_normalization_failed")                                      \
    X(LOW_VERSION, "low_version")                                                                  \
    X(IP_DETECTION_FAILED, "rejecting_because_detection_failed")                                   \
    X(MISDIRECTED, "misdirected_request")                                                          \
    X(UPGRADE_FAILED, "upgrade_failed")                                                            \
    X(INVALID_ENVOY_HEADERS, "request_headers_failed_strict_check")                                \
    X(FILTER_REMOVED_REQUEST_HEADERS, "filter_removed_required_request_headers")                   \
    X(FILTER_REMOVED_RESPONSE_HEADERS, "filter_removed_required_response_headers")                 \
    X(DOWNSTREAM_LOCAL_DISCONNECT, "downstream_local_disconnect")                                  \
    X(DOWNSTREAM_REMOTE_DISCONNECT, "downstream_remote_disconnect")                                \
    X(DOWNSTREAM_REMOTE_RESET, "downstream_remote_reset")                                          \
    X(INTERNAL_REDIRECT, "internal_redirect")                                                      \
    X(RATE_LIMITED, "rate_limited")                                                                \
    X(OVERLOAD, "overload")                                                                        \
    X(DROP_OVERLOAD, "drop_overload")                                                              \
    X(UNCONDITIONAL_DROP_OVERLOAD, "unconditional_drop_overload")                                  \
    X(ADMIN_RESPONSE, "admin_filter_response")                                                     \
    X(FAULT_ABORT, "fault_filter_abort")                                                           \
    X(FAULT_OVERFLOW, "fault_filter_overflow")                                                     \
    X(EXT_AUTHZ_DENIED, "ext_authz_denied")                                                        \
    X(EXT_AUTHZ_ERROR, "ext_authz_error")                                                          \
    X(RBAC_DENIED, "rbac_access_denied")                                                           \
    X(JWT_DENIED, "jwt_authn_access_denied")                                                       \
    X(HTTP1_CODEC_ERROR, "http1.codec_error")                                                      \
    X(HTTP1_TOO_MANY_HEADERS, "http1.too_many_headers")                                            \
    X(HTTP1_HEADERS_TOO_LARGE, "http1.headers_too_large")                                          \
    X(HTTP1_INVALID_CHARACTERS, "http1.invalid_characters")                                        \
    X(HTTP1_INVALID_URL, "http1.invalid_url")                                                      \
    X(HTTP1_INVALID_SCHEME, "http1.invalid_scheme")                                                \
    X(HTTP1_INVALID_TRANSFER_ENCODING, "http1.invalid_transfer_encoding")                          \
    X(HTTP1_TRANSFER_ENCODING_NOT_ALLOWED, "http1.transfer_encoding_not_allowed")                  \
    X(HTTP1_CONTENT_LENGTH_NOT_ALLOWED, "http1.content_length_not_allowed")                        \
    X(HTTP1_CHUNKED_CONTENT_LENGTH, "http1.content_length_and_chunked_not_allowed")                \
    X(HTTP1_BODY_DISALLOWED, "http1.body_disallowed")                                              \
    X(HTTP1_CONNECTION_HEADER_REJECTED, "http1.connection_header_rejected")                        \
    X(HTTP1_UNEXPECTED_UNDERSCORE, "http1.unexpected_underscore")                                  \
    X(HTTP2_TOO_MANY_HEADERS, "http2.too_many_headers")                                            \
    X(HTTP2_HEADERS_TOO_LARGE, "http2.header_list_too_large")                                      \
    X(HTTP2_UNEXPECTED_UNDERSCORE, "http2.unexpected_underscore")                                  \
    X(HTTP2_MESSAGING, "http2.violation.of.messaging.rule")                                        \
    X(HTTP2_INVALID_HEADER, "http2.invalid.header.field")                                          \
    X(HTTP2_REMOTE_REFUSE, "http2.remote_refuse")                                                  \
    X(HTTP2_REMOTE_RESET, "http2.remote_reset")                                                    \
    X(HTTP2_OUTBOUND_FLOOD, "http2.outbound_frames_flood")                                         \
    X(HTTP2_OUTBOUND_CONTROL_FLOOD, "http2.outbound_control_frames_flood")                         \
    X(HTTP2_EMPTY_FRAMES_FLOOD, "http2.inbound_empty_frames_flood")                                \
    X(HTTP2_PRIORITY_FLOOD, "http2.inbound_priority_frames_flood")                                 \
    X(HTTP2_WINDOW_UPDATE_FLOOD, "http2.inbound_window_update_frames_flood")

#define X(id, text) static const sv STREAM_RCD_##id __attribute__((unused)) = SV_INIT(text);
STREAM_DETAILS(X)
#undef X

/* What all streams of one connection share. Held by the connection's owner, filled once when the
 * connection is ready (after listener filters and handshake); read-only for streams, which may
 * look at it until they end. Texts are "ip:port". */
struct stream_conn {
    uint64_t id;      /* %CONNECTION_ID% */
    sv local, remote; /* remote: after PROXY protocol; the peer as the transport claims it */
    sv direct_remote; /* the socket's peer */
    const struct addr *local_addr, *remote_addr, *direct_remote_addr;
    const struct addr *original_dst; /* where the client meant to go; NULL: here, for all we know */
    const struct tls_info *tls; /* NULL: plain text. Verified once, at the handshake (rule 11) */
    sv local_id, peer_id;       /* first URI name of each end's certificate (SPIFFE), or empty */
    sv sni;                     /* requested server name */
    sv transport_failure;       /* %…_TRANSPORT_FAILURE_REASON% */
    uint64_t handshake_done_ns;
    uint64_t start_ns;
    uint64_t requests; /* streams so far */
};

enum stream_meta_kind {
    STREAM_META_STRING,
    STREAM_META_NUMBER,
    STREAM_META_BOOL,
    STREAM_META_JSON
};

/* One entry of dynamic metadata: filter name -> key -> value. A nested value is kept as JSON. */
struct stream_meta {
    struct stream_meta *next;
    sv ns, key;
    enum stream_meta_kind kind;
    sv text; /* STRING: the value; JSON: compact JSON; NUMBER and BOOL: as printed */
    double number;
    bool boolean;
};

/* Objects that filters leave for each other by name (Envoy's filter state). */
struct stream_state {
    struct stream_state *next;
    sv key;
    const void *obj;
    sv text; /* how a log prints it */
};

/* A redirect that was followed: from the route of that name to the other. */
struct stream_redirect {
    struct stream_redirect *next;
    sv from, to;
};

/* A host to which no connection came about, and others were tried after it. */
struct stream_attempt {
    struct stream_attempt *next;
    sv host, name;
};

struct stream_info {
    struct arena *arena;
    const struct stream_conn *down; /* never NULL once the stream runs */
    const struct stream_conn *up;   /* connection of the last attempt, or NULL */

    /* When. wall: since 1970; the rest on the loop's clock. */
    uint64_t start_wall_ns, start_ns;
    uint64_t request_end_ns; /* last byte of the request received */
    uint64_t upstream_connect_start_ns, upstream_connect_done_ns, upstream_handshake_done_ns;
    uint64_t upstream_pool_ns; /* the last attempt got its connection, or none */
    uint64_t upstream_first_tx_ns, upstream_last_tx_ns;
    uint64_t upstream_first_rx_ns, upstream_last_rx_ns;
    uint64_t response_start_ns; /* first byte sent to the downstream */
    uint64_t response_end_ns;   /* last byte handed to the downstream connection */
    uint64_t end_ns;            /* the stream is over: set just before access logs */

    /* Messages. NULL until they exist. The request head is the one in force (filters may have
     * changed it); the response head likewise. */
    struct http_head *req, *resp;
    struct http_headers *resp_trailers;
    enum http_protocol protocol;          /* downstream */
    enum http_protocol upstream_protocol; /* valid when up != NULL */
    bool has_upstream_protocol;
    bool is_grpc, is_upgrade;
    bool internal;           /* internal request by use_remote_address / XFF rules */
    bool scheme_of_upstream; /* what is sent says whether its connection has TLS */
    bool health_check;

    /* Result. */
    uint16_t response_code; /* 0: none was sent */
    uint64_t flags;         /* STREAM_FLAG_* */
    sv details;             /* empty: unset */
    sv termination_details; /* why the connection ended, connection_termination_details */
    sv upstream_failure;    /* upstream transport failure reason ("TLS_error:…",
                               "delayed_connect_error:_111") */
    bool local_reply;

    /* Bytes. */
    uint64_t bytes_received, bytes_sent; /* bodies downstream */
    uint64_t down_wire_in, down_wire_out, up_wire_in, up_wire_out;
    /* Heads as in struct http_stream; up: of all attempts. */
    uint32_t down_head_in, down_head_out, down_head_plain_in, down_head_plain_out;
    uint32_t up_head_in, up_head_out, up_head_plain_in, up_head_plain_out;

    /* Routing. Names live in the snapshot that the stream holds (rule 9). */
    const void *route;   /* the matched route (struct route_entry of src/route), or NULL */
    const void *cluster; /* the chosen cluster, or NULL */
    sv route_name, virtual_cluster;
    const sv *virtual_host; /* the name in the struct route_vhost that took the request, matched
                               route or not; or NULL */
    sv upstream_cluster, upstream_cluster_alt; /* name, alt_stat_name if any */
    sv upstream_host;                          /* endpoint address as text */
    sv upstream_host_name;                     /* its hostname, if any */
    const void *upstream_endpoint;             /* opaque: struct endpoint of src/upstream */
    const struct stream_attempt *attempted;    /* TCP: in the order in which they failed */
    uint32_t attempts;                         /* upstream requests made, the first included */
    uint32_t redirects;                        /* that the proxy followed by itself so far */

    /* Identity of the request. */
    uint64_t stream_id; /* unique in the process; %STREAM_ID% */
    sv request_id;
    sv remote;    /* the client's address as trusted (XFF), "ip:port"; empty: down->remote */
    sv remote_ip; /* the same without port; empty: cut from the above */
    const struct addr *remote_addr; /* the same in binary, NULL: down->remote_addr */
    sv original_path;               /* before rewrites; empty: unchanged */

    void *span;           /* struct trace_span of src/telemetry, or NULL */
    sv trace_id, span_id; /* of the span, in hex */
    bool trace_sampled;   /* the manager decided to trace it */

    struct stream_meta *meta;
    struct stream_state *state; /* stays when a redirect is followed */
    struct stream_redirect *redirected;
};

/* Zeroes and binds to an arena; the owner fills in the rest. */
void stream_info_init(struct stream_info *si, struct arena *a);

/* Records a failure: flags are added; details are kept only if none were there (the first cause).
 * `details` must be static or live in the arena. */
void stream_info_fail(struct stream_info *si, uint64_t flags, sv details);
/* Sets details unless they are set. "base{detail,reason}" is made by stream_info_details. */
void stream_info_set_details(struct stream_info *si, sv details);
/* "base{inner}" with bytes that would break a log line (spaces) turned into '_', as Envoy does;
 * just base when inner is empty. In the arena. */
sv stream_info_details(struct stream_info *si, sv base, sv inner);

/* The client's address in force: si->remote, or the connection's. */
sv stream_info_remote(const struct stream_info *si);
/* Address text without port and brackets: view into the argument. */
sv stream_addr_ip(sv ip_port);
/* The port after the last ':', or an empty view. */
sv stream_addr_port(sv ip_port);

/* Dynamic metadata. Strings are copied to the arena; a key that is there is replaced. */
void stream_info_meta_set(struct stream_info *si, sv ns, sv key, sv text);
void stream_info_meta_set_number(struct stream_info *si, sv ns, sv key, double v);
void stream_info_meta_set_bool(struct stream_info *si, sv ns, sv key, bool v);
void stream_info_meta_set_json(struct stream_info *si, sv ns, sv key, sv json);
const struct stream_meta *stream_info_meta_get(const struct stream_info *si, sv ns, sv key);

/* Filter state. key is copied, obj and text are borrowed for the stream's life. */
void stream_info_state_set(struct stream_info *si, sv key, const void *obj, sv text);
const struct stream_state *stream_info_state_get(const struct stream_info *si, sv key);

#endif
