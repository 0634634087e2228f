/* envoy.filters.listener.proxy_protocol: the client's address from a PROXY protocol header.
 *
 *   v1  "PROXY TCP4 1.2.3.4 5.6.7.8 1111 80\r\n"          at most 107 bytes
 *   v2  12 bytes signature, version/command, family/protocol, length(2), addresses, TLVs
 *
 * https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt */
#ifndef WEFT_FILTERS_LISTENER_PROXY_PROTOCOL_H
#define WEFT_FILTERS_LISTENER_PROXY_PROTOCOL_H

#include "filters/listener.h"

extern const struct listener_filter_type listener_proxy_protocol_type;

enum proxy_header { PROXY_HEADER_MORE, PROXY_HEADER_NONE, PROXY_HEADER_OK, PROXY_HEADER_BAD };
struct proxy_header_info {
    unsigned version; /* 1, 2 */
    uint32_t length;  /* bytes of the header */
    bool local;       /* LOCAL, UNKNOWN, UNSPEC: the socket's own addresses hold */
    struct addr source, destination;
};
/* Reads a header off the front of `bytes`. Strict about every length (attack case 43). Pure. */
enum proxy_header proxy_header_read(sv bytes, struct proxy_header_info *out);

#endif
