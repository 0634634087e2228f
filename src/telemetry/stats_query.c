/* The query string of /stats. */
#include <stdlib.h>
#include "api/regex.h"
#include "base/mem.h"
#include "telemetry/stats.h"

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* %-decoding into malloc'd memory; what is no escape stays as it is. */
static sv decode(sv v)
{
    char *p = mem_alloc(v.n + 1);
    size_t n = 0;
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] == '%' && i + 2 < v.n && hex(v.p[i + 1]) >= 0 && hex(v.p[i + 2]) >= 0) {
            p[n++] = (char)(hex(v.p[i + 1]) << 4 | hex(v.p[i + 2]));
            i += 2;
        } else {
            p[n++] = v.p[i];
        }
    }
    return sv_make(p, n);
}

static int set_format(struct stats_query *q, sv v, struct error *err)
{
    if (sv_eq(v, SV("json")))
        q->format = STATS_FORMAT_JSON;
    else if (sv_eq(v, SV("prometheus")))
        q->format = STATS_FORMAT_PROMETHEUS;
    else if (sv_eq(v, SV("openmetrics")))
        q->format = STATS_FORMAT_OPENMETRICS;
    else if (sv_eq(v, SV("text")))
        q->format = STATS_FORMAT_TEXT;
    else
        return error_set(err, E_INVALID,
                         "usage: /stats?format=(json|prometheus|openmetrics|text)\n");
    return 0;
}

static int set_buckets(struct stats_query *q, sv v, struct error *err)
{
    if (v.n == 0 || sv_eq(v, SV("summary")))
        q->buckets = STATS_BUCKETS_SUMMARY;
    else if (sv_eq(v, SV("cumulative")))
        q->buckets = STATS_BUCKETS_CUMULATIVE;
    else if (sv_eq(v, SV("disjoint")))
        q->buckets = STATS_BUCKETS_DISJOINT;
    else if (sv_eq(v, SV("none")))
        q->buckets = STATS_BUCKETS_NONE;
    else
        return error_set(err, E_INVALID,
                         "usage: /stats?histogram_buckets=(cumulative|disjoint|none|summary)\n");
    return 0;
}

static int set_type(struct stats_query *q, sv v, struct error *err)
{
    static const struct {
        sv name;
        enum stat_kind kind;
    } types[] = {
        {SV_INIT("Counters"), STAT_COUNTER},
        {SV_INIT("Gauges"), STAT_GAUGE},
        {SV_INIT("Histograms"), STAT_HISTOGRAM},
        {SV_INIT("TextReadouts"), STAT_TEXT},
    };
    if (sv_eq(v, SV("All")))
        return 0;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (!sv_eq(v, types[i].name))
            continue;
        q->all_kinds = false;
        q->kind = types[i].kind;
        return 0;
    }
    return error_set(err, E_INVALID, "invalid &type= param");
}

static int set_filter(struct stats_query *q, sv v, struct error *err)
{
    if (q->filter || v.n == 0)
        return 0;
    sv pattern = decode(v);
    struct regex *r = NULL;
    struct error why = {0};
    int rc = regex_new(pattern, 0, &r, &why);
    if (rc != 0) {
        error_set(err, E_INVALID, "Invalid re2 regex: %s", why.msg);
        free((char *)(uintptr_t)pattern.p);
        return E_INVALID;
    }
    q->filter = r;
    q->filter_text = pattern;
    return 0;
}

static int set_param(struct stats_query *q, sv name, sv value, struct error *err)
{
    if (sv_eq(name, SV("format")))
        return set_format(q, value, err);
    if (sv_eq(name, SV("histogram_buckets")))
        return set_buckets(q, value, err);
    if (sv_eq(name, SV("type")))
        return set_type(q, value, err);
    if (sv_eq(name, SV("filter")))
        return set_filter(q, value, err);
    if (sv_eq(name, SV("usedonly")))
        q->used_only = true;
    else if (sv_eq(name, SV("text_readouts")))
        q->text_readouts = true;
    else if (sv_eq(name, SV("pretty")))
        q->pretty = true;
    return 0; /* others are ignored, as Envoy does */
}

int stats_query_parse(sv path_and_query, struct stats_query *q, struct error *err)
{
    struct stats_query parsed = {.all_kinds = true};
    sv path, rest;
    sv_cut(path_and_query, '?', &path, &rest);
    if (sv_ends(path, SV("/prometheus")))
        parsed.format = STATS_FORMAT_PROMETHEUS;
    while (rest.n) {
        sv one, name, value;
        sv_cut(rest, '&', &one, &rest);
        sv_cut(one, '=', &name, &value);
        int rc = set_param(&parsed, name, value, err);
        if (rc != 0) {
            stats_query_fini(&parsed);
            return rc;
        }
    }
    *q = parsed;
    return 0;
}

void stats_query_fini(struct stats_query *q)
{
    regex_free((struct regex *)(uintptr_t)q->filter);
    free((char *)(uintptr_t)q->filter_text.p);
    *q = (struct stats_query){.all_kinds = true};
}

sv stats_content_type(const struct stats_query *q)
{
    switch (q->format) {
    case STATS_FORMAT_JSON:
        return SV("application/json");
    case STATS_FORMAT_OPENMETRICS:
        return SV("application/openmetrics-text; version=1.0.0; charset=utf-8");
    default:
        return SV("text/plain; charset=UTF-8");
    }
}
