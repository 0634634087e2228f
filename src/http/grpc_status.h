/* The status of a gRPC call whose answer is an HTTP status alone ("HTTP to gRPC Status Code
 * Mapping", grpc/doc/http-grpc-status-mapping.md). Thread: any. */
#ifndef WEFT_HTTP_GRPC_STATUS_H
#define WEFT_HTTP_GRPC_STATUS_H

#include <stdint.h>

uint8_t http_grpc_status(uint16_t http_status);

#endif
