/* Deep copies of TLS options, for secrets and slots that outlive what they were made from. Not for
 * other rooms. Private keys are parsed, so that copies share one key and hold no PEM of it. */
#ifndef WEFT_TLS_TLS_OPTS_H
#define WEFT_TLS_TLS_OPTS_H

#include "base/arena.h"
#include "tls/tls_ctx.h"

/* The arena must be made with arena_init_malloc; it drops keys and regexes when it is freed. */
int tls_cert_opts_copy(struct arena *a, struct tls_cert_opts *to, const struct tls_cert_opts *from,
                       struct error *err) MUST_CHECK;
void tls_validation_copy(struct arena *a, struct tls_validation *to,
                         const struct tls_validation *from);
/* All of it, with lists and validation. */
int tls_ctx_opts_copy(struct arena *a, struct tls_ctx_opts *to, const struct tls_ctx_opts *from,
                      struct error *err) MUST_CHECK;
/* As protobuf merges: values of `over` that are set replace those of `base`, lists are appended.
 * Borrows from both; list memory comes from the arena. */
void tls_validation_merge(struct arena *a, struct tls_validation *to,
                          const struct tls_validation *base, const struct tls_validation *over);
/* SHA-256 over a certificate with its key, or over a validation: equal bytes, equal hash. */
void tls_cert_opts_hash(const struct tls_cert_opts *c, unsigned char md[32]);
void tls_validation_hash(const struct tls_validation *v, unsigned char md[32]);

#endif
