/* JSON and YAML text into node trees and messages: a bootstrap, or Istio's documents. What is
 * accepted as a bootstrap must survive the way through JSON with the same packed bytes. */
#include <stdlib.h>
#include <stdint.h>
#include "api/envoy.pb.h"
#include "api/istio.pb.h"
#include "api/node.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void through_json(const struct pb_message *m, const void *msg, struct arena *a)
{
    struct strbuf text;
    struct error err = {0};
    void *again;
    strbuf_init(&text, (size_t)64 << 20);
    pb_to_json(m, msg, NULL, &text);
    if (pb_from_text(m, strbuf_sv(&text), "again", a, NULL, &again, &err) < 0 ||
        !sv_eq(pb_encode_arena(m, msg, a), pb_encode_arena(m, again, a)))
        abort();
    strbuf_fini(&text);
}

static void as_message(const struct pb_message *m, const struct node *n, struct arena *a)
{
    struct error err = {0};
    const struct pb_opts tolerant = {.allow_unknown = true};
    void *msg;
    if (pb_from_node(m, n, a, NULL, &msg, &err) == 0)
        through_json(m, msg, a);
    else if (!err.msg[0])
        abort();
    (void)!pb_from_node(m, n, a, &tolerant, &msg, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sv text = sv_make((const char *)data, size);
    struct error err = {0};
    struct arena a;
    struct strbuf out;
    size_t pos = 0;
    uint32_t line = 1;
    int rc;
    arena_init(&a);
    strbuf_init(&out, (size_t)64 << 20);
    do {
        struct node *n = NULL;
        rc = node_parse_next(text, &pos, &line, "fuzz", &a, &n, &err);
        if (rc < 0)
            continue;
        strbuf_reset(&out);
        node_to_json(n, &out);
        as_message(&envoy_Bootstrap_pb, n, &a);
        const struct node *spec = node_get(n, "spec");
        if (spec) {
            as_message(&istio_VirtualService_pb, spec, &a);
            as_message(&istio_DestinationRule_pb, spec, &a);
        }
    } while (rc != E_EOF);
    strbuf_fini(&out);
    arena_free(&a);
    return 0;
}
