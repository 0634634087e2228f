/* Many simulated sidecars in one process: each has a connection and a delta ADS stream of its own
 * to a control plane, subscribes as a sidecar does (clusters, then their endpoints, listeners, then
 * their routes, virtual hosts as weft-proxy does, names) and acknowledges everything. It keeps no
 * configuration, only counts.
 *
 *   sidecars TARGET [NAMESPACES [apart | whole]]   TARGET: address of plaintext discovery,
 * "127.0.0.1:15010"; whole: route tables with their virtual hosts inside
 *
 * Commands come on standard input, one a line, each answered by one line of JSON:
 *
 *   start N           N more sidecars connect now; answers when all are in sync, or after a minute
 *   mark              counts of responses and bytes begin anew, and so does the time of `wait`
 *   wait TYPE N MS    until N sidecars have had a response of TYPE since the mark (CDS, EDS, ...),
 * or MS have passed count MS          what came within MS after the mark: bytes, responses by type
 *   end               all connections close
 *
 * Thread: one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "api/envoy.pb.h"
#include "api/pb_struct.h"
#include "base/map.h"
#include "base/mem.h"
#include "grpc/grpc.h"
#include "serve/serve_client.h"
#include "xds/xds_type.h"

#define MESSAGE_MAX (256u << 20)
#define SYNC_MAX_MS 60000
#define POLL_MS     2

/* What a cluster or listener makes a sidecar ask for; learned once for each version of it. */
struct needs {
    sv *names;
    uint32_t n;
};

struct sidecar {
    struct serve_client *client;
    struct grpc_call *call;
    unsigned number;
    uint32_t asked[XDS_TYPES], got[XDS_TYPES]; /* names; responses for the wildcard types */
    bool fresh[XDS_TYPES];                     /* a response since the mark */
    struct map names[XDS_TYPES];               /* subscribed: EDS and RDS */
    bool broken;
};

static struct loop *loop;
static const char *target;
static unsigned n_namespaces = 1, n_sidecars, n_broken;
static bool hosts_apart = true;
static struct sidecar **all;
static struct map known; /* "TYPE|version|name" -> struct needs */
static struct arena forever;
static uint64_t marked_ms, bytes, responses[XDS_TYPES], resources[XDS_TYPES];
static uint32_t n_fresh[XDS_TYPES];

/* ---- what resources ask for ---- */

static void need(struct needs *n, sv name)
{
    n->names = mem_realloc(n->names, (n->n + 1) * sizeof *n->names);
    n->names[n->n++] = arena_sv(&forever, name);
}

static void cluster_needs(const struct google_Any *any, struct needs *out)
{
    struct error err = {0};
    struct arena a;
    void *msg;

    arena_init(&a);
    if (pb_any_unpack(any, &envoy_Cluster_pb, &a, NULL, &msg, &err)) {
        fprintf(stderr, "sidecars: %s\n", err.msg);
    } else {
        const struct envoy_Cluster *c = msg;
        if (c->which_cluster_discovery_type == envoy_Cluster_type_tag &&
            c->type == envoy_Cluster_EDS)
            need(out, c->eds_cluster_config && c->eds_cluster_config->service_name.n
                          ? c->eds_cluster_config->service_name
                          : c->name);
    }
    arena_free(&a);
}

static void chain_needs(const struct envoy_FilterChain *chain, struct arena *a, struct needs *out)
{
    for (uint32_t i = 0; chain && i < chain->filters.n; i++) {
        const struct google_Any *any = chain->filters.v[i]->typed_config;
        struct error err = {0};
        void *msg;
        if (!any || pb_any_unpack(any, &envoy_HttpConnectionManager_pb, a, NULL, &msg, &err))
            continue;
        const struct envoy_HttpConnectionManager *m = msg;
        if (m->rds)
            need(out, m->rds->route_config_name);
    }
}

static void listener_needs(const struct google_Any *any, struct needs *out)
{
    struct error err = {0};
    struct arena a;
    void *msg;

    arena_init(&a);
    if (pb_any_unpack(any, &envoy_Listener_pb, &a, NULL, &msg, &err)) {
        fprintf(stderr, "sidecars: %s\n", err.msg);
    } else {
        const struct envoy_Listener *l = msg;
        for (uint32_t i = 0; i < l->filter_chains.n; i++)
            chain_needs(l->filter_chains.v[i], &a, out);
        chain_needs(l->default_filter_chain, &a, out);
    }
    arena_free(&a);
}

static const struct needs *needs_of(enum xds_type t, const struct envoy_Resource *r)
{
    char key[1024];
    struct needs *n;
    int len =
        snprintf(key, sizeof key, "%d|%.*s|%.*s", (int)t, SV_ARG(r->version), SV_ARG(r->name));

    n = map_get(&known, sv_make(key, (size_t)len));
    if (n)
        return n;
    n = mem_new(struct needs);
    if (t == XDS_CDS)
        cluster_needs(r->resource, n);
    else
        listener_needs(r->resource, n);
    map_put(&known, sv_make(key, (size_t)len), n);
    return n;
}

/* ---- one sidecar ---- */

static void send_request(struct sidecar *s, const struct envoy_DeltaDiscoveryRequest *r)
{
    struct arena a;
    arena_init(&a);
    grpc_send(s->call, pb_encode_arena(&envoy_DeltaDiscoveryRequest_pb, r, &a));
    arena_free(&a);
}

static void hello(struct sidecar *s)
{
    static const sv features[] = {SV_INIT(XDS_FEATURE_VHDS)};
    struct arena a;
    arena_init(&a);
    sv ns = arena_printf(&a, "bench-%u", s->number % n_namespaces);
    struct google_Struct *labels = pb_struct_new(&a, 1), *metadata = pb_struct_new(&a, 4);
    pb_struct_put_text(labels, &a, SV("app"), arena_printf(&a, "sim-%u", s->number));
    pb_struct_put_text(metadata, &a, SV("NAMESPACE"), ns);
    pb_struct_put_text(metadata, &a, SV("SERVICE_ACCOUNT"), SV("default"));
    pb_struct_put_text(metadata, &a, SV("DNS_CAPTURE"), SV("true"));
    pb_struct_put_table(metadata, &a, SV("LABELS"), labels);
    struct envoy_Node node = {
        .id =
            arena_printf(&a, "sidecar~10.200.%u.%u~sim-%u.%.*s~%.*s.svc.cluster.local",
                         s->number / 250 % 250, s->number % 250, s->number, SV_ARG(ns), SV_ARG(ns)),
        .cluster = SV("sim"),
        .metadata = metadata,
        .client_features = {.v = (sv *)features, .n = hosts_apart}};
    struct envoy_DeltaDiscoveryRequest r = {.node = &node, .type_url = xds_type_url(XDS_CDS)};

    send_request(s, &r);
    r = (struct envoy_DeltaDiscoveryRequest){.type_url = xds_type_url(XDS_LDS)};
    send_request(s, &r);
    r = (struct envoy_DeltaDiscoveryRequest){.type_url = xds_type_url(XDS_NDS)};
    send_request(s, &r);
    arena_free(&a);
}

static void subscribe(struct sidecar *s, enum xds_type t, const struct needs *const *lists,
                      uint32_t n_lists)
{
    struct envoy_DeltaDiscoveryRequest r = {.type_url = xds_type_url(t)};
    struct arena a;
    uint32_t most = 0;

    for (uint32_t i = 0; i < n_lists; i++)
        most += lists[i]->n;
    arena_init(&a);
    r.resource_names_subscribe.v = arena_array(&a, sv, most + 1);
    for (uint32_t i = 0; i < n_lists; i++) {
        for (uint32_t k = 0; k < lists[i]->n; k++) {
            sv name = lists[i]->names[k];
            if (map_has(&s->names[t], name))
                continue;
            map_put(&s->names[t], name, s);
            s->asked[t]++;
            r.resource_names_subscribe.v[r.resource_names_subscribe.n++] = name;
        }
    }
    if (r.resource_names_subscribe.n)
        send_request(s, &r);
    arena_free(&a);
}

static void take(struct sidecar *s, enum xds_type t, const struct envoy_DeltaDiscoveryResponse *r)
{
    const struct needs **lists = mem_alloc((r->resources.n + 1) * sizeof *lists);
    uint32_t n = 0;

    if (t == XDS_CDS || t == XDS_LDS) {
        for (uint32_t i = 0; i < r->resources.n; i++)
            lists[n++] = needs_of(t, r->resources.v[i]);
    }
    struct envoy_DeltaDiscoveryRequest ack = {.type_url = xds_type_url(t),
                                              .response_nonce = r->nonce};
    send_request(s, &ack);
    if (t == XDS_RDS && hosts_apart && !s->asked[XDS_VHDS]) {
        s->asked[XDS_VHDS] = 1;
        ack = (struct envoy_DeltaDiscoveryRequest){.type_url = xds_type_url(XDS_VHDS)};
        send_request(s, &ack);
    }
    if (n)
        subscribe(s, t == XDS_CDS ? XDS_EDS : XDS_RDS, lists, n);
    free(lists);
}

static void on_message(void *user, struct buf *msg, sv packed)
{
    struct sidecar *s = user;
    struct error err = {0};
    struct arena a;
    enum xds_type t;
    void *out;

    arena_init(&a);
    if (pb_decode(&envoy_DeltaDiscoveryResponse_pb, packed, &a,
                  &(struct pb_opts){.allow_unknown = true}, &out, &err)) {
        fprintf(stderr, "sidecars: %s\n", err.msg);
    } else {
        const struct envoy_DeltaDiscoveryResponse *r = out;
        if (xds_type_find(r->type_url, &t)) {
            bytes += packed.n;
            responses[t]++;
            resources[t] += r->resources.n;
            s->got[t] += xds_type_wildcard(t) ? 1 : r->resources.n + r->removed_resources.n;
            if (!s->fresh[t]) {
                s->fresh[t] = true;
                n_fresh[t]++;
            }
            take(s, t, r);
        }
    }
    arena_free(&a);
}

static void on_done(void *user, const struct grpc_result *r)
{
    struct sidecar *s = user;
    fprintf(stderr, "sidecars: number %u: stream ended: %d %.*s\n", s->number, r->code,
            SV_ARG(r->message));
    s->broken = true;
    n_broken++;
    s->call = NULL;
}

static const struct grpc_call_events events = {.on_message = on_message, .on_done = on_done};

static bool in_sync(const struct sidecar *s)
{
    return s->got[XDS_CDS] && s->got[XDS_LDS] && s->got[XDS_NDS] &&
           s->got[XDS_EDS] >= s->asked[XDS_EDS] && s->got[XDS_RDS] >= s->asked[XDS_RDS] &&
           s->got[XDS_VHDS] >= s->asked[XDS_VHDS];
}

static struct sidecar *sidecar_new(unsigned number)
{
    struct sidecar *s = mem_new(struct sidecar);
    struct error err = {0};

    s->number = number;
    for (int t = 0; t < XDS_TYPES; t++)
        map_init_borrow(&s->names[t]);
    s->client = serve_client_new(
        &(struct serve_client_opts){
            .loop = loop, .target = sv_of(target), .protocol = SERVE_HTTP2, .max_conns = 1},
        &err);
    if (!s->client) {
        fprintf(stderr, "sidecars: %s\n", err.msg);
        exit(1);
    }
    s->call =
        grpc_call_start(serve_client_channel(s->client),
                        sv_of(envoy_AggregatedDiscoveryService_DeltaAggregatedResources_PATH), NULL,
                        &(struct grpc_opts){.max_message_bytes = MESSAGE_MAX}, &events, s);
    hello(s);
    return s;
}

static void sidecar_free(struct sidecar *s)
{
    if (s->call)
        grpc_cancel(s->call);
    serve_client_free(s->client);
    for (int t = 0; t < XDS_TYPES; t++)
        map_fini(&s->names[t]);
    free(s);
}

/* ---- commands ---- */

/* Turns of the loop until `met` says so, or the time is over. True if it was met. */
static bool run_until(uint64_t end_ms, bool (*met)(const void *arg), const void *arg)
{
    do {
        if (met(arg))
            return true;
        loop_turn(loop, POLL_MS * 1000000ull);
    } while (loop_now_ms(loop) < end_ms);
    return met(arg);
}

static bool all_in_sync(const void *arg)
{
    for (unsigned i = 0; i < n_sidecars; i++) {
        if (!in_sync(all[i]) && !all[i]->broken)
            return false;
    }
    return true;
}

struct wish {
    enum xds_type t;
    uint32_t n;
};

static bool enough(const void *arg)
{
    const struct wish *w = arg;
    return n_fresh[w->t] >= w->n;
}

static bool never(const void *arg)
{
    return false;
}

static void report(const char *what, bool ok, uint64_t since_ms)
{
    printf("{\"%s\": %s, \"ms\": %lu, \"sidecars\": %u, \"broken\": %u, \"bytes\": %lu", what,
           ok ? "true" : "false", (unsigned long)(loop_clock_ns(loop) / 1000000 - since_ms),
           n_sidecars, n_broken, (unsigned long)bytes);
    for (int t = 0; t < XDS_TYPES; t++)
        printf(", \"%s\": [%u, %lu, %lu]", xds_type_short((enum xds_type)t), n_fresh[t],
               (unsigned long)responses[t], (unsigned long)resources[t]);
    printf("}\n");
    fflush(stdout);
}

static void mark(void)
{
    bytes = 0;
    memset(responses, 0, sizeof responses);
    memset(resources, 0, sizeof resources);
    memset(n_fresh, 0, sizeof n_fresh);
    for (unsigned i = 0; i < n_sidecars; i++)
        memset(all[i]->fresh, 0, sizeof all[i]->fresh);
    marked_ms = loop_clock_ns(loop) / 1000000;
}

static void start(unsigned n)
{
    mark();
    all = mem_realloc(all, (n_sidecars + n) * sizeof *all);
    for (unsigned i = 0; i < n; i++, n_sidecars++)
        all[n_sidecars] = sidecar_new(n_sidecars);
    report("synced", run_until(marked_ms + SYNC_MAX_MS, all_in_sync, NULL), marked_ms);
}

static bool command(const char *line)
{
    char type[8];
    unsigned n, ms;

    if (sscanf(line, "start %u", &n) == 1) {
        start(n);
    } else if (!strcmp(line, "mark\n")) {
        mark();
        report("marked", true, marked_ms);
    } else if (sscanf(line, "wait %7s %u %u", type, &n, &ms) == 3) {
        struct wish w = {.t = XDS_TYPES, .n = n};
        for (int t = 0; t < XDS_TYPES; t++) {
            if (!strcmp(type, xds_type_short((enum xds_type)t)))
                w.t = (enum xds_type)t;
        }
        if (w.t == XDS_TYPES) {
            printf("{\"error\": \"no type %s\"}\n", type);
            fflush(stdout);
            return true;
        }
        report("met", run_until(marked_ms + ms, enough, &w), marked_ms);
    } else if (sscanf(line, "count %u", &ms) == 1) {
        run_until(marked_ms + ms, never, NULL);
        report("counted", true, marked_ms);
    } else {
        return false;
    }
    return true;
}

/* Between commands the sidecars live on: what comes is acknowledged. */
static bool line_ready(const void *arg)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(0, &set);
    return select(1, &set, NULL, NULL, &(struct timeval){0}) != 0;
}

int main(int argc, char **argv)
{
    struct rlimit files = {65536, 65536};
    char line[256];

    if (argc < 2) {
        fprintf(stderr, "usage: sidecars TARGET [NAMESPACES [apart | whole]]\n");
        return 2;
    }
    target = argv[1];
    if (argc > 2 && atoi(argv[2]) > 0)
        n_namespaces = (unsigned)atoi(argv[2]);
    hosts_apart = argc < 4 || strcmp(argv[3], "whole");
    setrlimit(RLIMIT_NOFILE, &files);
    loop = loop_new(NULL);
    map_init(&known);
    arena_init(&forever);
    setvbuf(stdin, NULL, _IONBF, 0); /* select and fgets agree on what is there */
    do {
        run_until(UINT64_MAX, line_ready, NULL);
    } while (fgets(line, sizeof line, stdin) && command(line));
    for (unsigned i = 0; i < n_sidecars; i++)
        sidecar_free(all[i]);
    free(all);
    map_each (e, &known) {
        free(((struct needs *)e->val)->names);
        free(e->val);
    }
    map_fini(&known);
    arena_free(&forever);
    loop_free(loop);
    return 0;
}
