#include "proxy/sds.h"

#include <stdlib.h>

#include "api/envoy.pb.h"
#include "api/pb.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "proxy/config_files.h"
#include "proxy/server_private.h"
#include "proxy/subscription.h"
#include "tls/tls_key.h"
#include "upstream/tls_options.h"

LOG_COMPONENT(config);

#define SDS_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT) COUNTER(P, key_rotation_failed)
STAT_GROUP_DECLARE(sds_stats, SDS_STATS);
STAT_GROUP_DEFINE(sds_stats, SDS_STATS);

#define FILES_MAX 4 /* trusted_ca and crl; certificate_chain, private_key and password */

struct watches {
    struct file_watch *v[FILES_MAX];
    unsigned n;
};

/* One of the packed ConfigSources that users gave with the name. */
struct sds_config {
    struct list link;
    bool left; /* by its last user, since this turn began */
    size_t n;
    char bytes[];
};

struct sds_secret {
    struct proxy_server *s;
    char *name;
    struct list configs; /* never empty; all of one source */
    char *packed;        /* what names the watched files */
    size_t n_packed;
    struct watches watches;
    struct stat_group subscription, stats;
    struct deferred sweep;
    bool sweep_due;
    bool good;     /* packed is in force */
    bool again;    /* a user came from inside a call of ours */
    uint32_t busy; /* such calls */
};

/* ---- watched files ---- */

static void on_change(void *arg);

static void watch(struct sds_secret *x, struct watches *w, sv path)
{
    struct error err = {0};
    if (!path.n)
        return;
    char *text = sv_dup(path);
    struct file_watch *f = file_watch_new(x->s->loop, text, on_change, x, &err);
    if (f)
        w->v[w->n++] = f;
    else
        log_warn(&log_config, "file of a secret is not watched name=%s path=%s reason=%s", x->name,
                 text, err.msg);
    free(text);
}

static void watch_source(struct sds_secret *x, struct watches *w, const struct envoy_DataSource *d)
{
    if (d && d->which_specifier == envoy_DataSource_filename_tag)
        watch(x, w, d->filename);
}

static void watch_files(struct sds_secret *x, struct watches *w, const struct envoy_Secret *m)
{
    const struct envoy_TlsCertificate *c =
        m->which_type == envoy_Secret_tls_certificate_tag ? m->tls_certificate : NULL;
    const struct envoy_CertificateValidationContext *v =
        m->which_type == envoy_Secret_validation_context_tag ? m->validation_context : NULL;
    if (c && c->watched_directory) {
        watch(x, w, c->watched_directory->path);
    } else if (c) {
        watch_source(x, w, c->certificate_chain);
        watch_source(x, w, c->private_key);
        watch_source(x, w, c->password);
    } else if (v && v->watched_directory) {
        watch(x, w, v->watched_directory->path);
    } else if (v) {
        watch_source(x, w, v->trusted_ca);
        watch_source(x, w, v->crl);
    }
}

static void watches_free(struct watches *w)
{
    for (unsigned i = 0; i < w->n; i++)
        file_watch_free(w->v[i]);
    w->n = 0;
}

/* ---- life ---- */

/* It may hold a private key. */
static void packed_free(struct sds_secret *x)
{
    tls_wipe(x->packed, x->n_packed);
    free(x->packed);
}

static void sds_free(struct sds_secret *x)
{
    watches_free(&x->watches);
    stat_group_fini(&x->subscription);
    stat_group_fini(&x->stats);
    list_each_safe (it, &x->configs)
        free(container_of(it, struct sds_config, link));
    free(x->name);
    packed_free(x);
    free(x);
}

static void stats_init(struct sds_secret *x)
{
    struct strbuf prefix;
    strbuf_init(&prefix, 1u << 20);
    strbuf_addf(&prefix, "sds.%s.", x->name);
    struct stats_scope *sc = stats_scope_plain(x->s->stats, strbuf_sv(&prefix));
    stat_group_init(&x->subscription, &subscription_stats_def, sc);
    stat_group_init(&x->stats, &sds_stats_def, sc);
    stats_scope_unref(sc);
    strbuf_fini(&prefix);
    stat_group_touch(&x->subscription);
    stat_group_touch(&x->stats);
}

/* ---- values ---- */

static sv config_bytes(const struct sds_config *c)
{
    return sv_make(c->bytes, c->n);
}

static struct sds_config *find_config(const struct sds_secret *x, sv config)
{
    list_each (it, &x->configs) {
        struct sds_config *c = container_of(it, struct sds_config, link);
        if (sv_eq(config_bytes(c), config))
            return c;
    }
    return NULL;
}

/* For all its users. Whoever is told may make some of them, or all, go. */
static int put_all(struct sds_secret *x, const struct envoy_Secret *m, struct arena *a,
                   struct error *err)
{
    struct proxy_server *s = x->s;
    int64_t now = (int64_t)(loop_wall_ns(s->loop) / 1000000000u);
    size_t n = 0, i = 0;
    int rc = 0;
    list_each (it, &x->configs)
        i++;
    sv *configs = arena_array(a, sv, i + 1);
    list_each (it, &x->configs)
        configs[n++] = arena_sv(a, config_bytes(container_of(it, struct sds_config, link)));
    for (i = 0; rc == 0 && i < n; i++)
        if (find_config(x, configs[i]))
            rc = tls_options_secret(m, configs[i], now, s->secrets, err);
    return rc;
}

/* Into the store. */
static int put(struct sds_secret *x, sv packed, struct watches *w, struct error *err)
{
    struct proxy_server *s = x->s;
    struct arena a;
    void *m;
    arena_init(&a);
    int rc = pb_decode(&envoy_Secret_pb, packed, &a, &s->dynamic_pb, &m, err);
    if (rc == 0 && w)
        watch_files(x, w, m); /* before they are read: no change is missed */
    if (rc == 0)
        rc = put_all(x, m, &a, err);
    arena_free(&a);
    return rc;
}

static void done(struct sds_secret *x)
{
    bool again = x->again;
    if (--x->busy)
        return;
    x->again = false;
    if (again)
        on_change(x);
}

static void on_change(void *arg)
{
    struct sds_secret *x = arg;
    struct error err = {0};
    x->busy++;
    if (put(x, sv_make(x->packed, x->n_packed), NULL, &err) == 0) {
        x->good = true;
        log_info(&log_config, "files of a secret were read again name=%s", x->name);
    } else {
        stat_inc(&x->stats, sds_stats_key_rotation_failed);
        log_warn(&log_config,
                 "files of a secret refused, the last good ones stay in force name=%s reason=%s",
                 x->name, err.msg);
    }
    done(x);
}

static void keep(struct sds_secret *x, sv packed, const struct watches *w)
{
    char *copy = sv_dup(packed);
    watches_free(&x->watches);
    packed_free(x);
    x->watches = *w;
    x->packed = copy;
    x->n_packed = packed.n;
}

int sds_apply(struct proxy_server *s, const struct config_resource *r, sv version,
              struct error *err)
{
    struct sds_secret *x = map_get(&s->ads_secrets, r->name);
    struct watches w = {0};
    if (!x)
        return 0; /* nobody needs it any more: it crossed our unsubscription */
    x->busy++;
    int rc = put(x, r->packed, &w, err);
    if (rc == 0)
        subscription_taken(&x->subscription, version, s->loop);
    else
        subscription_rejected(&x->subscription);
    /* The first one's files are waited for, even where they are not there yet. */
    if (rc == 0 || !x->good)
        keep(x, r->packed, &w);
    else
        watches_free(&w);
    x->good |= rc == 0;
    done(x);
    return rc;
}

/* ---- names ---- */

static void add_config(struct sds_secret *x, sv config)
{
    struct sds_config *c = mem_alloc(sizeof *c + config.n);
    c->left = false;
    c->n = config.n;
    if (config.n)
        memcpy(c->bytes, config.p, config.n);
    list_push(&x->configs, &c->link);
}

bool sds_want(struct proxy_server *s, sv name, sv config)
{
    struct sds_secret *x = map_get(&s->ads_secrets, name);
    struct sds_config *c = x ? find_config(x, config) : NULL;
    if (c) { /* its value, if there is one, is still in the store */
        c->left = false;
        return false;
    }
    if (x) {
        add_config(x, config);
        /* The new user has nothing yet. */
        if (x->busy)
            x->again = true;
        else if (x->good)
            on_change(x);
        return false;
    }
    x = mem_new(struct sds_secret);
    x->s = s;
    x->name = sv_dup(name);
    list_init(&x->configs);
    add_config(x, config);
    stats_init(x);
    map_put(&s->ads_secrets, name, x);
    return true;
}

/* The values that nobody took up again go, and with the last one the subscription. */
static void sweep(struct deferred *d)
{
    struct sds_secret *x = container_of(d, struct sds_secret, sweep);
    struct proxy_server *s = x->s;
    x->sweep_due = false;
    list_each_safe (it, &x->configs) {
        struct sds_config *c = container_of(it, struct sds_config, link);
        if (!c->left)
            continue;
        list_del(&c->link);
        tls_secret_store_remove(s->secrets, sv_of(x->name), config_bytes(c));
        free(c);
    }
    if (!list_empty(&x->configs))
        return;
    map_del(&s->ads_secrets, sv_of(x->name));
    if (s->source)
        s->source->ops->unsubscribe(s->source->self, CONFIG_SDS, sv_of(x->name));
    sds_free(x);
}

void sds_unwant(struct proxy_server *s, sv name, sv config)
{
    struct sds_secret *x = map_get(&s->ads_secrets, name);
    struct sds_config *c = x ? find_config(x, config) : NULL;
    if (!c)
        return;
    c->left = true;
    if (x->sweep_due)
        return;
    x->sweep_due = true;
    if (s->source || x->busy)
        loop_defer(s->loop, &x->sweep, sweep);
    else
        sweep(&x->sweep); /* the server ends: there may be no more turn */
}

static sv path_of(const struct envoy_ConfigSource *c)
{
    if (!config_files_is(c))
        return (sv){NULL, 0};
    return c->which_config_source_specifier == envoy_ConfigSource_path_tag
               ? c->path
               : c->path_config_source->path;
}

int sds_check(const struct proxy_server *s, sv name, const struct envoy_ConfigSource *src,
              struct error *err)
{
    struct sds_secret *x = map_get(&s->ads_secrets, name);
    struct arena a;
    void *m;
    if (!x)
        return 0;
    arena_init(&a);
    const struct sds_config *c = container_of(list_first(&x->configs), struct sds_config, link);
    int rc = pb_decode(&envoy_ConfigSource_pb, config_bytes(c), &a, NULL, &m, err);
    if (rc == 0 && !sv_eq(path_of(m), path_of(src)))
        rc = error_set(err, E_UNSUPPORTED, "this name comes from another source already");
    arena_free(&a);
    return rc;
}

void sds_count_failure(struct proxy_server *s, sv name)
{
    struct sds_secret *x = map_get(&s->ads_secrets, name);
    if (x)
        subscription_failed(&x->subscription);
}

void sds_count_rejected(struct proxy_server *s, sv name)
{
    struct sds_secret *x = map_get(&s->ads_secrets, name);
    if (x)
        subscription_rejected(&x->subscription);
}
