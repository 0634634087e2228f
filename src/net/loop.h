/* The event loop of one thread: descriptors (epoll, edge-triggered, registered once), a timer
 * wheel, work at the end of the turn, and posts from other threads.
 *
 *   turn:  wait -> descriptor callbacks -> due timers -> posted work -> deferred work (frees)
 *
 * Rules of life: freeing is deferred (loop_defer), never done under a callback whose object is on
 * the stack; any callback may end the object that called it.
 * Thread: owner, except loop_post and loop_stop (any). */
#ifndef WEFT_NET_LOOP_H
#define WEFT_NET_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "base/list.h"
#include "base/rand.h"
#include "net/os.h"

struct loop;

/* os NULL = os_real(). */
struct loop *loop_new(struct os *os);
/* Runs what is deferred, then frees. Descriptors and timers must be gone or are dropped. */
void loop_free(struct loop *l);
/* Turns until loop_stop. Sets loop_current() for the thread. */
void loop_run(struct loop *l);
/* One turn, waiting at most max_wait_ns for an event. Returns how many callbacks ran. */
int loop_turn(struct loop *l, uint64_t max_wait_ns);
void loop_stop(struct loop *l);  /* any thread */
struct loop *loop_current(void); /* of this thread, or NULL */
struct os *loop_os(struct loop *l);

/* The time at the start of this turn, cheap. */
uint64_t loop_now_ns(const struct loop *l);
static inline uint64_t loop_now_ms(const struct loop *l)
{
    return loop_now_ns(l) / 1000000u;
}
/* The time now, asked anew: for who measures what it does itself. */
uint64_t loop_clock_ns(struct loop *l);
uint64_t loop_wall_ns(struct loop *l); /* since 1970 */
/* The time in the callback under way, asked at most once in each: for the stamps of requests and
 * connections. Never before a loop_clock_ns that went before it. The wall clock is asked once a
 * turn, and moves with the other in between. */
uint64_t loop_stamp_ns(struct loop *l);
uint64_t loop_stamp_wall_ns(struct loop *l);
struct rand_state *loop_rand(struct loop *l);

/* ---- descriptors ---- */
struct io;
/* events: EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLHUP, EPOLLERR as the kernel gave them. */
typedef void (*io_fn)(struct io *io, uint32_t events);
struct io {
    int fd; /* -1: not registered */
    io_fn fn;
    struct loop *loop;
    bool dead; /* private: not registered; events still on their way are dropped */
};
/* Registers fd for reading and writing, edge-triggered, once. io lives at least until io_del and
 * the end of that turn: free its holder with loop_defer. 0 or a negative code. */
int io_add(struct loop *l, struct io *io, int fd, io_fn fn);
void io_del(struct io *io); /* does not close the descriptor */
/* As io_del, for who closes the descriptor right after: saves the system call. */
void io_forget(struct io *io);
/* As io_add with these epoll events instead of all (shared listening sockets). */
int io_add_events(struct loop *l, struct io *io, int fd, io_fn fn, uint32_t events);

/* ---- timers: hierarchical wheel, 1 ms ticks ---- */
struct timer;
typedef void (*timer_fn)(struct timer *t);
struct timer {
    struct list link; /* private */
    uint64_t due_ms;  /* private */
    timer_fn fn;
    struct loop *loop;
};
void timer_init(struct timer *t, struct loop *l, timer_fn fn);
/* Starts, or moves, the timer to fire once in delay_ms (0: on the next turn). Never early by
 * loop_now_ns; O(1). The timer is inactive when its function runs: it may set it again or free it.
 */
void timer_set(struct timer *t, uint64_t delay_ms);
static inline bool timer_active(const struct timer *t)
{
    return t->link.next && t->link.next != &t->link;
}
void timer_remove(struct timer *t); /* timer_cancel of one that is active */
/* Fine when it is not set, and on a zeroed timer. */
static inline void timer_cancel(struct timer *t)
{
    if (timer_active(t))
        timer_remove(t);
}

/* ---- later ---- */
/* Work for when no callback is on the stack: at the end of this turn, or between two descriptors or
 * timers of it once much was read (below). The node lives inside the object that is to be freed. */
struct deferred {
    struct deferred *next; /* private */
    void (*fn)(struct deferred *d);
};
void loop_defer(struct loop *l, struct deferred *d, void (*fn)(struct deferred *d));
/* Writing is deferred, so that many answers share a write, but bodies would leave the processor's
 * cache until then, and be fetched twice. So whoever reads from a descriptor tells how much, and
 * past 48 KB the deferred work is run at once. Who could read more from the same peer then is not
 * to do it, but to defer itself (behind the writes) or to ask for the next turn. */
void loop_took(struct loop *l, size_t bytes);
bool loop_full(const struct loop *l);
/* Runs fn(arg) on the loop's thread soon. Any thread. Order of posts of one thread is kept.
 * Once loop_free has begun the work is dropped; who can post must have ended when it returns. */
void loop_post(struct loop *l, void (*fn)(void *arg), void *arg);

/* ---- files ---- */
struct file_watch;
/* Calls fn after a file or any entry of a directory changed (its writer closed it), was made, moved
 * or removed (inotify). Follows symbolic links on the way, such as Kubernetes' swap of ..data, and
 * a path that does not exist yet. Bursts are merged over 20 ms. fn may free the watch. NULL + err
 * on failure, always in simulation. */
struct file_watch *file_watch_new(struct loop *l, const char *path, void (*fn)(void *arg),
                                  void *arg, struct error *err);
void file_watch_free(struct file_watch *w);

/* ---- signals (main loop only): fn runs on the loop, outside signal context ----
 * Blocks the signal in the calling thread: call before other threads start, which inherit the mask.
 * fn NULL ends the watching (the signal stays blocked). A child must unblock before exec. */
int loop_on_signal(struct loop *l, int signo, void (*fn)(int signo, void *arg), void *arg);

#endif
