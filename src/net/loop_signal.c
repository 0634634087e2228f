/* Signals of the main loop, by signalfd. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include "base/mem.h"
#include "net/loop_private.h"

#define SIGNALS 65

struct signals {
    struct loop_part part;
    struct io io;
    int fd;
    sigset_t set;
    struct {
        void (*fn)(int signo, void *arg);
        void *arg;
    } on[SIGNALS];
};

static void on_readable(struct io *io, uint32_t events)
{
    struct signals *s = container_of(io, struct signals, io);
    struct signalfd_siginfo info;
    while (read(s->fd, &info, sizeof info) == (ssize_t)sizeof info)
        if (info.ssi_signo < SIGNALS && s->on[info.ssi_signo].fn)
            s->on[info.ssi_signo].fn((int)info.ssi_signo, s->on[info.ssi_signo].arg);
}

static void signals_free(struct loop_part *p)
{
    struct signals *s = container_of(p, struct signals, part);
    io_del(&s->io);
    close(s->fd);
    free(s);
}

static struct signals *signals_new(struct loop *l, int *code)
{
    struct signals *s = mem_new(struct signals);
    s->part.free = signals_free;
    sigemptyset(&s->set);
    s->fd = signalfd(-1, &s->set, SFD_NONBLOCK | SFD_CLOEXEC);
    *code = s->fd < 0 ? error_from_errno(errno) : io_add(l, &s->io, s->fd, on_readable);
    if (*code) {
        if (s->fd >= 0)
            close(s->fd);
        free(s);
        return NULL;
    }
    return s;
}

int loop_on_signal(struct loop *l, int signo, void (*fn)(int signo, void *arg), void *arg)
{
    int code = 0;
    if (signo <= 0 || signo >= SIGNALS)
        return E_INVALID;
    struct loop_part **part = loop_signals(l);
    struct signals *s = *part ? container_of(*part, struct signals, part) : signals_new(l, &code);
    if (!s)
        return code;
    *part = &s->part;
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, signo);
    if (fn)
        pthread_sigmask(SIG_BLOCK, &one, NULL);
    s->on[signo].fn = fn;
    s->on[signo].arg = arg;
    fn ? sigaddset(&s->set, signo) : sigdelset(&s->set, signo);
    if (signalfd(s->fd, &s->set, 0) < 0)
        return error_from_errno(errno);
    return 0;
}
