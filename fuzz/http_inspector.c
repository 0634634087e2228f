/* What the first bytes of a plain connection are: a part of them says "more", or what the whole
 * says. */
#include <stdint.h>
#include <stdlib.h>
#include "filters/listener/http_inspector/http_inspector.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool more_whole, more = true;
    sv bytes = sv_make((const char *)data, size), is = {0};
    sv whole = http_inspector_look(bytes, &more_whole);
    for (size_t n = 0; n <= size && more; n++)
        is = http_inspector_look(sv_first(bytes, n), &more);
    if (more != more_whole || !sv_eq(is, whole) || (more && is.n))
        abort();
    return 0;
}
