#include "filters/http/buffer/buffer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

struct rig {
    struct arena arena, scratch;
    struct stream_info info;
    struct http_filter_host host;
    struct http_filter *f;
    struct http_head head;
    const void *route; /* what the route says */
    uint32_t limit;    /* what was asked for */
    unsigned continued;
};

static struct rig *rig_of(struct http_filter_host *h)
{
    return container_of(h, struct rig, host);
}

static const void *route_config(struct http_filter_host *h)
{
    return rig_of(h)->route;
}

static void set_buffer_limit(struct http_filter_host *h, uint32_t bytes)
{
    rig_of(h)->limit = bytes;
}

static void continue_decoding(struct http_filter_host *h)
{
    rig_of(h)->continued++;
}

static const struct http_filter_host_ops host_ops = {
    .route_config = route_config,
    .set_buffer_limit = set_buffer_limit,
    .continue_decoding = continue_decoding,
};

typedef int (*parse_fn)(const struct filter_ctx *x, sv packed, const void **config,
                        struct error *err);

static int parsed(struct rig *r, parse_fn fn, const char *bytes, size_t n, const void **out,
                  struct error *err)
{
    struct filter_ctx x = {.arena = &r->arena, .scratch = &r->scratch, .path = "here"};
    *err = (struct error){0};
    return fn(&x, sv_make(bytes, n), out, err);
}

#define BYTES(text) text, sizeof(text) - 1
#define FIVE        "\x0a\x02\x08\x05" /* Buffer: max_request_bytes {value: 5} */

static void up(struct rig *r, const char *route, size_t n)
{
    struct error err;
    const void *config;
    memset(r, 0, sizeof *r);
    arena_init(&r->arena);
    arena_init(&r->scratch);
    assert_int_equal(parsed(r, http_buffer_type.parse, BYTES(FIVE), &config, &err), 0);
    if (route)
        assert_int_equal(parsed(r, http_buffer_type.parse_route, route, n, &r->route, &err), 0);
    http_head_init(&r->head, &r->arena);
    r->info.req = &r->head;
    r->host = (struct http_filter_host){.ops = &host_ops, .info = &r->info, .arena = &r->arena};
    r->f = http_buffer_type.make(config, &r->host);
    r->f->host = &r->host;
}

static void down(struct rig *r)
{
    arena_free(&r->arena);
    arena_free(&r->scratch);
}

static enum http_filter_status data(struct rig *r, const char *text, bool end)
{
    struct buf b;
    buf_init(&b);
    buf_append(&b, text, strlen(text));
    enum http_filter_status st = r->f->ops->decode_data(r->f, &b, end);
    buf_reset(&b);
    return st;
}

static void length_is(struct rig *r, const char *text)
{
    sv v = http_headers_get(&r->head.h, HTTP_H_CONTENT_LENGTH);
    assert_true(text ? sv_eq_c(v, text) : v.p == NULL);
}

static void a_whole_body_gets_a_length(void **state)
{
    struct rig r;
    up(&r, NULL, 0);
    assert_int_equal(r.f->ops->decode_head(r.f, &r.head, false), HTTP_FILTER_STOP);
    assert_int_equal(r.limit, 5);
    assert_int_equal(data(&r, "ab", false), HTTP_FILTER_STOP_BUFFER);
    length_is(&r, NULL);
    assert_int_equal(r.continued, 0);
    assert_int_equal(data(&r, "c", true), HTTP_FILTER_STOP_BUFFER);
    assert_int_equal(r.continued, 1);
    length_is(&r, "3");
    down(&r);
}

static void trailers_end_a_body_too(void **state)
{
    struct rig r;
    up(&r, NULL, 0);
    assert_int_equal(r.f->ops->decode_head(r.f, &r.head, false), HTTP_FILTER_STOP);
    assert_int_equal(data(&r, "abcd", false), HTTP_FILTER_STOP_BUFFER);
    assert_int_equal(r.f->ops->decode_trailers(r.f, NULL), HTTP_FILTER_CONTINUE);
    length_is(&r, "4");
    down(&r);
}

static void a_given_length_stays(void **state)
{
    struct rig r;
    up(&r, NULL, 0);
    http_headers_add_id(&r.head.h, HTTP_H_CONTENT_LENGTH, SV("002"));
    assert_int_equal(r.f->ops->decode_head(r.f, &r.head, false), HTTP_FILTER_STOP);
    (void)data(&r, "ab", true);
    length_is(&r, "002");
    assert_int_equal(http_headers_remove_id(&r.head.h, HTTP_H_CONTENT_LENGTH), 1);
    down(&r);
}

static void without_a_body_nothing_waits(void **state)
{
    struct rig r;
    up(&r, NULL, 0);
    assert_int_equal(r.f->ops->decode_head(r.f, &r.head, true), HTTP_FILTER_CONTINUE);
    assert_int_equal(r.limit, 0);
    length_is(&r, NULL);
    down(&r);
}

static void routes_decide(void **state)
{
    struct rig r;
    up(&r, BYTES("\x08\x01")); /* disabled: true */
    assert_int_equal(r.f->ops->decode_head(r.f, &r.head, false), HTTP_FILTER_CONTINUE);
    assert_int_equal(data(&r, "abcdefgh", true), HTTP_FILTER_CONTINUE);
    assert_int_equal(r.f->ops->decode_trailers(r.f, NULL), HTTP_FILTER_CONTINUE);
    assert_int_equal(r.limit, 0);
    length_is(&r, NULL);
    down(&r);
    up(&r, BYTES("\x12\x04\x0a\x02\x08\x09")); /* buffer {max_request_bytes {value: 9}} */
    assert_int_equal(r.f->ops->decode_head(r.f, &r.head, false), HTTP_FILTER_STOP);
    assert_int_equal(r.limit, 9);
    down(&r);
}

static void refused(parse_fn fn, const char *bytes, size_t n, const char *text)
{
    struct rig r = {0};
    struct error err;
    const void *config;
    arena_init(&r.arena);
    arena_init(&r.scratch);
    assert_int_equal(parsed(&r, fn, bytes, n, &config, &err), E_INVALID);
    assert_non_null(strstr(err.msg, text));
    down(&r);
}

static void wrong_settings_are_refused(void **state)
{
    refused(http_buffer_type.parse, BYTES(""), "here.max_request_bytes");
    refused(http_buffer_type.parse, BYTES("\x0a\x00"), "here.max_request_bytes");
    refused(http_buffer_type.parse_route, BYTES(""), "here: neither");
    refused(http_buffer_type.parse_route, BYTES("\x08\x00"), "here.disabled");
    refused(http_buffer_type.parse_route, BYTES("\x12\x00"), "here.buffer.max_request_bytes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_body_gets_a_length),
        cmocka_unit_test(trailers_end_a_body_too),
        cmocka_unit_test(a_given_length_stays),
        cmocka_unit_test(routes_decide),
        cmocka_unit_test(without_a_body_nothing_waits),
        cmocka_unit_test(wrong_settings_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
