#include "mesh/push/push.h"

#include <stdlib.h>
#include "api/envoy.pb.h"
#include "base/log.h"
#include "base/mem.h"
#include "mesh/push/push_internal.h"

LOG_COMPONENT(push);

#define WINDOW_MS 10

/* ---- the source of the sessions ---- */

static void list(void *self, struct ads_session *session, enum xds_type t,
                 void (*add)(void *arg, struct xds_blob *b), void *arg)
{
    struct push_stream *s = ads_session_user(session);

    if (t == XDS_VHDS) {
        push_scope_list_hosts(s->scope, session, add, arg);
        return;
    }
    push_scope_list(s->scope, t, add, arg);
    push_own_list(s, t, add, arg);
}

static struct xds_blob *find(void *self, struct ads_session *session, enum xds_type t, uint32_t id,
                             sv name)
{
    struct push_stream *s = ads_session_user(session);
    struct xds_blob *b = push_own_find(s, t, id);

    if (t == XDS_VHDS && !ads_session_has(session, XDS_RDS, xds_host_table(name)))
        return NULL;
    return b ? b : push_scope_find(s->scope, t, id, name);
}

/* ---- make before break ---- */

#define CLUSTER_TYPES                                                                              \
    (TYPE_BIT(XDS_CDS) | TYPE_BIT(XDS_EDS) | TYPE_BIT(XDS_SDS) | TYPE_BIT(XDS_NDS))
#define ROUTE_TYPES (TYPE_BIT(XDS_LDS) | TYPE_BIT(XDS_RDS) | TYPE_BIT(XDS_VHDS))
#define STEP_MAX_MS 1000
#define LINGER_MS   10000
#define HELD_MAX_MS 60000

struct unasked {
    struct push_stream *s;
    bool any;
};

/* A cluster that was sent, has endpoints, and whose endpoints the proxy did not ask for yet. */
static void look_unasked(void *arg, sv name)
{
    struct unasked *u = arg;
    struct push_stream *s = u->s;

    if (u->any || !sv_starts(name, SV("outbound|")) ||
        ads_session_subscribed(s->session, XDS_EDS, name))
        return;
    uint32_t id = xds_names_get(s->push->names, XDS_EDS, name);
    u->any = push_scope_find(s->scope, XDS_EDS, id, name) != NULL;
    xds_names_unref(s->push->names, XDS_EDS, id);
}

static bool clusters_are_there(struct push_stream *s)
{
    struct unasked u = {.s = s};

    if (!ads_session_settled(s->session, CLUSTER_TYPES))
        return false;
    if (s->clusters_sent)
        ads_session_each_sent(s->session, XDS_CDS, look_unasked, &u);
    return !u.any;
}

static void advance(struct push_stream *s, bool by_time)
{
    if (s->step == STEP_CLUSTERS && (by_time || clusters_are_there(s))) {
        s->step = STEP_ROUTES;
        timer_set(&s->step_timer, STEP_MAX_MS);
        ads_session_hold(s->session, 0);
        ads_session_push(s->session, ROUTE_TYPES);
        by_time = false;
    }
    if (s->step == STEP_ROUTES && (by_time || ads_session_settled(s->session, ROUTE_TYPES))) {
        s->step = STEP_LINGER;
        timer_set(&s->step_timer, LINGER_MS);
        by_time = loop_now_ms(s->push->loop) - s->held_since_ms > HELD_MAX_MS;
    }
    if (s->step == STEP_LINGER && by_time) {
        s->step = STEP_NONE;
        s->held_since_ms = 0;
        timer_cancel(&s->step_timer);
        ads_session_changed(s->session, ads_session_hold_removals(s->session, false));
    }
}

static void step_over(struct timer *t)
{
    advance(container_of(t, struct push_stream, step_timer), true);
}

/* Sends what was noted for the session, in order. */
static void begin_change(struct push_stream *s)
{
    if (!ads_session_marked(s->session))
        return;
    s->step = STEP_CLUSTERS;
    if (!s->held_since_ms)
        s->held_since_ms = loop_now_ms(s->push->loop);
    ads_session_hold_removals(s->session, true);
    ads_session_hold(s->session, ROUTE_TYPES);
    timer_set(&s->step_timer, STEP_MAX_MS);
    ads_session_push(s->session, CLUSTER_TYPES);
    s->clusters_sent = !ads_session_settled(s->session, TYPE_BIT(XDS_CDS));
    advance(s, false);
}

static int hello(void *self, struct ads_session *session, const struct envoy_Node *node,
                 struct error *err)
{
    struct push_stream *s = ads_session_user(session);
    struct push *p = self;
    int rc = push_node_read(s, node, err);

    if (rc) {
        p->counters.refused_streams++;
        log_warn(&log_push, "proxy refused node=%.*s peer=%.*s: %s", SV_ARG(node->id),
                 SV_ARG(s->address), err->msg);
        return rc;
    }
    push_scope_enter(s);
    s->greeted = true;
    p->counters.proxies++;
    p->counters.connects++;
    log_info(&log_push, "proxy connected node=%.*s identity=%.*s", SV_ARG(s->node_id),
             SV_ARG(s->identity));
    return 0;
}

static void nacked(void *self, struct ads_session *session, enum xds_type t, sv sentence)
{
    struct push_stream *s = ads_session_user(session);
    ((struct push *)self)->counters.nacks++;
    log_error(&log_push, "configuration refused by proxy node=%.*s type=%s: %.*s",
              SV_ARG(s->node_id), xds_type_short(t), SV_ARG(sentence));
}

/* ---- snapshots ---- */

static void keep_check(void *arg, const struct model_problem *pr)
{
    struct push *p = arg;
    if (p->n_checks == p->cap_checks) {
        p->cap_checks = p->cap_checks ? p->cap_checks * 2 : 16;
        p->checks = mem_realloc(p->checks, p->cap_checks * sizeof(*p->checks));
    }
    struct model_problem *copy = arena_new(&p->check_arena, struct model_problem);
    *copy = *pr;
    p->checks[p->n_checks++] = copy;
}

static bool known_before(const struct model_problem *const *old, uint32_t n,
                         const struct model_problem *p)
{
    for (uint32_t i = 0; i < n; i++) {
        if (sv_eq(old[i]->text, p->text) && sv_eq(old[i]->name, p->name) &&
            sv_eq(old[i]->ns, p->ns))
            return true;
    }
    return false;
}

/* Problems between objects; a new one is logged once. Objects are alive in the snapshot, so the
 * views of the previous round are compared before they go. */
static void run_checks(struct push *p)
{
    struct arena old_arena = p->check_arena;
    const struct model_problem **old = p->checks;
    uint32_t n_old = p->n_checks;

    arena_init(&p->check_arena);
    p->checks = NULL;
    p->n_checks = p->cap_checks = 0;
    translate_check(p->m, &p->check_arena, keep_check, p);
    for (uint32_t i = 0; i < p->n_checks; i++) {
        const struct model_problem *pr = p->checks[i];
        if (!known_before(old, n_old, pr))
            log_warn(&log_push, "configuration problem object=%s/%.*s/%.*s code=%.*s: %.*s",
                     model_kind_name(pr->kind), SV_ARG(pr->ns), SV_ARG(pr->name), SV_ARG(pr->code),
                     SV_ARG(pr->text));
    }
    free(old);
    arena_free(&old_arena);
}

/* The set of accounts behind a host is part of its clusters (who may answer), and whether all of
 * them speak mTLS. */
static bool accounts_same(const struct model *a, const struct model *b, sv host)
{
    const struct model_service *svc = model_service_find(b, host);
    uint64_t sum[2] = {0, 0};
    bool plain[2] = {false, false};
    const struct model *m[2] = {a, b};

    for (int x = 0; x < 2; x++) {
        struct map seen;
        map_init_borrow(&seen);
        for (uint32_t k = 0; svc && k < svc->spec->n_ports; k++) {
            const struct model_endpoints *eps =
                model_endpoints_find(m[x], host, svc->spec->ports[k].port);
            for (uint32_t i = 0; eps && i < eps->n; i++) {
                plain[x] |= !eps->v[i].tls;
                if (map_has(&seen, eps->v[i].service_account))
                    continue;
                map_put(&seen, eps->v[i].service_account, &seen);
                sum[x] += sv_hash_stable(eps->v[i].service_account);
            }
        }
        map_fini(&seen);
    }
    return sum[0] == sum[1] && plain[0] == plain[1];
}

/* ---- what a change concerns ---- */

#define ALL_TYPES (CLUSTER_TYPES | ROUTE_TYPES)

struct concern {
    uint32_t types;   /* of shared resources to be made anew */
    bool all_proxies; /* their own resources may differ, whoever they are */
    struct map ips;   /* or those of the proxies at these addresses */
    const sv *hosts;  /* whose endpoints changed, when only theirs did */
    uint32_t n_hosts;
};

/* Inputs of translation by kind, as translate.h declares them. */
static void concern_of_objects(struct concern *c, const struct model_delta *d)
{
    for (uint32_t i = 0; i < d->n_objects; i++) {
        switch (d->objects[i]->kind) {
        case MODEL_VIRTUAL_SERVICE:
            c->types |= ROUTE_TYPES;
            break;
        case MODEL_DESTINATION_RULE:
            c->types |= ALL_TYPES & ~TYPE_BIT(XDS_NDS);
            break;
        default:
            c->types |= ALL_TYPES;
            c->all_proxies = true;
        }
    }
    if (d->n_hosts || (d->config && !d->n_objects)) {
        c->types |= ALL_TYPES;
        c->all_proxies = true;
    }
}

static void note_ips(struct concern *c, const struct model *m, sv host)
{
    const struct model_service *svc = m ? model_service_find(m, host) : NULL;

    for (uint32_t k = 0; svc && k < svc->spec->n_ports; k++) {
        const struct model_endpoints *eps = model_endpoints_find(m, host, svc->spec->ports[k].port);
        for (uint32_t i = 0; eps && i < eps->n; i++)
            map_put(&c->ips, eps->v[i].address, c);
    }
}

static void concern_of_endpoints(struct concern *c, const struct push *p, const struct model *prev,
                                 const struct model_delta *d)
{
    for (uint32_t i = 0; i < d->n_endpoint_hosts; i++) {
        sv host = d->endpoint_hosts[i];
        const struct model_service *svc = model_service_find(p->m, host);
        if (!accounts_same(prev, p->m, host))
            c->types |= TYPE_BIT(XDS_CDS);
        if (svc && svc->spec->headless)
            c->types |= ALL_TYPES; /* its names, listeners and routes are its endpoints */
        note_ips(c, prev, host);
        note_ips(c, p->m, host);
    }
    if (!d->n_endpoint_hosts)
        return;
    if (!(c->types & TYPE_BIT(XDS_EDS))) {
        c->hosts = d->endpoint_hosts;
        c->n_hosts = d->n_endpoint_hosts;
    }
    c->types |= TYPE_BIT(XDS_EDS);
}

static void tell(struct push_stream *s, const struct concern *c)
{
    for (int t = 0; t < XDS_TYPES; t++) {
        const struct id_list *changed = &s->scope->changed[t];
        ads_session_mark(s->session, (enum xds_type)t, changed->v, changed->n);
        if (c->types & TYPE_BIT(t))
            ads_session_mark_absent(s->session, (enum xds_type)t);
    }
    if (c->all_proxies || map_has(&c->ips, s->proxy.ip))
        push_own_refresh(s);
    begin_change(s);
}

static void apply(struct push *p, const struct model *prev, const struct model_delta *d)
{
    struct concern c = {0};

    map_init_borrow(&c.ips);
    concern_of_objects(&c, d);
    concern_of_endpoints(&c, p, prev, d);
    map_each (e, &p->scopes)
        push_scope_refresh(e->val, c.types, c.hosts, c.n_hosts);
    list_each_safe (it, &p->streams) {
        struct push_stream *s = container_of(it, struct push_stream, link);
        if (s->greeted)
            tell(s, &c);
    }
    map_fini(&c.ips);
}

/* Other labels than before decide who shares with whom. */
static void enter_anew(struct push *p)
{
    list_each_safe (it, &p->streams) {
        struct push_stream *s = container_of(it, struct push_stream, link);
        if (!s->greeted)
            continue;
        push_scope_enter(s);
        ads_session_mark_all(s->session, ALL_TYPES);
    }
}

static void build(struct push *p)
{
    uint64_t start = loop_clock_ns(p->loop);
    struct model *prev = p->m;
    const struct model_delta *d;

    p->m = model_store_build(p->store, prev, &d);
    p->counters.builds++;
    run_checks(p);
    if (d->config && push_scope_keys_changed(p))
        enter_anew(p);
    if (d->config || d->n_endpoint_hosts) {
        apply(p, prev, d);
        p->counters.pushes++;
    }
    p->counters.last_build_us = (loop_clock_ns(p->loop) - start) / 1000;
    log_debug(&log_push, "snapshot built generation=%lu config=%d endpoint_hosts=%u us=%lu",
              p->m->generation, d->config, d->n_endpoint_hosts, p->counters.last_build_us);
    model_free(prev);
}

static void window_over(struct timer *t)
{
    struct push *p = container_of(t, struct push, window);

    p->in_window = false;
    if (!p->again)
        return;
    p->again = false;
    p->in_window = true;
    timer_set(&p->window, WINDOW_MS);
    build(p);
}

void push_changed(struct push *p)
{
    if (p->in_window) {
        p->again = true;
        return;
    }
    p->in_window = true;
    timer_set(&p->window, WINDOW_MS);
    build(p);
}

/* ---- life ---- */

struct push *push_new(struct loop *l, struct model_store *store, const struct translate *t)
{
    struct push *p = mem_new(struct push);

    p->loop = l;
    p->store = store;
    p->t = t;
    p->source = (struct ads_source){
        .list = list, .find = find, .hello = hello, .nacked = nacked, .self = p};
    list_init(&p->streams);
    p->names = xds_names_new();
    map_init_borrow(&p->scopes);
    arena_init(&p->check_arena);
    arena_init(&p->keys_arena);
    timer_init(&p->window, l, window_over);
    p->m = model_store_build(store, NULL, NULL);
    run_checks(p);
    push_scope_keys_changed(p);
    return p;
}

void push_free(struct push *p)
{
    if (!p)
        return;
    timer_cancel(&p->window);
    map_fini(&p->scopes); /* empty: streams are gone */
    xds_names_free(p->names);
    arena_free(&p->keys_arena);
    free(p->checks);
    arena_free(&p->check_arena);
    model_free(p->m);
    free(p);
}

const struct model *push_model(const struct push *p)
{
    return p->m;
}

void push_each_problem(const struct push *p, void (*fn)(void *arg, const struct model_problem *pr),
                       void *arg)
{
    for (uint32_t i = 0; i < p->m->n_problems; i++)
        fn(arg, &p->m->problems[i]);
    for (uint32_t i = 0; i < p->n_checks; i++)
        fn(arg, p->checks[i]);
    map_each (e, &p->scopes)
        push_scope_problems(e->val, fn, arg);
}

const struct push_counters *push_counters(const struct push *p)
{
    return &p->counters;
}

struct push_stream *push_stream_open(struct push *p, bool delta, const struct push_peer *peer,
                                     void (*send)(void *arg, struct buf *message), void *arg)
{
    struct push_stream *s = mem_new(struct push_stream);

    s->push = p;
    s->delta = delta;
    arena_init(&s->arena);
    s->identity = arena_sv(&s->arena, peer->identity);
    s->address = arena_sv(&s->arena, peer->address);
    s->session = ads_session_new(&(struct ads_session_opts){.delta = delta,
                                                            .source = &p->source,
                                                            .names = p->names,
                                                            .send = send,
                                                            .arg = arg,
                                                            .control_plane = SV("weft")});
    ads_session_set_user(s->session, s);
    timer_init(&s->step_timer, p->loop, step_over);
    list_push(&p->streams, &s->link);
    return s;
}

int push_stream_receive(struct push_stream *s, sv message, struct error *err)
{
    int rc = ads_session_receive(s->session, message, err);
    if (!rc && s->step != STEP_NONE)
        advance(s, false);
    return rc;
}

void push_stream_close(struct push_stream *s)
{
    if (!s)
        return;
    if (s->greeted) {
        s->push->counters.proxies--;
        log_info(&log_push, "proxy disconnected node=%.*s", SV_ARG(s->node_id));
    }
    timer_cancel(&s->step_timer);
    list_del(&s->link);
    ads_session_free(s->session);
    push_own_free(s);
    push_scope_leave(s);
    arena_free(&s->arena);
    free(s);
}
