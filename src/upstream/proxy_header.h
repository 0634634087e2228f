/* PROXY protocol towards a host: the bytes that go before everything else, also before TLS, and say
 * whom the connection is made for (HAProxy's proxy-protocol.txt, versions 1 and 2).
 * Thread: any. */
#ifndef WEFT_UPSTREAM_PROXY_HEADER_H
#define WEFT_UPSTREAM_PROXY_HEADER_H

#include "base/sv.h"
#include "net/addr.h"

#define PROXY_HEADER_MAX 107 /* a line of version 1; version 2 without TLVs has at most 52 */

/* Writes the header of `version` (1 or 2) into out; returns its length. `source` and `destination`
 * are those of the client's connection. Without them (NULL), or when they are not two IP addresses
 * of one family, the header says that there is nothing to tell: UNKNOWN, or the command LOCAL. */
size_t proxy_header_write(char out[PROXY_HEADER_MAX], unsigned version, const struct addr *source,
                          const struct addr *destination);

#endif
