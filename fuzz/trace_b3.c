/* B3 as it comes: the input is b3, or four lines for x-b3-traceid, -spanid, -parentspanid, -sampled
 * when its first byte says so. What is read is told on as the same trace, and read again. */
#include <assert.h>
#include <string.h>
#include "telemetry/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void request(struct http_headers *h, const uint8_t *data, size_t size)
{
    static const sv names[] = {SV_INIT("x-b3-traceid"), SV_INIT("x-b3-spanid"),
                               SV_INIT("x-b3-parentspanid"), SV_INIT("x-b3-sampled")};
    sv left = sv_make((const char *)data + 1, size - 1), line;
    if (data[0] != '\n') {
        http_headers_add(h, SV("b3"), sv_make((const char *)data, size));
        return;
    }
    for (unsigned i = 0; i < 4 && left.p; i++) {
        if (!sv_cut(left, '\n', &line, &left))
            left = (sv){NULL, 0};
        http_headers_add(h, names[i], line);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct trace_style style = {.b3 = true, .shared = true};
    struct trace_span s = {0}, again = {0};
    struct http_headers h;
    struct rand_state r;
    struct arena a;
    if (!size)
        return 0;
    arena_init(&a);
    rand_seed(&r, 1);
    http_headers_init(&h, &a);
    request(&h, data, size);
    if (trace_span_start(&s, &style, &h, true, &r, &a) == 0) {
        trace_span_inject(&s, &style, &h, &a);
        assert(trace_span_start(&again, &style, &h, !s.ctx.sampled, &r, &a) == 0);
        assert(!memcmp(&s.ctx, &again.ctx, sizeof s.ctx) && s.b3_single == again.b3_single);
        assert(s.has_parent == again.has_parent);
        assert(!s.has_parent || !memcmp(s.parent, again.parent, 8));
    }
    arena_free(&a);
    return 0;
}
