/* What must be true of a town: see town.h. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/buf.h"
#include "mesh/push/push.h"
#include "telemetry/stats.h"
#include "town.h"

/* ---- what was true when ---- */

struct weights town_weights;

/* When proxy c must have heard of a change made at ns. */
static uint64_t known_by(const struct town *t, int c, uint64_t ns)
{
    uint64_t by = ns + SETTLE_MS * SIM_MS;
    for (int i = 0; i < t->n_cuts; i++) {
        const struct cut *k = &t->cuts[i];
        if (k->client != c || k->from_ns > by || k->to_ns < ns)
            continue;
        if (k->to_ns > by)
            by = k->to_ns;
    }
    return by;
}

static int client_of(const struct town *t, const struct request *r)
{
    for (int i = 0; i < t->plan.clients; i++)
        if (t->clients[i] == r->client)
            return i;
    return 0;
}

/* Rules that may have been in force for a request: first and last. */
static void rules_for(const struct town *t, const struct request *r, int *first, int *last)
{
    int c = client_of(t, r);
    *last = t->n_rules - 1;
    while (*last > 0 && t->rules[*last].at_ns > r->done_ns)
        (*last)--;
    *first = *last;
    while (*first > 0 && known_by(t, c, t->rules[*first].at_ns) >= r->sent_ns)
        (*first)--;
}

/* A rule in force gives 418 by itself. */
static bool rules_abort(const struct town *t, const struct request *r)
{
    int first, last;
    bool any = false;
    rules_for(t, r, &first, &last);
    for (int i = first; i <= last; i++)
        any |= t->rules[i].aborts;
    return any && r->backend < 0 && !r->arrivals;
}

static void judge_rules(struct town *t, struct request *r)
{
    int first, last;
    unsigned version = r->backend < 0 ? 0 : 1u << (r->backend % 2), allowed = 0, tries = 1;
    rules_for(t, r, &first, &last);
    for (int i = first; i <= last; i++) {
        allowed |= r->jason ? t->rules[i].jason : t->rules[i].others;
        if (tries < 1 + t->rules[i].attempts)
            tries = 1 + t->rules[i].attempts;
    }
    if (r->backend >= 0 && !(version & allowed))
        world_wrong(t->w, r, "an answer of v%u while rules %d to %d allow %u", r->backend % 2 + 1,
                    first, last, allowed);
    /* Each proxy on the way may send a GET once more whose connection, used before, was closed
     * without an answer: "keep-alive race" in docs/differences.md. */
    if (!r->post && (r->trace & TRACE_RESET || r->sent_ns <= t->troubled_ns))
        tries = (tries + 1) * 2;
    if (r->arrivals > tries)
        world_wrong(t->w, r, "reached backends %u times, %u tries are allowed", r->arrivals, tries);
    if (first == last && r->backend >= 0 && !r->jason && t->rules[first].v2_percent) {
        t->rules[first].seen++;
        t->rules[first].seen_v2 += version == 2;
    }
}

/* ---- the judge ---- */

static bool excused(const struct town *t, const struct request *r)
{
    const unsigned faults = TRACE_HUNG | TRACE_RESET | TRACE_CUT | TRACE_GARBAGE | TRACE_FAILED;
    /* The last healthy endpoint of a subset may be ejected, too. */
    if (t->outliers && !strncmp(r->said, "no healthy upstream", 19))
        return true;
    return t->plan.stormy && ((r->trace & faults) || r->sent_ns <= t->troubled_ns);
}

static void judge_tight(struct town *t, struct request *r)
{
    if (r->outcome == OUTCOME_ANSWERED && (r->status == 200 || (r->status == 503 && !r->arrivals)))
        return;
    if (!excused(t, r) && r->outcome != OUTCOME_ABORTED)
        world_wrong(t->w, r, "neither an answer nor a refusal");
}

/* All the time it was under way, extra was a service, and the proxy must have known it. */
static bool extra_was_there(const struct town *t, const struct request *r)
{
    for (int i = 0; i < t->n_stays[EXTRA]; i++) {
        const struct stay *s = &t->stays[EXTRA][i];
        uint64_t by = known_by(t, 0, s->from_ns);
        if (by != UINT64_MAX && by < r->sent_ns && s->to_ns > r->done_ns)
            return true;
    }
    return false;
}

static void judge_extra(struct town *t, struct request *r)
{
    if (r->outcome == OUTCOME_ANSWERED && r->status == 200)
        return;
    if (extra_was_there(t, r) && !excused(t, r))
        world_wrong(t->w, r, "a failure without a cause");
}

void town_judge(void *arg, struct request *r)
{
    struct town *t = arg;
    if (r->client == t->tight_client) {
        judge_tight(t, r);
        return;
    }
    if (r->client == t->extra_client) {
        judge_extra(t, r);
        return;
    }
    if (r->outcome == OUTCOME_ABORTED || r->outcome == OUTCOME_BROKEN)
        return;
    if (r->outcome == OUTCOME_ANSWERED && r->status == 200 && r->backend < 0)
        world_wrong(t->w, r, "an answer that no backend gave");
    if (r->outcome == OUTCOME_ANSWERED && r->status == 418 && rules_abort(t, r))
        return;
    if (r->outcome == OUTCOME_ANSWERED && r->status != 200 && r->status != 502 &&
        r->status != 503 && r->status != 504)
        world_wrong(t->w, r, "a status that nothing in this world gives");
    if ((r->outcome != OUTCOME_ANSWERED || r->status != 200) && !excused(t, r))
        world_wrong(t->w, r, "a failure without a cause");
    judge_rules(t, r);
}

static int slot_of(const struct town *t, int b)
{
    return t->extra && b == t->extra->index ? EXTRA : b < t->plan.shops ? b : -1;
}

/* A request came to a backend: was it still one? */
void town_arrival(void *arg, struct request *r, int b)
{
    struct town *t = arg;
    /* In a storm a request may be under way for long, and be tried again elsewhere; then the choice
     * was made within the time-outs of connecting after it was sent. */
    uint64_t now = t->plan.stormy ? r->sent_ns : sim_now(t->w->sim);
    uint64_t late = (t->plan.stormy ? 0 : 200) * SIM_MS;
    int slot = slot_of(t, b);
    for (int i = 0; slot >= 0 && i < t->n_stays[slot]; i++) {
        const struct stay *s = &t->stays[slot][i];
        if (sim_now(t->w->sim) < s->from_ns)
            continue;
        if (s->to_ns == UINT64_MAX)
            return;
        uint64_t by = known_by(t, client_of(t, r), s->to_ns);
        if (by == UINT64_MAX || now <= by + late)
            return;
    }
    if (slot >= 0)
        world_wrong(t->w, r, "%s got it and is no endpoint any more", backend_at(t->w, b)->name);
}

/* ---- limits ---- */

void town_check_limits(struct town *t)
{
    static const char cx_name[] = "cluster.outbound|80||" TIGHT_HOST ".upstream_cx_active";
    static const char pending_name[] =
        "cluster.outbound|80||" TIGHT_HOST ".upstream_rq_pending_active";
    if (!t->plan.tight)
        return;
    uint64_t cx = sidecar_stat(t->sides[0], cx_name);
    uint64_t pending = sidecar_stat(t->sides[0], pending_name);
    if (cx > MAX_CX)
        world_violation(t->w, "%" PRIu64 " connections where %d are allowed", cx, MAX_CX);
    if (pending > MAX_PENDING)
        world_violation(t->w, "%" PRIu64 " waiting requests where %d are allowed", pending,
                        MAX_PENDING);
    if (t->tight->n_requests > MAX_CX)
        world_violation(t->w, "tight works at %u requests over %d connections",
                        t->tight->n_requests, MAX_CX);
}

/* ---- the end ---- */

void town_check_nothing_left(struct town *t)
{
    static const char *const gauges[] = {".upstream_rq_active", ".upstream_rq_pending_active",
                                         ".downstream_rq_active", ".downstream_cx_active",
                                         ".upstream_cx_active"};
    /* Idle connections go: those of inbound and passed-through ones within the hour, which costs
     * real time, so not each seed waits for it. */
    bool all = t->w->seed % 20 == 2;
    world_run_ms(t->w, all ? 2 * 3600 * 1000 : 3 * IDLE_S * 1000);
    for (int i = 0; i < t->plan.clients + t->plan.shops; i++) {
        struct sidecar *s = i < t->plan.clients ? t->sides[i] : t->shop_sides[i - t->plan.clients];
        for (size_t k = 0; s && k < sizeof gauges / sizeof gauges[0] - !all; k++) {
            uint64_t n = sidecar_stat_sum(s, "cluster.outbound|", gauges[k]) +
                         sidecar_stat_sum(s, "cluster.inbound|", gauges[k]) +
                         sidecar_stat_sum(s, "http.", gauges[k]);
            if (n)
                world_violation(t->w, "%s: %" PRIu64 " left in *%s", s->name, n, gauges[k]);
        }
    }
    if (plane_push(t->plane) && push_counters(plane_push(t->plane))->nacks)
        world_violation(t->w, "a proxy has refused configuration");
}

void town_check_weights(struct town *t)
{
    for (int i = 0; i < t->n_rules; i++) {
        const struct rule *r = &t->rules[i];
        double n = (double)r->seen, p = r->v2_percent / 100.0, sd = sqrt(n * p * (1 - p));
        if (t->plan.stormy || !r->v2_percent)
            continue;
        town_weights.n += n;
        town_weights.want += n * p;
        town_weights.got += (double)r->seen_v2;
        town_weights.var += n * p * (1 - p);
        if (n > 50 && fabs((double)r->seen_v2 - n * p) > 5 * sd)
            world_violation(t->w, "%u%% of v2: %" PRIu64 " of %" PRIu64, r->v2_percent, r->seen_v2,
                            r->seen);
    }
}
