/* Makes a connection to a host: TCP, and TLS on it where the endpoint's transport socket says so,
 * within connect_timeout; counts it.
 *
 *   connector_start -> done(conn)           connected, handshake over
 *                   -> failed(why, details)
 * One of them comes, never from inside connector_start. Embedded in the object that wants the
 * connection; connector_cancel (or its end) stops it. The host is used (host_use) until then.
 *
 * A connection that was handed over is counted as active until cx_ended.
 * Thread: worker (owning loop). */
#ifndef WEFT_UPSTREAM_CONNECTOR_H
#define WEFT_UPSTREAM_CONNECTOR_H

#include "net/conn.h"
#include "upstream/upstream.h"

/* What the transport sockets are told; views must live until the connector ends. */
struct transport_ask {
    bool has_sni;
    sv sni;
    const sv *alpn;
    uint32_t n_alpn;
    sv expect_name;
    sv first; /* PROXY header */
};

struct connector {
    struct list link; /* core->awaiting_tls */
    struct upstream_host *host;
    const struct transport_ask *ask;
    struct conn *conn;
    struct timer timer;
    uint64_t start_ns;
    enum upstream_priority priority;
    int early_error; /* there is no conn, and this is why */
    sv early_text;
    bool active;
    void (*done)(struct connector *k, struct conn *c);
    /* details live during the call. */
    void (*failed)(struct connector *k, enum upstream_fail why, sv details);
};

/* LIMIT_CX has been taken for it. done and failed are set by the caller. */
void connector_start(struct connector *k, struct upstream_host *host, enum upstream_priority p,
                     const struct transport_ask *ask);
/* Stops an attempt without a callback; counts the connection as ended. Fine when it is over. */
void connector_cancel(struct connector *k);
/* The TLS slots of the core were made: attempts that wait for one go on. */
struct cluster_core;
void connector_tls_made(struct cluster_core *c);

enum cx_end { CX_LOCAL, CX_REMOTE };
/* A connection is over: gauges, limits, length, who ended it. The conn (may be NULL) is still
 * there. */
void cx_ended(struct upstream_host *h, enum upstream_priority p, const struct conn *c,
              uint64_t start_ns, enum cx_end by, bool with_active_rq);
/* Whether one more connection to the host is allowed; takes LIMIT_CX if so, else counts the
 * overflow if `count`. `none_yet`: the asker has none at all, so it may have one whatever the limit
 * says. */
bool cx_allowed(struct upstream_host *h, enum upstream_priority p, bool none_yet, bool count);

#endif
