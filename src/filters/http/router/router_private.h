/* Inside the router.
 *
 *   router.c           filter callbacks; what the route says; local answers
 *   router_config.c    configuration and counters
 *   router_try.c       one attempt: opening, sending, receiving, its end
 *   router_retry.c     whether to try again, and when
 *   router_redirect.c  redirects that are followed here
 *   router_timeouts.c  which timeouts apply; their timers
 *   router_mirror.c    copies of the request to other clusters
 *
 * The request's body: `body` holds what no attempt has sent yet; while a retry or a mirror may need
 * it, it holds all of it from the start (`holding`), each attempt knowing how much it sent. Past
 * the limit holding is given up, and with it the retries (rule 8).
 *
 * One attempt is current at a time. With hedging, attempts that took too long wait beside it for an
 * answer that may still come (`hedged`): the first good answer wins, the others are dropped. An
 * attempt that was given up is cut off from the router before anything else happens
 * (router_try_end), so no event of it can come late. */
#ifndef WEFT_FILTERS_HTTP_ROUTER_PRIVATE_H
#define WEFT_FILTERS_HTTP_ROUTER_PRIVATE_H

#include "base/buf.h"
#include "filters/registry.h"
#include "filters/worker.h"
#include "http/filter.h"
#include "net/conn.h"
#include "net/loop.h"
#include "route/route.h"
#include "telemetry/stats.h"
#include "upstream/upstream.h"

#define ROUTER_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                           \
    COUNTER(P, no_cluster)                                                                         \
    COUNTER(P, no_route)                                                                           \
    COUNTER(P, passthrough_internal_redirect_bad_location)                                         \
    COUNTER(P, passthrough_internal_redirect_no_route)                                             \
    COUNTER(P, passthrough_internal_redirect_predicate)                                            \
    COUNTER(P, passthrough_internal_redirect_too_many_redirects)                                   \
    COUNTER(P, passthrough_internal_redirect_unsafe_scheme)                                        \
    COUNTER(P, rq_direct_response)                                                                 \
    COUNTER(P, rq_overload_local_reply)                                                            \
    COUNTER(P, rq_redirect)                                                                        \
    COUNTER(P, rq_reset_after_downstream_response_started)                                         \
    COUNTER(P, rq_total)
STAT_GROUP_DECLARE(router_stats, ROUTER_STATS);

#define ROUTER_TRIED_MAX 8 /* hosts remembered for previous_hosts */

struct router_config {
    bool dynamic_stats, suppress_envoy_headers, respect_expected_timeout;
    const sv *strict_headers; /* strict_check_headers */
    uint32_t n_strict;
    struct stat_group stats;
    struct stats_scope *vhosts; /* "vhost.": of virtual clusters and routes that are counted */
};

struct router;

enum router_end { ROUTER_END_OK, ROUTER_END_RESET, ROUTER_END_TIMEOUT, ROUTER_END_CANCEL };

struct router_try {
    struct router *r;
    struct router_try *next;    /* in router.hedged */
    struct upstream_open *open; /* waiting for a stream */
    struct http_stream *s;      /* NULL before, and after on_close */
    struct upstream_host *host;
    struct stream_conn up;    /* what logs say about the connection */
    size_t sent;              /* bytes of router.body that were given to s (while holding) */
    bool head_sent, end_sent; /* of the request */
    bool got_head, got_end;   /* of the response */
    bool got_continue;        /* 100: passed on once */
    bool dropped;
    bool reused;         /* HTTP/1: the connection has carried requests before this one */
    bool whole_in_head;  /* the request has neither body nor trailers */
    bool paused_request; /* its on_high, outstanding */
    bool counted;
    bool retried;     /* its answer is not passed on: another attempt is made */
    bool passed_over; /* a bad answer, while another attempt may have a better one */
    bool late;        /* took longer than per_try_timeout, and goes on; its host was told */
    uint16_t status;
    enum http_protocol protocol; /* once the head is sent */
    uint32_t number;             /* 0: the first attempt */
    uint64_t start_ns;
    struct trace_span *span;  /* of its own, or NULL */
    struct http_head *answer; /* with the stream's arena */
};

struct router_retry {
    uint32_t on; /* enum route_retry_on; 0: no retries */
    uint32_t left;
    bool taken;                              /* of the cluster's retry limit */
    bool retried;                            /* at least one retry was made */
    bool by_timeout;                         /* the coming attempt is one: the last took too long */
    bool pending;                            /* one was made, and how it ended is not counted yet */
    bool waiting;                            /* the next attempt waits for its time */
    uint32_t n;                              /* retries made */
    const struct route_retry_policy *policy; /* or NULL */
    uint16_t *codes;                         /* x-envoy-retriable-status-codes */
    uint32_t n_codes;
    sv *headers; /* x-envoy-retriable-header-names */
    uint32_t n_headers;
};

struct router {
    struct http_filter f;
    const struct router_config *cfg;
    struct filter_worker *w;
    struct stream_info *si;
    struct http_head *req;
    const struct route_match *m;
    const struct route *route;
    sv vcluster; /* that the request counts for, or empty */
    struct upstream_cluster *cluster;
    struct upstream_ctx ctx;
    struct router_try *cur, *hedged;
    struct router_retry retry;
    struct router_mirrors *mirrors;  /* NULL: none */
    const struct route_upgrade *tcp; /* connect_config: the payload goes to a TCP connection */

    struct buf body;
    struct http_headers *trailers;
    bool req_end; /* the request was received to its end */
    bool holding;
    bool paused_request; /* for a body that waits for its stream */
    bool responding;     /* the response head was given on */
    bool host_cancelled; /* the attempt ended with the host's CANCEL */
    bool done;           /* nothing more is to happen */
    bool replayed;       /* once is enough */
    bool redirected;     /* the answer was a redirect that is followed */
    bool overflowed;     /* the body outgrew the limit: no retries any more */
    uint32_t down_high;
    uint32_t attempts;
    uint64_t req_end_ns;

    uint64_t timeout_ms, per_try_ms, per_try_idle_ms;
    bool hedge;              /* a per_try_timeout makes another attempt beside, and not instead */
    bool alt_timeout_status; /* x-envoy-upstream-rq-timeout-alt-response */
    struct timer overall, per_try, backoff;
    uint64_t per_try_last_ms;

    const struct upstream_host *tried[ROUTER_TRIED_MAX];
    uint64_t tried_priorities; /* previous_priorities: bits */
    uint32_t n_tried;          /* attempts that had a host */
    sv set_cookie;             /* of a cookie hash policy */
};

static inline struct http_filter_host *router_host(struct router *r)
{
    return r->f.host;
}

/* ---- router.c ---- */
/* Ends the request with an answer of our own; counts it for the cluster. */
void router_reply(struct router *r, uint16_t status, sv body, uint64_t flags, sv details);
/* Counts an answer of our own for the cluster and the route. */
void router_count_status(struct router *r, uint16_t status);
/* No more attempts; timers, streams and references are let go. */
void router_finish(struct router *r);
/* Counts for the virtual cluster that the request belongs to, and for the route where it has a
 * stat_prefix: vhost.HOST.vcluster.NAME.…, vhost.HOST.route.PREFIX.… */
void router_count_named(struct router *r, const char *name);
/* The same for a response: upstream_rq_completed, upstream_rq_2xx, upstream_rq_200, and its time
 * (or UPSTREAM_NO_TIME). */
void router_count_named_status(struct router *r, uint16_t status, uint64_t time_us);

/* ---- router_try.c ---- */
void router_try_start(struct router *r);
/* Cuts an attempt off and ends its stream. */
void router_try_end(struct router_try *t, enum router_end how);
/* All of them. */
void router_try_drop(struct router *r, enum router_end how);
/* Whether an attempt is under way, or will be. */
static inline bool router_trying(const struct router *r)
{
    return r->cur || r->hedged || r->retry.waiting;
}
/* There is more to send. */
void router_try_send(struct router_try *t);
void router_try_watermark(struct router *r, bool high);

/* ---- router_trace.c: nothing, unless attempts have spans ---- */
/* Before anything is asked for; names the span in the request's fields. */
void router_trace_start(struct router_try *t);
/* How it ended; later calls say nothing. reset: why without an answer, in words, or empty. */
struct router_trace_end {
    sv reset;
    uint64_t flags;
    bool cancelled;
    const struct http_headers *trailers;
};
void router_trace_end(struct router_try *t, const struct router_trace_end *how);

/* ---- router_retry.c ---- */
enum router_verdict { ROUTER_NO_RETRY, ROUTER_RETRY, ROUTER_LIMIT_EXCEEDED, ROUTER_OVERFLOW };
void router_retry_init(struct router *r);
bool router_retry_on_head(struct router *r, const struct http_head *head);
enum router_reset_kind {
    ROUTER_RESET_CONNECT,
    ROUTER_RESET_CONNECT_TIMEOUT,
    ROUTER_RESET_OVERFLOW,
    ROUTER_RESET_REFUSED,
    ROUTER_RESET_REMOTE,
    ROUTER_RESET_TERMINATION,
    ROUTER_RESET_PROTOCOL,
    ROUTER_RESET_LOCAL,
    ROUTER_RESET_PER_TRY, /* per_try_timeout */
};
/* The connection had been kept and ended before a byte of the answer came: its server closed it as
 * idle just when the request was on its way (RFC 9112 section 9.3.1). The request is sent once more
 * when doing it twice is as good as once (RFC 9110 section 9.2.2). No retry: no policy asks for it
 * and none forbids it. True: it is under way, and the attempt, which has no stream any more, was
 * dropped without counting against the host. */
bool router_retry_replay(struct router *r, enum router_reset_kind k);
bool router_retry_on_reset(struct router *r, enum router_reset_kind k, bool head_sent);
/* Counts and schedules the retry; true: it is under way and the current attempt was dropped. Else
 * flags say why not (URX, UO). head: the response that asked for it, or NULL. */
bool router_retry_go(struct router *r, bool wanted, const struct http_head *head);
/* The same for an attempt that took too long: true: another one is scheduled beside it. */
bool router_retry_hedge(struct router *r);
void router_retry_backoff_over(struct timer *t); /* timer function of router.backoff */
void router_retry_settled(struct router *r);     /* the outcome stays: give the limit back */
void router_retry_abandon(struct router *r);     /* from now on none */

/* ---- router_redirect.c ---- */
/* True: the answer is a redirect that is followed, and the request began anew elsewhere: nothing
 * of this router may be used any more. */
bool router_redirect(struct router *r, struct http_head *resp);

/* ---- router_timeouts.c ---- */
/* Reads (and removes) the request's fields, sets x-envoy-expected-rq-timeout-ms. */
void router_timeouts_init(struct router *r);
/* Tells the next host what time is left: x-envoy-expected-rq-timeout-ms. */
void router_timeouts_say(struct router *r);
void router_timeouts_request_ended(struct router *r);
void router_timeouts_try_ready(struct router *r);
void router_timeouts_active(struct router *r); /* per_try_idle_timeout */
void router_timeouts_stop(struct router *r);

/* ---- router_mirror.c ---- */
void router_mirror_init(struct router *r);
void router_mirror_go(struct router *r); /* the request is complete */

/* ---- router_config.c ---- */
int router_parse(const struct filter_ctx *x, sv packed, const void **config, struct error *err);

#endif
