/* The CA's state, shared by its files. Not for other rooms. Thread: main. */
#ifndef WEFT_MESH_CA_CA_INTERNAL_H
#define WEFT_MESH_CA_CA_INTERNAL_H

#include "mesh/ca/ca.h"

/* What the directory says; replaced as a whole by ca_reload. */
struct ca_state {
    struct tls_signer *signer;
    struct strbuf roots, chain;
    unsigned char token_key[32];
};

struct ca {
    char *dir;
    struct strbuf trust_domain, extra_roots;
    int64_t default_ttl_s, max_ttl_s, root_ttl_s;
    struct ca_state *state;
};

/* ca_token.c: the key of tokens, from the CA's private key. */
int ca_token_key(const struct tls_key *ca_key, unsigned char out[32]) MUST_CHECK;
/* For tls_cert_each when only its verdict counts. */
void ca_ignore_cert(void *arg, struct tls_cert_info *c);

#endif
