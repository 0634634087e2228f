/* Limits that codecs enforce while decoding. Zero-initialised values are not usable: start from
 * http_limits_default(). Thread: any (a value). */
#ifndef WEFT_HTTP_LIMITS_H
#define WEFT_HTTP_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

/* How HTTP/1 writes the names of fields, which are the same in any case. */
enum http_spelling {
    HTTP_SPELLING_LOWER,
    HTTP_SPELLING_KEPT,   /* those of received messages are kept, also by whom they are sent on
                             to (http_headers.spelled); others are as with LOWER */
    HTTP_SPELLING_PROPER, /* letters that follow neither a letter nor a digit are large */
};

struct http_limits {
    uint32_t max_head_bytes;                /* names + values, decoded; Envoy: 60 KiB */
    uint32_t max_headers;                   /* fields in a head or trailers; Envoy: 100 */
    uint32_t max_uri_bytes;                 /* request target; bounded by max_head_bytes */
    uint32_t max_chunk_ext_bytes;           /* a chunk-size line */
    uint32_t high_watermark, low_watermark; /* queued output of a stream; Envoy: 1 MiB limit */
    /* HTTP/1 */
    bool allow_http10; /* accept_http_10 */
    bool allow_absolute_url;
    bool allow_chunked_length;   /* allow_chunked_length: both TE and CL, CL removed */
    enum http_spelling spelling; /* header_key_format */
    bool allow_underscores;      /* names with '_' pass */
    bool reject_underscores;     /* else they are dropped when !allow_underscores */
    bool enable_trailers;        /* HTTP/1 trailers are kept, else dropped */
    /* HTTP/2 */
    uint32_t max_concurrent_streams; /* ours as server */
    uint32_t initial_stream_window, initial_conn_window;
    uint32_t max_frame_size; /* ours, 16384..2^24-1 */
    uint32_t hpack_table_size;
    bool allow_connect;                   /* extended CONNECT (RFC 8441) is announced and taken */
    uint32_t max_outbound_frames;         /* 10000 */
    uint32_t max_outbound_control_frames; /* 1000 */
    uint32_t max_empty_frames;            /* consecutive inbound frames with empty payload: 1 */
    uint32_t max_priority_per_stream;     /* 100 */
    uint32_t max_window_updates_per_data; /* 10 */
    uint32_t max_continuations;           /* frames of one header block */
    uint32_t max_premature_resets;        /* resets before a response, past which a ratio counts */
};

void http_limits_default(struct http_limits *l);

#endif
