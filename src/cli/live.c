#include "cli/live.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "api/node.h"
#include "cli/cli.h"
#include "cli/explain.h"

#define LINE_MAX_BYTES (1u << 20)
#define PAGE_MAX       (256u << 20)

/* ---- lines ---- */

static sv value(sv v)
{
    return sv_eq_c(v, "-") || sv_eq_c(v, "null") ? (sv){NULL, 0} : v;
}

/* A word, or what stands between quotes (which may hold quotes of their own) or brackets. */
static bool token(sv *rest, sv *out)
{
    char open, close;
    size_t n = 0;

    *rest = sv_trim(*rest);
    if (!rest->n)
        return false;
    open = rest->p[0];
    close = open == '"' ? '"' : open == '[' ? ']' : 0;
    if (!close) {
        sv_cut(*rest, ' ', out, rest);
        *out = value(*out);
        return true;
    }
    for (n = 1; n < rest->n; n++) {
        if (rest->p[n] == close && (n + 1 == rest->n || rest->p[n + 1] == ' '))
            break;
    }
    *out = value(sv_make(rest->p + 1, n - 1));
    *rest = sv_from(*rest, n + 1);
    return true;
}

/* The last one. */
static bool last_token(sv *rest, sv *out)
{
    ptrdiff_t at;
    bool quoted;

    *rest = sv_trim(*rest);
    if (!rest->n)
        return false;
    quoted = rest->n > 1 && rest->p[rest->n - 1] == '"';
    at = sv_rfind(sv_first(*rest, rest->n - quoted), quoted ? '"' : ' ');
    if (quoted && at < 0)
        return false;
    *out = value(sv_make(rest->p + at + 1, rest->n - (size_t)(at + 1) - quoted));
    *rest = sv_first(*rest, at < 0 ? 0 : (size_t)at);
    return true;
}

static bool is_number(sv v)
{
    uint64_t n;
    return sv_to_u64(v, &n) == 0;
}

static int parse_text(sv line, struct live_line *l, struct error *err)
{
    sv request, unused, next, rest = line;
    bool ok = token(&rest, &l->start) && token(&rest, &request) && token(&rest, &l->code) &&
              token(&rest, &l->flags) && token(&rest, &next);

    if (!ok || (l->code.n && !is_number(l->code)))
        return error_set(err, E_INVALID,
                         "this is no line of an access log that weft knows: neither Istio's or "
                         "Envoy's text format nor JSON with Istio's keys");
    sv_cut(request, ' ', &l->method, &request);
    sv_cut(request, ' ', &l->path, &l->protocol);
    l->method = value(l->method);
    l->path = value(l->path);
    /* Envoy's default format goes on with the bytes received. */
    if (is_number(next)) {
        sv *const envoy[] = {&unused, &l->duration,   &unused,       &unused,
                             &unused, &l->request_id, &l->authority, &l->upstream};
        for (size_t i = 0; i < sizeof envoy / sizeof *envoy && token(&rest, envoy[i]); i++)
            continue;
        return 0;
    }
    l->details = next;
    if (!token(&rest, &l->termination) || !token(&rest, &l->transport) || !token(&rest, &unused) ||
        !token(&rest, &unused) || !token(&rest, &l->duration))
        return 0;
    /* The rest from its end: a user agent may hold quotes. */
    sv *const istio[] = {&l->route,   &l->sni,      &unused,       &l->wanted,    &unused,
                         &l->cluster, &l->upstream, &l->authority, &l->request_id};
    for (size_t i = 0; i < sizeof istio / sizeof *istio && last_token(&rest, istio[i]); i++)
        continue;
    return 0;
}

static int parse_json(sv line, struct arena *a, struct live_line *l, struct error *err)
{
    const struct {
        const char *key;
        sv *out;
    } keys[] = {{"start_time", &l->start},
                {"method", &l->method},
                {"path", &l->path},
                {"protocol", &l->protocol},
                {"response_code", &l->code},
                {"response_flags", &l->flags},
                {"response_code_details", &l->details},
                {"connection_termination_details", &l->termination},
                {"upstream_transport_failure_reason", &l->transport},
                {"duration", &l->duration},
                {"authority", &l->authority},
                {"upstream_host", &l->upstream},
                {"upstream_cluster", &l->cluster},
                {"route_name", &l->route},
                {"requested_server_name", &l->sni},
                {"downstream_local_address", &l->wanted},
                {"request_id", &l->request_id}};
    struct node *n;
    int rc = node_parse(arena_sv(a, line), "line", a, &n, err);

    if (rc)
        return error_set(err, E_INVALID, "the line begins like JSON, but is none");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        *keys[i].out = value(node_str(n, keys[i].key));
    if (!l->code.n && !l->flags.n)
        return error_set(err, E_INVALID, "the object has neither response_code nor response_flags");
    return 0;
}

/* The service by the cluster's name; at the server's sidecar, where that has only a port, by the
 * server name that sidecars send: "outbound_.80_.v1_.host". */
static void read_service(struct live_line *l)
{
    sv rest = l->sni;
    ptrdiff_t at;
    uint64_t port;

    if (!translate_cluster_parse(l->cluster, &l->direction, &l->port, &l->subset, &l->host)) {
        l->direction = l->subset = l->host = (sv){NULL, 0};
        return;
    }
    if (l->host.n || !sv_starts(rest, SV("outbound_.")))
        return;
    rest = sv_from(rest, 10);
    at = sv_find_sv(rest, SV("_."));
    if (at < 0 || sv_to_u64(sv_first(rest, (size_t)at), &port) || port > 65535)
        return;
    rest = sv_from(rest, (size_t)at + 2);
    at = sv_find_sv(rest, SV("_."));
    if (at < 0)
        return;
    l->port = (uint16_t)port;
    l->subset = sv_first(rest, (size_t)at);
    l->host = sv_from(rest, (size_t)at + 2);
}

int live_parse(sv line, struct arena *a, struct live_line *out, struct error *err)
{
    struct live_line l = {0};
    int rc;

    line = sv_trim(line);
    while (line.n && (line.p[line.n - 1] == '\n' || line.p[line.n - 1] == '\r'))
        line.n--;
    if (line.n > LINE_MAX_BYTES)
        return error_set(err, E_INVALID, "the line is longer than a line of a log can be");
    rc = line.n && line.p[0] == '{' ? parse_json(line, a, &l, err) : parse_text(line, &l, err);
    if (rc)
        return rc;
    if (l.cluster.n && l.cluster.p[l.cluster.n - 1] == ';')
        l.cluster.n--;
    read_service(&l);
    *out = l;
    return 0;
}

/* ---- the objects behind it ---- */

struct about {
    struct strbuf text; /* indented lines */
    struct strbuf json; /* items of an array */
};

static void about_add(struct about *b, const char *what, sv text)
{
    strbuf_addf(&b->text, "    %s: %.*s\n", what, SV_ARG(text));
    strbuf_addf(&b->json, "%s{\"about\":\"%s\",\"text\":", b->json.n ? "," : "", what);
    strbuf_add_json(&b->json, text);
    strbuf_add_ch(&b->json, '}');
}

static void about_object(struct about *b, const char *what, const struct explain_place *p,
                         struct arena *a)
{
    about_add(b, what,
              arena_printf(a, "%.*s %.*s/%.*s (%.*s:%u)", SV_ARG(p->kind), SV_ARG(p->ns),
                           SV_ARG(p->name), SV_ARG(p->file), p->line));
}

/* "NAMESPACE/NAME/http[i]" of a rule without a name of its own, else the name of a rule. */
static void about_route(struct about *b, struct offline *o, const struct live_line *l)
{
    for (uint32_t i = 0; l->route.n && i < o->m->virtuals.n; i++) {
        const struct model_virtual *v = o->m->virtuals.v[i];
        for (uint32_t k = 0; k < v->n_http; k++) {
            const struct model_http_rule *r = &v->http[k];
            struct explain_place p;
            if (!explain_is_named(r, l->route, &o->a))
                continue;
            p = explain_place_of(r->from, arena_printf(&o->a, "spec.http[%u]", r->index), &o->a);
            about_object(b, "rule", &p, &o->a);
            return;
        }
    }
}

static void about_cluster(struct about *b, struct offline *o, const struct live_line *l)
{
    const struct model_service *svc = model_service_find(o->m, l->host);
    const struct model_list *rules = map_get(&o->m->rules_by_host, l->host);
    struct explain_place p;

    if (!l->host.n)
        return;
    if (svc) {
        p = explain_place_of(svc->object, SV(""), &o->a);
        about_object(b, "service", &p, &o->a);
    } else {
        about_add(b, "service",
                  arena_printf(&o->a, "no service '%.*s' in these files", SV_ARG(l->host)));
    }
    for (uint32_t i = 0; rules && i < rules->n; i++) {
        p = explain_place_of(rules->v[i], SV(""), &o->a);
        about_object(b, "destination rule", &p, &o->a);
    }
}

/* What is wrong with configuration and has to do with the line: with the host, or the object of the
 * route; not with other rules than the route's. */
static bool concerns(const struct live_line *l, sv ns, sv name, sv field, sv text)
{
    char object[512];
    int n = snprintf(object, sizeof object, "%.*s/%.*s/", SV_ARG(ns), SV_ARG(name));

    if (n > 1 && sv_starts(l->route, sv_of(object)) && sv_starts(field, SV("spec.http["))) {
        char rule[600];
        ptrdiff_t dot = sv_find(sv_from(field, 5), '.');
        sv at = sv_first(sv_from(field, 5), dot < 0 ? field.n : (size_t)dot);
        snprintf(rule, sizeof rule, "%s%.*s", object, SV_ARG(at));
        return sv_starts(l->route, sv_of(rule));
    }
    return (l->host.n && sv_find_sv(text, l->host) >= 0) ||
           (n > 1 && name.n && sv_starts(l->route, sv_of(object)));
}

static int about_files(struct about *b, const char *config, const char *ns,
                       const struct live_line *l, struct error *err)
{
    struct offline o;
    int rc = offline_load(&o, &config, 1, sv_of(ns), err);

    if (!rc) {
        about_route(b, &o, l);
        about_cluster(b, &o, l);
        offline_check(&o);
    }
    for (uint32_t i = 0; !rc && i < o.n_problems; i++) {
        const struct model_problem *p = &o.problems[i];
        if (p->severity != MODEL_HINT && concerns(l, p->ns, p->name, p->field, p->text))
            about_add(
                b, "problem",
                arena_printf(&o.a, "%.*s:%u: %.*s", SV_ARG(p->file), p->line, SV_ARG(p->text)));
    }
    offline_free(&o);
    return rc;
}

static void about_endpoints(struct about *b, const struct node *services, const struct live_line *l,
                            struct arena *a)
{
    for (uint32_t i = 0; l->host.n && i < services->n; i++) {
        const struct node *ports = node_get(services->v[i], "ports");
        if (!sv_eq(node_str(services->v[i], "host"), l->host))
            continue;
        for (uint32_t k = 0; ports && k < ports->n; k++) {
            const struct node *eps = node_get(ports->v[k], "endpoints");
            uint32_t healthy = 0;
            if (node_int(ports->v[k], "port", 0) != l->port)
                continue;
            for (uint32_t e = 0; eps && e < eps->n; e++)
                healthy += node_bool(eps->v[e], "healthy", false);
            about_add(b, "endpoints",
                      arena_printf(a, "%u of %.*s:%u, %u of them ready", eps ? eps->n : 0,
                                   SV_ARG(l->host), l->port, healthy));
            return;
        }
    }
    if (l->host.n)
        about_add(b, "service",
                  arena_printf(a, "the control plane knows no '%.*s' with port %u", SV_ARG(l->host),
                               l->port));
}

static int about_control(struct about *b, const char *control, const struct live_line *l,
                         struct error *err)
{
    struct node *problems, *services;
    struct arena a;
    int rc;

    arena_init(&a);
    rc = cli_get_node(control, "/debug/problems", &a, &problems, err);
    rc = rc ? rc : cli_get_node(control, "/debug/registryz", &a, &services, err);
    if (!rc)
        about_endpoints(b, services, l, &a);
    for (uint32_t i = 0; !rc && i < problems->n; i++) {
        const struct node *p = problems->v[i];
        if (concerns(l, node_str(p, "namespace"), node_str(p, "name"), node_str(p, "field"),
                     node_str(p, "text")))
            about_add(b, "problem",
                      arena_printf(&a, "%.*s:%ld: %.*s", SV_ARG(node_str(p, "file")),
                                   (long)node_int(p, "line", 0), SV_ARG(node_str(p, "text"))));
    }
    arena_free(&a);
    return rc;
}

/* ---- the command ---- */

static void print(const struct live_line *l, const struct about *b, bool json)
{
    const struct failure *f = failure_find(l);
    struct strbuf what, todo, out;

    strbuf_init(&what, LINE_MAX_BYTES);
    strbuf_init(&todo, LINE_MAX_BYTES);
    strbuf_init(&out, PAGE_MAX);
    if (live_succeeded(l)) {
        failure_text(live_is_http(l)
                         ? "{method} {authority}{path} was answered with {code}: nothing failed"
                         : "the connection to {where} came to its end: nothing failed",
                     l, &what);
    } else {
        failure_text(f->what, l, &what);
        failure_text(f->todo, l, &todo);
    }
    if (json) {
        strbuf_add_c(&out, "{\"what\":");
        strbuf_add_json(&out, strbuf_sv(&what));
        strbuf_add_c(&out, ",\"todo\":");
        strbuf_add_json(&out, strbuf_sv(&todo));
        strbuf_addf(&out, ",\"objects\":[%.*s]}\n", (int)b->json.n, b->json.n ? b->json.p : "");
    } else {
        strbuf_add_sv(&out, strbuf_sv(&what));
        strbuf_add_ch(&out, '\n');
        if (todo.n)
            strbuf_addf(&out, "    next: %.*s\n", (int)todo.n, todo.p);
        if (b->text.n)
            strbuf_add_sv(&out, strbuf_sv(&b->text));
    }
    fwrite(out.p, 1, out.n, stdout);
    strbuf_fini(&what);
    strbuf_fini(&todo);
    strbuf_fini(&out);
}

struct asking {
    const char *config, *control, *ns;
    bool json;
};

static int answer(const struct asking *q, sv line, struct error *err)
{
    struct live_line l;
    struct about b;
    struct arena a;
    int rc;

    arena_init(&a);
    strbuf_init(&b.text, PAGE_MAX);
    strbuf_init(&b.json, PAGE_MAX);
    rc = live_parse(line, &a, &l, err);
    if (!rc && q->config)
        rc = about_files(&b, q->config, q->ns, &l, err);
    if (!rc && q->control)
        rc = about_control(&b, q->control, &l, err);
    if (!rc)
        print(&l, &b, q->json);
    strbuf_fini(&b.text);
    strbuf_fini(&b.json);
    arena_free(&a);
    return rc;
}

int live_command(const char *line, const char *config, const char *control, const char *ns,
                 bool json, struct error *err)
{
    const struct asking q = {config, control, ns, json};
    char *text = NULL;
    size_t cap = 0;
    ssize_t n;
    int rc = 0;

    if (strcmp(line, "-") != 0)
        return answer(&q, sv_of(line), err);
    while (!rc && (n = getline(&text, &cap, stdin)) >= 0) {
        sv one = sv_make(text, (size_t)n);
        if (sv_trim(one).n > 1)
            rc = answer(&q, one, err);
    }
    free(text);
    return rc;
}
