/* The inside of the simulation, for sim*.c.
 *
 *   sim.c       clock, scheduler, hosts, faults
 *   sim_os.c    the table: descriptors, polling, options
 *   sim_tcp.c   connections        sim_udp.c   datagrams
 *
 * A connection (sim_tcp) has two sides; each side owns the queue of segments that it sent and that
 * have not arrived. A socket is one side's descriptor and receive queue; it goes at close, the
 * connection when both sockets and all segments are gone. */
#ifndef WEFT_NET_SIM_PRIVATE_H
#define WEFT_NET_SIM_PRIVATE_H

#include "base/heap.h"
#include "base/list.h"
#include "net/addr.h"
#include "net/loop.h"
#include "net/sim.h"

#define SIM_FD_BASE 0x40000000 /* far from the kernel's numbers, so that a mix-up fails */
#define SIM_IPS     8
#define SIM_PORTS   32

struct sim_event {
    struct heap_node node; /* key: when */
    void (*fn)(struct sim_event *e);
    struct sim *sim;
    bool armed;
    bool patient; /* a retry: does not keep sim_run_idle waiting */
};

struct sim_host {
    struct os os;
    struct sim *sim;
    struct list link;
    struct addr ips[SIM_IPS];
    int n_ips;
    bool down;
    uint32_t life; /* counts deaths: loops and sockets of an earlier life are dead */
    uint16_t next_port;
    size_t sockets, socket_limit;
    uint16_t out_port, in_port, not_in[SIM_PORTS];
    uint32_t exempt_mark;
    int number; /* for the trace */
};

struct sim_link {
    struct list link;
    struct sim_host *a, *b;
    bool cut, has_latency;
    uint64_t min_ns, max_ns;
};

struct sim_poll {
    struct sim_host *host;
    struct loop *loop;
    uint32_t life;
    struct list ready; /* sockets with a possible event */
    uint64_t deadline;
    bool woken;
    bool dirty; /* its deadline may have changed */
    int number;
};

struct sim {
    uint64_t now;
    struct rand_state rand;
    struct heap events;
    size_t urgent; /* events under way that are not patient */
    struct list hosts, links, tcps, scripts, datagrams;
    struct sim_poll **polls;
    int n_polls;
    struct sim_sock **socks; /* by descriptor */
    int n_socks;
    int next_host, next_poll;
    uint64_t next_tcp;
    uint64_t min_ns, max_ns;
    size_t buffer;
    bool whole_segments;
    double udp_loss;
    uint64_t hash;
    FILE *trace;
    void (*watch)(void *arg);
    void *watch_arg;
    int batch;
};

enum sim_state { SIM_NEW, SIM_LISTENING, SIM_CONNECTING, SIM_CONNECTED };

struct sim_sock {
    struct sim *sim;
    struct sim_host *host;
    uint32_t life;
    int fd; /* -1: not accepted yet */
    int domain, type;
    enum sim_state state;
    struct addr local, remote, original_dst;
    /* registration */
    struct sim_poll *poll;
    void *data;
    uint32_t mask;
    struct list ready;
    /* stream */
    struct sim_tcp *tcp;
    int side;
    struct list in;            /* segments that arrived */
    size_t in_bytes, in_first; /* in_first: bytes of the first segment that were read */
    bool eof;                  /* the FIN came */
    bool shut;                 /* the FIN was sent */
    bool broken;               /* reset, refused or timed out; `err` says it once */
    bool blocked;              /* a write was short */
    bool hard_close, reuse_port;
    int err;
    uint32_t mark;
    struct list accepted, accept_link; /* listener: queue; member: in it */
    int accept_n, backlog;
};

enum sim_seg_kind { SEG_SYN, SEG_SYN_ACK, SEG_DATA, SEG_FIN, SEG_RST };

struct sim_seg {
    struct list link;
    uint64_t at;
    enum sim_seg_kind kind;
    struct addr from; /* of a datagram */
    size_t n;
    char p[];
};

struct sim_side {
    struct sim_tcp *tcp;
    struct sim_sock *sock; /* NULL: closed, or not there yet */
    struct sim_host *host;
    struct list sent; /* on their way to the other side */
    struct sim_event deliver, window;
    uint64_t last_at, stalled_since, rto;
    size_t cap, used; /* bytes between writer and reader */
    size_t freed;     /* read, but the writer does not know it yet */
};

struct sim_tcp {
    struct list link;
    struct sim *sim;
    struct sim_side side[2]; /* 0: who connected */
    struct addr from, to, original_dst;
    uint64_t number;
    bool dead; /* reset: segments for nobody are not answered any more */
};

/* sim.c */
void sim_arm(struct sim_event *e, uint64_t at);
void sim_disarm(struct sim_event *e);
/* Folds what happened into the hash and writes a line of the trace. */
void sim_note(struct sim *s, const char *what, uint64_t a, uint64_t b, uint64_t c);
struct sim_host *sim_find_host(struct sim *s, const struct addr *a);
bool sim_host_has(const struct sim_host *h, const struct addr *a);
bool sim_reachable(struct sim *s, struct sim_host *a, struct sim_host *b);
uint64_t sim_latency(struct sim *s, struct sim_host *a, struct sim_host *b);

/* sim_os.c */
extern const struct os_ops sim_ops;
/* A descriptor for the socket, or -EMFILE. */
int sim_fd_new(struct sim_sock *k);
struct sim_sock *sim_sock_new(struct sim_host *h, int domain, int type);
/* Drops queues, registration and descriptor. */
void sim_sock_free(struct sim_sock *k);
/* Something about the socket changed: its poll looks at it. */
void sim_sock_event(struct sim_sock *k);
bool sim_sock_dead(const struct sim_sock *k);
/* Gives the socket an address of its host and a port, when it has none. `to` decides the family. */
int sim_autobind(struct sim_sock *k, const struct addr *to);
/* The socket of that type on the host that takes what is sent to `to`; one of several that share
 * the port, by chance. */
struct sim_sock *sim_find_bound(struct sim_host *h, int type, const struct addr *to);

/* sim_tcp.c */
int sim_tcp_connect(struct sim_sock *k, const struct addr *to);
ssize_t sim_tcp_read(struct sim_sock *k, const struct iovec *iov, int n, bool peek);
ssize_t sim_tcp_write(struct sim_sock *k, const struct iovec *iov, int n);
int sim_tcp_shutdown(struct sim_sock *k);
void sim_tcp_close(struct sim_sock *k);
uint32_t sim_tcp_level(const struct sim_sock *k);
/* Both ends see a reset. */
void sim_tcp_reset_both(struct sim_tcp *t);
/* The host lost its power: silence from this side. */
void sim_tcp_silence(struct sim_tcp *t, struct sim_host *h);
void sim_tcp_free(struct sim_tcp *t);

/* sim_udp.c */
ssize_t sim_udp_send(struct sim_sock *k, const struct iovec *iov, int n, const struct addr *to);
ssize_t sim_udp_receive(struct sim_sock *k, const struct iovec *iov, int n, struct addr *from,
                        bool peek);
void sim_udp_drop_all(struct sim *s);

#endif
