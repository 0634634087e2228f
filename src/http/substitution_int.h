/* Between the files of substitution: what a format string was compiled to. Private. */
#ifndef WEFT_HTTP_SUBSTITUTION_INT_H
#define WEFT_HTTP_SUBSTITUTION_INT_H

#include "cel/cel.h"
#include "http/substitution.h"

enum sub_arg {
    SUB_ARG_NONE,
    SUB_ARG_HEADER,   /* (X?Y) */
    SUB_ARG_OPTIONAL, /* (anything) */
    SUB_ARG_PATH,     /* (a:b:c) */
    SUB_ARG_POINTS,   /* (START:END:PRECISION) */
    SUB_ARG_NAME,     /* (X), required */
};
#define SUB_LEN 0x10 /* takes ":max" */

/* Operators: id (and name in formats), argument. Those that are known when compiling (HOSTNAME,
 * ENVIRONMENT) become literals. */
#define SUB_OPS(X)                                                                                 \
    X(REQ, SUB_ARG_HEADER | SUB_LEN)                                                               \
    X(RESP, SUB_ARG_HEADER | SUB_LEN)                                                              \
    X(TRAILER, SUB_ARG_HEADER | SUB_LEN)                                                           \
    X(REQ_WITHOUT_QUERY, SUB_ARG_HEADER | SUB_LEN)                                                 \
    X(QUERY_PARAM, SUB_ARG_NAME | SUB_LEN)                                                         \
    X(QUERY_PARAMS, SUB_ARG_OPTIONAL | SUB_LEN)                                                    \
    X(PATH, SUB_ARG_OPTIONAL | SUB_LEN)                                                            \
    X(DYNAMIC_METADATA, SUB_ARG_PATH | SUB_LEN)                                                    \
    X(CLUSTER_METADATA, SUB_ARG_PATH | SUB_LEN)                                                    \
    X(UPSTREAM_METADATA, SUB_ARG_PATH | SUB_LEN)                                                   \
    X(METADATA, SUB_ARG_PATH | SUB_LEN)                                                            \
    X(FILTER_STATE, SUB_ARG_PATH | SUB_LEN)                                                        \
    X(ENVIRONMENT, SUB_ARG_NAME | SUB_LEN)                                                         \
    X(LOCAL_REPLY_BODY, SUB_ARG_NONE | SUB_LEN)                                                    \
    X(START_TIME, SUB_ARG_OPTIONAL)                                                                \
    X(START_TIME_LOCAL, SUB_ARG_OPTIONAL)                                                          \
    X(EMIT_TIME, SUB_ARG_OPTIONAL)                                                                 \
    X(EMIT_TIME_LOCAL, SUB_ARG_OPTIONAL)                                                           \
    X(DURATION, SUB_ARG_NONE)                                                                      \
    X(REQUEST_DURATION, SUB_ARG_NONE)                                                              \
    X(REQUEST_TX_DURATION, SUB_ARG_NONE)                                                           \
    X(RESPONSE_DURATION, SUB_ARG_NONE)                                                             \
    X(RESPONSE_TX_DURATION, SUB_ARG_NONE)                                                          \
    X(DOWNSTREAM_HANDSHAKE_DURATION, SUB_ARG_NONE)                                                 \
    X(UPSTREAM_CONNECTION_POOL_READY_DURATION, SUB_ARG_NONE)                                       \
    X(ROUNDTRIP_DURATION, SUB_ARG_NONE)                                                            \
    X(COMMON_DURATION, SUB_ARG_POINTS)                                                             \
    X(PROTOCOL, SUB_ARG_NONE)                                                                      \
    X(UPSTREAM_PROTOCOL, SUB_ARG_NONE)                                                             \
    X(RESPONSE_CODE, SUB_ARG_NONE)                                                                 \
    X(RESPONSE_CODE_DETAILS, SUB_ARG_OPTIONAL)                                                     \
    X(RESPONSE_FLAGS, SUB_ARG_NONE)                                                                \
    X(RESPONSE_FLAGS_LONG, SUB_ARG_NONE)                                                           \
    X(CONNECTION_TERMINATION_DETAILS, SUB_ARG_NONE)                                                \
    X(BYTES_RECEIVED, SUB_ARG_NONE)                                                                \
    X(BYTES_SENT, SUB_ARG_NONE)                                                                    \
    X(DOWNSTREAM_WIRE_BYTES_RECEIVED, SUB_ARG_NONE)                                                \
    X(DOWNSTREAM_WIRE_BYTES_SENT, SUB_ARG_NONE)                                                    \
    X(DOWNSTREAM_HEADER_BYTES_RECEIVED, SUB_ARG_NONE)                                              \
    X(DOWNSTREAM_HEADER_BYTES_SENT, SUB_ARG_NONE)                                                  \
    X(DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED, SUB_ARG_NONE)                                 \
    X(DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT, SUB_ARG_NONE)                                     \
    X(UPSTREAM_WIRE_BYTES_RECEIVED, SUB_ARG_NONE)                                                  \
    X(UPSTREAM_WIRE_BYTES_SENT, SUB_ARG_NONE)                                                      \
    X(UPSTREAM_HEADER_BYTES_RECEIVED, SUB_ARG_NONE)                                                \
    X(UPSTREAM_HEADER_BYTES_SENT, SUB_ARG_NONE)                                                    \
    X(UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED, SUB_ARG_NONE)                                   \
    X(UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT, SUB_ARG_NONE)                                       \
    X(REQUEST_HEADERS_BYTES, SUB_ARG_NONE)                                                         \
    X(RESPONSE_HEADERS_BYTES, SUB_ARG_NONE)                                                        \
    X(RESPONSE_TRAILERS_BYTES, SUB_ARG_NONE)                                                       \
    X(ROUTE_NAME, SUB_ARG_NONE)                                                                    \
    X(VIRTUAL_HOST_NAME, SUB_ARG_NONE)                                                             \
    X(VIRTUAL_CLUSTER_NAME, SUB_ARG_NONE)                                                          \
    X(UPSTREAM_HOST, SUB_ARG_NONE)                                                                 \
    X(UPSTREAM_HOST_NAME, SUB_ARG_NONE)                                                            \
    X(UPSTREAM_HOST_NAME_WITHOUT_PORT, SUB_ARG_NONE)                                               \
    X(UPSTREAM_HOSTS_ATTEMPTED, SUB_ARG_NONE)                                                      \
    X(UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT, SUB_ARG_NONE)                                         \
    X(UPSTREAM_HOST_NAMES_ATTEMPTED, SUB_ARG_NONE)                                                 \
    X(UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT, SUB_ARG_NONE)                                    \
    X(UPSTREAM_CONNECTION_IDS_ATTEMPTED, SUB_ARG_NONE)                                             \
    X(UPSTREAM_CLUSTER, SUB_ARG_NONE)                                                              \
    X(UPSTREAM_CLUSTER_RAW, SUB_ARG_NONE)                                                          \
    X(UPSTREAM_LOCAL_ADDRESS, SUB_ARG_NONE)                                                        \
    X(UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT, SUB_ARG_NONE)                                           \
    X(UPSTREAM_LOCAL_PORT, SUB_ARG_NONE)                                                           \
    X(UPSTREAM_REMOTE_ADDRESS, SUB_ARG_NONE)                                                       \
    X(UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT, SUB_ARG_NONE)                                          \
    X(UPSTREAM_REMOTE_PORT, SUB_ARG_NONE)                                                          \
    X(UPSTREAM_CONNECTION_ID, SUB_ARG_NONE)                                                        \
    X(UPSTREAM_TRANSPORT_FAILURE_REASON, SUB_ARG_NONE)                                             \
    X(UPSTREAM_REQUEST_ATTEMPT_COUNT, SUB_ARG_NONE)                                                \
    X(DOWNSTREAM_TRANSPORT_FAILURE_REASON, SUB_ARG_NONE)                                           \
    X(DOWNSTREAM_REMOTE_ADDRESS, SUB_ARG_NONE)                                                     \
    X(DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT, SUB_ARG_NONE)                                        \
    X(DOWNSTREAM_REMOTE_PORT, SUB_ARG_NONE)                                                        \
    X(DOWNSTREAM_DIRECT_REMOTE_ADDRESS, SUB_ARG_NONE)                                              \
    X(DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT, SUB_ARG_NONE)                                 \
    X(DOWNSTREAM_DIRECT_REMOTE_PORT, SUB_ARG_NONE)                                                 \
    X(DOWNSTREAM_LOCAL_ADDRESS, SUB_ARG_NONE)                                                      \
    X(DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT, SUB_ARG_NONE)                                         \
    X(DOWNSTREAM_LOCAL_PORT, SUB_ARG_NONE)                                                         \
    X(DOWNSTREAM_DIRECT_LOCAL_ADDRESS, SUB_ARG_NONE)                                               \
    X(DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT, SUB_ARG_NONE)                                  \
    X(DOWNSTREAM_DIRECT_LOCAL_PORT, SUB_ARG_NONE)                                                  \
    X(REQUESTED_SERVER_NAME, SUB_ARG_NONE)                                                         \
    X(GRPC_STATUS, SUB_ARG_OPTIONAL)                                                               \
    X(GRPC_STATUS_NUMBER, SUB_ARG_NONE)                                                            \
    X(HOSTNAME, SUB_ARG_NONE)                                                                      \
    X(CONNECTION_ID, SUB_ARG_NONE)                                                                 \
    X(STREAM_ID, SUB_ARG_NONE)                                                                     \
    X(CUSTOM_FLAGS, SUB_ARG_NONE)                                                                  \
    X(TRACE_ID, SUB_ARG_NONE)                                                                      \
    X(SPAN_ID, SUB_ARG_NONE)                                                                       \
    X(UNIQUE_ID, SUB_ARG_NONE)                                                                     \
    X(ACCESS_LOG_TYPE, SUB_ARG_NONE)                                                               \
    X(CEL, SUB_ARG_NAME | SUB_LEN)                                                                 \
    X(TYPED_CEL, SUB_ARG_NAME | SUB_LEN)

enum sub_op_id {
#define X(id, arg) SUB_##id,
    SUB_OPS(X)
#undef X
        SUB_TLS,  /* DOWNSTREAM_TLS_VERSION, UPSTREAM_PEER_URI_SAN …: side and field */
    SUB_TLS_DATE, /* DOWNSTREAM_PEER_CERT_V_START … */
    SUB_CONN,     /* FILTER_CHAIN_NAME …: enum substitution_conn_field */
    SUB_LITERAL,
};

/* A header by name: looked up once, when compiling. */
enum sub_part { SUB_FIELD, SUB_METHOD, SUB_PATH_PART, SUB_AUTHORITY, SUB_SCHEME, SUB_OTHER_PART };
struct sub_field {
    sv name; /* lower case; n == 0: none */
    uint16_t id;
    uint8_t part;
};

struct sub_op {
    uint8_t id;  /* enum sub_op_id */
    uint8_t tls; /* SUB_TLS: enum substitution_tls_field; SUB_CONN: substitution_conn_field */
    bool upstream;
    uint8_t format;   /* GRPC_STATUS: SUB_GRPC_*; PATH: SUB_PATH_* bits; RESPONSE_CODE_DETAILS: 1
                         keeps white space; QUERY_PARAMS: 1 decodes */
    uint8_t from, to; /* COMMON_DURATION: enum sub_point */
    uint32_t unit_ns; /* COMMON_DURATION */
    uint8_t meta;     /* METADATA: enum substitution_metadata */
    uint32_t max;     /* UINT32_MAX: no limit */
    sv a;             /* literal; time format; namespace or key */
    struct sub_field field[2]; /* header and its alternative */
    sv *path;
    uint32_t n_path;
    const struct cel *cel; /* CEL, TYPED_CEL */
};
enum { SUB_GRPC_CAMEL, SUB_GRPC_SNAKE, SUB_GRPC_NUMBER };
enum { SUB_PATH_NO_QUERY = 1, SUB_PATH_NOT_ORIGINAL = 2, SUB_PATH_ORIGINAL_ONLY = 4 };

#define SUB_POINTS(X)                                                                              \
    X(DS_RX_BEG)                                                                                   \
    X(DS_RX_END)                                                                                   \
    X(US_CX_BEG)                                                                                   \
    X(US_CX_END)                                                                                   \
    X(US_HS_END)                                                                                   \
    X(US_TX_BEG)                                                                                   \
    X(US_TX_END)                                                                                   \
    X(US_RX_BEG)                                                                                   \
    X(US_RX_END)                                                                                   \
    X(DS_TX_BEG)                                                                                   \
    X(DS_TX_END)
enum sub_point {
#define X(id) SUB_POINT_##id,
    SUB_POINTS(X)
#undef X
        SUB_POINT_COUNT
};

struct substitution {
    struct sub_op *ops;
    uint32_t n;
    enum substitution_use use;
    bool omit_empty;
};

enum sub_kind { SUB_VALUE_NONE, SUB_VALUE_TEXT, SUB_VALUE_NUMBER, SUB_VALUE_JSON };
struct sub_value {
    enum sub_kind kind;
    uint64_t number;
    sv text; /* TEXT, JSON */
};

/* The value of one operator (not a literal). Texts are views or live in the stream's arena. */
struct sub_value substitution_value(const struct sub_op *op, const struct substitution_ctx *c);

/* An expression as JSON of its own type; false: null. */
bool substitution_typed(const struct sub_op *op, const struct substitution_ctx *c,
                        struct strbuf *out);
const struct substitution_hooks *substitution_get_hooks(void); /* or NULL */
/* As substitution_grpc_status, whatever the request was. */
bool substitution_answer_grpc_status(const struct substitution_ctx *c, uint64_t *status);

/* Formats a time by Envoy's specifiers: strftime's, %f %1f..%9f, %s, %E1S..%E9S, %E*S, %Ez. Empty
 * fmt: the default, "2016-12-15T16:07:14.871Z". In `a`. */
sv substitution_time(sv fmt, uint64_t wall_ns, bool local, struct arena *a);
extern const sv substitution_default_time;

/* The value at a path in a compact JSON text ({"a":{"b":1}}, a, b -> 1); p == NULL: not there. */
sv substitution_json_get(sv json, const sv *path, uint32_t n);
/* The text of a JSON string without quotes and escapes, in `a`. */
sv substitution_json_text(sv json, struct arena *a);

#endif
