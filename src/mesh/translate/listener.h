/* The parts that listeners are made of; used by both directions. Thread: main. */
#ifndef WEFT_MESH_TRANSLATE_LISTENER_H
#define WEFT_MESH_TRANSLATE_LISTENER_H

#include "mesh/translate/internal.h"

#define LISTENER_ANY SV("0.0.0.0")

/* A chain of one filter; match, socket and name may be empty. */
const struct envoy_FilterChain *listener_chain(struct build *b, sv name,
                                               const struct envoy_FilterChainMatch *match,
                                               const struct envoy_TransportSocket *socket,
                                               const struct envoy_Filter *filter);
const struct envoy_Filter *
listener_hcm(struct build *b, const struct envoy_HttpConnectionManager *config, bool inbound);
/* A transport ("tls", "raw_buffer"), application protocols, if any, and a port (0: any). */
struct envoy_FilterChainMatch *listener_match(struct build *b, uint16_t port, const char *transport,
                                              sv *protocols, uint32_t n);
/* Plain text that is HTTP, on a port (0: any). The caller may add criteria. */
struct envoy_FilterChainMatch *listener_match_http(struct build *b, uint16_t port);
const struct envoy_ListenerFilter *listener_http_inspector(struct build *b);
const struct envoy_ListenerFilter *listener_tls_inspector(struct build *b);

#endif
