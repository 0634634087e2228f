/* outlier_detection: Envoy's defaults, and what its validation demands. */
#include "upstream/cluster_config_private.h"

#include "api/google.pb.h"

static int number(struct config_reader *r, const struct google_UInt32Value *v, const char *field,
                  uint32_t dflt, uint32_t max, uint32_t *out)
{
    *out = v ? v->value : dflt;
    if (*out > max)
        return config_invalid(r, "outlier_detection.%s: must be at most %u", field, max);
    return 0;
}

static int read_numbers(struct config_reader *r, const struct envoy_OutlierDetection *o,
                        struct outlier_config *c)
{
    const struct {
        const struct google_UInt32Value *v;
        const char *field;
        uint32_t dflt, max, *out;
    } all[] = {
#define N(field, dflt, member) {o->field, #field, dflt, UINT32_MAX, &c->member}
#define PERCENT(field, dflt, member)                                                               \
    {                                                                                              \
        o->field, #field, dflt, 100, &c->member                                                    \
    }
        N(consecutive_5xx, 5, consecutive_5xx),
        N(consecutive_gateway_failure, 5, consecutive_gateway),
        N(consecutive_local_origin_failure, 5, consecutive_local),
        N(success_rate_minimum_hosts, 5, sr_minimum_hosts),
        N(success_rate_request_volume, 100, sr_volume),
        N(success_rate_stdev_factor, 1900, sr_stdev_factor),
        N(failure_percentage_minimum_hosts, 5, fp_minimum_hosts),
        N(failure_percentage_request_volume, 50, fp_volume),
        PERCENT(failure_percentage_threshold, 85, fp_threshold),
        PERCENT(max_ejection_percent, 10, max_percent),
        PERCENT(enforcing_consecutive_5xx, 100, enforce_5xx),
        PERCENT(enforcing_consecutive_gateway_failure, 0, enforce_gateway),
        PERCENT(enforcing_consecutive_local_origin_failure, 100, enforce_local),
        PERCENT(enforcing_success_rate, 100, enforce_sr),
        PERCENT(enforcing_local_origin_success_rate, 100, enforce_sr_local),
        PERCENT(enforcing_failure_percentage, 0, enforce_fp),
        PERCENT(enforcing_failure_percentage_local_origin, 0, enforce_fp_local),
#undef N
#undef PERCENT
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        int rc = number(r, all[i].v, all[i].field, all[i].dflt, all[i].max, all[i].out);
        if (rc)
            return rc;
    }
    return 0;
}

static int read_times(struct config_reader *r, const struct envoy_OutlierDetection *o,
                      struct outlier_config *c)
{
    int rc = config_ms(r, o->interval, "outlier_detection.interval", 10000, &c->interval_ms);
    if (rc == 0)
        rc = config_ms(r, o->base_ejection_time, "outlier_detection.base_ejection_time", 30000,
                       &c->base_ms);
    if (rc == 0)
        rc = config_ms(r, o->max_ejection_time, "outlier_detection.max_ejection_time", 300000,
                       &c->max_ms);
    if (rc == 0)
        rc = config_ms(r, o->max_ejection_time_jitter, "outlier_detection.max_ejection_time_jitter",
                       0, &c->jitter_ms);
    if (rc)
        return rc;
    if (c->interval_ms == 0 || c->base_ms == 0)
        return config_invalid(r, "outlier_detection: interval and base_ejection_time must be more "
                                 "than 0");
    if (o->max_ejection_time && c->max_ms < c->base_ms)
        return config_invalid(r, "outlier_detection.max_ejection_time: must not be smaller than "
                                 "base_ejection_time");
    if (c->max_ms < c->base_ms)
        c->max_ms = c->base_ms;
    return 0;
}

/* One status: the header ":status" with an exact value. */
static int add_status(struct config_reader *r, const struct envoy_MatchPredicate *m)
{
    static const char field[] = "typed_extension_protocol_options: outlier_detection.error_matcher";
    const struct envoy_HttpHeadersMatch *hm =
        m->which_rule == envoy_MatchPredicate_http_response_headers_match_tag
            ? m->http_response_headers_match
            : NULL;
    const struct envoy_HeaderMatcher *h = hm && hm->headers.n == 1 ? hm->headers.v[0] : NULL;
    const struct envoy_StringMatcher *s =
        h && h->which_header_match_specifier == envoy_HeaderMatcher_string_match_tag
            ? h->string_match
            : NULL;
    uint64_t status;

    if (!s || h->invert_match || !sv_eq_c(h->name, ":status") ||
        s->which_match_pattern != envoy_StringMatcher_exact_tag)
        return config_refuse(r, "%s: anything but exact values of :status", field);
    if (sv_to_u64(s->exact, &status) || status < 100 || status > 599)
        return config_invalid(r, "%s: '%.*s' is no status", field, SV_ARG(s->exact));
    r->cfg->outlier.by_status = true;
    r->cfg->outlier.statuses[status / 64] |= 1ull << status % 64;
    return 0;
}

int config_read_error_matcher(struct config_reader *r, const struct envoy_MatchPredicate *m)
{
    int rc = 0;

    if (m->which_rule != envoy_MatchPredicate_or_match_tag)
        return add_status(r, m);
    for (uint32_t i = 0; i < m->or_match->rules.n && !rc; i++)
        rc = add_status(r, m->or_match->rules.v[i]);
    return rc;
}

int config_read_outlier(struct config_reader *r)
{
    const struct envoy_OutlierDetection *o = r->cfg->pb->outlier_detection;
    struct outlier_config *c = &r->cfg->outlier;
    if (!o)
        return 0;
    c->on = true;
    c->split_local = o->split_external_local_origin_errors;
    c->always_one = o->always_eject_one_host && o->always_eject_one_host->value;
    c->forgiven_by_health_check = !o->successful_active_health_check_uneject_host ||
                                  o->successful_active_health_check_uneject_host->value;
    int rc = read_numbers(r, o, c);
    return rc ? rc : read_times(r, o, c);
}
