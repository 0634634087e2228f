/* Shared by the tests of src/route: tables from YAML, requests from text. Include it once per test
 * program. */
#ifndef WEFT_ROUTE_ROUTE_TEST_H
#define WEFT_ROUTE_ROUTE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "api/envoy.pb.h"
#include "api/google.pb.h"
#include "api/pb.h"
#include "route/route.h"

static struct arena a;
static struct error err;

static int setup(void **state)
{
    arena_init(&a);
    err = (struct error){0};
    return 0;
}

static int teardown(void **state)
{
    arena_free(&a);
    return 0;
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

/* A message from YAML, in the test's arena. */
static inline const void *from_yaml(const struct pb_message *type, const char *text)
{
    void *m = NULL;
    if (pb_from_text(type, sv_of(text), "test", &a, NULL, &m, &err) != 0)
        fail_msg("%s\n%s", err.msg, text);
    return m;
}

static inline int build(const char *yaml, const struct route_table_opts *o, struct route_table **t)
{
    const void *m = from_yaml(&envoy_RouteConfiguration_pb, yaml);
    return route_table_build(pb_encode_arena(&envoy_RouteConfiguration_pb, m, &a), o, t, &err);
}

static inline struct route_table *table(const char *yaml)
{
    struct route_table *t = NULL;
    if (build(yaml, NULL, &t) != 0)
        fail_msg("%s", err.msg);
    return t;
}

/* "GET host.com /path" and then "name: value" lines. */
static inline struct http_head *request(const char *text)
{
    struct http_head *h = arena_new(&a, struct http_head);
    http_head_init(h, &a);
    h->scheme = SV("http");
    sv rest = arena_sv(&a, sv_of(text)), line, name, value;
    sv_cut(rest, '\n', &line, &rest);
    sv_cut(line, ' ', &h->method, &line);
    sv_cut(line, ' ', &h->authority, &h->path);
    while (rest.n) {
        sv_cut(rest, '\n', &line, &rest);
        sv_cut(line, ':', &name, &value);
        http_headers_add(&h->h, name, sv_trim(value));
    }
    return h;
}

static inline struct route_match match(const struct route_table *t, const char *req)
{
    struct route_match m;
    struct route_ctx c = {0};
    route_table_match(t, request(req), &c, &a, &m);
    return m;
}

/* All fields of a head as "name: value\n" lines, with ":path" and ":authority" first. */
static inline const char *dump(const struct http_head *h)
{
    struct strbuf b;
    strbuf_init(&b, 100000);
    strbuf_addf(&b, "%.*s %.*s\n", SV_ARG(h->authority), SV_ARG(h->path));
    for (uint32_t i = 0; i < h->h.n; i++)
        strbuf_addf(&b, "%.*s: %.*s\n", SV_ARG(h->h.v[i].name), SV_ARG(h->h.v[i].value));
    const char *text = arena_cstr(&a, strbuf_sv(&b));
    strbuf_fini(&b);
    return text;
}

#define assert_sv(v, text) assert_string_equal(arena_cstr(&a, (v)), (text))

#endif
