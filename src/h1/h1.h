/* HTTP/1.0 and HTTP/1.1 (RFC 9112) as a codec of http/codec.h: bytes in, events out.
 *
 *     in --feed--> [ head | body: length, chunked, to the close | trailers ] --> events
 *     out <------- [ head | body: length, chunked, to the close | trailers ] <-- send_*
 *
 * One stream at a time. A server's next request is parsed after the response to the one before it
 * ended and most of it was written; until then want_read is false and the bytes stay where they
 * are. A client that is idle takes no bytes: what arrives without a request kills the connection.
 *
 * Strict as RFC 9112 asks where two readers could disagree (attack cases 14 to 18, 20 to 22, 25):
 * lines end with CRLF; no folding, no space before a colon, no empty names, no controls; one Host,
 * valid and not empty; one Content-Length, digits only; Transfer-Encoding is "chunked" and nothing
 * else, and never together with a Content-Length (unless limits.allow_chunked_length: then the
 * length is dropped) nor in HTTP/1.0; targets are origin-form, absolute-form (its authority
 * replaces Host), authority-form for CONNECT only, and "*" for OPTIONS only; no fragments.
 *
 * Heads: names come lower case, `raw` gives the peer's spelling. Host is in head->authority only.
 * All other fields stay in the head, also connection, transfer-encoding, content-length and
 * upgrade: removing what is hop-by-hop is the connection manager's work. head->scheme is set for
 * absolute-form only. Views point into the stream's arena (small heads are copied there, big ones
 * hold their block).
 *
 * Sending: the content-length *field* decides the framing (head->content_length is only what was
 * received); without it a message without body says content-length: 0 where that is right, and
 * one with a body is chunked, or ends with the connection towards HTTP/1.0. transfer-encoding and
 * host fields of the given head are ignored. A connection field with "close" closes after
 * the message; the codec adds "connection: close" by itself when it will close. What could break a
 * line (CR, LF, NUL) is refused: E_INVALID, nothing is sent. More body than content-length said:
 * E_INVALID and the connection ends; less: the connection ends after the flush.
 * limits.spelling says how names are written.
 *
 * Upgrade and CONNECT (attack case 21): a server hands up head->upgrade (and connect_protocol) or
 * method CONNECT with end = false and reads nothing more until the answer: 101 (2xx for CONNECT)
 * turns both halves into bytes; any other answer ends the request, and the connection closes after
 * it. A client holds what is sent after the head until the switch was confirmed. "Upgrade: h2c" and
 * an upgrade on a request with a body are not handed up: those are ordinary requests.
 *
 * Expect: 100-continue is the user's to answer (send_head with status 100). If a final response is
 * sent before any of the body came and without 100, the connection closes after it.
 *
 * Errors of the peer: feed returns E_PROTOCOL or E_LIMIT once. A server queues one short answer
 * (400, 414, 426, 431, 501, 505; connection: close) unless a response had begun; error_text and
 * answer tell; state is FLUSH. A client's state is DEAD.
 *
 * Reuse (rule of life 7): a client's can_open() is true again only when the response was read to
 * its end, the request was sent to its end and written, nothing else arrived, and nobody said
 * close.
 *
 * on_close comes only from feed, feed_eof, wrote, fail and free, never from inside an op.
 * An idle codec is one allocation of a few hundred bytes. Thread: worker (owning loop). */
#ifndef WEFT_H1_H1_H
#define WEFT_H1_H1_H

#include "http/codec.h"

/* limits are copied; events and user must live as long as the codec. Freed with c->ops->free. */
struct http_codec *h1_server_new(const struct http_limits *limits,
                                 const struct http_codec_events *events, void *user);
/* The same in the memory of one that is at rest, which is used up; NULL: in new memory. */
struct http_codec *h1_server_new_from(struct http_codec *spare, const struct http_limits *limits,
                                      const struct http_codec_events *events, void *user);
/* A server between two requests: nothing is queued, half read or decided. Another in its place
 * would go on just as well. */
bool h1_at_rest(const struct http_codec *c);
struct http_codec *h1_client_new(const struct http_limits *limits,
                                 const struct http_codec_events *events, void *user);

/* Is the codec in the middle of receiving a request head? (header time-outs of servers: bytes of
 * a head were seen, but no stream exists yet.) */
bool h1_in_head(const struct http_codec *c);
/* The reason phrase of a status, "Unknown" for those without one. Static. */
sv h1_reason(unsigned status);

#endif
