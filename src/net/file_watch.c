/* Watches of files and directories. One inotify instance a loop (a user has only 128).
 *
 * A watch is a list of places where a change matters: for a directory its every entry; for the
 * path itself, each symbolic link on the way to it and its end, as (directory, name). The list is
 * made anew after each change, since links may point elsewhere then. A place that does not exist
 * yet ends the list: its directory tells when it appears. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/mem.h"
#include "net/loop_private.h"

#define MERGE_MS   20
#define LINKS_MAX  40
#define PLACES_MAX 64
#define EVENTS                                                                                     \
    (IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | IN_ATTRIB |            \
     IN_DELETE_SELF | IN_MOVE_SELF)

struct files {
    struct loop_part part;
    struct loop *loop;
    struct io io;
    int fd;
    struct list watches;
};

struct place {
    int wd;
    char *name; /* NULL: any entry */
};

struct file_watch {
    struct list link;
    struct files *files;
    struct timer merge;
    struct deferred gone;
    void (*fn)(void *arg);
    void *arg;
    char *path; /* absolute */
    struct place places[PLACES_MAX];
    int n;
    bool freed;
};

/* ---- places ---- */

static bool wd_used(const struct files *f, int wd)
{
    list_each (it, &f->watches) {
        const struct file_watch *w = container_of(it, struct file_watch, link);
        for (int i = 0; i < w->n; i++)
            if (w->places[i].wd == wd)
                return true;
    }
    return false;
}

static void drop_places(struct files *f, struct place *p, int n)
{
    for (int i = 0; i < n; i++) {
        free(p[i].name);
        if (!wd_used(f, p[i].wd))
            inotify_rm_watch(f->fd, p[i].wd);
    }
}

/* 0, or -errno. */
static int add_place(struct file_watch *w, const char *dir, const char *name)
{
    if (w->n == PLACES_MAX)
        return 0;
    int wd = inotify_add_watch(w->files->fd, *dir ? dir : "/", EVENTS | IN_ONLYDIR);
    if (wd < 0)
        return -errno;
    w->places[w->n++] = (struct place){wd, name ? sv_dup(sv_of(name)) : NULL};
    return 0;
}

/* Cuts the first component off `rest`; false when there is none. */
static bool next_component(char **rest, char name[NAME_MAX + 1])
{
    char *p = *rest + strspn(*rest, "/");
    size_t n = strcspn(p, "/");
    *rest = p + n;
    if (n == 0 || n > NAME_MAX)
        return false;
    memcpy(name, p, n);
    name[n] = 0;
    return true;
}

/* Puts a link's target in front of what is left of the path. */
static bool follow(const char *full, char dir[PATH_MAX], char rest[PATH_MAX], char **at)
{
    char target[PATH_MAX], left[PATH_MAX];
    ssize_t n = readlink(full, target, sizeof target - 1);
    if (n <= 0 || (size_t)n + 1 + strlen(*at) >= PATH_MAX)
        return false;
    target[n] = 0;
    strcpy(left, *at);
    memcpy(rest, target, (size_t)n);
    strcpy(rest + n, left);
    *at = rest;
    if (target[0] == '/')
        dir[0] = 0;
    return true;
}

static void parent(char *dir)
{
    char *slash = strrchr(dir, '/');
    *(slash ? slash : dir) = 0;
}

/* Walks from the root. Only links and the end are watched in their directories: that other
 * directories on the way are renamed is not expected of a running system. */
static int find_places(struct file_watch *w)
{
    char dir[PATH_MAX] = "", rest[PATH_MAX], name[NAME_MAX + 1], full[PATH_MAX], *at = rest;
    int links = 0, rc = 0;
    struct stat st;
    strcpy(rest, w->path);
    while (!rc && next_component(&at, name)) {
        if (!strcmp(name, "."))
            continue;
        if (!strcmp(name, "..")) {
            parent(dir);
            continue;
        }
        if (strlen(dir) + 1 + strlen(name) >= sizeof full)
            return -ENAMETOOLONG;
        stpcpy(stpcpy(stpcpy(full, dir), "/"), name);
        bool there = lstat(full, &st) == 0, last = at[strspn(at, "/")] == 0;
        if (!there || S_ISLNK(st.st_mode) || last)
            rc = add_place(w, dir, name);
        if (!there || rc)
            return rc;
        if (S_ISLNK(st.st_mode)) {
            if (++links > LINKS_MAX || !follow(full, dir, rest, &at))
                return 0;
            continue;
        }
        strcpy(dir, full);
    }
    if (!rc && (dir[0] == 0 || (stat(dir, &st) == 0 && S_ISDIR(st.st_mode))))
        rc = add_place(w, dir, NULL);
    return rc;
}

static int refresh(struct file_watch *w)
{
    struct place old[PLACES_MAX];
    int n = w->n;
    memcpy(old, w->places, sizeof *old * (size_t)n);
    w->n = 0;
    int rc = find_places(w);
    drop_places(w->files, old, n);
    return rc;
}

/* ---- events ---- */

static void on_merged(struct timer *t)
{
    struct file_watch *w = container_of(t, struct file_watch, merge);
    /* Something may vanish between being looked at and being watched. */
    for (int tries = 0; tries < 3 && refresh(w); tries++)
        ;
    w->fn(w->arg);
}

static bool concerns(const struct file_watch *w, const struct inotify_event *e)
{
    if (e->mask & IN_Q_OVERFLOW)
        return true;
    for (int i = 0; i < w->n; i++) {
        const struct place *p = &w->places[i];
        bool gone = e->mask & (IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF);
        if (p->wd == e->wd && (gone || !p->name || (e->len && !strcmp(p->name, e->name))))
            return true;
    }
    return false;
}

static void on_event(struct files *f, const struct inotify_event *e)
{
    list_each (it, &f->watches) {
        struct file_watch *w = container_of(it, struct file_watch, link);
        if (!timer_active(&w->merge) && concerns(w, e))
            timer_set(&w->merge, MERGE_MS);
    }
}

static void on_readable(struct io *io, uint32_t events)
{
    struct files *f = container_of(io, struct files, io);
    char p[16384] __attribute__((aligned(__alignof__(struct inotify_event))));
    ssize_t n;
    while ((n = read(f->fd, p, sizeof p)) > 0)
        for (ssize_t at = 0; at < n;) {
            const struct inotify_event *e = (const void *)(p + at);
            on_event(f, e);
            at += (ssize_t)(sizeof *e + e->len);
        }
}

/* ---- life ---- */

static void files_free(struct loop_part *p)
{
    struct files *f = container_of(p, struct files, part);
    list_each_safe (it, &f->watches) {
        file_watch_free(container_of(it, struct file_watch, link));
    }
    io_forget(&f->io);
    close(f->fd);
    free(f);
}

static struct files *files_of(struct loop *l, struct error *err)
{
    struct loop_part **part = loop_files(l);
    if (*part)
        return container_of(*part, struct files, part);
    if (loop_os(l) != os_real()) {
        error_set(err, E_UNSUPPORTED, "files cannot be watched in simulation");
        return NULL;
    }
    struct files *f = mem_new(struct files);
    f->part.free = files_free;
    f->loop = l;
    list_init(&f->watches);
    f->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    int rc = f->fd < 0 ? error_from_errno(errno) : io_add(l, &f->io, f->fd, on_readable);
    if (rc) {
        error_set(err, rc, "cannot watch files: inotify: %s", error_text(rc));
        if (f->fd >= 0)
            close(f->fd);
        free(f);
        return NULL;
    }
    *part = &f->part;
    return f;
}

static char *absolute(const char *path)
{
    char cwd[PATH_MAX];
    if (path[0] == '/')
        return sv_dup(sv_of(path));
    if (!getcwd(cwd, sizeof cwd))
        return NULL;
    char *out = mem_alloc(strlen(cwd) + strlen(path) + 2);
    stpcpy(stpcpy(stpcpy(out, cwd), "/"), path);
    return out;
}

struct file_watch *file_watch_new(struct loop *l, const char *path, void (*fn)(void *arg),
                                  void *arg, struct error *err)
{
    struct files *f = files_of(l, err);
    if (!f)
        return NULL;
    struct file_watch *w = mem_new(struct file_watch);
    w->files = f;
    w->fn = fn;
    w->arg = arg;
    w->path = absolute(path);
    timer_init(&w->merge, l, on_merged);
    list_push(&f->watches, &w->link);
    int rc = !w->path || strlen(w->path) >= PATH_MAX ? -ENAMETOOLONG : find_places(w);
    if (rc) {
        int code = error_from_errno(-rc);
        error_set(err, code, "cannot watch %s: %s", path, strerrordesc_np(-rc));
        file_watch_free(w);
        return NULL;
    }
    return w;
}

static void free_watch(struct deferred *d)
{
    struct file_watch *w = container_of(d, struct file_watch, gone);
    free(w->path);
    free(w);
}

void file_watch_free(struct file_watch *w)
{
    if (!w || w->freed)
        return;
    w->freed = true;
    int n = w->n;
    w->n = 0;
    list_del(&w->link);
    timer_cancel(&w->merge);
    drop_places(w->files, w->places, n);
    loop_defer(w->files->loop, &w->gone, free_watch);
}
