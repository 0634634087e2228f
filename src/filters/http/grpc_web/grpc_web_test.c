#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>
#include <string.h>
#include "filters/http/grpc_web/grpc_web_testlib.h"

#define BINARY "application/grpc-web"
#define TEXT   "application/grpc-web-text"

static sv field(const struct http_head *h, const char *name)
{
    return http_headers_get_sv(&h->h, sv_of(name));
}
#define assert_sv(got, want)                                                                       \
    do {                                                                                           \
        sv g = (got);                                                                              \
        if (!sv_eq(g, sv_of(want)))                                                                \
            fail_msg("%.*s, not %s", SV_ARG(g), want);                                             \
    } while (0)
#define assert_bytes(buf, want)                                                                    \
    do {                                                                                           \
        assert_int_equal((buf).n, sizeof(want) - 1);                                               \
        assert_memory_equal((buf).p, want, sizeof(want) - 1);                                      \
    } while (0)

static void a_request_becomes_grpc(void **state)
{
    static const char *const types[] = {BINARY, BINARY "+proto", TEXT, TEXT "+proto"};
    for (unsigned i = 0; i < 4; i++) {
        struct grpc_web_rig r;
        grpc_web_rig_init(&r, types[i], NULL);
        assert_sv(field(&r.req, "content-type"), "application/grpc");
        assert_sv(field(&r.req, "te"), "trailers");
        assert_sv(field(&r.req, "grpc-accept-encoding"), "identity");
        assert_int_equal(field(&r.req, "content-length").n, 0); /* the body changes */
        assert_int_equal(r.req.content_length, -1);
        grpc_web_rig_fini(&r);
    }
}

static void another_request_is_left_alone(void **state)
{
    struct grpc_web_rig r;
    grpc_web_rig_init(&r, "application/grpc-web-other", TEXT);
    assert_sv(field(&r.req, "content-type"), "application/grpc-web-other");
    assert_sv(field(&r.req, "content-length"), "7");
    assert_true(grpc_web_rig_request(&r, "====", 4, true));
    grpc_web_rig_answer(&r, 200, "application/grpc", false);
    grpc_web_rig_response(&r, "abc", 3, false);
    assert_bytes(r.request, "====");
    assert_bytes(r.response, "abc");
    assert_sv(field(&r.resp, "content-type"), "application/grpc");
    grpc_web_rig_fini(&r);
}

static void text_is_decoded_in_every_split(void **state)
{
    static const char in[] = "AAAAAAVoZWxsbw=="
                             "AAAAAAA="; /* each message padded for itself */
    for (size_t cut = 0; cut <= sizeof in - 1; cut++) {
        struct grpc_web_rig r;
        grpc_web_rig_init(&r, TEXT, NULL);
        assert_true(grpc_web_rig_request(&r, in, cut, false));
        assert_true(grpc_web_rig_request(&r, in + cut, sizeof in - 1 - cut, true));
        assert_bytes(r.request, "\0\0\0\0\5hello\0\0\0\0\0");
        grpc_web_rig_fini(&r);
    }
}

static void text_that_is_none_is_refused(void **state)
{
    static const char *const bad[] = {
        "A", "AAA", "AAAAA", "====", "AA=A", "=AAA", "AA\nA", "AAA\xff"};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct grpc_web_rig r;
        grpc_web_rig_init(&r, TEXT, NULL);
        if (grpc_web_rig_request(&r, bad[i], strlen(bad[i]), true))
            fail_msg("taken: %s", bad[i]);
        assert_int_equal(r.replied, 400);
        grpc_web_rig_fini(&r);
    }
}

static void trailers_become_the_last_frame(void **state)
{
    static const char *const t[] = {"grpc-status", "5", "grpc-message", "none such", NULL};
    struct grpc_web_rig r;
    grpc_web_rig_init(&r, BINARY, NULL);
    grpc_web_rig_answer(&r, 200, "application/grpc", false);
    assert_sv(field(&r.resp, "content-type"), BINARY "+proto");
    grpc_web_rig_response(&r, "\0\0\0\0\1x", 6, false);
    grpc_web_rig_trailers(&r, t);
    assert_bytes(r.response, "\0\0\0\0\1x\x80\0\0\0\x27"
                             "grpc-status:5\r\ngrpc-message:none such\r\n");
    grpc_web_rig_fini(&r);
}

static void an_answer_is_encoded_when_text_is_accepted(void **state)
{
    static const char *const t[] = {"a", "b", NULL};
    for (size_t cut = 0; cut <= 6; cut++) {
        struct grpc_web_rig r;
        grpc_web_rig_init(&r, BINARY, TEXT);
        grpc_web_rig_answer(&r, 200, "application/grpc", false);
        assert_sv(field(&r.resp, "content-type"), TEXT "+proto");
        grpc_web_rig_response(&r, "\0\0\0\0\1x", cut, false);
        grpc_web_rig_response(&r, &"\0\0\0\0\1x"[cut], 6 - cut, false);
        grpc_web_rig_trailers(&r, t);
        assert_bytes(r.response, "AAAAAAF4gAAAAAVhOmINCg==");
        grpc_web_rig_fini(&r);
    }
}

static void a_foreign_answer_becomes_a_status(void **state)
{
    char big[10000];
    struct grpc_web_rig r;
    grpc_web_rig_init(&r, BINARY, NULL);
    grpc_web_rig_answer(&r, 503, "text/html", false);
    assert_true(r.stopped); /* until its body is known */
    grpc_web_rig_response(&r, "no ", 3, false);
    assert_true(r.stopped);
    grpc_web_rig_response(&r, "luck\n", 5, true);
    assert_false(r.stopped);
    assert_sv(field(&r.resp, "grpc-status"), "14");
    assert_sv(field(&r.resp, "grpc-message"), "no luck%0A");
    assert_int_equal(r.response.n, 0);
    grpc_web_rig_fini(&r);

    memset(big, 'x', sizeof big); /* is cut */
    grpc_web_rig_init(&r, BINARY, NULL);
    grpc_web_rig_answer(&r, 404, "text/html", false);
    for (int i = 0; i < 10; i++)
        grpc_web_rig_response(&r, big, sizeof big, i == 9);
    assert_sv(field(&r.resp, "grpc-status"), "12");
    assert_int_equal(field(&r.resp, "grpc-message").n, 4096);
    grpc_web_rig_fini(&r);

    grpc_web_rig_init(&r, BINARY, NULL);
    grpc_web_rig_answer(&r, 401, "text/html", true); /* without a body */
    assert_false(r.stopped);
    assert_sv(field(&r.resp, "grpc-status"), "16");
    grpc_web_rig_fini(&r);
}

int main(void)
{
#define T(fn) cmocka_unit_test(fn)
    const struct CMUnitTest tests[] = {
        T(a_request_becomes_grpc),
        T(another_request_is_left_alone),
        T(text_is_decoded_in_every_split),
        T(text_that_is_none_is_refused),
        T(trailers_become_the_last_frame),
        T(an_answer_is_encoded_when_text_is_accepted),
        T(a_foreign_answer_becomes_a_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
