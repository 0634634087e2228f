/* Who is at the other end, as Istio's metrics and logs name it: workload, namespace, canonical
 * service, version ... of a peer; and the identifiers that stand for such texts on a worker.
 *
 *   x-envoy-peer-metadata: base64(google.protobuf.Struct)  ──istio_peer_of_header──┐
 *   endpoint metadata istio.workload "NAME;NS;SERVICE;REVISION;CLUSTER" ───────────┼─> istio_peer
 *   node.metadata {WORKLOAD_NAME, NAMESPACE, CLUSTER_ID, LABELS} ──────────────────┘
 *
 * Texts that peers choose come in any number, so a worker keeps them in a *book*: each text and
 * peer once, with a number, until the book is full; then a new one is begun, and the old one goes
 * with its last holder. A request holds the book it began with, so what it looked up stays valid.
 * What a peer says is cut to ISTIO_TEXT_MAX bytes, and bytes that are not printable ASCII are '_'.
 * Thread: istio_peer_of_node and istio_peer_value: any. The rest: the owning worker. */
#ifndef WEFT_TELEMETRY_ISTIO_PEER_H
#define WEFT_TELEMETRY_ISTIO_PEER_H

#include <stdbool.h>
#include <stdint.h>
#include "base/arena.h"
#include "base/map.h"
#include "base/sv.h"

struct google_Struct;
struct envoy_Metadata;

#define ISTIO_TEXT_MAX   253
#define ISTIO_HEADER_MAX 4096 /* a longer header is no peer's */

#define ISTIO_PEER_HEADER    "x-envoy-peer-metadata"
#define ISTIO_PEER_ID_HEADER "x-envoy-peer-metadata-id"
/* Filter state that the metadata exchange leaves: a const struct istio_peer. */
#define ISTIO_DOWNSTREAM_PEER "downstream_peer"
#define ISTIO_UPSTREAM_PEER   "upstream_peer"

struct istio_peer {
    uint32_t id; /* in its book; 0: of none */
    /* Empty: not known. */
    sv workload, ns, service, revision, app, version, cluster;
};

/* ---- this node ---- */
/* What the node's own metadata says; m may be NULL. Views point into m. */
void istio_peer_of_node(const struct google_Struct *m, struct istio_peer *out);
/* The value of x-envoy-peer-metadata that introduces this node; in `a`. */
sv istio_peer_value(const struct google_Struct *node, struct arena *a);

/* ---- books ---- */
struct istio_book {
    uint32_t refs;
    struct arena arena;
    struct map names; /* text -> struct istio_name */
    struct map peers; /* header -> struct istio_peer */
    struct map ends;  /* endpoint's text -> struct istio_peer */
    struct map rows;  /* of istio_metrics.c */
    uint32_t last_id;
    void (*rows_free)(struct istio_book *b);
};
struct istio_name {
    uint32_t id; /* never 0 */
    sv text;
};

struct istio_book *istio_book_new(void);
static inline struct istio_book *istio_book_ref(struct istio_book *b)
{
    b->refs++;
    return b;
}
void istio_book_unref(struct istio_book *b); /* NULL is fine */
bool istio_book_full(const struct istio_book *b);

/* NULL for the empty text. */
const struct istio_name *istio_book_name(struct istio_book *b, sv text);
/* NULL when it is no such header (also: too long, no base64, no Struct). */
const struct istio_peer *istio_peer_of_header(struct istio_book *b, sv value);
/* NULL when the endpoint says nothing. */
const struct istio_peer *istio_peer_of_endpoint(struct istio_book *b,
                                                const struct envoy_Metadata *m);

/* The namespace in "spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT", or empty. */
sv istio_principal_namespace(sv principal);
/* filter_metadata[ns] of m, or NULL. */
const struct google_Struct *istio_metadata_find(const struct envoy_Metadata *m, sv ns);

#endif
