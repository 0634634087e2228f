/* What RFC 9112 forbids, by the numbers of the attack-cases table: each message is refused whole,
 * byte by byte and in random pieces, with one answer, no stream begun after it, and a counter. */
#include "h1/h1_parse.h"
#include "h1/h1_test.h"

struct bad {
    const char *in;
    size_t n; /* 0: strlen */
    unsigned status;
    const char *text;
};
#define B(lit, status, text)                                                                       \
    {                                                                                              \
        lit, sizeof(lit) - 1, status, text                                                         \
    }
#define CODEC "http1.codec_error"
#define CHARS "http1.invalid_characters"
#define URL   "http1.invalid_url"
#define TE    "http1.invalid_transfer_encoding"
#define BOTH  "http1.content_length_and_chunked_not_allowed"
#define HEAD  "POST / HTTP/1.1\r\nHost: a\r\n"
#define REST  "\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n"

static void never_answers(struct rig *r, struct http_stream *s)
{
}

/* One short answer whose body is its reason phrase, or empty for a missing Host; nothing after. */
static void expect_one_answer(struct rig *r, const struct bad *b)
{
    char want[256];
    sv reason = h1_reason(b->status);
    if (strcmp(b->text, "missing_host_header") == 0)
        snprintf(want, sizeof(want),
                 "HTTP/1.1 %u %.*s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", b->status,
                 SV_ARG(reason));
    else
        snprintf(want, sizeof(want),
                 "HTTP/1.1 %u %.*s\r\ncontent-length: %zu\r\ncontent-type: text/plain\r\n"
                 "connection: close\r\n\r\n%.*s",
                 b->status, SV_ARG(reason), reason.n, SV_ARG(reason));
    if (strcmp(rig_sent(r), want) != 0)
        fail_msg("%s\nanswered with: %s", b->in, rig_sent(r));
}

static void refuse(const struct bad *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct bad *b = &list[i];
        for (int way = 0; way < RIG_WAYS; way++) {
            struct rig r;
            rig_init(&r);
            r.l.enable_trailers = true;
            r.answer = never_answers;
            rig_start(&r, true);
            rig_feed_way(&r, b->in, b->n, way);
            if (r.rc >= 0)
                fail_msg("way %d accepted: %s\n%s", way, b->in, rig_log(&r));
            assert_int_equal(r.rc, b->status == 431 || b->status == 414 ? E_LIMIT : E_PROTOCOL);
            if (strcmp(r.c->error_text, b->text) != 0)
                fail_msg("%s\nsays %s, not %s", b->in, r.c->error_text, b->text);
            assert_non_null(r.c->error_reason);
            assert_int_equal(r.c->answer->head.status, b->status);
            expect_one_answer(&r, b);
            assert_int_equal(r.c->state, HTTP_CODEC_FLUSH);
            assert_false(r.c->want_read);
            assert_null(r.s);
            /* Nothing after it is looked at, and nothing more is answered. */
            r.rc = 0;
            rig_clear(&r);
            rig_feed_c(&r, "GET /evil HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_string_equal(rig_log(&r), "");
            assert_string_equal(rig_sent(&r), "");
            uint64_t counted = r.stats.framing_error + r.stats.invalid_header +
                               r.stats.smuggling_rejected + r.stats.header_overflow +
                               r.stats.too_many_headers;
            assert_int_equal(counted, 1);
            rig_fini(&r);
        }
    }
}
#define REFUSE(list) refuse(list, sizeof(list) / sizeof(list[0]))

static void length_and_encoding_conflicts_case_14(void **state)
{
    static const struct bad t[] = {
        B(HEAD "Content-Length: 5\r\nTransfer-Encoding: chunked" REST, 400, BOTH),
        B(HEAD "Transfer-Encoding: chunked\r\nContent-Length: 5" REST, 400, BOTH),
        B(HEAD "Transfer-Encoding: chunked\r\nContent-Length: 0" REST, 400, BOTH),
        B(HEAD "Transfer-Encoding: xchunked" REST, 501, TE),
        B(HEAD "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked" REST, 400, TE),
        B(HEAD "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity" REST, 400, TE),
        B(HEAD "Transfer-Encoding: chunked, chunked" REST, 501, TE),
        B(HEAD "Transfer-Encoding: gzip, chunked" REST, 501, TE),
        B(HEAD "Transfer-Encoding: identity" REST, 501, TE),
        B(HEAD "Transfer-Encoding: chunked;q=1" REST, 501, TE),
        B(HEAD "Transfer-Encoding: \"chunked\"" REST, 501, TE),
        B(HEAD "Transfer-Encoding: chunked," REST, 501, TE),
        B(HEAD "Transfer-Encoding:" REST, 501, TE),
        B(HEAD "Transfer-Encoding: chun\tked" REST, 501, TE),
        B(HEAD "Content-Length: 5\r\nContent-Length: 5" REST, 400, CODEC),
        B(HEAD "Content-Length: 5\r\nContent-Length: 6" REST, 400, CODEC),
        B(HEAD "Content-Length: +5" REST, 400, CODEC),
        B(HEAD "Content-Length: -5" REST, 400, CODEC),
        B(HEAD "Content-Length: 0x5" REST, 400, CODEC),
        B(HEAD "Content-Length: 5,5" REST, 400, CODEC),
        B(HEAD "Content-Length: 5 5" REST, 400, CODEC),
        B(HEAD "Content-Length: 18446744073709551616" REST, 400, CODEC),
        B(HEAD "Content-Length: 18446744073709551621" REST, 400, CODEC),
        B(HEAD "Content-Length: 9223372036854775808" REST, 400, CODEC),
        B("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked" REST, 400,
          "http1.transfer_encoding_not_allowed"),
        B("CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 400,
          "http1.body_disallowed"),
    };
    REFUSE(t);
}

static void empty_lengths_case_15(void **state)
{
    static const struct bad t[] = {
        B(HEAD "Content-Length:" REST, 400, CODEC),
        B(HEAD "Content-Length: \t " REST, 400, CODEC),
        B(HEAD "Content-Length: 5," REST, 400, CODEC),
        B(HEAD "Content-Length: ,5" REST, 400, CODEC),
    };
    REFUSE(t);
}

static void field_lines_case_16(void **state)
{
    static const struct bad t[] = {
        B("GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", 400, CODEC),
        B("GET / HTTP/1.1\r\nHost: a\r\n:\r\n\r\n", 400, CODEC),
        B("GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400, CODEC),
        B("GET / HTTP/1.1\r\nHost: a\r\nX\t: y\r\n\r\n", 400, CODEC),
        B("GET / HTTP/1.1\r\nHost: a\r\nX y: z\r\n\r\n", 400, CODEC),
        B("GET / HTTP/1.1\r\nHost: a\r\nX(y): z\r\n\r\n", 400, CODEC),
        B("GET / HTTP/1.1\r\nHost: a\r\nX\xff: z\r\n\r\n", 400, CODEC),
        B("GET / HTTP/1.1\r\nHost: a\r\nX\x01: z\r\n\r\n", 400, CODEC),
        B("GET / HTTP/1.1\r\nHost: a\r\nX\0: z\r\n\r\n", 400, CODEC),
        B("GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400, CODEC),
        B("GET / HTTP/1.1\r\nHost: a\r\nNoColon\r\n\r\n", 400, CODEC),
        B("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400, CODEC),
        B("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n", 400, CODEC),
        B("GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, CODEC),
        B("GET / HTTP/1.1\r\nHost: a\r\nX: a\nY: b\r\n\r\n", 400, CODEC),
        B("GET / HTTP/1.1\nHost: a\n\n", 400, CODEC),
        B("GET / HTTP/1.1\r\nHost: a\r\n\nX: y\r\n\r\n", 400, CODEC),
        B("GET / HTTP/1.1\r\nHost: a\r\nX: a\rY: b\r\n\r\n", 400, CODEC),
        B("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\rY: b\r\n\r\n", 400, CODEC),
        B("GET / HTTP/1.1\r\nHost: a\r\n\rX: b\r\n\r\n", 400, CODEC),
        B("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400, CHARS),
        B("GET / HTTP/1.1\r\nHost: a\r\nX: a\x0b\r\n\r\n", 400, CHARS),
        B("GET / HTTP/1.1\r\nHost: a\r\nX: a\x7f\r\n\r\n", 400, CHARS),
        B("GET / HTTP/1.1\r\nHost: a\r\nX: a\x1b[31m\r\n\r\n", 400, CHARS),
    };
    REFUSE(t);
}

static void request_lines_case_16_28(void **state)
{
    static const struct bad t[] = {
        B("GET /\r\nHost: a\r\n\r\n", 426, "low_version"), /* HTTP/0.9 */
        B("GET\r\n\r\n", 400, CODEC),
        B("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, CODEC),
        B("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400, CODEC),
        B("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400, CHARS),
        B("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "http1.unsupported_version"),
        B("GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505, "http1.unsupported_version"),
        B("GET / HTTP/9.9\r\nHost: a\r\n\r\n", 505, "http1.unsupported_version"),
        B("GET / HTTP/9,9\r\nHost: a\r\n\r\n", 400, CODEC),
        B("GET / HTTP/x.1\r\nHost: a\r\n\r\n", 400, CODEC),
        B("GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400, CHARS),
        B("GET / http/1.1\r\nHost: a\r\n\r\n", 400, CODEC),
        B("GET / HTTP/01.1\r\nHost: a\r\n\r\n", 400, CODEC),
        B("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400, CODEC),
        B("GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n", 400, CHARS),
        B("GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n", 400, CHARS),
        B("GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 400, CODEC),
        B("GET /a\rb HTTP/1.1\r\nHost: a\r\n\r\n", 426, "low_version"),
        B("G\x01T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, CODEC),
        B("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, CODEC),
        B("G\xffT / HTTP/1.1\r\nHost: a\r\n\r\n", 400, CODEC),
        B(" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, CODEC),
        B("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, CODEC),
        B("\r\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, CODEC),
        B("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, CODEC),
        B("PRI / HTTP/1.1\r\nHost: a\r\n\r\n", 400, CODEC),
        B("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, CODEC),
        B("HTTP/1.1 200 OK\r\n\r\n", 400, CODEC),
    };
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        struct rig r;
        rig_init(&r);
        rig_start(&r, true);
        rig_feed(&r, t[i].in, t[i].n);
        if (r.rc != E_PROTOCOL)
            fail_msg("accepted %s", t[i].in);
        rig_fini(&r);
    }
    /* Blank lines in front are no parse of a head and are not counted: those are left out. */
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++)
        if (t[i].in[0] != '\n' && t[i].in[0] != '\r')
            refuse(&t[i], 1);
}

static void whitespace_around_values_is_cut_case_17(void **state)
{
    struct rig r;
    rig_init(&r);
    rig_start(&r, true);
    rig_feed_c(&r, "GET / HTTP/1.1\r\nHost: \t a \r\nX-Role:\t admin \t\r\n\r\n");
    assert_string_equal(rig_log(&r), "GET|a|/|x-role=admin end\nclose\nidle\n");
    rig_fini(&r);
}

#define CHUNKED HEAD "Transfer-Encoding: chunked\r\n\r\n"

static void chunks_case_18(void **state)
{
    static const struct bad t[] = {
        B(CHUNKED "x\r\n", 400, CODEC),
        B(CHUNKED "\r\n", 400, CODEC),
        B(CHUNKED " 5\r\nhello\r\n", 400, CODEC),
        B(CHUNKED "+5\r\nhello\r\n", 400, CODEC),
        B(CHUNKED "0x5\r\nhello\r\n", 400, CODEC),
        B(CHUNKED "-1\r\n", 400, CODEC),
        B(CHUNKED ";a\r\n", 400, CODEC),
        B(CHUNKED "5 6\r\nhello\r\n", 400, CODEC),
        B(CHUNKED "5\nhello\r\n", 400, CODEC),
        B(CHUNKED "5\r\rhello", 400, CODEC),
        B(CHUNKED "5\r\nhello0\r\n", 400, CODEC),
        B(CHUNKED "5\r\nhello\n0\r\n", 400, CODEC),
        B(CHUNKED "5\r\nhello\r0\r\n", 400, CODEC),
        B(CHUNKED "5;a\nb\r\nhello\r\n", 400, CODEC),
        B(CHUNKED "5;a\0b\r\nhello\r\n", 400, CODEC),
        B(CHUNKED "5;a\rb\r\nhello\r\n", 400, CODEC),
        B(CHUNKED "10000000000000000\r\n", 400, CODEC),
        B(CHUNKED "ffffffffffffffff\r\n", 400, CODEC),
        B(CHUNKED "8000000000000000\r\n", 400, CODEC),
        B(CHUNKED "0\r\nX : y\r\n\r\n", 400, CODEC),
        B(CHUNKED "0\r\nX: y\n\r\n", 400, CODEC),
        B(CHUNKED "0\r\n: y\r\n\r\n", 400, CODEC),
        B(CHUNKED "0\r\n fold\r\n\r\n", 400, CODEC),
        B(CHUNKED "0\r\nGET / HTTP/1.1\r\n\r\n", 400, CODEC),
    };
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        for (int way = 0; way < RIG_WAYS; way++) {
            struct rig r;
            rig_init(&r);
            r.answer = never_answers;
            rig_start(&r, true);
            rig_feed_way(&r, t[i].in, t[i].n, way);
            if (r.rc != E_PROTOCOL)
                fail_msg("way %d accepted: %s", way, t[i].in);
            expect_one_answer(&r, &t[i]);
            assert_non_null(strstr(rig_log(&r), "reset protocol_error http1."));
            assert_non_null(strstr(rig_log(&r), "\nclose\nidle\n"));
            assert_string_equal(r.c->error_text, t[i].text);
            assert_int_equal(r.c->state, HTTP_CODEC_FLUSH);
            assert_null(r.s);
            rig_fini(&r);
        }
    }
}

static void chunk_extensions_are_bounded_case_18(void **state)
{
    struct rig r;
    rig_init(&r);
    rig_start(&r, true);
    char ext[300];
    memset(ext, 'e', sizeof(ext));
    rig_feed_c(&r, CHUNKED "5;");
    rig_feed(&r, ext, sizeof(ext));
    assert_int_equal(r.rc, E_PROTOCOL);
    assert_string_equal(r.c->error_reason, "chunk size line is too long");
    rig_fini(&r);

    /* Many short ones, too: more framing than data can justify. */
    rig_init(&r);
    rig_start(&r, true);
    rig_feed_c(&r, CHUNKED);
    int chunks = 0;
    for (; r.rc == 0 && chunks < 1000; chunks++)
        rig_feed_c(&r, "1;0123456789012345678901234567890123456789012345678901234567890123456789"
                       "\r\nx\r\n");
    assert_int_equal(r.rc, E_PROTOCOL);
    assert_string_equal(r.c->error_reason, "too much chunk framing for the data it carries");
    assert_in_range(chunks, 200, 400);
    rig_fini(&r);
}

static void tiny_chunks_are_put_together_case_10(void **state)
{
    struct rig r;
    struct strbuf in;
    rig_init(&r);
    r.answer = never_answers;
    rig_start(&r, true);
    strbuf_init(&in, 1 << 20);
    strbuf_add_c(&in, CHUNKED);
    for (int i = 0; i < 2000; i++)
        strbuf_addf(&in, "1\r\n%c\r\n", 'a' + i % 26);
    size_t before = buf_pool_blocks_in_use();
    rig_feed(&r, in.p, in.n);
    assert_int_equal(r.rc, 0);
    assert_int_equal(r.s->body_bytes_in, 2000);
    assert_int_equal(buf_pool_blocks_in_use(), before);
    rig_fini(&r);
    strbuf_fini(&in);

    /* What a user keeps of it costs what it weighs. */
    struct buf from, kept;
    struct h1_chunk k;
    struct h1_error err;
    buf_init(&from);
    buf_init(&kept);
    for (int i = 0; i < 2000; i++)
        buf_append_sv(&from, SV("1\r\nx\r\n"));
    h1_chunk_init(&k);
    assert_int_equal(h1_chunk_feed(&k, &from, &kept, 256, &err), H1_CHUNK_MORE);
    assert_int_equal(kept.len, 2000);
    assert_true(buf_pinned(&kept) <= 20000);
    buf_reset(&kept);
}

static void host_case_25(void **state)
{
    static const struct bad t[] = {
        B("GET / HTTP/1.1\r\n\r\n", 400, "missing_host_header"),
        B("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, "missing_host_header"),
        B("GET / HTTP/1.1\r\nHost: \t\r\n\r\n", 400, "missing_host_header"),
        B("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, CODEC),
        B("GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n", 400, CODEC),
        B("GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", 400, CODEC),
        B("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, CODEC),
        B("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400, CODEC),
        B("GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", 400, CODEC),
        B("GET http://b/ HTTP/1.1\r\n\r\n", 400, "missing_host_header"),
        B("GET http://u@b/ HTTP/1.1\r\nHost: b\r\n\r\n", 400, URL),
        B("GET http:///x HTTP/1.1\r\nHost: b\r\n\r\n", 400, URL),
        B("GET ftp://b/ HTTP/1.1\r\nHost: b\r\n\r\n", 400, "http1.invalid_scheme"),
        B("GET * HTTP/1.1\r\nHost: b\r\n\r\n", 400, URL),
        B("GET a/b HTTP/1.1\r\nHost: b\r\n\r\n", 400, CODEC),
        B("GET b:80 HTTP/1.1\r\nHost: b\r\n\r\n", 400, CODEC),
        B("GET /a#b HTTP/1.1\r\nHost: b\r\n\r\n", 400, URL),
        B("CONNECT / HTTP/1.1\r\nHost: b\r\n\r\n", 400, URL),
        B("CONNECT b HTTP/1.1\r\nHost: b\r\n\r\n", 400, URL),
        B("CONNECT http://b:80/ HTTP/1.1\r\nHost: b\r\n\r\n", 400, URL),
        B("CONNECT u@b:80 HTTP/1.1\r\nHost: b\r\n\r\n", 400, URL),
    };
    REFUSE(t);
}

static void too_large_case_8_12(void **state)
{
    struct strbuf many, long_value, target;
    strbuf_init(&many, 1 << 20);
    strbuf_init(&long_value, 1 << 20);
    strbuf_init(&target, 1 << 20);
    strbuf_add_c(&many, "GET / HTTP/1.1\r\nHost: a\r\n");
    for (int i = 0; i < 100; i++)
        strbuf_add_c(&many, "a:b\r\n");
    strbuf_add_c(&many, "\r\n");
    strbuf_addf(&long_value, "GET / HTTP/1.1\r\nHost: a\r\nX: %061440d\r\n\r\n", 1);
    strbuf_addf(&target, "GET /%070000d HTTP/1.1\r\nHost: a\r\n\r\n", 1);
    const struct bad t[] = {
        {many.p, many.n, 431, "http1.too_many_headers"},
        {long_value.p, long_value.n, 431, "http1.headers_too_large"},
        {target.p, target.n, 431, "http1.headers_too_large"},
    };
    REFUSE(t);
    /* Not one byte of it needs to be complete. */
    struct rig r;
    rig_init(&r);
    rig_start(&r, true);
    while (r.rc == 0 && r.in.len < 1 << 20)
        rig_feed(&r, long_value.p + 30, 1000);
    assert_int_equal(r.rc, E_LIMIT);
    rig_fini(&r);

    rig_init(&r);
    r.l.max_uri_bytes = 100;
    rig_start(&r, true);
    rig_feed(&r, target.p, 1000);
    assert_int_equal(r.rc, E_LIMIT);
    assert_int_equal(r.c->answer->head.status, 414);
    rig_fini(&r);
    strbuf_fini(&many);
    strbuf_fini(&long_value);
    strbuf_fini(&target);
}

static void options_change_what_is_refused(void **state)
{
    struct rig r;
    rig_init(&r);
    r.l.allow_http10 = false;
    rig_start(&r, true);
    rig_feed_c(&r, "GET / HTTP/1.0\r\n\r\n");
    assert_int_equal(r.c->answer->head.status, 426);
    assert_string_equal(r.c->error_text, "low_version");
    rig_fini(&r);

    rig_init(&r);
    r.l.allow_chunked_length = true;
    rig_start(&r, true);
    rig_feed_c(&r,
               HEAD "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n");
    assert_string_equal(rig_log(&r), "POST|a|/|transfer-encoding=chunked\n<x> end\nclose\nidle\n");
    rig_fini(&r);

    rig_init(&r);
    r.l.allow_absolute_url = false;
    rig_start(&r, true);
    rig_feed_c(&r, "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(r.c->answer->head.status, 400);
    rig_fini(&r);

    rig_init(&r);
    r.l.allow_underscores = false;
    rig_start(&r, true);
    rig_feed_c(&r, "GET / HTTP/1.1\r\nHost: a\r\nX_y: 1\r\nZ: 2\r\n\r\n");
    assert_string_equal(rig_log(&r), "GET|a|/|z=2 end\nclose\nidle\n");
    assert_int_equal(r.stats.dropped_headers_with_underscores, 1);
    rig_fini(&r);

    rig_init(&r);
    r.l.allow_underscores = false;
    r.l.reject_underscores = true;
    rig_start(&r, true);
    rig_feed_c(&r, "GET / HTTP/1.1\r\nHost: a\r\nX_y: 1\r\n\r\n");
    assert_string_equal(r.c->error_text, "http1.unexpected_underscore");
    assert_int_equal(r.stats.requests_rejected_with_underscores_in_headers, 1);
    rig_fini(&r);
}

static void add_server(void *user, struct http_headers *to)
{
    http_headers_add_id(to, HTTP_H_SERVER, SV("weft"));
}

static void bad_requests_are_answered_once_case_11(void **state)
{
    struct rig r;
    rig_init(&r);
    rig_start(&r, true);
    for (int i = 0; i < 1000; i++)
        buf_append_sv(&r.in, SV("BAD\r\n\r\n"));
    rig_turn(&r);
    assert_string_equal(rig_sent(&r), "HTTP/1.1 400 Bad Request\r\ncontent-length: 11\r\n"
                                      "content-type: text/plain\r\nconnection: close\r\n\r\n"
                                      "Bad Request");
    assert_int_equal(r.in.len, 0);
    rig_fini(&r);

    /* What the glue has every answer carry. */
    rig_init(&r);
    rig_start(&r, true);
    r.c->error_fields = add_server;
    rig_feed_c(&r, "BAD\r\n\r\n");
    assert_non_null(strstr(rig_sent(&r), "\r\nserver: weft\r\nconnection: close\r\n\r\n"));
    rig_fini(&r);

    /* A response that has begun is not followed by an answer of ours. */
    rig_init(&r);
    r.answer = never_answers;
    rig_start(&r, true);
    rig_feed_c(&r, CHUNKED);
    struct http_head m;
    http_head_init(&m, r.s->arena);
    m.status = 200;
    r.s->ops->send_head(r.s, &m, false);
    rig_feed_c(&r, "zz\r\n");
    assert_int_equal(r.rc, E_PROTOCOL);
    assert_null(strstr(rig_sent(&r), "400"));
    assert_int_equal(r.c->state, HTTP_CODEC_FLUSH);
    rig_fini(&r);
}

#define T(fn) cmocka_unit_test(fn)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(length_and_encoding_conflicts_case_14),
        T(empty_lengths_case_15),
        T(field_lines_case_16),
        T(request_lines_case_16_28),
        T(whitespace_around_values_is_cut_case_17),
        T(chunks_case_18),
        T(chunk_extensions_are_bounded_case_18),
        T(tiny_chunks_are_put_together_case_10),
        T(host_case_25),
        T(too_large_case_8_12),
        T(options_change_what_is_refused),
        T(bad_requests_are_answered_once_case_11),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
