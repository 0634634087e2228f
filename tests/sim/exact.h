/* One proxy between a client and a backend on a network of fixed delay: every time has one right
 * value. For tests of cmocka, one world at a time; what goes wrong fails the test.
 *
 *     exact_start(", timeout: 2s", "", "");
 *     exact_ask(1, 0);
 *     assert_ms(exact_took_ms(1), 2000);
 *     exact_stop();
 *
 * Thread: the simulation's. */
#ifndef WEFT_TESTS_SIM_EXACT_H
#define WEFT_TESTS_SIM_EXACT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "backend.h"
#include "client.h"
#include "mesh.h"

#define PROXY_IP   "10.0.0.10"
#define CLIENT_IP  "10.0.0.20"
#define BACKEND_IP "10.0.0.30"
#define DELAY_MS   1 /* one way */
/* Wheel ticks, turns of the loop, and the ways to and fro. */
#define SLACK_MS 4

#define ROUTER                                                                                     \
    "{name: envoy.filters.http.router, typed_config: {'@type': "                                   \
    "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}"

extern struct world *w;
extern struct sidecar *proxy;
extern struct backend *b1;
extern struct sim_client *client;

/* A proxy on :8080 with one route (the text is inside of `route: {...}`), the connection manager's
 * fields, one cluster c (lines of its fields). */
void exact_start(const char *route, const char *hcm, const char *cluster);
/* Its bootstrap; valid until the next call. */
const char *exact_text(const char *route, const char *hcm, const char *cluster);
/* Any bootstrap. */
void exact_start_text(const char *bootstrap);
/* The same network without anything. */
void exact_world(void);
/* Waits until idle connections are gone; then nothing may be left. */
void exact_stop(void);
/* Ends all that is in the world. */
void exact_clear(void);
/* Ends the world as it is; cmocka's teardown. */
int exact_tear_down(void **state);

/* So many requests, one a user, within spread_ms; runs until all are over. post: permille. */
void exact_ask_over(unsigned users, unsigned post, uint64_t spread_ms);
void exact_ask(unsigned users, unsigned post);
uint64_t exact_took_ms(uint64_t id);
uint64_t exact_stat(const char *name);
/* Runs until the statistic has that value; the time in ms. */
uint64_t exact_until(const char *stat, uint64_t want, uint64_t max_ms);

#define assert_ms(got, want)                                                                       \
    do {                                                                                           \
        uint64_t ms_ = (got);                                                                      \
        uint64_t want_ = (want);                                                                   \
        if (ms_ < want_ || ms_ > want_ + SLACK_MS + 4 * DELAY_MS)                                  \
            fail_msg("took %u ms instead of %u", (unsigned)ms_, (unsigned)want_);                  \
    } while (0)

#define T(name) cmocka_unit_test_teardown(name, exact_tear_down)

#endif
