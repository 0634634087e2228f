/* An address as Envoy's APIs say it. Thread: any. */
#ifndef WEFT_UPSTREAM_ADDRESS_H
#define WEFT_UPSTREAM_ADDRESS_H

#include "api/envoy.pb.h"
#include "base/arena.h"
#include "net/addr.h"

/* A path is a Pipe, anything else a SocketAddress. Lives in the arena. */
const struct envoy_Address *address_message(struct arena *a, const struct addr *from);

#endif
