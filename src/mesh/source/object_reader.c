#include "mesh/source/object_reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "api/istio.pb.h"
#include "api/pb.h"
#include "base/distance.h"
#include "base/strbuf.h"
#include "mesh/model/validate.h"

#define BODY_MAX (8u << 20)

/* What a reader of one kind works with. */
struct reading {
    struct model_object *o;
    const struct node *doc, *spec;
    struct arena *a; /* of the object */
    struct model_problem *problem;
    struct arena *problem_arena;
};

static int fail(struct reading *r, const struct node *at, const char *field, const char *code,
                const char *fmt, ...) PRINTF_LIKE(5, 6);
static int fail(struct reading *r, const struct node *at, const char *field, const char *code,
                const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    r->problem->severity = MODEL_ERROR;
    r->problem->line = at ? at->line : r->doc->line;
    r->problem->field = arena_sv(r->problem_arena, sv_of(field));
    r->problem->code = arena_sv(r->problem_arena, sv_of(code));
    r->problem->text = arena_sv(r->problem_arena, sv_of(text));
    return E_INVALID;
}

/* The decoder's sentence is "FILE:LINE: PATH: WORDS": line and path go where they belong. */
static int fail_decode(struct reading *r, const struct error *err)
{
    sv rest = sv_of(err->msg), line, path, words;
    sv file = r->problem->file;
    uint64_t n;

    fail(r, r->spec, "spec", "ParseError", "%s", err->msg);
    if (!sv_starts(rest, file) || rest.n <= file.n + 1)
        return E_INVALID;
    sv_cut(sv_from(rest, file.n + 1), ':', &line, &rest);
    rest = sv_trim(rest);
    if (sv_to_u64(line, &n) || !sv_starts(rest, SV("spec")) || !sv_cut(rest, ':', &path, &words))
        return E_INVALID;
    r->problem->line = (uint32_t)n;
    r->problem->field = arena_sv(r->problem_arena, path);
    r->problem->text = arena_sv(r->problem_arena, rest);
    return E_INVALID;
}

static sv keep(struct reading *r, const struct node *n, const char *key)
{
    sv v = node_str(n, key);
    return v.n ? arena_sv(r->a, v) : (sv){NULL, 0};
}

/* ---- labels ---- */

static int by_key(const void *a, const void *b)
{
    return sv_cmp(((const struct model_label *)a)->key, ((const struct model_label *)b)->key);
}

static int read_labels(struct reading *r, const struct node *n, const char *field,
                       struct model_labels *out)
{
    struct model_label *v;

    *out = (struct model_labels){NULL, 0};
    if (!n || n->kind == NODE_NULL)
        return 0;
    if (n->kind != NODE_MAP)
        return fail(r, n, field, "ParseError", "must be a map of strings");
    v = arena_array(r->a, struct model_label, n->n + 1);
    for (uint32_t i = 0; i < n->n; i++) {
        if (n->v[i]->kind != NODE_SCALAR)
            return fail(r, n->v[i], field, "ParseError", "the value of '%.*s' must be a string",
                        SV_ARG(n->keys[i]));
        v[i].key = arena_sv(r->a, n->keys[i]);
        v[i].value = arena_sv(r->a, n->v[i]->text);
    }
    if (n->n > 1)
        qsort(v, n->n, sizeof *v, by_key);
    out->v = v;
    out->n = n->n;
    return 0;
}

/* ---- Service ---- */

static int read_port_number(struct reading *r, const struct node *n, const char *key,
                            const char *field, uint16_t *out)
{
    const struct node *v = node_get(n, key);
    uint64_t x;

    if (!v || v->kind != NODE_SCALAR || sv_to_u64(v->text, &x) || x < 1 || x > 65535)
        return fail(r, v ? v : n, field, "InvalidPort", "%s must be a port number, 1 to 65535",
                    key);
    *out = (uint16_t)x;
    return 0;
}

static int read_service_port(struct reading *r, const struct node *n, uint32_t i,
                             struct model_port *p)
{
    char field[64];
    const struct node *target = node_get(n, "targetPort");
    uint64_t x;
    int rc;

    snprintf(field, sizeof field, "spec.ports[%u].port", i);
    rc = read_port_number(r, n, "port", field, &p->port);
    if (rc)
        return rc;
    p->line = n->line;
    p->name = keep(r, n, "name");
    p->protocol = model_protocol_of(node_str(n, "appProtocol"), p->name, node_str(n, "protocol"));
    if (target && target->kind == NODE_SCALAR && target->text.n) {
        if (sv_to_u64(target->text, &x))
            p->target_name = arena_sv(r->a, target->text);
        else if (x >= 1 && x <= 65535)
            p->target_port = (uint16_t)x;
        else
            return fail(r, target, "spec.ports.targetPort", "InvalidPort",
                        "targetPort must be a port number, 1 to 65535, or a port's name");
    } else {
        p->target_port = p->port;
    }
    return 0;
}

static const sv *read_list(struct reading *r, const struct node *n, uint32_t *count)
{
    sv *v;
    *count = 0;
    if (!n || n->kind != NODE_SEQ)
        return NULL;
    v = arena_array(r->a, sv, n->n + 1);
    for (uint32_t i = 0; i < n->n; i++) {
        if (n->v[i]->kind == NODE_SCALAR)
            v[(*count)++] = arena_sv(r->a, n->v[i]->text);
    }
    return v;
}

/* A comma separated annotation. */
static const sv *split_list(struct reading *r, sv text, uint32_t *count)
{
    sv *v = arena_array(r->a, sv, text.n + 1), head;
    *count = 0;
    while (text.n) {
        sv_cut(text, ',', &head, &text);
        head = sv_trim(head);
        if (head.n)
            v[(*count)++] = head;
    }
    return v;
}

static int read_service(struct reading *r)
{
    struct model_service_spec *s = arena_new(r->a, struct model_service_spec);
    const struct node *ports = node_get(r->spec, "ports");
    struct model_port *list;
    int rc = read_labels(r, node_get(r->spec, "selector"), "spec.selector", &s->selector);

    if (rc)
        return rc;
    s->selects = s->selector.n > 0;
    s->external_name = keep(r, r->spec, "externalName");
    s->cluster_ip = keep(r, r->spec, "clusterIP");
    s->headless = sv_eq_c(s->cluster_ip, "None");
    s->cluster_ips = read_list(r, node_get(r->spec, "clusterIPs"), &s->n_cluster_ips);
    s->export_to =
        split_list(r, model_labels_get(r->o->annotations, SV("networking.istio.io/exportTo")),
                   &s->n_export_to);
    if (ports && ports->kind == NODE_SEQ) {
        list = arena_array(r->a, struct model_port, ports->n + 1);
        for (uint32_t i = 0; i < ports->n; i++) {
            rc = read_service_port(r, ports->v[i], i, &list[i]);
            if (rc)
                return rc;
        }
        s->ports = list;
        s->n_ports = ports->n;
    }
    if (!s->n_ports && !s->external_name.n)
        return fail(r, r->spec, "spec.ports", "InvalidService",
                    "a Service needs at least one port");
    r->o->spec = s;
    return 0;
}

/* ---- Pod ---- */

static bool pod_condition(const struct node *status, const char *type)
{
    const struct node *list = node_get(status, "conditions");
    for (uint32_t i = 0; list && list->kind == NODE_SEQ && i < list->n; i++) {
        if (sv_eq_c(node_str(list->v[i], "type"), type))
            return sv_eq_c(node_str(list->v[i], "status"), "True");
    }
    return false;
}

static void read_container_ports(struct reading *r, struct model_pod_spec *p)
{
    const struct node *list = node_get(r->spec, "containers");
    struct model_port *out;
    uint32_t n = 0;

    if (!list || list->kind != NODE_SEQ)
        return;
    for (uint32_t i = 0; i < list->n; i++) {
        const struct node *ports = node_get(list->v[i], "ports");
        n += ports && ports->kind == NODE_SEQ ? ports->n : 0;
        if (sv_eq_c(node_str(list->v[i], "name"), "istio-proxy"))
            p->sidecar = true;
    }
    out = arena_array(r->a, struct model_port, n + 1);
    for (uint32_t i = 0; i < list->n; i++) {
        const struct node *ports = node_get(list->v[i], "ports");
        for (uint32_t j = 0; ports && ports->kind == NODE_SEQ && j < ports->n; j++) {
            int64_t number = node_int(ports->v[j], "containerPort", 0);
            if (number < 1 || number > 65535)
                continue;
            out[p->n_ports].name = keep(r, ports->v[j], "name");
            out[p->n_ports++].port = (uint16_t)number;
        }
    }
    p->ports = out;
}

static int read_pod(struct reading *r)
{
    struct model_pod_spec *p = arena_new(r->a, struct model_pod_spec);
    const struct node *status = node_get(r->doc, "status"), *ips = node_get(status, "podIPs");
    sv phase = node_str(status, "phase"), first = node_str(status, "podIP");
    sv *list = arena_array(r->a, sv, (ips && ips->kind == NODE_SEQ ? ips->n : 0) + 1);

    if (first.n)
        list[p->n_ips++] = arena_sv(r->a, first);
    for (uint32_t i = 0; ips && ips->kind == NODE_SEQ && i < ips->n; i++) {
        sv ip = node_str(ips->v[i], "ip");
        if (ip.n && !sv_eq(ip, first))
            list[p->n_ips++] = arena_sv(r->a, ip);
    }
    p->ips = list;
    p->service_account = keep(r, r->spec, "serviceAccountName");
    if (!p->service_account.n)
        p->service_account = SV("default");
    p->node = keep(r, r->spec, "nodeName");
    p->terminating = node_str(node_get(r->doc, "metadata"), "deletionTimestamp").n > 0;
    /* A Pod in a file may leave the status' conditions out: then it counts as ready. */
    p->ready = !p->terminating && !sv_eq_c(phase, "Failed") && !sv_eq_c(phase, "Succeeded") &&
               (!node_get(status, "conditions") || pod_condition(status, "Ready"));
    model_locality_of_labels(r->o->labels, &p->region, &p->zone, &p->sub_zone);
    p->sidecar = model_labels_get(r->o->labels, SV("security.istio.io/tlsMode")).n > 0 ||
                 model_labels_get(r->o->annotations, SV("sidecar.istio.io/status")).n > 0;
    read_container_ports(r, p);
    r->o->spec = p;
    return 0;
}

/* ---- EndpointSlice ---- */

static int read_slice(struct reading *r)
{
    struct model_slice_spec *s = arena_new(r->a, struct model_slice_spec);
    const struct node *eps = node_get(r->doc, "endpoints"), *ports = node_get(r->doc, "ports");
    struct model_slice_endpoint *list;
    struct model_port *pl;

    s->service = model_labels_get(r->o->labels, SV("kubernetes.io/service-name"));
    if (!s->service.n)
        return fail(r, r->doc, "metadata.labels", "InvalidEndpointSlice",
                    "an EndpointSlice needs the label kubernetes.io/service-name");
    if (eps && eps->kind == NODE_SEQ) {
        list = arena_array(r->a, struct model_slice_endpoint, eps->n + 1);
        for (uint32_t i = 0; i < eps->n; i++) {
            const struct node *c = node_get(eps->v[i], "conditions");
            list[i].addresses =
                read_list(r, node_get(eps->v[i], "addresses"), &list[i].n_addresses);
            list[i].ready = node_bool(c, "ready", true);
            list[i].serving = node_bool(c, "serving", list[i].ready);
            list[i].terminating = node_bool(c, "terminating", false);
            list[i].zone = keep(r, eps->v[i], "zone");
            list[i].node = keep(r, eps->v[i], "nodeName");
            list[i].pod = keep(r, node_get(eps->v[i], "targetRef"), "name");
        }
        s->endpoints = list;
        s->n_endpoints = eps->n;
    }
    if (ports && ports->kind == NODE_SEQ) {
        pl = arena_array(r->a, struct model_port, ports->n + 1);
        for (uint32_t i = 0; i < ports->n; i++) {
            int rc = read_port_number(r, ports->v[i], "port", "ports.port", &pl[i].port);
            if (rc)
                return rc;
            pl[i].name = keep(r, ports->v[i], "name");
        }
        s->ports = pl;
        s->n_ports = ports->n;
    }
    r->o->spec = s;
    return 0;
}

/* ---- Istio kinds: by descriptor ---- */

static int read_message(struct reading *r, const struct pb_message *m)
{
    struct error err = {0};
    void *out;
    sv packed;
    int rc;

    if (!r->spec || r->spec->kind != NODE_MAP)
        return fail(r, r->doc, "spec", "ParseError", "spec is missing");
    /* Through the packed form, so that nothing of the object points into the document. */
    rc = pb_from_node(m, r->spec, r->problem_arena, &(struct pb_opts){.path = "spec"}, &out, &err);
    if (rc)
        return fail_decode(r, &err);
    packed = pb_encode_arena(m, out, r->a);
    rc = pb_decode(m, packed, r->a, NULL, &out, &err);
    if (rc)
        return fail(r, r->spec, "spec", "ParseError", "%s", err.msg);
    r->o->spec = out;
    return 0;
}

static int read_workload_entry(struct reading *r)
{
    const struct istio_WorkloadEntry *w;
    struct model_label *v;
    uint32_t n;
    int rc = read_message(r, &istio_WorkloadEntry_pb);

    if (rc)
        return rc;
    /* spec.labels are the workload's labels; metadata.labels only add to them. */
    w = r->o->spec;
    n = r->o->labels.n;
    v = arena_array(r->a, struct model_label, n + w->labels.n + 1);
    if (n)
        memcpy(v, r->o->labels.v, n * sizeof *v);
    for (uint32_t i = 0; i < w->labels.n; i++) {
        uint32_t at = 0;
        while (at < n && !sv_eq(v[at].key, w->labels.v[i]->key))
            at++;
        v[at] = (struct model_label){w->labels.v[i]->key, w->labels.v[i]->value};
        n += at == n;
    }
    if (n > 1)
        qsort(v, n, sizeof *v, by_key);
    r->o->labels = (struct model_labels){v, n};
    return 0;
}

static int read_sidecar(struct reading *r)
{
    return read_message(r, &istio_Sidecar_pb);
}

static int read_service_entry(struct reading *r)
{
    return read_message(r, &istio_ServiceEntry_pb);
}

static int read_virtual_service(struct reading *r)
{
    return read_message(r, &istio_VirtualService_pb);
}

static int read_destination_rule(struct reading *r)
{
    return read_message(r, &istio_DestinationRule_pb);
}

static const struct {
    const char *kind;
    const char *group; /* before the '/', "" for the core group */
    enum model_kind model;
    int (*read)(struct reading *r);
} kinds[] = {
    {"Service", "", MODEL_SERVICE, read_service},
    {"Pod", "", MODEL_POD, read_pod},
    {"EndpointSlice", "discovery.k8s.io", MODEL_ENDPOINT_SLICE, read_slice},
    {"WorkloadEntry", "networking.istio.io", MODEL_WORKLOAD_ENTRY, read_workload_entry},
    {"Sidecar", "networking.istio.io", MODEL_SIDECAR, read_sidecar},
    {"ServiceEntry", "networking.istio.io", MODEL_SERVICE_ENTRY, read_service_entry},
    {"VirtualService", "networking.istio.io", MODEL_VIRTUAL_SERVICE, read_virtual_service},
    {"DestinationRule", "networking.istio.io", MODEL_DESTINATION_RULE, read_destination_rule},
};
#define N_KINDS (sizeof kinds / sizeof *kinds)

/* "networking.istio.io/v1" is of the group; so are v1beta1 and v1alpha3. */
static bool group_matches(sv api_version, const char *group)
{
    sv head, rest;
    if (!*group)
        return sv_eq_c(api_version, "v1");
    return sv_cut(api_version, '/', &head, &rest) && sv_eq_c(head, group) &&
           (sv_eq_c(rest, "v1") || sv_eq_c(rest, "v1beta1") || sv_eq_c(rest, "v1alpha3"));
}

bool object_identify(const struct node *doc, sv default_ns, enum model_kind *kind, sv *ns, sv *name)
{
    const struct node *meta = node_get(doc, "metadata");
    sv k = node_str(doc, "kind");

    for (size_t i = 0; i < N_KINDS; i++) {
        if (!sv_eq_c(k, kinds[i].kind))
            continue;
        *kind = kinds[i].model;
        *name = node_str(meta, "name");
        *ns = node_str(meta, "namespace");
        if (!ns->n)
            *ns = default_ns;
        return name->n > 0;
    }
    return false;
}

static bool name_ok(sv v)
{
    if (!v.n || v.n > 253)
        return false;
    for (size_t i = 0; i < v.n; i++) {
        char c = v.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.'))
            return false;
    }
    return true;
}

static uint64_t parse_time(sv v)
{
    struct tm tm = {0};
    char text[40];
    time_t t;

    if (!v.n || v.n >= sizeof text)
        return 0;
    memcpy(text, v.p, v.n);
    text[v.n] = 0;
    if (!strptime(text, "%Y-%m-%dT%H:%M:%S", &tm))
        return 0;
    t = timegm(&tm);
    return t < 0 ? 0 : (uint64_t)t * 1000000000u;
}

/* The hash of everything that counts: not resourceVersion, managedFields or status' heartbeats. */
static uint64_t body_version(const struct node *doc)
{
    static const char *const parts[] = {"metadata", "spec", "endpoints", "ports", "status"};
    struct strbuf s;
    uint64_t h = 1;

    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const struct node *n = node_get(doc, parts[i]);
        if (!n)
            continue;
        strbuf_init(&s, BODY_MAX);
        if (i == 0) {
            static const char *const meta[] = {
                "name",        "namespace",         "labels",
                "annotations", "deletionTimestamp", "creationTimestamp"};
            for (size_t m = 0; m < sizeof meta / sizeof *meta; m++) {
                const struct node *x = node_get(n, meta[m]);
                if (x)
                    node_to_json(x, &s);
                strbuf_add_ch(&s, ';');
            }
        } else {
            node_to_json(n, &s);
        }
        h = h * 1099511628211u ^ sv_hash_stable(strbuf_sv(&s)) ^ i;
        strbuf_fini(&s);
    }
    return h;
}

static int read_metadata(struct reading *r, sv ns, sv name, sv file)
{
    const struct node *meta = node_get(r->doc, "metadata");
    int rc;

    r->o->ns = arena_sv(r->a, ns);
    r->o->name = arena_sv(r->a, name);
    r->o->file = arena_sv(r->a, file);
    r->o->line = r->doc->line;
    r->o->created_ns = parse_time(node_str(meta, "creationTimestamp"));
    r->o->version = body_version(r->doc);
    if (!name_ok(name))
        return fail(r, node_get(meta, "name"), "metadata.name", "InvalidName",
                    "'%.*s' is no valid name: lower-case letters, digits, '-' and '.'",
                    SV_ARG(name));
    rc = read_labels(r, node_get(meta, "labels"), "metadata.labels", &r->o->labels);
    return rc ? rc
              : read_labels(r, node_get(meta, "annotations"), "metadata.annotations",
                            &r->o->annotations);
}

/* ---- kinds that are not read ---- */

static bool is_mesh_group(sv api)
{
    sv group, version;

    sv_cut(api, '/', &group, &version);
    return sv_ends(group, SV("istio.io")) || sv_ends(group, SV("gateway.networking.k8s.io"));
}

static bool runs_containers(sv kind)
{
    static const sv list[] = {SV_INIT("Deployment"), SV_INIT("StatefulSet"), SV_INIT("DaemonSet"),
                              SV_INIT("ReplicaSet"), SV_INIT("Job"),         SV_INIT("CronJob")};
    return sv_in(kind, list, sizeof list / sizeof *list);
}

static void not_used(struct reading *r, sv api, sv kind, sv default_ns)
{
    const struct node *meta = node_get(r->doc, "metadata");
    sv ns = node_str(meta, "namespace"), group = {NULL, 0};
    const char *near = NULL, *remedy = "";
    unsigned least = (unsigned)(kind.n / 4) + 1;
    bool warn = is_mesh_group(api);

    for (size_t k = 0; k < N_KINDS; k++) {
        unsigned d = name_distance(kind, sv_of(kinds[k].kind));
        if (d >= least || !*kinds[k].group) /* "Service" is near to too much, and has one group */
            continue;
        least = d;
        near = kinds[k].kind;
        group = sv_of(kinds[k].group);
    }
    if (near && (warn || least == 0)) {
        warn = true;
        remedy =
            sv_eq_c(kind, near)
                ? arena_printf(r->problem_arena, ". Write apiVersion: %.*s/v1", SV_ARG(group)).p
                : arena_printf(r->problem_arena, "; did you mean %s?", near).p;
    } else if (runs_containers(kind)) {
        remedy = ". Run its commands with weft run";
    }
    r->problem->severity = warn ? MODEL_WARNING : MODEL_HINT;
    r->problem->code = SV("KindNotUsed");
    r->problem->text = arena_printf(
        r->problem_arena, "%.*s %.*s/%.*s (%.*s) is not used by the mesh%s", SV_ARG(kind),
        SV_ARG(ns.n ? ns : default_ns), SV_ARG(node_str(meta, "name")), SV_ARG(api), remedy);
}

int object_read(const struct node *doc, sv file, sv default_ns, struct arena *a,
                struct model_object **out, struct model_problem *problem)
{
    struct reading r = {.doc = doc, .problem = problem, .problem_arena = a};
    sv kind = node_str(doc, "kind"), api = node_str(doc, "apiVersion"), ns, name;
    enum model_kind model;
    size_t k = 0;
    int rc;

    *problem = (struct model_problem){.file = arena_sv(a, file), .line = doc->line};
    if (doc->kind != NODE_MAP || !kind.n || !api.n)
        return fail(&r, doc, "", "ParseError",
                    "the document has no apiVersion and kind: it is no Kubernetes object");
    while (k < N_KINDS && !(sv_eq_c(kind, kinds[k].kind) && group_matches(api, kinds[k].group)))
        k++;
    if (k == N_KINDS) {
        *out = NULL;
        not_used(&r, api, kind, default_ns);
        return 0;
    }
    if (!object_identify(doc, default_ns, &model, &ns, &name))
        return fail(&r, doc, "metadata.name", "ParseError", "%s has no metadata.name",
                    kinds[k].kind);
    problem->has_object = true;
    problem->kind = model;
    problem->ns = arena_sv(a, ns);
    problem->name = arena_sv(a, name);
    r.o = model_object_new(model);
    r.a = &r.o->arena;
    r.spec = node_get(doc, "spec");
    rc = read_metadata(&r, ns, name, file);
    if (!rc)
        rc = kinds[k].read(&r);
    if (!rc)
        rc = model_validate(r.o, doc, a, problem);
    if (rc) {
        model_object_unref(r.o);
        return rc;
    }
    /* There are few of the others; these come by the thousand. */
    if (model != MODEL_POD && model != MODEL_ENDPOINT_SLICE && model != MODEL_SERVICE)
        r.o->tree = node_outline(doc, r.a);
    *out = r.o;
    return 0;
}
