/* Values as text and JSON, and from JSON. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "api/node.h"
#include "api/pb.h"
#include "cel/cel_int.h"

#define JSON_DEPTH_MAX 64

void cel_print(const struct cel_value *v, struct strbuf *out)
{
    switch (v->type) {
    case CEL_ERROR:
        break;
    case CEL_NULL:
        strbuf_add_c(out, "NULL");
        break;
    case CEL_BOOL:
        strbuf_add_c(out, v->b ? "true" : "false");
        break;
    case CEL_INT:
        strbuf_addf(out, "%lld", (long long)v->i);
        break;
    case CEL_UINT:
        strbuf_addf(out, "%llu", (unsigned long long)v->u);
        break;
    case CEL_DOUBLE:
        if (isnan(v->d))
            strbuf_add_c(out, "nan");
        else
            strbuf_addf(out, "%g", v->d);
        break;
    case CEL_STRING:
    case CEL_BYTES:
        strbuf_add_sv(out, v->s);
        break;
    case CEL_DURATION:
        cel_print_duration(v->t, out);
        break;
    case CEL_TIMESTAMP:
        cel_print_timestamp(v->t, "+00:00", out);
        break;
    case CEL_LIST:
        strbuf_add_c(out, "CelList value");
        break;
    case CEL_MAP:
        strbuf_add_c(out, "CelMap value");
        break;
    case CEL_TYPE:
        strbuf_add_c(out, "CelType value");
        break;
    }
}

/* ---- to JSON ---- */

static bool json(const struct cel_value *v, int depth, struct strbuf *out);

static void json_double(double d, struct strbuf *out)
{
    if (!isfinite(d)) {
        strbuf_add_c(out, isnan(d) ? "\"NaN\"" : d > 0 ? "\"Infinity\"" : "\"-Infinity\"");
        return;
    }
    strbuf_add_double(out, d);
}

/* "1.5s", with three, six or nine digits */
static void json_duration(struct cel_time t, struct strbuf *out)
{
    bool negative = t.s < 0;
    int64_t s = negative ? -t.s - (t.ns > 0) : t.s;
    int32_t ns = negative && t.ns ? 1000000000 - t.ns : t.ns;
    strbuf_addf(out, "\"%s%lld", negative ? "-" : "", (long long)s);
    if (ns % 1000)
        strbuf_addf(out, ".%09d", ns);
    else if (ns % 1000000)
        strbuf_addf(out, ".%06d", ns / 1000);
    else if (ns)
        strbuf_addf(out, ".%03d", ns / 1000000);
    strbuf_add_c(out, "s\"");
}

static bool json_key(const struct cel_value *key, struct strbuf *out)
{
    bool quote = key->type != CEL_STRING;
    if (!quote)
        strbuf_add_json(out, key->s);
    else
        strbuf_add_ch(out, '"'), cel_print(key, out), strbuf_add_ch(out, '"');
    strbuf_add_ch(out, ':');
    return true;
}

static bool json_map(const struct cel_map *m, int depth, struct strbuf *out)
{
    if (m->get && !m->v)
        return false;
    strbuf_add_ch(out, '{');
    for (uint32_t i = 0; i < m->n; i++) {
        if (i)
            strbuf_add_ch(out, ',');
        if (!json_key(&m->v[i].key, out) || !json(&m->v[i].value, depth + 1, out))
            return false;
    }
    strbuf_add_ch(out, '}');
    return true;
}

static bool json_list(const struct cel_list *l, int depth, struct strbuf *out)
{
    strbuf_add_ch(out, '[');
    for (uint32_t i = 0; i < l->n; i++) {
        if (i)
            strbuf_add_ch(out, ',');
        if (!json(&l->v[i], depth + 1, out))
            return false;
    }
    strbuf_add_ch(out, ']');
    return true;
}

/* False when it cannot be written; what was added then is for the caller to cut. */
static bool json(const struct cel_value *v, int depth, struct strbuf *out)
{
    if (depth > JSON_DEPTH_MAX)
        return false;
    switch (v->type) {
    case CEL_NULL:
        strbuf_add_c(out, "null");
        return true;
    case CEL_BOOL:
    case CEL_INT:
    case CEL_UINT:
        cel_print(v, out);
        return true;
    case CEL_DOUBLE:
        json_double(v->d, out);
        return true;
    case CEL_STRING:
        strbuf_add_json(out, v->s);
        return true;
    case CEL_BYTES:
        strbuf_add_ch(out, '"');
        pb_base64_print(v->s, out);
        strbuf_add_ch(out, '"');
        return true;
    case CEL_DURATION:
        json_duration(v->t, out);
        return true;
    case CEL_TIMESTAMP:
        strbuf_add_ch(out, '"');
        cel_print_timestamp(v->t, "Z", out);
        strbuf_add_ch(out, '"');
        return true;
    case CEL_LIST:
        return json_list(v->list, depth, out);
    case CEL_MAP:
        return json_map(v->map, depth, out);
    default:
        return false;
    }
}

bool cel_to_json(const struct cel_value *v, struct strbuf *out)
{
    size_t before = out->n;
    if (json(v, 0, out))
        return v->type != CEL_NULL;
    strbuf_cut(out, before);
    strbuf_add_c(out, "null");
    return false;
}

/* ---- from JSON ---- */

static struct cel_value from_node(const struct node *n, struct arena *a, int depth);

static struct cel_value from_list(const struct node *n, struct arena *a, int depth)
{
    struct cel_value *v = arena_array(a, struct cel_value, n->n);
    struct cel_list *l = arena_new(a, struct cel_list);
    for (uint32_t i = 0; i < n->n; i++)
        v[i] = from_node(n->v[i], a, depth + 1);
    *l = (struct cel_list){v, n->n};
    return (struct cel_value){.type = CEL_LIST, .list = l};
}

static struct cel_value from_map(const struct node *n, struct arena *a, int depth)
{
    struct cel_entry *v = arena_array(a, struct cel_entry, n->n);
    struct cel_map *m = arena_new(a, struct cel_map);
    for (uint32_t i = 0; i < n->n; i++)
        v[i] = (struct cel_entry){cel_string(n->keys[i]), from_node(n->v[i], a, depth + 1)};
    *m = (struct cel_map){.v = v, .n = n->n};
    return (struct cel_value){.type = CEL_MAP, .map = m};
}

static struct cel_value from_node(const struct node *n, struct arena *a, int depth)
{
    struct cel_value null = {.type = CEL_NULL};
    if (depth > JSON_DEPTH_MAX)
        return cel_error("the value is nested too deep");
    if (n->kind == NODE_SEQ)
        return from_list(n, a, depth);
    if (n->kind == NODE_MAP)
        return from_map(n, a, depth);
    if (n->kind == NODE_NULL || (!n->quoted && sv_eq(n->text, SV("null"))))
        return null;
    if (n->quoted)
        return cel_string(n->text);
    if (sv_eq(n->text, SV("true")) || sv_eq(n->text, SV("false")))
        return cel_bool(n->text.p[0] == 't');
    char text[64], *end;
    snprintf(text, sizeof(text), "%.*s", SV_ARG(n->text));
    double d = strtod(text, &end);
    return *end || !*text ? cel_error("the value is no JSON") : cel_double(d);
}

struct cel_value cel_from_json(sv text, struct arena *a)
{
    struct node *n = NULL;
    if (text.n == 0 || node_parse(text, "metadata", a, &n, NULL) != 0)
        return cel_error("the value is no JSON");
    return from_node(n, a, 0);
}
