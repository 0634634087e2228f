/* The kernel's side of os.h. A poll handle is an index into a table, since waking needs the
 * eventfd that belongs to an epoll descriptor. */
#include "net/os.h"
#include "base/code.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define POLLS_MAX  1024 /* loops of a process */
#define EVENTS_MAX 256
#define GATHER_MAX 6144 /* fewer bytes cost less to copy than several pieces cost the kernel */

static struct {
    _Atomic int ep, wake; /* 0: the entry is free (0 is never one of ours) */
} polls[POLLS_MAX];
static pthread_mutex_t polls_lock = PTHREAD_MUTEX_INITIALIZER;
static char wake_mark;

static uint64_t clock_ns(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

HOT static uint64_t real_mono_ns(void *os)
{
    return clock_ns(CLOCK_MONOTONIC);
}

static uint64_t real_wall_ns(void *os)
{
    return clock_ns(CLOCK_REALTIME);
}

static uint64_t real_seed(void *os)
{
    uint64_t v;
    if (getrandom(&v, sizeof v, GRND_NONBLOCK) != (ssize_t)sizeof v)
        v = clock_ns(CLOCK_MONOTONIC) ^ (uint64_t)getpid() << 40;
    return v;
}

/* ---- waiting ---- */

static int take_entry(int ep, int wake)
{
    int i;
    pthread_mutex_lock(&polls_lock);
    for (i = 0; i < POLLS_MAX && atomic_load(&polls[i].ep); i++)
        ;
    if (i < POLLS_MAX) {
        atomic_store(&polls[i].wake, wake);
        atomic_store(&polls[i].ep, ep);
    }
    pthread_mutex_unlock(&polls_lock);
    return i < POLLS_MAX ? i : -EMFILE;
}

static int real_poll_new(void *os)
{
    int ep = epoll_create1(EPOLL_CLOEXEC), wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = ep < 0 || wake < 0 ? -errno : 0;
    /* Edge-triggered: each write is one event, and nobody needs to read the counter. */
    struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.ptr = &wake_mark};
    if (!rc && epoll_ctl(ep, EPOLL_CTL_ADD, wake, &e) < 0)
        rc = -errno;
    if (!rc)
        rc = take_entry(ep, wake);
    if (rc < 0) {
        if (ep >= 0)
            close(ep);
        if (wake >= 0)
            close(wake);
    }
    return rc;
}

static void real_poll_free(void *os, int poll)
{
    close(atomic_load(&polls[poll].ep));
    close(atomic_load(&polls[poll].wake));
    atomic_store(&polls[poll].wake, 0);
    atomic_store(&polls[poll].ep, 0);
}

static inline int epfd(int poll)
{
    return atomic_load_explicit(&polls[poll].ep, memory_order_relaxed);
}

static int real_poll_add(void *os, int poll, int fd, uint32_t events, void *data)
{
    struct epoll_event e = {.events = events, .data.ptr = data};
    return epoll_ctl(epfd(poll), EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

static int real_poll_del(void *os, int poll, int fd)
{
    return epoll_ctl(epfd(poll), EPOLL_CTL_DEL, fd, NULL) < 0 ? -errno : 0;
}

static int wait_ms(uint64_t ns)
{
    if (ns > 86400000000000u) /* a day; UINT64_MAX: for ever */
        return ns == UINT64_MAX ? -1 : 86400000;
    return (int)((ns + 999999) / 1000000);
}

HOT static int real_poll_wait(void *os, int poll, struct os_event *ev, int max, uint64_t timeout_ns)
{
    struct epoll_event e[EVENTS_MAX];
    int n = epoll_wait(epfd(poll), e, max < EVENTS_MAX ? max : EVENTS_MAX, wait_ms(timeout_ns));
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    int out = 0;
    for (int i = 0; i < n; i++)
        if (e[i].data.ptr != &wake_mark)
            ev[out++] = (struct os_event){e[i].data.ptr, e[i].events};
    return out;
}

static void real_poll_wake(void *os, int poll)
{
    uint64_t one = 1;
    ssize_t n = write(atomic_load(&polls[poll].wake), &one, sizeof one);
    (void)n;
}

/* ---- sockets ---- */

static int real_socket(void *os, int domain, int type)
{
    int fd = socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

static int real_bind(void *os, int fd, const struct sockaddr *a, socklen_t n)
{
    return bind(fd, a, n) < 0 ? -errno : 0;
}

static int real_listen(void *os, int fd, int backlog)
{
    return listen(fd, backlog) < 0 ? -errno : 0;
}

static int real_accept(void *os, int fd, struct sockaddr_storage *peer)
{
    socklen_t n = sizeof *peer;
    peer->ss_family = AF_UNSPEC;
    int s = accept4(fd, (struct sockaddr *)peer, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return s < 0 ? -errno : s;
}

static bool real_fd_scarce(void *os, int fd)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) < 0 || r.rlim_cur > INT_MAX)
        return false;
    rlim_t reserve = r.rlim_cur / 8 < 1024 ? r.rlim_cur / 8 : 1024;
    return (rlim_t)fd >= r.rlim_cur - reserve; /* the kernel gives the lowest that is free */
}

static int real_connect(void *os, int fd, const struct sockaddr *a, socklen_t n)
{
    return connect(fd, a, n) < 0 ? -errno : 0;
}

static int real_getsockname(void *os, int fd, struct sockaddr_storage *a)
{
    socklen_t n = sizeof *a;
    memset(a, 0, sizeof *a);
    return getsockname(fd, (struct sockaddr *)a, &n) < 0 ? -errno : 0;
}

static int real_getsockopt(void *os, int fd, int level, int opt, void *v, socklen_t *n)
{
    return getsockopt(fd, level, opt, v, n) < 0 ? -errno : 0;
}

static int real_setsockopt(void *os, int fd, int level, int opt, const void *v, socklen_t n)
{
    return setsockopt(fd, level, opt, v, n) < 0 ? -errno : 0;
}

/* The calls of a request's path go to the kernel as they are: glibc's wrappers are points at which
 * a thread can be cancelled, and pay for that with two locked instructions each. */
static inline ssize_t sys_recv(int fd, void *p, size_t n)
{
    return syscall(SYS_recvfrom, fd, p, n, 0, NULL, NULL);
}

static inline ssize_t sys_send(int fd, const void *p, size_t n)
{
    return syscall(SYS_sendto, fd, p, n, MSG_NOSIGNAL, NULL, 0);
}

HOT static ssize_t real_readv(void *os, int fd, const struct iovec *iov, int n)
{
    ssize_t r;
    do
        r = n == 1 ? sys_recv(fd, iov->iov_base, iov->iov_len) : readv(fd, iov, n);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}

static size_t total(const struct iovec *iov, int n)
{
    size_t sum = 0;
    for (int i = 0; i < n; i++)
        sum += iov[i].iov_len;
    return sum;
}

HOT static ssize_t send_gathered(int fd, const struct iovec *iov, int n)
{
    char all[GATHER_MAX];
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        memcpy(all + at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    return sys_send(fd, all, at);
}

static ssize_t send_pieces(int fd, const struct iovec *iov, int n)
{
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)n};
    return sendmsg(fd, &m, MSG_NOSIGNAL);
}

HOT static ssize_t real_writev(void *os, int fd, const struct iovec *iov, int n)
{
    ssize_t r;
    bool small = n > 1 && total(iov, n) <= GATHER_MAX;
    do
        r = n == 1  ? sys_send(fd, iov->iov_base, iov->iov_len)
            : small ? send_gathered(fd, iov, n)
                    : send_pieces(fd, iov, n);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}

static ssize_t real_peek(void *os, int fd, void *p, size_t n)
{
    ssize_t r;
    do
        r = recv(fd, p, n, MSG_PEEK);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}

static ssize_t real_recvfrom(void *os, int fd, void *p, size_t n, struct sockaddr_storage *peer)
{
    socklen_t len = sizeof *peer;
    if (peer)
        peer->ss_family = AF_UNSPEC;
    ssize_t r = recvfrom(fd, p, n, 0, (struct sockaddr *)peer, peer ? &len : NULL);
    return r < 0 ? -errno : r;
}

static ssize_t real_sendto(void *os, int fd, const void *p, size_t n, const struct sockaddr *a,
                           socklen_t alen)
{
    ssize_t r = sendto(fd, p, n, MSG_NOSIGNAL, a, alen);
    return r < 0 ? -errno : r;
}

static int real_shutdown(void *os, int fd, int how)
{
    return shutdown(fd, how) < 0 ? -errno : 0;
}

static int real_close(void *os, int fd)
{
    return close(fd) < 0 ? -errno : 0;
}

struct os *os_real(void)
{
    static const struct os_ops ops = {
        .mono_ns = real_mono_ns,
        .wall_ns = real_wall_ns,
        .seed = real_seed,
        .poll_new = real_poll_new,
        .poll_free = real_poll_free,
        .poll_add = real_poll_add,
        .poll_del = real_poll_del,
        .poll_wait = real_poll_wait,
        .poll_wake = real_poll_wake,
        .socket = real_socket,
        .bind = real_bind,
        .listen = real_listen,
        .accept = real_accept,
        .fd_scarce = real_fd_scarce,
        .connect = real_connect,
        .getsockname = real_getsockname,
        .getsockopt = real_getsockopt,
        .setsockopt = real_setsockopt,
        .readv = real_readv,
        .writev = real_writev,
        .peek = real_peek,
        .recvfrom = real_recvfrom,
        .sendto = real_sendto,
        .shutdown = real_shutdown,
        .close = real_close,
    };
    static struct os os = {.ops = &ops};
    return &os;
}
