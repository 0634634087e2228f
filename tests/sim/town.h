/* A town: clients and backends with sidecars between them, a control plane, certificates, mTLS and
 * all; and what happens to it. The seed draws how big it is, what it is made of, and its life.
 *
 *     town_rules.c    its documents: routes, weights, endpoints, clusters, listeners, policies
 *     town_events.c   what happens: documents change, the control plane dies, storms
 *     town_judge.c    what must be true of each request, at each moment, and in the end
 *     town.c          building, living, the end
 *
 * Calm: rules and endpoints change, the control plane crashes, proxies lose sight of it, and no
 * request may fail. Stormy: backends are slow, fail, flap, reset, refuse, hang, answer half or
 * garbage, hosts crash or lose their power, sidecars drain, networks part; then each failure must
 * have a cause that the world knows of. docs/simulation.md lists the invariants. */
#ifndef WEFT_TESTS_SIM_TOWN_H
#define WEFT_TESTS_SIM_TOWN_H

#include "backend.h"
#include "client.h"
#include "mesh.h"

#define HOST        "shop.mesh.svc.cluster.local"
#define VIP         "10.96.0.10"
#define TIGHT_HOST  "tight.mesh.svc.cluster.local"
#define TIGHT_VIP   "10.96.0.20"
#define EXTRA_HOST  "extra.mesh.svc.cluster.local"
#define EXTRA_VIP   "10.96.0.30"
#define MAX_CLIENTS 2
#define MAX_SHOPS   6
#define EXTRA       MAX_SHOPS /* its place among the stays */
#define RULES       64
#define CUTS        64
#define STAYS       32

#define SETTLE_MS   200 /* a change is everywhere by then */
#define MAX_CX      3   /* of tight */
#define MAX_PENDING 2
#define IDLE_S      20 /* connections of clusters without requests go after it */

/* What the seed draws before anything lives. */
struct plan {
    bool stormy;
    int clients, shops; /* half of the shops are of each version */
    unsigned sidecars;  /* which shops have one, a bit each */
    unsigned users;     /* of each client */
    uint64_t life_ms;
    uint64_t gap_ms; /* between events, at most */
    uint64_t body_max;
    bool tight;     /* a service with narrow limits */
    bool extra;     /* a service that comes and goes */
    bool extra_tcp; /* with a listener of its own */
};

/* Which versions a rule lets answer: bit 0 for v1, bit 1 for v2. */
struct rule {
    uint64_t at_ns;
    unsigned jason, others;
    unsigned v2_percent; /* of the others; 0: no split */
    unsigned attempts;   /* retries of answers that failed */
    bool aborts;         /* answers some with 418 itself */
    uint64_t seen, seen_v2;
};

/* A time in which a proxy may not have heard of changes. */
struct cut {
    uint64_t from_ns, to_ns; /* UINT64_MAX: still */
    int client;
};

/* A backend's times as an endpoint. */
struct stay {
    uint64_t from_ns, to_ns;
};

struct town {
    struct world *w;
    struct plan plan;
    struct plane *plane;
    struct sidecar *sides[MAX_CLIENTS], *shop_sides[MAX_SHOPS];
    struct sim_client *clients[MAX_CLIENTS], *tight_client, *extra_client;
    struct backend *shops[MAX_SHOPS], *tight, *extra;
    struct stay stays[MAX_SHOPS + 1][STAYS];
    int n_stays[MAX_SHOPS + 1];
    struct rule rules[RULES];
    int n_rules;
    struct cut cuts[CUTS];
    int n_cuts;
    bool strict;
    bool outliers;          /* some policy so far ejects endpoints that fail */
    uint64_t plane_back_ms; /* when it restarts; 0: it is up */
    uint64_t heal_ms[MAX_CLIENTS];
    uint64_t troubled_ns;        /* up to when failures have a cause in network or hosts */
    uint64_t down_ms[MAX_SHOPS]; /* when it comes back */
    bool dark[MAX_SHOPS];        /* it lost its power */
    bool draining[MAX_SHOPS];    /* its sidecar is to end and to start anew */
    uint64_t flap_ms[MAX_SHOPS]; /* when it next fails, or works, again; 0: it does not flap */
};

/* What is known of weights over all towns of the process. */
struct weights {
    double n, want, got, var;
};
extern struct weights town_weights;

struct life {
    uint64_t hash;
    unsigned violations;
    size_t requests;
};
/* Builds a town, lets it live, takes it down. */
struct life town_live(uint64_t seed, bool stormy);

/* ---- town_rules.c ---- */
void town_put_services(struct town *t);
void town_put_pod(struct town *t, const struct backend *b, const char *app, bool sidecar,
                  bool leaving);
/* A new VirtualService, drawn. */
void town_change_rules(struct town *t);
/* Another DestinationRule for shop, drawn: policy, pool, outliers, subsets. */
void town_change_policy(struct town *t);
/* mTLS only, or plaintext, too: other inbound listeners. */
void town_change_strict(struct town *t);
/* A document that is wrong: it is refused by itself and changes nothing. */
void town_break_a_document(struct town *t);
/* Service extra goes, or comes back: its cluster, routes and, tcp, its listener. */
void town_toggle_extra(struct town *t);
bool town_is_endpoint(const struct town *t, int slot);
void town_join(struct town *t, int shop);
/* It is being deleted, as Kubernetes says it; the last of a version stays. */
void town_leave(struct town *t, int shop);

/* ---- town_events.c ---- */
/* Failures have a cause from now on for so long. */
void town_trouble(struct town *t, uint64_t ms);
void town_draw_mood(struct town *t, struct backend *b);
/* Something, drawn. */
void town_happen(struct town *t);
/* After each step: what was broken for a time comes back (at_once: all of it), what flaps flaps. */
void town_recover(struct town *t, bool at_once);

/* ---- town_judge.c ---- */
void town_judge(void *arg, struct request *r);
void town_arrival(void *arg, struct request *r, int b);
/* At each moment. */
void town_check_limits(struct town *t);
/* When all clients are gone. */
void town_check_nothing_left(struct town *t);
void town_check_weights(struct town *t);

#endif
