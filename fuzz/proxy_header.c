/* The PROXY protocol header of a listener (attack case 43): of any bytes, a part says MORE, or what
 * the whole says; a header that was read lies within them, and reads the same alone. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "filters/listener/proxy_protocol/proxy_protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool same(const struct proxy_header_info *a, const struct proxy_header_info *b)
{
    return a->version == b->version && a->length == b->length && a->local == b->local &&
           (a->local ||
            (addr_eq(&a->source, &b->source) && addr_eq(&a->destination, &b->destination)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_header_info whole, part;
    sv bytes = sv_make((const char *)data, size);
    enum proxy_header w = proxy_header_read(bytes, &whole), p = PROXY_HEADER_MORE;
    for (size_t n = 0; n <= size && p == PROXY_HEADER_MORE; n++)
        p = proxy_header_read(sv_first(bytes, n), &part);
    if (p != w)
        abort();
    if (w != PROXY_HEADER_OK)
        return 0;
    if (whole.length > size || !same(&whole, &part) ||
        proxy_header_read(sv_first(bytes, whole.length), &part) != PROXY_HEADER_OK ||
        !same(&whole, &part))
        abort();
    return 0;
}
