/* x-envoy-peer-metadata as a peer may send it: raw, and with the bytes as the Struct inside. What
 * comes out is bounded and printable, and the same value is the same peer. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include "api/pb.h"
#include "telemetry/istio_peer.h"

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void text(sv v)
{
    CHECK(v.n <= ISTIO_TEXT_MAX);
    for (size_t i = 0; i < v.n; i++)
        CHECK(v.p[i] >= ' ' && v.p[i] <= '~');
}

static void look(struct istio_book *b, sv value)
{
    const struct istio_peer *p = istio_peer_of_header(b, value);
    CHECK(p == istio_peer_of_header(b, value));
    if (!p)
        return;
    CHECK(p->id);
    text(p->workload);
    text(p->ns);
    text(p->service);
    text(p->revision);
    text(p->app);
    text(p->version);
    text(p->cluster);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sv bytes = sv_make((const char *)data, size);
    struct istio_book *b = istio_book_new();
    struct strbuf encoded;
    look(b, bytes);
    strbuf_init(&encoded, 1 << 20);
    pb_base64_print(bytes, &encoded);
    look(b, strbuf_sv(&encoded));
    strbuf_fini(&encoded);
    istio_book_unref(b);
    return 0;
}
