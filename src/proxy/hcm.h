/* The HTTP connection manager: puts a chain of filters on each stream of a downstream connection.
 *
 *   conn <-> [ hcm_conn: reads, codec, writes ] <-> [ hcm_stream: filters, timeouts, replies ]
 *
 *   hcm_conn.c     the connection: one read, one write a turn; protocol choice; drain; close
 *   hcm_stream.c   the stream's life: codec events in, codec calls out, reset, end, logs
 *   hcm_chain.c    walking the filters, keeping bodies, limits (contract: http/filter.h)
 *   hcm_host.c     what the manager does for filters (struct http_filter_host_ops)
 *   hcm_request.c  checks and changes of a request before the first filter
 *   hcm_headers.c  request and response fields (XFF, XFCC, request id, via, server ...)
 *   hcm_reply.c    local replies
 *   hcm_timeouts.c timers of a stream
 *   hcm_tracing.c  which requests are traced, and their spans
 *   hcm_config.c   configuration
 *
 * Life of a stream: the codec owns the http_stream; hcm_stream lives in its arena. When the codec
 * says on_close the arena is taken over and freed at the end of the turn, so that every frame that
 * is still on the stack may look at it (rule of life 1). `over` is set from then on, or from a
 * reset on: no filter is called any more.
 * Thread: the connection's worker. */
#ifndef WEFT_PROXY_HCM_H
#define WEFT_PROXY_HCM_H

#include "base/buf.h"
#include "base/list.h"
#include "filters/network.h"
#include "http/codec.h"
#include "http/filter.h"
#include "http/stream_info.h"
#include "proxy/hcm_config.h"
#include "route/route.h"

struct rds_view;

struct hcm_conn {
    struct network_conn *nc;
    const struct hcm_config *cfg;
    struct conn *conn;
    struct http_codec *codec; /* NULL until the protocol is known, and while HTTP/1 is at rest */
    struct buf in;            /* received, not yet taken by the codec */
    struct list streams;      /* struct hcm_stream.link, oldest first */
    uint32_t n_streams;
    bool later_set;    /* `later` is queued */
    bool pump;         /* there may be something to feed or to read again */
    bool closed;       /* the conn is closed; only the memory is left */
    bool linger;       /* the peer may still be sending: half-close first */
    bool lingering;    /* half-closed, waiting for the peer or the timer */
    bool is_h1, is_h2; /* the protocol, once it is known */
    bool leaving;  /* HTTP/1, past its duration, idle: the next response says so, or it ends soon */
    bool draining; /* the codec was told */
    bool drain_final; /* told twice (HTTP/2) */
    bool remote_close;
    uint64_t idle_since_ms;
    uint64_t head_since_ms; /* a head is being received since then; 0: none */
    struct timer timer;     /* idle, head, drain, linger: see hcm_conn.c */
    struct hcm_life *life;  /* max_connection_duration and HTTP/2 pings; NULL without either */
    uint64_t born_ms;
    uint64_t counted_in, counted_out; /* bytes already in the counters */
    char *xfcc; /* this client's element of x-forwarded-client-cert, made at first use */
    struct deferred later;
    struct deferred freeing;
};

struct hcm_life {
    struct timer timer;
    struct hcm_conn *hc;
    uint64_t ping_sent_ms; /* 0: no PING is on its way */
};

enum { HCM_DEC, HCM_ENC };

/* One direction of one filter of a stream. */
struct hcm_half {
    struct buf kept; /* body that waits here */
    bool head_seen;  /* the head came here */
    bool head_wait;  /* ... and did not go on */
    bool stop_all;   /* no callback until continue */
    bool watermark;  /* kept body pauses its sender instead of failing */
    bool data_end;   /* the end of the body arrived here and did not go on */
    bool trailers_wait;
    bool running; /* inside a callback of this half */
    bool resume;  /* continue_* was called from inside it */
    bool paused;  /* we paused the sender for the limit */
    bool stopped; /* a callback said STOP* and nothing continued it yet */
};

struct hcm_filter {
    struct http_filter_host host;
    struct http_filter *f;
    struct hcm_stream *s;
    const struct http_filter_conf *conf;
    struct hcm_half half[2];
    bool destroyed;
};

struct hcm_stream {
    struct list link; /* hcm_conn.streams */
    struct hcm_conn *hc;
    const struct hcm_config *cfg;
    struct http_stream *down; /* NULL after on_close */
    struct arena *arena;      /* the codec's, then &taken */
    struct arena taken;
    struct stream_info si;
    struct hcm_filter *filters;
    uint32_t n_filters;

    /* Routing: from one snapshot, held to the end (rule 9). */
    struct rds_view *view;
    struct route_match match;
    bool routed;  /* match is computed */
    bool matched; /* ... and there is a route */

    bool over;        /* no filter is called any more */
    bool completed;   /* logs and counters are done */
    bool reset_told;  /* filters saw on_reset */
    bool dec_done;    /* answered locally: no decode callback any more */
    bool enc_done;    /* the encode chain was abandoned for a direct reply */
    bool enc_started; /* a head entered the encode chain */
    bool head_sent;   /* the response head was given to the codec */
    bool end_sent;    /* ... and the response's end */
    bool recv_end;    /* the request was received to its end */
    bool chain_made;
    bool is_head; /* HEAD: no body goes out */
    bool is_connect;
    bool upgrade_ok;           /* 101 / 200 of an upgrade went out */
    bool close_after;          /* close the connection after the response */
    bool again;                /* follows a redirect of the same message */
    struct hcm_stream *before; /* ... which this stream carried; over, kept for its memory */

    struct http_headers *trailers[2];       /* received or made */
    struct http_headers *added_trailers[2]; /* by a filter, in its last data callback */
    uint32_t buffer_limit;
    uint32_t down_high; /* the downstream's on_high, outstanding */
    uint32_t req_pauses, resp_pauses;

    /* Timers: hcm_timeouts.c */
    struct timer idle;    /* stream_idle_timeout */
    struct timer request; /* request_timeout, then max_stream_duration */
    uint64_t idle_ms, last_active_ms;
    uint64_t request_due_ms, duration_due_ms; /* 0: none */
    uint64_t log_flush_due_ms;
    struct deferred freeing;
};

/* ---- hcm_conn.c ---- */
/* Network filter entry: takes nc->conn over. */
void hcm_start(const void *config, struct network_conn *nc);
/* Something is in codec->out, or the state changed: written at the end of the turn. */
void hcm_conn_flush_later(struct hcm_conn *hc);
/* There may be bytes that the codec can take now. */
void hcm_conn_pump_later(struct hcm_conn *hc);
/* Tells the codec to end after what is under way. */
void hcm_conn_drain(struct hcm_conn *hc);
/* A stream ended: idle time starts, limits are looked at. */
void hcm_conn_stream_ended(struct hcm_conn *hc, bool clean);

/* ---- hcm_stream.c ---- */
/* A new stream of the codec; false refuses it. */
bool hcm_stream_start(struct hcm_conn *hc, struct http_stream *down);
/* A request that the codec answered by itself, without a stream: counts it and writes its line. */
void hcm_stream_refused(struct hcm_conn *hc, size_t received);
/* Did the peer break the protocol? A request without a Host is well formed HTTP/1, as Envoy has it.
 */
bool hcm_codec_protocol_error(const struct http_codec *c);
/* Ends the stream in both directions; filters see on_reset. `flags` and `details` are kept if they
 * are the first cause. */
void hcm_stream_reset(struct hcm_stream *s, enum http_reset why, uint64_t flags, sv details);
/* Ends of the encode chain: to the codec. */
void hcm_stream_send_info(struct hcm_stream *s, struct http_head *head);
void hcm_stream_send_head(struct hcm_stream *s, struct http_head *head, bool end);
void hcm_stream_send_data(struct hcm_stream *s, struct buf *data, bool end);
void hcm_stream_send_trailers(struct hcm_stream *s, struct http_headers *t);
/* Ends s and begins a stream of the same message in its place (http/filter.h: again). */
void hcm_stream_again(struct hcm_stream *s, struct http_head *resp, struct buf *body,
                      struct http_headers *trailers);
/* Bytes moved: the idle time starts anew. */
static inline void hcm_stream_active(struct hcm_stream *s)
{
    s->last_active_ms = loop_now_ms(s->hc->conn->loop);
}
/* Writes to the access logs. `type`: "DownstreamEnd" ... */
void hcm_stream_log(struct hcm_stream *s, const char *type);

/* ---- hcm_chain.c ---- */
/* Makes the filters of a stream. */
void hcm_chain_make(struct hcm_stream *s, const struct http_filter_conf *conf, uint32_t n);
/* A message enters the chain at filter `i` and goes on in the direction. */
void hcm_chain_head(struct hcm_stream *s, int dir, uint32_t i, struct http_head *head, bool end);
void hcm_chain_data(struct hcm_stream *s, int dir, uint32_t i, struct buf *data, bool end);
void hcm_chain_trailers(struct hcm_stream *s, int dir, uint32_t i, struct http_headers *t);
void hcm_chain_info(struct hcm_stream *s, struct http_head *head);
/* continue_decoding / continue_encoding of one filter. */
void hcm_chain_continue(struct hcm_filter *f, int dir);
/* inject_*: enters behind the filter, its waiting head first. */
void hcm_chain_inject(struct hcm_filter *f, int dir, struct buf *data, bool end);
void hcm_chain_reset(struct hcm_stream *s, enum http_reset why);
void hcm_chain_destroy(struct hcm_stream *s);
static inline uint32_t hcm_chain_first(const struct hcm_stream *s, int dir)
{
    return dir == HCM_DEC ? 0 : s->n_filters - 1;
}

/* ---- hcm_host.c ---- */
extern const struct http_filter_host_ops hcm_host_ops;
/* Both count; what is outstanding when the stream ends is forgotten. */
void hcm_pause_request(struct hcm_stream *s, bool on);
void hcm_pause_response(struct hcm_stream *s, bool on);
/* The route in force, computed when it is not known; NULL when none matches. */
const struct route_match *hcm_route(struct hcm_stream *s);

/* ---- hcm_request.c ---- */
/* Envoy's checks, canonical forms, fields, route, filters; then the head enters the chain. */
void hcm_request_head(struct hcm_stream *s, struct http_head *head, bool end);
/* Brings path and authority to the forms that routes see. A path that would be refused or
 * redirected stays as it is. */
void hcm_request_canonical(struct hcm_stream *s, struct http_head *head);
/* Another filter chain is for that host, so this connection is not (network.h: misdirected). */
bool hcm_request_misdirected(struct hcm_stream *s, const struct http_head *head);

/* ---- hcm_reply.c ---- */
void hcm_local_reply(struct hcm_stream *s, const struct http_local_reply *r);

/* ---- hcm_timeouts.c ---- */
void hcm_timeouts_start(struct hcm_stream *s);
/* The route says other times. */
void hcm_timeouts_route(struct hcm_stream *s, const struct route *r, struct http_head *head);
void hcm_timeouts_request_ended(struct hcm_stream *s);
void hcm_timeouts_stop(struct hcm_stream *s);

#endif
