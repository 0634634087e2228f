/* The pages of the control plane and of proxies, for one command's life: one request a connection,
 * read to its end (Envoy's admin does not speak HTTP/1.0, so chunks have to be understood). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include "api/node.h"
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

/* Whether a head names chunked as its transfer coding. */
static bool is_chunked(sv head)
{
    sv line;
    while (head.n) {
        sv_cut(head, '\n', &line, &head);
        if (sv_starts_icase(line, SV("transfer-encoding:")) && sv_find_sv(line, SV("chunked")) >= 0)
            return true;
    }
    return false;
}

static int add_chunks(sv rest, struct strbuf *body)
{
    sv line;

    while (sv_cut(rest, '\n', &line, &rest)) {
        char digits[20], *end;
        snprintf(digits, sizeof digits, "%.*s", SV_ARG(line));
        unsigned long n = strtoul(digits, &end, 16);
        if (end == digits || n > rest.n)
            return E_PROTOCOL;
        if (!n)
            return 0;
        strbuf_add_sv(body, sv_first(rest, n));
        rest = sv_from(rest, n);
        sv_cut(rest, '\n', &line, &rest); /* the line's end after the data */
    }
    return E_PROTOCOL;
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
    n = snprintf(request, sizeof request,
                 "%s %s HTTP/1.1\r\nhost: %s\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
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
        else if (!is_chunked(sv_first(strbuf_sv(&all), (size_t)head)))
            strbuf_add_sv(body, rest);
        else if (add_chunks(rest, body))
            rc = error_set(err, E_PROTOCOL, "%s: the answer ends before its time", address);
    }
    strbuf_fini(&all);
    return rc;
}

int cli_get(const char *address, const char *path, struct strbuf *body, struct error *err)
{
    return cli_request("GET", address, path, body, err);
}

int cli_get_node(const char *address, const char *path, struct arena *a, struct node **out,
                 struct error *err)
{
    struct strbuf s;
    strbuf_init(&s, PAGE_MAX);
    int rc = cli_get(address, path, &s, err);
    rc = rc ? rc : node_parse(arena_sv(a, strbuf_sv(&s)), path, a, out, err);
    strbuf_fini(&s);
    return rc;
}
