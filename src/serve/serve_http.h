/* Plain endpoints on a serve_server: a request with its whole (bounded) body comes to a handler,
 * which answers at once, later, or piece by piece.
 *
 *   static void metrics(void *user, struct serve_request *r) {
 *       serve_reply(r, 200, "text/plain", body);
 *   }
 *   serve_http_init(&h, metrics, user);
 *   serve_server_add(server, serve_http_accept, &h);
 *
 * A request lives until it was answered to its end, or until its client went away: whoever keeps
 * one for later must watch `on_gone` and not touch the request after it, nor after serve_reply or
 * serve_reply_end. HEAD is answered like GET; the codec leaves the body out. Bodies past max_body
 * get 413, requests that do not arrive in time 408. Thread: the loop. */
#ifndef WEFT_SERVE_SERVE_HTTP_H
#define WEFT_SERVE_SERVE_HTTP_H

#include "base/strbuf.h"
#include "serve/serve_stream.h"

struct serve_request;
typedef void (*serve_handler_fn)(void *user, struct serve_request *r);

struct serve_http {
    serve_handler_fn fn;
    void *user;
    size_t max_body;     /* default 1 MiB */
    uint32_t receive_ms; /* for the body to arrive: default 30 s; 0 never ends */
    /* Requests this one is for; NULL: all. */
    bool (*wants)(void *user, const struct http_head *head);
};
void serve_http_init(struct serve_http *h, serve_handler_fn fn, void *user);
/* For serve_server_add; user is the struct serve_http, which must outlive the server. */
bool serve_http_accept(void *user, struct http_stream *s, struct http_head *head, bool end,
                       const struct serve_peer *peer);

struct serve_request {
    struct http_head *head;
    sv method, path, query; /* path without query, as received */
    sv body;
    struct arena *arena; /* lives as long as the request */
    const struct serve_peer *peer;
    /* Set by who keeps the request. */
    void *user;
    void (*on_gone)(struct serve_request *r);  /* the client is gone, r goes after it */
    void (*on_drain)(struct serve_request *r); /* streaming: room again after E_AGAIN */
};

/* First value of a query parameter, decoded ('+' is a space); p == NULL when absent. */
sv serve_query(const struct serve_request *r, sv key);

/* ---- the whole answer at once; r is gone afterwards ---- */
void serve_reply(struct serve_request *r, unsigned status, const char *content_type, sv body);
/* Takes the bytes over; s is empty afterwards. An overflown s becomes 500. */
void serve_reply_strbuf(struct serve_request *r, unsigned status, const char *content_type,
                        struct strbuf *s);
/* text/plain */
void serve_reply_text(struct serve_request *r, unsigned status, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

/* ---- fields of the answer, before it begins; name lower case and static, value copied ---- */
void serve_reply_header(struct serve_request *r, const char *name, sv value);

/* ---- piece by piece ---- */
/* Sends the head. E_CLOSED: the client is gone, or only wanted the head (r goes, without on_gone).
 */
int serve_reply_start(struct serve_request *r, unsigned status, const char *content_type);
/* Queues bytes. 0; E_AGAIN: queued, but wait for on_drain before sending more; E_CLOSED. */
int serve_reply_chunk(struct serve_request *r, sv bytes);
void serve_reply_end(struct serve_request *r); /* r is gone afterwards */
/* Breaks the answer off, so that the client sees it is not whole; r is gone afterwards. */
void serve_reply_abort(struct serve_request *r);

#endif
