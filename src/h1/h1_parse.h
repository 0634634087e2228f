/* Parsers of this room: a head, a trailer section, the framing of chunks. Pure functions over
 * bytes, used by the codec and by the fuzz targets. Thread: any. */
#ifndef WEFT_H1_H1_PARSE_H
#define WEFT_H1_H1_PARSE_H

#include "http/codec.h"

/* The part of http_limits that HTTP/1 needs. */
struct h1_limits {
    uint32_t max_head_bytes, max_headers, max_uri_bytes, max_chunk_ext_bytes;
    uint32_t high_watermark, low_watermark;
    bool allow_http10, allow_absolute_url, allow_chunked_length;
    enum http_spelling spelling;
    bool allow_underscores, reject_underscores, enable_trailers;
};

/* How a body is delimited. */
enum h1_body { H1_BODY_NONE, H1_BODY_LENGTH, H1_BODY_CHUNKED, H1_BODY_CLOSE };

/* What was wrong: result code, Envoy's details string, words, the status a server answers. */
struct h1_error {
    int code;
    const char *text;
    const char *reason;
    uint16_t status;
    bool smuggling; /* two readers could have disagreed about where the message ends */
    bool field;     /* it is the syntax of a field line */
};

/* What parsing a head finds out besides the head. */
struct h1_head_info {
    size_t bytes;                /* of the head, with the empty line */
    uint32_t first_line, fields; /* its bytes with the line's end; field lines */
    enum h1_body body;
    uint64_t length;        /* H1_BODY_LENGTH */
    bool close, keep_alive; /* connection options */
    bool connection_upgrade;
    bool expect_continue;
    /* private to the parser */
    uint32_t n_host, n_length, n_te;
    sv te, upgrade;
    uint64_t length_value;
};

/* Parses a request head at the front of v. 0, E_AGAIN (no end yet; an error that is there already
 * is told), or a failure with *err filled. m is initialised by the caller, whose arena takes what
 * cannot be a view of v. */
int h1_parse_request(sv v, const struct h1_limits *l, struct http_codec_stats *st,
                     struct http_head *m, struct h1_head_info *info, struct h1_error *err);
/* The same for a response to a request with that method. */
int h1_parse_response(sv v, const struct h1_limits *l, struct http_codec_stats *st,
                      struct http_head *m, struct h1_head_info *info, struct h1_error *err);
/* Decides info->body of a response (RFC 9112 6.3); separate, since it needs the request's method.
 */
void h1_response_body(const struct http_head *m, bool head_request, struct h1_head_info *info);
/* A trailer section with its empty line. Fields that may not be in trailers (framing, routing,
 * authentication, content processing: RFC 9110 6.5.1) are left out of h. */
int h1_parse_trailers(sv v, const struct h1_limits *l, struct http_codec_stats *st,
                      struct http_headers *h, size_t *bytes, struct h1_error *err);
/* May this field be sent or taken as a trailer? */
bool h1_trailer_allowed(sv lower_name);
/* Looks for the end of a head in v, from byte `from` on: true when an empty line is there. */
bool h1_find_end(sv v, size_t from);

/* Moves the views of a head from [from, from+n) to the same places of `to`. */
void h1_head_relocate(struct http_head *m, const char *from, size_t n, const char *to);

/* ---- chunked coding (RFC 9112 7.1) ---- */
struct h1_chunk {
    uint8_t state;
    uint64_t left;     /* of the chunk's data */
    uint32_t line;     /* bytes of the current size line */
    uint32_t overhead; /* framing beyond what the data justifies */
    bool digits;
};
enum h1_chunk_result { H1_CHUNK_MORE, H1_CHUNK_END, H1_CHUNK_ERROR };

void h1_chunk_init(struct h1_chunk *k);
/* Consumes from the front of `in` and adds data to `out`, until `in` is empty, or the last chunk's
 * line was read (END: the trailer section follows), or an error. */
enum h1_chunk_result h1_chunk_feed(struct h1_chunk *k, struct buf *in, struct buf *out,
                                   uint32_t max_line, struct h1_error *err);

#endif
