/* The end of a process: SIGTERM or SIGINT once. Listeners stop accepting, HTTP/2 peers get a
 * GOAWAY, HTTP/1 responses say Connection: close; when nothing is under way any more, or when the
 * drain time is over, the process ends with status 0. A second signal ends it at once. */
#include "base/log.h"
#include "base/mem.h"
#include "proxy/listener_manager.h"
#include "proxy/server_private.h"
#include "telemetry/access_log_file.h"

LOG_COMPONENT(main);

#define LOOK_MS 20

static void look_again(struct proxy_server *s)
{
    timer_set(&s->drain_timer, LOOK_MS);
}

/* Runs on main once every worker has answered. */
static void looked(void *arg)
{
    struct proxy_server *s = arg;
    if (s->stopped)
        return;
    uint32_t busy = atomic_load(&s->busy_left);
    if (busy && loop_now_ms(s->loop) < s->drain_until_ms) {
        look_again(s);
        return;
    }
    log_info(&log_main, "drained busy=%u", busy);
    proxy_server_stop(s);
}

struct count {
    struct proxy_server *s;
    _Atomic uint32_t waiting, busy;
};

static void count_done(void *arg)
{
    struct count *c = arg;
    struct proxy_server *s = c->s;
    atomic_store(&s->busy_left, atomic_load(&c->busy));
    free(c);
    looked(s);
}

struct ask {
    struct count *c;
    struct worker *w;
};

static void ask_worker(void *arg)
{
    struct ask *a = arg;
    atomic_fetch_add(&a->c->busy, worker_busy(a->w));
    if (atomic_fetch_sub(&a->c->waiting, 1) == 1)
        loop_post(a->c->s->loop, count_done, a->c);
    free(a);
}

static void on_look(struct timer *t)
{
    struct proxy_server *s = container_of(t, struct proxy_server, drain_timer);
    struct count *c = mem_new(struct count);
    c->s = s;
    atomic_init(&c->waiting, s->concurrency);
    for (uint32_t i = 0; i < s->concurrency; i++) {
        struct ask *a = mem_new(struct ask);
        *a = (struct ask){c, s->workers[i]};
        loop_post(s->workers[i]->f.loop, ask_worker, a);
    }
}

void proxy_drain_init(struct proxy_server *s)
{
    timer_init(&s->drain_timer, s->loop, on_look);
}

void proxy_server_drain(struct proxy_server *s)
{
    if (s->drain_asked) {
        proxy_server_stop(s);
        return;
    }
    s->drain_asked = true;
    s->state = PROXY_DRAINING;
    s->drain_until_ms = loop_now_ms(s->loop) + (uint64_t)s->cli->drain_time_s * 1000;
    log_info(&log_main, "draining limit_s=%u", s->cli->drain_time_s);
    for (uint32_t i = 0; i < s->concurrency; i++)
        worker_drain(s->workers[i]);
    look_again(s);
}
