#include "proxy/config_files.h"

#include <stdlib.h>
#include <unistd.h>

#include "api/pb.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "proxy/config_ads.h"
#include "proxy/sds.h"
#include "proxy/server_private.h"
#include "proxy/subscription.h"
#include "upstream/data_source.h"

LOG_COMPONENT(config);

#define FILE_MAX (128u << 20)

struct config_files {
    struct config_source src;
    struct proxy_server *s;
    struct config_source *ads; /* what is not in files; NULL: nothing else */
    struct config_sink sink;
    bool started;
    struct list files;
    struct map places; /* "TYPE/name" -> place */
};

/* A file that resources of one type come from. */
struct file {
    struct list link;
    struct config_files *owner;
    enum config_type type;
    char *path;
    struct file_watch *watch;
    struct deferred load, gone;
    uint32_t users; /* names that are subscribed to */
    bool load_due, freed;
    struct map names; /* of the last good version */
};

/* Where the resource of a name comes from. */
struct place {
    char *path, *directory; /* directory: "" or what is watched instead of the path */
    struct file *file;      /* NULL: not subscribed */
};

static void place_free(struct place *p)
{
    free(p->path);
    free(p->directory);
    free(p);
}

static sv key_of(enum config_type t, sv name, struct strbuf *room)
{
    strbuf_init(room, 1u << 20);
    strbuf_addf(room, "%d/", (int)t);
    strbuf_add_sv(room, name);
    return strbuf_sv(room);
}

/* ---- reading ---- */

static int decode(const struct file *f, sv text, struct arena *a, void **out, struct error *err)
{
    const struct pb_message *m = &envoy_DiscoveryResponse_pb;
    sv path = sv_of(f->path);
    if (sv_ends(path, SV(".pb")))
        return pb_decode(m, text, a, &f->owner->s->dynamic_pb, out, err);
    if (sv_ends(path, SV(".pb_text")))
        return error_set(err, E_UNSUPPORTED, "text protobuf is not supported; use YAML or JSON");
    return pb_from_text(m, text, f->path, a, &f->owner->s->dynamic_pb, out, err);
}

/* A resource that is broken refuses the file: it is decoded here, although only its name is wanted.
 */
static int check_resource(enum config_type t, struct config_resource *r, struct arena *a,
                          const struct pb_opts *o, struct error *err)
{
    void *m;
    const struct pb_message *type = pb_find(sv_of(proxy_config_type_name(t)));
    int rc = pb_decode(type, r->packed, a, o, &m, err);
    if (rc < 0)
        return rc;
    r->name = xds_resource_name(config_ads_type(t), r->packed);
    return r->name.n ? 0 : error_set(err, E_INVALID, "name: must not be empty");
}

static int read_resource(const struct file *f, const struct google_Any *any,
                         struct config_resource *r, struct arena *a, struct error *err)
{
    const struct pb_opts *o = &f->owner->s->dynamic_pb;
    void *m;
    if (sv_eq(pb_any_type(any->type_url), SV("envoy.service.discovery.v3.Resource"))) {
        int rc = pb_any_unpack(any, &envoy_Resource_pb, a, o, &m, err);
        if (rc < 0)
            return rc;
        any = ((struct envoy_Resource *)m)->resource;
    }
    if (!any || !sv_eq_c(pb_any_type(any->type_url), proxy_config_type_name(f->type)))
        return error_set(err, E_INVALID, "must be a %s", proxy_config_type_name(f->type));
    r->packed = any->value;
    return check_resource(f->type, r, a, o, err);
}

static bool has_name(const struct config_update *u, sv name)
{
    for (uint32_t i = 0; i < u->n; i++)
        if (sv_eq(u->v[i].name, name))
            return true;
    return false;
}

/* Clusters and listeners that are no longer in the file are gone. */
static void find_removed(struct file *f, struct config_update *u, struct arena *a)
{
    sv *removed = arena_array(a, sv, map_len(&f->names) + 1);
    if (f->type != CONFIG_CDS && f->type != CONFIG_LDS)
        return;
    map_each (e, &f->names) {
        if (!has_name(u, e->key))
            removed[u->n_removed++] = arena_sv(a, e->key);
    }
    u->removed = removed;
}

static int read_update(struct file *f, struct arena *a, struct config_update *u, struct error *err)
{
    sv text;
    void *m;
    int rc = data_source_file(sv_of(f->path), FILE_MAX, "path_config_source", a, &text, err);
    if (rc == 0)
        rc = decode(f, text, a, &m, err);
    if (rc < 0)
        return rc;
    const struct envoy_DiscoveryResponse *r = m;
    u->type = f->type;
    u->version = r->version_info;
    u->v = arena_array(a, struct config_resource, r->resources.n + 1);
    for (uint32_t i = 0; i < r->resources.n; i++) {
        rc = read_resource(f, r->resources.v[i], &u->v[i], a, err);
        if (rc < 0) {
            error_prefix(err, "%s: resources[%u]: ", f->path, i);
            return rc;
        }
        if (has_name(u, u->v[i].name))
            return error_set(err, E_INVALID, "%s: resources[%u]: '%.*s' is there twice", f->path, i,
                             SV_ARG(u->v[i].name));
        u->v[i].version = u->version;
        u->n++;
    }
    find_removed(f, u, a);
    return 0;
}

static void remember(struct file *f, const struct config_update *u)
{
    map_fini(&f->names);
    map_init(&f->names);
    for (uint32_t i = 0; i < u->n; i++)
        map_put(&f->names, u->v[i].name, f);
}

/* ---- one file ---- */

static void tell_missing(struct file *f)
{
    const struct config_sink *sink = &f->owner->sink;
    if (f->type == CONFIG_CDS || f->type == CONFIG_LDS)
        sink->missing(sink->self, f->type, (sv){NULL, 0});
}

/* The names that are wanted of it, where secrets count by name: all of them, or those that are not
 * in it. */
static void count_names(struct file *f, const struct config_update *u)
{
    struct strbuf prefix;
    if (f->type != CONFIG_SDS)
        return;
    sv type = key_of(f->type, SV(""), &prefix);
    map_each (e, &f->owner->places) {
        const struct place *p = e->val;
        sv name = sv_from(e->key, type.n);
        if (p->file != f || !sv_starts(e->key, type) || (u && has_name(u, name)))
            continue;
        if (!u) {
            sds_count_failure(f->owner->s, name);
            continue;
        }
        log_warn(&log_config, "file refused, it has no such secret path=%s name=%.*s", f->path,
                 SV_ARG(name));
        sds_count_rejected(f->owner->s, name);
    }
    strbuf_fini(&prefix);
}

static void load(struct deferred *d)
{
    struct file *f = container_of(d, struct file, load);
    struct config_update u = {0};
    struct error err = {0};
    struct arena a;
    f->load_due = false;
    if (f->freed || !f->owner->started)
        return;
    arena_init(&a);
    if (read_update(f, &a, &u, &err) == 0) {
        remember(f, &u);
        count_names(f, &u);
        f->owner->sink.update(f->owner->sink.self, &u);
    } else {
        log_error(&log_config, "file refused, the last good version stays in force reason=%s",
                  err.msg);
        subscription_failed(&f->owner->s->subscriptions[f->type]);
        count_names(f, NULL);
        tell_missing(f);
    }
    arena_free(&a);
}

static void load_soon(void *arg)
{
    struct file *f = arg;
    if (f->load_due || !f->owner->started)
        return;
    f->load_due = true;
    loop_defer(f->owner->s->loop, &f->load, load);
}

static struct file *file_use(struct config_files *c, enum config_type t, const struct place *p)
{
    struct error err = {0};
    list_each (it, &c->files) {
        struct file *f = container_of(it, struct file, link);
        if (f->type == t && strcmp(f->path, p->path) == 0) {
            f->users++;
            load_soon(f); /* for the name that is new */
            return f;
        }
    }
    struct file *f = mem_new(struct file);
    f->owner = c;
    f->type = t;
    f->path = sv_dup(sv_of(p->path));
    f->users = 1;
    map_init(&f->names);
    list_push(&c->files, &f->link);
    f->watch =
        file_watch_new(c->s->loop, p->directory[0] ? p->directory : p->path, load_soon, f, &err);
    if (!f->watch)
        log_warn(&log_config, "file is not watched path=%s reason=%s", p->path, err.msg);
    load_soon(f);
    return f;
}

static void file_free(struct deferred *d)
{
    struct file *f = container_of(d, struct file, gone);
    map_fini(&f->names);
    free(f->path);
    free(f);
}

static void file_unuse(struct file *f)
{
    if (--f->users)
        return;
    list_del(&f->link);
    file_watch_free(f->watch);
    f->freed = true;
    loop_defer(f->owner->s->loop, &f->gone, file_free); /* after a load that is due */
}

/* ---- config_source ---- */

static struct place *find(struct config_files *c, enum config_type t, sv name, bool take)
{
    struct strbuf room;
    if (!map_len(&c->places))
        return NULL;
    sv key = key_of(t, name, &room);
    struct place *p = take ? map_del(&c->places, key) : map_get(&c->places, key);
    strbuf_fini(&room);
    return p;
}

static int from(void *self, enum config_type t, sv name, const struct envoy_ConfigSource *src,
                struct error *err)
{
    struct config_files *c = self;
    struct strbuf room;
    const char *dir = "";
    if (!config_files_is(src))
        return c->ads ? 0 : error_set(err, E_INVALID, "dynamic_resources.ads_config is missing");
    int rc = config_files_check(src, err);
    if (rc < 0 || find(c, t, name, false))
        return rc;
    const struct envoy_PathConfigSource *pc = src->path_config_source;
    bool old = src->which_config_source_specifier == envoy_ConfigSource_path_tag;
    struct place *p = mem_new(struct place);
    p->path = sv_dup(old ? src->path : pc->path);
    p->directory =
        !old && pc->watched_directory ? sv_dup(pc->watched_directory->path) : sv_dup(sv_of(dir));
    map_put(&c->places, key_of(t, name, &room), p);
    strbuf_fini(&room);
    return 0;
}

static void subscribe(void *self, enum config_type t, sv name)
{
    struct config_files *c = self;
    struct place *p = find(c, t, name, false);
    if (p && !p->file)
        p->file = file_use(c, t, p);
    else if (!p && c->ads)
        c->ads->ops->subscribe(c->ads->self, t, name);
}

static void unsubscribe(void *self, enum config_type t, sv name)
{
    struct config_files *c = self;
    struct place *p = find(c, t, name, true);
    if (p) {
        if (p->file)
            file_unuse(p->file);
        place_free(p);
    } else if (c->ads) {
        c->ads->ops->unsubscribe(c->ads->self, t, name);
    }
}

static void start(void *self, const struct config_sink *sink)
{
    struct config_files *c = self;
    c->sink = *sink;
    c->started = true;
    list_each (it, &c->files)
        load_soon(container_of(it, struct file, link));
    if (c->ads)
        c->ads->ops->start(c->ads->self, sink);
}

static void source_free(void *self)
{
    struct config_files *c = self;
    c->started = false;
    map_each (e, &c->places) {
        struct place *p = e->val;
        if (p->file)
            file_unuse(p->file);
        place_free(p);
    }
    map_fini(&c->places);
    if (c->ads)
        c->ads->ops->free(c->ads->self);
    free(c);
}

static const struct config_source_ops ops = {subscribe, unsubscribe, start, source_free, from};

struct config_source *config_files_new(struct proxy_server *s, struct config_source *ads)
{
    struct config_files *c = mem_new(struct config_files);
    c->s = s;
    c->ads = ads;
    list_init(&c->files);
    map_init(&c->places);
    c->src = (struct config_source){&ops, c, ads && ads->has_vhds};
    return &c->src;
}

bool config_files_is(const struct envoy_ConfigSource *src)
{
    return src && (src->which_config_source_specifier == envoy_ConfigSource_path_tag ||
                   src->which_config_source_specifier == envoy_ConfigSource_path_config_source_tag);
}

int config_files_check(const struct envoy_ConfigSource *src, struct error *err)
{
    bool old = src->which_config_source_specifier == envoy_ConfigSource_path_tag;
    sv path = old ? src->path : src->path_config_source->path;
    const char *field = old ? "path" : "path_config_source.path";
    if (!path.n || memchr(path.p, 0, path.n))
        return error_set(err, E_INVALID, "%s: a file is needed", field);
    char *text = sv_dup(path);
    int rc = access(text, R_OK) == 0
                 ? 0
                 : error_set(err, E_NOT_FOUND, "%s: '%s' cannot be read", field, text);
    free(text);
    return rc;
}
