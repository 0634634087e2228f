/* OpenSSL's side of a connection as two buffer chains: what it reads comes out of `in`, what it
 * writes is appended to `out`; nobody but the tls conn touches the transport, so any number of
 * records leave in one write. Not for other rooms. Thread: worker (owning loop). */
#ifndef WEFT_TLS_TLS_BIO_H
#define WEFT_TLS_TLS_BIO_H

#include <openssl/ssl.h>
#include "base/buf.h"

struct tls_bio_end {
    struct buf in, out;
    size_t out_max;
    bool overflow; /* out grew past out_max: writing failed */
};

/* Initialises `end` and makes it the SSL's transport; it must outlive the SSL. */
void tls_bio_attach(SSL *ssl, struct tls_bio_end *end, size_t out_max);

#endif
