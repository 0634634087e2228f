#include "upstream/tls_options.h"

#include "api/google.pb.h"
#include "api/regex.h"
#include "base/mem.h"
#include "tls/tls_key.h"
#include "upstream/data_source.h"

/* Where distributions keep the trusted certificates of the system (Debian, Red Hat, SUSE). */
static const char *const system_roots[] = {"/etc/ssl/certs/ca-certificates.crt",
                                           "/etc/pki/tls/certs/ca-bundle.crt",
                                           "/etc/ssl/ca-bundle.pem"};

/* ---- names of peers ---- */

struct san_regex {
    struct tls_regex base;
    struct regex *re;
};

static bool san_regex_match(const struct tls_regex *r, sv whole)
{
    return regex_full(((const struct san_regex *)r)->re, whole);
}

static void san_regex_free(struct tls_regex *r)
{
    struct san_regex *s = (struct san_regex *)r;
    regex_free(s->re);
    free(s);
}

static void san_regex_unref(void *arg)
{
    struct san_regex *s = arg;
    if (refcount_put(&s->base.ref))
        s->base.free(&s->base);
}

static int san_regex_new(sv pattern, const char *path, struct arena *a, struct tls_regex **out,
                         struct error *err)
{
    struct regex *re;
    int rc = regex_new(pattern, 0, &re, err);
    if (rc) {
        error_prefix(err, "%s.safe_regex: ", path);
        return rc;
    }
    struct san_regex *s = mem_new(struct san_regex);
    refcount_init(&s->base.ref);
    s->base.match = san_regex_match;
    s->base.free = san_regex_free;
    s->re = re;
    arena_on_free(a, san_regex_unref, s);
    *out = &s->base;
    return 0;
}

static int string_matcher(const struct envoy_StringMatcher *m, const char *path, struct arena *a,
                          struct tls_san_match *out, struct error *err)
{
    if (!m)
        return error_set(err, E_INVALID, "%s: a matcher is required", path);
    out->ignore_case = m->ignore_case;
    switch (m->which_match_pattern) {
    case envoy_StringMatcher_exact_tag:
        out->kind = TLS_MATCH_EXACT;
        out->value = m->exact;
        return 0;
    case envoy_StringMatcher_prefix_tag:
        out->kind = TLS_MATCH_PREFIX;
        out->value = m->prefix;
        break;
    case envoy_StringMatcher_suffix_tag:
        out->kind = TLS_MATCH_SUFFIX;
        out->value = m->suffix;
        break;
    case envoy_StringMatcher_contains_tag:
        out->kind = TLS_MATCH_CONTAINS;
        out->value = m->contains;
        break;
    case envoy_StringMatcher_safe_regex_tag:
        out->kind = TLS_MATCH_REGEX;
        out->value = m->safe_regex->regex;
        return san_regex_new(m->safe_regex->regex, path, a, &out->regex, err);
    default:
        return error_set(err, E_INVALID,
                         "%s: one of exact, prefix, suffix, safe_regex, contains is required",
                         path);
    }
    if (out->value.n == 0)
        return error_set(err, E_INVALID, "%s: the pattern is empty", path);
    return 0;
}

int tls_options_san(const struct envoy_SubjectAltNameMatcher *m, const char *path, struct arena *a,
                    struct tls_san_match *out, struct error *err)
{
    switch (m->san_type) {
    case envoy_SubjectAltNameMatcher_DNS:
        out->type = TLS_SAN_DNS;
        break;
    case envoy_SubjectAltNameMatcher_URI:
        out->type = TLS_SAN_URI;
        break;
    case envoy_SubjectAltNameMatcher_EMAIL:
        out->type = TLS_SAN_EMAIL;
        break;
    case envoy_SubjectAltNameMatcher_IP_ADDRESS:
        out->type = TLS_SAN_IP;
        break;
    default:
        return error_set(err, E_UNSUPPORTED, "%s.san_type: %s is not supported", path,
                         pb_enum_name(&envoy_SubjectAltNameMatcher_SanType_pb, m->san_type));
    }
    return string_matcher(m->matcher, arena_printf(a, "%s.matcher", path).p, a, out, err);
}

static int san_list(const struct envoy_CertificateValidationContext *c, const char *path,
                    struct arena *a, struct tls_validation *v, struct error *err)
{
    uint32_t typed = c->match_typed_subject_alt_names.n, any = c->match_subject_alt_names.n;
    if (typed + any == 0)
        return 0;
    struct tls_san_match *m = arena_array(a, struct tls_san_match, typed + any);
    for (uint32_t i = 0; i < typed; i++) {
        const char *p = arena_printf(a, "%s.match_typed_subject_alt_names[%u]", path, i).p;
        int rc = tls_options_san(c->match_typed_subject_alt_names.v[i], p, a, &m[i], err);
        if (rc)
            return rc;
    }
    for (uint32_t i = 0; i < any; i++) {
        const char *p = arena_printf(a, "%s.match_subject_alt_names[%u]", path, i).p;
        m[typed + i].type = TLS_SAN_ANY;
        int rc = string_matcher(c->match_subject_alt_names.v[i], p, a, &m[typed + i], err);
        if (rc)
            return rc;
    }
    v->sans = m;
    v->n_sans = typed + any;
    return 0;
}

/* ---- certificates and validation ---- */

static int system_ca(const char *path, struct arena *a, sv *out, struct error *err)
{
    for (size_t i = 0; i < sizeof(system_roots) / sizeof(*system_roots); i++) {
        int rc = data_source_file(sv_of(system_roots[i]), TLS_OPTIONS_MAX_FILE, path, a, out, err);
        if (rc != E_NOT_FOUND)
            return rc;
    }
    return error_set(err, E_NOT_FOUND,
                     "%s.system_root_certs: this system has no bundle of "
                     "trusted certificates (looked for %s)",
                     path, system_roots[0]);
}

/* Files are followed for secrets that come from a source (proxy/sds.h). */
static int not_watched(const struct envoy_WatchedDirectory *d, const char *path, struct error *err)
{
    return d ? error_set(err, E_UNSUPPORTED,
                         "%s.watched_directory: is supported in secrets with sds_config only", path)
             : 0;
}

static int validation(const struct envoy_CertificateValidationContext *c, const char *path,
                      struct arena *a, struct tls_validation *v, struct error *err)
{
    if (c->trusted_ca && c->system_root_certs)
        return error_set(err, E_INVALID, "%s: trusted_ca and system_root_certs exclude each other",
                         path);
    int rc = c->system_root_certs
                 ? system_ca(path, a, &v->ca_pem, err)
                 : data_source_read(c->trusted_ca, TLS_OPTIONS_MAX_FILE,
                                    arena_printf(a, "%s.trusted_ca", path).p, a, &v->ca_pem, err);
    if (rc == 0)
        rc = data_source_read(c->crl, TLS_OPTIONS_MAX_FILE, arena_printf(a, "%s.crl", path).p, a,
                              &v->crl_pem, err);
    if (rc == 0)
        rc = san_list(c, path, a, v, err);
    if (rc)
        return rc;
    v->only_leaf_crl = c->only_verify_leaf_cert_crl;
    v->spki_pins = c->verify_certificate_spki.v;
    v->n_spki_pins = c->verify_certificate_spki.n;
    v->cert_hashes = c->verify_certificate_hash.v;
    v->n_cert_hashes = c->verify_certificate_hash.n;
    v->allow_expired = c->allow_expired_certificate;
    v->accept_untrusted =
        c->trust_chain_verification == envoy_CertificateValidationContext_ACCEPT_UNTRUSTED;
    if (c->max_verify_depth) {
        if (c->max_verify_depth->value > 100)
            return error_set(err, E_INVALID, "%s.max_verify_depth: must be at most 100", path);
        v->max_depth = c->max_verify_depth->value;
    }
    v->name = path;
    return 0;
}

static void wipe(void *arg)
{
    const sv *v = arg;
    tls_wipe((void *)(uintptr_t)v->p, v->n);
}

/* What was read from a file is in the arena only, and does not outlive it. */
static int read_private(const struct envoy_DataSource *d, size_t max_bytes, const char *path,
                        struct arena *a, sv *out, struct error *err)
{
    int rc = data_source_read(d, max_bytes, path, a, out, err);
    if (rc == 0 && d && d->which_specifier == envoy_DataSource_filename_tag) {
        sv *copy = arena_new(a, sv);
        *copy = *out;
        arena_on_free(a, wipe, copy);
    }
    return rc;
}

static int certificate(const struct envoy_TlsCertificate *c, const char *path, struct arena *a,
                       struct tls_cert_opts *out, struct error *err)
{
    if (c->ocsp_staple)
        return error_set(err, E_UNSUPPORTED, "%s.ocsp_staple: not supported", path);
    if (!c->certificate_chain || !c->private_key)
        return error_set(err, E_INVALID, "%s: certificate_chain and private_key are required",
                         path);
    int rc =
        data_source_read(c->certificate_chain, TLS_OPTIONS_MAX_FILE,
                         arena_printf(a, "%s.certificate_chain", path).p, a, &out->chain_pem, err);
    if (rc == 0)
        rc = read_private(c->private_key, TLS_OPTIONS_MAX_FILE,
                          arena_printf(a, "%s.private_key", path).p, a, &out->key_pem, err);
    if (rc == 0)
        rc = read_private(c->password, 4096, arena_printf(a, "%s.password", path).p, a,
                          &out->key_password, err);
    out->name = path;
    return rc;
}

static int secret_name(const struct envoy_SdsSecretConfig *s, const char *path, struct arena *a,
                       struct tls_secret_name *out, struct error *err)
{
    if (s->name.n == 0)
        return error_set(err, E_INVALID, "%s.name: must not be empty", path);
    out->name = s->name;
    out->config =
        s->sds_config ? pb_encode_arena(&envoy_ConfigSource_pb, s->sds_config, a) : (sv){0};
    return 0;
}

/* ---- the part that both sides share ---- */

static enum tls_version version(int32_t v)
{
    switch (v) {
    case envoy_TlsParameters_TLSv1_0:
        return TLS_VERSION_1_0;
    case envoy_TlsParameters_TLSv1_1:
        return TLS_VERSION_1_1;
    case envoy_TlsParameters_TLSv1_2:
        return TLS_VERSION_1_2;
    case envoy_TlsParameters_TLSv1_3:
        return TLS_VERSION_1_3;
    default:
        return TLS_VERSION_AUTO;
    }
}

static void params(const struct envoy_TlsParameters *p, struct tls_ctx_opts *o)
{
    o->min_version = version(p->tls_minimum_protocol_version);
    o->max_version = version(p->tls_maximum_protocol_version);
    o->ciphers = p->cipher_suites.v;
    o->n_ciphers = p->cipher_suites.n;
    o->curves = p->ecdh_curves.v;
    o->n_curves = p->ecdh_curves.n;
    o->sigalgs = p->signature_algorithms.v;
    o->n_sigalgs = p->signature_algorithms.n;
}

static int certificates(const struct envoy_CommonTlsContext *c, const char *path, struct arena *a,
                        struct tls_slot_opts *out, struct error *err)
{
    struct tls_cert_opts *certs = arena_array(a, struct tls_cert_opts, c->tls_certificates.n);
    for (uint32_t i = 0; i < c->tls_certificates.n; i++) {
        const char *p = arena_printf(a, "%s.tls_certificates[%u]", path, i).p;
        int rc = not_watched(c->tls_certificates.v[i]->watched_directory, p, err);
        if (rc == 0)
            rc = certificate(c->tls_certificates.v[i], p, a, &certs[i], err);
        if (rc)
            return rc;
    }
    out->ctx.certs = certs;
    out->ctx.n_certs = c->tls_certificates.n;
    uint32_t n = c->tls_certificate_sds_secret_configs.n;
    struct tls_secret_name *names = arena_array(a, struct tls_secret_name, n);
    for (uint32_t i = 0; i < n; i++) {
        const char *p = arena_printf(a, "%s.tls_certificate_sds_secret_configs[%u]", path, i).p;
        int rc = secret_name(c->tls_certificate_sds_secret_configs.v[i], p, a, &names[i], err);
        if (rc)
            return rc;
    }
    out->certs = names;
    out->n_certs = n;
    return 0;
}

static int validation_of(const struct envoy_CommonTlsContext *c, const char *path, struct arena *a,
                         struct tls_slot_opts *out, struct error *err)
{
    const struct envoy_CertificateValidationContext *v = NULL;
    const struct envoy_SdsSecretConfig *sds = NULL;
    const char *field = "validation_context";
    switch (c->which_validation_context_type) {
    case envoy_CommonTlsContext_validation_context_tag:
        v = c->validation_context;
        break;
    case envoy_CommonTlsContext_validation_context_sds_secret_config_tag:
        sds = c->validation_context_sds_secret_config;
        field = "validation_context_sds_secret_config";
        break;
    case envoy_CommonTlsContext_combined_validation_context_tag:
        v = c->combined_validation_context->default_validation_context;
        sds = c->combined_validation_context->validation_context_sds_secret_config;
        field = "combined_validation_context";
        if (!sds)
            return error_set(err, E_INVALID, "%s.%s.validation_context_sds_secret_config: required",
                             path, field);
        break;
    default:
        return 0;
    }
    int rc = 0;
    const char *p = arena_printf(a, "%s.%s", path, field).p;
    if (v) {
        struct tls_validation *val = arena_new(a, struct tls_validation);
        rc = not_watched(v->watched_directory, p, err);
        if (rc == 0)
            rc = validation(v, p, a, val, err);
        out->ctx.validation = val;
    }
    if (rc == 0 && sds)
        rc = secret_name(sds, p, a, &out->validation, err);
    return rc;
}

static int common(const struct envoy_CommonTlsContext *c, const char *path, struct arena *a,
                  struct tls_slot_opts *out, struct error *err)
{
    if (!c)
        return 0;
    path = arena_printf(a, "%s.common_tls_context", path).p;
    if (c->tls_params)
        params(c->tls_params, &out->ctx);
    out->ctx.alpn = c->alpn_protocols.v;
    out->ctx.n_alpn = c->alpn_protocols.n;
    int rc = certificates(c, path, a, out, err);
    return rc ? rc : validation_of(c, path, a, out, err);
}

int tls_options_upstream(const struct envoy_UpstreamTlsContext *u, const char *path,
                         struct arena *a, struct tls_slot_opts *out, struct error *err)
{
    *out = (struct tls_slot_opts){0};
    if (u->allow_renegotiation)
        return error_set(err, E_UNSUPPORTED, "%s.allow_renegotiation: not supported", path);
    if (u->enforce_rsa_key_usage && !u->enforce_rsa_key_usage->value)
        return error_set(err, E_UNSUPPORTED,
                         "%s.enforce_rsa_key_usage: false is not supported, key usage is "
                         "always enforced",
                         path);
    if (u->sni.n > 255)
        return error_set(err, E_INVALID, "%s.sni: must be at most 255 bytes", path);
    out->ctx.sni = u->sni;
    out->ctx.max_session_keys = u->max_session_keys ? u->max_session_keys->value : 1;
    return common(u->common_tls_context, path, a, out, err);
}

static int ticket_keys(const struct envoy_TlsSessionTicketKeys *k, const char *path,
                       struct arena *a, const sv **out, size_t *n, struct error *err)
{
    sv *v = arena_array(a, sv, k->keys.n);
    for (uint32_t i = 0; i < k->keys.n; i++) {
        const char *p = arena_printf(a, "%s.keys[%u]", path, i).p;
        int rc = data_source_read(k->keys.v[i], 4096, p, a, &v[i], err);
        if (rc)
            return rc;
        if (v[i].n != 80)
            return error_set(err, E_INVALID, "%s: a ticket key has 80 bytes, this one %zu", p,
                             v[i].n);
    }
    *out = v;
    *n = k->keys.n;
    return 0;
}

static int downstream_tickets(const struct envoy_DownstreamTlsContext *d, const char *path,
                              struct arena *a, struct tls_slot_opts *out, struct error *err)
{
    switch (d->which_session_ticket_keys_type) {
    case envoy_DownstreamTlsContext_session_ticket_keys_tag:
        return ticket_keys(d->session_ticket_keys,
                           arena_printf(a, "%s.session_ticket_keys", path).p, a,
                           &out->ctx.ticket_keys, &out->ctx.n_ticket_keys, err);
    case envoy_DownstreamTlsContext_session_ticket_keys_sds_secret_config_tag:
        return secret_name(d->session_ticket_keys_sds_secret_config,
                           arena_printf(a, "%s.session_ticket_keys_sds_secret_config", path).p, a,
                           &out->ticket_keys, err);
    case envoy_DownstreamTlsContext_disable_stateless_session_resumption_tag:
        out->ctx.no_stateless_resumption = d->disable_stateless_session_resumption;
        return 0;
    default:
        return 0;
    }
}

int tls_options_downstream(const struct envoy_DownstreamTlsContext *d, const char *path,
                           struct arena *a, struct tls_slot_opts *out, struct error *err)
{
    *out = (struct tls_slot_opts){.ctx.server = true};
    if (d->ocsp_staple_policy != envoy_DownstreamTlsContext_LENIENT_STAPLING)
        return error_set(
            err, E_UNSUPPORTED, "%s.ocsp_staple_policy: %s is not supported", path,
            pb_enum_name(&envoy_DownstreamTlsContext_OcspStaplePolicy_pb, d->ocsp_staple_policy));
    if (d->full_scan_certs_on_sni_mismatch && d->full_scan_certs_on_sni_mismatch->value)
        return error_set(err, E_UNSUPPORTED, "%s.full_scan_certs_on_sni_mismatch: not supported",
                         path);
    int rc = common(d->common_tls_context, path, a, out, err);
    if (rc == 0)
        rc = downstream_tickets(d, path, a, out, err);
    if (rc)
        return rc;
    bool validates = out->ctx.validation || out->validation.name.n > 0;
    bool require = d->require_client_certificate && d->require_client_certificate->value;
    out->ctx.client_auth = require     ? TLS_CLIENT_REQUIRE
                           : validates ? TLS_CLIENT_OPTIONAL
                                       : TLS_CLIENT_NONE;
    out->ctx.no_stateful_resumption = d->disable_stateful_session_resumption;
    out->ctx.prefer_client_ciphers = d->prefer_client_ciphers;
    if (d->session_timeout) {
        if (d->session_timeout->seconds < 0 || d->session_timeout->seconds >= UINT32_MAX)
            return error_set(err, E_INVALID, "%s.session_timeout: out of range", path);
        out->ctx.session_timeout_s = (uint32_t)d->session_timeout->seconds;
    }
    return 0;
}

bool tls_options_has_inline(const struct tls_slot_opts *o)
{
    const struct tls_ctx_opts *c = &o->ctx;
    const struct tls_validation *v = c->validation;
    return c->n_certs || c->n_ciphers || c->n_curves || c->n_sigalgs || c->n_ticket_keys ||
           (v && (v->ca_pem.n || v->crl_pem.n || v->n_spki_pins || v->n_cert_hashes));
}

/* ---- secrets ---- */

static int secret(const struct envoy_Secret *s, sv config, int64_t now_s,
                  struct tls_secret_store *store, struct arena *a, struct error *err)
{
    const char *path = arena_printf(a, "secret '%.*s'", SV_ARG(s->name)).p;
    int rc;
    switch (s->which_type) {
    case envoy_Secret_tls_certificate_tag: {
        struct tls_cert_opts c = {0};
        rc = config.n ? 0 : not_watched(s->tls_certificate->watched_directory, path, err);
        if (rc == 0)
            rc = certificate(s->tls_certificate, path, a, &c, err);
        return rc ? rc : tls_secret_store_set_cert(store, s->name, config, &c, now_s, err);
    }
    case envoy_Secret_validation_context_tag: {
        struct tls_validation v = {0};
        rc = config.n ? 0 : not_watched(s->validation_context->watched_directory, path, err);
        if (rc == 0)
            rc = validation(s->validation_context, path, a, &v, err);
        return rc ? rc : tls_secret_store_set_validation(store, s->name, config, &v, now_s, err);
    }
    case envoy_Secret_session_ticket_keys_tag: {
        const sv *keys;
        size_t n;
        rc = ticket_keys(s->session_ticket_keys, path, a, &keys, &n, err);
        return rc ? rc
                  : tls_secret_store_set_ticket_keys(store, s->name, config, keys, n, now_s, err);
    }
    case envoy_Secret_generic_secret_tag:
        return error_set(err, E_UNSUPPORTED, "%s.generic_secret: not supported", path);
    default:
        return error_set(err, E_INVALID, "%s: has no value", path);
    }
}

int tls_options_secret(const struct envoy_Secret *s, sv config, int64_t now_s,
                       struct tls_secret_store *store, struct error *err)
{
    if (s->name.n == 0)
        return error_set(err, E_INVALID, "secret: the name is empty");
    struct arena a;
    arena_init(&a);
    int rc = secret(s, config, now_s, store, &a, err);
    arena_free(&a);
    return rc;
}
