/* What the connection manager does to header fields: who the client is and whether it is trusted,
 * what may come in from outside, what does not travel to the next hop (RFC 9110 7.6.1), what the
 * proxy adds. In one place, so that routing, policy, logs and the forwarded request see the same.
 * Thread: the stream's worker. */
#ifndef WEFT_PROXY_HCM_HEADERS_H
#define WEFT_PROXY_HCM_HEADERS_H

#include <stdbool.h>
#include "http/headers.h"
#include "net/addr.h"

struct hcm_stream;
struct hcm_config;

/* Request: x-forwarded-for and -proto, scheme, trust (si->internal, si->remote*), fields that are
 * only for insiders, hop-by-hop fields, via, x-request-id, x-forwarded-client-cert. Not 0: an
 * extension that should say who the client is refuses the request with that status. */
uint16_t hcm_headers_request(struct hcm_stream *s, struct http_head *head);
/* Removes what a HTTP/1 request's Connection field names (RFC 9110 7.6.1). False when it names
 * fields that tell who the client is, Host or a pseudo field: the request is refused (attack case
 * 29). */
bool hcm_headers_nominated(struct http_headers *h);
/* Response: hop-by-hop fields, x-request-id, via, server, date. */
void hcm_headers_response(struct hcm_stream *s, struct http_head *head);

/* Is it inside by internal_address_config? */
bool hcm_internal_ip(const struct hcm_config *c, const struct addr *a);
/* The n-th address from the right of a joined x-forwarded-for value (0: the last one). False when
 * there are fewer or it is not an address. *single: the value holds exactly one. */
bool hcm_xff_address(sv value, uint32_t n, struct addr *out, bool *single);
/* A random UUID (RFC 9562, version 4) as text: 36 bytes. */
struct rand_state;
void hcm_uuid(struct rand_state *r, char out[36]);

#endif
