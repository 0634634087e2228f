/* One set of packed clusters, decoded by weft's runtime and by protobuf-c in turns.
 *
 * Time: median of rounds, all 1,000 clusters decoded and freed. Memory: bytes handed out by the
 * arena, or by malloc as mallinfo2() counts them, while all are held; protobuf-c copies strings,
 * weft's strings are views, so the packed bytes (which stay) are named beside. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "api/envoy.pb.h"
#include "api/google.pb.h"
#include "envoy/config/cluster/v3/cluster.pb-c.h"

enum { CLUSTERS = 1000, ENDPOINTS = 10, ROUNDS = 51 };

static sv packed[CLUSTERS];
static size_t packed_bytes;

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v)
{
    qsort(v, ROUNDS, sizeof *v, by_value);
    return v[ROUNDS / 2];
}

/* As a control plane sends them: discovery by EDS is left out so that endpoints are inline. */
static void make_text(struct strbuf *s, int i)
{
    strbuf_addf(
        s,
        "{\"name\":\"outbound|8080||service-%d.books.svc.cluster.local\",\"type\":\"STATIC\","
        "\"connect_timeout\":\"10s\",\"lb_policy\":\"LEAST_REQUEST\",\"circuit_breakers\":{"
        "\"thresholds\":[{\"max_connections\":4294967295,\"max_pending_requests\":4294967295,"
        "\"max_requests\":4294967295,\"max_retries\":4294967295,\"track_remaining\":true}]},"
        "\"metadata\":{\"filter_metadata\":{\"istio\":{\"services\":[{\"host\":"
        "\"service-%d.books.svc.cluster.local\",\"name\":\"service-%d\",\"namespace\":"
        "\"books\"}]}}},\"load_assignment\":{\"cluster_name\":"
        "\"outbound|8080||service-%d.books.svc.cluster.local\",\"endpoints\":[{\"locality\":{"
        "\"region\":\"r\",\"zone\":\"z\"},\"load_balancing_weight\":%d,\"lb_endpoints\":[",
        i, i, i, i, ENDPOINTS);
    for (int k = 0; k < ENDPOINTS; k++)
        strbuf_addf(
            s,
            "%s{\"endpoint\":{\"address\":{\"socket_address\":{\"address\":\"10.%d.%d.%d\","
            "\"port_value\":8080}}},\"health_status\":\"HEALTHY\",\"load_balancing_weight\":"
            "1,\"metadata\":{\"filter_metadata\":{\"envoy.transport_socket_match\":{"
            "\"tlsMode\":\"istio\"}}}}",
            k ? "," : "", i / 250, i % 250, k + 1);
    strbuf_add_c(s, "]}]}}");
}

static void make_all(struct arena *a)
{
    for (int i = 0; i < CLUSTERS; i++) {
        struct strbuf s;
        struct error err = {0};
        struct arena scratch;
        void *msg;
        arena_init(&scratch);
        strbuf_init(&s, 1 << 20);
        make_text(&s, i);
        if (pb_from_text(&envoy_Cluster_pb, strbuf_sv(&s), "cluster", &scratch, NULL, &msg, &err) <
            0) {
            fprintf(stderr, "%s\n", err.msg);
            exit(1);
        }
        packed[i] = pb_encode_arena(&envoy_Cluster_pb, msg, a);
        packed_bytes += packed[i].n;
        strbuf_fini(&s);
        arena_free(&scratch);
    }
}

static double weft_round(size_t *bytes)
{
    double start = now_ms();
    struct arena a;
    struct error err = {0};
    void *msg;
    arena_init(&a);
    for (int i = 0; i < CLUSTERS; i++)
        if (pb_decode(&envoy_Cluster_pb, packed[i], &a, NULL, &msg, &err) < 0)
            exit(2);
    *bytes = a.used;
    arena_free(&a);
    return now_ms() - start;
}

static double protobuf_c_round(size_t *bytes)
{
    static Envoy__Config__Cluster__V3__Cluster *held[CLUSTERS];
    size_t before = mallinfo2().uordblks;
    double start = now_ms(), spent;
    for (int i = 0; i < CLUSTERS; i++) {
        held[i] = envoy__config__cluster__v3__cluster__unpack(NULL, packed[i].n,
                                                              (const uint8_t *)packed[i].p);
        if (!held[i])
            exit(3);
    }
    spent = now_ms() - start;
    *bytes = mallinfo2().uordblks - before;
    start = now_ms();
    for (int i = 0; i < CLUSTERS; i++)
        envoy__config__cluster__v3__cluster__free_unpacked(held[i], NULL);
    return spent + now_ms() - start;
}

static double weft_encode_round(struct arena *a)
{
    static void *held[CLUSTERS];
    struct error err = {0};
    for (int i = 0; i < CLUSTERS; i++)
        if (pb_decode(&envoy_Cluster_pb, packed[i], a, NULL, &held[i], &err) < 0)
            exit(2);
    struct strbuf s;
    strbuf_init(&s, 1 << 20);
    double start = now_ms();
    for (int i = 0; i < CLUSTERS; i++) {
        strbuf_reset(&s);
        pb_encode(&envoy_Cluster_pb, held[i], &s);
    }
    double spent = now_ms() - start;
    strbuf_fini(&s);
    return spent;
}

static double protobuf_c_encode_round(void)
{
    static Envoy__Config__Cluster__V3__Cluster *held[CLUSTERS];
    static uint8_t out[1 << 16];
    for (int i = 0; i < CLUSTERS; i++)
        held[i] = envoy__config__cluster__v3__cluster__unpack(NULL, packed[i].n,
                                                              (const uint8_t *)packed[i].p);
    double start = now_ms();
    for (int i = 0; i < CLUSTERS; i++)
        envoy__config__cluster__v3__cluster__pack(held[i], out);
    double spent = now_ms() - start;
    for (int i = 0; i < CLUSTERS; i++)
        envoy__config__cluster__v3__cluster__free_unpacked(held[i], NULL);
    return spent;
}

static double text_round(sv text)
{
    double start = now_ms();
    struct arena a;
    struct error err = {0};
    void *msg;
    arena_init_malloc(&a);
    if (pb_from_text(&envoy_Bootstrap_pb, text, "bootstrap", &a, NULL, &msg, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        exit(4);
    }
    arena_free(&a);
    return now_ms() - start;
}

int main(void)
{
    static double w[ROUNDS], p[ROUNDS], we[ROUNDS], pe[ROUNDS], j[ROUNDS];
    size_t weft_bytes = 0, c_bytes = 0;
    struct arena keep;
    struct strbuf text;
    arena_init_malloc(&keep);
    make_all(&keep);
    strbuf_init(&text, (size_t)64 << 20);
    strbuf_add_c(&text, "{\"static_resources\":{\"clusters\":[");
    for (int i = 0; i < CLUSTERS; i++) {
        strbuf_add_c(&text, i ? "," : "");
        make_text(&text, i);
    }
    strbuf_add_c(&text, "]}}");
    for (int i = 0; i < ROUNDS; i++) {
        struct arena a;
        w[i] = weft_round(&weft_bytes);
        p[i] = protobuf_c_round(&c_bytes);
        arena_init(&a);
        we[i] = weft_encode_round(&a);
        arena_free(&a);
        pe[i] = protobuf_c_encode_round();
        j[i] = text_round(strbuf_sv(&text));
    }
    printf("%d clusters x %d endpoints, %zu bytes packed\n", CLUSTERS, ENDPOINTS, packed_bytes);
    printf("%-12s %12s %12s %14s\n", "", "decode ms", "encode ms", "decoded bytes");
    printf("%-12s %12.2f %12.2f %14zu\n", "weft", median(w), median(we), weft_bytes);
    printf("%-12s %12.2f %12.2f %14zu\n", "protobuf-c", median(p), median(pe), c_bytes);
    printf("%zu bytes of JSON to messages: %.2f ms\n", text.n, median(j));
    strbuf_fini(&text);
    arena_free(&keep);
    return 0;
}
