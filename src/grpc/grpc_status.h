/* gRPC's vocabulary: status codes, and how statuses, messages, timeouts and binary metadata are
 * written in HTTP fields (gRPC over HTTP/2, "PROTOCOL-HTTP2.md"). Thread: any. */
#ifndef WEFT_GRPC_GRPC_STATUS_H
#define WEFT_GRPC_GRPC_STATUS_H

#include "http/codec.h"

#define GRPC_CODES(X)                                                                              \
    X(OK, 0)                                                                                       \
    X(CANCELLED, 1)                                                                                \
    X(UNKNOWN, 2)                                                                                  \
    X(INVALID_ARGUMENT, 3)                                                                         \
    X(DEADLINE_EXCEEDED, 4)                                                                        \
    X(NOT_FOUND, 5)                                                                                \
    X(ALREADY_EXISTS, 6)                                                                           \
    X(PERMISSION_DENIED, 7)                                                                        \
    X(RESOURCE_EXHAUSTED, 8)                                                                       \
    X(FAILED_PRECONDITION, 9)                                                                      \
    X(ABORTED, 10)                                                                                 \
    X(OUT_OF_RANGE, 11)                                                                            \
    X(UNIMPLEMENTED, 12)                                                                           \
    X(INTERNAL, 13)                                                                                \
    X(UNAVAILABLE, 14)                                                                             \
    X(DATA_LOSS, 15)                                                                               \
    X(UNAUTHENTICATED, 16)

enum grpc_code {
#define X(name, number) GRPC_##name = number,
    GRPC_CODES(X)
#undef X
};

/* "DEADLINE_EXCEEDED"; "UNKNOWN" for numbers that are none. Static. */
const char *grpc_code_text(int code);
/* "InvalidArgument" or "INVALID_ARGUMENT" or "3" to the code, or E_INVALID. */
int grpc_code_parse(sv text, int *code);
/* The status a client sees when the answer was HTTP without grpc-status, and the HTTP status that
 * stands for a code towards HTTP callers (Envoy's mapping). */
enum grpc_code grpc_code_of_http(unsigned status);
unsigned grpc_code_to_http(int code);
/* The status of a call whose stream was reset. */
enum grpc_code grpc_code_of_reset(enum http_reset why);

/* grpc-message: percent-encoding of everything but printable ASCII without '%'. Encoding cuts at
 * 4 KB; decoding leaves what is no valid escape as it is. Either may return v itself. */
sv grpc_message_encode(sv v, struct arena *a);
sv grpc_message_decode(sv v, struct arena *a);

/* grpc-timeout: digits and a unit of H M S m u n. Rounded up to milliseconds; saturates at
 * GRPC_TIMEOUT_MAX_MS however many digits there are (attack case 39). E_INVALID. */
#define GRPC_TIMEOUT_MAX_MS (UINT64_C(1) << 53)
int grpc_timeout_parse(sv v, uint64_t *ms);
/* At most 8 digits, in the finest unit that holds it. out has 16 bytes. */
sv grpc_timeout_format(uint64_t ms, char out[16]);

/* Metadata whose name ends with "-bin": the bytes travel as base64 (unpadded when sent; padded or
 * not when received). The value is put in
 * h's arena. */
void grpc_metadata_add_bin(struct http_headers *h, sv lower_name, sv bytes);
/* The first value (also of several joined by commas), decoded into `a`; E_NOT_FOUND, or E_INVALID
 * when it is no base64. */
int grpc_metadata_get_bin(const struct http_headers *h, sv lower_name, struct arena *a, sv *out);

#endif
