#include "mesh/ca/ca_files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tls/tls_key.h"

void ca_files_init(struct ca_files *f)
{
    strbuf_init(&f->cert, CA_FILE_MAX);
    strbuf_init(&f->key, CA_FILE_MAX);
    strbuf_init(&f->root, CA_FILE_MAX);
    strbuf_init(&f->chain, CA_FILE_MAX);
}

void ca_files_fini(struct ca_files *f)
{
    tls_wipe(f->key.p, f->key.n);
    strbuf_fini(&f->cert);
    strbuf_fini(&f->key);
    strbuf_fini(&f->root);
    strbuf_fini(&f->chain);
}

static int path_of(char out[PATH_MAX], const char *dir, const char *name, struct error *err)
{
    if (snprintf(out, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX)
        return error_set(err, E_LIMIT, "CA directory: path too long: %s", dir);
    return 0;
}

static int io_error(struct error *err, const char *what, const char *path)
{
    return error_set(err, errno == EACCES || errno == EPERM ? E_DENIED : E_IO, "CA: %s %s: %s",
                     what, path, strerror(errno));
}

/* E_NOT_FOUND without a sentence when there is no such file. */
static int read_file(struct strbuf *to, const char *dir, const char *name, struct error *err)
{
    char path[PATH_MAX], chunk[4096];
    int code = path_of(path, dir, name, err);
    if (code)
        return code;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? E_NOT_FOUND : io_error(err, "cannot read", path);
    ssize_t n;
    strbuf_reset(to);
    while ((n = read(fd, chunk, sizeof chunk)) > 0)
        strbuf_add(to, chunk, (size_t)n);
    tls_wipe(chunk, sizeof chunk);
    if (n < 0)
        code = io_error(err, "cannot read", path);
    else if (to->overflow)
        code = error_set(err, E_LIMIT, "CA: %s is longer than %d bytes", path, CA_FILE_MAX);
    close(fd);
    return code;
}

int ca_files_read(struct ca_files *f, const char *dir, struct error *err)
{
    static const char *const names[] = {"ca-cert.pem", "ca-key.pem", "root-cert.pem"};
    struct strbuf *const to[] = {&f->cert, &f->key, &f->root};
    int missing = -1, found = 0;
    for (int i = 0; i < 3; i++) {
        int code = read_file(to[i], dir, names[i], err);
        if (code == E_NOT_FOUND)
            missing = i;
        else if (code)
            return code;
        else
            found++;
    }
    if (found == 0)
        return E_NOT_FOUND;
    if (missing >= 0)
        return error_set(err, E_INVALID, "CA: %s has no %s, but other files of a CA", dir,
                         names[missing]);
    int code = read_file(&f->chain, dir, "cert-chain.pem", err);
    return code == E_NOT_FOUND ? 0 : code;
}

/* ---- making ---- */

static int write_all(int fd, sv text)
{
    for (size_t i = 0; i < text.n;) {
        ssize_t n = write(fd, text.p + i, text.n - i);
        if (n < 0 && errno != EINTR)
            return -1;
        i += n > 0 ? (size_t)n : 0;
    }
    return fsync(fd);
}

static int write_file(const struct strbuf *from, const char *dir, const char *name,
                      struct error *err)
{
    char path[PATH_MAX];
    int code = path_of(path, dir, name, err);
    if (code)
        return code;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return io_error(err, "cannot write", path);
    if (fchmod(fd, 0600) || write_all(fd, strbuf_sv(from)))
        code = io_error(err, "cannot write", path);
    close(fd);
    return code;
}

static bool exists(const char *dir, const char *name)
{
    char path[PATH_MAX];
    return path_of(path, dir, name, NULL) == 0 && access(path, F_OK) == 0;
}

static void sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    fsync(fd);
    close(fd);
}

/* While .making exists the files are unfinished: no certificate of theirs was ever given out. */
static int write_new(const struct ca_files *f, const char *dir, struct error *err)
{
    static const struct strbuf nothing;
    char marker[PATH_MAX];
    int code = path_of(marker, dir, ".making", err);
    if (!code)
        code = write_file(&nothing, dir, ".making", err);
    if (!code)
        code = write_file(&f->key, dir, "ca-key.pem", err);
    if (!code)
        code = write_file(&f->root, dir, "root-cert.pem", err);
    if (!code)
        code = write_file(&f->chain, dir, "cert-chain.pem", err);
    if (!code)
        code = write_file(&f->cert, dir, "ca-cert.pem", err);
    if (code)
        return code;
    sync_dir(dir);
    if (unlink(marker))
        return io_error(err, "cannot remove", marker);
    sync_dir(dir);
    return 0;
}

int ca_files_create(struct ca_files *f, const char *dir,
                    int (*make)(struct ca_files *f, void *arg, struct error *err), void *arg,
                    struct error *err)
{
    char path[PATH_MAX];
    int code = path_of(path, dir, ".lock", err);
    if (code)
        return code;
    if (mkdir(dir, 0700) && errno != EEXIST)
        return io_error(err, "cannot make directory", dir);
    int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (lock < 0)
        return io_error(err, "cannot open", path);
    while (flock(lock, LOCK_EX) && errno == EINTR)
        ;
    code = exists(dir, ".making") ? E_NOT_FOUND : ca_files_read(f, dir, err);
    if (code == E_NOT_FOUND) {
        code = make(f, arg, err);
        if (code == 0)
            code = write_new(f, dir, err);
    }
    close(lock); /* releases it */
    return code;
}
