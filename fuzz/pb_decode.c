/* Packed bytes into messages, as they arrive from a control plane: decode strictly and tolerantly,
 * encode what was accepted, decode that again: the second bytes must equal the first.
 *
 * The first byte chooses the message. */
#include <stdlib.h>
#include <stdint.h>
#include "api/envoy.pb.h"
#include "api/grpc.pb.h"
#include "api/istio.pb.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct pb_message *const types[] = {
    &envoy_DeltaDiscoveryResponse_pb,  &envoy_DiscoveryResponse_pb,  &envoy_DiscoveryRequest_pb,
    &envoy_DeltaDiscoveryRequest_pb,   &envoy_Listener_pb,           &envoy_Cluster_pb,
    &envoy_ClusterLoadAssignment_pb,   &envoy_RouteConfiguration_pb, &envoy_Secret_pb,
    &envoy_HttpConnectionManager_pb,   &envoy_Bootstrap_pb,          &istio_VirtualService_pb,
    &istio_IstioCertificateRequest_pb, &grpc_HealthCheckRequest_pb,
};

static void on_unknown(void *arg, const char *path)
{
    if (!path)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const struct pb_message *m = types[data[0] % (sizeof types / sizeof *types)];
    sv bytes = sv_make((const char *)data + 1, size - 1);
    const struct pb_opts tolerant = {.allow_unknown = true, .on_unknown = on_unknown};
    const struct pb_json_opts json = {.pretty = true, .redact_secrets = true};
    struct error err = {0};
    struct arena a;
    struct strbuf text;
    void *msg;
    arena_init(&a);
    strbuf_init(&text, (size_t)64 << 20);
    if (pb_decode(m, bytes, &a, &tolerant, &msg, &err) == 0) {
        sv first = pb_encode_arena(m, msg, &a);
        void *again;
        if (pb_decode(m, first, &a, &tolerant, &again, &err) < 0)
            abort();
        if (!sv_eq(first, pb_encode_arena(m, again, &a)))
            abort();
        pb_to_json(m, msg, &json, &text);
    }
    if (pb_decode(m, bytes, &a, NULL, &msg, &err) < 0 && !err.msg[0])
        abort(); /* an error without a sentence */
    strbuf_fini(&text);
    arena_free(&a);
    return 0;
}
