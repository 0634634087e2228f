/* layered_runtime: static, disk and admin layers, of which the last one that has a key says its
 * value (base/runtime.h). What follows a key: runtime_fraction of routes, mirrors and CORS, weights
 * with runtime_key_prefix, the fault filter, tracing's sampling, filters of access logs; and some
 * that are settings of their own: overload.global_downstream_max_connections,
 * envoy.resource_limits.listener.NAME.connection_limit (listener_conf.c), and when spans leave
 * (filters/trace_export.h).
 *
 * A disk layer is a directory of files: a/b is the key "a.b", its content the value. It is read
 * again when the path that names it leads elsewhere (a symbolic link that was swapped) or an entry
 * of the directory changes. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "api/google.pb.h"
#include "api/pb_struct.h"
#include "base/log.h"
#include "base/runtime.h"
#include "base/strbuf.h"
#include "net/loop.h"
#include "proxy/server_private.h"
#include "upstream/data_source.h"

LOG_COMPONENT(config);

#define VALUE_MAX 4096
#define DEPTH_MAX 16
#define KEYS_MAX  100000

#define RUNTIME_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                          \
    COUNTER(P, load_success)                                                                       \
    COUNTER(P, load_error)                                                                         \
    COUNTER(P, override_dir_exists)                                                                \
    COUNTER(P, override_dir_not_exists)                                                            \
    GAUGE(P, admin_overrides_active)                                                               \
    GAUGE(P, num_keys)                                                                             \
    GAUGE(P, num_layers)
STAT_GROUP_DECLARE(runtime_stats, RUNTIME_STATS);
STAT_GROUP_DEFINE(runtime_stats, RUNTIME_STATS);

/* One disk layer. */
struct runtime_watch {
    struct runtime_watch *next;
    struct proxy_server *s;
    unsigned layer;
    const char *dir; /* where its keys begin */
    struct file_watch *root, *inside;
};

/* ---- values ---- */

static bool fraction_of(const struct google_Struct *m, struct runtime_value *out)
{
    static const struct {
        const char *name;
        uint32_t n;
    } of[] = {{"HUNDRED", 100}, {"TEN_THOUSAND", 10000}, {"MILLION", 1000000}};
    const struct google_Value *n = pb_struct_get(m, SV("numerator"));
    sv d = pb_struct_text(m, SV("denominator"));
    if (!n || n->which_kind != google_Value_number_value_tag || n->number_value < 0 ||
        n->number_value > UINT32_MAX)
        return false;
    for (size_t i = 0; i < sizeof of / sizeof *of; i++)
        if (d.n ? sv_eq_c(d, of[i].name) : i == 0) {
            out->numerator = (uint32_t)n->number_value;
            out->denominator = of[i].n;
            return true;
        }
    return false;
}

static void put_text(struct proxy_server *s, unsigned layer, sv key, sv text)
{
    runtime_set(s->runtime, layer, key, &(struct runtime_value){.text = text});
}

static void put_fraction(struct proxy_server *s, unsigned layer, sv key,
                         const struct google_Struct *m, struct runtime_value v)
{
    struct strbuf b;
    strbuf_init(&b, VALUE_MAX);
    pb_to_json(&google_Struct_pb, m, &(struct pb_json_opts){0}, &b);
    v.text = strbuf_sv(&b);
    runtime_set(s->runtime, layer, key, &v);
    strbuf_fini(&b);
}

/* Text of a file or of the admin: a number, a truth value, a fraction, or just text. */
static void put_any(struct proxy_server *s, unsigned layer, sv key, sv text)
{
    struct arena a;
    void *m;
    struct runtime_value v;
    arena_init_malloc(&a);
    if (sv_find(text, ':') >= 0 &&
        pb_from_text(&google_Struct_pb, text, "runtime", &a, NULL, &m, NULL) == 0 &&
        fraction_of(m, &v))
        put_fraction(s, layer, key, m, v);
    else
        put_text(s, layer, key, text);
    arena_free(&a);
}

/* ---- static layers ---- */

static void put_static(struct proxy_server *s, unsigned layer, sv key, const struct google_Value *v)
{
    char number[32];
    switch (v->which_kind) {
    case google_Value_number_value_tag:
        snprintf(number, sizeof number, "%.15g", v->number_value);
        put_text(s, layer, key, sv_of(number));
        return;
    case google_Value_bool_value_tag:
        put_text(s, layer, key, v->bool_value ? SV("true") : SV("false"));
        return;
    case google_Value_string_value_tag:
        put_any(s, layer, key, v->string_value);
        return;
    default:
        return;
    }
}

/* {a: {b: 1}} is the key "a.b". */
static void flatten(struct proxy_server *s, unsigned layer, const struct google_Struct *m,
                    sv prefix, int depth)
{
    for (uint32_t i = 0; depth < DEPTH_MAX && i < m->fields.n; i++) {
        struct runtime_value fraction;
        sv key = prefix.n ? arena_printf(&s->arena, "%.*s.%.*s", SV_ARG(prefix),
                                         SV_ARG(m->fields.v[i]->key))
                          : m->fields.v[i]->key;
        const struct google_Value *v = m->fields.v[i]->value;
        bool table = v && v->which_kind == google_Value_struct_value_tag && v->struct_value;
        if (table && fraction_of(v->struct_value, &fraction))
            put_fraction(s, layer, key, v->struct_value, fraction);
        else if (table)
            flatten(s, layer, v->struct_value, key, depth + 1);
        else if (v)
            put_static(s, layer, key, v);
    }
}

/* ---- disk layers ---- */

/* Without lines that begin with '#' and blanks at the end. */
static sv content(sv text, struct arena *a)
{
    char *out = arena_alloc(a, text.n + 1);
    size_t n = 0;
    sv line;
    for (bool more = text.n > 0; more;) {
        more = sv_cut(text, '\n', &line, &text);
        if (line.n && line.p[0] == '#')
            continue;
        if (line.n)
            memcpy(out + n, line.p, line.n);
        n += line.n;
        if (more)
            out[n++] = '\n';
    }
    while (n && strchr(" \t\r\n", out[n - 1]))
        n--;
    return sv_make(out, n);
}

struct file_value {
    struct file_value *next;
    sv key, text;
};

struct reading {
    struct file_value *found;
    unsigned keys;
    struct arena a;
    struct error err;
};

static int read_dir(struct reading *r, const char *dir, const char *prefix, int depth);

static int read_entry(struct reading *r, const char *path, const char *key, int depth)
{
    struct stat st;
    sv text;
    if (stat(path, &st) < 0)
        return error_set(&r->err, E_NOT_FOUND, "'%s' cannot be read: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return read_dir(r, path, key, depth + 1);
    if (!S_ISREG(st.st_mode))
        return 0;
    if (++r->keys > KEYS_MAX)
        return error_set(&r->err, E_LIMIT, "has more than %d keys", KEYS_MAX);
    int rc = data_source_file(sv_of(path), VALUE_MAX, "value", &r->a, &text, &r->err);
    if (rc < 0)
        return rc;
    struct file_value *v = arena_new(&r->a, struct file_value);
    *v = (struct file_value){r->found, sv_of(key), content(text, &r->a)};
    r->found = v;
    return 0;
}

static int read_dir(struct reading *r, const char *dir, const char *prefix, int depth)
{
    DIR *d = depth < DEPTH_MAX ? opendir(dir) : NULL;
    int rc = 0;
    if (!d)
        return error_set(&r->err, depth < DEPTH_MAX ? E_NOT_FOUND : E_LIMIT,
                         "'%s' cannot be read: %s", dir,
                         depth < DEPTH_MAX ? strerror(errno) : "is too deep");
    for (struct dirent *e = readdir(d); rc == 0 && e; e = readdir(d)) {
        if (e->d_name[0] == '.') /* also ..data and the like of mounted ConfigMaps */
            continue;
        const char *path = arena_printf(&r->a, "%s/%s", dir, e->d_name).p;
        const char *key = arena_printf(&r->a, "%s%s%s", prefix, *prefix ? "." : "", e->d_name).p;
        rc = read_entry(r, path, key, depth);
    }
    closedir(d);
    return rc;
}

/* All of a directory; when something of it cannot be read, what there was stays. */
static void read_layer(struct runtime_watch *w)
{
    struct proxy_server *s = w->s;
    struct stat st;
    struct reading r = {0};
    bool there = stat(w->dir, &st) == 0;
    arena_init_malloc(&r.a);
    int rc = there ? read_dir(&r, w->dir, "", 0) : 0;
    if (rc == 0)
        runtime_clear(s->runtime, w->layer);
    else
        log_warn(&log_config, "runtime layer stays as it was: %s", r.err.msg);
    for (struct file_value *v = rc == 0 ? r.found : NULL; v; v = v->next)
        put_any(s, w->layer, v->key, v->text);
    arena_free(&r.a);
    if (s->runtime_stats.def) {
        stat_inc(&s->runtime_stats,
                 there ? runtime_stats_override_dir_exists : runtime_stats_override_dir_not_exists);
        stat_inc(&s->runtime_stats, rc < 0 ? runtime_stats_load_error : runtime_stats_load_success);
    }
    proxy_runtime_published(s);
}

static void on_change(void *arg)
{
    struct runtime_watch *w = arg;
    read_layer(w);
    log_info(&log_config, "runtime layer read again path=%s", w->dir);
}

static int add_disk(struct proxy_server *s, unsigned layer,
                    const struct envoy_RuntimeLayer_DiskLayer *m, struct error *err)
{
    struct runtime_watch *w = arena_new(&s->arena, struct runtime_watch);
    const char *root = arena_cstr(&s->arena, m->symlink_root);
    struct stat st;
    if (stat(root, &st) < 0)
        return error_set(err, E_NOT_FOUND, ".disk_layer.symlink_root: '%s': %s", root,
                         strerror(errno));
    sv dir = m->symlink_root;
    if (m->subdirectory.n)
        dir = arena_printf(&s->arena, "%.*s/%.*s", SV_ARG(dir), SV_ARG(m->subdirectory));
    if (m->append_service_cluster)
        dir = arena_printf(&s->arena, "%.*s/%.*s", SV_ARG(dir), SV_ARG(s->node.cluster));
    *w = (struct runtime_watch){
        .next = s->disk_layers, .s = s, .layer = layer, .dir = arena_cstr(&s->arena, dir)};
    s->disk_layers = w;
    if (s->validating)
        return 0;
    w->root = file_watch_new(s->loop, root, on_change, w, err);
    if (w->root && strcmp(w->dir, root) != 0)
        w->inside = file_watch_new(s->loop, w->dir, on_change, w, err);
    return w->root && (w->inside || strcmp(w->dir, root) == 0) ? 0 : err->code;
}

/* ---- all of them ---- */

static int add_layer(struct proxy_server *s, const struct envoy_RuntimeLayer *const *all,
                     uint32_t i, struct error *err)
{
    const struct envoy_RuntimeLayer *l = all[i];
    if (!l->name.n)
        return error_set(err, E_INVALID, ".name: must not be empty");
    for (uint32_t k = 0; k < i; k++)
        if (sv_eq(all[k]->name, l->name))
            return error_set(err, E_INVALID, ".name: '%.*s' is the name of another layer, too",
                             SV_ARG(l->name));
    switch (l->which_layer_specifier) {
    case envoy_RuntimeLayer_static_layer_tag:
        if (l->static_layer)
            flatten(s, i, l->static_layer, (sv){NULL, 0}, 0);
        return 0;
    case envoy_RuntimeLayer_disk_layer_tag:
        return add_disk(s, i, l->disk_layer, err);
    case envoy_RuntimeLayer_admin_layer_tag:
        if (s->admin_layer >= 0)
            return error_set(err, E_INVALID, ".admin_layer: there is one already");
        s->admin_layer = (int)i;
        return 0;
    default:
        return error_set(err, E_INVALID,
                         ": one of static_layer, disk_layer, admin_layer must be set");
    }
}

int proxy_runtime_load(struct proxy_server *s, struct error *err)
{
    const struct envoy_LayeredRuntime *r = s->bootstrap->layered_runtime;
    s->admin_layer = -1;
    s->runtime = runtime_new(r ? r->layers.n : 0);
    for (uint32_t i = 0; r && i < r->layers.n; i++) {
        int rc = add_layer(s, r->layers.v, i, err);
        if (rc < 0) {
            error_prefix(err, "layered_runtime.layers[%u]", i);
            return rc;
        }
    }
    for (struct runtime_watch *w = s->disk_layers; w; w = w->next)
        read_layer(w);
    runtime_publish(s->runtime);
    s->max_connections =
        proxy_runtime_number(s, SV("overload.global_downstream_max_connections"), UINT64_MAX);
    return 0;
}

void proxy_runtime_stats(struct proxy_server *s)
{
    struct stats_scope *sc = stats_scope_plain(s->stats, SV("runtime."));
    stat_group_init(&s->runtime_stats, &runtime_stats_def, sc);
    stats_scope_unref(sc);
    stat_group_touch(&s->runtime_stats);
    stat_inc(&s->runtime_stats, runtime_stats_load_success);
    proxy_runtime_published(s);
}

static void count_key(void *arg, sv key, sv value, const sv *of, unsigned layers)
{
    ++*(uint64_t *)arg;
}

void proxy_runtime_published(struct proxy_server *s)
{
    const struct envoy_LayeredRuntime *r = s->bootstrap->layered_runtime;
    uint64_t keys = 0;
    runtime_publish(s->runtime);
    if (!s->runtime_stats.def)
        return;
    runtime_each(s->runtime, count_key, &keys);
    stat_gauge_set(&s->runtime_stats, runtime_stats_num_keys, keys);
    stat_gauge_set(&s->runtime_stats, runtime_stats_num_layers, r ? r->layers.n : 0);
    stat_gauge_set(&s->runtime_stats, runtime_stats_admin_overrides_active,
                   s->admin_layer >= 0 && runtime_count(s->runtime, (unsigned)s->admin_layer) > 0);
}

void proxy_runtime_modify(struct proxy_server *s, sv key, sv text)
{
    if (text.n)
        put_any(s, (unsigned)s->admin_layer, key, text);
    else
        runtime_set(s->runtime, (unsigned)s->admin_layer, key, NULL);
}

uint64_t proxy_runtime_number(const struct proxy_server *s, sv key, uint64_t otherwise)
{
    return runtime_text_number(s->runtime, key, otherwise);
}

void proxy_runtime_unwatch(struct proxy_server *s)
{
    for (struct runtime_watch *w = s->disk_layers; w; w = w->next) {
        if (w->root)
            file_watch_free(w->root);
        if (w->inside)
            file_watch_free(w->inside);
    }
    s->disk_layers = NULL;
    if (s->runtime_stats.def)
        stat_group_fini(&s->runtime_stats);
}

void proxy_runtime_fini(struct proxy_server *s)
{
    runtime_free(s->runtime);
}
