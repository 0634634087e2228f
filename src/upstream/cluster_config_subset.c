/* lb_subset_config, and the extension that says the same. */
#include "upstream/cluster_config_private.h"

#include <stdlib.h>
#include "api/google.pb.h"
#include "upstream/lb/subset.h"

/* One selector of either form. */
struct selector_text {
    const sv *keys, *fallback_keys;
    uint32_t n_keys, n_fallback_keys;
    int32_t fallback;
    bool single_host;
};

static int key_cmp(const void *a, const void *b)
{
    const sv *x = a, *y = b;
    return sv_cmp(*x, *y);
}

/* Sorted, each once. */
static const sv *key_set(struct config_reader *r, const sv *in, uint32_t *n)
{
    sv *out = arena_array(&r->cfg->arena, sv, *n + 1);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < *n; i++)
        out[i] = in[i];
    qsort(out, *n, sizeof *out, key_cmp);
    for (uint32_t i = 0; i < *n; i++)
        if (kept == 0 || !sv_eq(out[kept - 1], out[i]))
            out[kept++] = out[i];
    *n = kept;
    return out;
}

static int read_selector(struct config_reader *r, const struct selector_text *t, const char *f,
                         struct lb_subset_selector *out)
{
    if (t->fallback < 0 || t->fallback > (int32_t)LB_FALLBACK_KEYS)
        return config_invalid(r, "%s.fallback_policy: %d is unknown", f, t->fallback);
    *out = (struct lb_subset_selector){.n_keys = t->n_keys,
                                       .single_host = t->single_host,
                                       .fallback = (enum lb_subset_fallback)t->fallback,
                                       .n_fallback_keys = t->n_fallback_keys};
    if (t->n_keys > LB_SUBSET_MAX_KEYS)
        return config_invalid(r, "%s.keys: at most %d", f, LB_SUBSET_MAX_KEYS);
    out->keys = key_set(r, t->keys, &out->n_keys);
    out->fallback_keys = key_set(r, t->fallback_keys, &out->n_fallback_keys);
    if (t->single_host && (t->n_keys != 1 || !t->keys[0].n))
        return config_invalid(r, "%s.single_host_per_subset: needs exactly one key", f);
    if (out->fallback != LB_FALLBACK_KEYS)
        return 0;
    if (!out->n_fallback_keys)
        return config_invalid(r, "%s.fallback_keys_subset: KEYS_SUBSET needs keys", f);
    for (uint32_t i = 0; i < out->n_fallback_keys; i++)
        if (!sv_in(out->fallback_keys[i], out->keys, out->n_keys))
            return config_invalid(r, "%s.fallback_keys_subset: '%.*s' is not among keys", f,
                                  SV_ARG(out->fallback_keys[i]));
    if (out->n_fallback_keys == out->n_keys)
        return config_invalid(r, "%s.fallback_keys_subset: must have fewer keys than keys", f);
    return 0;
}

static int read_fallback(struct config_reader *r, int32_t policy, const char *f,
                         enum lb_subset_fallback *out)
{
    static const enum lb_subset_fallback of[] = {LB_FALLBACK_NONE, LB_FALLBACK_ANY,
                                                 LB_FALLBACK_DEFAULT};
    if (policy < 0 || policy > 2)
        return config_invalid(r, "%s.fallback_policy: %d is unknown", f, policy);
    *out = of[policy];
    return 0;
}

/* The two forms have the same fields under other types. */
#define READ_SUBSETS(r, m, f)                                                                      \
    ({                                                                                             \
        struct lb_subset_config *c_ = arena_new(&(r)->cfg->arena, struct lb_subset_config);        \
        struct lb_subset_selector *v_ =                                                            \
            arena_array(&(r)->cfg->arena, struct lb_subset_selector, (m)->subset_selectors.n + 1); \
        int rc_ = read_fallback(r, (int32_t)(m)->fallback_policy, f, &c_->fallback);               \
        c_->default_subset = (m)->default_subset;                                                  \
        c_->locality_weight_aware = (m)->locality_weight_aware;                                    \
        c_->scale_locality_weight = (m)->scale_locality_weight;                                    \
        c_->panic_any = (m)->panic_mode_any;                                                       \
        c_->list_as_any = (m)->list_as_any;                                                        \
        c_->fallback_list = (m)->metadata_fallback_policy == 1;                                    \
        c_->selectors = v_;                                                                        \
        c_->n_selectors = (m)->subset_selectors.n;                                                 \
        for (uint32_t i_ = 0; i_ < c_->n_selectors && rc_ == 0; i_++) {                            \
            const struct selector_text t_ = {                                                      \
                .keys = (m)->subset_selectors.v[i_]->keys.v,                                       \
                .n_keys = (m)->subset_selectors.v[i_]->keys.n,                                     \
                .fallback_keys = (m)->subset_selectors.v[i_]->fallback_keys_subset.v,              \
                .n_fallback_keys = (m)->subset_selectors.v[i_]->fallback_keys_subset.n,            \
                .fallback = (int32_t)(m)->subset_selectors.v[i_]->fallback_policy,                 \
                .single_host = (m)->subset_selectors.v[i_]->single_host_per_subset};               \
            rc_ = read_selector(                                                                   \
                r, &t_, arena_printf(&(r)->cfg->arena, "%s.subset_selectors[%u]", f, i_).p,        \
                &v_[i_]);                                                                          \
        }                                                                                          \
        /* Without selectors endpoints are not divided, and matches say nothing. */                \
        (r)->cfg->lb.subsets = c_->n_selectors ? c_ : NULL;                                        \
        rc_;                                                                                       \
    })

int config_read_subsets(struct config_reader *r)
{
    const struct envoy_Cluster_LbSubsetConfig *m = r->cfg->pb->lb_subset_config;
    if (!m)
        return 0;
    if (r->cfg->type == CLUSTER_ORIGINAL_DST)
        return config_invalid(r, "lb_subset_config: not with lb_policy CLUSTER_PROVIDED");
    return READ_SUBSETS(r, m, "lb_subset_config");
}

int config_read_subset_policy(struct config_reader *r, const struct envoy_Subset *m, const char *f)
{
    if (m->allow_redundant_keys)
        return config_refuse(r, "%s.allow_redundant_keys", f);
    return READ_SUBSETS(r, m, f);
}
