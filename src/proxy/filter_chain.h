/* Which filter chain of a listener takes a connection (envoy FilterChainMatch).
 *
 * Criteria are looked at in Envoy's order: destination port, destination address (longest prefix),
 * server name (exact, then the longest wildcard), transport protocol, application protocols (in
 * the client's order), direct source address, source type, source address, source port. At each
 * one the most specific value that fits decides, and only chains with that value go on: there is
 * no way back to a less specific one. A chain that says nothing about a criterion fits least.
 *
 * Pure. Thread: built on main, asked by any worker. */
#ifndef WEFT_PROXY_FILTER_CHAIN_H
#define WEFT_PROXY_FILTER_CHAIN_H

#include <stdbool.h>
#include <stdint.h>
#include "api/envoy.pb.h"
#include "base/arena.h"
#include "base/error.h"
#include "net/addr.h"

enum chain_source { CHAIN_SOURCE_ANY, CHAIN_SOURCE_LOCAL, CHAIN_SOURCE_EXTERNAL };

/* The criteria of one chain; n == 0: says nothing. */
struct chain_match {
    bool has_port;
    uint16_t port;
    const struct cidr *dst;
    uint32_t n_dst;
    const sv *names; /* lower case; ".example.com" for "*.example.com"; "" for "*" */
    uint32_t n_names;
    sv transport;
    const sv *alpn;
    uint32_t n_alpn;
    const struct cidr *direct_src;
    uint32_t n_direct_src;
    enum chain_source source;
    const struct cidr *src;
    uint32_t n_src;
    const uint16_t *src_ports;
    uint32_t n_src_ports;
};

/* m may be NULL: fits everything. Texts are views into the packed bytes. `path` names the field. */
int chain_match_build(const struct envoy_FilterChainMatch *m, const char *path, struct arena *a,
                      struct chain_match *out, struct error *err) MUST_CHECK;
/* Two chains that the same connection would fit equally well are an error that names both. names:
 * one a chain, for the sentence. */
int chain_match_check(const struct chain_match *const *v, const sv *names, uint32_t n,
                      struct error *err) MUST_CHECK;

/* What is known about a connection. */
struct chain_conn {
    const struct addr *local, *remote, *direct_remote;
    sv sni;
    sv transport; /* "tls" or "raw_buffer" */
    const sv *alpn;
    uint32_t n_alpn;
};
/* True when a has a server name that fits, and better than b's do. */
bool chain_match_names_better(const struct chain_match *a, const struct chain_match *b, sv name);
/* The index of the chain, or -1. */
int chain_match_find(const struct chain_match *const *v, uint32_t n, const struct chain_conn *c);

#endif
