#include "agent/token_file.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "api/weft.pb.h"

#define RETRY_S 2

int token_file_put(struct token_file *f, const struct weft_WorkloadReply *r, time_t now_s,
                   struct error *err)
{
    f->renew_s = r->token_seconds ? now_s + (r->token_seconds + 1) / 2 : 0;
    if (f->fd < 0)
        f->fd = memfd_create("token", MFD_CLOEXEC);
    /* Who reads in between gets a mixture that proves nothing, and tries again. */
    if (f->fd < 0 || pwrite(f->fd, r->token.p, r->token.n, 0) != (ssize_t)r->token.n ||
        ftruncate(f->fd, (off_t)r->token.n) != 0)
        return error_set(err, E_IO, "memory file for the token: %s", strerror(errno));
    return 0;
}

bool token_file_due(const struct token_file *f, time_t now_s)
{
    return f->renew_s && now_s >= f->renew_s;
}

void token_file_later(struct token_file *f, time_t now_s)
{
    f->renew_s = now_s + RETRY_S;
}

void token_file_fini(struct token_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}
