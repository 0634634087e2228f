/* Client and server machines against each other, in memory, in both variants. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "api/envoy.pb.h"
#include "api/google.pb.h"
#include "api/pb.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "xds/ads_client.h"
#include "xds/ads_server.h"

#define QUEUE 64

struct queue {
    char *p[QUEUE];
    size_t n[QUEUE];
    int head, tail;
};

struct world {
    bool delta;
    struct xds_names *names;
    struct map resources[XDS_TYPES]; /* what the source has: name -> blob */
    struct map applied[XDS_TYPES];   /* what the client's handler has: name -> text of version */
    char *refuse;                    /* name that the handler refuses */
    struct ads_client *client;
    struct ads_session *session;
    struct queue up, down;
    int hellos, acks, nacks, updates;
    char nack[512];
    char node[64];
};

static void enqueue(struct queue *q, sv m)
{
    assert_true(q->tail - q->head < QUEUE);
    q->p[q->tail % QUEUE] = sv_dup(m);
    q->n[q->tail++ % QUEUE] = m.n;
}

static void up(void *arg, sv m)
{
    enqueue(&((struct world *)arg)->up, m);
}

static void down(void *arg, struct buf *m)
{
    enqueue(&((struct world *)arg)->down, buf_pullup(m, m->len));
    buf_reset(m);
}

static void src_list(void *self, struct ads_session *s, enum xds_type t,
                     void (*add)(void *, struct xds_blob *), void *arg)
{
    struct world *w = self;
    map_each (e, &w->resources[t])
        add(arg, e->val);
}

static struct xds_blob *src_find(void *self, struct ads_session *s, enum xds_type t, uint32_t id,
                                 sv name)
{
    return map_get(&((struct world *)self)->resources[t], name);
}

static int src_hello(void *self, struct ads_session *s, const struct envoy_Node *node,
                     struct error *err)
{
    struct world *w = self;
    w->hellos++;
    snprintf(w->node, sizeof w->node, "%.*s", SV_ARG(node->id));
    if (sv_eq_c(node->id, "stranger"))
        return error_set(err, E_DENIED, "stranger may not have configuration");
    return 0;
}

static void src_acked(void *self, struct ads_session *s, enum xds_type t)
{
    ((struct world *)self)->acks++;
}

static void src_nacked(void *self, struct ads_session *s, enum xds_type t, sv sentence)
{
    struct world *w = self;
    w->nacks++;
    snprintf(w->nack, sizeof w->nack, "%.*s", SV_ARG(sentence));
}

static void on_update(void *self, struct ads_update *u)
{
    struct world *w = self;
    w->updates += u->n_changed || u->n_removed;
    for (uint32_t i = 0; i < u->n_changed; i++) {
        struct ads_resource *r = &u->changed[i];
        if (w->refuse && sv_eq_c(r->name, w->refuse)) {
            error_set(&r->refused, E_INVALID, "lb_policy: is not known");
            continue;
        }
        free(map_put(&w->applied[u->type], r->name, sv_dup(r->packed)));
    }
    for (uint32_t i = 0; i < u->n_removed; i++)
        free(map_del(&w->applied[u->type], u->removed[i]));
}

static struct ads_source source = {.list = src_list,
                                   .find = src_find,
                                   .hello = src_hello,
                                   .acked = src_acked,
                                   .nacked = src_nacked};

static void put(struct world *w, enum xds_type t, const char *name, int generation)
{
    struct arena a;
    struct strbuf out;
    struct envoy_Cluster c = {.name = sv_of(name)};
    struct envoy_ClusterLoadAssignment e = {.cluster_name = sv_of(name)};
    char alt[32];

    arena_init(&a);
    strbuf_init(&out, 4096);
    snprintf(alt, sizeof alt, "generation-%d", generation);
    if (t == XDS_EDS) {
        struct envoy_LocalityLbEndpoints l = {.priority = (uint32_t)generation};
        const struct envoy_LocalityLbEndpoints *list[] = {&l};
        e.endpoints.v = list;
        e.endpoints.n = 1;
        pb_encode(&envoy_ClusterLoadAssignment_pb, &e, &out);
    } else {
        c.alt_stat_name = sv_of(alt);
        pb_encode(&envoy_Cluster_pb, &c, &out);
    }
    xds_blob_unref(map_put(&w->resources[t], sv_of(name),
                           xds_blob_new(w->names, t, sv_of(name), strbuf_sv(&out))));
    strbuf_fini(&out);
    arena_free(&a);
}

static void drop(struct world *w, enum xds_type t, const char *name)
{
    xds_blob_unref(map_del(&w->resources[t], sv_of(name)));
}

/* By names, as tests know them. */
static void changed_names(struct world *w, enum xds_type t, const sv *names, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t id = xds_names_find(w->names, t, names[i]);
        ads_session_mark(w->session, t, &id, id != XDS_NO_NAME);
    }
    ads_session_push(w->session, 1u << t);
}

static void connect_stream(struct world *w)
{
    struct ads_session_opts so = {.delta = w->delta,
                                  .source = &source,
                                  .names = w->names,
                                  .send = down,
                                  .arg = w,
                                  .control_plane = SV("test")};
    source.self = w;
    w->session = ads_session_new(&so);
    ads_client_stream_open(w->client, up, w);
}

static void disconnect(struct world *w)
{
    ads_client_stream_closed(w->client);
    ads_session_free(w->session);
    w->session = NULL;
    for (struct queue *q = &w->up; q; q = q == &w->up ? &w->down : NULL) {
        while (q->head < q->tail)
            free(q->p[q->head++ % QUEUE]);
    }
}

/* Carries messages both ways until nothing moves; returns how many went down. */
static int settle(struct world *w)
{
    struct error err = {0};
    int moved = 0;
    do {
        ads_client_flush(w->client);
        while (w->up.head < w->up.tail) {
            int i = w->up.head++ % QUEUE;
            assert_int_equal(ads_session_receive(w->session, sv_make(w->up.p[i], w->up.n[i]), &err),
                             0);
            free(w->up.p[i]);
        }
        while (w->down.head < w->down.tail) {
            int i = w->down.head++ % QUEUE;
            assert_int_equal(
                ads_client_receive(w->client, sv_make(w->down.p[i], w->down.n[i]), &err), 0);
            free(w->down.p[i]);
            moved++;
        }
    } while (w->up.head < w->up.tail);
    return moved;
}

static struct world *world_new(bool delta, const char *node_id)
{
    struct world *w = mem_new(struct world);
    struct envoy_Node node = {.id = sv_of(node_id)};
    struct ads_client_opts co = {
        .delta = delta, .node = &node, .handler = {.update = on_update, .self = w}};
    w->delta = delta;
    w->names = xds_names_new();
    for (int t = 0; t < XDS_TYPES; t++) {
        map_init(&w->resources[t]);
        map_init(&w->applied[t]);
    }
    w->client = ads_client_new(&co);
    return w;
}

static void world_free(struct world *w)
{
    if (w->session)
        disconnect(w);
    ads_client_free(w->client);
    for (int t = 0; t < XDS_TYPES; t++) {
        map_each (e, &w->resources[t])
            xds_blob_unref(e->val);
        map_each (e, &w->applied[t])
            free(e->val);
        map_fini(&w->resources[t]);
        map_fini(&w->applied[t]);
    }
    xds_names_free(w->names);
    free(w);
}

static void check_same(struct world *w, enum xds_type t)
{
    assert_int_equal(map_len(&w->applied[t]), map_len(&w->resources[t]));
    map_each (e, &w->resources[t])
        assert_true(map_has(&w->applied[t], e->key));
}

static void test_wildcard(void **state)
{
    for (int delta = 0; delta < 2; delta++) {
        struct world *w = world_new(delta, "sidecar~1");
        put(w, XDS_CDS, "a", 1);
        put(w, XDS_CDS, "b", 1);
        ads_client_subscribe(w->client, XDS_CDS, (sv){NULL, 0});
        connect_stream(w);
        settle(w);
        check_same(w, XDS_CDS);
        assert_int_equal(w->hellos, 1);
        assert_string_equal(w->node, "sidecar~1");
        assert_int_equal(w->acks, 1);

        put(w, XDS_CDS, "c", 1);
        put(w, XDS_CDS, "a", 2);
        drop(w, XDS_CDS, "b");
        ads_session_changed(w->session, 1u << XDS_CDS);
        assert_int_equal(settle(w), 1);
        check_same(w, XDS_CDS);
        /* Nothing changed: nothing is sent. */
        ads_session_changed(w->session, 1u << XDS_CDS);
        assert_int_equal(settle(w), 0);
        world_free(w);
    }
}

static void test_named(void **state)
{
    for (int delta = 0; delta < 2; delta++) {
        struct world *w = world_new(delta, "n");
        put(w, XDS_EDS, "a", 1);
        put(w, XDS_EDS, "b", 1);
        put(w, XDS_EDS, "unwanted", 1);
        ads_client_subscribe(w->client, XDS_EDS, SV("a"));
        connect_stream(w);
        settle(w);
        assert_int_equal(map_len(&w->applied[XDS_EDS]), 1);
        ads_client_subscribe(w->client, XDS_EDS, SV("b"));
        settle(w);
        assert_int_equal(map_len(&w->applied[XDS_EDS]), 2);
        put(w, XDS_EDS, "b", 2);
        put(w, XDS_EDS, "unwanted", 2);
        sv names[] = {SV("b"), SV("unwanted")};
        changed_names(w, XDS_EDS, names, 2);
        assert_int_equal(settle(w), 1);
        assert_int_equal(map_len(&w->applied[XDS_EDS]), 2);
        ads_client_unsubscribe(w->client, XDS_EDS, SV("b"));
        settle(w);
        assert_false(ads_session_subscribed(w->session, XDS_EDS, SV("b")));
        put(w, XDS_EDS, "b", 3);
        changed_names(w, XDS_EDS, names, 1);
        assert_int_equal(settle(w), 0);
        world_free(w);
    }
}

/* Who wants a name that was given up gets its value, also when that has not changed meanwhile; and
 * an answer that crossed the unsubscription does not count as his. */
static void test_wanted_again(void **state)
{
    for (int variant = 0; variant < 4; variant++) {
        bool crossing = variant & 2;
        struct world *w = world_new(variant & 1, "n");
        put(w, XDS_EDS, "a", 1);
        put(w, XDS_EDS, "b", 1);
        ads_client_subscribe(w->client, XDS_EDS, SV("a"));
        ads_client_subscribe(w->client, XDS_EDS, SV("b"));
        connect_stream(w);
        settle(w);
        assert_true(map_has(&w->applied[XDS_EDS], SV("b")));
        ads_client_unsubscribe(w->client, XDS_EDS, SV("b"));
        if (crossing) {
            sv name = SV("b");
            ads_client_flush(w->client);
            put(w, XDS_EDS, "b", 2);
            changed_names(w, XDS_EDS, &name, 1);
        }
        settle(w);
        free(map_del(&w->applied[XDS_EDS], SV("b")));
        ads_client_subscribe(w->client, XDS_EDS, SV("b"));
        settle(w);
        assert_true(map_has(&w->applied[XDS_EDS], SV("b")));
        world_free(w);
    }
}

static void test_late_resource(void **state)
{
    for (int delta = 0; delta < 2; delta++) {
        struct world *w = world_new(delta, "n");
        ads_client_subscribe(w->client, XDS_EDS, SV("later"));
        connect_stream(w);
        settle(w);
        assert_int_equal(map_len(&w->applied[XDS_EDS]), 0);
        put(w, XDS_EDS, "later", 1);
        sv name = SV("later");
        changed_names(w, XDS_EDS, &name, 1);
        settle(w);
        assert_int_equal(map_len(&w->applied[XDS_EDS]), 1);
        world_free(w);
    }
}

/* A refused resource keeps its last good version; the others of the response are in force; the
 * server keeps the sentence and does not send the same thing again. */
static void test_nack(void **state)
{
    for (int delta = 0; delta < 2; delta++) {
        struct world *w = world_new(delta, "n");
        struct ads_type_status st;
        put(w, XDS_CDS, "good", 1);
        put(w, XDS_CDS, "bad", 1);
        ads_client_subscribe(w->client, XDS_CDS, (sv){NULL, 0});
        connect_stream(w);
        settle(w);
        char *before = map_get(&w->applied[XDS_CDS], SV("bad"));
        w->refuse = "bad";
        put(w, XDS_CDS, "good", 2);
        put(w, XDS_CDS, "bad", 2);
        ads_session_changed(w->session, 1u << XDS_CDS);
        settle(w);
        assert_int_equal(w->nacks, 1);
        assert_string_equal(w->nack, "CDS 'bad': lb_policy: is not known");
        assert_ptr_equal(map_get(&w->applied[XDS_CDS], SV("bad")), before);
        ads_session_status(w->session, XDS_CDS, &st);
        assert_false(st.in_sync);
        assert_true(sv_starts(st.nack, SV("CDS 'bad'")));
        ads_session_changed(w->session, 1u << XDS_CDS);
        assert_int_equal(settle(w), 0);
        w->refuse = NULL;
        put(w, XDS_CDS, "bad", 3);
        ads_session_changed(w->session, 1u << XDS_CDS);
        settle(w);
        ads_session_status(w->session, XDS_CDS, &st);
        assert_true(st.in_sync);
        check_same(w, XDS_CDS);
        world_free(w);
    }
}

/* Delta: who comes back says what it has and gets only what changed. */
static void test_reconnect(void **state)
{
    for (int delta = 0; delta < 2; delta++) {
        struct world *w = world_new(delta, "n");
        put(w, XDS_CDS, "a", 1);
        put(w, XDS_CDS, "b", 1);
        put(w, XDS_CDS, "c", 1);
        put(w, XDS_EDS, "a", 1);
        ads_client_subscribe(w->client, XDS_CDS, (sv){NULL, 0});
        ads_client_subscribe(w->client, XDS_EDS, SV("a"));
        connect_stream(w);
        settle(w);
        disconnect(w);
        put(w, XDS_CDS, "b", 2);
        drop(w, XDS_CDS, "c");
        w->updates = 0;
        connect_stream(w);
        settle(w);
        check_same(w, XDS_CDS);
        assert_int_equal(w->updates, 1);
        assert_int_equal(w->hellos, 2);
        world_free(w);
    }
}

/* Envoy holds an updated cluster back until its endpoints come again. */
static void test_rewarm(void **state)
{
    for (int delta = 0; delta < 2; delta++) {
        struct world *w = world_new(delta, "n");
        struct ads_type_status st;
        put(w, XDS_CDS, "a", 1);
        put(w, XDS_CDS, "b", 1);
        put(w, XDS_EDS, "a", 1);
        put(w, XDS_EDS, "b", 1);
        ads_client_subscribe(w->client, XDS_CDS, (sv){NULL, 0});
        ads_client_subscribe(w->client, XDS_EDS, SV("a"));
        ads_client_subscribe(w->client, XDS_EDS, SV("b"));
        connect_stream(w);
        settle(w);
        ads_session_status(w->session, XDS_EDS, &st);
        uint64_t before = st.sent;
        put(w, XDS_CDS, "a", 2);
        ads_session_changed(w->session, 1u << XDS_CDS);
        settle(w);
        ads_session_status(w->session, XDS_EDS, &st);
        assert_int_equal(st.sent, before + 1);
        put(w, XDS_CDS, "c", 1); /* a new one is asked for by the client itself */
        ads_session_changed(w->session, 1u << XDS_CDS);
        settle(w);
        ads_session_status(w->session, XDS_EDS, &st);
        assert_int_equal(st.sent, before + 1);
        /* Who comes back gets the cluster that changed meanwhile, and its endpoints too. */
        disconnect(w);
        put(w, XDS_CDS, "b", 2);
        connect_stream(w);
        settle(w);
        ads_session_status(w->session, XDS_EDS, &st);
        assert_int_equal(st.sent, 1);
        world_free(w);
    }
}

/* One response of a type at a time: what changes meanwhile is one difference later. */
static void test_one_outstanding(void **state)
{
    struct world *w = world_new(true, "n");
    put(w, XDS_CDS, "a", 1);
    ads_client_subscribe(w->client, XDS_CDS, (sv){NULL, 0});
    connect_stream(w);
    settle(w);
    for (int i = 2; i < 30; i++) {
        put(w, XDS_CDS, "a", i);
        ads_session_changed(w->session, 1u << XDS_CDS);
    }
    assert_int_equal(w->down.tail - w->down.head, 1);
    assert_int_equal(settle(w), 2);
    check_same(w, XDS_CDS);
    world_free(w);
}

static void test_refusals(void **state)
{
    struct error err = {0};
    struct world *w = world_new(true, "stranger");
    ads_client_subscribe(w->client, XDS_CDS, (sv){NULL, 0});
    connect_stream(w);
    int i = w->up.head++ % QUEUE;
    assert_int_equal(ads_session_receive(w->session, sv_make(w->up.p[i], w->up.n[i]), &err),
                     E_DENIED);
    free(w->up.p[i]);
    assert_true(ads_session_receive(w->session, SV("\xff\xff"), &err) < 0);
    assert_true(ads_client_receive(w->client, SV("\x0a\xff"), &err) < 0);
    /* No node in the first request. */
    struct envoy_DeltaDiscoveryRequest r = {.type_url = xds_type_url(XDS_CDS)};
    struct strbuf s;
    strbuf_init(&s, 1000);
    pb_encode(&envoy_DeltaDiscoveryRequest_pb, &r, &s);
    assert_int_equal(ads_session_receive(w->session, strbuf_sv(&s), &err), E_INVALID);
    strbuf_fini(&s);
    world_free(w);
}

/* Random changes, connects and refusals: after it settles, client and source agree. */
static void test_random(void **state)
{
    for (unsigned seed = 1; seed <= 200; seed++) {
        struct world *w = world_new(seed & 1, "n");
        char name[16];
        srand(seed);
        ads_client_subscribe(w->client, XDS_CDS, (sv){NULL, 0});
        connect_stream(w);
        for (int step = 0; step < 60; step++) {
            snprintf(name, sizeof name, "r%d", rand() % 8);
            switch (rand() % 8) {
            case 0:
            case 1:
            case 2:
                put(w, XDS_CDS, name, rand() % 4);
                ads_session_changed(w->session, 1u << XDS_CDS);
                break;
            case 3:
                drop(w, XDS_CDS, name);
                ads_session_changed(w->session, 1u << XDS_CDS);
                break;
            case 4:
                disconnect(w);
                connect_stream(w);
                break;
            default:
                settle(w);
            }
        }
        settle(w);
        check_same(w, XDS_CDS);
        world_free(w);
    }
}

static void test_name_of_bytes(void **state)
{
    assert_true(sv_eq(xds_resource_name(XDS_CDS, SV("\x10\x01\x0a\x03"
                                                    "abc")),
                      SV("abc")));
    assert_int_equal(xds_resource_name(XDS_CDS, SV("\x0a\x7f"
                                                   "abc"))
                         .n,
                     0);
    assert_int_equal(xds_resource_name(XDS_CDS, SV("\x0b")).n, 0);
    assert_int_equal(xds_resource_name(XDS_NDS, SV("\x0a\x03"
                                                   "abc"))
                         .n,
                     0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wildcard),      cmocka_unit_test(test_named),
        cmocka_unit_test(test_wanted_again),  cmocka_unit_test(test_late_resource),
        cmocka_unit_test(test_nack),          cmocka_unit_test(test_reconnect),
        cmocka_unit_test(test_rewarm),        cmocka_unit_test(test_one_outstanding),
        cmocka_unit_test(test_refusals),      cmocka_unit_test(test_random),
        cmocka_unit_test(test_name_of_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
