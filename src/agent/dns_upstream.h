/* One question to other servers, over UDP or TCP, one server after the other. Private to the DNS of
 * this room. Thread: main (owning loop). */
#ifndef WEFT_AGENT_DNS_UPSTREAM_H
#define WEFT_AGENT_DNS_UPSTREAM_H

#include "agent/dns_msg.h"
#include "base/buf.h"
#include "net/conn.h"
#include "net/udp.h"

#define DNS_OUTSTANDING_MAX 512
#define DNS_TRY_MS          2000

struct dns_upstreams {
    struct loop *loop;
    struct addr *servers;
    uint32_t n;
    uint32_t mark;
};
void dns_upstreams_init(struct dns_upstreams *u, struct loop *l, const struct addr *servers,
                        uint32_t n, uint32_t mark);
void dns_upstreams_fini(struct dns_upstreams *u);

struct dns_ask;
/* The answer with the question's own id, valid during the call; NULL: no server gave one. Never
 * from inside dns_ask_start. The ask is over: its memory may be freed in the call. */
typedef void (*dns_ask_fn)(struct dns_ask *a, const uint8_t *msg, size_t n);

/* Lives inside its owner, zeroed. */
struct dns_ask {
    struct dns_query query;
    const struct dns_upstreams *up;
    dns_ask_fn fn;
    uint8_t *msg; /* the question as it came, malloc'd */
    size_t n;
    uint16_t id;
    uint32_t tries;
    bool over_tcp;
    struct udp_sock *udp;
    struct conn *conn;
    struct buf in, out;
    struct timer timer;
};

/* Copies query and message. */
void dns_ask_start(struct dns_ask *a, const struct dns_upstreams *up, const struct dns_query *q,
                   const uint8_t *msg, size_t n, bool over_tcp, dns_ask_fn fn);
/* Ends it without an answer; fine when it is over or was never started. */
void dns_ask_cancel(struct dns_ask *a);

#endif
