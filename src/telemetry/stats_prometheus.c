/* Prometheus and OpenMetrics text, named and typed as Envoy does it:
 *
 *   # TYPE envoy_cluster_upstream_rq_xx counter
 *   envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="x"} 3
 */
#include <stdlib.h>
#include "base/mem.h"
#include "telemetry/stats_view.h"

struct line {
    sv metric; /* sanitised */
    sv labels; /* rendered, without braces */
    const struct stats_entry *e;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static void add_sanitised(struct strbuf *out, sv v)
{
    for (size_t i = 0; i < v.n; i++) {
        char c = v.p[i];
        bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_';
        strbuf_add_ch(out, fine ? c : '_');
    }
}

static void add_label(struct strbuf *out, sv name, sv value)
{
    if (out->n)
        strbuf_add_ch(out, ',');
    if (name.n && is_digit(name.p[0]))
        strbuf_add_ch(out, '_');
    add_sanitised(out, name);
    strbuf_add_c(out, "=\"");
    for (size_t i = 0; i < value.n; i++) {
        char c = value.p[i];
        if (c == '\\' || c == '"')
            strbuf_add_ch(out, '\\');
        if (c == '\n')
            strbuf_add_c(out, "\\n");
        else
            strbuf_add_ch(out, c);
    }
    strbuf_add_ch(out, '"');
}

/* Takes the status off a name that ends in _rq_503 or _rq_5xx: the label's name, its value. */
static sv take_status(sv *tail, sv *value)
{
    sv t = *tail;
    if (t.n < 7 || memcmp(t.p + t.n - 7, "_rq_", 4) != 0 || !is_digit(t.p[t.n - 3]))
        return (sv){0};
    if (t.p[t.n - 2] == 'x' && t.p[t.n - 1] == 'x') {
        *value = sv_make(t.p + t.n - 3, 1);
        return SV("envoy.response_code_class");
    }
    if (is_digit(t.p[t.n - 2]) && is_digit(t.p[t.n - 1])) {
        *value = sv_make(t.p + t.n - 3, 3);
        *tail = sv_first(t, t.n - 4);
        return SV("envoy.response_code");
    }
    return (sv){0};
}

static struct line make_line(const struct stats_entry *e, struct arena *a, struct strbuf *tmp)
{
    struct line l = {.e = e};
    sv tail = e->tail, value;
    sv status = take_status(&tail, &value);
    strbuf_reset(tmp);
    if (!e->scope->bare)
        strbuf_add_c(tmp, "envoy_");
    add_sanitised(tmp, e->scope->family);
    if (status.n && value.n == 1) { /* upstream_rq_2xx: upstream_rq_xx */
        add_sanitised(tmp, sv_first(tail, tail.n - 3));
        strbuf_add_c(tmp, "xx");
    } else {
        add_sanitised(tmp, tail);
    }
    l.metric = arena_sv(a, strbuf_sv(tmp));

    strbuf_reset(tmp);
    if (status.n)
        add_label(tmp, status, value);
    for (uint32_t i = 0; i < e->n_labels; i++)
        add_label(tmp, e->labels[i].name, e->labels[i].value);
    for (uint32_t i = 0; i < e->scope->n_labels; i++)
        add_label(tmp, e->scope->labels[i].name, e->scope->labels[i].value);
    if (e->kind == STAT_TEXT)
        add_label(tmp, SV("text_value"), e->text);
    l.labels = arena_sv(a, strbuf_sv(tmp));
    return l;
}

static int by_metric(const void *a, const void *b)
{
    const struct line *x = a, *y = b;
    int c = sv_cmp(x->metric, y->metric);
    return c ? c : sv_cmp(x->e->name, y->e->name);
}

static void add_histogram(const struct stats *s, const struct line *l, struct strbuf *out)
{
    const char *comma = l->labels.n ? "," : "";
    struct hist_bins all = {0};
    uint64_t sum = 0;
    if (l->e->hist) {
        /* The sum first: what is recorded in between only makes the count larger. */
        sum = atomic_load_explicit(&l->e->hist->sum, memory_order_relaxed);
        hist_read(l->e->hist, &all);
    }
    for (uint32_t i = 0; i < s->n_bounds; i++) {
        strbuf_addf(out, "%.*s_bucket{%.*s%sle=\"", SV_ARG(l->metric), SV_ARG(l->labels), comma);
        strbuf_add_double(out, s->bounds[i]);
        strbuf_addf(out, "\"} %llu\n", (unsigned long long)hist_below(&all, s->bounds[i]));
    }
    strbuf_addf(out, "%.*s_bucket{%.*s%sle=\"+Inf\"} %llu\n", SV_ARG(l->metric), SV_ARG(l->labels),
                comma, (unsigned long long)all.total);
    strbuf_addf(out, "%.*s_sum{%.*s} %llu\n", SV_ARG(l->metric), SV_ARG(l->labels),
                (unsigned long long)sum);
    strbuf_addf(out, "%.*s_count{%.*s} %llu\n", SV_ARG(l->metric), SV_ARG(l->labels),
                (unsigned long long)all.total);
    hist_bins_free(&all);
}

static const char *type_name(uint8_t kind)
{
    return kind == STAT_COUNTER ? "counter" : kind == STAT_HISTOGRAM ? "histogram" : "gauge";
}

/* One kind, in order of metric; a "# TYPE" before the first of each. */
static void render_kind(const struct stats_view *v, uint8_t kind, bool open_metrics,
                        struct strbuf *out)
{
    struct arena a;
    arena_init(&a);
    struct strbuf tmp;
    strbuf_init(&tmp, 65536);
    struct line *lines = mem_array(struct line, v->n);
    uint32_t n = 0;
    for (uint32_t i = 0; i < v->n; i++)
        if (v->v[i].kind == kind)
            lines[n++] = make_line(&v->v[i], &a, &tmp);
    if (n)
        qsort(lines, n, sizeof(*lines), by_metric);
    for (uint32_t i = 0; i < n; i++) {
        struct line *l = &lines[i];
        const char *suffix = "";
        sv family = l->metric;
        if (open_metrics && kind == STAT_COUNTER) {
            suffix = "_total"; /* a sample is FAMILY_total */
            if (sv_ends(family, SV("_total")))
                family.n -= 6;
        }
        if (i == 0 || !sv_eq(l->metric, lines[i - 1].metric))
            strbuf_addf(out, "# TYPE %.*s %s\n", SV_ARG(family), type_name(kind));
        if (kind == STAT_HISTOGRAM)
            add_histogram(v->stats, l, out);
        else
            strbuf_addf(out, "%.*s%s{%.*s} %llu\n", SV_ARG(family), suffix, SV_ARG(l->labels),
                        (unsigned long long)l->e->value);
    }
    free(lines);
    strbuf_fini(&tmp);
    arena_free(&a);
}

void stats_render_prometheus(const struct stats_view *v, const struct stats_query *q,
                             struct strbuf *out)
{
    bool om = q->format == STATS_FORMAT_OPENMETRICS;
    render_kind(v, STAT_COUNTER, om, out);
    render_kind(v, STAT_GAUGE, om, out);
    if (q->text_readouts)
        render_kind(v, STAT_TEXT, om, out);
    if (q->buckets != STATS_BUCKETS_NONE)
        render_kind(v, STAT_HISTOGRAM, om, out);
    if (om)
        strbuf_add_c(out, "# EOF\n");
}
