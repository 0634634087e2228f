#include "agent/sidecar.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include "base/sv.h"
#include "net/addr.h"

#define ADMIN_PORT  15000
#define HEALTH_PORT 15021
#define ANSWER_MAX  65536

/* The answer's bytes, as many as there is room for; 0 when there is none. */
static size_t ask(uint16_t port, const char *method, const char *path, char *out, size_t size)
{
    struct timeval second = {1, 0};
    char request[300];
    struct addr a;
    size_t n = 0;
    ssize_t got = 0;
    int len = snprintf(request, sizeof request,
                       "%s %s HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n"
                       "connection: close\r\n\r\n",
                       method, path),
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || addr_ip(&a, SV("127.0.0.1"), port))
        return 0;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second);
    if (connect(fd, &a.sa, a.len) == 0 && send(fd, request, (size_t)len, MSG_NOSIGNAL) == len) {
        while (n < size && (got = recv(fd, out + n, size - n, 0)) > 0)
            n += (size_t)got;
    }
    close(fd);
    return got < 0 ? 0 : n;
}

static bool ok(sv answer)
{
    return sv_starts(answer, SV("HTTP/1.1 200"));
}

bool sidecar_ready(void)
{
    char answer[ANSWER_MAX];
    return ok(sv_make(answer, ask(HEALTH_PORT, "GET", "/healthz/ready", answer, sizeof answer)));
}

bool sidecar_drain_inbound(void)
{
    char answer[ANSWER_MAX];
    return ok(
        sv_make(answer, ask(ADMIN_PORT, "POST", "/drain_listeners?inboundonly&graceful&skip_exit",
                            answer, sizeof answer)));
}

/* "http.inbound_0.0.0.0_8080;.downstream_rq_active: 3" */
long sidecar_inbound_requests(void)
{
    char answer[ANSWER_MAX];
    sv rest = sv_make(answer, ask(ADMIN_PORT, "GET",
                                  "/stats?filter=%5Ehttp%5C.inbound.*downstream_rq_active%24",
                                  answer, sizeof answer)),
       line;
    long sum = 0;

    if (!ok(rest))
        return -1;
    while (rest.n) {
        uint64_t v;
        sv_cut(rest, '\n', &line, &rest);
        ptrdiff_t at = sv_find_sv(line, SV("downstream_rq_active: "));
        if (at >= 0 && sv_to_u64(sv_trim(sv_from(line, (size_t)at + 22)), &v) == 0)
            sum += (long)v;
    }
    return sum;
}
