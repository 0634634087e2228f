#include "proxy/filter_chain.h"

#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "base/strbuf.h"

#define CHAINS_ON_STACK 64
#define COMBINATIONS    200000u /* of one chain's values */

/* ---- building ---- */

static int build_ranges(const struct envoy_CidrRange *const *v, uint32_t n, const char *path,
                        const char *field, struct arena *a, const struct cidr **out,
                        uint32_t *n_out, struct error *err)
{
    struct cidr *c = arena_array(a, struct cidr, n ? n : 1);
    for (uint32_t i = 0; i < n; i++)
        if (cidr_make(&c[i], v[i]->address_prefix, v[i]->prefix_len ? v[i]->prefix_len->value : 0) <
            0)
            return error_set(err, E_INVALID, "%s.%s[%u]: '%.*s/%u' is not an address range", path,
                             field, i, SV_ARG(v[i]->address_prefix),
                             v[i]->prefix_len ? v[i]->prefix_len->value : 0);
    *out = c;
    *n_out = n;
    return 0;
}

static int build_names(const struct envoy_FilterChainMatch *m, const char *path, struct arena *a,
                       struct chain_match *out, struct error *err)
{
    sv *v = arena_array(a, sv, m->server_names.n ? m->server_names.n : 1);
    for (uint32_t i = 0; i < m->server_names.n; i++) {
        sv name = arena_lower(a, arena_sv(a, m->server_names.v[i]));
        if (sv_eq(name, SV("*")))
            name = SV("");
        else if (sv_starts(name, SV("*.")))
            name = sv_from(name, 1);
        if (sv_find(name, '*') >= 0)
            return error_set(err, E_INVALID,
                             "%s.server_names[%u]: '%.*s': a '*' must be the whole first label",
                             path, i, SV_ARG(m->server_names.v[i]));
        v[i] = name;
    }
    out->names = v;
    out->n_names = m->server_names.n;
    return 0;
}

static int build_ports(const struct envoy_FilterChainMatch *m, const char *path, struct arena *a,
                       struct chain_match *out, struct error *err)
{
    if (m->destination_port) {
        if (!m->destination_port->value || m->destination_port->value > 65535)
            return error_set(err, E_INVALID, "%s.destination_port: %u is not a port", path,
                             m->destination_port->value);
        out->has_port = true;
        out->port = (uint16_t)m->destination_port->value;
    }
    uint16_t *p = arena_array(a, uint16_t, m->source_ports.n ? m->source_ports.n : 1);
    for (uint32_t i = 0; i < m->source_ports.n; i++) {
        if (!m->source_ports.v[i] || m->source_ports.v[i] > 65535)
            return error_set(err, E_INVALID, "%s.source_ports[%u]: %u is not a port", path, i,
                             m->source_ports.v[i]);
        p[i] = (uint16_t)m->source_ports.v[i];
    }
    out->src_ports = p;
    out->n_src_ports = m->source_ports.n;
    return 0;
}

int chain_match_build(const struct envoy_FilterChainMatch *m, const char *path, struct arena *a,
                      struct chain_match *out, struct error *err)
{
    memset(out, 0, sizeof *out);
    if (!m)
        return 0;
    if (m->address_suffix.n || m->suffix_len)
        return error_set(err, E_UNSUPPORTED, "%s.address_suffix: is not supported", path);
    int rc = build_ports(m, path, a, out, err);
    if (rc == 0)
        rc = build_ranges(m->prefix_ranges.v, m->prefix_ranges.n, path, "prefix_ranges", a,
                          &out->dst, &out->n_dst, err);
    if (rc == 0)
        rc = build_names(m, path, a, out, err);
    if (rc == 0)
        rc = build_ranges(m->direct_source_prefix_ranges.v, m->direct_source_prefix_ranges.n, path,
                          "direct_source_prefix_ranges", a, &out->direct_src, &out->n_direct_src,
                          err);
    if (rc == 0)
        rc = build_ranges(m->source_prefix_ranges.v, m->source_prefix_ranges.n, path,
                          "source_prefix_ranges", a, &out->src, &out->n_src, err);
    if (rc < 0)
        return rc;
    sv *alpn = arena_array(a, sv, m->application_protocols.n ? m->application_protocols.n : 1);
    for (uint32_t i = 0; i < m->application_protocols.n; i++)
        alpn[i] = m->application_protocols.v[i];
    out->alpn = alpn;
    out->n_alpn = m->application_protocols.n;
    out->transport = m->transport_protocol;
    out->source = (enum chain_source)m->source_type;
    return 0;
}

/* ---- two chains for one connection ---- */

struct check {
    struct map seen; /* a combination of values -> index + 1 */
    struct strbuf key;
    uint32_t index, made;
    uint32_t other; /* index + 1 of the chain that had it before */
};

static void add_cidr(struct strbuf *b, const struct cidr *v, uint32_t n, uint32_t i)
{
    if (!n) {
        strbuf_add_c(b, "-|");
        return;
    }
    struct cidr c = v[i];
    for (unsigned bit = c.bits; bit < c.family_bytes * 8u; bit++)
        c.ip[bit / 8] &= (uint8_t) ~(0x80u >> bit % 8);
    for (unsigned k = 0; k < c.family_bytes; k++)
        strbuf_addf(b, "%02x", c.ip[k]);
    strbuf_addf(b, "/%u|", c.bits);
}

static void add_text(struct strbuf *b, const sv *v, uint32_t n, uint32_t i)
{
    if (n)
        strbuf_addf(b, "%zu:%.*s|", v[i].n, SV_ARG(v[i]));
    else
        strbuf_add_c(b, "-|");
}

/* Each combination of the lists' values is a leaf; two chains must not share one. */
static bool combine(struct check *k, const struct chain_match *m, int level)
{
    const uint32_t counts[] = {m->n_dst,        m->n_names, m->n_alpn,
                               m->n_direct_src, m->n_src,   m->n_src_ports};
    if (level == 6) {
        uintptr_t before =
            (uintptr_t)map_put(&k->seen, strbuf_sv(&k->key), (void *)(uintptr_t)(k->index + 1));
        if (before && before != k->index + 1)
            k->other = (uint32_t)before;
        return !k->other && ++k->made < COMBINATIONS;
    }
    size_t at = k->key.n;
    for (uint32_t i = 0; i < (counts[level] ? counts[level] : 1); i++) {
        strbuf_cut(&k->key, at);
        switch (level) {
        case 0:
            add_cidr(&k->key, m->dst, m->n_dst, i);
            break;
        case 1:
            add_text(&k->key, m->names, m->n_names, i);
            break;
        case 2:
            add_text(&k->key, m->alpn, m->n_alpn, i);
            break;
        case 3:
            add_cidr(&k->key, m->direct_src, m->n_direct_src, i);
            break;
        case 4:
            add_cidr(&k->key, m->src, m->n_src, i);
            break;
        default:
            strbuf_addf(&k->key, "%u|", m->n_src_ports ? m->src_ports[i] : 0u);
        }
        if (!combine(k, m, level + 1))
            return false;
    }
    strbuf_cut(&k->key, at);
    return true;
}

int chain_match_check(const struct chain_match *const *v, const sv *names, uint32_t n,
                      struct error *err)
{
    struct check k = {0};
    int rc = 0;
    map_init(&k.seen);
    strbuf_init(&k.key, 1u << 20);
    for (uint32_t i = 0; i < n && rc == 0; i++) {
        k.index = i;
        k.made = 0;
        strbuf_reset(&k.key);
        strbuf_addf(&k.key, "%d %u %d %zu:%.*s|", v[i]->has_port, v[i]->port, (int)v[i]->source,
                    v[i]->transport.n, SV_ARG(v[i]->transport));
        if (combine(&k, v[i], 0))
            continue;
        if (k.other)
            rc = error_set(err, E_INVALID,
                           "filter chain '%.*s' has the same matching rules as '%.*s'",
                           SV_ARG(names[i]), SV_ARG(names[k.other - 1]));
        else
            rc = error_set(err, E_LIMIT,
                           "filter chain '%.*s': filter_chain_match has more than "
                           "%u combinations of values",
                           SV_ARG(names[i]), COMBINATIONS);
    }
    map_fini(&k.seen);
    strbuf_fini(&k.key);
    return rc;
}

/* ---- matching ---- */

/* How well a chain's values fit: 0 not at all, 1 it says nothing, more is more specific. */
typedef uint32_t (*score_fn)(const struct chain_match *m, const struct chain_conn *c);

static uint32_t score_cidr(const struct cidr *v, uint32_t n, const struct addr *a)
{
    uint32_t best = n ? 0 : 1;
    for (uint32_t i = 0; i < n; i++)
        if (cidr_has(&v[i], a) && v[i].bits + 2u > best)
            best = v[i].bits + 2u;
    return best;
}

static uint32_t score_port(const struct chain_match *m, const struct chain_conn *c)
{
    if (!m->has_port)
        return 1;
    return m->port == addr_port(c->local) ? 2 : 0;
}

static uint32_t score_dst(const struct chain_match *m, const struct chain_conn *c)
{
    return score_cidr(m->dst, m->n_dst, c->local);
}

static uint32_t score_name(const struct chain_match *m, const struct chain_conn *c)
{
    uint32_t best = m->n_names ? 0 : 1;
    for (uint32_t i = 0; i < m->n_names; i++) {
        sv name = m->names[i];
        uint32_t s = 0;
        if (!name.n)
            s = 1;
        else if (name.p[0] == '.')
            s = c->sni.n > name.n && sv_ends(c->sni, name) ? 1 + (uint32_t)name.n : 0;
        else if (sv_eq(name, c->sni))
            s = UINT32_MAX;
        if (s > best)
            best = s;
    }
    return best;
}

bool chain_match_names_better(const struct chain_match *a, const struct chain_match *b, sv name)
{
    struct chain_conn c = {.sni = name};
    uint32_t s = score_name(a, &c);
    return s > 1 && s > score_name(b, &c);
}

static uint32_t score_transport(const struct chain_match *m, const struct chain_conn *c)
{
    if (!m->transport.n)
        return 1;
    return sv_eq(m->transport, c->transport) ? 2 : 0;
}

static uint32_t score_alpn(const struct chain_match *m, const struct chain_conn *c)
{
    if (!m->n_alpn)
        return 1;
    for (uint32_t k = 0; k < c->n_alpn; k++)
        for (uint32_t i = 0; i < m->n_alpn; i++)
            if (sv_eq(m->alpn[i], c->alpn[k]))
                return UINT32_MAX - k; /* the client's first choice is the best */
    return 0;
}

static uint32_t score_direct(const struct chain_match *m, const struct chain_conn *c)
{
    return score_cidr(m->direct_src, m->n_direct_src, c->direct_remote);
}

static bool same_ip(const struct addr *a, const struct addr *b)
{
    struct addr x = *a, y = *b;
    if (a->sa.sa_family == AF_UNIX || b->sa.sa_family == AF_UNIX)
        return a->sa.sa_family == b->sa.sa_family;
    addr_set_port(&x, 0);
    addr_set_port(&y, 0);
    return addr_eq(&x, &y);
}

static uint32_t score_source(const struct chain_match *m, const struct chain_conn *c)
{
    if (m->source == CHAIN_SOURCE_ANY)
        return 1;
    bool local = addr_is_loopback(c->remote) || same_ip(c->remote, c->local);
    return local == (m->source == CHAIN_SOURCE_LOCAL) ? 2 : 0;
}

static uint32_t score_src(const struct chain_match *m, const struct chain_conn *c)
{
    return score_cidr(m->src, m->n_src, c->remote);
}

static uint32_t score_src_port(const struct chain_match *m, const struct chain_conn *c)
{
    if (!m->n_src_ports)
        return 1;
    for (uint32_t i = 0; i < m->n_src_ports; i++)
        if (m->src_ports[i] == addr_port(c->remote))
            return 2;
    return 0;
}

static const score_fn criteria[] = {score_port,      score_dst,  score_name,
                                    score_transport, score_alpn, score_direct,
                                    score_source,    score_src,  score_src_port};

/* Leaves the best of the n indices in v; returns how many. */
static uint32_t narrow(uint32_t *v, uint32_t n, const struct chain_match *const *m,
                       const struct chain_conn *c, score_fn score)
{
    uint32_t best = 0, kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t s = score(m[v[i]], c);
        if (s == 0 || s < best)
            continue;
        if (s > best) {
            best = s;
            kept = 0;
        }
        v[kept++] = v[i];
    }
    return kept;
}

int chain_match_find(const struct chain_match *const *m, uint32_t n, const struct chain_conn *c)
{
    uint32_t few[CHAINS_ON_STACK];
    uint32_t *v = n <= CHAINS_ON_STACK ? few : mem_array(uint32_t, n);
    uint32_t left = n;
    for (uint32_t i = 0; i < n; i++)
        v[i] = i;
    for (unsigned k = 0; k < sizeof criteria / sizeof criteria[0] && left; k++)
        left = narrow(v, left, m, c, criteria[k]);
    int found = left ? (int)v[0] : -1;
    if (v != few)
        free(v);
    return found;
}
