/* /certs: certificates of listeners and of named secrets. */
#include "proxy/admin/admin.h"

#include <inttypes.h>

#include "api/envoy.pb.h"
#include "api/google.pb.h"
#include "net/loop.h"
#include "proxy/listener_manager.h"
#include "proxy/server.h"
#include "tls/tls_slot.h"

struct dump {
    struct strbuf out;
    struct arena a;
    uint64_t now_s;
    uint32_t n;
};

static const struct envoy_SubjectAlternateName *name_of(struct arena *a, const struct tls_san *san)
{
    struct envoy_SubjectAlternateName *m = arena_new(a, struct envoy_SubjectAlternateName);
    switch (san->type) {
    case TLS_SAN_DNS:
        m->which_name = envoy_SubjectAlternateName_dns_tag;
        m->dns = san->value;
        return m;
    case TLS_SAN_URI:
        m->which_name = envoy_SubjectAlternateName_uri_tag;
        m->uri = san->value;
        return m;
    case TLS_SAN_IP:
        m->which_name = envoy_SubjectAlternateName_ip_address_tag;
        m->ip_address = san->value;
        return m;
    default:
        return NULL;
    }
}

static const struct envoy_CertificateDetails *details(struct dump *d, const struct tls_cert_info *c)
{
    struct envoy_CertificateDetails *m = arena_new(&d->a, struct envoy_CertificateDetails);
    m->serial_number = c->serial;
    m->path = SV("<inline>");
    m->valid_from = admin_time(&d->a, (uint64_t)c->not_before_s * 1000000000u);
    m->expiration_time = admin_time(&d->a, (uint64_t)c->not_after_s * 1000000000u);
    if ((uint64_t)c->not_after_s > d->now_s)
        m->days_until_expiration = ((uint64_t)c->not_after_s - d->now_s) / 86400;
    m->subject_alt_names.v =
        arena_array(&d->a, const struct envoy_SubjectAlternateName *, c->n_sans + 1);
    for (uint32_t i = 0; i < c->n_sans; i++) {
        const struct envoy_SubjectAlternateName *n = name_of(&d->a, &c->sans[i]);
        if (n)
            m->subject_alt_names.v[m->subject_alt_names.n++] = n;
    }
    return m;
}

static void add_ctx(struct dump *d, struct tls_ctx *c)
{
    struct envoy_Certificate m = {0};
    size_t n = tls_ctx_n_certs(c), cas = tls_ctx_n_cas(c);
    m.cert_chain.v = arena_array(&d->a, const struct envoy_CertificateDetails *, n + 1);
    m.ca_cert.v = arena_array(&d->a, const struct envoy_CertificateDetails *, cas + 1);
    for (size_t i = 0; i < n; i++)
        m.cert_chain.v[m.cert_chain.n++] = details(d, tls_ctx_cert(c, i));
    for (size_t i = 0; i < cas; i++)
        m.ca_cert.v[m.ca_cert.n++] = details(d, tls_ctx_ca(c, i));
    strbuf_add_c(&d->out, d->n++ ? ",\n" : "\n");
    admin_json(&envoy_Certificate_pb, &m, &d->out);
}

static void one_slot(void *arg, sv listener, struct tls_slot *slot)
{
    struct tls_ctx *c = tls_slot_get(slot);
    if (c)
        add_ctx(arg, c);
    tls_ctx_unref(c);
}

/* Secrets that came in are shown through a context of their own: only that reads certificates. */
static void one_secret(void *arg, sv name, sv config, struct tls_secret *s)
{
    if (!s || s->kind == TLS_SECRET_TICKET_KEYS)
        return;
    struct tls_ctx_opts o = {0};
    if (s->kind == TLS_SECRET_CERT) {
        o.certs = &s->cert;
        o.n_certs = 1;
    } else {
        o.validation = &s->validation;
    }
    struct tls_ctx *c = tls_ctx_new(&o, NULL);
    if (c)
        add_ctx(arg, c);
    tls_ctx_unref(c);
}

void admin_certs(struct proxy_server *s, struct serve_request *r)
{
    struct dump d = {.now_s = loop_wall_ns(proxy_server_loop(s)) / 1000000000u};
    strbuf_init(&d.out, ADMIN_TEXT_MAX);
    arena_init(&d.a);
    strbuf_add_c(&d.out, "{\n \"certificates\": [");
    listener_manager_each_tls(proxy_server_listeners(s), one_slot, &d);
    tls_secret_store_each(proxy_server_secrets(s), one_secret, &d);
    strbuf_add_c(&d.out, "\n ]\n}\n");
    arena_free(&d.a);
    serve_reply_strbuf(r, 200, ADMIN_JSON, &d.out);
}
