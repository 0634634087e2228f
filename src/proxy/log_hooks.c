#include "proxy/log_hooks.h"

#include <inttypes.h>

#include "api/envoy.pb.h"
#include "api/google.pb.h"
#include "base/strbuf.h"
#include "http/substitution.h"
#include "proxy/accepted.h"
#include "route/route.h"
#include "tls/tls_conn.h"
#include "tls/tls_info.h"
#include "upstream/upstream.h"

#define TEXT_MAX 65536

static const sv none = {NULL, 0};

/* ---- TLS ---- */

static sv sans(const struct tls_cert_info *c, enum tls_san_type t, struct arena *a)
{
    struct strbuf b;
    if (!c)
        return none;
    strbuf_init(&b, TEXT_MAX);
    tls_cert_info_sans_text(c, t, &b);
    sv out = b.n ? arena_sv(a, strbuf_sv(&b)) : none;
    strbuf_fini(&b);
    return out;
}

static sv or_none(sv v)
{
    return v.n ? v : none;
}

static sv pem(const struct tls_cert_info *c, struct arena *a)
{
    struct strbuf b;
    strbuf_init(&b, TEXT_MAX);
    tls_cert_info_pem_urlencoded(c, &b);
    sv out = arena_sv(a, strbuf_sv(&b));
    strbuf_fini(&b);
    return out;
}

static sv of_peer(const struct tls_cert_info *p, enum substitution_tls_field f, struct arena *a)
{
    if (!p)
        return none;
    switch (f) {
    case SUBSTITUTION_TLS_PEER_URI_SAN:
        return sans(p, TLS_SAN_URI, a);
    case SUBSTITUTION_TLS_PEER_DNS_SAN:
        return sans(p, TLS_SAN_DNS, a);
    case SUBSTITUTION_TLS_PEER_IP_SAN:
        return sans(p, TLS_SAN_IP, a);
    case SUBSTITUTION_TLS_PEER_EMAIL_SAN:
        return sans(p, TLS_SAN_EMAIL, a);
    case SUBSTITUTION_TLS_PEER_SUBJECT:
        return or_none(p->subject);
    case SUBSTITUTION_TLS_PEER_ISSUER:
        return or_none(p->issuer);
    case SUBSTITUTION_TLS_PEER_SERIAL:
        return or_none(p->serial);
    case SUBSTITUTION_TLS_PEER_FINGERPRINT_256:
        return or_none(p->sha256);
    case SUBSTITUTION_TLS_PEER_FINGERPRINT_1:
        return or_none(p->sha1);
    case SUBSTITUTION_TLS_PEER_CERT:
        return pem(p, a);
    case SUBSTITUTION_TLS_PEER_CERT_V_START:
        return arena_printf(a, "%" PRId64, p->not_before_s);
    case SUBSTITUTION_TLS_PEER_CERT_V_END:
        return arena_printf(a, "%" PRId64, p->not_after_s);
    default:
        return none;
    }
}

static sv of_tls(const struct tls_info *t, enum substitution_tls_field f, struct arena *a)
{
    switch (f) {
    case SUBSTITUTION_TLS_VERSION:
        return or_none(sv_of(t->version));
    case SUBSTITUTION_TLS_CIPHER:
        return or_none(sv_of(t->cipher));
    case SUBSTITUTION_TLS_GROUP:
        return or_none(sv_of(t->group));
    case SUBSTITUTION_TLS_SERVER_NAME:
        return or_none(t->sni);
    case SUBSTITUTION_TLS_SESSION_ID:
        return or_none(t->session_id);
    case SUBSTITUTION_TLS_LOCAL_URI_SAN:
        return sans(t->local, TLS_SAN_URI, a);
    case SUBSTITUTION_TLS_LOCAL_DNS_SAN:
        return sans(t->local, TLS_SAN_DNS, a);
    case SUBSTITUTION_TLS_LOCAL_IP_SAN:
        return sans(t->local, TLS_SAN_IP, a);
    case SUBSTITUTION_TLS_LOCAL_EMAIL_SAN:
        return sans(t->local, TLS_SAN_EMAIL, a);
    case SUBSTITUTION_TLS_LOCAL_SUBJECT:
        return t->local ? or_none(t->local->subject) : none;
    default:
        return of_peer(t->peer, f, a);
    }
}

/* ---- metadata ---- */

static const struct google_Value *member(const struct google_Struct *s, sv key)
{
    for (uint32_t i = 0; s && i < s->fields.n; i++)
        if (sv_eq(s->fields.v[i]->key, key))
            return s->fields.v[i]->value;
    return NULL;
}

static sv value_json(const struct google_Value *v, const struct google_Struct *s, struct arena *a)
{
    struct strbuf b;
    struct pb_json_opts o = {0};
    strbuf_init(&b, TEXT_MAX);
    if (v)
        pb_to_json(&google_Value_pb, v, &o, &b);
    else
        pb_to_json(&google_Struct_pb, s, &o, &b);
    sv out = arena_sv(a, strbuf_sv(&b));
    strbuf_fini(&b);
    return out;
}

static const struct accepted *accepted_of(const struct stream_conn *down)
{
    struct network_conn *nc =
        container_of((struct stream_conn *)(uintptr_t)down, struct network_conn, sc);
    return container_of(nc, struct accepted, nc);
}

static const struct envoy_Metadata *metadata_of(const struct stream_info *si,
                                                enum substitution_metadata which)
{
    const struct route *r = si->route;
    switch (which) {
    case SUBSTITUTION_META_ROUTE:
        return r ? r->metadata : NULL;
    case SUBSTITUTION_META_VIRTUAL_HOST:
        return si->virtual_host
                   ? container_of(si->virtual_host, const struct route_vhost, name)->metadata
                   : NULL;
    case SUBSTITUTION_META_CLUSTER:
        return si->cluster ? upstream_cluster_metadata(si->cluster) : NULL;
    case SUBSTITUTION_META_UPSTREAM_HOST:
        return si->upstream_endpoint ? upstream_host_info(si->upstream_endpoint)->metadata : NULL;
    case SUBSTITUTION_META_LISTENER:
        return si->down ? accepted_of(si->down)->conf->metadata : NULL;
    default:
        return NULL;
    }
}

static sv of_metadata(const struct stream_info *si, enum substitution_metadata which, sv ns,
                      const sv *path, uint32_t n, struct arena *a)
{
    const struct envoy_Metadata *m = metadata_of(si, which);
    for (uint32_t i = 0; m && i < m->filter_metadata.n; i++) {
        if (!sv_eq(m->filter_metadata.v[i]->key, ns))
            continue;
        const struct google_Struct *s = m->filter_metadata.v[i]->value;
        const struct google_Value *v = NULL;
        for (uint32_t k = 0; k < n; k++) {
            v = member(k ? v->struct_value : s, path[k]);
            if (!v || (k + 1 < n && v->which_kind != google_Value_struct_value_tag))
                return none;
        }
        return s ? value_json(v, s, a) : none;
    }
    return none;
}

/* ---- the client's connection ---- */

struct chain_text {
    enum substitution_conn_field f;
    struct strbuf out;
    uint32_t n;
};

/* One certificate of the chain, leaf first. The issuer's is the one after the leaf. */
static void add_cert(void *user, const struct tls_cert_info *c)
{
    struct chain_text *t = user;
    bool issuer = t->f == SUBSTITUTION_CONN_DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256 ||
                  t->f == SUBSTITUTION_CONN_DOWNSTREAM_PEER_ISSUER_SERIAL;
    if (issuer && t->n++ != 1)
        return;
    strbuf_add_c(&t->out, t->out.n ? "," : "");
    switch (t->f) {
    case SUBSTITUTION_CONN_DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1:
        strbuf_add_sv(&t->out, c->sha1);
        break;
    case SUBSTITUTION_CONN_DOWNSTREAM_PEER_CHAIN_SERIALS:
    case SUBSTITUTION_CONN_DOWNSTREAM_PEER_ISSUER_SERIAL:
        strbuf_add_sv(&t->out, c->serial);
        break;
    default:
        strbuf_add_sv(&t->out, c->sha256);
        break;
    }
}

static sv of_chain(const struct conn *c, enum substitution_conn_field f, struct arena *a)
{
    struct chain_text t = {.f = f};
    if (!c->tls)
        return none;
    strbuf_init(&t.out, TEXT_MAX);
    tls_conn_peer_chain(c, add_cert, &t);
    sv out = t.out.n ? arena_sv(a, strbuf_sv(&t.out)) : none;
    strbuf_fini(&t.out);
    return out;
}

static sv of_conn(const struct stream_conn *down, enum substitution_conn_field f, struct arena *a)
{
    const struct accepted *d = accepted_of(down);
    struct conn *c = d->nc.conn;
    bool claimed = down->direct_remote_addr != down->remote_addr;
    char text[ADDR_TEXT_MAX];
    switch (f) {
    case SUBSTITUTION_CONN_FILTER_CHAIN_NAME:
        return d->chain && d->chain->named ? d->chain->name : none;
    case SUBSTITUTION_CONN_DIRECT_LOCAL:
        /* Where a PROXY header says otherwise: what the listener is bound to. */
        return arena_sv(a, addr_text(claimed ? &d->conf->addrs[0] : conn_local(c), text));
    case SUBSTITUTION_CONN_DOWNSTREAM_DETECTED_CLOSE_TYPE:
        return c->error == E_RESET ? SV("RemoteReset") : SV("Normal");
    default:
        return of_chain(c, f, a);
    }
}

void log_hooks_install(void)
{
    static const struct substitution_hooks hooks = {of_tls, of_metadata, of_conn};
    substitution_set_hooks(&hooks);
}
