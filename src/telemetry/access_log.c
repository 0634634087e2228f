#include "telemetry/access_log.h"

#include "api/google.pb.h"
#include "telemetry/access_log_file.h"

struct access_log {
    uint32_t n;
    struct logger {
        const struct access_log_filter *filter;
        struct log_format format;
        struct access_log_sink *sink;
    } v[];
};

struct builder {
    struct access_log_sinks *sinks; /* NULL: check only */
    struct arena *a;
    struct error *err;
};

static void drop_sink(void *sink)
{
    access_log_sink_unref(sink);
}

static int open_sink(struct builder *b, sv path, struct logger *l)
{
    if (!b->sinks)
        return path.n ? 0 : error_set(b->err, E_INVALID, ".path: must not be empty");
    int rc = access_log_sink_open(b->sinks, path, &l->sink, b->err);
    if (rc != 0)
        error_prefix(b->err, ".path: ");
    else
        arena_on_free(b->a, drop_sink, l->sink);
    return rc;
}

static int default_format(struct builder *b, struct log_format *f)
{
    struct substitution_opts o = {.use = SUBSTITUTION_LOG};
    return substitution_compile(substitution_default_format, &o, b->a, &f->text, b->err);
}

static int file_format(struct builder *b, const struct envoy_FileAccessLog *m, struct log_format *f)
{
    struct substitution_opts o = {.use = SUBSTITUTION_LOG};
    int rc;
    switch (m->which_access_log_format) {
    case envoy_FileAccessLog_log_format_tag:
        return log_format_build(m->log_format, SUBSTITUTION_LOG, ".log_format", b->a, f, b->err);
    case envoy_FileAccessLog_json_format_tag:
        return json_format_build(m->json_format, false, ".json_format", b->a, &f->json, b->err);
    case envoy_FileAccessLog_typed_json_format_tag:
        return json_format_build(m->typed_json_format, false, ".typed_json_format", b->a, &f->json,
                                 b->err);
    case envoy_FileAccessLog_format_tag:
        if (m->format.n == 0)
            return default_format(b, f);
        rc = substitution_compile(m->format, &o, b->a, &f->text, b->err);
        if (rc != 0)
            error_prefix(b->err, ".format: ");
        return rc;
    default:
        return default_format(b, f);
    }
}

static int stream_format(struct builder *b, const struct envoy_SubstitutionFormatString *m,
                         struct log_format *f)
{
    return m ? log_format_build(m, SUBSTITUTION_LOG, ".log_format", b->a, f, b->err)
             : default_format(b, f);
}

static int unpack(struct builder *b, const struct google_Any *any, const struct pb_message *type,
                  void **out)
{
    int rc = pb_any_unpack(any, type, b->a, NULL, out, b->err);
    if (rc != 0)
        error_prefix(b->err, ".");
    return rc;
}

static int build_logger(struct builder *b, const struct envoy_AccessLog *m, struct logger *l)
{
    sv type = m->typed_config ? pb_any_type(m->typed_config->type_url) : (sv){0};
    void *x = NULL;
    int rc;
    if (sv_eq(type, SV("envoy.extensions.access_loggers.file.v3.FileAccessLog"))) {
        rc = unpack(b, m->typed_config, &envoy_FileAccessLog_pb, &x);
        if (rc == 0)
            rc = file_format(b, x, &l->format);
        return rc == 0 ? open_sink(b, ((struct envoy_FileAccessLog *)x)->path, l) : rc;
    }
    if (sv_eq(type, SV("envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"))) {
        rc = unpack(b, m->typed_config, &envoy_StdoutAccessLog_pb, &x);
        if (rc == 0)
            rc = stream_format(b, ((struct envoy_StdoutAccessLog *)x)->log_format, &l->format);
        return rc == 0 ? open_sink(b, SV("/dev/stdout"), l) : rc;
    }
    if (sv_eq(type, SV("envoy.extensions.access_loggers.stream.v3.StderrAccessLog"))) {
        rc = unpack(b, m->typed_config, &envoy_StderrAccessLog_pb, &x);
        if (rc == 0)
            rc = stream_format(b, ((struct envoy_StderrAccessLog *)x)->log_format, &l->format);
        return rc == 0 ? open_sink(b, SV("/dev/stderr"), l) : rc;
    }
    return error_set(b->err, E_UNSUPPORTED, ": '%.*s' (%.*s) is not a supported access log",
                     SV_ARG(m->name), SV_ARG(type));
}

static int build_all(struct builder *b, const struct envoy_AccessLog *const *v, uint32_t n,
                     const char *path, struct access_log *log)
{
    for (uint32_t i = 0; i < n; i++) {
        struct logger *l = &log->v[i];
        int rc = access_log_filter_build(
            v[i]->filter, ".filter", access_log_sinks_runtime(b->sinks), b->a, &l->filter, b->err);
        if (rc == 0) {
            rc = build_logger(b, v[i], l);
            if (rc != 0)
                error_prefix(b->err, ".typed_config");
        }
        if (rc != 0) {
            error_prefix(b->err, "%s[%u]", path, i);
            return rc;
        }
    }
    log->n = n;
    return 0;
}

int access_log_build(const struct envoy_AccessLog *const *v, uint32_t n,
                     struct access_log_sinks *sinks, const char *path, struct arena *a,
                     const struct access_log **out, struct error *err)
{
    struct builder b = {sinks, a, err};
    if (n == 0) {
        *out = NULL;
        return 0;
    }
    struct access_log *log = arena_zalloc(a, sizeof(*log) + n * sizeof(log->v[0]));
    int rc = build_all(&b, v, n, path, log);
    if (rc == 0)
        *out = log;
    return rc;
}

int access_log_check(const struct envoy_AccessLog *const *v, uint32_t n, const char *path,
                     struct error *err)
{
    const struct access_log *dropped;
    struct arena a;
    arena_init(&a);
    int rc = access_log_build(v, n, NULL, path, &a, &dropped, err);
    arena_free(&a);
    return rc;
}

void access_log_write(const struct access_log *l, struct access_log_writer *w,
                      const struct substitution_ctx *c, uint64_t random)
{
    for (uint32_t i = 0; l && i < l->n; i++) {
        const struct logger *g = &l->v[i];
        if (!g->sink || !access_log_filter_pass(g->filter, c, random))
            continue;
        struct strbuf *out = access_log_writer_buf(w, g->sink);
        log_format_eval(&g->format, c, out);
        if (g->format.json)
            strbuf_add_ch(out, '\n');
        access_log_writer_done(w, g->sink);
    }
}
