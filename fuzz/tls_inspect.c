/* The TLS inspector: any bytes, whole and in steps, must give the same verdict and names. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "tls/tls_inspect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tls_inspect whole, parts;
    tls_inspect_init(&whole, 0);
    tls_inspect_init(&parts, 0);
    tls_inspect_feed(&whole, data, size);
    size_t step = size ? data[size - 1] % 17u + 1u : 1;
    for (size_t i = 0; i < size; i += step)
        tls_inspect_feed(&parts, data + i, size - i < step ? size - i : step);
    if (whole.verdict != parts.verdict || whole.n_alpns != parts.n_alpns ||
        !sv_eq(whole.sni, parts.sni))
        abort();
    if (whole.verdict == TLS_BROKEN && !whole.why)
        abort();
    for (uint32_t i = 0; i < whole.n_alpns; i++)
        if (!sv_eq(whole.alpns[i], parts.alpns[i]) || whole.alpns[i].n == 0)
            abort();
    if (whole.sni.n && memchr(whole.sni.p, '\0', whole.sni.n))
        abort();
    tls_inspect_fini(&whole);
    tls_inspect_fini(&parts);
    return 0;
}
