#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include "base/mem.h"

#define LINE_MAX_BYTES 4096 /* longer lines are cut */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* the list, the path */
static struct log_component *components;
static char *file_path;
static _Atomic int log_fd = STDERR_FILENO;

static const char *const level_names[] = {"trace", "debug",    "info", "warning",
                                          "error", "critical", "off"};

/* ---- components ---- */

void log_component_register(struct log_component *c)
{
    if (atomic_exchange(&c->known, true))
        return;
    pthread_mutex_lock(&lock);
    for (struct log_component *o = components; o; o = o->next)
        if (!strcmp(o->name, c->name)) {
            atomic_store(&c->level, atomic_load(&o->level));
            break;
        }
    c->next = components;
    components = c;
    pthread_mutex_unlock(&lock);
}

int log_set_level(const char *component, enum log_level level)
{
    int rc = component ? E_NOT_FOUND : 0;
    pthread_mutex_lock(&lock);
    for (struct log_component *c = components; c; c = c->next) {
        if (component && strcmp(c->name, component))
            continue;
        atomic_store_explicit(&c->level, (int)level, memory_order_relaxed);
        rc = 0;
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

static bool named_before(const struct log_component *c)
{
    for (const struct log_component *o = components; o != c; o = o->next)
        if (!strcmp(o->name, c->name))
            return true;
    return false;
}

void log_each_component(void (*fn)(const char *name, enum log_level level, void *arg), void *arg)
{
    pthread_mutex_lock(&lock);
    for (struct log_component *c = components; c; c = c->next)
        if (!named_before(c))
            fn(c->name, (enum log_level)atomic_load(&c->level), arg);
    pthread_mutex_unlock(&lock);
}

int log_level_parse(sv text, enum log_level *out)
{
    if (sv_eq_icase(text, SV("warn"))) {
        *out = LOG_WARNING;
        return 0;
    }
    for (int i = LOG_TRACE; i <= LOG_OFF; i++)
        if (sv_eq_icase(text, sv_of(level_names[i]))) {
            *out = (enum log_level)i;
            return 0;
        }
    return E_INVALID;
}

const char *log_level_name(enum log_level level)
{
    return level >= LOG_TRACE && level <= LOG_OFF ? level_names[level] : "unknown";
}

/* ---- where lines go ---- */

static int open_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return E_IO;
    int old = atomic_load(&log_fd);
    if (old == STDERR_FILENO) {
        atomic_store(&log_fd, fd);
        return 0;
    }
    /* Same number, new file: a line being written meanwhile lands in one or the other. */
    int rc = dup3(fd, old, O_CLOEXEC) < 0 ? E_IO : 0;
    close(fd);
    return rc;
}

int log_open(const char *path)
{
    int rc = 0;
    pthread_mutex_lock(&lock);
    if (path) {
        rc = open_file(path);
        if (!rc) {
            free(file_path);
            file_path = sv_dup(sv_of(path));
        }
    } else {
        /* The descriptor stays open: another thread may be about to write to it. */
        int fd = atomic_load(&log_fd);
        if (fd != STDERR_FILENO && dup3(STDERR_FILENO, fd, O_CLOEXEC) < 0)
            rc = E_IO;
        free(file_path);
        file_path = NULL;
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

int log_reopen(void)
{
    pthread_mutex_lock(&lock);
    int rc = file_path ? open_file(file_path) : 0;
    pthread_mutex_unlock(&lock);
    return rc;
}

/* ---- one line ---- */

struct line {
    char p[LINE_MAX_BYTES];
    size_t n;
};

static void put(struct line *l, const char *p, size_t n)
{
    size_t room = sizeof l->p - 1 - l->n; /* one byte is kept for the newline */
    if (n > room)
        n = room;
    memcpy(l->p + l->n, p, n);
    l->n += n;
}

static void put_escaped(struct line *l, sv v, bool quoted)
{
    for (size_t i = 0; i < v.n; i++) {
        unsigned char c = (unsigned char)v.p[i];
        char out[5];
        if (c == '\n' || c == '\t' || c == '\r')
            put(l, c == '\n' ? "\\n" : c == '\t' ? "\\t" : "\\r", 2);
        else if (c < 0x20 || c == 0x7f)
            put(l, out, (size_t)snprintf(out, sizeof out, "\\x%02x", c));
        else if (quoted && (c == '"' || c == '\\'))
            put(l, (char[]){'\\', (char)c}, 2);
        else
            put(l, v.p + i, 1);
    }
}

/* What stands behind "key=" is quoted when it could be taken for more than one value. */
static void put_value(struct line *l, sv v)
{
    bool is_value = l->n && l->p[l->n - 1] == '=';
    bool quote = is_value && v.n == 0;
    for (size_t i = 0; is_value && !quote && i < v.n; i++) {
        unsigned char c = (unsigned char)v.p[i];
        quote = c <= ' ' || c == '"' || c == '\\' || c == '=' || c == 0x7f;
    }
    if (quote)
        put(l, "\"", 1);
    put_escaped(l, v, quote);
    if (quote)
        put(l, "\"", 1);
}

struct args {
    va_list ap;
};

static void put_string(struct line *l, const char *flags, int precision, const char *s)
{
    if (!s)
        s = "(null)";
    size_t n = precision >= 0 ? strnlen(s, (size_t)precision) : strlen(s);
    /* Width and flags matter to none of our lines; the text is what counts. */
    (void)flags;
    put_value(l, sv_make(s, n));
}

/* Formats one numeric conversion; spec is "%...X" with '*' already replaced. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
static void put_number(struct line *l, const char *spec, int longs, char conv, struct args *a)
{
    char out[128];
    int n;
    if (strchr("eEfFgGaA", conv))
        n = snprintf(out, sizeof out, spec, va_arg(a->ap, double));
    else if (conv == 'p')
        n = snprintf(out, sizeof out, spec, va_arg(a->ap, void *));
    else if (longs)
        n = snprintf(out, sizeof out, spec, va_arg(a->ap, long));
    else
        n = snprintf(out, sizeof out, spec, va_arg(a->ap, int));
    if (n > 0)
        put_escaped(l, sv_make(out, (size_t)n < sizeof out ? (size_t)n : sizeof out - 1), false);
}
#pragma GCC diagnostic pop

/* Formats the conversion after the '%' at f[0]; returns what follows it. */
static const char *put_conversion(struct line *l, const char *f, struct args *a)
{
    char spec[64];
    size_t n = 0;
    int longs = 0, precision = -1, saved_errno = errno;
    bool in_precision = false;
    spec[n++] = *f++;
    for (; *f && strchr("-+ #0123456789.*lhzjtq", *f) && n < sizeof spec - 16; f++) {
        if (*f == '*') {
            int v = va_arg(a->ap, int);
            if (in_precision)
                precision = v;
            n += (size_t)snprintf(spec + n, 13, "%d", v);
            continue;
        }
        if (*f == '.') {
            in_precision = true;
            precision = 0;
        } else if (in_precision && *f >= '0' && *f <= '9') {
            precision = precision * 10 + (*f - '0');
        } else if (strchr("lzjtq", *f)) {
            longs++;
        }
        spec[n++] = *f;
    }
    char conv = *f ? *f++ : '%';
    spec[n++] = conv;
    spec[n] = 0;
    if (conv == '%')
        put(l, "%", 1);
    else if (conv == 's')
        put_string(l, spec, precision, va_arg(a->ap, const char *));
    else if (conv == 'm')
        put_string(l, spec, -1, strerrordesc_np(saved_errno));
    else
        put_number(l, spec, longs, conv, a);
    return f;
}

static void put_time(struct line *l)
{
    struct timespec ts;
    struct tm tm;
    char out[64];
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    size_t n = strftime(out, sizeof out, "%Y-%m-%dT%H:%M:%S", &tm);
    int k = snprintf(out + n, sizeof out - n, ".%03dZ ", (int)(ts.tv_nsec / 1000000));
    put(l, out, n + (size_t)k);
}

void log_line(const struct log_component *c, enum log_level level, const char *fmt, ...)
{
    struct line l;
    struct args a;
    char head[96];
    int saved_errno = errno;
    l.n = 0;
    put_time(&l);
    int n = snprintf(head, sizeof head, "%-5s %-6s ", log_level_name(level), c->name);
    put(&l, head, (size_t)n < sizeof head ? (size_t)n : sizeof head - 1);
    errno = saved_errno;
    va_start(a.ap, fmt);
    while (*fmt) {
        size_t plain = strcspn(fmt, "%");
        put(&l, fmt, plain);
        fmt += plain;
        if (*fmt)
            fmt = put_conversion(&l, fmt, &a);
    }
    va_end(a.ap);
    l.p[l.n++] = '\n';
    ssize_t done = write(atomic_load_explicit(&log_fd, memory_order_relaxed), l.p, l.n);
    (void)done; /* there is nobody to tell */
    errno = saved_errno;
}
