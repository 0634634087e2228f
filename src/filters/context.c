#include "filters/context.h"

#include "api/stats.pb.h"
#include "filters/worker.h"
#include "telemetry/istio_metrics.h"

#include <stdio.h>
#include <stdlib.h>

#include "telemetry/access_log.h"

int filter_decode(const struct filter_ctx *x, const struct pb_message *want, sv packed,
                  const void **out, struct error *err)
{
    struct pb_opts o = x->pb ? *x->pb : (struct pb_opts){0};
    void *m;
    o.path = x->path;
    int rc = pb_decode(want, packed, x->scratch ? x->scratch : x->arena, &o, &m, err);
    if (rc == 0)
        *out = m;
    return rc;
}

int filter_istio_metrics(const struct filter_ctx *x, sv packed, const void **config,
                         struct error *err)
{
    const struct stats_PluginConfig *m;
    const struct istio_metrics *c;
    int rc = filter_decode(x, &stats_PluginConfig_pb, packed, (const void **)&m, err);
    if (rc == 0)
        rc = istio_metrics_build(
            m, x->direction == FILTER_DIRECTION_INBOUND ? ISTIO_DESTINATION : ISTIO_SOURCE,
            x->node ? x->node->metadata : NULL, x->stats, x->path, x->arena, &c, err);
    if (rc == 0)
        *config = c;
    return rc;
}

static const char *joined(const struct filter_ctx *x, const char *fmt, va_list ap)
{
    char tail[512];
    vsnprintf(tail, sizeof tail, fmt, ap);
    struct arena *a = x->scratch ? x->scratch : x->arena;
    if (!x->path || !x->path[0])
        return arena_cstr(a, sv_of(tail));
    return arena_printf(a, "%s.%s", x->path, tail).p;
}

struct filter_ctx *filter_ctx_at(const struct filter_ctx *x, const char *fmt, ...)
{
    struct filter_ctx *copy = arena_alloc(x->scratch ? x->scratch : x->arena, sizeof *copy);
    va_list ap;
    *copy = *x;
    va_start(ap, fmt);
    copy->path = joined(x, fmt, ap);
    va_end(ap);
    return copy;
}

const char *filter_path(const struct filter_ctx *x, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const char *p = joined(x, fmt, ap);
    va_end(ap);
    return p;
}

int filter_access_logs(const struct filter_ctx *x, const struct envoy_AccessLog *const *v,
                       uint32_t n, const struct access_log **out, struct error *err)
{
    const char *path = filter_path(x, "access_log");
    *out = NULL;
    if (!x->log_sinks)
        return access_log_check(v, n, path, err);
    return access_log_build(v, n, x->log_sinks, path, x->arena, out, err);
}

struct istio_worker *filter_worker_istio(struct filter_worker *w)
{
    if (!w->istio)
        w->istio = istio_worker_new();
    return w->istio;
}
