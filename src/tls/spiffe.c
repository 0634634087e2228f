#include "tls/spiffe.h"

#define MAX_URI 2048
#define MAX_TD  255

static const sv SCHEME = SV_INIT("spiffe://");

bool spiffe_trust_domain_ok(sv td)
{
    if (td.n == 0 || td.n > MAX_TD)
        return false;
    for (size_t i = 0; i < td.n; i++) {
        char c = td.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_'))
            return false;
    }
    return true;
}

bool spiffe_segment_ok(sv s)
{
    if (s.n == 0 || sv_eq(s, SV(".")) || sv_eq(s, SV("..")))
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '.' || c == '-' || c == '_'))
            return false;
    }
    return true;
}

static bool path_ok(sv path)
{
    while (path.n) {
        if (path.p[0] != '/')
            return false;
        path = sv_from(path, 1);
        ptrdiff_t end = sv_find(path, '/');
        if (!spiffe_segment_ok(end < 0 ? path : sv_first(path, (size_t)end)))
            return false;
        path = end < 0 ? sv_make(NULL, 0) : sv_from(path, (size_t)end);
    }
    return true;
}

int spiffe_parse(struct spiffe_id *id, sv text)
{
    if (text.n > MAX_URI || !sv_starts(text, SCHEME))
        return E_INVALID;
    sv rest = sv_from(text, SCHEME.n);
    ptrdiff_t slash = sv_find(rest, '/');
    sv td = slash < 0 ? rest : sv_first(rest, (size_t)slash);
    sv path = slash < 0 ? sv_make(NULL, 0) : sv_from(rest, (size_t)slash);
    if (!spiffe_trust_domain_ok(td) || !path_ok(path))
        return E_INVALID;
    *id = (struct spiffe_id){.trust_domain = td, .path = path};
    return 0;
}

int spiffe_parse_workload(struct spiffe_id *id, sv text)
{
    struct spiffe_id got;
    sv ns, rest;
    if (spiffe_parse(&got, text) || !sv_starts(got.path, SV("/ns/")))
        return E_INVALID;
    if (!sv_cut(sv_from(got.path, 4), '/', &ns, &rest) || !sv_starts(rest, SV("sa/")))
        return E_INVALID;
    sv sa = sv_from(rest, 3);
    if (sa.n == 0 || sv_find(sa, '/') >= 0)
        return E_INVALID;
    got.ns = ns;
    got.sa = sa;
    *id = got;
    return 0;
}

int spiffe_format(sv trust_domain, sv ns, sv sa, struct strbuf *out)
{
    if (!spiffe_trust_domain_ok(trust_domain) || !spiffe_segment_ok(ns) || !spiffe_segment_ok(sa) ||
        SCHEME.n + trust_domain.n + ns.n + sa.n + 8 > MAX_URI)
        return E_INVALID;
    strbuf_add_sv(out, SCHEME);
    strbuf_add_sv(out, trust_domain);
    strbuf_add_c(out, "/ns/");
    strbuf_add_sv(out, ns);
    strbuf_add_c(out, "/sa/");
    strbuf_add_sv(out, sa);
    return 0;
}
