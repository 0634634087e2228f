/* The request header grpc-timeout: 1 to 8 digits and a unit (gRPC over HTTP/2). Thread: any. */
#ifndef WEFT_HTTP_GRPC_TIMEOUT_H
#define WEFT_HTTP_GRPC_TIMEOUT_H

#include <stdbool.h>
#include <stdint.h>
#include "base/arena.h"
#include "base/sv.h"

/* Rounds up to milliseconds; false when malformed or absent. */
bool http_grpc_timeout_read(sv value, uint64_t *ms);
/* In the finest unit that eight digits hold, in a. */
sv http_grpc_timeout_text(struct arena *a, uint64_t ms);

#endif
