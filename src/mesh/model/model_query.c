#include "mesh/model/model.h"

#include <stdio.h>

const struct model_service *model_service_find(const struct model *m, sv host)
{
    return map_get(&m->services, host);
}

sv model_host_resolve(const struct model *m, sv name, sv ns, struct arena *a)
{
    sv full;

    if (!name.n || name.p[0] == '*')
        return name;
    if (sv_find(name, '.') < 0)
        return arena_printf(a, "%.*s.%.*s.svc.%.*s", SV_ARG(name), SV_ARG(ns),
                            SV_ARG(m->domain_suffix));
    if (map_has(&m->services, name))
        return name;
    /* "flaskapp.books" and "flaskapp.books.svc" when that is a service of the mesh. */
    full = sv_ends(name, SV(".svc"))
               ? arena_printf(a, "%.*s.%.*s", SV_ARG(name), SV_ARG(m->domain_suffix))
               : arena_printf(a, "%.*s.svc.%.*s", SV_ARG(name), SV_ARG(m->domain_suffix));
    return map_has(&m->services, full) ? full : name;
}

const struct model_endpoints *model_endpoints_find(const struct model *m, sv host, uint16_t port)
{
    char key[320];
    int n = snprintf(key, sizeof key, "%.*s|%u", SV_ARG(host), port);
    return n < 0 || (size_t)n >= sizeof key ? NULL
                                            : map_get(&m->endpoints, sv_make(key, (size_t)n));
}

bool model_exported_to(const sv *export_to, uint32_t n, sv object_ns, sv viewer_ns)
{
    if (!n)
        return true;
    for (uint32_t i = 0; i < n; i++) {
        if (sv_eq_c(export_to[i], "*") || sv_eq(export_to[i], viewer_ns) ||
            (sv_eq_c(export_to[i], ".") && sv_eq(object_ns, viewer_ns)))
            return true;
    }
    return false;
}

bool model_wildcard_matches(sv pattern, sv host)
{
    return pattern.n && pattern.p[0] == '*' && host.n >= pattern.n &&
           sv_ends(host, sv_from(pattern, 1));
}

bool model_for_mesh(const sv *gateways, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (sv_eq_c(gateways[i], "mesh"))
            return true;
    }
    return !n;
}
