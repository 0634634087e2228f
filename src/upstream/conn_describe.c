/* What records say of an upstream connection. */
#include "http/stream_info.h"
#include "base/code.h"
#include "tls/tls_info.h"
#include "upstream/upstream.h"

HOT void upstream_conn_ids(const struct conn *c, sv *local, sv *peer)
{
    const struct tls_info *t = c->tls;
    *local = t && t->local ? tls_cert_info_san(t->local, TLS_SAN_URI, 0) : (sv){NULL, 0};
    *peer = t && t->peer && t->peer_validated ? tls_cert_info_san(t->peer, TLS_SAN_URI, 0)
                                              : (sv){NULL, 0};
}

static void drop_cert(void *cert)
{
    tls_cert_info_unref(cert);
}

static const struct tls_cert_info *keep_cert(const struct tls_cert_info *cert, struct arena *a)
{
    if (cert)
        arena_on_free(a, drop_cert, tls_cert_info_ref((struct tls_cert_info *)cert));
    return cert;
}

static const struct tls_info *keep_tls(const struct tls_info *t, struct arena *a)
{
    struct tls_info *copy;

    if (!t)
        return NULL;
    copy = arena_new(a, struct tls_info);
    *copy = *t;
    copy->sni = arena_sv(a, t->sni);
    copy->alpn = arena_sv(a, t->alpn);
    copy->session_id = arena_sv(a, t->session_id);
    copy->peer = keep_cert(t->peer, a);
    copy->local = keep_cert(t->local, a);
    return copy;
}

void upstream_conn_describe(const struct conn *c, struct arena *a, struct stream_conn *out)
{
    struct addr *both = arena_alloc(a, 2 * sizeof *both);
    char text[ADDR_TEXT_MAX];

    both[0] = *conn_local((struct conn *)c);
    both[1] = c->remote;
    out->id = c->id;
    out->local_addr = &both[0];
    out->remote_addr = out->direct_remote_addr = &both[1];
    sv local = conn_local_text((struct conn *)c);
    out->local = arena_sv(a, local.n ? local : addr_text(&both[0], text));
    out->tls = keep_tls(c->tls, a);
    upstream_conn_ids(c, &out->local_id, &out->peer_id);
}
