/* HTTP/2 (RFC 9113, RFC 7541, RFC 8441) as a codec of http/codec.h: bytes in, events out.
 *
 *     struct http_codec *c = h2_server_new(&limits, &codec_events, glue);
 *     c->now_ms = ...; c->stats = ...;           // optional, before the first feed
 *     c->ops->feed(c, &received);  conn_write(conn, &c->out);  c->ops->wrote(c, n);
 *
 * feed() may leave up to a frame header or a small control frame at the end of `in` when it is cut
 * there: keep `in`, append what is read next, feed again. It never leaves bytes for being paused:
 * a paused stream merely gets no WINDOW_UPDATE, so on_data may still come for what the peer was
 * allowed to send (at most initial_stream_window bytes). want_read is always true.
 *
 * What a peer can make the codec hold is bounded: per stream by initial_stream_window received and
 * high_watermark queued, per connection by initial_conn_window (bytes delivered to paused streams
 * are not given back to the connection's window), by max_concurrent_streams heads of
 * max_head_bytes, and by the outbound frame limits.
 *
 * on_close comes only from feed, feed_eof, wrote, fail and free, never from inside an op.
 *
 * Errors of the connection: feed() returns E_PROTOCOL or E_LIMIT once, `out` ends with a GOAWAY,
 * state is HTTP_CODEC_FLUSH, every stream has seen on_reset(PROTOCOL) and on_close. error_text
 * names the cause as Envoy's details do ("http2.inbound_empty_frames_flood"). Errors of a stream
 * are answered with RST_STREAM and seen by its user as on_reset; a request that is malformed before
 * on_stream was called is never seen by the user, only by the counters.
 *
 * Upgrades (RFC 8441): an extended CONNECT is handed up as a HTTP/1 upgrade is: method GET,
 * head->upgrade, connect_protocol; a 101 that the user sends goes out as 200, and a 200 answering
 * an extended CONNECT of ours comes up as 101 with head->upgrade. A plain CONNECT stays CONNECT.
 *
 * Drain (ops->drain on a server): GOAWAY with id 2^31-1 and a PING; when the PING is answered, so
 * that whatever the client had sent before it saw the notice has arrived, GOAWAY with the real last
 * id. A second drain() skips the wait. When the last stream has ended state becomes
 * HTTP_CODEC_FLUSH.
 *
 * Thread: worker (owning loop). */
#ifndef WEFT_H2_H2_H
#define WEFT_H2_H2_H

#include "http/codec.h"

/* `limits` is copied; `events` must live as long as the codec. The client's preface, SETTINGS and
 * first WINDOW_UPDATE are in c->out when h2_client_new returns (on_output is not called for them);
 * the server's follow on the first bytes that are fed. Freed with c->ops->free. */
struct http_codec *h2_server_new(const struct http_limits *limits,
                                 const struct http_codec_events *events, void *user);
struct http_codec *h2_client_new(const struct http_limits *limits,
                                 const struct http_codec_events *events, void *user);

/* `acked` is false when the connection ended before the answer came. */
typedef void (*h2_ping_fn)(void *user, bool acked);
/* Sends a PING and calls fn when its ACK comes. One at a time: E_BUSY while one is under way,
 * E_CLOSED when the connection is ending. The caller keeps the time, and on a timeout counts
 * stats->keepalive_timeout and closes. */
int h2_ping(struct http_codec *c, h2_ping_fn fn, void *user);

/* The first bytes a HTTP/2 client sends (RFC 9113 3.4). */
#define H2_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
/* 1: `first_bytes` begin with the preface; 0: they may, more are needed; -1: they do not. */
int h2_preface_match(sv first_bytes);

#endif
