/* HTTP fields and message heads, the same for HTTP/1 and HTTP/2.
 *
 * Names are lower case (canonical); `raw` keeps the spelling a HTTP/1 peer used, so that the
 * HTTP/1 encoder can give it back. Order and repetition are kept. Views point into received
 * blocks, the stream's arena, or packed configuration; all live at least as long as the stream.
 * Well-known names are interned: `id` makes look-ups an integer compare. One list (HTTP_NAMES)
 * gives ids and spellings. Thread: the stream's worker. */
#ifndef WEFT_HTTP_HEADERS_H
#define WEFT_HTTP_HEADERS_H

#include <stdbool.h>
#include <stdint.h>
#include "base/arena.h"
#include "base/sv.h"

#define HTTP_NAMES(X)                                                                              \
    X(ACCEPT, "accept")                                                                            \
    X(ACCEPT_ENCODING, "accept-encoding")                                                          \
    X(AUTHORIZATION, "authorization")                                                              \
    X(CONNECTION, "connection")                                                                    \
    X(CONTENT_LENGTH, "content-length")                                                            \
    X(CONTENT_TYPE, "content-type")                                                                \
    X(COOKIE, "cookie")                                                                            \
    X(DATE, "date")                                                                                \
    X(EXPECT, "expect")                                                                            \
    X(FORWARDED, "forwarded")                                                                      \
    X(GRPC_MESSAGE, "grpc-message")                                                                \
    X(GRPC_STATUS, "grpc-status")                                                                  \
    X(GRPC_TIMEOUT, "grpc-timeout")                                                                \
    X(HOST, "host")                                                                                \
    X(HTTP2_SETTINGS, "http2-settings")                                                            \
    X(KEEP_ALIVE, "keep-alive")                                                                    \
    X(LOCATION, "location")                                                                        \
    X(PROXY_CONNECTION, "proxy-connection")                                                        \
    X(REFERER, "referer")                                                                          \
    X(SERVER, "server")                                                                            \
    X(SET_COOKIE, "set-cookie")                                                                    \
    X(TE, "te")                                                                                    \
    X(TRACEPARENT, "traceparent")                                                                  \
    X(TRACESTATE, "tracestate")                                                                    \
    X(TRAILER, "trailer")                                                                          \
    X(TRANSFER_ENCODING, "transfer-encoding")                                                      \
    X(UPGRADE, "upgrade")                                                                          \
    X(USER_AGENT, "user-agent")                                                                    \
    X(VIA, "via")                                                                                  \
    X(X_ENVOY_ATTEMPT_COUNT, "x-envoy-attempt-count")                                              \
    X(X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, "x-envoy-expected-rq-timeout-ms")                            \
    X(X_ENVOY_FORCE_TRACE, "x-envoy-force-trace")                                                  \
    X(X_ENVOY_INTERNAL, "x-envoy-internal")                                                        \
    X(X_ENVOY_MAX_RETRIES, "x-envoy-max-retries")                                                  \
    X(X_ENVOY_ORIGINAL_PATH, "x-envoy-original-path")                                              \
    X(X_ENVOY_RETRIABLE_HEADER_NAMES, "x-envoy-retriable-header-names")                            \
    X(X_ENVOY_RETRIABLE_STATUS_CODES, "x-envoy-retriable-status-codes")                            \
    X(X_ENVOY_RETRY_GRPC_ON, "x-envoy-retry-grpc-on")                                              \
    X(X_ENVOY_RETRY_ON, "x-envoy-retry-on")                                                        \
    X(X_ENVOY_UPSTREAM_ALT_STAT_NAME, "x-envoy-upstream-alt-stat-name")                            \
    X(X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS, "x-envoy-upstream-rq-per-try-timeout-ms")            \
    X(X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE, "x-envoy-upstream-rq-timeout-alt-response")        \
    X(X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS, "x-envoy-upstream-rq-timeout-ms")                            \
    X(X_ENVOY_UPSTREAM_SERVICE_TIME, "x-envoy-upstream-service-time")                              \
    X(X_FORWARDED_CLIENT_CERT, "x-forwarded-client-cert")                                          \
    X(X_FORWARDED_FOR, "x-forwarded-for")                                                          \
    X(X_FORWARDED_HOST, "x-forwarded-host")                                                        \
    X(X_FORWARDED_PROTO, "x-forwarded-proto")                                                      \
    X(X_REQUEST_ID, "x-request-id")

enum http_name {
    HTTP_H_OTHER = 0,
#define X(id, text) HTTP_H_##id,
    HTTP_NAMES(X)
#undef X
        HTTP_H_COUNT
};
_Static_assert(HTTP_H_COUNT <= 64, "http_headers.seen has a bit for each");

struct http_header {
    sv name;         /* lower case */
    sv value;        /* without outer whitespace */
    const char *raw; /* name.n bytes in the peer's spelling, or NULL = as name */
    uint16_t id;     /* enum http_name */
    uint16_t flags;  /* HTTP_HF_* */
};
#define HTTP_HF_NEVER_INDEX 1 /* HPACK: never indexed (kept from hop to hop) */

struct http_headers {
    struct http_header *v;
    uint32_t n, cap;
    uint64_t seen;       /* a bit for each id that was ever added: most look-ups are for what is not
                            there, and end here */
    struct arena *arena; /* where the array and added strings live */
    bool spelled;        /* HTTP/1 writes the names as in raw: so its receiver was configured */
};

/* The id of a lower-case name, HTTP_H_OTHER if it is none of the list. O(1). */
enum http_name http_name_find(sv lower_name);
sv http_name_text(enum http_name id);

void http_headers_init(struct http_headers *h, struct arena *a);
/* Adds at the end. name must be lower case and outlive h (not copied), value likewise. */
void http_headers_add(struct http_headers *h, sv name, sv value);
void http_headers_add_id(struct http_headers *h, enum http_name id, sv value);
/* All of `more`, whose bytes outlive h; NULL: none. */
void http_headers_add_all(struct http_headers *h, const struct http_headers *more);
/* A new entry that the caller fills in (codecs, which know the spelling, too); its id, when it has
 * one, by http_headers_name. */
struct http_header *http_headers_push(struct http_headers *h);
static inline void http_headers_name(struct http_headers *h, struct http_header *e,
                                     enum http_name id)
{
    e->id = (uint16_t)id;
    h->seen |= UINT64_C(1) << id;
}
/* False: there is none of that name. */
static inline bool http_headers_may_have(const struct http_headers *h, enum http_name id)
{
    return h->seen >> id & 1;
}
/* A name in lower case, in the arena. */
sv http_name_to_lower(sv name, struct arena *a);
/* First value, or an empty view with p == NULL when there is none. */
sv http_headers_find(const struct http_headers *h, enum http_name id);
static inline sv http_headers_get(const struct http_headers *h, enum http_name id)
{
    return http_headers_may_have(h, id) ? http_headers_find(h, id) : (sv){NULL, 0};
}
sv http_headers_get_sv(const struct http_headers *h, sv lower_name);
/* All values joined by "," in the arena (or the single one as it is); p == NULL if none. */
sv http_headers_joined(const struct http_headers *h, sv lower_name, struct arena *a);
/* The value of a cookie in the Cookie fields, without quotes around it; p == NULL if none. */
sv http_headers_cookie(const struct http_headers *h, sv name);
/* Replaces all of that name by one (at the first one's place), or adds. */
void http_headers_set(struct http_headers *h, sv lower_name, sv value);
void http_headers_set_id(struct http_headers *h, enum http_name id, sv value);
/* Removes all; returns how many. */
uint32_t http_headers_remove(struct http_headers *h, sv lower_name);
uint32_t http_headers_remove_id(struct http_headers *h, enum http_name id);
/* Bytes as limits count them: sum of name + value (+ 32 a field when hpack_overhead). */
size_t http_headers_bytes(const struct http_headers *h, bool hpack_overhead);
/* A copy whose strings live in `a`. */
void http_headers_copy(struct http_headers *dst, const struct http_headers *src, struct arena *a);

/* RFC 9110 token / field-value checks shared by all codecs (attack case 16). */
bool http_name_valid(sv name);       /* token, not empty */
bool http_name_lower_valid(sv name); /* token without upper case (HTTP/2) */
bool http_value_valid(sv value);     /* no NUL, CR, LF, no other control but HTAB; obs-text ok */

enum http_protocol { HTTP_10, HTTP_11, HTTP_2, HTTP_3 };
const char *http_protocol_text(enum http_protocol p); /* "HTTP/1.1" */

/* The head of a request or a response. Exactly one of method and status is set. Pseudo fields
 * and Host never appear in h: the codecs put them here and write them out again. */
struct http_head {
    struct http_headers h;
    sv method, scheme, authority, path; /* path as received, with query, never with fragment */
    sv connect_protocol; /* extended CONNECT (RFC 8441) or the HTTP/1 Upgrade token, else empty */
    uint16_t status;     /* 100..599 for a response */
    enum http_protocol protocol; /* spoken by the peer that sent it */
    bool upgrade;           /* HTTP/1 Upgrade or extended CONNECT was asked for / 101 granted */
    bool large_host;        /* HTTP/1: received as "Host", not "host" */
    int64_t content_length; /* -1: none */
};

void http_head_init(struct http_head *m, struct arena *a);
/* ":method" ":path" ":authority" ":scheme" ":status" "host" and fields by lower-case name:
 * what matchers and log formats ask for. p == NULL when absent. */
sv http_head_get(const struct http_head *m, sv lower_name, struct arena *a);
/* Sets a pseudo field or a field by name (header operations). E_INVALID on unknown pseudo. */
int http_head_set(struct http_head *m, sv lower_name, sv value);
bool http_head_is_grpc(const struct http_head *m); /* content-type application/grpc[+;] */
/* Fields of a message, and the bytes of their names and values, as Envoy's maps hold them: pseudo
 * fields count, Host is :authority, and an upgrade that came as extended CONNECT has the fields
 * Connection and Upgrade instead of :protocol. NULL: none. */
struct http_head_size {
    uint32_t n;
    size_t bytes;
};
struct http_head_size http_head_size(const struct http_head *m);

#endif
