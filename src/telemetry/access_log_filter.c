/* Which streams get a line. */
#include "http/attributes.h"
#include "route/match.h"
#include "telemetry/access_log.h"

#define DEPTH_MAX 32

struct access_log_filter {
    uint32_t kind; /* envoy_AccessLogFilter_*_tag */
    int32_t op;    /* comparison */
    uint64_t value;
    const struct runtime_key *live; /* instead of value, or of the fraction's numerator */
    struct fraction fraction;       /* runtime_filter */
    bool independent, exclude;
    uint64_t set; /* flags, gRPC statuses, log types */
    struct header_match header;
    const struct cel *cel;                                  /* extension_filter */
    const struct metadata_match *metadata, *metadata_there; /* its value; is there one at all */
    const struct access_log_filter **v;                     /* and, or */
    uint32_t n;
};

struct builder {
    struct arena *a;
    struct runtime *runtime;
    struct error *err;
    int depth;
};

static int build(struct builder *b, const struct envoy_AccessLogFilter *m,
                 const struct access_log_filter **out);

static int comparison(struct builder *b, const struct envoy_ComparisonFilter *m,
                      struct access_log_filter *f)
{
    if (!m || !m->value)
        return error_set(b->err, E_INVALID, ".comparison.value: must be set");
    if (m->op < 0 || m->op > envoy_ComparisonFilter_NE)
        return error_set(b->err, E_INVALID, ".comparison.op: %d is not known", m->op);
    f->op = m->op;
    f->value = m->value->default_value;
    f->live = runtime_key(b->runtime, m->value->runtime_key);
    return 0;
}

static int several(struct builder *b, const struct envoy_AccessLogFilter *const *v, uint32_t n,
                   struct access_log_filter *f)
{
    if (n < 2)
        return error_set(b->err, E_INVALID, ".filters: needs two or more");
    if (++b->depth > DEPTH_MAX)
        return error_set(b->err, E_LIMIT, ".filters: is nested more than %d deep", DEPTH_MAX);
    f->v = arena_array(b->a, const struct access_log_filter *, n);
    for (f->n = 0; f->n < n; f->n++) {
        int rc = build(b, v[f->n], &f->v[f->n]);
        if (rc != 0) {
            error_prefix(b->err, ".filters[%u]", f->n);
            return rc;
        }
    }
    b->depth--;
    return 0;
}

static int flags(struct builder *b, const struct envoy_ResponseFlagFilter *m,
                 struct access_log_filter *f)
{
    f->set = m->flags.n ? 0 : UINT64_MAX; /* none named: any flag */
    for (uint32_t i = 0; i < m->flags.n; i++) {
        int bit = stream_flag_find(m->flags.v[i]);
        if (bit < 0)
            return error_set(b->err, E_INVALID, ".flags[%u]: '%.*s' is no response flag", i,
                             SV_ARG(m->flags.v[i]));
        f->set |= 1ull << bit;
    }
    return 0;
}

static int small_set(struct builder *b, const int32_t *v, uint32_t n, const char *field,
                     struct access_log_filter *f)
{
    for (uint32_t i = 0; i < n; i++) {
        if (v[i] < 0 || v[i] > 63)
            return error_set(b->err, E_INVALID, "%s[%u]: %d is not known", field, i, v[i]);
        f->set |= 1ull << v[i];
    }
    return 0;
}

static int runtime(struct builder *b, const struct envoy_RuntimeFilter *m,
                   struct access_log_filter *f)
{
    f->independent = m->use_independent_randomness;
    f->live = runtime_key(b->runtime, m->runtime_key);
    f->fraction = (struct fraction){0, 100, NULL};
    return m->percent_sampled
               ? fraction_build(m->percent_sampled, ".percent_sampled", &f->fraction, b->err)
               : 0;
}

static int metadata(struct builder *b, const struct envoy_MetadataFilter *m,
                    struct access_log_filter *f)
{
    /* What is not there passes unless it is said otherwise; without a matcher all does. */
    f->exclude = m->match_if_key_not_found && !m->match_if_key_not_found->value;
    if (!m->matcher)
        return 0;
    struct envoy_ValueMatcher any = {.which_match_pattern = envoy_ValueMatcher_present_match_tag,
                                     .present_match = true};
    struct envoy_MetadataMatcher there = *m->matcher;
    there.value = &any;
    there.invert = false;
    int rc = metadata_match_build(m->matcher, ".matcher", b->a, &f->metadata, b->err);
    return rc == 0 ? metadata_match_build(&there, ".matcher", b->a, &f->metadata_there, b->err)
                   : rc;
}

static int expression(struct builder *b, const struct envoy_ExtensionFilter *m,
                      struct access_log_filter *f)
{
    struct envoy_ExpressionFilter *x;
    sv type = m->typed_config ? pb_any_type(m->typed_config->type_url) : (sv){0};
    if (!sv_eq(type, SV("envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter")))
        return error_set(b->err, E_UNSUPPORTED, ": '%.*s' (%.*s) is not supported", SV_ARG(m->name),
                         SV_ARG(type));
    int rc =
        pb_any_unpack(m->typed_config, &envoy_ExpressionFilter_pb, b->a, NULL, (void **)&x, b->err);
    if (rc != 0) {
        error_prefix(b->err, ".typed_config: ");
        return rc;
    }
    struct cel_opts o = {.check = attributes_check};
    if (x->cel_config) {
        if (x->cel_config->enable_string_functions)
            return error_set(b->err, E_UNSUPPORTED,
                             ".typed_config.cel_config.enable_string_functions: is not supported");
        o.string_conversion = x->cel_config->enable_string_conversion;
        o.string_concat = x->cel_config->enable_string_concat;
    }
    rc = cel_compile(x->expression, &o, b->a, &f->cel, b->err);
    if (rc != 0)
        error_prefix(b->err, ".typed_config.expression: ");
    return rc;
}

static int build_kind(struct builder *b, const struct envoy_AccessLogFilter *m,
                      struct access_log_filter *f, const char **field)
{
    switch (m->which_filter_specifier) {
    case envoy_AccessLogFilter_status_code_filter_tag:
        *field = ".status_code_filter";
        return comparison(b, m->status_code_filter->comparison, f);
    case envoy_AccessLogFilter_duration_filter_tag:
        *field = ".duration_filter";
        return comparison(b, m->duration_filter->comparison, f);
    case envoy_AccessLogFilter_runtime_filter_tag:
        *field = ".runtime_filter";
        return runtime(b, m->runtime_filter, f);
    case envoy_AccessLogFilter_and_filter_tag:
        *field = ".and_filter";
        return several(b, m->and_filter->filters.v, m->and_filter->filters.n, f);
    case envoy_AccessLogFilter_or_filter_tag:
        *field = ".or_filter";
        return several(b, m->or_filter->filters.v, m->or_filter->filters.n, f);
    case envoy_AccessLogFilter_header_filter_tag:
        *field = ".header_filter";
        if (!m->header_filter->header)
            return error_set(b->err, E_INVALID, ".header: must be set");
        return header_match_build(m->header_filter->header, ".header", b->a, &f->header, b->err);
    case envoy_AccessLogFilter_response_flag_filter_tag:
        *field = ".response_flag_filter";
        return flags(b, m->response_flag_filter, f);
    case envoy_AccessLogFilter_grpc_status_filter_tag:
        *field = ".grpc_status_filter";
        f->exclude = m->grpc_status_filter->exclude;
        return small_set(b, m->grpc_status_filter->statuses.v, m->grpc_status_filter->statuses.n,
                         ".statuses", f);
    case envoy_AccessLogFilter_log_type_filter_tag:
        *field = ".log_type_filter";
        f->exclude = m->log_type_filter->exclude;
        return small_set(b, m->log_type_filter->types.v, m->log_type_filter->types.n, ".types", f);
    case envoy_AccessLogFilter_metadata_filter_tag:
        *field = ".metadata_filter";
        return metadata(b, m->metadata_filter, f);
    case envoy_AccessLogFilter_extension_filter_tag:
        *field = ".extension_filter";
        return expression(b, m->extension_filter, f);
    case envoy_AccessLogFilter_not_health_check_filter_tag:
    case envoy_AccessLogFilter_traceable_filter_tag:
        return 0;
    default:
        return error_set(b->err, E_INVALID, ": names no filter");
    }
}

static int build(struct builder *b, const struct envoy_AccessLogFilter *m,
                 const struct access_log_filter **out)
{
    struct access_log_filter *f = arena_new(b->a, struct access_log_filter);
    const char *field = "";
    f->kind = m->which_filter_specifier;
    int rc = build_kind(b, m, f, &field);
    if (rc != 0)
        error_prefix(b->err, "%s", field);
    else
        *out = f;
    return rc;
}

int access_log_filter_build(const struct envoy_AccessLogFilter *m, const char *path,
                            struct runtime *rt, struct arena *a,
                            const struct access_log_filter **out, struct error *err)
{
    struct builder b = {a, rt, err, 0};
    *out = NULL;
    if (!m)
        return 0;
    int rc = build(&b, m, out);
    if (rc != 0)
        error_prefix(err, "%s", path);
    return rc;
}

/* ---- passing ---- */

static bool compare(const struct access_log_filter *f, uint64_t is)
{
    uint64_t value = runtime_number(f->live, f->value);
    switch (f->op) {
    case envoy_ComparisonFilter_EQ:
        return is == value;
    case envoy_ComparisonFilter_GE:
        return is >= value;
    case envoy_ComparisonFilter_LE:
        return is <= value;
    default:
        return is != value;
    }
}

/* The first eight hex digits of an x-request-id: one number for all logs of a request, so that
 * every hop samples the same ones. */
static bool id_number(sv id, uint64_t *out)
{
    uint64_t v = 0;
    if (id.n < 8)
        return false;
    for (size_t i = 0; i < 8; i++) {
        char c = id.p[i];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0)
            return false;
        v = v << 4 | (uint64_t)d;
    }
    *out = v;
    return true;
}

static bool sampled(const struct access_log_filter *f, const struct substitution_ctx *c,
                    uint64_t random)
{
    if (!f->independent)
        id_number(c->si->request_id, &random);
    return random % f->fraction.denominator < runtime_number(f->live, f->fraction.numerator);
}

static bool grpc(const struct access_log_filter *f, const struct substitution_ctx *c)
{
    uint64_t status = 2; /* Unknown */
    substitution_grpc_status(c, &status);
    bool in = status < 64 && (f->set >> status & 1);
    return in != f->exclude;
}

static bool log_type(const struct access_log_filter *f, const struct substitution_ctx *c)
{
    int32_t type = 0;
    if (c->log_type)
        pb_enum_number(&envoy_AccessLogType_pb, sv_of(c->log_type), &type);
    bool in = type >= 0 && type < 64 && (f->set >> type & 1);
    return in != f->exclude;
}

/* What is no truth value, a failure included, lets nothing pass. */
static bool holds(const struct cel *cel, const struct substitution_ctx *c)
{
    struct cel_value v = attributes_eval(cel, c);
    return v.type == CEL_BOOL && v.b;
}

bool access_log_filter_pass(const struct access_log_filter *f, const struct substitution_ctx *c,
                            uint64_t random)
{
    const struct stream_info *si = c->si;
    const struct http_head *req = c->req ? c->req : si->req;
    if (!f)
        return true;
    switch (f->kind) {
    case envoy_AccessLogFilter_status_code_filter_tag:
        return compare(f, si->response_code);
    case envoy_AccessLogFilter_duration_filter_tag:
        return compare(f, si->end_ns > si->start_ns ? (si->end_ns - si->start_ns) / 1000000 : 0);
    case envoy_AccessLogFilter_not_health_check_filter_tag:
        return !si->health_check;
    case envoy_AccessLogFilter_traceable_filter_tag:
        return si->trace_sampled;
    case envoy_AccessLogFilter_runtime_filter_tag:
        return sampled(f, c, random);
    case envoy_AccessLogFilter_and_filter_tag:
        for (uint32_t i = 0; i < f->n; i++)
            if (!access_log_filter_pass(f->v[i], c, random))
                return false;
        return true;
    case envoy_AccessLogFilter_or_filter_tag:
        for (uint32_t i = 0; i < f->n; i++)
            if (access_log_filter_pass(f->v[i], c, random))
                return true;
        return false;
    case envoy_AccessLogFilter_header_filter_tag:
        return req && header_match(&f->header, req, si->arena);
    case envoy_AccessLogFilter_response_flag_filter_tag:
        return (si->flags & f->set) != 0;
    case envoy_AccessLogFilter_grpc_status_filter_tag:
        return grpc(f, c);
    case envoy_AccessLogFilter_metadata_filter_tag:
        if (!f->metadata || !metadata_match(f->metadata_there, si, si->arena))
            return !f->exclude;
        return metadata_match(f->metadata, si, si->arena);
    case envoy_AccessLogFilter_log_type_filter_tag:
        return log_type(f, c);
    case envoy_AccessLogFilter_extension_filter_tag:
        return holds(f->cel, c);
    default:
        return false;
    }
}
