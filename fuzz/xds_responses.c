/* Discovery messages of a peer that may send anything, to the machines that read them.
 *
 *   | flags 8 | then messages: | kind 8 | length 16, little endian | bytes ... | ...
 *
 * flags 1: delta, else state of the world. kind: where the bytes go (see `enum kind`), or what the
 * program does in between. Client and server are two separate machines; what one of them sends must
 * be readable by the other end of the protocol. Resources are decoded strictly, as the proxy does,
 * and refused when they do not decode. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "api/envoy.pb.h"
#include "api/istio.pb.h"
#include "api/pb.h"
#include "base/arena.h"
#include "base/mem.h"
#include "xds/ads_client.h"
#include "xds/ads_server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum kind { TO_CLIENT, TO_SERVER, SUBSCRIBE, UNSUBSCRIBE, RECONNECT, CHANGED, HOLD, KINDS };

struct peers {
    bool delta;
    struct ads_client *client;
    struct ads_session *session;
    struct xds_names *names;
    struct xds_blob *blobs[3];
    struct xds_blob *table, *hosts[2]; /* route configuration "t", virtual hosts "t/x", "t/y" */
    unsigned have;                     /* mask of blobs that exist */
};

static const struct pb_message *const types[XDS_TYPES] = {
    [XDS_CDS] = &envoy_Cluster_pb,
    [XDS_EDS] = &envoy_ClusterLoadAssignment_pb,
    [XDS_SDS] = &envoy_Secret_pb,
    [XDS_LDS] = &envoy_Listener_pb,
    [XDS_RDS] = &envoy_RouteConfiguration_pb,
    [XDS_VHDS] = &envoy_VirtualHost_pb,
    [XDS_NDS] = &istio_NameTable_pb,
};

static void must_decode(const struct pb_message *m, sv bytes)
{
    struct arena a;
    struct error err = {0};
    void *out;
    arena_init(&a);
    if (pb_decode(m, bytes, &a, NULL, &out, &err))
        abort();
    arena_free(&a);
}

static void from_client(void *arg, sv message)
{
    must_decode(((struct peers *)arg)->delta ? &envoy_DeltaDiscoveryRequest_pb
                                             : &envoy_DiscoveryRequest_pb,
                message);
}

static void from_server(void *arg, struct buf *message)
{
    must_decode(((struct peers *)arg)->delta ? &envoy_DeltaDiscoveryResponse_pb
                                             : &envoy_DiscoveryResponse_pb,
                buf_pullup(message, message->len));
    buf_reset(message);
}

/* ---- the client's handler ---- */

static void on_update(void *self, struct ads_update *u)
{
    for (uint32_t i = 0; i < u->n_changed; i++) {
        struct ads_resource *r = &u->changed[i];
        struct arena a;
        void *out;
        arena_init(&a);
        if (pb_decode(types[u->type], r->packed, &a, NULL, &out, &r->refused) && !r->refused.msg[0])
            abort(); /* a refusal without a sentence */
        arena_free(&a);
    }
}

static void on_ack(void *self, enum xds_type t, bool accepted, sv details)
{
    if (accepted != !details.n)
        abort();
}

/* ---- the server's source ---- */

static void list(void *self, struct ads_session *s, enum xds_type t,
                 void (*add)(void *arg, struct xds_blob *b), void *arg)
{
    struct peers *p = self;
    for (unsigned i = 0; i < 3; i++)
        if (t == XDS_CDS && (p->have >> i & 1))
            add(arg, p->blobs[i]);
    for (unsigned i = 0; i < 2; i++)
        if (t == XDS_VHDS && (p->have >> i & 1) && ads_session_has(s, XDS_RDS, SV("t")))
            add(arg, p->hosts[i]);
}

static struct xds_blob *find(void *self, struct ads_session *s, enum xds_type t, uint32_t id,
                             sv name)
{
    struct peers *p = self;
    if (t == XDS_RDS && sv_eq(name, SV("t")))
        return p->table;
    for (unsigned i = 0; i < 3 && t == XDS_CDS; i++)
        if ((p->have >> i & 1) && sv_eq(p->blobs[i]->name, name))
            return p->blobs[i];
    return NULL;
}

static int hello(void *self, struct ads_session *s, const struct envoy_Node *node,
                 struct error *err)
{
    return sv_eq(node->id, SV("stranger")) ? error_set(err, E_DENIED, "not you") : 0;
}

static void nacked(void *self, struct ads_session *s, enum xds_type t, sv sentence)
{
}

static void open_session(struct peers *p, const struct ads_source *source)
{
    p->session = ads_session_new(&(struct ads_session_opts){.delta = p->delta,
                                                            .source = source,
                                                            .names = p->names,
                                                            .send = from_server,
                                                            .arg = p,
                                                            .max_names = 50});
}

/* ---- one message ---- */

static void subscription(struct peers *p, bool on, const uint8_t *bytes, size_t n)
{
    enum xds_type t = n ? bytes[0] % XDS_TYPES : XDS_CDS;
    sv name = n ? sv_make((const char *)bytes + 1, n - 1) : (sv){NULL, 0};
    if (!pb_utf8_ok(name)) /* names come out of messages and configurations, which were checked */
        return;
    if (on)
        ads_client_subscribe(p->client, t, name);
    else
        ads_client_unsubscribe(p->client, t, name);
    ads_client_flush(p->client);
}

static void one(struct peers *p, const struct ads_source *source, enum kind kind,
                const uint8_t *bytes, size_t n)
{
    struct error err = {0};
    sv message = sv_make((const char *)bytes, n);
    switch (kind) {
    case TO_CLIENT:
        if (ads_client_receive(p->client, message, &err) && !err.msg[0])
            abort();
        break;
    case TO_SERVER:
        if (!ads_session_receive(p->session, message, &err))
            break;
        if (!err.msg[0])
            abort();
        ads_session_free(p->session); /* an error ends the stream */
        open_session(p, source);
        break;
    case SUBSCRIBE:
    case UNSUBSCRIBE:
        subscription(p, kind == SUBSCRIBE, bytes, n);
        break;
    case RECONNECT:
        ads_client_stream_closed(p->client);
        ads_client_stream_open(p->client, from_client, p);
        break;
    case CHANGED:
        p->have = n ? bytes[0] & 7 : 0;
        ads_session_changed(p->session, n > 1 ? bytes[1] : 0xff);
        break;
    default:
        ads_session_hold_removals(p->session, n & 1);
    }
}

/* A resource whose bytes say the last letter of its name. */
static struct xds_blob *blob(struct peers *p, enum xds_type t, const char *name)
{
    const char packed[] = {'\x0a', 1, name[strlen(name) - 1]};
    return xds_blob_new(p->names, t, sv_of(name), sv_make(packed, sizeof packed));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct peers p = {.have = 3};
    const struct ads_source source = {
        .list = list, .find = find, .hello = hello, .nacked = nacked, .self = &p};
    const struct envoy_Node node = {.id = SV("fuzz")};
    if (!size)
        return 0;
    p.delta = data[0] & 1;
    p.names = xds_names_new();
    for (int i = 0; i < 3; i++)
        p.blobs[i] = blob(&p, XDS_CDS, (const char[]){(char)('a' + i), 0});
    p.table = blob(&p, XDS_RDS, "t");
    p.hosts[0] = blob(&p, XDS_VHDS, "t/x");
    p.hosts[1] = blob(&p, XDS_VHDS, "t/y");
    p.client = ads_client_new(&(struct ads_client_opts){
        .delta = p.delta, .node = &node, .handler = {.update = on_update, .on_ack = on_ack}});
    ads_client_stream_open(p.client, from_client, &p);
    open_session(&p, &source);
    for (size_t at = 1; at + 3 <= size;) {
        enum kind kind = data[at] % KINDS;
        size_t n = data[at + 1] | (size_t)data[at + 2] << 8;
        at += 3;
        if (n > size - at)
            n = size - at;
        one(&p, &source, kind, data + at, n);
        at += n;
    }
    ads_client_free(p.client);
    ads_session_free(p.session);
    for (unsigned i = 0; i < 3; i++)
        xds_blob_unref(p.blobs[i]);
    for (unsigned i = 0; i < 2; i++)
        xds_blob_unref(p.hosts[i]);
    xds_blob_unref(p.table);
    xds_names_free(p.names);
    return 0;
}
