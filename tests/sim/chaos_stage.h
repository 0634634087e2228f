/* What chaos programs around one proxy share: a proxy whose configuration comes piece by piece
 * (clusters b1 to b3, listener l on port 80, routes r1 to b1), and what may become of that.
 *
 *     chaos_stage_up(&plan, fns);      the world; servers of the program's own are made now
 *     chaos_stage_start();             the proxy is live
 *     chaos_begin(s.w->sim, ...); ... chaos_end(s.w->sim);
 *     ... clients end ...
 *     return chaos_stage_down();       nothing is under way, sockets and buffers are back
 *
 * Thread: the simulation's. */
#ifndef WEFT_TESTS_SIM_CHAOS_STAGE_H
#define WEFT_TESTS_SIM_CHAOS_STAGE_H

#include "chaos.h"
#include "given.h"
#include "stage.h"

/* Texts of YAML flow. */
struct chaos_plan {
    const char *route;      /* in the route's action, after the cluster: ", timeout: 1s" */
    const char *downstream; /* the HCM's protocol options */
    const char *upstream;   /* in explicit_http_config */
    const char *fault;      /* of the fault filter */
};

extern struct stage s;
extern struct given given;

/* chaos_main with the actions of the stage; `c` says the rest. */
int chaos_stage_main(struct chaos c);

/* fns as in stage_init; both live until chaos_stage_down. */
void chaos_stage_up(const struct chaos_plan *plan, const script_fn fns[4]);
void chaos_stage_start(void);
unsigned chaos_stage_down(void);

#endif
