#include "chaos.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    uint64_t n, at;
    const struct chaos_action *action;
    void *arg;
} now;

const char *chaos_done(void)
{
    return now.at && now.n >= now.at ? now.action->name : NULL;
}

static const struct chaos_action *action_at(const struct chaos *c, size_t i)
{
    return i < c->n_actions ? &c->actions[i] : &c->own[i - c->n_actions];
}

static void on_point(void *arg)
{
    if (++now.n == now.at)
        now.action->act(now.arg);
}

void chaos_begin(struct sim *s, void *arg)
{
    now.n = 0;
    now.arg = arg;
    sim_set_batch(s, 1);
    sim_watch(s, on_point, NULL);
}

void chaos_end(struct sim *s)
{
    sim_watch(s, NULL, NULL);
    sim_set_batch(s, 0);
}

static unsigned one(const struct chaos *c, size_t scenario, size_t action, uint64_t at)
{
    now.at = at;
    now.n = 0;
    now.action = action_at(c, action);
    unsigned n = c->run(scenario);
    if (n)
        fprintf(stderr, "%u violations; again: CHAOS=%s:%s:%" PRIu64 " %s\n", n,
                c->scenarios[scenario], now.action->name, at, c->program);
    return n;
}

static int only(const struct chaos *c, const char *text)
{
    char want[128];
    for (size_t s = 0; s < c->n_scenarios; s++)
        for (size_t a = 0; a < c->n_actions + c->n_own; a++) {
            int n = snprintf(want, sizeof want, "%s:%s:", c->scenarios[s], action_at(c, a)->name);
            if (!strncmp(text, want, (size_t)n))
                return one(c, s, a, strtoull(text + n, NULL, 10)) > 0;
        }
    fprintf(stderr, "no scenario and action '%s'\n", text);
    return 2;
}

int chaos_main(const struct chaos *c)
{
    uint64_t runs = 0;
    unsigned bad = 0, stride = getenv("STRIDE") ? (unsigned)atoi(getenv("STRIDE")) : c->stride;
    if (getenv("CHAOS"))
        return only(c, getenv("CHAOS"));
    for (size_t s = 0; s < c->n_scenarios; s++) {
        bad += one(c, s, 0, 0) > 0; /* without anything */
        uint64_t points = now.n;
        fprintf(stderr, "%s: %" PRIu64 " points\n", c->scenarios[s], points);
        for (size_t a = 0; a < c->n_actions + c->n_own; a++)
            for (uint64_t at = 1 + (s + a) % stride; at <= points; at += stride, runs++)
                bad += one(c, s, a, at) > 0;
    }
    fprintf(stderr, "%" PRIu64 " runs, %u with violations\n", runs, bad);
    return bad > 0;
}
