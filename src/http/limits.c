#include "http/limits.h"

void http_limits_default(struct http_limits *l)
{
    *l = (struct http_limits){
        .max_head_bytes = 60 * 1024,
        .max_headers = 100,
        .max_uri_bytes = 60 * 1024,
        .max_chunk_ext_bytes = 256,
        .high_watermark = 1024 * 1024,
        .low_watermark = 512 * 1024,
        .allow_http10 = true,
        .allow_absolute_url = true,
        .allow_underscores = true,
        .max_concurrent_streams = 1024,
        .initial_stream_window = 16 * 1024 * 1024,
        .initial_conn_window = 24 * 1024 * 1024,
        .max_frame_size = 16384,
        .hpack_table_size = 4096,
        .max_outbound_frames = 10000,
        .max_outbound_control_frames = 1000,
        .max_empty_frames = 1,
        .max_priority_per_stream = 100,
        .max_window_updates_per_data = 10,
        .max_continuations = 64,
        .max_premature_resets = 500,
    };
}
