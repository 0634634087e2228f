/* Chaos at every point: a scenario runs once to count the points, which are all the moments at
 * which something happens between the parts of a world (a piece arrives, a loop has a turn, in
 * which it hears of one descriptor); then it runs again for each point, and at this point
 * something breaks: connections are reset, the clock leaps, configuration comes or goes.
 *
 *     program                          all scenarios, all actions, all points
 *     CHAOS=SCENARIO:ACTION:POINT program     one of them; VERBOSE=1, TRACE=FILE as ever
 *     STRIDE=7 program                 each seventh point
 *
 * After each run: every request ended, nothing is under way, sockets and buffers are back. Run
 * under ASan. Thread: one. */
#ifndef WEFT_TESTS_SIM_CHAOS_H
#define WEFT_TESTS_SIM_CHAOS_H

#include <stdint.h>
#include "world.h"

struct chaos_action {
    const char *name;
    void (*act)(void *arg);
};

struct chaos {
    const char *program;
    const char *const *scenarios;
    size_t n_scenarios;
    const struct chaos_action *actions;
    size_t n_actions;
    const struct chaos_action *own; /* more of them */
    size_t n_own;
    unsigned stride; /* of points, unless the environment says another */
    /* Runs a scenario in a world of its own; calls chaos_begin when the points begin to count and
     * chaos_end when they end. Returns the number of violations. */
    unsigned (*run)(size_t scenario);
};

int chaos_main(const struct chaos *c);
/* arg: of the action. */
void chaos_begin(struct sim *s, void *arg);
void chaos_end(struct sim *s);
/* What has been done in this run; NULL: nothing yet. */
const char *chaos_done(void);

#endif
