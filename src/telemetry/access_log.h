/* Access logs: who gets a line, how it is formatted, and where it goes.
 *
 *   envoy.config.accesslog.v3.AccessLog[] ──access_log_build──> struct access_log (immutable)
 *     each: [filter] -> [text or JSON format] -> [sink]
 *
 *   end of a stream: access_log_write(log, writer, ctx)  formats into the worker's buffer;
 *   access_log_file.h takes the bytes to the file.
 *
 * Loggers: envoy.access_loggers.file, .stdout, .stderr; others are refused by name. Formats are
 * those of http/substitution.h; JSON keeps the type of values that are one operator.
 * Thread: building: main. Writing: the stream's worker. */
#ifndef WEFT_TELEMETRY_ACCESS_LOG_H
#define WEFT_TELEMETRY_ACCESS_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include "api/envoy.pb.h"
#include "base/arena.h"
#include "base/error.h"
#include "base/strbuf.h"
#include "http/substitution.h"

struct access_log;
struct access_log_sinks;
struct runtime;
struct access_log_writer;
struct json_format;

/* Compiles n loggers into `a`, which holds references on the sinks until it is freed. Names of
 * files are opened here: E_IO with the reason. `path` is the field ("access_log") for errors.
 * *out is NULL when n == 0. */
int access_log_build(const struct envoy_AccessLog *const *v, uint32_t n,
                     struct access_log_sinks *sinks, const char *path, struct arena *a,
                     const struct access_log **out, struct error *err) MUST_CHECK;
/* The same without opening anything (--mode validate, checks before an update). */
int access_log_check(const struct envoy_AccessLog *const *v, uint32_t n, const char *path,
                     struct error *err) MUST_CHECK;

/* Formats one line for each logger whose filter lets it pass. l may be NULL. random: a uniform
 * number, for sampling. */
void access_log_write(const struct access_log *l, struct access_log_writer *w,
                      const struct substitution_ctx *c, uint64_t random);

/* ---- a format by itself: local replies' bodies (local_reply_config) use it too ---- */
struct log_format {
    const struct substitution *text; /* one of them */
    const struct json_format *json;
    bool omit_empty;
    sv content_type; /* as configured; empty: text/plain or application/json by kind */
};
/* SubstitutionFormatString. `use` says how text is escaped. Formatter extensions that are built in
 * (req_without_query, metadata) are accepted, others are refused by name. */
int log_format_build(const struct envoy_SubstitutionFormatString *m, enum substitution_use use,
                     const char *path, struct arena *a, struct log_format *out,
                     struct error *err) MUST_CHECK;
/* A google.protobuf.Struct as JSON format. */
int json_format_build(const struct google_Struct *s, bool omit_empty, const char *path,
                      struct arena *a, const struct json_format **out,
                      struct error *err) MUST_CHECK;
/* Appends the text; JSON without a line end. */
void log_format_eval(const struct log_format *f, const struct substitution_ctx *c,
                     struct strbuf *out);

/* ---- filters by themselves ---- */
struct access_log_filter;
/* NULL message: *out = NULL, which lets everything pass. */
int access_log_filter_build(const struct envoy_AccessLogFilter *m, const char *path,
                            struct runtime *rt, struct arena *a,
                            const struct access_log_filter **out, struct error *err) MUST_CHECK;
bool access_log_filter_pass(const struct access_log_filter *f, const struct substitution_ctx *c,
                            uint64_t random);

#endif
