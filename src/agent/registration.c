#include "agent/registration.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "api/pb.h"
#include "api/weft.pb.h"
#include "base/log.h"
#include "base/strbuf.h"

#define REPLY_MAX (1u << 20)
#define REPLY_MS  10000
#define RETRY_US  20000
#define SILENT_MS 1000 /* a wait that is longer is told */

LOG_COMPONENT(run);

static int connect_control(const char *dir, int wait_ms)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int waited_us = 0;

    snprintf(a.sun_path, sizeof a.sun_path, "%.90s/control.sock", dir);
    for (;;) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
            return fd;
        if (fd >= 0)
            close(fd);
        if (waited_us / 1000 >= wait_ms)
            return -1;
        usleep(RETRY_US);
        waited_us += RETRY_US;
        if (waited_us == SILENT_MS * 1000)
            log_info(&log_run, "waiting for the control plane path=%s most_s=%d", a.sun_path,
                     wait_ms / 1000);
    }
}

static int send_line(int fd, const struct pb_message *m, const void *msg)
{
    struct strbuf s;
    size_t at = 0;
    int rc = 0;

    strbuf_init(&s, REPLY_MAX);
    pb_to_json(m, msg, &(struct pb_json_opts){0}, &s);
    strbuf_add_ch(&s, '\n');
    while (at < s.n && !rc) {
        ssize_t n = send(fd, s.p + at, s.n - at, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            rc = error_from_errno(errno);
        else if (n > 0)
            at += (size_t)n;
    }
    strbuf_fini(&s);
    return rc;
}

static int read_line(int fd, struct strbuf *out)
{
    char chunk[4096];

    while (!out->n || out->p[out->n - 1] != '\n') {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t n;
        if (poll(&p, 1, REPLY_MS) <= 0)
            return E_TIMEOUT;
        n = recv(fd, chunk, sizeof chunk, 0);
        if (n <= 0)
            return E_CLOSED;
        strbuf_add(out, chunk, (size_t)n);
        if (out->overflow)
            return E_LIMIT;
    }
    return 0;
}

static int exchange(int fd, const struct weft_WorkloadRegistration *r, struct arena *a,
                    const struct weft_WorkloadReply **reply, struct error *err)
{
    struct strbuf line;
    void *msg;
    int rc = send_line(fd, &weft_WorkloadRegistration_pb, r);

    strbuf_init(&line, REPLY_MAX);
    rc = rc ? rc : read_line(fd, &line);
    if (rc) {
        rc = error_set(err, rc, "the control plane does not answer the registration: %s",
                       error_text(rc));
    } else {
        sv text = arena_sv(a, strbuf_sv(&line));
        rc =
            pb_from_text(&weft_WorkloadReply_pb, text, "control plane's reply", a, NULL, &msg, err);
    }
    strbuf_fini(&line);
    if (rc)
        return rc;
    *reply = msg;
    if ((*reply)->error.n)
        return error_set(err, E_DENIED, "%.*s", SV_ARG((*reply)->error));
    return 0;
}

int registration_start(const char *dir, const struct weft_WorkloadRegistration *r, int wait_ms,
                       struct arena *a, const struct weft_WorkloadReply **reply, int *lease,
                       struct error *err)
{
    int rc, fd = connect_control(dir, wait_ms);

    if (fd < 0)
        return error_set(err, E_NOT_FOUND,
                         "no control plane answers at %s/control.sock: start it with `weft control "
                         "--config DIR`",
                         dir);
    rc = exchange(fd, r, a, reply, err);
    if (rc)
        close(fd);
    else
        *lease = fd;
    return rc;
}

int registration_update(int lease, bool ready)
{
    struct weft_WorkloadUpdate u = {.ready = ready};
    return send_line(lease, &weft_WorkloadUpdate_pb, &u);
}
