/* What happens to a town. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "mesh/push/push.h"
#include "town.h"

/* ---- what happens to the control plane ---- */

/* Unless it is cut off already. */
static bool cut_begin(struct town *t, int client)
{
    for (int i = 0; i < t->n_cuts; i++)
        if (t->cuts[i].client == client && t->cuts[i].to_ns == UINT64_MAX)
            return true;
    if (t->n_cuts == CUTS)
        return false;
    t->cuts[t->n_cuts++] = (struct cut){sim_now(t->w->sim), UINT64_MAX, client};
    return true;
}

/* Whether the proxy is connected and has acknowledged all that it was sent. */
static bool in_sync(const struct town *t, int c)
{
    char id[96];
    struct strbuf s;
    if (!plane_up(t->plane) || !sidecar_stat(t->sides[c], "control_plane.connected_state"))
        return false;
    strbuf_init(&s, 1 << 20);
    push_status_json(plane_push(t->plane), &s);
    snprintf(id, sizeof id, "{\"proxy\":\"sidecar~%s~", t->sides[c]->ip);
    char *from = strstr(s.p, id), *to = from ? strstr(from + 1, "{\"proxy\"") : NULL;
    if (to)
        *to = 0;
    bool ok = from && strstr(from, "SYNCED") && !strstr(from, "STALE");
    strbuf_fini(&s);
    return ok;
}

/* A cut ends when what caused it is over and the proxy has caught up. */
static void end_cuts(struct town *t)
{
    for (int i = 0; i < t->n_cuts; i++) {
        struct cut *k = &t->cuts[i];
        if (k->to_ns == UINT64_MAX && !t->plane_back_ms && !t->heal_ms[k->client] &&
            in_sync(t, k->client)) {
            k->to_ns = sim_now(t->w->sim);
            world_note(t->w, "%s has caught up", t->sides[k->client]->name);
        }
    }
}

static void crash_plane(struct town *t)
{
    if (!plane_up(t->plane))
        return;
    for (int c = 0; c < t->plan.clients; c++)
        if (!cut_begin(t, c))
            return;
    world_note(t->w, "the control plane dies");
    plane_crash(t->plane);
    t->plane_back_ms = world_ms(t->w) + world_between(t->w, 10, 3000);
}

static void part_from_plane(struct town *t)
{
    int c = (int)world_below(t->w, (uint64_t)t->plan.clients);
    if (t->heal_ms[c] || !cut_begin(t, c))
        return;
    world_note(t->w, "%s loses the control plane", t->sides[c]->name);
    sim_partition(t->w->sim, t->sides[c]->ip, MESH_CONTROL_IP);
    t->heal_ms[c] = world_ms(t->w) + world_between(t->w, 10, 3000);
}

/* ---- storms ---- */

void town_trouble(struct town *t, uint64_t ms)
{
    uint64_t to = sim_now(t->w->sim) + ms * SIM_MS;
    if (to > t->troubled_ns)
        t->troubled_ns = to;
}

void town_draw_mood(struct town *t, struct backend *b)
{
    struct mood *m = &b->mood;
    unsigned *odds[] = {&m->slow, &m->drip,  &m->early,     &m->closing, &m->fail,
                        &m->hang, &m->reset, &m->reset_mid, &m->cut,     &m->garbage};
    for (size_t i = 0; i < sizeof odds / sizeof odds[0]; i++)
        *odds[i] = (unsigned)world_below(t->w, 40);
    /* Hanging costs simulated time only, but each user waits for its patience to end. */
    m->hang = (unsigned)world_below(t->w, 5);
    m->slow_ms[1] = world_between(t->w, 1, 3000);
    if (!world_below(t->w, 6)) /* often enough that all tries of a request fail */
        m->fail = 700;
}

/* Its processes die, or the whole host: then nobody resets connections to it. */
static void crash_host(struct town *t, int b, bool power)
{
    if (t->down_ms[b])
        return;
    world_note(t->w, "%s %s", t->shops[b]->name, power ? "loses its power" : "crashes");
    if (power)
        sim_kill_host(t->w->sim, t->shops[b]->ip);
    else
        sim_crash_host(t->w->sim, t->shops[b]->ip);
    t->dark[b] = power;
    t->draining[b] = false;
    backend_died(t->shops[b]);
    if (t->shop_sides[b])
        sidecar_died(t->shop_sides[b]);
    t->down_ms[b] = world_ms(t->w) + world_between(t->w, 1, 4000);
    /* Until it is back, its sidecar has its certificate, and no connection to the dead is left. */
    town_trouble(t, power ? 40000 : 20000);
}

/* SIGTERM: connections are told (GOAWAY, Connection: close), then it ends and a new one starts. */
static void drain_sidecar(struct town *t, int b)
{
    if (t->down_ms[b] || !t->shop_sides[b] || t->draining[b])
        return;
    world_note(t->w, "the sidecar of %s drains", t->shops[b]->name);
    proxy_server_drain(t->shop_sides[b]->server);
    t->draining[b] = true;
    town_trouble(t, 10000);
}

static void storm(struct town *t)
{
    int b = (int)world_below(t->w, (uint64_t)t->plan.shops);
    struct backend *shop = t->shops[b];
    switch (world_below(t->w, 8)) {
    case 0:
        crash_host(t, b, false);
        break;
    case 1:
        sim_reset_connections(t->w->sim, shop->ip, NULL);
        town_trouble(t, 1000);
        break;
    case 2:
        if (!t->down_ms[b] && shop->listener)
            backend_refuse(shop);
        else if (!t->down_ms[b])
            backend_listen(shop);
        town_trouble(t, 5000);
        break;
    case 3:
        for (int i = 0; i < t->plan.clients; i++)
            sim_partition(t->w->sim, t->sides[i]->ip, shop->ip);
        town_trouble(t, 30000);
        break;
    case 4:
        crash_host(t, b, true);
        break;
    case 5:
        drain_sidecar(t, b);
        break;
    case 6:
        t->flap_ms[b] = t->flap_ms[b] ? 0 : world_ms(t->w) + 1;
        break;
    default:
        for (int i = 0; i < t->plan.clients; i++)
            sim_heal(t->w->sim, t->sides[i]->ip, shop->ip);
        town_draw_mood(t, shop);
    }
}

/* ---- the way back ---- */

static void recover_shop(struct town *t, int b, bool at_once)
{
    uint64_t now = world_ms(t->w);
    struct backend *shop = t->shops[b];
    struct sidecar *side = t->shop_sides[b];
    if (t->down_ms[b] && (at_once || now >= t->down_ms[b])) {
        t->down_ms[b] = 0;
        if (t->dark[b])
            sim_revive_host(t->w->sim, shop->ip);
        backend_revive(shop);
        if (side)
            sidecar_start(side, NULL);
    }
    if (t->draining[b] && (at_once || proxy_server_ended(side->server))) {
        t->draining[b] = false;
        sidecar_died(side);
        sidecar_start(side, NULL);
        town_trouble(t, 10000);
    }
    if (t->flap_ms[b] && now >= t->flap_ms[b]) {
        shop->mood.fail = shop->mood.fail == 1000 ? 0 : 1000;
        t->flap_ms[b] = now + world_between(t->w, 20, 500);
    }
    if (!shop->listener)
        town_trouble(t, 1000);
}

void town_recover(struct town *t, bool at_once)
{
    uint64_t now = world_ms(t->w);
    if (t->plane_back_ms && (at_once || now >= t->plane_back_ms)) {
        t->plane_back_ms = 0;
        world_note(t->w, "the control plane is back");
        plane_restart(t->plane);
    }
    for (int c = 0; c < t->plan.clients; c++)
        if (t->heal_ms[c] && (at_once || now >= t->heal_ms[c])) {
            t->heal_ms[c] = 0;
            sim_heal(t->w->sim, t->sides[c]->ip, MESH_CONTROL_IP);
            world_note(t->w, "%s sees the control plane again", t->sides[c]->name);
        }
    for (int b = 0; b < t->plan.shops; b++)
        recover_shop(t, b, at_once);
    end_cuts(t);
}

/* ---- all of it ---- */

void town_happen(struct town *t)
{
    int shop = (int)world_below(t->w, (uint64_t)t->plan.shops);
    switch (world_below(t->w, t->plan.stormy ? 17 : 11)) {
    case 0:
    case 1:
        town_change_rules(t);
        break;
    case 2:
    case 3:
        town_leave(t, shop);
        break;
    case 4:
    case 5:
        town_join(t, shop);
        break;
    case 6:
        if (world_below(t->w, 2))
            break;
        if (world_below(t->w, 2))
            crash_plane(t);
        else
            part_from_plane(t);
        break;
    case 7:
        town_break_a_document(t);
        break;
    case 8:
        town_change_policy(t);
        break;
    case 9:
        town_change_strict(t);
        break;
    case 10:
        town_toggle_extra(t);
        break;
    default:
        storm(t);
    }
}
