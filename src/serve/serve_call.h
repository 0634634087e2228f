/* One request over a serve_channel: send it, get the response with its body collected (bounded) or
 * as it comes (watches of Kubernetes, long polls).
 *
 *   struct serve_call_opts o = {.method = SV("GET"), .path = SV("/healthz"), .timeout_ms = 1000};
 *   call = serve_call_start(channel, &o, done, user);
 *
 * `done` comes exactly once unless cancelled, never from inside serve_call_start; the call is gone
 * when it returns. Thread: the channel's loop. */
#ifndef WEFT_SERVE_SERVE_CALL_H
#define WEFT_SERVE_SERVE_CALL_H

#include "serve/serve_stream.h"

struct serve_call;

struct serve_result {
    /* 0: there is a whole response. Else E_REFUSED (no connection), E_TIMEOUT, E_LIMIT (body larger
     * than max_body), E_RESET (ended in the middle), E_INVALID (the request cannot be sent). */
    int code;
    const char *details;          /* of a failure; lives during the call of done */
    unsigned status;              /* 0: none was received */
    const struct http_head *head; /* NULL likewise */
    sv body;                      /* what was collected, also of a failed call */
};
typedef void (*serve_call_fn)(void *user, const struct serve_result *r);

/* Zero-initialise; method and path are required. All is copied. */
struct serve_call_opts {
    sv method, path;
    sv authority;    /* empty: the channel's */
    sv content_type; /* of the body */
    sv body;
    const struct http_header *headers; /* name (lower case) and value are used */
    size_t n_headers;
    uint64_t timeout_ms; /* from start to the end of the response; 0: none */
    size_t max_body;     /* collected at most; 0: 4 MiB */
    /* Instead of collecting: called with the head, and with data as it comes. May cancel the call.
     */
    void (*on_head)(void *user, const struct http_head *head);
    void (*on_data)(void *user, struct buf *data);
};

struct serve_call *serve_call_start(struct serve_channel *ch, const struct serve_call_opts *o,
                                    serve_call_fn done, void *user);
/* done will not come; the stream is reset. */
void serve_call_cancel(struct serve_call *c);
/* With on_data: stops and resumes the server's sending. */
void serve_call_pause(struct serve_call *c, bool on);

#endif
