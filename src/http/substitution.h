/* Envoy's format strings: text with command operators, "%REQ(:METHOD):10% %RESPONSE_CODE%".
 *
 *   substitution_compile("…%OP(args):max%…")  ->  [literal][op][literal][op]…   (immutable)
 *   substitution_eval(format, stream)         ->  text
 *
 * Access logs, header values of routes and local replies are compiled once, when configuration is
 * read; an operator that is not known is an error that names it. Evaluating takes no lock, asks no
 * clock and allocates only in the stream's arena.
 *
 * What a peer chose cannot forge a log line (attack case 47): in logs, bytes that are not
 * printable, and '"' and '\', come out as \n, \x1b, \", \\; in header values bytes that a field
 * value may not have become '_'. An absent value is "-" (empty with omit_empty).
 *
 * What this room cannot see (certificates, metadata of routes and clusters) it asks through
 * substitution_hooks, set once by whoever assembles the process; without them it is absent.
 * Thread: compiling: any. Evaluating: the stream's worker. */
#ifndef WEFT_HTTP_SUBSTITUTION_H
#define WEFT_HTTP_SUBSTITUTION_H

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "base/strbuf.h"
#include "http/stream_info.h"

struct substitution;

enum substitution_use {
    SUBSTITUTION_LOG,    /* a line for people: escaped */
    SUBSTITUTION_HEADER, /* a field value: what may not stand there is '_' */
    SUBSTITUTION_BODY,   /* bytes as they are */
};

struct substitution_opts {
    enum substitution_use use;
    bool omit_empty;
    /* Part of the sentence of errors, "access_log[0].format", or NULL. */
    const char *path;
};

/* Envoy's default access-log format, with its line end. */
extern const sv substitution_default_format;

/* Compiles into `a`; literals are copied. E_INVALID naming the operator and what is wrong. */
int substitution_compile(sv format, const struct substitution_opts *o, struct arena *a,
                         const struct substitution **out, struct error *err) MUST_CHECK;
/* True when there is no operator in it: *text is the whole value. */
bool substitution_constant(const struct substitution *f, sv *text);

/* What is formatted. Only si is required; req, resp and trailers default to those of si. */
struct substitution_ctx {
    const struct stream_info *si;
    const struct http_head *req, *resp;
    const struct http_headers *resp_trailers;
    sv local_reply_body;
    const char *log_type; /* %ACCESS_LOG_TYPE%: "DownstreamEnd"; NULL: "NotSet" */
};

/* Appends the text. */
void substitution_eval(const struct substitution *f, const struct substitution_ctx *c,
                       struct strbuf *out);
/* The text, in `a` (or the constant itself): header values. Empty when all operators are absent
 * and omit_empty is set. */
sv substitution_eval_arena(const struct substitution *f, const struct substitution_ctx *c,
                           struct arena *a);
/* Appends a JSON value. A format that is exactly one operator keeps its type: numbers, true and
 * false, objects; null when absent. All else is a string. Returns false when the value is null or,
 * with omit_empty, the empty string. */
bool substitution_eval_json(const struct substitution *f, const struct substitution_ctx *c,
                            struct strbuf *out);

/* The status of a gRPC call: from trailers, else the response head, else made from the HTTP status.
 * False when it is no gRPC request or nothing was answered. */
bool substitution_grpc_status(const struct substitution_ctx *c, uint64_t *status);

/* Escapes v for a log line as above. Exposed for other writers of lines. */
void substitution_escape(struct strbuf *out, sv v);

/* ---- what other rooms answer ---- */
/* %DOWNSTREAM_TLS_VERSION%, %UPSTREAM_TLS_VERSION% … */
#define SUBSTITUTION_TLS_SESSION(X)                                                                \
    X(VERSION)                                                                                     \
    X(CIPHER)                                                                                      \
    X(GROUP)                                                                                       \
    X(SESSION_ID)
/* %DOWNSTREAM_PEER_URI_SAN%, %UPSTREAM_PEER_URI_SAN% … */
#define SUBSTITUTION_TLS_CERT(X)                                                                   \
    X(PEER_URI_SAN)                                                                                \
    X(PEER_DNS_SAN)                                                                                \
    X(PEER_IP_SAN)                                                                                 \
    X(PEER_EMAIL_SAN)                                                                              \
    X(PEER_SUBJECT)                                                                                \
    X(PEER_ISSUER)                                                                                 \
    X(PEER_SERIAL)                                                                                 \
    X(PEER_FINGERPRINT_256)                                                                        \
    X(PEER_FINGERPRINT_1)                                                                          \
    X(PEER_CERT)                                                                                   \
    X(LOCAL_URI_SAN)                                                                               \
    X(LOCAL_DNS_SAN)                                                                               \
    X(LOCAL_IP_SAN)                                                                                \
    X(LOCAL_EMAIL_SAN)                                                                             \
    X(LOCAL_SUBJECT)
/* %DOWNSTREAM_PEER_CERT_V_START(format)%: the hook gives seconds since 1970, as text. */
#define SUBSTITUTION_TLS_DATES(X)                                                                  \
    X(PEER_CERT_V_START)                                                                           \
    X(PEER_CERT_V_END)
#define SUBSTITUTION_TLS_FIELDS(X)                                                                 \
    SUBSTITUTION_TLS_SESSION(X) SUBSTITUTION_TLS_CERT(X) SUBSTITUTION_TLS_DATES(X)
enum substitution_tls_field {
#define X(id) SUBSTITUTION_TLS_##id,
    SUBSTITUTION_TLS_FIELDS(X)
#undef X
        SUBSTITUTION_TLS_SERVER_NAME, /* %UPSTREAM_SERVER_NAME% */
};
/* What the owner of the client's connection knows and no stream keeps: operators of these names. */
#define SUBSTITUTION_CONN_FIELDS(X)                                                                \
    X(FILTER_CHAIN_NAME)                                                                           \
    X(DOWNSTREAM_DETECTED_CLOSE_TYPE)                                                              \
    X(DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1)                                                        \
    X(DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256)                                                      \
    X(DOWNSTREAM_PEER_CHAIN_SERIALS)                                                               \
    X(DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256)                                                      \
    X(DOWNSTREAM_PEER_ISSUER_SERIAL)
enum substitution_conn_field {
#define X(id) SUBSTITUTION_CONN_##id,
    SUBSTITUTION_CONN_FIELDS(X)
#undef X
        SUBSTITUTION_CONN_DIRECT_LOCAL, /* "ip:port" of the socket */
};
enum substitution_metadata {
    SUBSTITUTION_META_CLUSTER,
    SUBSTITUTION_META_ROUTE,
    SUBSTITUTION_META_UPSTREAM_HOST,
    SUBSTITUTION_META_LISTENER,
    SUBSTITUTION_META_VIRTUAL_HOST,
    SUBSTITUTION_META_DYNAMIC, /* answered here */
};
struct substitution_hooks {
    /* One field of a connection's TLS; p == NULL when there is none. May use the arena. */
    sv (*tls)(const struct tls_info *tls, enum substitution_tls_field f, struct arena *a);
    /* The value at ns -> path[0] -> path[1]…, as compact JSON; p == NULL when there is none. */
    sv (*metadata)(const struct stream_info *si, enum substitution_metadata which, sv ns,
                   const sv *path, uint32_t n, struct arena *a);
    /* One field of the connection that `down` belongs to; p == NULL when there is none. */
    sv (*conn)(const struct stream_conn *down, enum substitution_conn_field f, struct arena *a);
};
/* Before any worker runs; `h` must live for ever. */
void substitution_set_hooks(const struct substitution_hooks *h);

#endif
