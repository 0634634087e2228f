/* Chaos at every point around one proxy that speaks HTTP/1.1 both ways: retries, mirrors, faults,
 * time-outs, bodies and trailers, while configuration comes and goes. See chaos.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/log.h"
#include "chaos_stage.h"

/* ---- what the backends do ---- */

static void with_trailers(struct script_conn *sc, sv text)
{
    script_send(sc, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n"
                    "content-type: application/grpc\r\n\r\n5\r\nhello\r\n");
    script_send_later(sc, "6\r\n again\r\n0\r\nx-sum: 11\r\ngrpc-status: 0\r\n\r\n", 20);
}

static void flaky(struct script_conn *sc, sv text)
{
    switch (sc->b->requests % 4) {
    case 1:
        script_503(sc, text);
        break;
    case 2:
        script_reset(sc, text);
        break;
    case 3:
        script_close(sc, text);
        break;
    default:
        script_ok(sc, text);
    }
}

static void slow(struct script_conn *sc, sv text)
{
    script_send_later(sc, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 300);
}

static void half(struct script_conn *sc, sv text)
{
    script_send(sc, "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nhalf");
    sc->close_after = true;
    script_send(sc, "");
}

#define GET   "GET / HTTP/1.1\r\nhost: a\r\n\r\n"
#define GRPC  "POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ncontent-type: application/grpc\r\n"
#define CHUNK "transfer-encoding: chunked\r\n\r\n"

static const struct scene {
    script_fn fn;
    const char *route;               /* in route: {...} */
    const char *first, *then, *last; /* what the client sends, 10 ms apart */
} scenes[] = {
    {script_ok, "", GET, GET, GET},
    {with_trailers, "", GRPC CHUNK "3\r\nabc\r\n", "3\r\ndef\r\n", "0\r\nx-end: 1\r\n\r\n"},
    {flaky,
     ", retry_policy: {retry_on: '5xx,reset', num_retries: 4, per_try_timeout: 0.2s, "
     "retry_back_off: {base_interval: 0.01s}}",
     "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\nabc", "def", GET},
    {script_ok, ", request_mirror_policies: [{cluster: b3}, {cluster: b2}]",
     "POST / HTTP/1.1\r\nhost: a\r\n" CHUNK "3\r\nabc\r\n", "3\r\ndef\r\n", "0\r\n\r\n"},
    {slow, ", timeout: 0.25s", GET, "", GET},
    {script_hang,
     ", timeout: 1s, retry_policy: {retry_on: 'reset', num_retries: 2, per_try_timeout: 0.2s}", GET,
     "", ""},
    {half, ", retry_policy: {retry_on: 5xx}", GET, GET, ""},
};
static const char *const names[] = {"plain",   "trailers", "retry", "mirror",
                                    "timeout", "hang",     "half"};

/* ---- what breaks ---- */

static void leave(void *arg)
{
    raw_close(arg, false);
    ((struct raw *)arg)->c = NULL;
}

static const struct chaos_action own[] = {{"leave", leave}};

/* ---- a run ---- */

static void say(struct raw *c, const char *text)
{
    if (c->c && !c->eof && !c->error)
        raw_send(c, text);
    stage_run(&s, 10);
}

static unsigned run(size_t scenario)
{
    const struct scene *x = &scenes[scenario];
    const script_fn fns[4] = {x->fn, script_ok, script_ok, NULL};
    const struct chaos_plan plan = {
        .route = x->route,
        .downstream = "http_protocol_options: {enable_trailers: true}",
        .upstream = "http_protocol_options: {enable_trailers: true}",
        .fault = "delay: {fixed_delay: 0.015s, percentage: {numerator: 50}}, abort: {http_status: "
                 "418, percentage: {numerator: 10}}"};
    struct raw c;
    chaos_stage_up(&plan, fns);
    chaos_stage_start();
    raw_open(&c, &s, 80);
    chaos_begin(s.w->sim, &c);
    say(&c, x->first);
    say(&c, x->then);
    say(&c, x->last);
    stage_run(&s, 2000); /* longer than any time-out of the scenes */
    chaos_end(s.w->sim);
    if (c.c) {
        world_note(s.w, "got: %s", c.got.n ? c.got.p : "nothing");
        raw_close(&c, false);
    }
    stage_run(&s, 1000);
    return chaos_stage_down();
}

int main(int argc, char **argv)
{
    return chaos_stage_main((struct chaos){.program = argv[0],
                                           .scenarios = names,
                                           .n_scenarios = sizeof names / sizeof names[0],
                                           .own = own,
                                           .n_own = sizeof own / sizeof own[0],
                                           .stride = 1,
                                           .run = run});
}
