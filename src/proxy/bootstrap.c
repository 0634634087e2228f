#include "proxy/bootstrap.h"

#include <sys/socket.h>

#include "base/log.h"
#include "base/strbuf.h"
#include "proxy/config_ads.h"
#include "proxy/config_files.h"
#include "upstream/bind_source.h"
#include "upstream/data_source.h"

LOG_COMPONENT(config);

#define BOOTSTRAP_MAX (256u << 20)

static void on_unknown(void *arg, const char *path)
{
    log_warn(&log_config, "unknown field ignored source=%s path=%s", (const char *)arg, path);
}

int bootstrap_parse(sv text, const char *file, bool allow_unknown, struct arena *a,
                    const struct envoy_Bootstrap **out, struct error *err)
{
    struct pb_opts o = {.allow_unknown = allow_unknown,
                        .on_unknown = on_unknown,
                        .arg = (void *)(uintptr_t)file,
                        .lenient = true};
    void *m;
    int rc = pb_from_text(&envoy_Bootstrap_pb, text, file, a, &o, &m, err);
    if (rc == 0)
        *out = m;
    return rc;
}

/* Packed, then read again: what stays is the packed form and views into it, a fraction of the text
 * and its tree. Protobuf merges messages when their bytes are read one after the other. */
static int keep(const struct envoy_Bootstrap *base, const struct envoy_Bootstrap *over,
                struct arena *a, const struct envoy_Bootstrap **out, struct error *err)
{
    struct strbuf both;
    void *m;
    strbuf_init(&both, BOOTSTRAP_MAX);
    if (base)
        pb_encode(&envoy_Bootstrap_pb, base, &both);
    if (over)
        pb_encode(&envoy_Bootstrap_pb, over, &both);
    int rc = both.overflow
                 ? error_set(err, E_LIMIT, "the bootstrap is too large")
                 : pb_decode(&envoy_Bootstrap_pb, arena_sv(a, strbuf_sv(&both)), a, NULL, &m, err);
    strbuf_fini(&both);
    if (rc == 0)
        *out = m;
    return rc;
}

static int parse_both(const struct proxy_options *o, struct arena *scratch, struct arena *a,
                      const struct envoy_Bootstrap **out, struct error *err)
{
    const struct envoy_Bootstrap *base = NULL, *over = NULL;
    int rc = 0;
    if (o->config_path) {
        sv text;
        rc = data_source_file(sv_of(o->config_path), BOOTSTRAP_MAX, "--config-path", scratch, &text,
                              err);
        if (rc == 0)
            rc =
                bootstrap_parse(text, o->config_path, o->allow_unknown_static, scratch, &base, err);
    }
    if (rc == 0 && o->config_yaml)
        rc = bootstrap_parse(sv_of(o->config_yaml), "--config-yaml", o->allow_unknown_static,
                             scratch, &over, err);
    return rc < 0 ? rc : keep(base, over, a, out, err);
}

int bootstrap_load(const struct proxy_options *o, struct arena *a,
                   const struct envoy_Bootstrap **out, struct error *err)
{
    struct arena scratch;
    if (!o->config_path && !o->config_yaml)
        return error_set(err, E_INVALID,
                         "a configuration is needed: --config-path FILE or "
                         "--config-yaml TEXT");
    arena_init(&scratch);
    int rc = parse_both(o, &scratch, a, out, err);
    arena_free(&scratch);
    return rc;
}

static int unsupported(struct error *err, const char *field)
{
    return error_set(err, E_UNSUPPORTED, "bootstrap: %s: is not supported", field);
}

static int check_source(const struct envoy_Bootstrap_DynamicResources *d,
                        const struct envoy_ConfigSource *s, const char *field, struct error *err)
{
    if (!s)
        return 0;
    if (config_files_is(s)) {
        int rc = config_files_check(s, err);
        if (rc < 0)
            error_prefix(err, "bootstrap: dynamic_resources.%s.", field);
        return rc;
    }
    if (s->which_config_source_specifier != envoy_ConfigSource_ads_tag)
        return error_set(err, E_UNSUPPORTED,
                         "bootstrap: dynamic_resources.%s: only ads and path_config_source are "
                         "supported",
                         field);
    return d->ads_config
               ? 0
               : error_set(err, E_INVALID,
                           "bootstrap: dynamic_resources.ads_config: is required by %s", field);
}

static int check_bind(const struct envoy_BindConfig *c, struct error *err)
{
    struct bind_source bind;
    int rc = bind_source_read(c, "bootstrap: cluster_manager.upstream_bind_config", &bind, err);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < c->socket_options.n; i++) {
        const struct envoy_SocketOption *o = c->socket_options.v[i];
        if (o->level != SOL_SOCKET || o->name != SO_MARK ||
            o->which_value != envoy_SocketOption_int_value_tag ||
            o->state != envoy_SocketOption_STATE_PREBIND || o->int_value < 0 ||
            o->int_value > UINT32_MAX)
            return error_set(err, E_UNSUPPORTED,
                             "bootstrap: cluster_manager.upstream_bind_config.socket_options[%u]: "
                             "only SO_MARK (level 1, name 36) with an int_value is supported",
                             i);
    }
    return 0;
}

struct bind_source bootstrap_bind(const struct envoy_Bootstrap *b)
{
    struct bind_source bind = {.n = 0};
    if (b->cluster_manager && b->cluster_manager->upstream_bind_config &&
        bind_source_read(b->cluster_manager->upstream_bind_config, "bootstrap", &bind, NULL) < 0)
        bind.n = 0; /* it passed bootstrap_check */
    return bind;
}

uint32_t bootstrap_socket_mark(const struct envoy_Bootstrap *b)
{
    const struct envoy_BindConfig *c =
        b->cluster_manager ? b->cluster_manager->upstream_bind_config : NULL;
    uint32_t n = c ? c->socket_options.n : 0;
    return n ? (uint32_t)c->socket_options.v[n - 1]->int_value : 0;
}

int bootstrap_check(const struct envoy_Bootstrap *b, struct error *err)
{
    const struct envoy_Bootstrap_DynamicResources *d = b->dynamic_resources;
    if (d) {
        int rc = check_source(d, d->lds_config, "lds_config", err);
        if (rc == 0)
            rc = check_source(d, d->cds_config, "cds_config", err);
        if (rc < 0)
            return rc;
        if (d->ads_config) {
            rc = config_ads_check(d->ads_config, "bootstrap: dynamic_resources.ads_config", err);
            if (rc < 0)
                return rc;
        }
    }
    if (b->cluster_manager && b->cluster_manager->outlier_detection &&
        b->cluster_manager->outlier_detection->event_log_path.n)
        return unsupported(err, "cluster_manager.outlier_detection.event_log_path");
    if (b->cluster_manager && b->cluster_manager->upstream_bind_config) {
        int rc = check_bind(b->cluster_manager->upstream_bind_config, err);
        if (rc < 0)
            return rc;
    }
    if (b->admin && b->admin->profile_path.n)
        log_warn(&log_config, "admin.profile_path: there is no profiler; ignored");
    return 0;
}
