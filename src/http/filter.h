/* HTTP filters: what a filter is, and what the connection manager offers it.
 *
 *   downstream codec                                                      upstream (router)
 *      request   --> [F1] --> [F2] --> ... --> [Fn = terminal: the router] -->
 *      response  <-- [F1] <-- [F2] <-- ... <-- [Fn]                        <--
 *
 * A filter is a table of callbacks (struct http_filter_ops) plus a small object per stream that
 * embeds struct http_filter and lives in the stream's arena. Requests pass the chain in order,
 * responses in reverse. A filter sees every callback of its stream on one thread, in this order:
 *
 *   decode_head [decode_data]* [decode_trailers]      request side, each at most as shown
 *   encode_head [encode_data]* [encode_trailers]      response side, may overlap the request's
 *   on_reset (only if the stream did not end by itself)  on_complete  on_destroy
 *
 * The contract (numbers: rules of life in the architecture page):
 *
 * 1. A stream belongs to one connection, a connection to one worker: no callback ever comes on
 *    another thread, none needs a lock. The manager frees a stream at the end of the loop's turn,
 *    so `f` and everything in the arena stay readable until the outermost callback has returned,
 *    even when that callback ended the stream.
 * 2. Any host operation may end the stream: continue_*, local_reply, inject_*, respond_*, reset.
 *    After calling one look at host->ended (decode side: host->answered too) before touching the
 *    message again. A filter that called local_reply or reset inside a callback returns
 *    HTTP_FILTER_STOP at once.
 * 3. Work that completes later (DNS, callouts, posts to other threads) holds a handle
 *    (http/handle.h), made by the filter, dropped in on_destroy; never a pointer. Timers may live
 * in the filter object when on_destroy cancels them.
 * 4. Request end and response end are independent: a response may come, and end, before the request
 *    has (the manager then decides about the rest of the request). The stream is over when both
 *    ended or when it is reset. A reset reaches each filter exactly once (on_reset).
 * 5. A local reply passes the encode side of the whole chain once, starting at the last filter.
 *    After it no decode callback of any filter runs. A second local reply before the response head
 *    went out replaces the first without running the filters again; after the head was sent,
 *    local_reply resets the stream instead.
 * 6. Every queue has watermarks. Bodies kept by STOP_BUFFER or STOP_WATERMARK count against
 *    host->buffer_limit; see the statuses. A filter that keeps bytes itself must pause whoever
 *    sends them (pause_request, pause_response) and resume; pauses count.
 * 13. The first cause of a failure is kept: local_reply and reset take flags and details, and the
 *    stream_info keeps the first ones.
 *
 * A terminal filter (the router, a direct response, the admin) is the last of its chain: its decode
 * callbacks consume the request, and it answers with respond_head / respond_data /
 * respond_trailers; it never returns CONTINUE from decode callbacks (the value is ignored).
 *
 * Thread: the stream's worker, always. */
#ifndef WEFT_HTTP_FILTER_H
#define WEFT_HTTP_FILTER_H

#include <stdbool.h>
#include <stdint.h>
#include "base/arena.h"
#include "base/buf.h"
#include "base/sv.h"
#include "http/codec.h"
#include "http/handle.h"
#include "http/headers.h"
#include "http/stream_info.h"

struct loop;        /* net/loop.h */
struct route_match; /* route/route.h */
struct http_filter;
struct http_filter_host;

/* What a decode or encode callback says. "This filter" is the one that returns it.
 *
 * From *_head:
 *   CONTINUE        the head goes on to the next filter.
 *   STOP            the head waits here. Data and trailers callbacks of this filter are still made;
 *                   when one of those returns CONTINUE the head goes on first, then the data.
 *   STOP_BUFFER     nothing at all goes on and no callback of this filter comes until
 *                   continue_decoding / continue_encoding; the manager keeps the body. Past the
 *                   limit: 413 (request), 500 or a reset (response).
 *   STOP_WATERMARK  the same, but at the limit the sender is paused instead.
 * From *_data (`end`: these are the last bytes, no trailers follow):
 *   CONTINUE        what was kept before, then *data, goes on (waiting head first).
 *   STOP            the filter took what it wanted out of *data; the rest is dropped. Nothing
 *                   goes on. (With inject_* the filter sends bytes on by itself.)
 *   STOP_BUFFER     the manager keeps *data (appended to host body); past the limit 413 / 500.
 *                   Data callbacks go on coming.
 *   STOP_WATERMARK  the same, but at the limit the sender is paused; for filters that will continue
 *                   without needing the whole body.
 * From *_trailers:
 *   CONTINUE        the trailers go on (waiting head and kept data first).
 *   anything else   they wait for continue_*.
 *
 * After a STOP* that waits, continue_decoding / continue_encoding resumes with the NEXT filter:
 * head if it waited, kept body, trailers. It may be called from inside any callback of another
 * object (a timer, an answer), and from inside the filter's own callback only if that callback then
 * returns a STOP status of the same half (the manager resumes after the callback returned, and
 * after it kept *data within the limit, where the status says that it keeps). */
enum http_filter_status {
    HTTP_FILTER_CONTINUE,
    HTTP_FILTER_STOP,
    HTTP_FILTER_STOP_BUFFER,
    HTTP_FILTER_STOP_WATERMARK,
};

/* A callback that is NULL is skipped (a head, data or trailers then just pass). All arguments are
 * borrowed for the call, but heads and trailers live in the stream's arena and stay valid. */
struct http_filter_ops {
    const char *name; /* "envoy.filters.http.cors": for stats and logs */

    /* The request. `end`: no body and no trailers follow. `head` may be changed (also through
     * host->info->req, which is the same object). */
    enum http_filter_status (*decode_head)(struct http_filter *f, struct http_head *head, bool end);
    /* May change *data (add, remove, replace bytes). */
    enum http_filter_status (*decode_data)(struct http_filter *f, struct buf *data, bool end);
    enum http_filter_status (*decode_trailers)(struct http_filter *f, struct http_headers *t);

    /* An attempt of the terminal filter got its connection (info->up, info->upstream_endpoint):
     * the last look at the head before it is sent there. Comes once an attempt. The stream may not
     * be ended from here. */
    void (*on_upstream)(struct http_filter *f, struct http_head *head);

    /* The response: the final head; informational (1xx) heads come to encode_info. */
    enum http_filter_status (*encode_head)(struct http_filter *f, struct http_head *head, bool end);
    enum http_filter_status (*encode_data)(struct http_filter *f, struct buf *data, bool end);
    enum http_filter_status (*encode_trailers)(struct http_filter *f, struct http_headers *t);
    /* 1xx other than 101: observed, possibly changed, never stopped. */
    void (*encode_info)(struct http_filter *f, struct http_head *head);

    /* The downstream takes no more bytes for now (high) or again (low): whoever produces the
     * response (the terminal filter; a filter that injects) pauses its source. Pairs. */
    void (*on_response_watermark)(struct http_filter *f, bool high);

    /* The stream was reset: by the peer, a timeout, a limit, a failing connection, or a filter's
     * reset. Nothing of the message follows. Stop what is under way upstream. */
    void (*on_reset)(struct http_filter *f, enum http_reset why);
    /* The stream is over, host->info is final (end_ns, sizes, flags): access-log time. */
    void (*on_complete)(struct http_filter *f);
    /* Last call, exactly once for each filter that was made, also when the chain was never run.
     * Cancel timers, drop handles and references. Memory in the arena goes by itself.
     * No host operation may be called from it. */
    void (*on_destroy)(struct http_filter *f);
};

/* Head of every filter object. */
struct http_filter {
    const struct http_filter_ops *ops;
    struct http_filter_host *host; /* set by the manager right after make() */
};

/* An answer that does not come from the upstream. Zero-initialise; only status is required. */
struct http_local_reply {
    uint16_t status;
    sv body;         /* copied; content-type text/plain unless `modify` sets another */
    uint64_t flags;  /* response flags to add, STREAM_FLAG_* */
    sv details;      /* response code details; static or in the arena */
    int grpc_status; /* for gRPC requests; 0: derived from `status` as gRPC prescribes */
    /* Changes the response head before the filters see it. */
    void (*modify)(struct http_head *head, void *arg);
    void *arg;
};

/* What the manager does for filters. Every pointer is set. */
struct http_filter_host_ops {
    /* ---- going on after a STOP (see enum http_filter_status). Calling it when nothing waits does
     * nothing. May end the stream. */
    void (*continue_decoding)(struct http_filter_host *h);
    void (*continue_encoding)(struct http_filter_host *h);

    /* ---- answering (any filter, request side; rule 5). May end the stream. */
    void (*local_reply)(struct http_filter_host *h, const struct http_local_reply *r);
    /* Resets the stream in both directions. */
    void (*reset)(struct http_filter_host *h, enum http_reset why, uint64_t flags, sv details);

    /* ---- the response of a terminal filter. head must live in the arena. Each of these may
     * end the stream. respond_data takes all of *data. After `end` (or trailers) nothing more. */
    void (*respond_info)(struct http_filter_host *h,
                         struct http_head *head); /* 1xx, 101 excepted */
    void (*respond_head)(struct http_filter_host *h, struct http_head *head, bool end);
    void (*respond_data)(struct http_filter_host *h, struct buf *data, bool end);
    void (*respond_trailers)(struct http_filter_host *h, struct http_headers *t);

    /* ---- bodies ---- */
    /* The body kept so far for this filter's side (request when called from the decode half …),
     * NULL when nothing is kept. The filter may read it and, as long as it is the one that
     * stopped, change it. Does not contain the *data of the running callback. */
    struct buf *(*request_body)(struct http_filter_host *h);
    struct buf *(*response_body)(struct http_filter_host *h);
    /* Adds to the kept body; allowed in decode_head(end) — the request then has a body —, in
     * decode_data and decode_trailers. What was kept goes on at the next continue. */
    void (*add_request_data)(struct http_filter_host *h, struct buf *data);
    void (*add_response_data)(struct http_filter_host *h, struct buf *data);
    /* Sends bytes to the next filter at once (a filter that stopped with STOP and streams by
     * itself). The waiting head goes first. Takes all of *data. May end the stream. */
    void (*inject_request_data)(struct http_filter_host *h, struct buf *data, bool end);
    void (*inject_response_data)(struct http_filter_host *h, struct buf *data, bool end);
    /* Empty trailers to fill, allowed in the data callback with `end` (which then is not the end
     * for later filters). */
    struct http_headers *(*add_request_trailers)(struct http_filter_host *h);
    struct http_headers *(*add_response_trailers)(struct http_filter_host *h);
    /* The limit that STOP_BUFFER and STOP_WATERMARK use, for all filters of the stream; a filter
     * may raise or lower it (the last wish counts). */
    void (*set_buffer_limit)(struct http_filter_host *h, uint32_t bytes);

    /* ---- flow control (rule 6); each pause(true) needs a pause(false), in any order; what is
     * outstanding when the stream ends is forgotten. */
    void (*pause_request)(struct http_filter_host *h, bool on);  /* the downstream's reading */
    void (*pause_response)(struct http_filter_host *h, bool on); /* on_response_watermark */

    /* ---- routing; computed on first use from the head as it is then, from the stream's snapshot
     */
    /* The route (struct route_match of src/route, also info->route), NULL when none matches. */
    const void *(*route)(struct http_filter_host *h);
    /* What a head would get if it came over this connection, which is another one than the
     * stream's: its path and authority are brought to their canonical forms first. False: no route
     * matches, or the host is one of another connection (421). The stream's own route stays. */
    bool (*route_for)(struct http_filter_host *h, struct http_head *head, struct route_match *out);
    /* Forgets it: the next route() matches anew (a filter changed path, host or headers). */
    void (*clear_route_cache)(struct http_filter_host *h);
    /* This filter's typed_per_filter_config of the route, as parsed by the filter (registry
     * entry's parse function), most specific first: weighted cluster, route, virtual host, route
     * table. NULL: none. */
    const void *(*route_config)(struct http_filter_host *h);
    /* All of them from least to most specific into out[4]; returns how many. */
    unsigned (*route_configs)(struct http_filter_host *h, const void *out[4]);
    /* The most specific one as packed bytes (google.protobuf.Any), empty when none. */
    sv (*route_config_bytes)(struct http_filter_host *h);
    /* The stream may not be retried or go on upstream: answers of terminal filters that want the
     * downstream connection gone after this response. */
    void (*close_after_response)(struct http_filter_host *h);
    /* Terminal filter, before respond_head and when the request ended: the message starts anew. Its
     * head as it is now goes through new filters, by the route that it has then, and *body (taken)
     * and trailers (may be NULL) after it. For the old filters the stream is over (on_complete,
     * on_destroy; host->ended), and logged with the head `resp`, which must live in the arena. */
    void (*again)(struct http_filter_host *h, struct http_head *resp, struct buf *body,
                  struct http_headers *trailers);
    /* Terminal filter: tells all filters (on_upstream). */
    void (*upstream_ready)(struct http_filter_host *h, struct http_head *head);
};

/* One per filter and stream, owned by the manager; fields are read-only for filters. */
struct http_filter_host {
    const struct http_filter_host_ops *ops;
    struct stream_info *info; /* never NULL; filters write their own parts */
    struct arena *arena;      /* the stream's */
    struct loop *loop;        /* clock (loop_now_ns), timers, random numbers */
    void *worker;             /* the worker's context: cluster manager and other worker-local
                                 objects; typed by src/filters/registry.h */
    sv config_name;           /* this filter's name in the chain's configuration */
    uint32_t buffer_limit;    /* as it is now */
    bool ended;               /* the stream is over or reset: no host operation has effect */
    bool answered;            /* a local reply was made: no decode callback or operation follows */
    bool request_ended;       /* the last byte of the request was received */
};

/* Makes the filter object of one stream in host->arena and sets f->ops; NULL leaves the filter out
 * of this stream. config: the filter's own immutable object, alive as long as the snapshot.
 * Must not call host operations. */
typedef struct http_filter *(*http_filter_make_fn)(const void *config,
                                                   struct http_filter_host *host);

/* A configured filter of a chain: what the manager runs through for each stream. */
struct http_filter_conf {
    http_filter_make_fn make;
    const void *config;
    sv name;          /* http_filters[].name */
    const char *kind; /* canonical extension name, "envoy.filters.http.router" */
    bool terminal;    /* must be last */
    bool disabled;    /* off unless a route's config turns it on */
};

#endif
