#include "upstream/data_source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int read_open_file(FILE *f, sv filename, size_t max_bytes, const char *path, struct arena *a,
                          sv *out, struct error *err)
{
    struct stat st;
    if (fstat(fileno(f), &st) != 0)
        return error_set(err, E_IO, "%s: cannot read '%.*s': %s", path, SV_ARG(filename),
                         strerror(errno));
    if (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode))
        return error_set(err, E_INVALID, "%s: '%.*s' is not a file", path, SV_ARG(filename));
    size_t cap = S_ISREG(st.st_mode) && st.st_size > 0 ? (size_t)st.st_size + 1 : 65536;
    if (cap > max_bytes + 1)
        return error_set(err, E_LIMIT, "%s: '%.*s' is larger than %zu bytes", path,
                         SV_ARG(filename), max_bytes);
    char *p = arena_alloc(a, cap);
    size_t n = fread(p, 1, cap, f);
    if (ferror(f))
        return error_set(err, E_IO, "%s: cannot read '%.*s'", path, SV_ARG(filename));
    if (n == cap)
        return error_set(err, E_LIMIT, "%s: '%.*s' grew while it was read, or is too large", path,
                         SV_ARG(filename));
    *out = sv_make(p, n);
    return 0;
}

int data_source_file(sv filename, size_t max_bytes, const char *path, struct arena *a, sv *out,
                     struct error *err)
{
    if (filename.n == 0)
        return error_set(err, E_INVALID, "%s: the file name is empty", path);
    FILE *f = fopen(arena_cstr(a, filename), "re");
    if (!f)
        return error_set(err, errno == ENOENT ? E_NOT_FOUND : E_IO, "%s: cannot open '%.*s': %s",
                         path, SV_ARG(filename), strerror(errno));
    setvbuf(f, NULL, _IONBF, 0); /* no second copy: it may be a key */
    int rc = read_open_file(f, filename, max_bytes, path, a, out, err);
    fclose(f);
    return rc;
}

int data_source_read(const struct envoy_DataSource *d, size_t max_bytes, const char *path,
                     struct arena *a, sv *out, struct error *err)
{
    if (!d) {
        *out = (sv){0};
        return 0;
    }
    if (d->watched_directory)
        return error_set(err, E_UNSUPPORTED, "%s.watched_directory: not supported", path);
    switch (d->which_specifier) {
    case envoy_DataSource_filename_tag:
        return data_source_file(d->filename, max_bytes, path, a, out, err);
    case envoy_DataSource_inline_bytes_tag:
        *out = d->inline_bytes;
        return 0;
    case envoy_DataSource_inline_string_tag:
        *out = d->inline_string;
        return 0;
    case envoy_DataSource_environment_variable_tag: {
        const char *v = getenv(arena_cstr(a, d->environment_variable));
        if (!v)
            return error_set(err, E_NOT_FOUND, "%s: the environment has no variable '%.*s'", path,
                             SV_ARG(d->environment_variable));
        *out = sv_of(v);
        return 0;
    }
    default:
        return error_set(err, E_INVALID,
                         "%s: one of filename, inline_bytes, inline_string, "
                         "environment_variable is required",
                         path);
    }
}
