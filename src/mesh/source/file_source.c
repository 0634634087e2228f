#include "mesh/source/file_source.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "api/node.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "mesh/source/object_reader.h"

LOG_COMPONENT(source);

#define SOURCE     "file"
#define FILE_MAX   (64u << 20)
#define DEPTH_MAX  8
#define KEY_MAX    700
#define UNREADABLE 2 /* in place of a hash: those are odd */

/* One file, what its last reading defined, and its hash, so that unchanged text is not parsed. */
struct source_file {
    char *path;
    uint64_t hash;
    uint64_t inode, modified_ns;
    struct map defined; /* "kind/ns/name" -> struct defined */
    bool seen, broken;
    bool shadowed; /* an object of it is defined elsewhere too, and that one is in force */
};

struct defined {
    enum model_kind kind;
    bool seen;
    char *ns, *name;
};

struct watched {
    struct watched *next;
    char *path;
    struct file_watch *watch;
    bool seen;
};

struct file_source {
    struct loop *loop;
    char *dir, *default_ns;
    struct model_store *store;
    void (*changed)(void *arg);
    void *arg;
    struct map files; /* path -> struct source_file */
    struct watched *watches;
    struct timer rescan; /* a directory that appeared is read once more after its watch stands */
    bool single;         /* `dir` is a file */
    bool dirty;
    bool freed; /* a name became free that a shadowed file may claim */
};

static void defined_free(struct defined *d)
{
    if (!d)
        return;
    free(d->ns);
    free(d->name);
    free(d);
}

static void on_change(void *arg)
{
    file_source_refresh(arg);
}

/* Hints are for those who ask (weft analyze), not for a running control plane. */
static void report(struct file_source *f, const struct model_problem *p)
{
    if (p->severity != MODEL_HINT || !f->loop) {
        model_store_problem(f->store, SOURCE, p);
        f->dirty = true;
    }
    log_at(&log_source,
           p->severity == MODEL_ERROR     ? LOG_ERROR
           : p->severity == MODEL_WARNING ? LOG_WARNING
                                          : LOG_DEBUG,
           "%s file=%.*s line=%u object=%s/%.*s/%.*s field=%.*s: %.*s",
           p->severity == MODEL_ERROR ? "configuration refused" : "configuration not used",
           SV_ARG(p->file), p->line, p->has_object ? model_kind_name(p->kind) : "-", SV_ARG(p->ns),
           SV_ARG(p->name), SV_ARG(p->field), SV_ARG(p->text));
}

/* Marks an object as still defined by its file, whether or not its new form can be read. */
static struct defined *mark(struct source_file *sf, enum model_kind kind, sv ns, sv name)
{
    char key[KEY_MAX];
    struct defined *d;

    snprintf(key, sizeof key, "%d/%.*s/%.*s", (int)kind, SV_ARG(ns), SV_ARG(name));
    d = map_get(&sf->defined, sv_of(key));
    if (!d) {
        d = mem_new(struct defined);
        d->kind = kind;
        d->ns = sv_dup(ns);
        d->name = sv_dup(name);
        map_put(&sf->defined, sv_of(key), d);
    }
    d->seen = true;
    return d;
}

static void read_document(struct file_source *f, struct source_file *sf, const struct node *doc,
                          struct arena *a)
{
    struct model_problem problem;
    struct model_object *o;
    enum model_kind kind;
    sv ns, name;
    const struct node *items = node_get(doc, "items");

    if (sv_ends(node_str(doc, "kind"), SV("List")) && items && items->kind == NODE_SEQ) {
        for (uint32_t i = 0; i < items->n; i++)
            read_document(f, sf, items->v[i], a);
        return;
    }
    if (object_identify(doc, sv_of(f->default_ns), &kind, &ns, &name))
        mark(sf, kind, ns, name);
    if (object_read(doc, sv_of(sf->path), sv_of(f->default_ns), a, &o, &problem)) {
        report(f, &problem);
        return;
    }
    if (!o) {
        report(f, &problem);
        return;
    }
    switch (model_store_put(f->store, SOURCE, o)) {
    case MODEL_PUT_CONFLICT:
        sf->shadowed = f->dirty = true;
        break;
    case MODEL_PUT_CHANGED:
        f->dirty = true;
        break;
    case MODEL_PUT_SAME:
        break;
    }
}

/* What the file no longer defines goes. */
static void sweep(struct file_source *f, struct source_file *sf)
{
    for (uint32_t i = 0; i < sf->defined.n;) {
        struct map_entry *e = &sf->defined.entries[i];
        struct defined *d = e->val;
        if (d->seen) {
            d->seen = false;
            i++;
            continue;
        }
        if (model_store_del(f->store, SOURCE, d->kind, sv_of(d->ns), sv_of(d->name),
                            sv_of(sf->path)))
            f->dirty = f->freed = true;
        map_del(&sf->defined, e->key);
        defined_free(d);
    }
}

/* The parser's sentence is "FILE:LINE: WORDS"; the line is the better one. */
static void report_syntax(struct file_source *f, struct source_file *sf, uint32_t line, sv text)
{
    sv path = sv_of(sf->path), number, words;
    uint64_t n;

    if (sv_starts(text, path) && text.n > path.n + 1 &&
        sv_cut(sv_from(text, path.n + 1), ':', &number, &words) && sv_to_u64(number, &n) == 0) {
        line = (uint32_t)n;
        text = sv_trim(words);
    }
    report(f, &(struct model_problem){.severity = MODEL_ERROR,
                                      .file = path,
                                      .line = line,
                                      .text = text,
                                      .code = SV("ParseError")});
}

static void parse_file(struct file_source *f, struct source_file *sf, sv text)
{
    struct error err = {0};
    struct arena a;
    size_t pos = 0;
    uint32_t line = 1;
    struct node *doc;
    int rc;

    arena_init(&a);
    f->dirty |= sf->broken;
    sf->broken = sf->shadowed = false;
    model_store_clear_problems(f->store, SOURCE, sv_of(sf->path));
    while ((rc = node_parse_next(text, &pos, &line, sf->path, &a, &doc, &err)) == 0)
        read_document(f, sf, doc, &a);
    if (rc != E_EOF) {
        report_syntax(f, sf, line, sv_of(err.msg));
        /* What stood behind the error cannot be told apart from what was removed: keep it. */
        map_each (e, &sf->defined)
            ((struct defined *)e->val)->seen = true;
        sf->broken = true;
    }
    sweep(f, sf);
    arena_free(&a);
}

/* st: what was there before the first byte was read. */
static int slurp(const char *path, struct strbuf *out, struct stat *st)
{
    char chunk[65536];
    ssize_t n;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return error_from_errno(errno);
    if (fstat(fd, st) != 0) {
        close(fd);
        return E_IO;
    }
    while ((n = read(fd, chunk, sizeof chunk)) > 0)
        strbuf_add(out, chunk, (size_t)n);
    close(fd);
    return n < 0 ? E_IO : out->overflow ? E_LIMIT : 0;
}

/* It is there and cannot be read. What it defined stays in force. */
static void report_unreadable(struct file_source *f, struct source_file *sf, int rc)
{
    char text[128];

    if (sf->hash == UNREADABLE)
        return;
    sf->hash = UNREADABLE;
    model_store_clear_problems(f->store, SOURCE, sv_of(sf->path));
    snprintf(text, sizeof text, "the file cannot be read (%s): what it defined before stays",
             rc == E_LIMIT ? "it is larger than 64 MiB" : error_text(rc));
    report(f, &(struct model_problem){.severity = MODEL_ERROR,
                                      .file = sv_of(sf->path),
                                      .line = 1,
                                      .text = sv_of(text),
                                      .code = SV("ParseError")});
}

static void read_file(struct file_source *f, const char *path)
{
    struct source_file *sf = map_get(&f->files, sv_of(path));
    struct strbuf text;
    struct stat st;
    uint64_t hash;
    int rc;

    strbuf_init(&text, FILE_MAX);
    rc = slurp(path, &text, &st);
    if (rc == E_NOT_FOUND) { /* gone between listing and reading: the next event tells */
        strbuf_fini(&text);
        return;
    }
    hash = sv_hash_stable(strbuf_sv(&text)) | 1;
    if (!sf) {
        sf = mem_new(struct source_file);
        sf->path = sv_dup(sv_of(path));
        map_init(&sf->defined);
        map_put(&f->files, sv_of(sf->path), sf);
    }
    sf->seen = true;
    if (rc) {
        report_unreadable(f, sf, rc);
        strbuf_fini(&text);
        return;
    }
    sf->inode = st.st_ino;
    sf->modified_ns = (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
    if (sf->hash != hash) {
        sf->hash = hash;
        parse_file(f, sf, text.n ? strbuf_sv(&text) : SV(""));
    }
    strbuf_fini(&text);
}

/* A directory, or a link: what it leads to may change elsewhere. */
static void watch_path(struct file_source *f, const char *path)
{
    struct error err = {0};
    struct watched *w = f->watches;

    if (!f->loop)
        return;
    while (w && strcmp(w->path, path) != 0)
        w = w->next;
    if (!w) {
        w = mem_new(struct watched);
        w->path = sv_dup(sv_of(path));
        w->watch = file_watch_new(f->loop, path, on_change, f, &err);
        w->next = f->watches;
        f->watches = w;
        if (!w->watch)
            log_warn(&log_source, "changes are not noticed path=%s: %s", path, err.msg);
    }
    w->seen = true;
}

static bool wanted(sv name)
{
    return sv_ends(name, SV(".yaml")) || sv_ends(name, SV(".yml")) || sv_ends(name, SV(".json"));
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* In the order of names, so that which of two objects of one name is the first does not depend on
 * the file system. */
static void scan(struct file_source *f, const char *dir, int depth)
{
    DIR *d = depth <= DEPTH_MAX ? opendir(dir) : NULL;
    char **names = NULL, path[4096];
    size_t n = 0, cap = 0;
    struct dirent *e;
    struct stat st;

    if (!d)
        return;
    watch_path(f, dir);
    while ((e = readdir(d))) {
        if (e->d_name[0] == '.')
            continue;
        if (n == cap) {
            cap = cap ? cap * 2 : 16;
            names = mem_realloc(names, cap * sizeof *names);
        }
        names[n++] = sv_dup(sv_of(e->d_name));
    }
    closedir(d);
    if (n > 1)
        qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; i < n; i++) {
        int len = snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        if (len > 0 && (size_t)len < sizeof path && wanted(sv_of(names[i])) &&
            lstat(path, &st) == 0 && S_ISLNK(st.st_mode))
            watch_path(f, path);
        if (len > 0 && (size_t)len < sizeof path && stat(path, &st) == 0) {
            if (S_ISDIR(st.st_mode))
                scan(f, path, depth + 1);
            else if (S_ISREG(st.st_mode) && wanted(sv_of(names[i])))
                read_file(f, path);
        }
        free(names[i]);
    }
    free(names);
}

static void drop_file(struct file_source *f, struct source_file *sf)
{
    model_store_clear_problems(f->store, SOURCE, sv_of(sf->path));
    f->dirty = true;
    map_each (e, &sf->defined)
        ((struct defined *)e->val)->seen = false;
    sweep(f, sf);
}

static void file_free(struct source_file *sf)
{
    map_each (e, &sf->defined)
        defined_free(e->val);
    map_fini(&sf->defined);
    free(sf->path);
    free(sf);
}

static void read_all(struct file_source *f)
{
    f->dirty = false;
    map_each (e, &f->files)
        ((struct source_file *)e->val)->seen = false;
    for (struct watched *w = f->watches; w; w = w->next)
        w->seen = false;
    if (f->single)
        read_file(f, f->dir);
    else
        scan(f, f->dir, 0);
    for (uint32_t i = 0; i < f->files.n;) {
        struct source_file *sf = f->files.entries[i].val;
        if (sf->seen) {
            i++;
            continue;
        }
        drop_file(f, sf);
        map_del(&f->files, sv_of(sf->path));
        file_free(sf);
    }
    for (struct watched **at = &f->watches; *at;) {
        struct watched *w = *at;
        if (w->seen) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        file_watch_free(w->watch);
        free(w->path);
        free(w);
    }
}

/* Files that lost a name to another one are read again once a name became free. */
static void claim(struct file_source *f)
{
    f->freed = false;
    map_each (e, &f->files) {
        struct source_file *sf = e->val;
        if (sf->shadowed)
            sf->hash = 0;
    }
    bool dirty = f->dirty;
    read_all(f);
    f->dirty |= dirty;
}

void file_source_refresh(struct file_source *f)
{
    struct watched *before = f->watches;

    read_all(f);
    if (f->freed)
        claim(f);
    /* A new directory may have been filled before its watch stood. */
    if (f->loop && f->watches != before)
        timer_set(&f->rescan, 20);
    if (f->dirty && f->changed)
        f->changed(f->arg);
}

static void rescan(struct timer *t)
{
    file_source_refresh(container_of(t, struct file_source, rescan));
}

struct file_source *file_source_new(struct loop *l, const char *dir, sv default_ns,
                                    struct model_store *store, void (*changed)(void *arg),
                                    void *arg, struct error *err)
{
    struct file_source *f;
    struct stat st;

    if (stat(dir, &st) != 0 || !(S_ISDIR(st.st_mode) || (!l && S_ISREG(st.st_mode)))) {
        error_set(err, E_NOT_FOUND,
                  access(dir, F_OK) ? "configuration directory '%s' does not exist"
                                    : "'%s' is no directory: give the one that holds the files",
                  dir);
        return NULL;
    }
    if (access(dir, S_ISDIR(st.st_mode) ? R_OK | X_OK : R_OK)) {
        error_set(err, E_INVALID, "'%s' cannot be read: %s", dir, strerror(errno));
        return NULL;
    }
    f = mem_new(struct file_source);
    f->single = S_ISREG(st.st_mode);
    f->loop = l;
    f->dir = sv_dup(sv_of(dir));
    f->default_ns = sv_dup(default_ns);
    f->store = store;
    f->changed = changed;
    f->arg = arg;
    map_init(&f->files);
    if (l)
        timer_init(&f->rescan, l, rescan);
    read_all(f);
    return f;
}

void file_source_status_json(const struct file_source *f, struct strbuf *out)
{
    strbuf_add_ch(out, '[');
    map_each (e, &f->files) {
        const struct source_file *sf = e->val;
        strbuf_add_c(out, out->p[out->n - 1] == '[' ? "{\"file\":" : ",{\"file\":");
        strbuf_add_json(out, sv_of(sf->path));
        strbuf_addf(out, ",\"inode\":%lu,\"modifiedNs\":%lu,\"objects\":%u,\"broken\":%s}",
                    sf->inode, sf->modified_ns, sf->defined.n, sf->broken ? "true" : "false");
    }
    strbuf_add_ch(out, ']');
}

void file_source_free(struct file_source *f)
{
    if (!f)
        return;
    if (f->loop)
        timer_cancel(&f->rescan);
    while (f->watches) {
        struct watched *w = f->watches;
        f->watches = w->next;
        file_watch_free(w->watch);
        free(w->path);
        free(w);
    }
    map_each (e, &f->files)
        file_free(e->val);
    map_fini(&f->files);
    free(f->dir);
    free(f->default_ns);
    free(f);
}
