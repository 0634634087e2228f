#include "mesh/ca/ca.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdio.h>
#include "base/base64.h"
#include "mesh/ca/ca_internal.h"
#include "tls/spiffe.h"

#define MAC_BYTES   32
#define MAC_TEXT    43 /* base64url without padding */
#define NONCE_BYTES 12

static const sv PREFIX = SV_INIT("weft1.");

int ca_token_key(const struct tls_key *ca_key, unsigned char out[32])
{
    static const char label[] = "weft bootstrap token v1";
    unsigned n = 0;
    size_t len;
    char *pem = tls_key_to_pem(ca_key, &len);
    if (!pem)
        return E_TLS;
    bool ok = HMAC(EVP_sha256(), pem, (int)len, (const unsigned char *)label, sizeof label - 1, out,
                   &n) != NULL;
    tls_key_pem_free(pem, len);
    return ok && n == 32 ? 0 : E_TLS;
}

/* ---- base64url without padding, RFC 4648 5 ---- */

static void b64_add(struct strbuf *out, const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i += 3) {
        char quad[4];
        strbuf_add(out, quad, base64_group(base64_url, p + i, n - i, quad));
    }
}

/* Strict: no padding, no other characters, unused bits zero. Returns the length or -1. */
static ssize_t b64_decode(sv text, unsigned char *out, size_t cap)
{
    uint32_t v = 0;
    int bits = 0;
    size_t n = 0;
    if (text.n % 4 == 1)
        return -1;
    for (size_t i = 0; i < text.n; i++) {
        const char *at = text.p[i] ? strchr(base64_url, text.p[i]) : NULL;
        if (!at)
            return -1;
        v = v << 6 | (uint32_t)(at - base64_url);
        bits += 6;
        if (bits < 8)
            continue;
        bits -= 8;
        if (n == cap)
            return -1;
        out[n++] = (unsigned char)(v >> bits);
        v &= (1u << bits) - 1;
    }
    return v ? -1 : (ssize_t)n;
}

/* ---- tokens ---- */

static void mac_of(const struct ca *ca, sv signed_part, unsigned char out[MAC_BYTES])
{
    unsigned n = MAC_BYTES;
    HMAC(EVP_sha256(), ca->state->token_key, 32, (const unsigned char *)signed_part.p,
         signed_part.n, out, &n);
}

int ca_token_make(const struct ca *ca, const struct ca_identity *who, sv workload,
                  int64_t expires_s, struct strbuf *out, struct error *err)
{
    unsigned char nonce[NONCE_BYTES], mac[MAC_BYTES];
    if (!spiffe_segment_ok(sv_of(who->ns)) || !spiffe_segment_ok(sv_of(who->sa)) ||
        !spiffe_segment_ok(workload) || workload.n > 255)
        return error_set(err, E_INVALID, "\"%s/%s/%.*s\" cannot be the holder of a token", who->ns,
                         who->sa, SV_ARG(sv_first(workload, 255)));
    if (RAND_bytes(nonce, sizeof nonce) != 1)
        return error_set(err, E_TLS, "there are no random bytes for a token");
    struct strbuf payload;
    size_t begin = out->n;
    strbuf_init(&payload, CA_TOKEN_MAX);
    strbuf_addf(&payload, "%s/%s/%.*s/%" PRId64 "/", who->ns, who->sa, SV_ARG(workload), expires_s);
    b64_add(&payload, nonce, sizeof nonce);
    strbuf_add_sv(out, PREFIX);
    b64_add(out, (unsigned char *)payload.p, payload.n);
    mac_of(ca, sv_from(strbuf_sv(out), begin), mac);
    strbuf_add_ch(out, '.');
    b64_add(out, mac, sizeof mac);
    strbuf_fini(&payload);
    if (out->n - begin <= CA_TOKEN_MAX && !out->overflow)
        return 0;
    strbuf_cut(out, begin);
    return error_set(err, E_LIMIT, "the names are too long for a token");
}

static bool copy_part(char out[256], sv part)
{
    if (!spiffe_segment_ok(part) || part.n > 255)
        return false;
    memcpy(out, part.p, part.n);
    out[part.n] = '\0';
    return true;
}

static bool parse_payload(sv payload, struct ca_identity *who, char workload[256],
                          int64_t *expires_s)
{
    sv ns, sa, name, end, rest;
    return sv_cut(payload, '/', &ns, &rest) && sv_cut(rest, '/', &sa, &rest) &&
           sv_cut(rest, '/', &name, &rest) && sv_cut(rest, '/', &end, &rest) &&
           copy_part(who->ns, ns) && copy_part(who->sa, sa) && copy_part(workload, name) &&
           sv_to_i64(end, expires_s) == 0;
}

int ca_token_verify(const struct ca *ca, sv token, int64_t now_s, struct ca_identity *who,
                    char workload[256], struct error *err)
{
    unsigned char want[MAC_BYTES], got[MAC_BYTES], payload[CA_TOKEN_MAX];
    ptrdiff_t dot = sv_rfind(token, '.');
    struct ca_identity id;
    char name[256];
    int64_t expires_s = 0;
    if (token.n > CA_TOKEN_MAX || !sv_starts(token, PREFIX) || dot < (ptrdiff_t)PREFIX.n ||
        token.n - (size_t)dot - 1 != MAC_TEXT)
        return error_set(err, E_DENIED, "the token is not one of this mesh");
    sv head = sv_first(token, (size_t)dot);
    if (b64_decode(sv_from(token, (size_t)dot + 1), got, sizeof got) != MAC_BYTES)
        return error_set(err, E_DENIED, "the token is damaged");
    mac_of(ca, head, want);
    if (CRYPTO_memcmp(want, got, MAC_BYTES) != 0)
        return error_set(err, E_DENIED, "the token was not made by this CA, or was changed");
    ssize_t n = b64_decode(sv_from(head, PREFIX.n), payload, sizeof payload);
    if (n < 0 || !parse_payload(sv_make((char *)payload, (size_t)n), &id, name, &expires_s))
        return error_set(err, E_DENIED, "the token is damaged");
    if (expires_s <= now_s)
        return error_set(err, E_DENIED, "the token of %s/%s has expired", id.ns, id.sa);
    *who = id;
    if (workload)
        memcpy(workload, name, sizeof name);
    return 0;
}

/* ---- callers ---- */

static int by_certificate(const struct ca *ca, const struct tls_info *tls, int64_t now_s,
                          struct ca_identity *who, struct error *err)
{
    struct spiffe_id id;
    sv uri = tls_info_peer_identity(tls);
    struct ca_identity got;
    if (spiffe_parse_workload(&id, uri) || !copy_part(got.ns, id.ns) || !copy_part(got.sa, id.sa))
        return error_set(err, E_DENIED, "the caller's certificate names no workload of a mesh");
    if (!sv_eq(id.trust_domain, ca_trust_domain(ca)))
        return error_set(err, E_DENIED,
                         "the caller's certificate is of trust domain %.*s, this CA is for %.*s",
                         SV_ARG(id.trust_domain), SV_ARG(ca_trust_domain(ca)));
    if (tls->peer->not_after_s < now_s)
        return error_set(err, E_DENIED, "the caller's certificate has expired");
    *who = got;
    return 0;
}

int ca_authenticate(const struct ca *ca, const struct ca_caller *caller, int64_t now_s,
                    struct ca_identity *who, struct error *err)
{
    struct error token_error = {0};
    if (caller->bearer.n) {
        if (ca_token_verify(ca, caller->bearer, now_s, who, NULL, &token_error) == 0)
            return 0;
    }
    if (caller->tls && caller->tls->peer_validated)
        return by_certificate(ca, caller->tls, now_s, who, err);
    if (caller->bearer.n)
        return error_set(err, E_DENIED, "%s", token_error.msg);
    return error_set(err, E_DENIED, "the caller shows neither a token nor a certificate");
}
