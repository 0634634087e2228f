/* SPIFFE identities as Istio uses them: spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT
 *
 * Strict (SPIFFE-ID 2, attack case 32): scheme exactly "spiffe", a trust domain of 1..255
 * characters a-z 0-9 . - _, no port, user info, query or fragment; path segments of [a-zA-Z0-9._-],
 * none empty, "." or ".."; no percent-encoding, no trailing slash; 2048 bytes at most. Thread: any.
 * Views point into the parsed text. */
#ifndef WEFT_TLS_SPIFFE_H
#define WEFT_TLS_SPIFFE_H

#include "base/error.h"
#include "base/strbuf.h"
#include "base/sv.h"

struct spiffe_id {
    sv trust_domain;
    sv path;   /* with the leading '/', empty when there is none */
    sv ns, sa; /* filled by spiffe_parse_workload */
};

/* Any well-formed SPIFFE ID. E_INVALID. */
int spiffe_parse(struct spiffe_id *id, sv text) MUST_CHECK;
/* Only /ns/NAMESPACE/sa/SERVICE-ACCOUNT. E_INVALID. */
int spiffe_parse_workload(struct spiffe_id *id, sv text) MUST_CHECK;
/* Appends; E_INVALID (nothing appended) when a part has characters that are not allowed. */
int spiffe_format(sv trust_domain, sv ns, sv sa, struct strbuf *out) MUST_CHECK;
bool spiffe_trust_domain_ok(sv td);
bool spiffe_segment_ok(sv segment);

#endif
