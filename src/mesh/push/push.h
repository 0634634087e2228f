/* Push: a session for each proxy, the resources it should have, and what it said of them.
 *
 *   store changed -> push_changed() -> [merge window] -> snapshot, what differs -> sessions -> ADS
 *
 * The first change of a quiet period is built at once; what follows within the window (default 10
 * ms) is merged into one build. Resources are made once for each scope (namespace, and the labels
 * by which configuration selects clients) and shared; after a change the kinds of what changed
 * decide which types are made anew, and proxies hear of the names that differ, no others.
 * Transport-free: control.c runs it over gRPC. Thread: main. */
#ifndef WEFT_MESH_PUSH_PUSH_H
#define WEFT_MESH_PUSH_PUSH_H

#include "base/strbuf.h"
#include "mesh/model/model.h"
#include "mesh/translate/translate.h"
#include "net/loop.h"
#include "xds/ads_server.h"

struct push;
struct push_stream;

/* Neither is owned; both outlive it. */
struct push *push_new(struct loop *l, struct model_store *store, const struct translate *t);
void push_free(struct push *p); /* streams must be closed */
/* Something in the store changed. */
void push_changed(struct push *p);
/* The current snapshot, borrowed until the next change. */
const struct model *push_model(const struct push *p);
/* Problems of documents and those between objects, of the current snapshot. */
void push_each_problem(const struct push *p, void (*fn)(void *arg, const struct model_problem *pr),
                       void *arg);

/* What the transport knows of the peer: its SPIFFE identity when it came over mTLS, else empty. A
 * node that claims another namespace or service account than its identity is refused. */
struct push_peer {
    sv identity;
    sv address; /* text, for status */
};
struct push_stream *push_stream_open(struct push *p, bool delta, const struct push_peer *peer,
                                     void (*send)(void *arg, struct buf *message), void *arg);
int push_stream_receive(struct push_stream *s, sv message, struct error *err) MUST_CHECK;
void push_stream_close(struct push_stream *s);

/* ---- what people ask ---- */
/* /debug/syncz: a JSON array, one object a proxy: id, namespace, per type SYNCED | STALE | NACK
 * with the sentence | NOT SENT, counts. */
void push_status_json(const struct push *p, struct strbuf *out);
/* All problems as a JSON array: severity, kind, namespace, name, file, line, field, code, text. */
void push_problems_json(const struct push *p, struct strbuf *out);
/* Nothing waits to become a snapshot, and every proxy has answered everything of the present one.
 */
bool push_applied(const struct push *p);
/* How far the present snapshot has come, members of a JSON object without its braces: generation,
 * pending (a change waits to become a snapshot), proxies, applied (proxies that have answered
 * everything that the snapshot asks of them), refused (those of them that refused a part). */
void push_progress_json(const struct push *p, struct strbuf *out);
/* /debug/registryz: services and endpoints. */
void push_registry_json(const struct push *p, struct strbuf *out);
struct push_counters {
    uint64_t builds, pushes, nacks, connects, refused_streams;
    uint32_t proxies;
    uint64_t last_build_us;
};
const struct push_counters *push_counters(const struct push *p);

#endif
