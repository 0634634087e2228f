/* Route tables from any bytes, and any request against them. A table that was accepted answers
 * every request, twice the same, with and without explanation; what it does to the request keeps
 * the head well-formed.
 * Input: two bytes n, n bytes of packed RouteConfiguration (or YAML when they start with '{'), the
 * rest is "METHOD host /path\nname: value\n…". */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "api/envoy.pb.h"
#include "api/google.pb.h"
#include "route/route.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_request(sv text, struct http_head *h, struct arena *a)
{
    sv line, name, value;
    http_head_init(h, a);
    h->scheme = SV("http");
    sv_cut(text, '\n', &line, &text);
    sv_cut(line, ' ', &h->method, &line);
    sv_cut(line, ' ', &h->authority, &h->path);
    while (text.n && h->h.n < 100) {
        sv_cut(text, '\n', &line, &text);
        sv_cut(line, ':', &name, &value);
        value = sv_trim(value);
        if (http_name_lower_valid(name) && http_value_valid(value))
            http_headers_add(&h->h, name, value);
    }
}

static void apply(const struct route_match *m, struct http_head *h, struct arena *a)
{
    struct stream_info si;
    struct stream_conn down = {.local = SV("10.0.0.1:80"), .remote = SV("10.0.0.2:999")};
    uint64_t hash;
    sv text;
    stream_info_init(&si, a);
    si.down = &down;
    si.req = h;
    route_match_hash(m, h, &si, a, &hash, &text);
    route_match_virtual_cluster(m, h, a);
    if (m->action == ROUTE_REDIRECT)
        route_match_redirect(m, h, a);
    if (m->action == ROUTE_DIRECT_RESPONSE)
        route_match_body(m, &si, a, &text);
    bool had_path = h->path.n != 0;
    route_match_request(m, h, &si, true, a);
    if (had_path && h->path.n == 0)
        abort();
    for (uint32_t i = 0; i < h->h.n; i++)
        if (!http_name_lower_valid(h->h.v[i].name))
            abort();
}

static void ask(const struct route_table *t, sv text)
{
    struct arena a;
    struct strbuf trail;
    struct http_head h;
    struct route_match one, two;
    arena_init(&a);
    strbuf_init(&trail, 1 << 20);
    read_request(text, &h, &a);
    struct route_ctx c = {.random = text.n * 0x9e3779b97f4a7c15u};
    route_table_match(t, &h, &c, &a, &one);
    c.trail = &trail;
    route_table_match(t, &h, &c, &a, &two);
    if (one.action != two.action || one.route != two.route || one.weight != two.weight ||
        !sv_eq(one.cluster, two.cluster))
        abort();
    if (one.action != ROUTE_NONE)
        apply(&one, &h, &a);
    strbuf_fini(&trail);
    arena_free(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t n = (size_t)data[0] << 8 | data[1];
    if (n > size - 2)
        n = size - 2;
    sv packed = sv_make((const char *)data + 2, n);
    sv request = sv_make((const char *)data + 2 + n, size - 2 - n);
    struct route_table *t = NULL;
    struct arena a;
    void *m = NULL;
    arena_init(&a);
    if (n && packed.p[0] == '{') {
        if (pb_from_text(&envoy_RouteConfiguration_pb, packed, "fuzz", &a, NULL, &m, NULL) != 0)
            packed.n = 0;
        else
            packed = pb_encode_arena(&envoy_RouteConfiguration_pb, m, &a);
    }
    struct error err = {0};
    int rc = route_table_build(packed, NULL, &t, &err);
    arena_free(&a); /* the table keeps its own copy */
    if (rc == 0) {
        ask(t, request);
        route_table_unref(t);
    } else if (err.msg[0] == 0) {
        abort(); /* a refusal says why */
    }
    return 0;
}
