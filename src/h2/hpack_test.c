/* HPACK against the examples of RFC 7541, against libnghttp2 in both directions with random
 * fields, cut at every byte, and against what must be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <nghttp2/nghttp2.h>
#include "base/rand.h"
#include "base/strbuf.h"
#include "h2/hpack.h"

/* Collects fields as "name: value\n". */
static void collect(void *user, const struct hpack_field *f)
{
    struct strbuf *s = user;
    strbuf_add_sv(s, f->name);
    strbuf_add_c(s, ": ");
    strbuf_add_sv(s, f->value);
    strbuf_add_c(s, f->flags & HPACK_F_NEVER_INDEX ? " !\n" : "\n");
    assert_int_equal(f->id, hpack_id(f->name));
}

static size_t unhex(const char *text, uint8_t *out)
{
    size_t n = 0;
    for (const char *p = text; *p; p++) {
        if (*p == ' ')
            continue;
        unsigned v;
        sscanf(p, "%2x", &v);
        out[n++] = (uint8_t)v;
        p++;
    }
    return n;
}

/* Decodes a block, whole or a byte at a time as a session does with CONTINUATION. */
static ssize_t decode(struct hpack_decoder *d, const uint8_t *p, size_t n, bool bytewise,
                      struct strbuf *out)
{
    if (!bytewise)
        return hpack_decode(d, p, n, true, collect, out);
    size_t from = 0;
    for (size_t to = 1; to <= n; to++) {
        /* Only the bytes up to `to` exist: copied, so that a sanitizer sees what is read. */
        uint8_t *piece = malloc(to - from);
        memcpy(piece, p + from, to - from);
        ssize_t used = hpack_decode(d, piece, to - from, to == n, collect, out);
        free(piece);
        if (used < 0)
            return used;
        from += (size_t)used;
    }
    return (ssize_t)from;
}

struct example {
    const char *hex, *fields;
    uint32_t table_bytes;
};

static void run_examples(const struct example *e, size_t n, uint32_t max)
{
    for (int bytewise = 0; bytewise < 2; bytewise++) {
        struct hpack_decoder d;
        hpack_decoder_init(&d);
        hpack_table_set_max(&d.t, max);
        for (size_t i = 0; i < n; i++) {
            uint8_t p[512];
            struct strbuf out;
            strbuf_init(&out, 4096);
            size_t len = unhex(e[i].hex, p);
            assert_int_equal(decode(&d, p, len, bytewise, &out), len);
            assert_string_equal(out.p, e[i].fields);
            assert_int_equal(d.t.size, e[i].table_bytes);
            strbuf_fini(&out);
        }
        hpack_decoder_fini(&d);
    }
}

static void test_rfc_examples(void **state)
{
    static const struct example plain[] = {
        {"400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
         "custom-key: custom-header\n", 55},
    };
    static const struct example never[] = {
        {"1008 7061 7373 776f 7264 0673 6563 7265 74", "password: secret !\n", 0},
        {"040c 2f73 616d 706c 652f 7061 7468", ":path: /sample/path\n", 0},
        {"82", ":method: GET\n", 0},
    };
    static const struct example requests[] = {
        {"8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
         ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n", 57},
        {"8286 84be 5886 a8eb 1064 9cbf",
         ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n"
         "cache-control: no-cache\n",
         110},
        {"8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
         ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\n"
         "custom-key: custom-value\n",
         164},
    };
    static const struct example responses[] = {
        {"4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b "
         "ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
         ":status: 302\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\n"
         "location: https://www.example.com\n",
         222},
        {"4883 640e ffc1 c0bf",
         ":status: 307\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\n"
         "location: https://www.example.com\n",
         222},
        {"88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad "
         "94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 "
         "65c0 03ed 4ee5 b106 3d50 07",
         ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\n"
         "location: https://www.example.com\ncontent-encoding: gzip\n"
         "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n",
         215},
    };
    run_examples(plain, 1, 4096);
    run_examples(never, 3, 4096);
    run_examples(requests, 3, 4096);
    run_examples(responses, 3, 256);
}

static void test_refused(void **state)
{
    static const struct {
        const char *hex, *why;
    } cases[] = {
        {"80", "index 0"},
        {"be", "index past the static table, empty dynamic one"},
        {"ff80 8080 8080 7f", "integer too long"},
        {"ffff ffff ff0f", "integer overflow"},
        {"0085 ffff ffff ff01 61", "EOS inside, padding longer than 7 bits"},
        {"0081 fe01 61", "padding that is not ones"},
        {"0083 1fff ff01 61", "padding of two bytes"},
        {"82 20", "size update after a field"},
        {"3fe2 1f", "size update past what was announced (4097)"},
        {"0003 6162", "string longer than the block"},
        {"7f", "cut integer"},
        {"40", "cut literal"},
        {"4001 61", "cut before the value"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int bytewise = 0; bytewise < 2; bytewise++) {
            uint8_t p[64];
            struct strbuf out;
            strbuf_init(&out, 4096);
            struct hpack_decoder d;
            hpack_decoder_init(&d);
            size_t n = unhex(cases[i].hex, p);
            if (decode(&d, p, n, bytewise, &out) != E_PROTOCOL)
                fail_msg("taken: %s", cases[i].why);
            hpack_decoder_fini(&d);
            strbuf_fini(&out);
        }
}

static void keep_flags(void *user, const struct hpack_field *f)
{
    *(uint16_t *)user = f->flags;
}

/* What is wrong with a name or value is known again when the field comes from the table. */
static void test_bad_fields(void **state)
{
    static const struct {
        const char *hex;
        uint16_t flags;
    } cases[] = {
        {"4001 4101 62", HPACK_F_BAD_NAME},       /* upper case */
        {"4000 0162", HPACK_F_BAD_NAME},          /* empty name */
        {"4002 6120 0162", HPACK_F_BAD_NAME},     /* space */
        {"4003 3a78 7901 62", HPACK_F_BAD_NAME},  /* :xy */
        {"4001 6103 610d 62", HPACK_F_BAD_VALUE}, /* CR */
        {"4001 6103 6100 62", HPACK_F_BAD_VALUE}, /* NUL */
        {"4001 6103 6109 62", 0},                 /* HTAB */
        {"4001 6103 61ff 62", 0},                 /* obs-text */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t p[64];
        uint16_t flags = 0xffff;
        struct hpack_decoder d;
        hpack_decoder_init(&d);
        size_t n = unhex(cases[i].hex, p);
        assert_int_equal(hpack_decode(&d, p, n, true, keep_flags, &flags), n);
        assert_int_equal(flags, cases[i].flags);
        flags = 0xffff;
        assert_int_equal(hpack_decode(&d, (const uint8_t *)"\xbe", 1, true, keep_flags, &flags), 1);
        assert_int_equal(flags, cases[i].flags);
        hpack_decoder_fini(&d);
    }
}

static void test_shrunk_table(void **state)
{
    struct hpack_decoder d;
    struct strbuf out;
    hpack_decoder_init(&d);
    strbuf_init(&out, 4096);
    hpack_decoder_allow(&d, 100);
    /* The next block must begin with an update (RFC 7541 4.2). */
    assert_int_equal(decode(&d, (const uint8_t *)"\x82", 1, false, &out), E_PROTOCOL);
    assert_int_equal(decode(&d, (const uint8_t *)"\x3f\x45\x82", 3, false, &out), 3);
    assert_int_equal(d.t.max, 100);
    hpack_decoder_fini(&d);
    strbuf_fini(&out);
}

/* Insertions whose name lies in the entry they evict, over many renewals of the bytes. */
static void test_table_wraps(void **state)
{
    struct hpack_table t = {.max = 200};
    char name[64], value[64];
    for (int i = 0; i < 2000; i++) {
        int vn = snprintf(value, sizeof value, "value-%d-%.*s", i, i % 40,
                          "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
        int nn = snprintf(name, sizeof name, "name-%d", i % 7);
        sv n = sv_make(name, (size_t)nn);
        if (t.count && i % 3 == 0) {
            n = hpack_entry_name(&t, hpack_table_at(&t, t.count - 1));
            memcpy(name, n.p, n.n);
            nn = (int)n.n;
        }
        struct hpack_entry *e = hpack_table_add(&t, n, sv_make(value, (size_t)vn));
        assert_non_null(e);
        assert_true(sv_eq(hpack_entry_name(&t, e), sv_make(name, (size_t)nn)));
        assert_true(sv_eq(hpack_entry_value(&t, e), sv_make(value, (size_t)vn)));
        assert_true(t.size <= t.max);
    }
    assert_true(t.bytes_cap <= 1024);
    hpack_table_fini(&t);
}

static void test_huffman_all_bytes(void **state)
{
    char in[256 * 3], out[HPACK_HUFF_MAX(256 * 4 * 3)];
    uint8_t coded[256 * 4 * 3];
    for (int len = 0; len < 256 * 3; len++) {
        for (int i = 0; i < len; i++)
            in[i] = (char)(i * 7 + len);
        sv v = sv_make(in, (size_t)len);
        uint8_t *end = hpack_huff_encode(coded, v);
        assert_int_equal(end - coded, hpack_huff_bytes(v));
        assert_int_equal(hpack_huff_decode(coded, (size_t)(end - coded), out), len);
        assert_memory_equal(in, out, len);
    }
}

/* ---- against libnghttp2 ---- */

static struct rand_state rnd;

struct pair {
    char name[24], value[200];
    bool never;
};

static size_t make_fields(struct pair *f, size_t most)
{
    static const char *const names[] = {
        ":path",           ":authority",   ":status", "user-agent", "x-request-id", "cookie",
        "accept-language", "grpc-timeout", "etag",    "x-a",        "date",         "via"};
    size_t n = 1 + rand_below(&rnd, most);
    for (size_t i = 0; i < n; i++) {
        snprintf(f[i].name, sizeof f[i].name, "%s", names[rand_below(&rnd, 12)]);
        f[i].never = rand_below(&rnd, 8) == 0;
        size_t len = rand_below(&rnd, 10) == 0 ? rand_below(&rnd, 190) : rand_below(&rnd, 12);
        for (size_t k = 0; k < len; k++)
            f[i].value[k] = (char)(rand_below(&rnd, 20) ? 'a' + (int)rand_below(&rnd, 3)
                                                        : 1 + (int)rand_below(&rnd, 255));
        f[i].value[len] = 0;
    }
    return n;
}

static void expect_text(struct strbuf *s, const struct pair *f, size_t n)
{
    for (size_t i = 0; i < n; i++)
        strbuf_addf(s, "%s: %s%s\n", f[i].name, f[i].value, f[i].never ? " !" : "");
}

static void nghttp2_take(nghttp2_hd_inflater *inf, const uint8_t *p, size_t n, struct strbuf *out)
{
    for (;;) {
        nghttp2_nv nv;
        int flags = 0;
        ssize_t used = nghttp2_hd_inflate_hd2(inf, &nv, &flags, p, n, 1);
        assert_true(used >= 0);
        p += used;
        n -= (size_t)used;
        if (flags & NGHTTP2_HD_INFLATE_EMIT)
            strbuf_addf(out, "%.*s: %.*s%s\n", (int)nv.namelen, nv.name, (int)nv.valuelen, nv.value,
                        nv.flags & NGHTTP2_NV_FLAG_NO_INDEX ? " !" : "");
        if (flags & NGHTTP2_HD_INFLATE_FINAL)
            break;
    }
    nghttp2_hd_inflate_end_headers(inf);
}

static void test_our_encoder(void **state)
{
    for (unsigned seed = 1; seed <= 60; seed++) {
        rand_seed(&rnd, seed);
        nghttp2_hd_inflater *inf;
        nghttp2_hd_inflate_new(&inf);
        struct hpack_encoder e;
        hpack_encoder_init(&e);
        for (int block = 0; block < 40; block++) {
            struct pair f[20];
            size_t n = make_fields(f, 20);
            uint8_t out[16384];
            if (rand_below(&rnd, 10) == 0)
                hpack_encoder_set_max(&e, (uint32_t)rand_below(&rnd, 600));
            if (rand_below(&rnd, 10) == 0)
                hpack_encoder_set_max(&e, (uint32_t)rand_below(&rnd, 4097));
            uint8_t *p = hpack_encode_begin(&e, out);
            for (size_t i = 0; i < n; i++) {
                uint8_t *from = p;
                sv name = sv_of(f[i].name), value = sv_of(f[i].value);
                p = hpack_encode(&e, p, hpack_id(name), name, value, f[i].never);
                assert_true((size_t)(p - from) <= HPACK_FIELD_MAX(name.n, value.n));
                /* What is in a table already is sent as an index, whatever was asked. */
                if (from[0] & 0x80)
                    f[i].never = false;
            }
            struct strbuf want, got;
            strbuf_init(&want, 1 << 20);
            strbuf_init(&got, 1 << 20);
            expect_text(&want, f, n);
            nghttp2_take(inf, out, (size_t)(p - out), &got);
            assert_string_equal(got.p, want.p);
            strbuf_fini(&want);
            strbuf_fini(&got);
        }
        hpack_encoder_fini(&e);
        nghttp2_hd_inflate_del(inf);
    }
}

static void test_our_decoder(void **state)
{
    for (unsigned seed = 1; seed <= 60; seed++) {
        rand_seed(&rnd, seed);
        nghttp2_hd_deflater *def;
        nghttp2_hd_deflate_new(&def, 4096);
        struct hpack_decoder d;
        hpack_decoder_init(&d);
        for (int block = 0; block < 40; block++) {
            struct pair f[20];
            nghttp2_nv nv[20];
            size_t n = make_fields(f, 20);
            for (size_t i = 0; i < n; i++)
                nv[i] = (nghttp2_nv){(uint8_t *)f[i].name, (uint8_t *)f[i].value, strlen(f[i].name),
                                     strlen(f[i].value),
                                     f[i].never ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE};
            if (rand_below(&rnd, 10) == 0)
                nghttp2_hd_deflate_change_table_size(def, rand_below(&rnd, 4097));
            uint8_t out[16384];
            ssize_t len = nghttp2_hd_deflate_hd(def, out, sizeof out, nv, n);
            assert_true(len > 0);
            struct strbuf want, got;
            strbuf_init(&want, 1 << 20);
            strbuf_init(&got, 1 << 20);
            /* nghttp2 marks short cookies as never indexed by itself. */
            for (size_t i = 0; i < n; i++)
                if (strcmp(f[i].name, "cookie") == 0 && strlen(f[i].value) < 20)
                    f[i].never = true;
            expect_text(&want, f, n);
            assert_int_equal(decode(&d, out, (size_t)len, block % 2, &got), len);
            assert_string_equal(got.p, want.p);
            strbuf_fini(&want);
            strbuf_fini(&got);
        }
        hpack_decoder_fini(&d);
        nghttp2_hd_deflate_del(def);
    }
}

/* Repeated fields shrink to an index, unique ones never enter the table. */
static void test_encoder_policy(void **state)
{
    struct hpack_encoder e;
    uint8_t out[1024], *p = out;
    hpack_encoder_init(&e);
    for (int i = 0; i < 50; i++) {
        char id[16];
        snprintf(id, sizeof id, "id-%d", i);
        p = hpack_encode_begin(&e, out);
        p = hpack_encode(&e, p, HTTP_H_USER_AGENT, SV("user-agent"), SV("curl/8"), 0);
        p = hpack_encode(&e, p, HTTP_H_X_REQUEST_ID, SV("x-request-id"), sv_of(id), 0);
        p = hpack_encode(&e, p, HTTP_H_COOKIE, SV("cookie"), SV("secret=1"), 0);
    }
    assert_int_equal(out[0], 0x80 | 62);
    assert_int_equal(e.t.count, 1);
    hpack_encoder_fini(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc_examples),   cmocka_unit_test(test_refused),
        cmocka_unit_test(test_bad_fields),     cmocka_unit_test(test_shrunk_table),
        cmocka_unit_test(test_table_wraps),    cmocka_unit_test(test_huffman_all_bytes),
        cmocka_unit_test(test_our_encoder),    cmocka_unit_test(test_our_decoder),
        cmocka_unit_test(test_encoder_policy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
