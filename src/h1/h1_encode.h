/* Heads and chunk framing as bytes. Thread: any. */
#ifndef WEFT_H1_H1_ENCODE_H
#define WEFT_H1_H1_ENCODE_H

#include "base/buf.h"
#include "http/headers.h"
#include "http/limits.h"

/* What a head to be sent says about framing. */
struct h1_scan {
    size_t bytes; /* of the field lines that will be written, with every content-length */
    bool has_length;
    uint64_t length;
    bool close, keep_alive, upgrade; /* connection options that are in the head */
    bool has_upgrade;
};
/* Looks at all fields once. E_INVALID: a name or value that could break a line, or content-length
 * fields that are no number or more than one. */
int h1_scan_fields(const struct http_headers *h, struct h1_scan *s);

/* How a head is written. */
struct h1_style {
    bool http10;                 /* "HTTP/1.0" status line */
    enum http_spelling spelling; /* where the message does not bring its own */
    bool drop_length;            /* content-length fields are left out */
    sv extra[3];                 /* whole lines put behind the fields */
};
/* Bytes of a head that was written: all, and those of the field lines alone. */
struct h1_wrote {
    size_t all, fields;
};
/* Appends the head. The request's method, target and authority must have been
 * checked with h1_request_line_valid. */
struct h1_wrote h1_write_request(struct buf *out, const struct http_head *m,
                                 const struct h1_scan *s, const struct h1_style *style);
struct h1_wrote h1_write_response(struct buf *out, const struct http_head *m,
                                  const struct h1_scan *s, const struct h1_style *style);
/* A token, a target without spaces and controls, an authority likewise. */
bool h1_request_line_valid(const struct http_head *m);
/* "0" CRLF, the allowed fields, CRLF; returns the bytes. E_INVALID as above (nothing appended). */
int h1_write_trailers(struct buf *out, const struct http_headers *t, enum http_spelling spelling,
                      size_t *bytes);
/* Moves data to out as one chunk; returns the bytes of framing. data is not empty. */
size_t h1_write_chunk(struct buf *out, struct buf *data, bool last);

#endif
