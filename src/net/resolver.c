#include "net/resolver.h"

#include <ares.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"

#define ANSWERS_MAX    1024 /* addresses of one name; more are cut */
#define ASKED_MAX      64   /* queries under way; with more a burst would overflow socket buffers */
#define NAME_MAX_BYTES 255

/* A socket of c-ares. It wants to be told while bytes are left; the loop tells about changes. So a
 * socket that was not read until EAGAIN is asked again on the next turn. */
struct dns_io {
    struct list link;
    struct io io;
    struct resolver *r;
    struct deferred gone;
    bool drained;
    bool write_again;
};

struct resolver {
    struct loop *loop;
    ares_channel channel; /* NULL: static table */
    char *servers;
    uint32_t mark;    /* SO_MARK, 0 none */
    struct map table; /* name -> struct answer, of a static resolver */
    struct timer timeout, again;
    struct list ios, queries;
    struct list waiting; /* queries, by `turn`, until c-ares holds fewer */
    struct deferred gone;
    uint32_t asked; /* queries that c-ares holds */
    bool renew;     /* the servers did not answer: look at resolv.conf again */
    bool freed;
};

struct answer {
    bool refused;
    uint32_t ttl_s;
    size_t n;
    struct addr addrs[];
};

struct resolve_query {
    struct list link, turn;
    struct resolver *r;
    struct timer done;
    resolve_fn fn; /* NULL: cancelled */
    void *user;
    bool held;  /* by c-ares: freed with its answer */
    int family; /* to ask for when its turn comes */
    int second; /* address family to ask for when the first gives nothing; 0: none */
    int code;
    uint32_t ttl_s;
    size_t n;
    struct addr *addrs;
    char name[NAME_MAX_BYTES + 1];
};

/* ---- answers ---- */

static void query_free(struct resolve_query *q)
{
    list_del(&q->link);
    list_del(&q->turn);
    timer_cancel(&q->done);
    free(q->addrs);
    free(q);
}

static void on_done(struct timer *t)
{
    struct resolve_query *q = container_of(t, struct resolve_query, done);
    list_del(&q->link);
    q->fn(q->user, q->code, q->addrs, q->n, q->ttl_s);
    query_free(q);
}

/* The callback runs on the next turn: never inside resolve_start, never under c-ares. */
static void finish(struct resolve_query *q, int code)
{
    q->code = code;
    timer_set(&q->done, 0);
}

static void add_addr(struct resolve_query *q, const struct addr *a)
{
    if (q->n == ANSWERS_MAX)
        return;
    if ((q->n & (q->n - 1)) == 0)
        q->addrs = mem_realloc(q->addrs, sizeof *q->addrs * (q->n ? q->n * 2 : 1));
    q->addrs[q->n++] = *a;
}

static int code_of(int status)
{
    switch (status) {
    case ARES_SUCCESS:
        return 0;
    case ARES_ENODATA:
    case ARES_ENOTFOUND:
    case ARES_EBADNAME:
    case ARES_ENONAME:
        return E_NOT_FOUND;
    case ARES_ETIMEOUT:
        return E_TIMEOUT;
    case ARES_ECONNREFUSED:
    case ARES_EREFUSED:
        return E_REFUSED;
    case ARES_ENOMEM:
        return E_NO_MEMORY;
    default:
        return E_PROTOCOL;
    }
}

static void take_nodes(struct resolve_query *q, const struct ares_addrinfo *info)
{
    uint32_t least = UINT32_MAX;
    for (const struct ares_addrinfo_node *n = info->nodes; n; n = n->ai_next) {
        struct addr a;
        addr_from_sockaddr(&a, n->ai_addr, (socklen_t)n->ai_addrlen);
        addr_set_port(&a, 0);
        if (a.len == 0)
            continue;
        add_addr(q, &a);
        if (n->ai_ttl >= 0 && (uint32_t)n->ai_ttl < least)
            least = (uint32_t)n->ai_ttl;
    }
    for (const struct ares_addrinfo_cname *c = info->cnames; c; c = c->next)
        if (c->ttl >= 0 && (uint32_t)c->ttl < least)
            least = (uint32_t)c->ttl;
    q->ttl_s = least == UINT32_MAX ? 0 : least;
}

static void ask(struct resolve_query *q, int family);

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
    struct resolve_query *q = arg;
    struct resolver *r = q->r;
    int second = q->second;
    r->asked--;
    q->held = false;
    if (!list_empty(&r->waiting) && !r->freed)
        timer_set(&r->again, 0);
    if (info && q->fn)
        take_nodes(q, info);
    ares_freeaddrinfo(info);
    if (status == ARES_ECONNREFUSED || status == ARES_ETIMEOUT)
        r->renew = true;
    if (!q->fn || status == ARES_EDESTRUCTION) {
        query_free(q);
        return;
    }
    q->second = 0;
    if (q->n == 0 && second)
        ask(q, second);
    else
        finish(q, q->n ? 0 : status == ARES_SUCCESS ? E_NOT_FOUND : code_of(status));
}

static void ask(struct resolve_query *q, int family)
{
    struct resolver *r = q->r;
    const struct ares_addrinfo_hints hints = {
        .ai_flags = ARES_AI_NOSORT, .ai_family = family, .ai_socktype = SOCK_STREAM};
    if (r->asked >= ASKED_MAX) {
        q->family = family;
        list_push(&r->waiting, &q->turn);
        return;
    }
    r->asked++;
    q->held = true;
    ares_getaddrinfo(r->channel, q->name, NULL, &hints, on_answer, q);
}

static void ask_waiting(struct resolver *r)
{
    while (!list_empty(&r->waiting) && r->asked < ASKED_MAX) {
        struct resolve_query *q = container_of(r->waiting.next, struct resolve_query, turn);
        list_del(&q->turn);
        ask(q, q->family);
    }
}

/* ---- c-ares on the loop ---- */

static void arm_timeout(struct resolver *r)
{
    struct timeval buf, *tv = r->channel && !r->freed ? ares_timeout(r->channel, NULL, &buf) : NULL;
    if (!tv) {
        timer_cancel(&r->timeout);
        return;
    }
    timer_set(&r->timeout, (uint64_t)tv->tv_sec * 1000u + (uint64_t)tv->tv_usec / 1000u + 1);
}

static void process(struct resolver *r, int readable, int writable)
{
    if (r->freed)
        return;
    ares_process_fd(r->channel, readable, writable);
    arm_timeout(r);
}

static void on_timeout(struct timer *t)
{
    process(container_of(t, struct resolver, timeout), ARES_SOCKET_BAD, ARES_SOCKET_BAD);
}

static struct dns_io *find_io(struct resolver *r, int fd)
{
    list_each (it, &r->ios) {
        struct dns_io *d = container_of(it, struct dns_io, link);
        if (d->io.fd == fd)
            return d;
    }
    return NULL;
}

static void on_io(struct io *io, uint32_t events)
{
    struct dns_io *d = container_of(io, struct dns_io, io);
    struct resolver *r = d->r;
    int fd = io->fd;
    bool in = events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP), out = events & EPOLLOUT;
    d->drained = !in;
    process(r, in ? fd : ARES_SOCKET_BAD, out ? fd : ARES_SOCKET_BAD);
    if (io->fd == fd && !d->drained)
        timer_set(&r->again, 0);
}

static void on_again(struct timer *t)
{
    struct resolver *r = container_of(t, struct resolver, again);
    int fds[16], n = 0;
    list_each (it, &r->ios) {
        struct dns_io *d = container_of(it, struct dns_io, link);
        if (n < 16 && (!d->drained || d->write_again))
            fds[n++] = d->io.fd;
    }
    for (int i = 0; i < n; i++) {
        struct dns_io *d = find_io(r, fds[i]);
        if (!d)
            continue;
        bool out = d->write_again;
        d->write_again = false;
        process(r, d->drained ? ARES_SOCKET_BAD : fds[i], out ? fds[i] : ARES_SOCKET_BAD);
        d = find_io(r, fds[i]);
        if (d && !d->drained)
            timer_set(&r->again, 0);
    }
    ask_waiting(r);
    arm_timeout(r);
}

static void free_io(struct deferred *d)
{
    free(container_of(d, struct dns_io, gone));
}

/* c-ares says what it waits for on a socket; nothing: it is about to close it. */
static void on_state(void *arg, ares_socket_t fd, int readable, int writable)
{
    struct resolver *r = arg;
    struct dns_io *d = find_io(r, fd);
    if (!readable && !writable) {
        if (!d)
            return;
        list_del(&d->link);
        io_forget(&d->io);
        loop_defer(r->loop, &d->gone, free_io);
    } else if (!d) {
        d = mem_new(struct dns_io);
        d->r = r;
        d->drained = true;
        if (io_add(r->loop, &d->io, fd, on_io)) {
            free(d); /* the query will time out */
            return;
        }
        list_push(&r->ios, &d->link);
    } else if (writable) {
        d->write_again = true;
        timer_set(&r->again, 0);
    }
}

/* Its sockets go through the loop's table. */
static ssize_t result(ssize_t r)
{
    if (r >= 0)
        return r;
    errno = (int)-r;
    return -1;
}

static struct os *os_of(void *arg)
{
    return loop_os(((struct resolver *)arg)->loop);
}

static ares_socket_t dns_socket(int domain, int type, int protocol, void *arg)
{
    const struct resolver *r = arg;
    struct os *os = os_of(arg);
    int fd = os->ops->socket(os->self, domain, type), mark = (int)r->mark;
    int rc = fd >= 0 && mark != 0
                 ? os->ops->setsockopt(os->self, fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark)
                 : 0;
    if (rc < 0) {
        os->ops->close(os->self, fd);
        fd = rc;
    }
    return (ares_socket_t)result(fd);
}

static int dns_close(ares_socket_t fd, void *arg)
{
    struct os *os = os_of(arg);
    return (int)result(os->ops->close(os->self, fd));
}

static int dns_connect(ares_socket_t fd, const struct sockaddr *a, ares_socklen_t n, void *arg)
{
    struct os *os = os_of(arg);
    return (int)result(os->ops->connect(os->self, fd, a, (socklen_t)n));
}

static ares_ssize_t dns_recvfrom(ares_socket_t fd, void *p, size_t n, int flags,
                                 struct sockaddr *from, ares_socklen_t *from_n, void *arg)
{
    struct os *os = os_of(arg);
    struct dns_io *d = find_io(arg, fd);
    struct sockaddr_storage ss;
    memset(&ss, 0, sizeof ss);
    ssize_t r;
    if (from) {
        r = os->ops->recvfrom(os->self, fd, p, n, &ss);
        if (r >= 0 && from_n) {
            if (*from_n > (ares_socklen_t)sizeof ss)
                *from_n = (ares_socklen_t)sizeof ss;
            memcpy(from, &ss, (size_t)*from_n);
        }
    } else {
        struct iovec iov = {p, n};
        r = os->ops->readv(os->self, fd, &iov, 1);
    }
    if (d)
        d->drained = r < 0;
    return result(r);
}

static ares_ssize_t dns_sendv(ares_socket_t fd, const struct iovec *iov, int n, void *arg)
{
    struct os *os = os_of(arg);
    return result(os->ops->writev(os->self, fd, iov, n));
}

static int open_channel(struct resolver *r)
{
    static const struct ares_socket_functions functions = {dns_socket, dns_close, dns_connect,
                                                           dns_recvfrom, dns_sendv};
    static char lookups[] = "fb"; /* the hosts file, then name servers */
    struct ares_options o = {
        .sock_state_cb = on_state, .sock_state_cb_data = r, .lookups = lookups};
    int rc = ares_init_options(&r->channel, &o, ARES_OPT_SOCK_STATE_CB | ARES_OPT_LOOKUPS);
    if (rc != ARES_SUCCESS) {
        r->channel = NULL;
        return rc;
    }
    ares_set_socket_functions(r->channel, &functions, r);
    rc = r->servers ? ares_set_servers_ports_csv(r->channel, r->servers) : ARES_SUCCESS;
    if (rc != ARES_SUCCESS) {
        ares_destroy(r->channel);
        r->channel = NULL;
    }
    return rc;
}

/* resolv.conf may have changed since nobody answered. */
static void renew_channel(struct resolver *r)
{
    r->renew = false;
    if (r->servers || r->asked)
        return;
    ares_channel old = r->channel;
    if (open_channel(r) == ARES_SUCCESS)
        ares_destroy(old);
    else
        r->channel = old;
}

/* ---- life ---- */

static struct resolver *new_resolver(struct loop *l)
{
    struct resolver *r = mem_new(struct resolver);
    r->loop = l;
    list_init(&r->ios);
    list_init(&r->queries);
    list_init(&r->waiting);
    map_init(&r->table);
    timer_init(&r->timeout, l, on_timeout);
    timer_init(&r->again, l, on_again);
    return r;
}

static void init_library(void)
{
    ares_library_init(ARES_LIB_INIT_ALL);
}

struct resolver *resolver_new(struct loop *l, const char *servers, uint32_t mark, struct error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_library);
    struct resolver *r = new_resolver(l);
    r->servers = servers ? sv_dup(sv_of(servers)) : NULL;
    r->mark = mark;
    int rc = open_channel(r);
    if (rc != ARES_SUCCESS) {
        error_set(err, code_of(rc), "name resolution with servers %s: %s",
                  servers ? servers : "of /etc/resolv.conf", ares_strerror(rc));
        free(r->servers);
        free(r);
        return NULL;
    }
    return r;
}

static void add_entry(struct resolver *r, const char *entry)
{
    sv name, ips, ip, ttl;
    struct addr a;
    uint64_t ttl_s = 0;
    if (!sv_cut(sv_of(entry), '=', &name, &ips))
        return;
    if (sv_cut(ips, ';', &ips, &ttl) && sv_to_u64(ttl, &ttl_s) != 0)
        return;
    struct answer *ans = mem_zalloc(sizeof *ans);
    ans->ttl_s = (uint32_t)ttl_s;
    ans->refused = sv_eq(ips, SV("!"));
    for (bool more = true; more;) {
        more = sv_cut(ips, ',', &ip, &ips);
        if (addr_ip(&a, sv_trim(ip), 0) == 0 && ans->n < ANSWERS_MAX) {
            ans = mem_realloc(ans, sizeof *ans + (ans->n + 1) * sizeof *ans->addrs);
            ans->addrs[ans->n++] = a;
        }
    }
    free(map_put(&r->table, name, ans));
}

struct resolver *resolver_new_static(struct loop *l, const char *const *entries, size_t n)
{
    struct resolver *r = new_resolver(l);
    for (size_t i = 0; i < n; i++)
        add_entry(r, entries[i]);
    return r;
}

static void free_resolver(struct deferred *d)
{
    struct resolver *r = container_of(d, struct resolver, gone);
    if (r->channel)
        ares_destroy(r->channel); /* hands back the queries that it holds */
    map_each (e, &r->table) {
        free(e->val);
    }
    map_fini(&r->table);
    free(r->servers);
    free(r);
}

void resolver_free(struct resolver *r)
{
    if (!r || r->freed)
        return;
    r->freed = true;
    list_each_safe (it, &r->queries) {
        resolve_cancel(container_of(it, struct resolve_query, link));
    }
    timer_cancel(&r->timeout);
    timer_cancel(&r->again);
    loop_defer(r->loop, &r->gone, free_resolver);
}

/* ---- queries ---- */

static bool of_family(const struct addr *a, int family)
{
    return family == AF_UNSPEC || a->sa.sa_family == family;
}

static void answer_static(struct resolve_query *q, int family)
{
    const struct answer *ans = map_get(&q->r->table, sv_of(q->name));
    for (; ans && q->n == 0; family = q->second) {
        for (size_t i = 0; i < ans->n; i++)
            if (of_family(&ans->addrs[i], family))
                add_addr(q, &ans->addrs[i]);
        if (family == q->second || q->second == 0)
            break;
    }
    q->ttl_s = ans ? ans->ttl_s : 0;
    finish(q, q->n ? 0 : ans && ans->refused ? E_REFUSED : E_NOT_FOUND);
}

static int first_family(enum resolve_family f, int *second)
{
    *second = 0;
    switch (f) {
    case RESOLVE_V4:
        return AF_INET;
    case RESOLVE_V6:
        return AF_INET6;
    case RESOLVE_V4_PREFERRED:
        *second = AF_INET6;
        return AF_INET;
    case RESOLVE_AUTO:
        *second = AF_INET;
        return AF_INET6;
    default:
        return AF_UNSPEC;
    }
}

struct resolve_query *resolve_start(struct resolver *r, sv name, enum resolve_family family,
                                    resolve_fn fn, void *user)
{
    struct addr literal;
    struct resolve_query *q = mem_new(struct resolve_query);
    q->r = r;
    q->fn = fn;
    q->user = user;
    timer_init(&q->done, r->loop, on_done);
    list_init(&q->turn);
    list_push(&r->queries, &q->link);
    int first = first_family(family, &q->second);
    if (addr_ip(&literal, name, 0) == 0) {
        if (of_family(&literal, first) || q->second)
            add_addr(q, &literal);
        finish(q, q->n ? 0 : E_NOT_FOUND);
    } else if (name.n == 0 || name.n > NAME_MAX_BYTES || memchr(name.p, 0, name.n)) {
        finish(q, E_NOT_FOUND);
    } else {
        memcpy(q->name, name.p, name.n);
        if (!r->channel) {
            answer_static(q, first);
            return q;
        }
        if (r->renew)
            renew_channel(r);
        ask(q, first);
        arm_timeout(r);
    }
    return q;
}

void resolve_cancel(struct resolve_query *q)
{
    if (!q || !q->fn)
        return;
    q->fn = NULL;
    list_del(&q->link);
    if (!q->held)
        query_free(q);
}
