#include "net/timer_wheel.h"
#include "base/code.h"

#define BITS      6
#define FARTHEST  ((1ull << BITS * WHEEL_LEVELS) - 1)
#define SCAN_MOST 32 /* timers looked at to find a slot's earliest one */

static struct timer *of_link(struct list *l)
{
    return container_of(l, struct timer, link);
}

void timer_wheel_init(struct timer_wheel *w, uint64_t now)
{
    w->now = now;
    for (int l = 0; l < WHEEL_LEVELS; l++) {
        w->bits[l] = w->stale[l] = 0;
        for (int s = 0; s < WHEEL_SLOTS; s++)
            list_init(&w->slot[l][s]);
    }
}

/* Level and slot of a tick after the present one. */
static int place(const struct timer_wheel *w, uint64_t due, unsigned *slot)
{
    int level = (63 - __builtin_clzll(due ^ w->now)) / BITS;
    *slot = (unsigned)(due >> (level * BITS)) & (WHEEL_SLOTS - 1);
    return level;
}

HOT void timer_wheel_add(struct timer_wheel *w, struct timer *t, uint64_t due)
{
    unsigned s;
    uint64_t horizon = w->now | FARTHEST;
    if (due <= w->now)
        due = w->now + 1;
    if (due > horizon && horizon > w->now)
        due = horizon;
    t->due_ms = due;
    int l = place(w, due, &s);
    uint64_t bit = 1ull << s;
    if (!(w->bits[l] & bit) || list_empty(&w->slot[l][s])) {
        w->stale[l] &= ~bit;
        w->least[l][s] = due;
    } else if (due <= w->least[l][s]) {
        w->stale[l] &= ~bit;
        w->least[l][s] = due;
    }
    w->bits[l] |= bit;
    list_push(&w->slot[l][s], &t->link);
}

void timer_wheel_remove(struct timer_wheel *w, struct timer *t)
{
    list_del(&t->link);
    if (t->due_ms <= w->now)
        return; /* was handed out */
    unsigned s;
    int l = place(w, t->due_ms, &s);
    if (w->least[l][s] == t->due_ms)
        w->stale[l] |= 1ull << s;
}

/* The first slot that holds timers: its level (WHEEL_LEVELS when there is none) and first tick. */
HOT static int first_slot(struct timer_wheel *w, unsigned *slot, uint64_t *start)
{
    for (int l = 0; l < WHEEL_LEVELS; l++)
        while (w->bits[l]) {
            unsigned s = (unsigned)__builtin_ctzll(w->bits[l]);
            if (list_empty(&w->slot[l][s])) {
                w->bits[l] &= ~(1ull << s); /* all of them were removed */
                continue;
            }
            int shift = l * BITS;
            uint64_t page = w->now >> shift >> BITS << BITS << shift;
            *slot = s;
            *start = page | (uint64_t)s << shift;
            return l;
        }
    return WHEEL_LEVELS;
}

/* Time is at the slot's first tick: hands out what is due, moves the rest down. */
static void open_slot(struct timer_wheel *w, int level, unsigned s, struct list *out)
{
    struct list *head = &w->slot[level][s];
    w->bits[level] &= ~(1ull << s);
    w->stale[level] &= ~(1ull << s);
    while (!list_empty(head)) {
        struct timer *t = of_link(head->next);
        list_del(&t->link);
        if (t->due_ms <= w->now)
            list_push(out, &t->link);
        else
            timer_wheel_add(w, t, t->due_ms);
    }
}

void timer_wheel_advance(struct timer_wheel *w, uint64_t now, struct list *out)
{
    unsigned s;
    uint64_t start;
    int l;
    if (now <= w->now)
        return;
    while ((l = first_slot(w, &s, &start)) < WHEEL_LEVELS && start <= now) {
        w->now = start;
        open_slot(w, l, s, out);
    }
    w->now = now;
}

static uint64_t find_least(struct timer_wheel *w, int l, unsigned s)
{
    uint64_t least = UINT64_MAX;
    int looked = 0;
    list_each (it, &w->slot[l][s]) {
        if (++looked > SCAN_MOST)
            return w->least[l][s];
        if (of_link(it)->due_ms < least)
            least = of_link(it)->due_ms;
    }
    w->least[l][s] = least;
    w->stale[l] &= ~(1ull << s);
    return least;
}

uint64_t timer_wheel_next(struct timer_wheel *w)
{
    unsigned s;
    uint64_t start;
    int l = first_slot(w, &s, &start);
    if (l == WHEEL_LEVELS)
        return UINT64_MAX;
    if (l == 0)
        return start;
    return w->stale[l] & 1ull << s ? find_least(w, l, s) : w->least[l][s];
}
