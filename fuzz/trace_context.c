/* traceparent as it comes: what is read is written again as the same ids, and read again. */
#include <assert.h>
#include <string.h>
#include "telemetry/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct trace_context a, b;
    char text[TRACE_PARENT_LEN];
    if (trace_parent_parse(sv_make((const char *)data, size), &a) < 0)
        return 0;
    trace_parent_text(&a, text);
    assert(trace_parent_parse(sv_make(text, sizeof text), &b) == 0);
    assert(!memcmp(a.trace_id, b.trace_id, 16) && !memcmp(a.span_id, b.span_id, 8));
    assert(a.sampled == b.sampled);
    return 0;
}
