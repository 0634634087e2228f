/* SPIFFE identities: what is taken has no character that could mean something else, and is written
 * as it was read. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "tls/spiffe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct spiffe_id id, again;
    sv text = sv_make((const char *)data, size);
    if (spiffe_parse(&id, text) == 0) {
        if (!spiffe_trust_domain_ok(id.trust_domain) || id.trust_domain.n + id.path.n + 9 != size)
            abort();
        for (size_t i = 0; i < size; i++)
            if (strchr("%?#@\\", data[i]) || data[i] <= ' ' || data[i] > '~')
                abort();
    }
    if (spiffe_parse_workload(&id, text) == 0) {
        struct strbuf out;
        strbuf_init(&out, 4096);
        if (spiffe_format(id.trust_domain, id.ns, id.sa, &out) != 0 ||
            !sv_eq(sv_make(out.p, out.n), text) ||
            spiffe_parse_workload(&again, sv_make(out.p, out.n)) != 0)
            abort();
        strbuf_fini(&out);
    }
    return 0;
}
