/* Subsets: a cluster's endpoints divided by their metadata ("envoy.lb"), as Envoy divides them.
 *
 *   selector {keys: [stage, version]}   every pair of values that some endpoint has is a subset
 *   a route's metadata_match            stage=prod, version=1.1: that subset, when exactly these
 *                                       keys are a selector's and some endpoint has the values
 *   else the fallback                   the selector's, if its keys are the match's; else the
 *                                       cluster's: none, any endpoint, the default subset
 *
 * A subset that exists is taken whatever the health of its endpoints is: health, priorities and
 * panic are looked at within it. Each has a balancer of its own with the cluster's policy, made
 * when it is first picked from.
 * Thread: worker (owning loop). */
#ifndef WEFT_UPSTREAM_LB_SUBSET_H
#define WEFT_UPSTREAM_LB_SUBSET_H

#include "upstream/lb/lb.h"

#define LB_SUBSET_MAX_KEYS 64

enum lb_subset_fallback {
    LB_FALLBACK_UNSAID, /* of selectors alone: the cluster's */
    LB_FALLBACK_NONE,
    LB_FALLBACK_ANY,
    LB_FALLBACK_DEFAULT,
    LB_FALLBACK_KEYS, /* of selectors alone: again, with fewer keys */
};

struct lb_subset_selector {
    const sv *keys; /* sorted, each once */
    uint32_t n_keys;
    bool single_host; /* the first endpoint that has the value is all of the subset */
    enum lb_subset_fallback fallback;
    const sv *fallback_keys; /* some of keys */
    uint32_t n_fallback_keys;
};

struct lb_subset_config {
    const struct lb_subset_selector *selectors;
    uint32_t n_selectors;
    enum lb_subset_fallback fallback;
    const struct google_Struct *default_subset; /* NULL, empty: every endpoint */
    bool locality_weight_aware, scale_locality_weight;
    bool panic_any;     /* any endpoint when the default subset has none */
    bool list_as_any;   /* an endpoint's list of values stands for each of them */
    bool fallback_list; /* the match's "fallback_list": matches that are tried in turn */
};

struct lb_subsets;
/* For `whole`, which outlives it. */
struct lb_subsets *lb_subsets_new(struct lb *whole);
void lb_subsets_free(struct lb_subsets *s); /* NULL is fine */
void lb_subsets_update(struct lb_subsets *s, const struct endpoint_table *t);
uint32_t lb_subsets_pick(struct lb_subsets *s, const struct lb_ask *ask);
uint32_t lb_subsets_count(const struct lb_subsets *s); /* without the default one */

#endif
