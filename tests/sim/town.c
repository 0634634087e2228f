/* A town: see town.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/buf.h"
#include "base/mem.h"
#include "town.h"

#define STEP_MS 10

/* ---- what it is made of ---- */

static void draw_plan(struct town *t)
{
    struct plan *p = &t->plan;
    struct world *w = t->w;
    p->clients = (int)world_between(w, 1, MAX_CLIENTS);
    p->shops = (int)world_between(w, 2, world_below(w, 4) ? 3 : MAX_SHOPS);
    p->sidecars = world_below(w, 4) ? (unsigned)world_below(w, 1u << p->shops) : ~0u;
    p->users = (unsigned)world_between(w, 1, 5);
    p->life_ms = world_between(w, 1500, 6000);
    p->gap_ms = world_between(w, 50, 800);
    p->body_max = world_below(w, 3) ? 2000 : 60000;
    p->tight = world_below(w, 2);
    p->extra = world_below(w, 2);
    p->extra_tcp = world_below(w, 2);
    world_note(w, "%d clients of %u users, %d shops (sidecars %x)%s%s, %" PRIu64 " ms", p->clients,
               p->users, p->shops, p->sidecars & ((1u << p->shops) - 1), p->tight ? ", tight" : "",
               !p->extra      ? ""
               : p->extra_tcp ? ", extra over TCP"
                              : ", extra",
               p->life_ms);
}

static bool all_ready(void *arg)
{
    struct town *t = arg;
    for (int i = 0; i < t->plan.clients; i++)
        if (!sidecar_ready(t->sides[i]))
            return false;
    for (int i = 0; i < t->plan.shops; i++)
        if (t->shop_sides[i] && !sidecar_ready(t->shop_sides[i]))
            return false;
    return true;
}

static void build_shop(struct town *t, int i)
{
    char name[32], ip[48], labels[64];
    snprintf(name, sizeof name, "shop-%d", i);
    snprintf(ip, sizeof ip, "10.2.0.%d", i + 1);
    t->shops[i] = backend_new(t->w, name, i % 2 ? "v2" : "v1", ip, 8080);
    t->shops[i]->mood.body_max = t->plan.body_max;
    if (t->plan.stormy) {
        town_draw_mood(t, t->shops[i]);
    } else { /* so that requests are under way when something changes */
        t->shops[i]->mood.slow = 200;
        t->shops[i]->mood.slow_ms[1] = 400;
    }
    if (t->plan.sidecars >> i & 1) {
        snprintf(labels, sizeof labels, "app=shop,version=v%d", i % 2 + 1);
        t->shop_sides[i] = sidecar_new(t->w, t->plane, name, ip, labels, NULL);
    }
    town_join(t, i);
}

static void build(struct town *t)
{
    char name[32], ip[48];
    t->plane = plane_new(t->w);
    town_put_services(t);
    for (int i = 0; i < t->plan.shops; i++)
        build_shop(t, i);
    if (t->plan.tight) {
        t->tight = backend_new(t->w, "tight-0", "v1", "10.3.0.1", 8080);
        t->tight->mood.slow = 900;
        t->tight->mood.slow_ms[1] = 300;
        town_put_pod(t, t->tight, "tight", false, false);
    }
    if (t->plan.extra) {
        t->extra = backend_new(t->w, "extra-0", "v1", "10.4.0.1", 8080);
        town_put_pod(t, t->extra, "extra", false, false);
        town_toggle_extra(t);
    }
    for (int i = 0; i < t->plan.clients; i++) {
        snprintf(name, sizeof name, "client-%d", i);
        snprintf(ip, sizeof ip, "10.1.0.%d", i + 1);
        t->sides[i] = sidecar_new(t->w, t->plane, name, ip, "app=client", NULL);
    }
    town_change_rules(t);
    if (!sim_run_while(t->w->sim, all_ready, t, 60 * SIM_SECOND))
        world_violation(t->w, "not all proxies are ready after a minute");
    world_run_ms(t->w, 1000);
}

static void start_clients(struct town *t)
{
    static const char *const names[] = {"client-0", "client-1"};
    static const char *const ips[] = {"10.1.0.1", "10.1.0.2"};
    static const char *const hosts[] = {HOST, "shop"};
    for (int i = 0; i < t->plan.clients; i++)
        t->clients[i] = client_new(t->w, &(struct client_opts){
                                             .name = names[i],
                                             .ip = ips[i],
                                             .to = VIP ":80",
                                             .host = hosts[i],
                                             .users = t->plan.users,
                                             .think_ms = {0, 150},
                                             .patience_ms = 20000,
                                             .post = 300,
                                             .chunked = 300,
                                             .jason = 300,
                                             .abort = 20,
                                             .reconnect = 100,
                                             .body_max = t->plan.body_max,
                                         });
    if (t->plan.tight)
        t->tight_client = client_new(t->w, &(struct client_opts){.name = "tight-client",
                                                                 .ip = ips[0],
                                                                 .to = TIGHT_VIP ":80",
                                                                 .host = TIGHT_HOST,
                                                                 .users = 8,
                                                                 .think_ms = {0, 400},
                                                                 .patience_ms = 20000,
                                                                 .abort = 50});
    if (t->plan.extra)
        t->extra_client = client_new(t->w, &(struct client_opts){.name = "extra-client",
                                                                 .ip = ips[0],
                                                                 .to = EXTRA_VIP ":80",
                                                                 .host = EXTRA_HOST,
                                                                 .users = 2,
                                                                 .think_ms = {0, 200},
                                                                 .patience_ms = 20000,
                                                                 .reconnect = 1000});
}

/* ---- its life ---- */

static void live(struct town *t)
{
    uint64_t end = world_ms(t->w) + t->plan.life_ms, next = world_ms(t->w) + 100;
    while (world_ms(t->w) < end) {
        world_run_ms(t->w, STEP_MS);
        town_check_limits(t);
        town_recover(t, false);
        if (world_ms(t->w) >= next) {
            next = world_ms(t->w) + world_between(t->w, 20, t->plan.gap_ms);
            town_happen(t);
        }
    }
}

static struct sim_client *client_at(struct town *t, int i)
{
    return i < MAX_CLIENTS ? t->clients[i] : i == MAX_CLIENTS ? t->tight_client : t->extra_client;
}

static bool clients_idle(void *arg)
{
    struct town *t = arg;
    for (int i = 0; i < MAX_CLIENTS + 2; i++)
        if (client_at(t, i) && !client_idle(client_at(t, i)))
            return false;
    return true;
}

/* Everything is well again; clients end; then nothing may be left of them. */
static void calm_down(struct town *t)
{
    town_recover(t, true);
    for (int b = 0; b < t->plan.shops; b++) {
        for (int i = 0; i < t->plan.clients; i++)
            sim_heal(t->w->sim, t->sides[i]->ip, t->shops[b]->ip);
        t->shops[b]->mood = (struct mood){.body_max = 200};
        t->flap_ms[b] = 0;
        backend_listen(t->shops[b]);
    }
    town_trouble(t, t->plan.stormy ? 60000 : 0);
    for (int i = 0; i < MAX_CLIENTS + 2; i++)
        if (client_at(t, i))
            client_stop(client_at(t, i));
    if (!sim_run_while(t->w->sim, clients_idle, t, 300 * SIM_SECOND))
        world_violation(t->w, "requests are under way that never end");
}

static void tear_down(struct town *t)
{
    for (int i = 0; i < MAX_CLIENTS + 2; i++)
        client_free(client_at(t, i));
    for (int i = 0; i < t->plan.clients; i++)
        sidecar_free(t->sides[i]);
    for (int i = 0; i < t->plan.shops; i++) {
        sidecar_free(t->shop_sides[i]);
        backend_free(t->shops[i]);
    }
    backend_free(t->tight);
    backend_free(t->extra);
    plane_free(t->plane);
}

struct life town_live(uint64_t seed, bool stormy)
{
    struct town *t = mem_new(struct town);
    struct life out;
    sv_hash_set_seed(seed);
    mesh_seed_tls(seed);
    t->w = world_new(seed);
    t->w->arg = t;
    t->w->judge = town_judge;
    t->w->arrival = town_arrival;
    t->plan.stormy = stormy;
    draw_plan(t);
    build(t);
    start_clients(t);
    live(t);
    calm_down(t);
    town_check_nothing_left(t);
    town_check_weights(t);
    tear_down(t);
    out = (struct life){.hash = sim_trace_hash(t->w->sim), .requests = t->w->n_requests};
    world_note(t->w, "%zu requests, %d rules, hash %016" PRIx64, out.requests, t->n_rules,
               out.hash);
    out.violations = world_free(t->w);
    free(t);
    return out;
}
