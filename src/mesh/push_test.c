/* Push with proxies at the other end, in memory and on simulated time: who shares what, and that a
 * change is told to those it concerns, in order, and nothing else. */
#include "api/pb_struct.h"
#include "base/mem.h"
#include "mesh/mesh_testlib.h"
#include "mesh/push/push_internal.h"
#include "net/sim.h"
#include "xds/ads_client.h"

#define QUEUE 256

struct seat { /* a proxy */
    struct push_stream *stream;
    struct ads_client *client;
    struct buf down[QUEUE];
    int n_down, n_up;
    char *up[QUEUE];
    size_t up_n[QUEUE];
    int changed[XDS_TYPES], removed[XDS_TYPES]; /* resources since `forget` */
    char order[64]; /* a letter a response that told something: CELRVN */
    sv route_bytes;
    bool apart;    /* it takes virtual hosts on their own */
    int refuse;    /* type of which it refuses everything, or -1 */
    char host[96]; /* the last one that came */
    struct arena a;
};

struct world {
    struct fixture *f;
    struct sim *sim;
    struct loop *loop;
    struct push *push;
    struct seat *seats[4];
    int n;
};

static void to_proxy(void *arg, struct buf *message)
{
    struct seat *s = arg;
    assert_true(s->n_down < QUEUE);
    buf_init(&s->down[s->n_down]);
    buf_move(&s->down[s->n_down++], message);
}

static void to_plane(void *arg, sv message)
{
    struct seat *s = arg;
    assert_true(s->n_up < QUEUE);
    s->up[s->n_up] = sv_dup(message);
    s->up_n[s->n_up++] = message.n;
}

static void on_update(void *self, struct ads_update *u)
{
    struct seat *s = self;
    size_t len = strlen(s->order);

    s->changed[u->type] += (int)u->n_changed;
    s->removed[u->type] += (int)u->n_removed;
    if ((u->n_changed || u->n_removed) && len + 1 < sizeof s->order)
        s->order[len] = "CESLRVN"[u->type];
    for (uint32_t i = 0; i < u->n_changed; i++) {
        sv name = u->changed[i].name;
        if ((int)u->type == s->refuse) {
            error_set(&u->changed[i].refused, E_INVALID, "not today");
            continue;
        }
        if (u->type == XDS_CDS && sv_starts(name, SV("outbound|")))
            ads_client_subscribe(s->client, XDS_EDS, name);
        if (u->type == XDS_LDS && sv_eq_c(name, "0.0.0.0_80"))
            ads_client_subscribe(s->client, XDS_RDS, SV("80"));
        if (u->type == XDS_RDS && s->apart)
            ads_client_subscribe(s->client, XDS_VHDS, name);
        if (u->type == XDS_VHDS)
            snprintf(s->host, sizeof s->host, "%.*s", SV_ARG(name));
        if (u->type == XDS_RDS)
            s->route_bytes = arena_sv(&s->a, u->changed[i].packed);
    }
    for (uint32_t i = 0; i < u->n_removed; i++) {
        if (u->type == XDS_CDS)
            ads_client_unsubscribe(s->client, XDS_EDS, u->removed[i]);
    }
}

/* Messages go both ways until none is left. */
static void settle(struct world *w)
{
    for (bool moved = true; moved;) {
        moved = false;
        for (int i = 0; i < w->n; i++) {
            struct seat *s = w->seats[i];
            struct error err = {0};
            ads_client_flush(s->client);
            int n_up = s->n_up;
            for (int k = 0; k < n_up; k++) {
                assert_int_equal(
                    push_stream_receive(s->stream, sv_make(s->up[k], s->up_n[k]), &err), 0);
                free(s->up[k]);
            }
            assert_int_equal(s->n_up, n_up);
            s->n_up = 0;
            int n_down = s->n_down;
            for (int k = 0; k < n_down; k++) {
                struct buf *b = &s->down[k];
                assert_int_equal(ads_client_receive(s->client, buf_pullup(b, b->len), &err), 0);
                buf_reset(b);
            }
            assert_int_equal(s->n_down, n_down);
            s->n_down = 0;
            moved |= n_up || n_down;
        }
    }
}

static void forget(struct world *w)
{
    for (int i = 0; i < w->n; i++) {
        struct seat *s = w->seats[i];
        memset(s->changed, 0, sizeof s->changed);
        memset(s->removed, 0, sizeof s->removed);
        memset(s->order, 0, sizeof s->order);
    }
}

static struct seat *join_as(struct world *w, const char *ip, const char *ns, const char *app,
                            bool grpc, bool apart)
{
    static const sv features[] = {SV_INIT("envoy.lb.does_not_support_overprovisioning"),
                                  SV_INIT(XDS_FEATURE_VHDS)};
    struct seat *s = mem_new(struct seat);
    s->apart = apart;
    s->refuse = -1;
    arena_init(&s->a);
    struct google_Struct *labels = pb_struct_new(&s->a, 1), *metadata = pb_struct_new(&s->a, 3);
    pb_struct_put_text(labels, &s->a, SV("app"), sv_of(app));
    pb_struct_put_text(metadata, &s->a, SV("NAMESPACE"), sv_of(ns));
    pb_struct_put_table(metadata, &s->a, SV("LABELS"), labels);
    if (grpc)
        pb_struct_put_text(metadata, &s->a, SV("GENERATOR"), SV("grpc"));
    struct envoy_Node node = {
        .id = arena_printf(&s->a, "sidecar~%s~%s.%s~%s.svc.cluster.local", ip, app, ns, ns),
        .metadata = metadata,
        .client_features = {.v = (sv *)features, .n = apart ? 2 : 1}};
    struct ads_client_opts o = {
        .delta = true, .node = &node, .handler = {.update = on_update, .self = s}};

    s->client = ads_client_new(&o);
    s->stream = push_stream_open(w->push, true, &(struct push_peer){0}, to_proxy, s);
    if (grpc) {
        ads_client_subscribe(s->client, XDS_LDS, SV(FLASK ":80"));
        ads_client_subscribe(s->client, XDS_RDS, SV("outbound|80||" FLASK));
        ads_client_subscribe(s->client, XDS_CDS, SV("outbound|80||" FLASK));
    } else {
        ads_client_subscribe(s->client, XDS_CDS, (sv){NULL, 0});
        ads_client_subscribe(s->client, XDS_LDS, (sv){NULL, 0});
        ads_client_subscribe(s->client, XDS_NDS, (sv){NULL, 0});
    }
    ads_client_stream_open(s->client, to_plane, s);
    w->seats[w->n++] = s;
    settle(w);
    return s;
}

static struct seat *join(struct world *w, const char *ip, const char *ns, const char *app)
{
    return join_as(w, ip, ns, app, false, false);
}

static void leave(struct seat *s)
{
    push_stream_close(s->stream);
    ads_client_free(s->client);
    arena_free(&s->a);
    free(s);
}

static struct world *begin(void **state)
{
    struct world *w = mem_new(struct world);
    w->f = *state;
    w->sim = sim_new(1);
    w->loop = loop_new(sim_host(w->sim, "10.0.0.1"));
    w->push = push_new(w->loop, w->f->store, w->f->t);
    return w;
}

static void end(struct world *w)
{
    for (int i = 0; i < w->n; i++)
        leave(w->seats[i]);
    assert_int_equal(map_len(&w->push->scopes), 0);
    for (int t = 0; t < XDS_TYPES; t++) {
        for (uint32_t id = 0; id < xds_names_end(w->push->names, (enum xds_type)t); id++)
            assert_null(xds_names_text(w->push->names, (enum xds_type)t, id).p);
    }
    push_free(w->push);
    loop_free(w->loop);
    sim_free(w->sim);
    free(w);
}

static void change(struct world *w, const char *file, const char *text)
{
    write_file(w->f, file, text);
    file_source_refresh(w->f->files);
    push_changed(w->push);
    settle(w);
    sim_run_for(w->sim, 20 * SIM_MS); /* the window within which changes are merged */
    settle(w);
}

#define RULE(spec)                                                                                 \
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"                                   \
    "metadata: {name: flaskapp-policy, namespace: books}\n"                                        \
    "spec:\n  hosts: [" FLASK "]\n  http:\n" spec
#define TO(subset) "  - route: [{destination: {host: " FLASK ", subset: " subset "}}]\n"

static void test_shared(void **state)
{
    struct world *w = begin(state);
    struct seat *a = join(w, "10.0.1.1", "books", "a"), *b = join(w, "10.0.1.2", "books", "b");
    struct seat *c = join(w, "10.0.1.3", "elsewhere", "c");

    assert_int_equal(map_len(&w->push->scopes), 2);
    assert_ptr_equal(a->stream->scope, b->stream->scope);
    assert_ptr_not_equal(a->stream->scope, c->stream->scope);
    assert_true(a->changed[XDS_CDS] > 0 && a->changed[XDS_EDS] > 0 && a->changed[XDS_RDS] == 1);
    assert_int_equal(a->changed[XDS_CDS], b->changed[XDS_CDS]);
    end(w);
}

/* Spans name who sends them: replicas still share, others do not. */
static void test_traced_ones_share_with_replicas(void **state)
{
    struct translate_options o = {.tracing_otlp = SV("10.0.0.9:4317"), .tracing_sampling = 100};
    struct fixture *f = *state;
    struct translate *plain = f->t;
    struct error err = {0};

    f->t = translate_new(&o, &err);
    assert_non_null(f->t);
    struct world *w = begin(state);
    struct seat *a = join(w, "10.0.1.1", "books", "a"), *b = join(w, "10.0.1.2", "books", "b");
    struct seat *c = join(w, "10.0.1.3", "books", "a");
    struct seat *g = join_as(w, "10.0.1.4", "books", "g", true, false);

    assert_int_equal(map_len(&w->push->scopes), 3);
    assert_ptr_not_equal(a->stream->scope, b->stream->scope);
    assert_ptr_equal(a->stream->scope, c->stream->scope);
    assert_false(g->stream->scope->view.cluster.n); /* gRPC itself makes no spans */
    end(w);
    translate_free(f->t);
    f->t = plain;
}

static void test_rule_changes_routes_alone(void **state)
{
    struct world *w = begin(state);
    struct seat *a = join(w, "10.0.1.1", "books", "a"), *b = join(w, "10.0.1.2", "books", "b");

    remove_file(w->f, "rule.yaml");
    forget(w);
    change(w, "books.yaml", books());
    assert_string_equal(a->order, ""); /* the same content: nothing is sent */
    only_services(w->f);
    change(w, "rule.yaml", RULE(TO("subset-v1")));
    forget(w);
    change(w, "rule.yaml",
           RULE("  - fault: {abort: {httpStatus: 418, percentage: {value: 1}}}\n"
                "    route: [{destination: {host: " FLASK "}}]\n"));
    assert_string_equal(a->order, "R");
    assert_string_equal(b->order, "R");
    assert_int_equal(a->changed[XDS_RDS], 1);
    end(w);
}

static void test_endpoint_is_told_alone(void **state)
{
    struct world *w = begin(state);
    struct seat *a = join(w, "10.0.1.1", "books", "a");

    forget(w);
    change(w, "pod.yaml",
           "apiVersion: v1\nkind: Pod\n"
           "metadata: {name: more, namespace: books, labels: {app: flaskapp, version: v1}}\n"
           "spec: {serviceAccountName: flaskapp-v1}\nstatus: {podIP: 10.0.0.77}\n");
    assert_null(strchr(a->order, 'L'));
    assert_null(strchr(a->order, 'R'));
    assert_non_null(strchr(a->order, 'E'));
    end(w);
}

/* A rule for clients with a label splits the scope by that label, and joins it again. */
static void test_labels_that_matter(void **state)
{
    struct world *w = begin(state);
    struct seat *a, *b;

    only_services(w->f);
    change(w, "rule.yaml", RULE("  - route: [{destination: {host: " FLASK "}}]\n"));
    a = join(w, "10.0.1.1", "books", "a");
    b = join(w, "10.0.1.2", "books", "b");
    assert_ptr_equal(a->stream->scope, b->stream->scope);
    change(w, "rule.yaml",
           RULE("  - match: [{sourceLabels: {app: a}}]\n"
                "    directResponse: {status: 418}\n"
                "  - route: [{destination: {host: " FLASK "}}]\n"));
    assert_ptr_not_equal(a->stream->scope, b->stream->scope);
    assert_false(sv_eq(a->route_bytes, b->route_bytes));
    change(w, "rule.yaml", RULE("  - route: [{destination: {host: " FLASK "}}]\n"));
    assert_ptr_equal(a->stream->scope, b->stream->scope);
    assert_true(sv_eq(a->route_bytes, b->route_bytes));
    end(w);
}

/* A service that goes: what names it goes first, its clusters when connections had time to end. */
static void test_removal_is_last(void **state)
{
    struct world *w = begin(state);
    struct seat *a;

    change(w, "extra.yaml",
           "apiVersion: v1\nkind: Service\nmetadata: {name: extra, namespace: books}\n"
           "spec: {clusterIP: 10.1.9.9, ports: [{name: tcp, port: 999}]}\n");
    a = join(w, "10.0.1.1", "books", "a");
    forget(w);
    remove_file(w->f, "extra.yaml");
    file_source_refresh(w->f->files);
    push_changed(w->push);
    settle(w);
    assert_int_equal(a->removed[XDS_CDS], 0);
    assert_int_equal(a->removed[XDS_LDS], 1);
    sim_run_for(w->sim, 30 * SIM_SECOND);
    settle(w);
    assert_int_equal(a->removed[XDS_CDS], 1);
    end(w);
}

/* A name that was asked for in vain is told when it comes to be. */
static void test_late_name(void **state)
{
    struct world *w = begin(state);
    struct seat *a = join(w, "10.0.1.1", "books", "a");

    ads_client_subscribe(a->client, XDS_RDS, SV("8123"));
    settle(w);
    forget(w);
    change(w, "late.yaml",
           "apiVersion: v1\nkind: Service\nmetadata: {name: late, namespace: books}\n"
           "spec: {clusterIP: 10.1.9.8, ports: [{name: http, port: 8123}]}\n");
    assert_int_equal(a->changed[XDS_RDS], 1);
    assert_non_null(strchr(a->order, 'C'));
    assert_true(strchr(a->order, 'C') < strchr(a->order, 'R'));
    end(w);
}

/* A gRPC client without a sidecar has a scope of its own, and gets what it asks for and no more. */
static void test_grpc_client(void **state)
{
    struct world *w = begin(state);
    struct seat *a = join(w, "10.0.1.1", "books", "a");
    struct seat *g = join_as(w, "10.0.1.1", "books", "a", true, false);

    assert_ptr_not_equal(a->stream->scope, g->stream->scope);
    for (int t = 0; t < XDS_TYPES; t++)
        assert_int_equal(g->changed[t],
                         t == XDS_CDS || t == XDS_EDS || t == XDS_LDS || t == XDS_RDS);
    only_services(w->f);
    change(w, "rule.yaml", RULE(TO("subset-v1")));
    forget(w);
    change(w, "rule.yaml", RULE(TO("subset-v2")));
    assert_string_equal(g->order, "R");
    forget(w);
    change(w, "pod.yaml",
           "apiVersion: v1\nkind: Pod\n"
           "metadata: {name: more, namespace: books, labels: {app: flaskapp, version: v1}}\n"
           "spec: {serviceAccountName: flaskapp-v1}\nstatus: {podIP: 10.0.0.77}\n");
    assert_non_null(strchr(g->order, 'E'));
    assert_null(strchr(g->order, 'L'));
    assert_null(strchr(g->order, 'R'));
    forget(w);
    change(w, "extra.yaml",
           "apiVersion: v1\nkind: Service\nmetadata: {name: extra, namespace: books}\n"
           "spec: {clusterIP: 10.1.9.9, ports: [{name: tcp, port: 999}]}\n");
    assert_true(a->changed[XDS_LDS] > 0);
    assert_string_equal(g->order, "");
    end(w);
}

/* ---- virtual hosts on their own ---- */

#define EXTRA(name, port)                                                                          \
    "apiVersion: v1\nkind: Service\nmetadata: {name: " name ", namespace: books}\n"                \
    "spec: {clusterIP: 10.1.9.9, ports: [{name: http, port: " port "}]}\n"

static uint32_t resources(const struct seat *s, enum xds_type t)
{
    struct ads_type_status st;
    ads_session_status(s->stream->session, t, &st);
    return st.resources;
}

static void reconnect(struct world *w, struct seat *s)
{
    push_stream_close(s->stream);
    ads_client_stream_closed(s->client);
    s->stream = push_stream_open(w->push, true, &(struct push_peer){0}, to_proxy, s);
    ads_client_stream_open(s->client, to_plane, s);
    settle(w);
}

static void test_only_the_host_that_changed(void **state)
{
    struct world *w = begin(state);
    struct seat *a, *b, *c;

    only_services(w->f);
    change(w, "rule.yaml", RULE(TO("subset-v1")));
    change(w, "extra.yaml", EXTRA("extra", "80"));
    a = join_as(w, "10.0.1.1", "books", "a", false, true);
    b = join_as(w, "10.0.1.2", "books", "b", false, true);
    c = join(w, "10.0.1.3", "books", "c");
    assert_ptr_equal(a->stream->scope, b->stream->scope);
    assert_ptr_not_equal(a->stream->scope, c->stream->scope);
    assert_int_equal(a->changed[XDS_RDS], 1);
    assert_int_equal(a->changed[XDS_VHDS], 3); /* flaskapp, extra, and what no service claims */
    assert_true(strchr(a->order, 'R') < strchr(a->order, 'V'));
    assert_int_equal(c->changed[XDS_VHDS], 0);
    assert_true(a->route_bytes.n < 100 && c->route_bytes.n > 500);
    forget(w);
    change(w, "rule.yaml", RULE(TO("subset-v2")));
    assert_string_equal(a->order, "V");
    assert_string_equal(b->order, "V");
    assert_string_equal(c->order, "R");
    assert_int_equal(a->changed[XDS_VHDS], 1);
    assert_string_equal(a->host, "80/" FLASK ":80");
    forget(w);
    change(w, "extra.yaml", EXTRA("other", "80")); /* one goes, one comes */
    assert_int_equal(a->changed[XDS_VHDS], 1);
    assert_int_equal(a->removed[XDS_VHDS], 1);
    assert_int_equal(a->changed[XDS_RDS], 0);
    assert_string_equal(a->host, "80/other.books.svc.cluster.local:80");
    end(w);
}

static void test_hosts_after_an_interruption(void **state)
{
    struct world *w = begin(state);
    struct seat *a;

    only_services(w->f);
    change(w, "rule.yaml", RULE(TO("subset-v1")));
    change(w, "extra.yaml", EXTRA("extra", "80"));
    a = join_as(w, "10.0.1.1", "books", "a", false, true);
    forget(w);
    reconnect(w, a);
    assert_string_equal(a->order, ""); /* it says what it has */
    assert_int_equal(resources(a, XDS_VHDS), 3);
    push_stream_close(a->stream);
    ads_client_stream_closed(a->client);
    write_file(w->f, "rule.yaml", RULE(TO("subset-v2")));
    remove_file(w->f, "extra.yaml");
    file_source_refresh(w->f->files);
    push_changed(w->push);
    sim_run_for(w->sim, 20 * SIM_MS);
    a->stream = push_stream_open(w->push, true, &(struct push_peer){0}, to_proxy, a);
    ads_client_stream_open(a->client, to_plane, a);
    settle(w);
    assert_int_equal(a->changed[XDS_VHDS], 1);
    assert_int_equal(a->removed[XDS_VHDS], 1);
    assert_int_equal(a->changed[XDS_RDS], 0);
    assert_string_equal(a->host, "80/" FLASK ":80");
    end(w);
}

/* What a client drops with a table comes again with it. */
static void test_hosts_of_a_table_that_returns(void **state)
{
    struct world *w = begin(state);
    struct seat *a;

    change(w, "late.yaml", EXTRA("late", "8123"));
    a = join_as(w, "10.0.1.1", "books", "a", false, true);
    forget(w);
    ads_client_subscribe(a->client, XDS_RDS, SV("8123"));
    settle(w);
    assert_string_equal(a->order, "RV");
    assert_int_equal(a->changed[XDS_VHDS], 2);
    forget(w);
    for (int round = 0; round < 2; round++) { /* told in between, or at one go */
        ads_client_unsubscribe(a->client, XDS_RDS, SV("8123"));
        ads_client_unsubscribe(a->client, XDS_VHDS, SV("8123"));
        if (round == 0) {
            settle(w);
            assert_int_equal(a->removed[XDS_VHDS], 2);
            assert_int_equal(resources(a, XDS_VHDS), 2); /* of the other table */
        }
        forget(w);
        ads_client_subscribe(a->client, XDS_RDS, SV("8123"));
        settle(w);
        assert_int_equal(a->changed[XDS_RDS], 1);
        assert_int_equal(a->changed[XDS_VHDS], 2);
    }
    forget(w);
    remove_file(w->f, "late.yaml");
    change(w, "rule.yaml", RULE(TO("subset-v1")));
    assert_int_equal(a->removed[XDS_VHDS], 2);
    change(w, "late.yaml", EXTRA("late", "8123"));
    assert_int_equal(a->changed[XDS_RDS], 1);
    end(w);
}

/* Hosts are not sent before their table was answered, and again when it was refused: who refuses a
 * table has no place for its hosts. */
static void test_hosts_of_a_table_that_was_refused(void **state)
{
    struct world *w = begin(state);
    struct seat *a = join_as(w, "10.0.1.1", "books", "a", false, true);
    int n_hosts = a->changed[XDS_VHDS];
    struct envoy_DeltaDiscoveryRequest r = {.type_url = xds_type_url(XDS_RDS)};
    struct error err = {0};
    sv names[] = {SV_INIT("8123")};

    assert_true(n_hosts > 0);
    change(w, "late.yaml", EXTRA("late", "8123"));
    forget(w);
    /* A request by hand: nobody answers what follows it. */
    r.resource_names_subscribe.v = names;
    r.resource_names_subscribe.n = 1;
    assert_int_equal(
        push_stream_receive(a->stream, pb_encode_arena(&envoy_DeltaDiscoveryRequest_pb, &r, &a->a),
                            &err),
        0);
    assert_int_equal(a->n_down, 1);
    a->refuse = XDS_RDS;
    settle(w);
    assert_int_equal(a->changed[XDS_RDS], 1);
    int lost = resources(a, XDS_VHDS);
    assert_int_equal(lost, n_hosts + 2); /* sent, for all it knows; passed over by the client */
    assert_int_equal(a->changed[XDS_VHDS], 0);
    a->refuse = -1;
    ads_client_subscribe(a->client, XDS_VHDS, SV("8123"));
    ads_client_subscribe(a->client, XDS_RDS, SV("8123"));
    settle(w);
    assert_int_equal(a->changed[XDS_VHDS], 2); /* of the rest the client has the same bytes */
    end(w);
}

/* Clients of two namespaces have other hosts under the same names; a change of something else is
 * none of theirs, though each time both are made anew. */
static void test_hosts_of_two_scopes(void **state)
{
    struct world *w = begin(state);
    struct seat *a, *c;

    only_services(w->f);
    change(w, "rule.yaml", RULE(TO("subset-v1")));
    change(w, "extra.yaml", EXTRA("extra", "80"));
    a = join_as(w, "10.0.1.1", "books", "a", false, true);
    c = join_as(w, "10.0.1.3", "elsewhere", "c", false, true);
    for (int i = 0; i < 3; i++) {
        forget(w);
        change(w, "rule.yaml", RULE(TO("subset-v2")));
        assert_int_equal(a->changed[XDS_VHDS], 1);
        assert_int_equal(c->changed[XDS_VHDS], 1);
        change(w, "rule.yaml", RULE(TO("subset-v1")));
        assert_int_equal(a->changed[XDS_VHDS], 2);
        assert_string_equal(a->order, "VV");
        assert_string_equal(c->order, "VV");
    }
    end(w);
}

/* Who gets virtual hosts on their own: a delta client that says so, or whose user does. */
static void test_who_takes_hosts(void **state)
{
    struct world *w = begin(state);
    static const struct {
        bool feature, metadata, grpc, delta;
        int want;
    } cases[] = {
        {true, false, false, true, TRANSLATE_HOSTS_APART},
        {true, true, false, true, TRANSLATE_HOSTS_APART},
        {false, true, false, true, TRANSLATE_HOSTS_ENVOY},
        {false, false, false, true, TRANSLATE_HOSTS_INSIDE},
        {true, true, false, false, TRANSLATE_HOSTS_INSIDE},
        {true, true, true, true, TRANSLATE_HOSTS_INSIDE},
    };
    static const sv features[] = {SV_INIT(XDS_FEATURE_VHDS)};

    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct seat *s = mem_new(struct seat);
        arena_init(&s->a);
        struct google_Struct *metadata = pb_struct_new(&s->a, 2);
        if (cases[i].metadata)
            pb_struct_put_text(metadata, &s->a, SV("VHDS"), SV("true"));
        if (cases[i].grpc)
            pb_struct_put_text(metadata, &s->a, SV("GENERATOR"), SV("grpc"));
        struct envoy_Node node = {.id = SV("sidecar~10.0.1.1~a.books~books.svc.cluster.local"),
                                  .metadata = metadata,
                                  .client_features = {.v = (sv *)features, .n = cases[i].feature}};
        struct ads_client_opts o = {
            .delta = cases[i].delta, .node = &node, .handler = {.update = on_update, .self = s}};
        s->client = ads_client_new(&o);
        s->stream = push_stream_open(w->push, cases[i].delta, &(struct push_peer){0}, to_proxy, s);
        ads_client_subscribe(s->client, XDS_CDS, (sv){NULL, 0});
        ads_client_stream_open(s->client, to_plane, s);
        w->seats[w->n++] = s;
        settle(w);
        assert_int_equal(s->stream->proxy.hosts, cases[i].want);
        w->n--;
        leave(s);
    }
    end(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_shared),
        T(test_traced_ones_share_with_replicas),
        T(test_rule_changes_routes_alone),
        T(test_endpoint_is_told_alone),
        T(test_labels_that_matter),
        T(test_removal_is_last),
        T(test_late_name),
        T(test_grpc_client),
        T(test_only_the_host_that_changed),
        T(test_hosts_after_an_interruption),
        T(test_hosts_of_a_table_that_returns),
        T(test_hosts_of_a_table_that_was_refused),
        T(test_hosts_of_two_scopes),
        T(test_who_takes_hosts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
