/* Certificates of peers (DER) and signing requests of workloads (PEM): what is decoded prints, and
 * names come out as their own length says. The first byte: 0 a certificate, else a request, DER put
 * into PEM by us so that a mutation reaches the decoder. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/base64.h"
#include "base/strbuf.h"
#include "tls/tls_cert.h"
#include "tls/tls_csr.h"
#include "tls/tls_info.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void certificate(sv der)
{
    struct error err = {0};
    struct tls_cert_info *c = tls_cert_info_from_der(der, &err);
    if (!c) {
        if (!err.code)
            abort();
        return;
    }
    struct strbuf out;
    strbuf_init(&out, 1 << 22);
    for (uint32_t i = 0; i < c->n_sans; i++)
        if (c->sans[i].value.n > der.n || memchr(c->sans[i].value.p, 0, c->sans[i].value.n))
            abort();
    tls_cert_info_sans_text(c, TLS_SAN_URI, &out);
    tls_cert_info_sans_text(c, TLS_SAN_DNS, &out);
    tls_cert_info_sans_text(c, TLS_SAN_IP, &out);
    if (c->sha256.n != 64 || c->der.n > der.n)
        abort();
    strbuf_fini(&out);
    tls_cert_info_unref(c);
}

static void request(sv der)
{
    struct error err = {0};
    struct strbuf pem;
    char four[4];
    strbuf_init(&pem, 1 << 22);
    strbuf_add_c(&pem, "-----BEGIN CERTIFICATE REQUEST-----\n");
    for (size_t i = 0; i < der.n; i += 3) {
        base64_group(base64_standard, (const unsigned char *)der.p + i,
                     der.n - i < 3 ? (unsigned)(der.n - i) : 3, four);
        strbuf_add(&pem, four, 4);
        if (i % 48 == 45)
            strbuf_add_c(&pem, "\n");
    }
    strbuf_add_c(&pem, "\n-----END CERTIFICATE REQUEST-----\n");
    struct tls_csr *c = tls_csr_parse(sv_make(pem.p, pem.n), &err);
    if (!c && !err.code)
        abort();
    size_t n = 0;
    const struct tls_san *sans = c ? tls_csr_sans(c, &n) : NULL;
    for (size_t i = 0; i < n; i++)
        if (memchr(sans[i].value.p, 0, sans[i].value.n))
            abort();
    tls_csr_free(c);
    strbuf_fini(&pem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    sv der = sv_make((const char *)data + 1, size - 1);
    if (data[0] == 0)
        certificate(der);
    else
        request(der);
    return 0;
}
