#include "telemetry/access_log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>
#include "base/list.h"
#include "base/mem.h"
#include "telemetry/stats.h"

#define FILE_STATS(P, COUNTER, GAUGE, HISTOGRAM, TEXT)                                             \
    COUNTER(P, write_buffered)                                                                     \
    COUNTER(P, write_completed)                                                                    \
    COUNTER(P, write_failed)                                                                       \
    COUNTER(P, write_dropped)                                                                      \
    COUNTER(P, flushed_by_timer)                                                                   \
    COUNTER(P, reopen_failed)                                                                      \
    GAUGE(P, write_total_buffered)
STAT_GROUP_DECLARE(file_stats, FILE_STATS);
STAT_GROUP_DEFINE(file_stats, FILE_STATS);

#define BATCH    64        /* buffers in one writev */
#define LINE_MAX (1 << 20) /* a line longer than this is cut */

/* A buffer on its way. */
struct block {
    struct block *next;
    char *p;
    size_t n;
    uint32_t lines;
};

/* Everything but path is under the lock; fd changes only while nobody writes to it. */
struct access_log_sink {
    struct list link;
    struct access_log_sinks *all;
    char *path;
    uint32_t refs; /* at 0 it goes when its last block is written */
    int fd;
    bool own_fd;
    bool writing;
    struct block *head, **tail;
    size_t queued; /* bytes handed over and not yet written */
};

struct access_log_sinks {
    pthread_mutex_t lock;
    pthread_cond_t work, idle;
    pthread_t thread;
    bool running, stop, reopen;
    uint32_t refs; /* the owner's, and one for each sink */
    struct list sinks;
    struct runtime *runtime;
    bool has_stats;
    struct stat_group stats;
};

struct access_log_writer {
    struct access_log_sinks *all;
    struct slot {
        struct access_log_sink *sink; /* referenced while the buffer holds anything, else NULL */
        struct strbuf buf;
        uint32_t lines;
    } * v;
    uint32_t n;
};

static void count(struct access_log_sinks *s, unsigned id, uint64_t n)
{
    if (s->has_stats)
        stat_add(&s->stats, id, n);
}

static void count_queued(struct access_log_sinks *s, int64_t delta)
{
    if (s->has_stats)
        stat_gauge_add(&s->stats, file_stats_write_total_buffered, delta);
}

struct access_log_sinks *access_log_sinks_new(struct stats *st)
{
    struct access_log_sinks *s = mem_new(struct access_log_sinks);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);
    pthread_cond_init(&s->idle, NULL);
    list_init(&s->sinks);
    s->refs = 1;
    if (st) {
        struct stats_scope *sc = stats_scope_plain(st, SV("filesystem."));
        stat_group_init(&s->stats, &file_stats_def, sc);
        stats_scope_unref(sc);
        s->has_stats = true;
    }
    return s;
}

/* Takes the lock with it. */
static void unlock_and_drop(struct access_log_sinks *s)
{
    bool last = --s->refs == 0;
    pthread_mutex_unlock(&s->lock);
    if (!last)
        return;
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->work);
    pthread_cond_destroy(&s->idle);
    free(s);
}

/* Under the lock: frees a sink that nobody wants and that has nothing left to write. True when it
 * is gone; the caller then owes its set a reference. */
static bool sink_try_free(struct access_log_sink *k)
{
    if (k->refs || k->head || k->writing)
        return false;
    list_del(&k->link);
    if (k->own_fd)
        close(k->fd);
    free(k->path);
    free(k);
    return true;
}

/* ---- the flush thread ---- */

/* Writes all of iov, whatever the system takes at a time. */
static bool write_all(int fd, struct iovec *iov, int n)
{
    while (n > 0) {
        ssize_t w = writev(fd, iov, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return false;
        while (n > 0 && (size_t)w >= iov->iov_len) {
            w -= (ssize_t)iov->iov_len;
            iov++;
            n--;
        }
        if (n > 0) {
            iov->iov_base = (char *)iov->iov_base + w;
            iov->iov_len -= (size_t)w;
        }
    }
    return true;
}

static void write_blocks(struct access_log_sinks *s, int fd, struct block *b)
{
    while (b) {
        struct iovec iov[BATCH];
        struct block *first = b;
        int n = 0;
        uint64_t lines = 0;
        for (; b && n < BATCH; b = b->next, n++) {
            iov[n] = (struct iovec){b->p, b->n};
            lines += b->lines;
        }
        bool ok = write_all(fd, iov, n);
        count(s, ok ? file_stats_write_completed : file_stats_write_failed, ok ? 1 : lines);
        while (first != b) {
            struct block *next = first->next;
            free(first->p);
            free(first);
            first = next;
        }
    }
}

static int open_file(const char *path)
{
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

/* Under the lock, nobody writing. A file that cannot be opened again stays as it was. */
static void reopen_all(struct access_log_sinks *s)
{
    list_each (it, &s->sinks) {
        struct access_log_sink *k = container_of(it, struct access_log_sink, link);
        if (!k->own_fd)
            continue;
        int fd = open_file(k->path);
        if (fd < 0) {
            count(s, file_stats_reopen_failed, 1);
            continue;
        }
        close(k->fd);
        k->fd = fd;
    }
}

static struct access_log_sink *next_sink(struct access_log_sinks *s)
{
    list_each (it, &s->sinks) {
        struct access_log_sink *k = container_of(it, struct access_log_sink, link);
        if (k->head)
            return k;
    }
    return NULL;
}

/* Under the lock, which is released while the system works. */
static void flush_sink(struct access_log_sinks *s, struct access_log_sink *k)
{
    struct block *b = k->head;
    size_t n = k->queued;
    int fd = k->fd;
    k->head = NULL;
    k->tail = &k->head;
    k->writing = true;
    pthread_mutex_unlock(&s->lock);
    write_blocks(s, fd, b);
    count_queued(s, -(int64_t)n);
    pthread_mutex_lock(&s->lock);
    k->writing = false;
    k->queued -= n;
    /* To the end: the others get their turn. */
    list_del(&k->link);
    list_push(&s->sinks, &k->link);
    if (sink_try_free(k))
        s->refs--; /* never the last: the owner's goes after this thread */
}

static void *flush_thread(void *arg)
{
    struct access_log_sinks *s = arg;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL); /* signals are the main thread's */
    pthread_mutex_lock(&s->lock);
    for (;;) {
        if (s->reopen) {
            s->reopen = false;
            reopen_all(s);
        }
        struct access_log_sink *k = next_sink(s);
        if (k) {
            flush_sink(s, k);
            continue;
        }
        pthread_cond_broadcast(&s->idle);
        if (s->stop)
            break;
        pthread_cond_wait(&s->work, &s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

void access_log_sinks_set_runtime(struct access_log_sinks *s, struct runtime *rt)
{
    s->runtime = rt;
}

struct runtime *access_log_sinks_runtime(const struct access_log_sinks *s)
{
    return s ? s->runtime : NULL;
}

void access_log_sinks_free(struct access_log_sinks *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    bool running = s->running;
    s->stop = true;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
    if (running)
        pthread_join(s->thread, NULL);
    if (s->has_stats)
        stat_group_fini(&s->stats);
    pthread_mutex_lock(&s->lock);
    s->has_stats = s->running = false;
    unlock_and_drop(s);
}

/* ---- sinks ---- */

static struct access_log_sink *find_sink(struct access_log_sinks *s, sv path)
{
    list_each (it, &s->sinks) {
        struct access_log_sink *k = container_of(it, struct access_log_sink, link);
        if (sv_eq_c(path, k->path))
            return k;
    }
    return NULL;
}

static int sink_new(struct access_log_sinks *s, sv path, struct access_log_sink **out,
                    struct error *err)
{
    char *name = sv_dup(path);
    int fd = sv_eq(path, SV("/dev/stdout"))   ? STDOUT_FILENO
             : sv_eq(path, SV("/dev/stderr")) ? STDERR_FILENO
                                              : -1;
    bool own = fd < 0;
    if (own)
        fd = open_file(name);
    if (fd < 0) {
        int e = errno;
        free(name);
        return error_set(err, E_IO, "'%.*s' cannot be opened for appending: %s", SV_ARG(path),
                         strerror(e));
    }
    struct access_log_sink *k = mem_new(struct access_log_sink);
    k->all = s;
    k->path = name;
    k->fd = fd;
    k->own_fd = own;
    k->tail = &k->head;
    list_push(&s->sinks, &k->link);
    s->refs++;
    *out = k;
    return 0;
}

int access_log_sink_open(struct access_log_sinks *s, sv path, struct access_log_sink **out,
                         struct error *err)
{
    int rc = 0;
    if (path.n == 0 || memchr(path.p, 0, path.n))
        return error_set(err, E_INVALID, "must be a file name");
    pthread_mutex_lock(&s->lock);
    struct access_log_sink *k = find_sink(s, path);
    if (!k)
        rc = sink_new(s, path, &k, err);
    if (rc == 0 && !s->running) {
        if (pthread_create(&s->thread, NULL, flush_thread, s) == 0) {
            s->running = true;
        } else {
            if (k->refs == 0 && sink_try_free(k))
                s->refs--;
            rc = error_set(err, E_IO, "the thread that writes logs cannot be started");
        }
    }
    if (rc == 0) {
        k->refs++;
        *out = k;
    }
    pthread_mutex_unlock(&s->lock);
    return rc;
}

void access_log_sink_ref(struct access_log_sink *k)
{
    pthread_mutex_lock(&k->all->lock);
    k->refs++;
    pthread_mutex_unlock(&k->all->lock);
}

void access_log_sink_unref(struct access_log_sink *k)
{
    if (!k)
        return;
    struct access_log_sinks *s = k->all;
    pthread_mutex_lock(&s->lock);
    k->refs--;
    if (sink_try_free(k))
        unlock_and_drop(s);
    else
        pthread_mutex_unlock(&s->lock);
}

/* ---- writers ---- */

struct access_log_writer *access_log_writer_new(struct access_log_sinks *s)
{
    struct access_log_writer *w = mem_new(struct access_log_writer);
    w->all = s;
    return w;
}

/* Hands a buffer over, with the reference that was held for it. */
static void hand_over(struct access_log_writer *w, struct slot *slot)
{
    struct access_log_sinks *s = w->all;
    struct access_log_sink *k = slot->sink;
    struct block *b = mem_new(struct block);
    b->lines = slot->lines;
    b->p = strbuf_steal(&slot->buf, &b->n);
    slot->sink = NULL;
    slot->lines = 0;
    count(s, file_stats_write_buffered, b->lines);
    pthread_mutex_lock(&s->lock);
    bool full = k->queued + b->n > ACCESS_LOG_QUEUE_MAX;
    if (!full) {
        *k->tail = b;
        k->tail = &b->next;
        k->queued += b->n;
        pthread_cond_signal(&s->work);
    }
    k->refs--; /* the block keeps it; without one the configuration's reference does */
    size_t n = b->n;
    uint32_t lines = b->lines;
    bool gone = full && sink_try_free(k);
    if (gone)
        unlock_and_drop(s);
    else
        pthread_mutex_unlock(&s->lock);
    if (full) {
        count(s, file_stats_write_dropped, lines);
        free(b->p);
        free(b);
    } else {
        count_queued(s, (int64_t)n);
    }
}

void access_log_writer_free(struct access_log_writer *w)
{
    if (!w)
        return;
    for (uint32_t i = 0; i < w->n; i++) {
        if (w->v[i].sink)
            hand_over(w, &w->v[i]);
        strbuf_fini(&w->v[i].buf);
    }
    free(w->v);
    free(w);
}

static struct slot *find_slot(struct access_log_writer *w, struct access_log_sink *k)
{
    struct slot *empty = NULL;
    for (uint32_t i = 0; i < w->n; i++) {
        if (w->v[i].sink == k)
            return &w->v[i];
        if (!w->v[i].sink)
            empty = &w->v[i];
    }
    if (!empty) {
        w->v = mem_realloc(w->v, (w->n + 1) * sizeof(*w->v));
        empty = &w->v[w->n++];
        *empty = (struct slot){0};
        strbuf_init(&empty->buf, ACCESS_LOG_FLUSH_BYTES + LINE_MAX);
    }
    access_log_sink_ref(k);
    empty->sink = k;
    return empty;
}

struct strbuf *access_log_writer_buf(struct access_log_writer *w, struct access_log_sink *k)
{
    return &find_slot(w, k)->buf;
}

void access_log_writer_done(struct access_log_writer *w, struct access_log_sink *k)
{
    struct slot *slot = find_slot(w, k);
    slot->lines++;
    if (slot->buf.overflow) { /* cut: it still ends */
        slot->buf.p[slot->buf.n - 1] = '\n';
        slot->buf.overflow = false;
    }
    if (slot->buf.n >= ACCESS_LOG_FLUSH_BYTES)
        hand_over(w, slot);
}

void access_log_writer_flush(struct access_log_writer *w)
{
    for (uint32_t i = 0; i < w->n; i++) {
        if (!w->v[i].sink)
            continue;
        count(w->all, file_stats_flushed_by_timer, 1);
        hand_over(w, &w->v[i]);
    }
}

/* ---- everybody ---- */

void access_log_sinks_reopen(struct access_log_sinks *s)
{
    pthread_mutex_lock(&s->lock);
    s->reopen = true;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
}

static bool busy(struct access_log_sinks *s)
{
    list_each (it, &s->sinks) {
        struct access_log_sink *k = container_of(it, struct access_log_sink, link);
        if (k->head || k->writing)
            return true;
    }
    return s->reopen;
}

void access_log_sinks_sync(struct access_log_sinks *s)
{
    pthread_mutex_lock(&s->lock);
    while (s->running && !s->stop && busy(s)) {
        pthread_cond_signal(&s->work);
        pthread_cond_wait(&s->idle, &s->lock);
    }
    pthread_mutex_unlock(&s->lock);
}
