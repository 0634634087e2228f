/* Between the parts of cluster_config. Each reader fills its part of c->cfg and returns 0 or an
 * error whose sentence begins with "cluster 'NAME': field". Thread: any. */
#ifndef WEFT_UPSTREAM_CLUSTER_CONFIG_PRIVATE_H
#define WEFT_UPSTREAM_CLUSTER_CONFIG_PRIVATE_H

#include "upstream/cluster_config.h"

struct config_reader {
    struct cluster_config *cfg;
    const struct pb_opts *fields;
    struct error *err;
};

int config_read_lb(struct config_reader *r) MUST_CHECK;
int config_read_subsets(struct config_reader *r) MUST_CHECK;
/* The same said by the extension, but for the policy in it. */
int config_read_subset_policy(struct config_reader *r, const struct envoy_Subset *m,
                              const char *field) MUST_CHECK;
int config_read_http(struct config_reader *r) MUST_CHECK;
int config_read_transports(struct config_reader *r) MUST_CHECK;
/* Which answers are errors: exact values of :status, one or any of several. */
int config_read_error_matcher(struct config_reader *r,
                              const struct envoy_MatchPredicate *m) MUST_CHECK;
int config_read_outlier(struct config_reader *r) MUST_CHECK;
int config_read_health(struct config_reader *r) MUST_CHECK;

/* "cluster 'x': " + the sentence. E_INVALID / E_UNSUPPORTED. */
int config_invalid(struct config_reader *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
int config_refuse(struct config_reader *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* A duration in ms, `dflt` when absent. Negative ones are invalid. Parts of a ms round up. */
int config_ms(struct config_reader *r, const struct google_Duration *d, const char *field,
              uint64_t dflt, uint64_t *out) MUST_CHECK;
/* Any -> message of one type, with the field in the error. */
int config_any(struct config_reader *r, const struct google_Any *any, const struct pb_message *m,
               const char *field, void *out) MUST_CHECK;

#endif
