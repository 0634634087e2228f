/* ADS client as a machine: subscriptions and versions in, messages of one stream out. It does no
 * I/O; ads_client_grpc.h runs it over gRPC, tests run it against ads_server.h in memory.
 *
 *   subscribe ---> [ ads_client ] ---send()---> stream
 *   handler  <---- [            ] <--receive()-- stream        ACK / NACK by what handler said
 *
 * Both variants of the protocol
 * (https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol): delta                 names
 * are subscribed and unsubscribed one by one; a reconnect tells the versions that are held, so that
 * only what changed comes again state of the world    every request lists all names; LDS and CDS
 * answers are complete, so what is missing from one was removed
 *
 * A response is NACKed when any resource of it was refused; the good ones of it are in force all
 * the same, the refused one keeps its last good version, and the error detail carries one sentence
 * for each refused resource. Thread: main. */
#ifndef WEFT_XDS_ADS_CLIENT_H
#define WEFT_XDS_ADS_CLIENT_H

#include <stdint.h>
#include "base/error.h"
#include "base/sv.h"
#include "xds/xds_type.h"

struct ads_client;
struct envoy_Node;

struct ads_resource {
    sv name, version;
    sv packed;            /* the resource's own bytes (the value of the Any) */
    struct error refused; /* the handler fills this to refuse the resource: code != 0 */
};

/* One response, for one type; also one in which nothing is new (the first may be empty). Views live
 * during the call. */
struct ads_update {
    enum xds_type type;
    sv version;                   /* of the response */
    struct ads_resource *changed; /* added or new version; bytes equal to those held never come */
    uint32_t n_changed;
    const sv *removed; /* names that are gone (delta: also names that do not exist) */
    uint32_t n_removed;
};

struct ads_client_handler {
    void (*update)(void *self, struct ads_update *u);
    /* Counters: update_attempt, update_success, update_rejected, per type; connected_state. */
    void (*on_ack)(void *self, enum xds_type t, bool accepted, sv details);
    void *self;
};

struct ads_client_opts {
    bool delta;
    const struct envoy_Node *node; /* packed once; need not live on */
    struct ads_client_handler handler;
};

struct ads_client *ads_client_new(const struct ads_client_opts *o);
void ads_client_free(struct ads_client *c);

/* Wildcard for types that allow it (name empty), or one name. Counted: as many unsubscribes. A name
 * that is wanted again after nobody wanted it is asked for again, and comes again.
 * VHDS (delta only): the name is that of a route configuration, whose virtual hosts "NAME/HOST" are
 * wanted. They are asked for as Envoy does, once and without names; hosts of other tables are
 * passed over, and those of a table that is unsubscribed are no longer held. */
void ads_client_subscribe(struct ads_client *c, enum xds_type t, sv name);
void ads_client_unsubscribe(struct ads_client *c, enum xds_type t, sv name);

/* A stream is open: initial requests for every type that has subscriptions leave through send
 * from now on. send must queue, not call back into the client. */
void ads_client_stream_open(struct ads_client *c, void (*send)(void *arg, sv message), void *arg);
void ads_client_stream_closed(struct ads_client *c);
/* Requests that subscriptions made necessary leave now (they are gathered until then): call it at
 * the end of a turn, or when on_dirty said so. */
void ads_client_flush(struct ads_client *c);
void ads_client_on_dirty(struct ads_client *c, void (*fn)(void *arg), void *arg);
/* A packed (Delta)DiscoveryResponse. An error means the stream must be ended: it did not decode. */
int ads_client_receive(struct ads_client *c, sv message, struct error *err) MUST_CHECK;

/* Version of the last accepted response of a type, for config_dump; lives until the next one. */
sv ads_client_version(const struct ads_client *c, enum xds_type t);
/* Who answers, as it calls itself; empty when it does not. Lives until the next response. */
sv ads_client_control_plane(const struct ads_client *c);
/* "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources" or
 * "…/StreamAggregatedResources" */
const char *ads_client_method(const struct ads_client *c);

#endif
