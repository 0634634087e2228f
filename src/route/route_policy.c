/* What the router carries out beside forwarding: retries, mirrors, upgrades, internal redirects. */
#include "api/google.pb.h"
#include "route/route_int.h"

static const sv retry_words[] = {
#define X(id, text) SV_INIT(text),
    ROUTE_RETRY_ON(X)
#undef X
};

uint32_t route_retry_on_parse(sv list, sv *unknown)
{
    uint32_t bits = 0;
    if (unknown)
        *unknown = (sv){0};
    while (list.n) {
        sv word;
        sv_cut(list, ',', &word, &list);
        word = sv_trim(word);
        size_t i = 0, n = sizeof(retry_words) / sizeof(retry_words[0]);
        while (i < n && !sv_eq(retry_words[i], word))
            i++;
        if (i < n)
            bits |= 1u << i;
        else if (word.n && unknown && unknown->n == 0)
            *unknown = word;
    }
    return bits;
}

static int optional_ms(struct route_builder *b, const struct google_Duration *d, const char *field,
                       uint64_t *out)
{
    return d ? duration_ms(d, field, out, b->err) : 0;
}

static int build_codes(struct route_builder *b, const uint32_t *v, uint32_t n, const char *field,
                       const uint16_t **out)
{
    uint16_t *codes = arena_array(b->a, uint16_t, n);
    for (uint32_t i = 0; i < n; i++) {
        if (v[i] < 100 || v[i] > 599)
            return error_set(b->err, E_INVALID, "%s[%u]: %u is no HTTP status", field, i, v[i]);
        codes[i] = (uint16_t)v[i];
    }
    *out = codes;
    return 0;
}

#define OMIT_METADATA "envoy.extensions.retry.host.omit_host_metadata.v3.OmitHostMetadataConfig"

static int omit_metadata(struct route_builder *b, const struct google_Any *any,
                         struct route_retry_policy *p)
{
    void *x = NULL;
    struct pb_opts o = route_decode_opts(b);
    if (p->omit_hosts)
        return error_set(b->err, E_UNSUPPORTED, ": only one omit_host_metadata is supported");
    int rc = pb_any_unpack(any, &envoy_OmitHostMetadataConfig_pb, b->tmp, &o, &x, b->err);
    if (rc == 0)
        p->omit_hosts = route_copy(b, &envoy_Metadata_pb,
                                   ((struct envoy_OmitHostMetadataConfig *)x)->metadata_match);
    else
        error_prefix(b->err, ".typed_config: ");
    return rc;
}

static int build_predicates(struct route_builder *b, const struct envoy_RetryPolicy *m,
                            struct route_retry_policy *p)
{
    for (uint32_t i = 0; i < m->retry_host_predicate.n; i++) {
        const struct envoy_RetryPolicy_RetryHostPredicate *x = m->retry_host_predicate.v[i];
        sv type = x->typed_config ? pb_any_type(x->typed_config->type_url) : (sv){0};
        if (sv_eq(type,
                  SV("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate")) ||
            (!type.n && sv_eq(x->name, SV("envoy.retry_host_predicates.previous_hosts"))))
            p->host_predicates |= ROUTE_HOSTS_PREVIOUS;
        else if (sv_eq(type, SV("envoy.extensions.retry.host.omit_canary_hosts.v3."
                                "OmitCanaryHostsPredicate")) ||
                 (!type.n && sv_eq(x->name, SV("envoy.retry_host_predicates.omit_canary_hosts"))))
            p->host_predicates |= ROUTE_HOSTS_OMIT_CANARY;
        else if (sv_eq(type, SV(OMIT_METADATA))) {
            int rc = omit_metadata(b, x->typed_config, p);
            if (rc != 0) {
                error_prefix(b->err, ".retry_host_predicate[%u]", i);
                return rc;
            }
        } else
            return error_set(b->err, E_UNSUPPORTED,
                             ".retry_host_predicate[%u]: '%.*s' (%.*s) is not supported", i,
                             SV_ARG(x->name), SV_ARG(type));
    }
    return 0;
}

static int build_priority(struct route_builder *b, const struct envoy_RetryPolicy_RetryPriority *m,
                          struct route_retry_policy *p)
{
    if (!m)
        return 0;
    void *x = NULL;
    int rc = m->typed_config
                 ? pb_any_unpack(m->typed_config, &envoy_PreviousPrioritiesConfig_pb, b->tmp, NULL,
                                 &x, b->err)
                 : error_set(b->err, E_UNSUPPORTED, "'%.*s' has no typed_config", SV_ARG(m->name));
    if (rc != 0) {
        error_prefix(b->err, ".retry_priority: ");
        return rc;
    }
    const struct envoy_PreviousPrioritiesConfig *c = x;
    if (c->update_frequency <= 0)
        return error_set(b->err, E_INVALID,
                         ".retry_priority.typed_config.update_frequency: must be positive");
    p->priority_update = (uint32_t)c->update_frequency;
    return 0;
}

static int build_backoff(struct route_builder *b, const struct envoy_RetryPolicy_RetryBackOff *m,
                         struct route_retry_policy *p)
{
    p->backoff_base_ms = 25;
    p->backoff_max_ms = 250;
    if (!m)
        return 0;
    if (!m->base_interval)
        return error_set(b->err, E_INVALID, ".retry_back_off.base_interval: must be set");
    int rc =
        duration_ms(m->base_interval, ".retry_back_off.base_interval", &p->backoff_base_ms, b->err);
    if (rc == 0 && p->backoff_base_ms == 0)
        rc = error_set(b->err, E_INVALID, ".retry_back_off.base_interval: must be positive");
    p->backoff_max_ms = p->backoff_base_ms * 10;
    if (rc == 0)
        rc = optional_ms(b, m->max_interval, ".retry_back_off.max_interval", &p->backoff_max_ms);
    if (rc == 0 && p->backoff_max_ms < p->backoff_base_ms)
        rc = error_set(b->err, E_INVALID,
                       ".retry_back_off.max_interval: must not be less than base_interval");
    return rc;
}

static int build_rate_limited(struct route_builder *b,
                              const struct envoy_RetryPolicy_RateLimitedRetryBackOff *m,
                              struct route_retry_policy *p)
{
    p->reset_max_ms = 300000;
    if (!m)
        return 0;
    if (m->reset_headers.n == 0)
        return error_set(b->err, E_INVALID,
                         ".rate_limited_retry_back_off.reset_headers: must not be empty");
    struct route_reset_header *v = arena_array(b->a, struct route_reset_header, m->reset_headers.n);
    for (uint32_t i = 0; i < m->reset_headers.n; i++) {
        const struct envoy_RetryPolicy_ResetHeader *h = m->reset_headers.v[i];
        char *name = arena_cstr(b->a, h->name);
        for (char *c = name; *c; c++)
            if (*c >= 'A' && *c <= 'Z')
                *c = (char)(*c + 32);
        if (!http_name_valid(h->name))
            return error_set(b->err, E_INVALID,
                             ".rate_limited_retry_back_off.reset_headers[%u].name: '%.*s' is no "
                             "header name",
                             i, SV_ARG(h->name));
        v[i].name = sv_make(name, h->name.n);
        v[i].unix_time = h->format == envoy_RetryPolicy_UNIX_TIMESTAMP;
    }
    p->reset_headers = v;
    p->n_reset_headers = m->reset_headers.n;
    return optional_ms(b, m->max_interval, ".rate_limited_retry_back_off.max_interval",
                       &p->reset_max_ms);
}

static int build_retry(struct route_builder *b, const struct envoy_RetryPolicy *m,
                       struct route_retry_policy *p)
{
    sv unknown;
    p->retry_on = route_retry_on_parse(m->retry_on, &unknown);
    if (unknown.n)
        return error_set(b->err, E_UNSUPPORTED, ".retry_on: '%.*s' is not known", SV_ARG(unknown));
    p->has_num_retries = m->num_retries != NULL;
    p->num_retries = m->num_retries ? m->num_retries->value : 1;
    int rc = optional_ms(b, m->per_try_timeout, ".per_try_timeout", &p->per_try_timeout_ms);
    if (rc == 0)
        rc = optional_ms(b, m->per_try_idle_timeout, ".per_try_idle_timeout",
                         &p->per_try_idle_timeout_ms);
    if (rc == 0)
        rc = build_codes(b, m->retriable_status_codes.v, m->retriable_status_codes.n,
                         ".retriable_status_codes", &p->codes);
    p->n_codes = m->retriable_status_codes.n;
    if (rc == 0)
        rc = route_build_headers(b, m->retriable_headers.v, m->retriable_headers.n,
                                 "retriable_headers", &p->headers);
    p->n_headers = m->retriable_headers.n;
    if (rc == 0)
        rc = route_build_headers(b, m->retriable_request_headers.v, m->retriable_request_headers.n,
                                 "retriable_request_headers", &p->request_headers);
    p->n_request_headers = m->retriable_request_headers.n;
    if (rc == 0)
        rc = build_predicates(b, m, p);
    if (rc == 0)
        rc = build_priority(b, m->retry_priority, p);
    if (rc == 0)
        rc = build_backoff(b, m->retry_back_off, p);
    if (rc == 0)
        rc = build_rate_limited(b, m->rate_limited_retry_back_off, p);
    p->host_attempts = m->host_selection_retry_max_attempts > 0
                           ? (uint32_t)m->host_selection_retry_max_attempts
                           : 1;
    return rc;
}

int route_retry_build(struct route_builder *b, const struct envoy_RetryPolicy *m,
                      const struct route_retry_policy **out)
{
    *out = NULL;
    if (!m)
        return 0;
    struct route_retry_policy *p = arena_new(b->a, struct route_retry_policy);
    int rc = build_retry(b, m, p);
    if (rc != 0)
        error_prefix(b->err, ".retry_policy");
    else
        *out = p;
    return rc;
}

int route_hedge_build(struct route_builder *b, const struct envoy_HedgePolicy *m, bool *out)
{
    *out = b->defaults.hedge;
    if (!m)
        return 0;
    *out = m->hedge_on_per_try_timeout;
    if (m->initial_requests && m->initial_requests->value != 1)
        return error_set(b->err, E_UNSUPPORTED,
                         ".hedge_policy.initial_requests: only 1 is supported");
    if (m->additional_request_chance && m->additional_request_chance->numerator != 0)
        return error_set(b->err, E_UNSUPPORTED,
                         ".hedge_policy.additional_request_chance: is not supported");
    return 0;
}

/* ---- mirrors ---- */

static int build_mirror(struct route_builder *b,
                        const struct envoy_RouteAction_RequestMirrorPolicy *m,
                        struct route_mirror *out)
{
    if ((m->cluster.n != 0) == (m->cluster_header.n != 0))
        return error_set(b->err, E_INVALID, ": one of cluster, cluster_header must be set");
    out->cluster = m->cluster;
    out->cluster_header = m->cluster_header;
    out->keep_host = m->disable_shadow_host_suffix_append;
    out->host_rewrite = m->host_rewrite_literal;
    out->trace_sampled = m->trace_sampled ? m->trace_sampled->value : -1;
    if (m->runtime_fraction && m->runtime_fraction->default_value) {
        out->has_fraction = true;
        int rc = fraction_build(m->runtime_fraction->default_value,
                                ".runtime_fraction.default_value", &out->fraction, b->err);
        if (rc != 0)
            return rc;
        out->fraction.live = runtime_key(b->h->opts.runtime, m->runtime_fraction->runtime_key);
    }
    if (m->cluster_header.n && !http_name_valid(m->cluster_header))
        return error_set(b->err, E_INVALID, ".cluster_header: '%.*s' is no header name",
                         SV_ARG(m->cluster_header));
    return m->cluster.n ? route_cluster_check(b, m->cluster, ".cluster") : 0;
}

int route_mirrors_build(struct route_builder *b,
                        const struct envoy_RouteAction_RequestMirrorPolicy *const *v, uint32_t n,
                        const struct route_mirror **out)
{
    *out = NULL;
    if (n == 0)
        return 0;
    struct route_mirror *mirrors = arena_array(b->a, struct route_mirror, n);
    for (uint32_t i = 0; i < n; i++) {
        int rc = build_mirror(b, v[i], &mirrors[i]);
        if (rc != 0) {
            error_prefix(b->err, ".request_mirror_policies[%u]", i);
            return rc;
        }
    }
    *out = mirrors;
    return 0;
}

/* ---- upgrades ---- */

static int build_upgrade(struct route_builder *b, const struct envoy_RouteAction_UpgradeConfig *m,
                         struct route_upgrade *u)
{
    u->type = m->upgrade_type;
    u->enabled = !m->enabled || m->enabled->value;
    if (!http_name_valid(m->upgrade_type))
        return error_set(b->err, E_INVALID, ".upgrade_type: '%.*s' is no protocol name",
                         SV_ARG(m->upgrade_type));
    if (!m->connect_config)
        return 0;
    if (!sv_eq_icase(m->upgrade_type, SV("CONNECT")))
        return error_set(b->err, E_INVALID,
                         ".connect_config: only means something with upgrade_type CONNECT");
    u->connect = true;
    u->connect_allow_post = m->connect_config->allow_post;
    if (m->connect_config->proxy_protocol_config)
        u->connect_proxy_protocol =
            (uint8_t)(m->connect_config->proxy_protocol_config->version + 1);
    return 0;
}

int route_upgrades_build(struct route_builder *b, const struct envoy_RouteAction *m,
                         struct route *out)
{
    uint32_t n = m->upgrade_configs.n;
    struct route_upgrade *v = arena_array(b->a, struct route_upgrade, n);
    for (uint32_t i = 0; i < n; i++) {
        int rc = build_upgrade(b, m->upgrade_configs.v[i], &v[i]);
        for (uint32_t k = 0; rc == 0 && k < i; k++)
            if (sv_eq_icase(v[k].type, v[i].type))
                rc = error_set(b->err, E_INVALID, ".upgrade_type: '%.*s' is there twice",
                               SV_ARG(v[i].type));
        if (rc != 0) {
            error_prefix(b->err, ".upgrade_configs[%u]", i);
            return rc;
        }
    }
    out->upgrades = v;
    out->n_upgrades = n;
    return 0;
}

int route_upgrade_allowed(const struct route *r, sv type, const struct route_upgrade **u)
{
    for (uint32_t i = 0; i < r->n_upgrades; i++) {
        if (!sv_eq_icase(r->upgrades[i].type, type))
            continue;
        if (u)
            *u = &r->upgrades[i];
        return r->upgrades[i].enabled;
    }
    return -1;
}
