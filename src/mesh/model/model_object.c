#include "mesh/model/model.h"

#include <stdlib.h>
#include "base/mem.h"

const char *model_kind_name(enum model_kind k)
{
    static const char *const names[MODEL_KINDS] = {
        [MODEL_SERVICE] = "Service",
        [MODEL_POD] = "Pod",
        [MODEL_ENDPOINT_SLICE] = "EndpointSlice",
        [MODEL_WORKLOAD_ENTRY] = "WorkloadEntry",
        [MODEL_SERVICE_ENTRY] = "ServiceEntry",
        [MODEL_VIRTUAL_SERVICE] = "VirtualService",
        [MODEL_DESTINATION_RULE] = "DestinationRule",
        [MODEL_SIDECAR] = "Sidecar",
        [MODEL_WORKLOAD] = "Workload",
    };
    return k < MODEL_KINDS ? names[k] : "unknown";
}

struct model_object *model_object_new(enum model_kind kind)
{
    struct model_object *o = mem_new(struct model_object);
    refcount_init(&o->refs);
    arena_init_malloc(&o->arena);
    o->kind = kind;
    return o;
}

struct model_object *model_object_ref(struct model_object *o)
{
    refcount_get(&o->refs);
    return o;
}

void model_object_unref(struct model_object *o)
{
    if (!o || !refcount_put(&o->refs))
        return;
    arena_free(&o->arena);
    free(o);
}

/* Both lists are sorted by key: one pass. */
bool model_labels_match(struct model_labels labels, struct model_labels selector)
{
    uint32_t i = 0;
    for (uint32_t s = 0; s < selector.n; s++) {
        while (i < labels.n && sv_cmp(labels.v[i].key, selector.v[s].key) < 0)
            i++;
        if (i == labels.n || !sv_eq(labels.v[i].key, selector.v[s].key) ||
            !sv_eq(labels.v[i].value, selector.v[s].value))
            return false;
    }
    return true;
}

sv model_labels_get(struct model_labels labels, sv key)
{
    for (uint32_t i = 0; i < labels.n; i++) {
        if (sv_eq(labels.v[i].key, key))
            return labels.v[i].value.p ? labels.v[i].value : SV("");
    }
    return (sv){NULL, 0};
}

/* ---- localities ---- */

void model_locality_parse(sv text, char separator, sv *region, sv *zone, sv *sub_zone)
{
    sv rest;

    sv_cut(text, separator, region, &rest);
    sv_cut(rest, separator, zone, &rest);
    sv_cut(rest, separator, sub_zone, &rest);
}

void model_locality_of_labels(struct model_labels labels, sv *region, sv *zone, sv *sub_zone)
{
    sv all = model_labels_get(labels, SV("istio-locality"));

    if (all.n) {
        model_locality_parse(all, '.', region, zone, sub_zone);
        return;
    }
    *region = model_labels_get(labels, SV("topology.kubernetes.io/region"));
    *zone = model_labels_get(labels, SV("topology.kubernetes.io/zone"));
    *sub_zone = model_labels_get(labels, SV("topology.istio.io/subzone"));
}

/* ---- protocols ---- */

static const struct {
    sv text;
    enum model_protocol protocol;
} protocols[] = {
    {SV_INIT("http"), MODEL_HTTP},
    {SV_INIT("http2"), MODEL_HTTP2},
    {SV_INIT("grpc"), MODEL_GRPC},
    {SV_INIT("grpc-web"), MODEL_GRPC_WEB},
    {SV_INIT("https"), MODEL_HTTPS},
    {SV_INIT("tls"), MODEL_TLS},
    {SV_INIT("tcp"), MODEL_TCP},
    {SV_INIT("udp"), MODEL_UDP},
    {SV_INIT("mongo"), MODEL_TCP},
    {SV_INIT("mysql"), MODEL_TCP},
    {SV_INIT("redis"), MODEL_TCP},
    {SV_INIT("kubernetes.io/h2c"), MODEL_HTTP2},
    {SV_INIT("kubernetes.io/ws"), MODEL_HTTP},
    {SV_INIT("kubernetes.io/wss"), MODEL_HTTPS},
};

static bool protocol_find(sv text, enum model_protocol *out)
{
    for (size_t i = 0; i < sizeof protocols / sizeof *protocols; i++) {
        if (sv_eq_icase(text, protocols[i].text)) {
            *out = protocols[i].protocol;
            return true;
        }
    }
    return false;
}

enum model_protocol model_protocol_of(sv app_protocol, sv port_name, sv k8s_protocol)
{
    enum model_protocol p;
    sv head, rest;

    if (sv_eq_icase(k8s_protocol, SV("UDP")))
        return MODEL_UDP;
    if (app_protocol.n && protocol_find(app_protocol, &p))
        return p;
    /* "grpc-web" and "grpc-web-x" before "grpc". */
    if (sv_starts_icase(port_name, SV("grpc-web")) && (port_name.n == 8 || port_name.p[8] == '-'))
        return MODEL_GRPC_WEB;
    sv_cut(port_name, '-', &head, &rest);
    if (head.n && protocol_find(head, &p))
        return p;
    return MODEL_AUTO;
}

bool model_protocol_is_http(enum model_protocol p)
{
    return p == MODEL_HTTP || p == MODEL_HTTP2 || p == MODEL_GRPC || p == MODEL_GRPC_WEB;
}

bool model_grpc_status(sv name, uint32_t *code)
{
    static const char *const names[] = {
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    };

    for (uint32_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (sv_eq_c(name, names[i])) {
            *code = i;
            return true;
        }
    }
    return false;
}
