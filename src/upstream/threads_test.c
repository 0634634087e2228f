/* The room on real threads: two workers open requests while main changes clusters and endpoints.
 * Meant for the thread sanitizer, but holds everywhere: no request may fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include "api/envoy.pb.h"
#include "base/mem.h"
#include "upstream/testing_rig.h"

#define WORKERS   2
#define IN_FLIGHT 8
#define CHANGES   300

struct job {
    struct upstream_worker *w;
    struct loop *loop;
    pthread_t thread;
    struct timer again;
    unsigned in_flight;
    unsigned done, bad;
    bool ending;
};

struct call {
    struct job *job;
    struct upstream_cluster *cluster;
    struct http_stream *stream;
    struct deferred gone;
    unsigned status;
};

static _Atomic bool stop;

static void call_gone(struct deferred *d)
{
    struct call *c = container_of(d, struct call, gone);
    upstream_cluster_unref(c->cluster);
    free(c);
}

static void finish(struct call *c)
{
    struct job *j = c->job;
    j->in_flight--;
    j->done++;
    j->bad += c->status != 200;
    loop_defer(j->loop, &c->gone, call_gone);
}

static void on_head(void *user, struct http_head *head, bool end)
{
    ((struct call *)user)->status = head->status;
}

static void on_close(void *user)
{
    finish(user);
}

static const struct http_stream_events events = {.on_head = on_head, .on_close = on_close};

static void on_ready(void *user, struct http_stream *s, struct upstream_host *host,
                     const struct conn *conn)
{
    struct call *c = user;
    struct arena a;
    struct http_head h;
    http_stream_set_user(s, &events, c);
    arena_init(&a);
    http_head_init(&h, &a);
    h.method = SV("GET");
    h.scheme = SV("http");
    h.authority = upstream_host_info(host)->addr_text;
    h.path = SV("/");
    if (s->ops->send_head(s, &h, true) != 0)
        abort();
    arena_free(&a);
}

static void on_fail(void *user, enum upstream_fail why, struct upstream_host *host, sv details)
{
    finish(user);
}

static const struct upstream_http_cb call_cb = {on_ready, on_fail};

static void on_again(struct timer *t)
{
    struct job *j = container_of(t, struct job, again);
    struct upstream_ctx ctx = {0};
    if (atomic_load(&stop)) {
        if (j->in_flight == 0)
            loop_stop(j->loop);
        else
            timer_set(t, 1);
        return;
    }
    while (j->in_flight < IN_FLIGHT) {
        struct call *c = mem_new(struct call);
        c->job = j;
        c->cluster = upstream_find(j->w, SV("c"));
        if (!c->cluster) {
            free(c);
            break;
        }
        j->in_flight++;
        upstream_http_open(c->cluster, &ctx, &call_cb, c);
    }
    timer_set(t, 1);
}

static void *run(void *arg)
{
    struct job *j = arg;
    loop_run(j->loop);
    return NULL;
}

static void put(struct cluster_manager *cm, const struct pb_message *m, const char *yaml)
{
    struct arena a;
    void *msg;
    struct error err = {0};
    arena_init(&a);
    if (pb_from_text(m, sv_of(yaml), "test", &a, NULL, &msg, &err) != 0)
        fail_msg("%s", err.msg);
    sv packed = pb_encode_arena(m, msg, &a);
    int rc = m == &envoy_Cluster_pb ? cluster_manager_put(cm, packed, &err)
                                    : cluster_manager_endpoints(cm, packed, &err);
    if (rc)
        fail_msg("%s", err.msg);
    arena_free(&a);
}

static void put_endpoints(struct cluster_manager *cm, struct backend *const b[2], int which)
{
    char yaml[1024];
    size_t n =
        (size_t)snprintf(yaml, sizeof yaml, "{cluster_name: c, endpoints: [{lb_endpoints: [");
    for (int i = 0; i < 2; i++)
        if (which & 1 << i)
            n += (size_t)snprintf(yaml + n, sizeof yaml - n,
                                  "{endpoint: {hostname: h%d, address: {socket_address: {address: "
                                  "127.0.0.1, port_value: %u}}}, load_balancing_weight: %d},",
                                  which, addr_port(&b[i]->addr), which + i);
    snprintf(yaml + n, sizeof yaml - n, "]}]}");
    put(cm, &envoy_ClusterLoadAssignment_pb, yaml);
}

static void put_cluster(struct cluster_manager *cm, int version)
{
    char yaml[512];
    snprintf(yaml, sizeof yaml,
             "{name: c, type: EDS, lb_policy: LEAST_REQUEST, connect_timeout: %ds, "
             "eds_cluster_config: {eds_config: {ads: {}}}, circuit_breakers: {thresholds: "
             "[{track_remaining: true}]}}",
             version + 5);
    put(cm, &envoy_Cluster_pb, yaml);
}

static void want_nothing(void *self, sv name, sv config)
{
}

static void nothing(void *self, sv name)
{
}

static void *run_backends(void *arg)
{
    loop_run(arg);
    return NULL;
}

static void changes_while_requests_run(void **state)
{
    struct loop *main = loop_new(NULL), *back = loop_new(NULL);
    struct stats *stats = stats_new();
    struct eds_source eds = {want_nothing, nothing, NULL, false};
    struct cluster_manager_opts o = {.main = main, .stats = stats, .eds = &eds};
    struct cluster_manager *cm = cluster_manager_new(&o);
    struct job jobs[WORKERS] = {{0}};
    struct backend *b[2] = {backend_new(back, "127.0.0.1", 0), backend_new(back, "127.0.0.1", 0)};
    pthread_t back_thread;
    unsigned done = 0, bad = 0;
    put_cluster(cm, 0);
    put_endpoints(cm, b, 3);
    for (int i = 0; i < WORKERS; i++) {
        jobs[i].loop = loop_new(NULL);
        jobs[i].w = upstream_worker_new(cm, jobs[i].loop);
        timer_init(&jobs[i].again, jobs[i].loop, on_again);
        timer_set(&jobs[i].again, 1);
        pthread_create(&jobs[i].thread, NULL, run, &jobs[i]);
    }
    pthread_create(&back_thread, NULL, run_backends, back);
    for (int i = 0; i < CHANGES; i++) {
        struct strbuf out;
        loop_turn(main, 2000000);
        put_endpoints(cm, b, i % 3 + 1);
        if (i % 10 == 9)
            put_cluster(cm, i);
        strbuf_init(&out, 1 << 20);
        cluster_manager_dump_text(cm, &out);
        strbuf_fini(&out);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < WORKERS; i++) {
        pthread_join(jobs[i].thread, NULL);
        upstream_worker_free(jobs[i].w);
        loop_free(jobs[i].loop);
        done += jobs[i].done;
        bad += jobs[i].bad;
    }
    cluster_manager_free(cm);
    loop_stop(back);
    pthread_join(back_thread, NULL);
    backend_free(b[0]);
    backend_free(b[1]);
    loop_free(back);
    loop_free(main);
    stats_free(stats);
    assert_true(done > 100);
    assert_int_equal(bad, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(changes_while_requests_run)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
