/* The operating system as the event loop sees it: replaceable, so that tests run whole proxies on
 * simulated time, randomness and sockets.
 *
 * Everything in weft that opens, reads or writes a socket, waits, or asks for the time goes
 * through the table of its loop. os_real() calls the kernel; src/net/sim.h has the other one.
 * Thread: the owning loop's. */
#ifndef WEFT_NET_OS_H
#define WEFT_NET_OS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

struct loop;

struct os_event {
    void *data;
    uint32_t events; /* EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP | EPOLLERR */
};

/* System calls return as the kernel's do, with errno's negation instead of -1 (-EAGAIN …). */
struct os_ops {
    uint64_t (*mono_ns)(void *os); /* monotonic */
    uint64_t (*wall_ns)(void *os); /* since 1970, UTC */
    uint64_t (*seed)(void *os);    /* entropy for random generators */

    int (*poll_new)(void *os);
    void (*poll_free)(void *os, int poll);
    /* events as epoll's, with EPOLLET; data comes back in os_event, never NULL. */
    int (*poll_add)(void *os, int poll, int fd, uint32_t events, void *data);
    int (*poll_del)(void *os, int poll, int fd); /* closing does it, too */
    /* timeout_ns: UINT64_MAX waits for ever. Returns the number of events. */
    int (*poll_wait)(void *os, int poll, struct os_event *ev, int max, uint64_t timeout_ns);
    void (*poll_wake)(void *os, int poll); /* from any thread: poll_wait returns */

    int (*socket)(void *os, int domain, int type); /* non-blocking, close-on-exec */
    int (*bind)(void *os, int fd, const struct sockaddr *a, socklen_t n);
    int (*listen)(void *os, int fd, int backlog);
    int (*accept)(void *os, int fd, struct sockaddr_storage *peer); /* non-blocking */
    int (*connect)(void *os, int fd, const struct sockaddr *a, socklen_t n);
    int (*getsockname)(void *os, int fd, struct sockaddr_storage *a);
    int (*getsockopt)(void *os, int fd, int level, int opt, void *v, socklen_t *n);
    int (*setsockopt)(void *os, int fd, int level, int opt, const void *v, socklen_t n);
    ssize_t (*readv)(void *os, int fd, const struct iovec *iov, int n);
    ssize_t (*writev)(void *os, int fd, const struct iovec *iov, int n); /* no SIGPIPE */
    ssize_t (*peek)(void *os, int fd, void *p, size_t n); /* MSG_PEEK: takes nothing */
    ssize_t (*recvfrom)(void *os, int fd, void *p, size_t n, struct sockaddr_storage *peer);
    ssize_t (*sendto)(void *os, int fd, const void *p, size_t n, const struct sockaddr *a,
                      socklen_t alen);
    int (*shutdown)(void *os, int fd, int how);
    int (*close)(void *os, int fd);
    /* NULL for the kernel. A simulation learns which loop waits with a poll: it runs them itself.
     */
    void (*attach)(void *os, int poll, struct loop *l);
    /* True when descriptors are so few that one like this should not go to a client: the last
     * eighth (at most 1024) is for upstreams, files and the control plane. NULL: never. */
    bool (*fd_scarce)(void *os, int fd);
};

struct os {
    const struct os_ops *ops;
    void *self;
};

/* The kernel. Static storage. */
struct os *os_real(void);

#endif
