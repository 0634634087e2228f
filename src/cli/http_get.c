/* The pages of the control plane and of proxies, for one command's life: HTTP/1.0, so that the
 * answer ends with the connection and nothing has to be framed. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include "cli/cli.h"
#include "net/addr.h"

#define PAGE_MAX  (512u << 20)
#define TIMEOUT_S 10

static int dial(const char *address, struct error *err)
{
    struct timeval t = {TIMEOUT_S, 0};
    struct addr a;
    int fd;

    if (addr_parse(&a, sv_of(address)))
        return error_set(err, E_INVALID, "'%s' is no address (IP:PORT)", address), -1;
    fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
    }
    if (fd < 0 || connect(fd, &a.sa, a.len) != 0) {
        error_set(err, error_from_errno(errno), "%s: %s", address, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

static int read_all(int fd, struct strbuf *out, const char *address, struct error *err)
{
    char chunk[65536];
    ssize_t n;

    while ((n = recv(fd, chunk, sizeof chunk, 0)) > 0)
        strbuf_add(out, chunk, (size_t)n);
    if (n < 0)
        return error_set(err, error_from_errno(errno), "%s: %s", address, strerror(errno));
    return out->overflow ? error_set(err, E_LIMIT, "%s: the answer is too long", address) : 0;
}

int cli_request(const char *method, const char *address, const char *path, struct strbuf *body,
                struct error *err)
{
    struct strbuf all;
    char request[1024];
    int rc = 0, fd = dial(address, err);
    unsigned status = 0;
    ptrdiff_t head;
    int n;

    if (fd < 0)
        return err->code;
    n = snprintf(request, sizeof request, "%s %s HTTP/1.0\r\nhost: %s\r\ncontent-length: 0\r\n\r\n",
                 method, path, address);
    strbuf_init(&all, PAGE_MAX);
    if (n < 0 || (size_t)n >= sizeof request || send(fd, request, (size_t)n, MSG_NOSIGNAL) != n)
        rc = error_set(err, E_IO, "%s: the request could not be sent", address);
    rc = rc ? rc : read_all(fd, &all, address, err);
    close(fd);
    head = rc ? -1 : sv_find_sv(strbuf_sv(&all), SV("\r\n\r\n"));
    if (!rc && (head < 0 || sscanf(all.p, "HTTP/1.%*d %u", &status) != 1))
        rc = error_set(err, E_PROTOCOL, "%s does not answer as an HTTP server", address);
    if (!rc) {
        sv rest = sv_from(strbuf_sv(&all), (size_t)head + 4);
        if (status / 100 != 2)
            rc = error_set(err, E_INVALID, "%s%s: status %u: %.*s", address, path, status,
                           (int)(rest.n > 300 ? 300 : rest.n), rest.p);
        else
            strbuf_add_sv(body, rest);
    }
    strbuf_fini(&all);
    return rc;
}

int cli_get(const char *address, const char *path, struct strbuf *body, struct error *err)
{
    return cli_request("GET", address, path, body, err);
}
