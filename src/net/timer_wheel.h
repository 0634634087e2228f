/* Hierarchical timer wheel: 1 ms ticks, seven levels of 64 slots, O(1) to add and remove.
 *
 *   level 0: [.]x64  one tick a slot       the rest of the present 64 ms
 *   level 1: [.]x64  64 ticks a slot       the rest of the present 4 s
 *   level 2: [.]x64  4096 ticks a slot     ... and so on, to 139 years
 *
 * A timer's level is the highest group of six bits in which its due tick differs from the present
 * one, so slots ahead of the present always lie within one page and never wrap. When time reaches
 * a slot of a higher level its timers move down. Time is an argument: the wheel has no clock.
 * timer_wheel_next is the true next due tick, not the next cascade: a loop that sleeps until then
 * never wakes in vain. (For a slot that holds many timers and lost its earliest one it may be too
 * early once: looking for the new earliest is bounded.)
 * Thread: owner. */
#ifndef WEFT_NET_TIMER_WHEEL_H
#define WEFT_NET_TIMER_WHEEL_H

#include "base/list.h"
#include "net/loop.h"

#define WHEEL_LEVELS 7
#define WHEEL_SLOTS  64

struct timer_wheel {
    uint64_t now;                              /* ticks up to this one were handed out */
    uint64_t bits[WHEEL_LEVELS];               /* a set bit: the slot may hold timers */
    uint64_t stale[WHEEL_LEVELS];              /* a set bit: the slot lost its earliest timer */
    uint64_t least[WHEEL_LEVELS][WHEEL_SLOTS]; /* no timer of the slot is due before */
    struct list slot[WHEEL_LEVELS][WHEEL_SLOTS];
};

void timer_wheel_init(struct timer_wheel *w, uint64_t now);
/* due <= w->now fires with the next tick; t is in no list. */
void timer_wheel_add(struct timer_wheel *w, struct timer *t, uint64_t due);
/* t was added to this wheel and may have been handed out meanwhile. */
void timer_wheel_remove(struct timer_wheel *w, struct timer *t);
/* Moves the timers due by `now` to the end of `out`, in the order of their due ticks. */
void timer_wheel_advance(struct timer_wheel *w, uint64_t now, struct list *out);
/* The next due tick, UINT64_MAX when there is none. */
uint64_t timer_wheel_next(struct timer_wheel *w);

#endif
