#include "proxy/hcm_headers.h"
#include "base/code.h"

#include "http/date.h"
#include "net/loop.h"
#include "proxy/hcm.h"
#include "proxy/hcm_tracing.h"
#include "proxy/rds.h"
#include "tls/tls_info.h"

/* ---- the client's address ---- */

bool hcm_xff_address(sv value, uint32_t n, struct addr *out, bool *single)
{
    *single = value.p && sv_find(value, ',') < 0;
    sv rest = value;
    for (uint32_t i = 0;; i++) {
        if (!rest.n)
            return false;
        ptrdiff_t comma = sv_rfind(rest, ',');
        sv last = comma < 0 ? rest : sv_from(rest, (size_t)comma + 1);
        if (i == n)
            return addr_ip(out, sv_trim(last), 0) == 0;
        if (comma < 0)
            return false;
        rest = sv_first(rest, (size_t)comma);
    }
}

bool hcm_internal_ip(const struct hcm_config *c, const struct addr *a)
{
    if (a->sa.sa_family == AF_UNIX)
        return c->internal_unix;
    for (uint32_t i = 0; i < c->n_internal; i++)
        if (cidr_has(&c->internal[i], a))
            return true;
    return false;
}

static void append(struct http_headers *h, enum http_name id, sv value, const char *sep,
                   struct arena *a)
{
    sv old = http_headers_joined(h, http_name_text(id), a);
    if (old.p && old.n)
        value = arena_printf(a, "%.*s%s%.*s", SV_ARG(old), sep, SV_ARG(value));
    http_headers_set_id(h, id, value);
}

struct client {
    struct addr addr; /* from x-forwarded-for */
    bool have, single, internal, edge;
    uint16_t refused; /* with this status */
};

static void append_peer(struct hcm_stream *s, struct http_headers *h)
{
    const struct stream_conn *sc = &s->hc->nc->sc;
    if (sc->remote_addr->sa.sa_family == AF_UNIX)
        return;
    sv me = stream_addr_ip(sc->remote);
    if (addr_is_loopback(sc->remote_addr) && s->hc->nc->worker->node->local_ip.n)
        me = s->hc->nc->worker->node->local_ip; /* a loopback address says nothing to others */
    append(h, HTTP_H_X_FORWARDED_FOR, me, ",", s->arena);
}

static void detect_client(struct hcm_stream *s, struct http_head *head, sv xff, struct client *c)
{
    struct hcm_detected d = {0};
    hcm_detect(s, head, xff, &d);
    c->have = d.have;
    c->addr = d.addr;
    c->internal = d.have && d.may_be_internal && hcm_internal_ip(s->cfg, &d.addr);
    c->refused = d.status;
    if (d.append && !d.status)
        append_peer(s, &head->h);
}

static void find_client(struct hcm_stream *s, struct http_head *head, struct client *c)
{
    const struct hcm_config *cfg = s->cfg;
    const struct stream_conn *sc = &s->hc->nc->sc;
    struct http_headers *h = &head->h;
    memset(c, 0, sizeof *c);
    sv xff = http_headers_get(h, HTTP_H_X_FORWARDED_FOR);
    if (xff.p) { /* one field, also for those behind who look at the first alone */
        xff = http_headers_joined(h, http_name_text(HTTP_H_X_FORWARDED_FOR), s->arena);
        http_headers_set_id(h, HTTP_H_X_FORWARDED_FOR, xff);
    }
    if (cfg->extensions.n_detectors) {
        detect_client(s, head, xff, c);
        return;
    }
    if (!cfg->use_remote_address) {
        c->have = xff.p && hcm_xff_address(xff, cfg->trusted_hops, &c->addr, &c->single);
        c->internal = c->have && c->single && hcm_internal_ip(cfg, &c->addr);
        return;
    }
    bool single;
    if (cfg->trusted_hops && xff.p)
        c->have = hcm_xff_address(xff, cfg->trusted_hops - 1, &c->addr, &single);
    c->single = !xff.p;
    if (!cfg->skip_xff_append)
        append_peer(s, h);
    c->internal = c->single && hcm_internal_ip(cfg, c->have ? &c->addr : sc->remote_addr);
    c->edge = !c->internal;
}

static void tell_client(struct hcm_stream *s, const struct client *c)
{
    s->si.internal = c->internal;
    if (!c->have)
        return;
    struct addr *a = arena_alloc(s->arena, sizeof *a);
    char text[ADDR_TEXT_MAX];
    *a = c->addr;
    s->si.remote_addr = a;
    s->si.remote = arena_sv(s->arena, addr_text(a, text));
    s->si.remote_ip = arena_sv(s->arena, addr_ip_text(a, text));
}

static void set_scheme(struct hcm_stream *s, struct http_head *head)
{
    const struct hcm_config *cfg = s->cfg;
    bool tls = s->hc->nc->sc.tls != NULL;
    sv mine = tls ? SV("https") : SV("http");
    struct http_headers *h = &head->h;
    sv proto = http_headers_get(h, HTTP_H_X_FORWARDED_PROTO);
    if (!proto.p || (cfg->use_remote_address && !cfg->trusted_hops)) {
        http_headers_set_id(h, HTTP_H_X_FORWARDED_PROTO, mine);
        proto = mine;
    }
    if (cfg->append_forwarded_port && (!http_headers_get_sv(h, SV("x-forwarded-port")).p ||
                                       (cfg->use_remote_address && !cfg->trusted_hops)))
        http_headers_set(h, SV("x-forwarded-port"), stream_addr_port(s->hc->nc->sc.local));
    if (cfg->scheme_overwrite.n) {
        head->scheme = cfg->scheme_overwrite;
        http_headers_set_id(h, HTTP_H_X_FORWARDED_PROTO, head->scheme);
    } else if (!head->scheme.n)
        head->scheme = sv_eq_icase(proto, SV("https"))  ? SV("https")
                       : sv_eq_icase(proto, SV("http")) ? SV("http")
                                                        : mine;
}

/* ---- what does not pass ---- */

/* Fields of Envoy's own that only insiders may set, after "x-envoy-". */
static bool insiders_only(sv rest, bool edge)
{
    static const sv always[] = {
        SV_INIT("retry-on"),
        SV_INIT("retry-grpc-on"),
        SV_INIT("max-retries"),
        SV_INIT("upstream-alt-stat-name"),
        SV_INIT("upstream-rq-timeout-ms"),
        SV_INIT("upstream-rq-per-try-timeout-ms"),
        SV_INIT("upstream-rq-timeout-alt-response"),
        SV_INIT("expected-rq-timeout-ms"),
        SV_INIT("force-trace"),
        SV_INIT("ip-tags"),
        SV_INIT("original-url"),
        SV_INIT("hedge-on-per-try-timeout"),
    };
    static const sv at_edge[] = {
        SV_INIT("decorator-operation"),     SV_INIT("downstream-service-cluster"),
        SV_INIT("downstream-service-node"), SV_INIT("original-path"),
        SV_INIT("original-host"),
    };
    for (unsigned i = 0; i < sizeof always / sizeof always[0]; i++)
        if (sv_eq(rest, always[i]))
            return true;
    for (unsigned i = 0; edge && i < sizeof at_edge / sizeof at_edge[0]; i++)
        if (sv_eq(rest, at_edge[i]))
            return true;
    return false;
}

static bool te_trailers(sv list)
{
    sv token, q;
    while (list.n) {
        sv_cut(list, ',', &token, &list);
        sv_cut(token, ';', &token, &q);
        if (sv_eq_icase(sv_trim(token), SV("trailers")))
            return true;
    }
    return false;
}

HOT static bool hop_by_hop(const struct http_header *h)
{
    switch (h->id) {
    case HTTP_H_CONNECTION:
    case HTTP_H_KEEP_ALIVE:
    case HTTP_H_PROXY_CONNECTION:
    case HTTP_H_TRANSFER_ENCODING:
    case HTTP_H_UPGRADE:
    case HTTP_H_HTTP2_SETTINGS:
        return true;
    case HTTP_H_TE:
        return !te_trailers(h->value);
    default:
        return false;
    }
}

/* Of TE only "trailers" passes; it is what is left of a list that has it. */
static void keep_te(struct http_header *h)
{
    if (h->id == HTTP_H_TE)
        h->value = SV("trailers");
}

static bool dropped(const struct http_header *h, const struct client *c)
{
    if (hop_by_hop(h))
        return true;
    if (!sv_starts(h->name, SV("x-envoy-")))
        return false;
    sv rest = sv_from(h->name, 8);
    if (sv_eq(rest, SV("internal")))
        return true;
    if (sv_eq(rest, SV("external-address")))
        return c->edge;
    return !c->internal && insiders_only(rest, c->edge);
}

static bool may_nominate(sv name)
{
    return name.p[0] != ':' && !sv_starts_icase(name, SV("x-forwarded-")) &&
           !sv_eq_icase(name, SV("host"));
}

/* Those have a meaning of their own and are dealt with by hop_by_hop() or the codec. */
static bool has_own_rule(sv name)
{
    static const sv v[] = {
        SV_INIT("close"),         SV_INIT("keep-alive"), SV_INIT("te"),
        SV_INIT("upgrade"),       SV_INIT("trailer"),    SV_INIT("http2-settings"),
        SV_INIT("content-length")};
    for (unsigned i = 0; i < sizeof v / sizeof v[0]; i++)
        if (sv_eq_icase(name, v[i]))
            return true;
    return false;
}

static void remove_icase(struct http_headers *h, sv name)
{
    for (uint32_t i = 0; i < h->n; i++)
        if (sv_eq_icase(h->v[i].name, name)) {
            http_headers_remove(h, h->v[i].name);
            return;
        }
}

bool hcm_headers_nominated(struct http_headers *h)
{
    sv rest = http_headers_joined(h, http_name_text(HTTP_H_CONNECTION), h->arena), token;
    while (rest.n) {
        sv_cut(rest, ',', &token, &rest);
        token = sv_trim(token);
        if (!token.n || has_own_rule(token))
            continue;
        if (!may_nominate(token))
            return false;
        remove_icase(h, token);
    }
    return true;
}

static void strip_request(struct http_headers *h, const struct client *c)
{
    uint32_t to = 0;
    for (uint32_t i = 0; i < h->n; i++) {
        if (dropped(&h->v[i], c))
            continue;
        keep_te(&h->v[i]);
        if (to != i)
            h->v[to] = h->v[i];
        to++;
    }
    h->n = to;
}

/* What the routes say is for insiders only. */
static void strip_named(struct http_headers *h, const struct route_table *t)
{
    uint32_t n;
    const sv *names = route_table_internal_only(t, &n);
    for (uint32_t i = 0; i < n; i++)
        http_headers_remove(h, names[i]);
}

static void strip_response(struct http_headers *h)
{
    uint32_t to = 0;
    for (uint32_t i = 0; i < h->n; i++) {
        if (hop_by_hop(&h->v[i]))
            continue;
        if (to != i)
            h->v[to] = h->v[i];
        to++;
    }
    h->n = to;
}

/* ---- what is added ---- */

void hcm_uuid(struct rand_state *r, char out[36])
{
    static const char hex[] = "0123456789abcdef";
    uint64_t bits[2] = {rand_u64(r), rand_u64(r)};
    uint8_t b[16];
    memcpy(b, bits, sizeof b);
    b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
    static const uint8_t at[16] = {0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34};
    for (unsigned i = 0; i < 16; i++) {
        out[at[i]] = hex[b[i] >> 4];
        out[at[i] + 1] = hex[b[i] & 15];
    }
    out[8] = out[13] = out[18] = out[23] = '-';
}

static void request_id(struct hcm_stream *s, struct http_head *head, bool edge)
{
    const struct hcm_config *cfg = s->cfg;
    sv have = http_headers_get(&head->h, HTTP_H_X_REQUEST_ID);
    if (cfg->generate_request_id && (!have.n || (edge && !cfg->preserve_request_id))) {
        char *text = arena_alloc(s->arena, 36);
        hcm_uuid(loop_rand(s->hc->conn->loop), text);
        have = sv_make(text, 36);
        http_headers_set_id(&head->h, HTTP_H_X_REQUEST_ID, have);
    } else if (cfg->generate_request_id && edge && cfg->pack_trace_reason)
        have = hcm_tracing_forget_reason(s, head); /* a stranger does not decide */
    s->si.request_id = have;
}

static void xfcc_part(struct strbuf *b, const char *key, sv value, bool quoted)
{
    if (b->n)
        strbuf_add_ch(b, ';');
    strbuf_add_c(b, key);
    strbuf_add_c(b, quoted ? "=\"" : "=");
    strbuf_add_sv(b, value);
    if (quoted)
        strbuf_add_ch(b, '"');
}

static void xfcc_sans(struct strbuf *b, const struct tls_cert_info *c, enum tls_san_type t,
                      const char *key, bool even_if_none)
{
    bool any = false;
    for (uint32_t i = 0;; i++) {
        sv v = tls_cert_info_san(c, t, i);
        if (!v.p)
            break;
        xfcc_part(b, key, v, false);
        any = true;
    }
    if (!any && even_if_none)
        xfcc_part(b, key, (sv){NULL, 0}, false);
}

/* The element that describes this connection's client: the same for all its requests. */
static sv xfcc_element(struct hcm_conn *hc)
{
    const struct tls_info *tls = hc->nc->sc.tls;
    unsigned set = hc->cfg->xfcc_set;
    struct strbuf b, pem;
    if (hc->xfcc)
        return sv_of(hc->xfcc);
    strbuf_init(&b, 65536);
    strbuf_init(&pem, 65536);
    if (tls->local)
        xfcc_sans(&b, tls->local, TLS_SAN_URI, "By", false);
    xfcc_part(&b, "Hash", tls->peer->sha256, false);
    if (set & HCM_XFCC_CERT) {
        tls_cert_info_pem_urlencoded(tls->peer, &pem);
        xfcc_part(&b, "Cert", strbuf_sv(&pem), true);
        strbuf_reset(&pem);
    }
    if (set & HCM_XFCC_CHAIN) {
        tls_conn_peer_chain_urlencoded(hc->conn, &pem);
        if (pem.n)
            xfcc_part(&b, "Chain", strbuf_sv(&pem), true);
    }
    if (set & HCM_XFCC_SUBJECT)
        xfcc_part(&b, "Subject", tls->peer->subject, true);
    if (set & HCM_XFCC_URI)
        xfcc_sans(&b, tls->peer, TLS_SAN_URI, "URI", true);
    if (set & HCM_XFCC_DNS)
        xfcc_sans(&b, tls->peer, TLS_SAN_DNS, "DNS", false);
    strbuf_fini(&pem);
    hc->xfcc = strbuf_steal(&b, NULL);
    return sv_of(hc->xfcc);
}

static void client_cert(struct hcm_stream *s, struct http_headers *h)
{
    const struct hcm_config *cfg = s->cfg;
    const struct tls_info *tls = s->hc->nc->sc.tls;
    if (cfg->xfcc == HCM_XFCC_ALWAYS_FORWARD)
        return;
    if (cfg->xfcc == HCM_XFCC_SANITIZE || !tls || !tls->peer) {
        http_headers_remove_id(h, HTTP_H_X_FORWARDED_CLIENT_CERT);
        return;
    }
    if (cfg->xfcc == HCM_XFCC_FORWARD_ONLY)
        return;
    sv mine = xfcc_element(s->hc);
    if (cfg->xfcc == HCM_XFCC_APPEND)
        append(h, HTTP_H_X_FORWARDED_CLIENT_CERT, mine, ",", s->arena);
    else
        http_headers_set_id(h, HTTP_H_X_FORWARDED_CLIENT_CERT, mine);
}

static void user_agent(struct hcm_stream *s, struct http_headers *h)
{
    const struct filter_node *node = s->hc->nc->worker->node;
    http_headers_set(h, SV("x-envoy-downstream-service-cluster"), s->cfg->user_agent);
    if (!http_headers_get(h, HTTP_H_USER_AGENT).n)
        http_headers_set_id(h, HTTP_H_USER_AGENT, s->cfg->user_agent);
    if (node->id.n)
        http_headers_set(h, SV("x-envoy-downstream-service-node"), node->id);
}

uint16_t hcm_headers_request(struct hcm_stream *s, struct http_head *head)
{
    const struct hcm_config *cfg = s->cfg;
    struct http_headers *h = &head->h;
    struct client c;
    hcm_early_apply(s, head);
    find_client(s, head, &c);
    if (c.refused)
        return c.refused;
    tell_client(s, &c);
    strip_request(h, &c);
    if (!c.internal && s->view)
        strip_named(h, s->view->table);
    set_scheme(s, head);
    if (c.internal)
        http_headers_add_id(h, HTTP_H_X_ENVOY_INTERNAL, SV("true"));
    if (cfg->user_agent.n)
        user_agent(s, h);
    if (cfg->via.n)
        append(h, HTTP_H_VIA, cfg->via, ", ", s->arena);
    if (c.edge && s->hc->nc->sc.remote_addr->sa.sa_family != AF_UNIX)
        http_headers_set(h, SV("x-envoy-external-address"),
                         stream_addr_ip(stream_info_remote(&s->si)));
    request_id(s, head, c.edge);
    client_cert(s, h);
    return 0;
}

void hcm_headers_response(struct hcm_stream *s, struct http_head *head)
{
    const struct hcm_config *cfg = s->cfg;
    struct http_headers *h = &head->h;
    strip_response(h);
    if (s->si.span)
        hcm_tracing_response(s, head);
    if (s->si.request_id.n &&
        (cfg->request_id_in_response ||
         (s->si.req && http_headers_get(&s->si.req->h, HTTP_H_X_ENVOY_FORCE_TRACE).p)))
        http_headers_set_id(h, HTTP_H_X_REQUEST_ID, s->si.request_id);
    if (cfg->via.n)
        append(h, HTTP_H_VIA, cfg->via, ", ", s->arena);
    if (cfg->server_header == HCM_SERVER_OVERWRITE ||
        (cfg->server_header == HCM_SERVER_IF_ABSENT && !http_headers_get(h, HTTP_H_SERVER).p))
        http_headers_set_id(h, HTTP_H_SERVER, cfg->server_name);
    if (!http_headers_get(h, HTTP_H_DATE).p)
        http_headers_add_id(h, HTTP_H_DATE, http_date(loop_stamp_wall_ns(s->hc->conn->loop)));
}
