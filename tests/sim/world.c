#include "world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "backend.h"
#include "base/buf.h"
#include "base/mem.h"
#include "client.h"
#include "net/loop.h"

#define LINGER_MS 6000 /* longer than closed TLS connections wait for their last bytes to leave */
#define PRINTED   12   /* violations of a seed that are printed */

const char *outcome_name(enum outcome o)
{
    static const char *const names[] = {"pending", "answered", "cut",    "lost",
                                        "gave up", "aborted",  "unsent", "broken"};
    return names[o];
}

struct world *world_new(uint64_t seed)
{
    struct world *w = mem_new(struct world);
    w->seed = seed;
    w->blocks = buf_pool_blocks_in_use();
    w->sim = sim_new(seed);
    if (getenv("TRACE") && (w->trace = fopen(getenv("TRACE"), "w")))
        sim_trace(w->sim, w->trace);
    rand_seed(&w->rnd, seed * 0x9e3779b97f4a7c15ull + 1);
    list_init(&w->backends);
    list_init(&w->clients);
    return w;
}

void world_bury(struct world *w, struct loop *l)
{
    w->graves = mem_realloc(w->graves, sizeof *w->graves * (size_t)(w->n_graves + 1));
    w->graves[w->n_graves++] = l;
}

static void open_graves(struct world *w)
{
    if (w->n_graves)
        world_run_ms(w, LINGER_MS);
    for (int i = 0; i < w->n_graves; i++) {
        loop_turn(w->graves[i], 0);
        loop_turn(w->graves[i], 0);
        loop_free(w->graves[i]);
    }
    free(w->graves);
}

unsigned world_free(struct world *w)
{
    if (!w)
        return 0;
    open_graves(w);
    size_t blocks = buf_pool_blocks_in_use();
    if (blocks != w->blocks)
        world_violation(w, "%zu buffers in use after the end, %zu before", blocks, w->blocks);
    unsigned n = w->n_violations;
    sim_free(w->sim);
    if (w->trace)
        fclose(w->trace);
    free(w->book);
    free(w);
    return n;
}

void world_run_ms(struct world *w, uint64_t ms)
{
    sim_run_for(w->sim, ms * SIM_MS);
}

uint64_t world_ms(const struct world *w)
{
    return sim_now(w->sim) / SIM_MS;
}

uint64_t world_below(struct world *w, uint64_t n)
{
    return rand_below(&w->rnd, n);
}

uint64_t world_between(struct world *w, uint64_t low, uint64_t high)
{
    return low + rand_below(&w->rnd, high - low + 1);
}

bool world_permille(struct world *w, unsigned n)
{
    return rand_below(&w->rnd, 1000) < n;
}

/* ---- violations ---- */

static void say(struct world *w, const char *fmt, va_list ap)
{
    fprintf(stderr, "seed %" PRIu64 " at %.6f s: ", w->seed, (double)sim_now(w->sim) / 1e9);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
}

void world_note(struct world *w, const char *fmt, ...)
{
    va_list ap;
    if (!getenv("VERBOSE"))
        return;
    va_start(ap, fmt);
    say(w, fmt, ap);
    va_end(ap);
}

void world_violation(struct world *w, const char *fmt, ...)
{
    va_list ap;
    if (w->n_violations++ >= PRINTED)
        return;
    va_start(ap, fmt);
    say(w, fmt, ap);
    va_end(ap);
}

static void say_request(struct world *w, const struct request *r)
{
    static const char *const names[] = {"seen",    "answered", "hung", "reset", "cut",
                                        "garbage", "failed",   "slow", "early"};
    fprintf(stderr,
            "    request %" PRIu64 " of %s: %s%s body=%" PRIu64
            " sent=%.6f s took=%.3f ms -> %s %u by %s, "
            "arrivals=%u delay=%.3f ms",
            r->id, r->client->name, r->post ? "POST" : "GET", r->jason ? " jason" : "", r->body_n,
            (double)r->sent_ns / 1e9, (double)(sim_now(w->sim) - r->sent_ns) / 1e6,
            outcome_name(r->outcome), r->status,
            r->backend < 0 ? "proxy" : backend_at(w, r->backend)->name, r->arrivals,
            (double)r->delay_ns / 1e6);
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
        if (r->trace >> i & 1)
            fprintf(stderr, " %s", names[i]);
    if (r->said[0])
        fprintf(stderr, " \"%s\"", r->said);
    fputc('\n', stderr);
}

void world_wrong(struct world *w, const struct request *r, const char *fmt, ...)
{
    va_list ap;
    if (w->n_violations++ >= PRINTED)
        return;
    va_start(ap, fmt);
    say(w, fmt, ap);
    va_end(ap);
    say_request(w, r);
}

/* ---- the book ---- */

struct request *world_request_new(struct world *w)
{
    if (w->n_requests == w->cap_requests) {
        w->cap_requests = w->cap_requests ? w->cap_requests * 2 : 1024;
        w->book = mem_realloc(w->book, w->cap_requests * sizeof *w->book);
    }
    struct request *r = &w->book[w->n_requests++];
    *r = (struct request){.id = w->n_requests, .sent_ns = sim_now(w->sim), .backend = -1};
    return r;
}

struct request *world_request(struct world *w, uint64_t id)
{
    return id && id <= w->n_requests ? &w->book[id - 1] : NULL;
}

void world_request_done(struct world *w, uint64_t id, enum outcome o)
{
    struct request *r = world_request(w, id);
    if (r->outcome != OUTCOME_PENDING) {
        world_wrong(w, r, "a request ended twice, now %s", outcome_name(o));
        return;
    }
    r->outcome = o;
    r->done_ns = sim_now(w->sim);
    if (w->judge)
        w->judge(w->arg, r);
}

/* ---- seeds ---- */

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

unsigned world_each_seed(unsigned dflt, const char *program, unsigned (*fn)(uint64_t seed))
{
    const char *text = getenv("SEEDS");
    uint64_t from = 1, to = dflt;
    unsigned bad = 0;
    double start = seconds();
    if (text && *text && sscanf(text, "%" SCNu64 "-%" SCNu64, &from, &to) == 1) {
        to = from;
        from = 1;
    }
    for (uint64_t seed = from; seed <= to; seed++) {
        unsigned n = fn(seed);
        if (!n)
            continue;
        bad++;
        fprintf(stderr,
                "seed %" PRIu64 ": %u violations; again: SEEDS=%" PRIu64 "-%" PRIu64 " %s\n", seed,
                n, seed, seed, program);
    }
    fprintf(stderr, "seeds %" PRIu64 " to %" PRIu64 ": %u with violations, %.1f s\n", from, to, bad,
            seconds() - start);
    return bad;
}
