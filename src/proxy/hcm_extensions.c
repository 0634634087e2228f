#include "proxy/hcm_extensions.h"

#include "api/envoy.pb.h"
#include "api/google.pb.h"
#include "proxy/hcm.h"
#include "proxy/hcm_headers.h"
#include "route/mutations.h"

#define EARLY  "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
#define XFF    "envoy.extensions.http.original_ip_detection.xff.v3.XffConfig"
#define HEADER "envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig"

/* ---- configuration ---- */

static sv type_of(const struct envoy_TypedExtensionConfig *e)
{
    return e->typed_config ? pb_any_type(e->typed_config->type_url) : (sv){NULL, 0};
}

static int unknown(const struct filter_ctx *x, const struct envoy_TypedExtensionConfig *e,
                   struct error *err)
{
    return error_set(err, E_UNSUPPORTED, "%s: '%.*s' (%.*s) is not supported", x->path,
                     SV_ARG(e->name), SV_ARG(type_of(e)));
}

int hcm_early_build(const struct filter_ctx *x, const struct envoy_TypedExtensionConfig *const *v,
                    uint32_t n, struct hcm_extensions *out, struct error *err)
{
    const struct header_mutations **list =
        arena_array(x->arena, const struct header_mutations *, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        const struct filter_ctx *at = filter_ctx_at(x, "early_header_mutation_extensions[%u]", i);
        const struct envoy_EarlyHeaderMutation *m;
        if (!sv_eq_c(type_of(v[i]), EARLY))
            return unknown(at, v[i], err);
        at = filter_ctx_at(at, "typed_config");
        int rc = filter_decode(at, &envoy_EarlyHeaderMutation_pb, v[i]->typed_config->value,
                               (const void **)&m, err);
        if (rc == 0 && !m->mutations.n)
            rc = error_set(err, E_INVALID, "%s: must not be empty", filter_path(at, "mutations"));
        if (rc == 0)
            rc = header_mutations_build(m->mutations.v, m->mutations.n,
                                        filter_path(at, "mutations"), x->arena, &list[i], err);
        if (rc < 0)
            return rc;
    }
    out->early = list;
    out->n_early = n;
    return 0;
}

static int build_xff(const struct filter_ctx *x, sv packed, struct hcm_detector *d,
                     struct error *err)
{
    const struct envoy_XffConfig *m;
    int rc = filter_decode(x, &envoy_XffConfig_pb, packed, (const void **)&m, err);
    if (rc < 0)
        return rc;
    d->hops = m->xff_num_trusted_hops;
    d->append = m->skip_xff_append && !m->skip_xff_append->value;
    if (!m->xff_trusted_cidrs)
        return 0;
    if (m->xff_num_trusted_hops)
        return error_set(err, E_INVALID,
                         "%s: xff_num_trusted_hops and xff_trusted_cidrs exclude each other",
                         x->path);
    uint32_t n = m->xff_trusted_cidrs->cidrs.n;
    struct cidr *v = arena_array(x->arena, struct cidr, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        const struct envoy_CidrRange *r = m->xff_trusted_cidrs->cidrs.v[i];
        if (cidr_make(&v[i], r->address_prefix, r->prefix_len ? r->prefix_len->value : 0) < 0)
            return error_set(err, E_INVALID, "%s: '%.*s' is no range",
                             filter_path(x, "xff_trusted_cidrs.cidrs[%u]", i),
                             SV_ARG(r->address_prefix));
    }
    d->kind = n ? HCM_DETECT_CIDRS : HCM_DETECT_HOPS;
    d->proxies = v;
    d->n_proxies = n;
    return 0;
}

static int build_header(const struct filter_ctx *x, sv packed, struct hcm_detector *d,
                        struct error *err)
{
    const struct envoy_CustomHeaderConfig *m;
    int rc = filter_decode(x, &envoy_CustomHeaderConfig_pb, packed, (const void **)&m, err);
    if (rc < 0)
        return rc;
    if (!http_name_valid(m->header_name))
        return error_set(err, E_INVALID, "%s: '%.*s' is no header name",
                         filter_path(x, "header_name"), SV_ARG(m->header_name));
    d->kind = HCM_DETECT_HEADER;
    d->header = http_name_to_lower(m->header_name, x->arena);
    d->trusted = m->allow_extension_to_set_address_as_trusted;
    if (m->reject_with_status) /* what is no refusal becomes one, as in Envoy */
        d->status = m->reject_with_status->code >= 400 && m->reject_with_status->code < 511
                        ? (uint16_t)m->reject_with_status->code
                        : 403;
    return 0;
}

int hcm_detectors_build(const struct filter_ctx *x,
                        const struct envoy_TypedExtensionConfig *const *v, uint32_t n,
                        struct hcm_extensions *out, struct error *err)
{
    struct hcm_detector *list = arena_array(x->arena, struct hcm_detector, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        const struct filter_ctx *at = filter_ctx_at(x, "original_ip_detection_extensions[%u]", i);
        sv type = type_of(v[i]);
        bool xff = sv_eq_c(type, XFF);
        if (!xff && !sv_eq_c(type, HEADER))
            return unknown(at, v[i], err);
        at = filter_ctx_at(at, "typed_config");
        int rc = (xff ? build_xff : build_header)(at, v[i]->typed_config->value, &list[i], err);
        if (rc < 0)
            return rc;
    }
    out->detectors = list;
    out->n_detectors = n;
    return 0;
}

/* ---- requests ---- */

void hcm_early_apply(struct hcm_stream *s, struct http_head *head)
{
    const struct hcm_extensions *e = &s->cfg->extensions;
    const struct substitution_ctx c = {.si = &s->si, .req = head};
    for (uint32_t i = 0; i < e->n_early; i++)
        header_mutations_apply(e->early[i], &head->h, &c, s->arena);
}

static bool is_proxy(const struct hcm_detector *d, const struct addr *a)
{
    for (uint32_t i = 0; i < d->n_proxies; i++)
        if (cidr_has(&d->proxies[i], a))
            return true;
    return false;
}

/* From the right: the first address that is no proxy, or the last one that is an address. */
static void by_proxies(const struct hcm_detector *d, const struct addr *peer, sv xff,
                       struct hcm_detected *out)
{
    struct addr a;
    bool single;
    if (!is_proxy(d, peer))
        return;
    for (uint32_t i = 0; hcm_xff_address(xff, i, &a, &single); i++) {
        out->addr = a;
        out->have = true;
        if (!is_proxy(d, &a))
            return;
    }
}

static void ask(const struct hcm_detector *d, const struct hcm_stream *s,
                const struct http_head *head, sv xff, struct hcm_detected *out)
{
    sv v;
    switch (d->kind) {
    case HCM_DETECT_HOPS:
        out->have = xff.p && hcm_xff_address(xff, d->hops, &out->addr, &out->may_be_internal);
        break;
    case HCM_DETECT_CIDRS:
        by_proxies(d, s->hc->nc->sc.remote_addr, xff, out);
        break;
    case HCM_DETECT_HEADER:
        v = http_headers_get_sv(&head->h, d->header);
        out->have = v.p && addr_ip(&out->addr, v, 0) == 0;
        out->may_be_internal = d->trusted;
        out->status = out->have ? 0 : d->status;
        break;
    }
    out->append = d->append;
}

void hcm_detect(struct hcm_stream *s, const struct http_head *head, sv xff,
                struct hcm_detected *out)
{
    const struct hcm_extensions *e = &s->cfg->extensions;
    for (uint32_t i = 0; i < e->n_detectors && !out->have && !out->status; i++) {
        *out = (struct hcm_detected){0};
        ask(&e->detectors[i], s, head, xff, out);
    }
}
