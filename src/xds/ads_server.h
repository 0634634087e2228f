/* ADS server as a machine: one session a stream. It does no I/O; the control plane runs it over
 * gRPC, tests run it against ads_client.h in memory.
 *
 *   receive()  <---- stream            subscriptions, ACKs, NACKs
 *   changed()  ----> [ session ] ---send()---> stream
 *                        |  source.list / source.find: what this proxy should have now
 *
 * Resources are encoded once: a blob (xds_blob.h) is immutable and shared by every session that
 * gets the same one; a response is put together from references to blobs. A session remembers the
 * serial of what it sent in an array by number of the name (xds_names.h): five bytes a resource.
 * At most one response of a type is on its way: what changes meanwhile is gathered and sent, as one
 * difference, when the ACK or NACK comes. Types are pushed in the order of enum xds_type (make
 * before break).
 * A NACK is kept with its sentence until a later response of that type is ACKed; the refused
 * versions count as sent, so a bad resource is not sent again until it changes.
 * A cluster that changed is followed by its endpoints, also when these are as before: Envoy holds
 * an updated cluster back until it hears of them again
 * (https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#resource-warming).
 * Virtual hosts (VHDS) are asked for as Envoy asks, without names: the client gets those of the
 * route configurations that it has. They follow their route configuration when that was
 * acknowledged, since a client ignores hosts of a table that it does not know; and they are sent
 * anew when the table is subscribed again, or was refused before, since the client has dropped
 * them. Both variants (delta, state of the world), by which method the stream was opened with.
 * Bounds: names a session may subscribe (opts.max_names), bytes of a request (the transport's).
 * Thread: main. */
#ifndef WEFT_XDS_ADS_SERVER_H
#define WEFT_XDS_ADS_SERVER_H

#include <stdint.h>
#include "base/error.h"
#include "base/sv.h"
#include "xds/xds_blob.h"

struct ads_session;
struct envoy_Node;

struct ads_source {
    /* Calls add for every resource of the type that the proxy should have (wildcard). add takes no
     * reference: the session refs what it keeps. */
    void (*list)(void *self, struct ads_session *s, enum xds_type t,
                 void (*add)(void *arg, struct xds_blob *b), void *arg);
    /* One by name and its number, borrowed for the call's duration; NULL when it does not exist. */
    struct xds_blob *(*find)(void *self, struct ads_session *s, enum xds_type t, uint32_t id,
                             sv name);
    /* The first request came: the node is known (it lives during the call). An error sentence
     * ends the stream with INVALID_ARGUMENT or PERMISSION_DENIED. */
    int (*hello)(void *self, struct ads_session *s, const struct envoy_Node *node,
                 struct error *err);
    void (*acked)(void *self, struct ads_session *s, enum xds_type t); /* may be NULL */
    void (*nacked)(void *self, struct ads_session *s, enum xds_type t, sv sentence);
    void *self;
};

struct ads_session_opts {
    bool delta;
    const struct ads_source *source;              /* lives as long as the session */
    struct xds_names *names;                      /* of the source's blobs; outlives the session */
    void (*send)(void *arg, struct buf *message); /* takes the bytes */
    void *arg;
    uint32_t max_names; /* 0: 100000 */
    sv control_plane;   /* control_plane.identifier, lives as long as the session */
};

struct ads_session *ads_session_new(const struct ads_session_opts *o);
void ads_session_free(struct ads_session *s);
void ads_session_set_user(struct ads_session *s, void *user);
void *ads_session_user(const struct ads_session *s);

/* A packed (Delta)DiscoveryRequest. An error ends the stream. */
int ads_session_receive(struct ads_session *s, sv message, struct error *err) MUST_CHECK;
/* Resources of the types in the mask (bit 1 << enum xds_type) may have changed: sends what differs
 * from what the session has, at once or when the outstanding response is acknowledged. */
void ads_session_changed(struct ads_session *s, uint32_t types);
/* The same, when it is known which names of one type changed, in two steps: their numbers are noted
 * (each name is held by somebody at that moment); then what was noted of the types in the mask is
 * looked at and sent. */
void ads_session_mark(struct ads_session *s, enum xds_type t, const uint32_t *ids, uint32_t n);
/* Notes the names that the proxy waits for and that did not exist so far. */
void ads_session_mark_absent(struct ads_session *s, enum xds_type t);
/* Notes everything of the types in the mask. */
void ads_session_mark_all(struct ads_session *s, uint32_t types);
bool ads_session_marked(const struct ads_session *s); /* of any type */
void ads_session_push(struct ads_session *s, uint32_t types);
/* Nothing of the types in the mask is sent until they are no longer in it. */
void ads_session_hold(struct ads_session *s, uint32_t types);
/* While held, clusters and endpoints that went are not taken from the proxy (delta only; a state of
 * the world answer is complete by nature): routes that still name them are replaced first.
 * Releasing does not send by itself: call ads_session_changed with the types that it returns, those
 * of which a removal was held. */
uint32_t ads_session_hold_removals(struct ads_session *s, bool on);
/* True when nothing of the types in the mask waits for an ACK. */
bool ads_session_settled(const struct ads_session *s, uint32_t types);
/* Calls fn for every name of a type that the session was sent and still has. */
void ads_session_each_sent(const struct ads_session *s, enum xds_type t,
                           void (*fn)(void *arg, sv name), void *arg);

/* ---- what proxy-status shows ---- */
struct ads_type_status {
    bool subscribed;
    bool in_sync;                 /* nothing outstanding, nothing refused */
    uint32_t resources;           /* sent */
    uint64_t sent, acked, nacked; /* responses */
    sv nack;                      /* the sentence of the last NACK if it still stands, else empty */
};
void ads_session_status(const struct ads_session *s, enum xds_type t, struct ads_type_status *out);
/* The proxy has the resource of that name, as far as the session knows. */
bool ads_session_has(const struct ads_session *s, enum xds_type t, sv name);
/* Does the proxy ask for the name? */
bool ads_session_subscribed(const struct ads_session *s, enum xds_type t, sv name);

#endif
