#include "tls/tls_priv.h"

#include <openssl/sha.h>
#include <stdarg.h>
#include "base/mem.h"
#include "tls/tls_cert.h"

/* ---- names ---- */

bool tls_dns_name_match(sv host, sv pattern)
{
    if (host.n == 0 || pattern.n == 0)
        return false;
    if (sv_eq_icase(host, pattern))
        return true;
    if (!sv_starts(pattern, SV("*.")) || pattern.n < 4)
        return false;
    ptrdiff_t dot = sv_find(host, '.');
    return dot > 0 && sv_eq_icase(sv_from(host, (size_t)dot), sv_from(pattern, 1));
}

static sv ends(sv v, size_t n)
{
    return sv_from(v, v.n - n);
}

static bool contains(sv v, sv needle, bool icase)
{
    if (needle.n == 0)
        return true;
    for (size_t i = 0; i + needle.n <= v.n; i++) {
        sv part = sv_make(v.p + i, needle.n);
        if (icase ? sv_eq_icase(part, needle) : sv_eq(part, needle))
            return true;
    }
    return false;
}

bool tls_san_match_one(const struct tls_san_match *m, const struct tls_san *san)
{
    sv v = san->value, want = m->value;
    if ((m->type != TLS_SAN_ANY && m->type != san->type) || memchr(v.p, '\0', v.n))
        return false;
    switch (m->kind) {
    case TLS_MATCH_EXACT:
        if (san->type == TLS_SAN_DNS)
            return tls_dns_name_match(want, v);
        return m->ignore_case ? sv_eq_icase(v, want) : sv_eq(v, want);
    case TLS_MATCH_PREFIX:
        return m->ignore_case ? sv_starts_icase(v, want) : sv_starts(v, want);
    case TLS_MATCH_SUFFIX:
        if (v.n < want.n)
            return false;
        return m->ignore_case ? sv_eq_icase(ends(v, want.n), want) : sv_ends(v, want);
    case TLS_MATCH_CONTAINS:
        return contains(v, want, m->ignore_case);
    case TLS_MATCH_REGEX:
        return m->regex && m->regex->match(m->regex, v);
    }
    return false;
}

static bool any_match(const struct tls_verifier *v, const struct tls_cert_info *c)
{
    for (size_t m = 0; m < v->n_sans; m++)
        for (uint32_t i = 0; i < c->n_sans; i++)
            if (tls_san_match_one(&v->sans[m], &c->sans[i]))
                return true;
    return false;
}

static bool has_name(const struct tls_cert_info *c, sv name)
{
    for (uint32_t i = 0; i < c->n_sans; i++) {
        const struct tls_san *s = &c->sans[i];
        if (s->type == TLS_SAN_DNS ? tls_dns_name_match(name, s->value) : sv_eq(s->value, name))
            return true;
    }
    return false;
}

/* ---- building ---- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static int parse_hash(sv text, unsigned char out[32])
{
    size_t n = 0;
    bool colons = text.n == 95;
    if (!colons && text.n != 64)
        return E_INVALID;
    for (size_t i = 0; i + 1 < text.n; i += colons ? 3 : 2) {
        int hi = hex_digit(text.p[i]), lo = hex_digit(text.p[i + 1]);
        if (hi < 0 || lo < 0 || (colons && i + 2 < text.n && text.p[i + 2] != ':'))
            return E_INVALID;
        out[n++] = (unsigned char)(hi << 4 | lo);
    }
    return n == 32 ? 0 : E_INVALID;
}

static int parse_pin(sv text, unsigned char out[32])
{
    unsigned char buf[40];
    if (text.n != 44 || text.p[43] != '=' || text.p[42] == '=')
        return E_INVALID;
    int n = EVP_DecodeBlock(buf, (const unsigned char *)text.p, 44);
    if (n != 33) /* the padding byte is counted */
        return E_INVALID;
    memcpy(out, buf, 32);
    return 0;
}

int tls_verifier_init(struct tls_verifier *v, const struct tls_validation *val, struct error *err)
{
    memset(v, 0, sizeof *v);
    if (!val)
        return 0;
    const char *name = val->name ? val->name : "validation_context";
    v->has_ca = val->ca_pem.n > 0;
    v->accept_untrusted = val->accept_untrusted;
    v->allow_expired = val->allow_expired;
    v->pins = mem_alloc(32 * (val->n_spki_pins + 1));
    v->hashes = mem_alloc(32 * (val->n_cert_hashes + 1));
    v->sans = mem_array(struct tls_san_match, val->n_sans + 1);
    for (size_t i = 0; i < val->n_spki_pins; i++, v->n_pins++)
        if (parse_pin(val->spki_pins[i], v->pins[i]))
            return error_set(err, E_INVALID,
                             "%s: verify_certificate_spki[%zu]: \"%.*s\" is not a base64-encoded "
                             "SHA-256",
                             name, i, SV_ARG(sv_first(val->spki_pins[i], 100)));
    for (size_t i = 0; i < val->n_cert_hashes; i++, v->n_hashes++)
        if (parse_hash(val->cert_hashes[i], v->hashes[i]))
            return error_set(err, E_INVALID,
                             "%s: verify_certificate_hash[%zu]: \"%.*s\" is not a hex-encoded "
                             "SHA-256",
                             name, i, SV_ARG(sv_first(val->cert_hashes[i], 100)));
    for (size_t i = 0; i < val->n_sans; i++, v->n_sans++) {
        v->sans[i] = val->sans[i];
        v->sans[i].value = sv_make(sv_dup(val->sans[i].value), val->sans[i].value.n);
        if (v->sans[i].regex)
            refcount_get(&v->sans[i].regex->ref);
        if (v->sans[i].kind == TLS_MATCH_REGEX && !v->sans[i].regex) {
            v->n_sans++;
            return error_set(err, E_INVALID, "%s: a regular expression is not compiled", name);
        }
    }
    if (v->n_sans && !v->has_ca)
        return error_set(err, E_INVALID,
                         "%s: SAN-based verification of peer certificates without trusted CA is "
                         "insecure and not allowed",
                         name);
    return 0;
}

void tls_verifier_fini(struct tls_verifier *v)
{
    for (size_t i = 0; i < v->n_sans; i++) {
        struct tls_regex *r = v->sans[i].regex;
        free((void *)(uintptr_t)v->sans[i].value.p);
        if (r && refcount_put(&r->ref))
            r->free(r);
    }
    free(v->sans);
    free(v->pins);
    free(v->hashes);
    memset(v, 0, sizeof *v);
}

bool tls_verifier_active(const struct tls_verifier *v)
{
    return v->has_ca || v->n_pins || v->n_hashes;
}

/* ---- one peer ---- */

/* How a person knows this certificate: its first name, or its subject. */
static sv known_as(const struct tls_cert_info *c)
{
    sv name = tls_cert_info_san(c, TLS_SAN_URI, 0);
    if (name.n == 0)
        name = tls_cert_info_san(c, TLS_SAN_ANY, 0);
    if (name.n == 0)
        name = c->subject;
    return name.n ? sv_first(name, 300) : SV("no name");
}

static void say_chain_error(struct tls_handshake *hs, X509_STORE_CTX *sc)
{
    int e = X509_STORE_CTX_get_error(sc), depth = X509_STORE_CTX_get_error_depth(sc);
    X509 *at = X509_STORE_CTX_get_current_cert(sc);
    char when[TLS_TIME_TEXT];
    sv who = known_as(hs->peer);
    const char *whose =
        depth > 0 ? "a CA certificate above the peer's certificate" : "the peer's certificate";
    switch (e) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        tls_handshake_say(hs, "%s (%.*s) expired on %s", whose, SV_ARG(who),
                          at ? tls_time_text(tls_time_s(X509_get0_notAfter(at)), when) : "?");
        break;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        tls_handshake_say(hs, "%s (%.*s) is valid only from %s", whose, SV_ARG(who),
                          at ? tls_time_text(tls_time_s(X509_get0_notBefore(at)), when) : "?");
        break;
    case X509_V_ERR_CERT_REVOKED:
        tls_handshake_say(hs, "%s (%.*s) has been revoked", whose, SV_ARG(who));
        break;
    case X509_V_ERR_INVALID_PURPOSE:
        tls_handshake_say(hs, "%s (%.*s) is not meant for this use (extended key usage)", whose,
                          SV_ARG(who));
        break;
    default:
        tls_handshake_say(
            hs, "the peer's certificate (%.*s, issued by \"%.*s\") is not trusted: %s", SV_ARG(who),
            SV_ARG(sv_first(hs->peer->issuer, 200)), X509_verify_cert_error_string(e));
    }
}

static bool chain_ok(struct tls_handshake *hs, X509_STORE_CTX *sc)
{
    if (hs->ctx->verify.allow_expired)
        X509_STORE_CTX_set_flags(sc, X509_V_FLAG_NO_CHECK_TIME);
    else
        X509_STORE_CTX_set_time(sc, 0, (time_t)hs->now_s);
    if (X509_verify_cert(sc) == 1)
        return true;
    ERR_clear_error();
    if (hs->ctx->verify.accept_untrusted)
        return false;
    tls_handshake_fail(hs, TLS_FAIL_VERIFY,
                       "verify cert failed: X509_verify_cert: certificate verification error at "
                       "depth %d: %s",
                       X509_STORE_CTX_get_error_depth(sc),
                       X509_verify_cert_error_string(X509_STORE_CTX_get_error(sc)));
    say_chain_error(hs, sc);
    return false;
}

static void sans_for_log(const struct tls_cert_info *c, struct strbuf *out)
{
    for (uint32_t i = 0; i < c->n_sans && out->n < 1000; i++) {
        if (i)
            strbuf_add_c(out, ", ");
        strbuf_add_sv(out, sv_first(c->sans[i].value, 300));
    }
}

static bool names_ok(struct tls_handshake *hs)
{
    const struct tls_verifier *v = &hs->ctx->verify;
    bool ok = hs->expect_name ? has_name(hs->peer, sv_of(hs->expect_name))
                              : v->n_sans == 0 || any_match(v, hs->peer);
    if (ok)
        return true;
    struct strbuf names;
    strbuf_init(&names, 2048);
    sans_for_log(hs->peer, &names);
    const char *list = names.p ? names.p : "";
    if (hs->expect_name) {
        tls_handshake_fail(hs, TLS_FAIL_SAN,
                           "verify cert failed: verify SAN list, expected SANs: [%s], certificate "
                           "SANs: [%s]",
                           hs->expect_name, list);
        tls_handshake_say(hs, "the peer's certificate is for [%s], not for %s", list,
                          hs->expect_name);
    } else {
        tls_handshake_fail(hs, TLS_FAIL_SAN,
                           "verify cert failed: SAN matcher, certificate SANs are [%s]", list);
        tls_handshake_say(hs,
                          "none of the names of the peer's certificate [%s] is accepted; the "
                          "first that would be is %.*s",
                          list, SV_ARG(sv_first(v->sans[0].value, 300)));
    }
    strbuf_fini(&names);
    return false;
}

static bool pins_ok(struct tls_handshake *hs)
{
    const struct tls_verifier *v = &hs->ctx->verify;
    unsigned char md[32], spki[48];
    if (v->n_pins == 0 && v->n_hashes == 0)
        return true;
    SHA256((const unsigned char *)hs->peer->der.p, hs->peer->der.n, md);
    for (size_t i = 0; i < v->n_hashes; i++)
        if (memcmp(v->hashes[i], md, 32) == 0)
            return true;
    if (v->n_pins && parse_pin(hs->peer->spki_sha256, spki) == 0)
        for (size_t i = 0; i < v->n_pins; i++)
            if (memcmp(v->pins[i], spki, 32) == 0)
                return true;
    tls_handshake_fail(hs, TLS_FAIL_PIN, "verify cert failed: cert hash and spki");
    tls_handshake_say(hs,
                      "the peer's certificate (%.*s, SHA-256 %.*s) is none of those that are "
                      "pinned",
                      SV_ARG(known_as(hs->peer)), SV_ARG(hs->peer->sha256));
    return false;
}

/* The result goes two ways: 0 ends the handshake, and the error left in sc chooses the alert and is
 * kept in the session. Not OK with 1 means: untrusted, let in (ACCEPT_UNTRUSTED). */
int tls_verify_peer(X509_STORE_CTX *sc, void *arg)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(sc, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls_handshake *hs = SSL_get_app_data(ssl);
    const struct tls_verifier *v = &hs->ctx->verify;
    struct error e = {0};
    tls_cert_info_unref(hs->peer);
    hs->peer = tls_cert_info_from_x509(X509_STORE_CTX_get0_cert(sc), &e);
    if (!hs->peer) {
        tls_handshake_fail(hs, TLS_FAIL_VERIFY, "verify cert failed: %s", e.msg);
        tls_handshake_say(hs, "the peer's certificate is not acceptable: %s", e.msg);
        X509_STORE_CTX_set_error(sc, X509_V_ERR_CERT_REJECTED);
        return 0;
    }
    if (!tls_verifier_active(v) && !hs->expect_name) {
        X509_STORE_CTX_set_error(sc, X509_V_OK);
        return 1;
    }
    if (v->has_ca && !chain_ok(hs, sc))
        return v->accept_untrusted ? 1 : 0;
    /* PERMITTED_VIOLATION is one that OpenSSL answers with certificate_unknown, as Envoy does. */
    int bad = !names_ok(hs)  ? X509_V_ERR_PERMITTED_VIOLATION
              : !pins_ok(hs) ? X509_V_ERR_CERT_REJECTED
                             : X509_V_OK;
    X509_STORE_CTX_set_error(sc, bad);
    if (bad == X509_V_OK || !v->accept_untrusted)
        return bad == X509_V_OK;
    hs->fail = TLS_FAIL_NONE;
    return 1;
}
