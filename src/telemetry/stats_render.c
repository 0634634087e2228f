/* The pages of /stats: text and JSON, in Envoy's shapes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "telemetry/stats_view.h"

static const double quantiles[] = {0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1};
static const char *const quantile_names[] = {"0",  "25", "50",   "75",   "90",
                                             "95", "99", "99.5", "99.9", "100"};
#define QUANTILES (sizeof(quantiles) / sizeof(quantiles[0]))

/* Counts at the bounds: of all samples up to it, or of those between it and the one before. */
static void below(const struct stats *s, const struct hist_bins *b, bool disjoint, uint32_t i,
                  uint64_t *n)
{
    *n = hist_below(b, s->bounds[i]);
    if (disjoint && i)
        *n -= hist_below(b, s->bounds[i - 1]);
}

static void text_buckets(const struct stats *s, const struct stats_query *q,
                         const struct hist_bins *interval, const struct hist_bins *all,
                         struct strbuf *out)
{
    bool disjoint = q->buckets == STATS_BUCKETS_DISJOINT;
    for (uint32_t i = 0; i < s->n_bounds; i++) {
        uint64_t a, b;
        below(s, interval, disjoint, i, &a);
        below(s, all, disjoint, i, &b);
        strbuf_addf(out, "%sB%g(%llu,%llu)", i ? " " : "", s->bounds[i], (unsigned long long)a,
                    (unsigned long long)b);
    }
}

static void text_quantiles(const struct hist_bins *interval, const struct hist_bins *all,
                           struct strbuf *out)
{
    for (size_t i = 0; i < QUANTILES; i++) {
        strbuf_addf(out, "%sP%s(", i ? " " : "", quantile_names[i]);
        strbuf_add_double(out, hist_quantile(interval, quantiles[i]));
        strbuf_add_ch(out, ',');
        strbuf_add_double(out, hist_quantile(all, quantiles[i]));
        strbuf_add_ch(out, ')');
    }
}

static void text_histogram(const struct stats_view *v, const struct stats_query *q,
                           const struct stats_entry *e, struct strbuf *out)
{
    strbuf_add_sv(out, e->name);
    strbuf_add_c(out, ": ");
    if (!e->hist) {
        strbuf_add_c(out, "No recorded values\n");
        return;
    }
    struct hist_bins all;
    hist_read(e->hist, &all);
    if (q->buckets == STATS_BUCKETS_SUMMARY)
        text_quantiles(&e->hist->interval, &all, out);
    else
        text_buckets(v->stats, q, &e->hist->interval, &all, out);
    strbuf_add_ch(out, '\n');
    hist_bins_free(&all);
}

static void render_text(const struct stats_view *v, const struct stats_query *q, struct strbuf *out)
{
    for (uint32_t i = 0; i < v->n; i++)
        if (v->v[i].kind == STAT_TEXT)
            strbuf_addf(out, "%.*s: \"%.*s\"\n", SV_ARG(v->v[i].name), SV_ARG(v->v[i].text));
    for (uint32_t i = 0; i < v->n; i++) {
        const struct stats_entry *e = &v->v[i];
        if (e->kind == STAT_COUNTER || e->kind == STAT_GAUGE)
            strbuf_addf(out, "%.*s: %llu\n", SV_ARG(e->name), (unsigned long long)e->value);
    }
    for (uint32_t i = 0; q->buckets != STATS_BUCKETS_NONE && i < v->n; i++)
        if (v->v[i].kind == STAT_HISTOGRAM)
            text_histogram(v, q, &v->v[i], out);
}

/* ---- JSON ---- */

static void json_number(struct strbuf *out, double d)
{
    if (isnan(d))
        strbuf_add_c(out, "null");
    else
        strbuf_add_double(out, d);
}

static void json_quantiles(const struct hist_bins *interval, const struct hist_bins *all,
                           struct strbuf *out)
{
    strbuf_add_c(out, ",\"values\":[");
    for (size_t i = 0; i < QUANTILES; i++) {
        strbuf_add_c(out, i ? ",{\"cumulative\":" : "{\"cumulative\":");
        json_number(out, hist_quantile(all, quantiles[i]));
        strbuf_add_c(out, ",\"interval\":");
        json_number(out, hist_quantile(interval, quantiles[i]));
        strbuf_add_ch(out, '}');
    }
    strbuf_add_ch(out, ']');
}

static void json_buckets(const struct stats *s, const struct stats_query *q,
                         const struct hist_bins *interval, const struct hist_bins *all,
                         struct strbuf *out)
{
    bool disjoint = q->buckets == STATS_BUCKETS_DISJOINT;
    strbuf_add_c(out, ",\"buckets\":[");
    for (uint32_t i = 0; i < s->n_bounds; i++) {
        uint64_t a, b;
        below(s, interval, disjoint, i, &a);
        below(s, all, disjoint, i, &b);
        strbuf_add_c(out, i ? ",{\"upper_bound\":" : "{\"upper_bound\":");
        strbuf_add_double(out, s->bounds[i]);
        strbuf_addf(out, ",\"interval\":%llu,\"cumulative\":%llu}", (unsigned long long)a,
                    (unsigned long long)b);
    }
    strbuf_add_ch(out, ']');
}

static void json_histogram(const struct stats_view *v, const struct stats_query *q,
                           const struct stats_entry *e, struct strbuf *out)
{
    static const struct hist_bins none;
    struct hist_bins all = {0};
    if (e->hist)
        hist_read(e->hist, &all);
    const struct hist_bins *interval = e->hist ? &e->hist->interval : &none;
    strbuf_add_c(out, "{\"name\":");
    strbuf_add_json(out, e->name);
    if (q->buckets == STATS_BUCKETS_SUMMARY)
        json_quantiles(interval, &all, out);
    else
        json_buckets(v->stats, q, interval, &all, out);
    strbuf_add_ch(out, '}');
    hist_bins_free(&all);
}

static void json_histograms(const struct stats_view *v, const struct stats_query *q, bool *any,
                            struct strbuf *out)
{
    bool first = true;
    for (uint32_t i = 0; i < v->n; i++) {
        if (v->v[i].kind != STAT_HISTOGRAM)
            continue;
        if (first) {
            strbuf_add_c(out, *any ? ",{\"histograms\":" : "{\"histograms\":");
            if (q->buckets == STATS_BUCKETS_SUMMARY) {
                strbuf_add_c(out, "{\"supported_quantiles\":[");
                for (size_t k = 0; k < QUANTILES; k++)
                    strbuf_addf(out, "%s%s", k ? "," : "", quantile_names[k]);
                strbuf_add_c(out, "],\"computed_quantiles\":[");
            } else {
                strbuf_add_ch(out, '[');
            }
        } else {
            strbuf_add_ch(out, ',');
        }
        first = false;
        json_histogram(v, q, &v->v[i], out);
    }
    if (!first)
        strbuf_add_c(out, q->buckets == STATS_BUCKETS_SUMMARY ? "]}}" : "]}");
    *any = *any || !first;
}

static void json_value(const struct stats_entry *e, bool *any, struct strbuf *out)
{
    strbuf_add_c(out, *any ? ",{\"name\":" : "{\"name\":");
    strbuf_add_json(out, e->name);
    strbuf_add_c(out, ",\"value\":");
    if (e->kind == STAT_TEXT)
        strbuf_add_json(out, e->text);
    else
        strbuf_addf(out, "%llu", (unsigned long long)e->value);
    strbuf_add_ch(out, '}');
    *any = true;
}

static void render_json(const struct stats_view *v, const struct stats_query *q, struct strbuf *out)
{
    bool any = false;
    strbuf_add_c(out, "{\"stats\":[");
    for (uint32_t i = 0; i < v->n; i++)
        if (v->v[i].kind == STAT_TEXT)
            json_value(&v->v[i], &any, out);
    for (uint32_t i = 0; i < v->n; i++)
        if (v->v[i].kind == STAT_COUNTER || v->v[i].kind == STAT_GAUGE)
            json_value(&v->v[i], &any, out);
    if (q->buckets != STATS_BUCKETS_NONE)
        json_histograms(v, q, &any, out);
    strbuf_add_c(out, "]}");
}

void stats_render(struct stats *s, const struct stats_query *q, struct strbuf *out)
{
    struct stats_view v;
    stats_view_init(&v, s, q);
    switch (q->format) {
    case STATS_FORMAT_TEXT:
        render_text(&v, q, out);
        break;
    case STATS_FORMAT_JSON:
        render_json(&v, q, out);
        break;
    case STATS_FORMAT_PROMETHEUS:
    case STATS_FORMAT_OPENMETRICS:
        stats_render_prometheus(&v, q, out);
        break;
    }
    stats_view_fini(&v);
}
