/* The HTTP/1 server codec against any bytes. Beyond not crashing:
 *
 *   - the same bytes in other pieces give the same events;
 *   - each stream is closed exactly once, nothing comes after that;
 *   - a request that was taken and is written again by the client codec is read as the same single
 *     request with the same body (no two readings, attack cases 14 to 18).
 *
 * Input: first byte = options, second = seed of the pieces, rest = what the client sends. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/strbuf.h"
#include "h1/h1.h"

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- the second hop: what was received, written by a client codec and read again ---- */

struct hop {
    struct http_codec *client, *server;
    struct http_stream *out;
    struct http_limits l;
    int heads, ends, errors;
    uint64_t body, sent;
    struct strbuf line;
};

static void hop_head(void *user, struct http_head *m, bool end)
{
    struct hop *h = user;
    h->heads++;
    h->ends += end;
    strbuf_addf(&h->line, "%.*s %.*s %.*s %u", SV_ARG(m->method), SV_ARG(m->authority),
                SV_ARG(m->path), m->h.n);
}
static void hop_data(void *user, struct buf *d, bool end)
{
    struct hop *h = user;
    h->body += d->len;
    h->ends += end;
}
static void hop_reset(void *user, enum http_reset why, const char *details)
{
    ((struct hop *)user)->errors += why == HTTP_RESET_PROTOCOL;
}
static const struct http_stream_events hop_stream = {
    .on_head = hop_head, .on_data = hop_data, .on_reset = hop_reset};
static const struct http_stream_events nobody;
static bool hop_accept(void *user, struct http_stream *s)
{
    http_stream_set_user(s, &hop_stream, user);
    return true;
}
static const struct http_codec_events hop_events = {.on_stream = hop_accept};

static void hop_carry(struct hop *h)
{
    struct buf in;
    buf_init(&in);
    size_t n = h->client->out.len;
    buf_move(&in, &h->client->out);
    CHECK(h->server->ops->feed(h->server, &in) == 0);
    CHECK(in.len == 0);
    buf_reset(&in);
    h->client->ops->wrote(h->client, n);
}

static struct hop *hop_new(const struct http_head *m, bool end)
{
    struct hop *h = calloc(1, sizeof(*h));
    CHECK(h);
    http_limits_default(&h->l);
    h->l.max_headers = 1000;
    h->l.max_head_bytes = h->l.max_uri_bytes = 1 << 20;
    strbuf_init(&h->line, 1 << 21);
    h->client = h1_client_new(&h->l, &hop_events, h);
    h->server = h1_server_new(&h->l, &hop_events, h);
    h->out = h->client->ops->open(h->client, &nobody, h);
    struct http_head copy = *m;
    if (!copy.authority.n)
        copy.authority = SV("http10.example");
    CHECK(h->out->ops->send_head(h->out, &copy, end) == 0);
    hop_carry(h);
    struct strbuf want;
    strbuf_init(&want, 1 << 21);
    strbuf_addf(&want, "%.*s %.*s %.*s ", SV_ARG(copy.method), SV_ARG(copy.authority),
                SV_ARG(copy.path));
    CHECK(h->heads == 1 && h->line.n >= want.n && memcmp(h->line.p, want.p, want.n) == 0);
    strbuf_fini(&want);
    return h;
}

static void hop_free(struct hop *h)
{
    if (!h)
        return;
    CHECK(h->heads == 1 && h->errors == 0 && h->body == h->sent && h->ends <= 1);
    h->client->ops->free(h->client);
    h->server->ops->free(h->server);
    strbuf_fini(&h->line);
    free(h);
}

/* ---- the codec under test ---- */

struct run {
    struct http_codec *c;
    struct http_stream *s;
    struct strbuf log;
    struct hop *hop;
    int rc;
};

static void answer(struct run *r)
{
    struct http_head m;
    struct buf b;
    http_head_init(&m, r->s->arena);
    m.status = 200;
    r->s->ops->send_head(r->s, &m, false);
    buf_init(&b);
    buf_append_sv(&b, SV("body"));
    r->s->ops->send_data(r->s, &b, true);
}

static void on_head(void *user, struct http_head *m, bool end)
{
    struct run *r = user;
    CHECK(r->s && !m->status && m->method.n);
    strbuf_addf(&r->log, "%.*s %.*s %.*s %d", SV_ARG(m->method), SV_ARG(m->authority),
                SV_ARG(m->path), end);
    for (uint32_t i = 0; i < m->h.n; i++) {
        CHECK(http_name_lower_valid(m->h.v[i].name) && http_value_valid(m->h.v[i].value));
        CHECK(m->h.v[i].id == http_name_find(m->h.v[i].name));
        strbuf_addf(&r->log, "|%.*s:%.*s", SV_ARG(m->h.v[i].name), SV_ARG(m->h.v[i].value));
    }
    bool special = m->upgrade || sv_eq(m->method, SV("CONNECT"));
    if (!special)
        r->hop = hop_new(m, end);
    if (end || special)
        answer(r);
}
static void on_data(void *user, struct buf *d, bool end)
{
    struct run *r = user;
    CHECK(r->s && (d->len || end));
    struct iovec v[64];
    for (int n; (n = buf_iov(d, v, 64, SIZE_MAX)) > 0;) {
        for (int i = 0; i < n; i++) {
            strbuf_add(&r->log, v[i].iov_base, v[i].iov_len);
            if (r->hop) {
                struct buf copy;
                buf_init(&copy);
                buf_append(&copy, v[i].iov_base, v[i].iov_len);
                r->hop->sent += v[i].iov_len;
                CHECK(r->hop->out->ops->send_data(r->hop->out, &copy, false) == 0);
                hop_carry(r->hop);
            }
            buf_drain(d, v[i].iov_len);
        }
    }
    if (!end)
        return;
    strbuf_add_c(&r->log, " end\n");
    if (r->hop && !r->hop->ends) {
        struct buf none;
        buf_init(&none);
        CHECK(r->hop->out->ops->send_data(r->hop->out, &none, true) == 0);
        hop_carry(r->hop);
        CHECK(r->hop->ends == 1);
    }
    answer(r);
}
static void on_trailers(void *user, struct http_headers *t)
{
    struct run *r = user;
    for (uint32_t i = 0; i < t->n; i++)
        strbuf_addf(&r->log, "~%.*s:%.*s", SV_ARG(t->v[i].name), SV_ARG(t->v[i].value));
    answer(r);
}
static void on_close(void *user)
{
    struct run *r = user;
    CHECK(r->s);
    r->s = NULL;
    strbuf_add_c(&r->log, "\nclose\n");
    hop_free(r->hop);
    r->hop = NULL;
}
static const struct http_stream_events stream_events = {
    .on_head = on_head, .on_data = on_data, .on_trailers = on_trailers, .on_close = on_close};
static bool on_stream(void *user, struct http_stream *s)
{
    struct run *r = user;
    CHECK(!r->s && !r->hop);
    r->s = s;
    http_stream_set_user(s, &stream_events, r);
    return true;
}
static const struct http_codec_events events = {.on_stream = on_stream};

static void turn(struct run *r, struct buf *in)
{
    size_t before = SIZE_MAX;
    while (r->rc == 0 && in->len && in->len != before) {
        before = in->len;
        r->rc = r->c->ops->feed(r->c, in);
        size_t n = r->c->out.len;
        buf_reset(&r->c->out);
        r->c->ops->wrote(r->c, n);
    }
}

static void run(struct run *r, uint8_t options, uint32_t seed, const uint8_t *p, size_t n)
{
    struct http_limits l;
    struct buf in;
    http_limits_default(&l);
    l.enable_trailers = options & 1;
    l.allow_http10 = options & 2;
    l.allow_chunked_length = options & 4;
    l.allow_underscores = options & 8;
    l.max_headers = 20;
    l.max_head_bytes = l.max_uri_bytes = 2000;
    memset(r, 0, sizeof(*r));
    strbuf_init(&r->log, 1 << 24);
    r->c = h1_server_new(&l, &events, r);
    buf_init(&in);
    while (n && r->rc == 0) {
        seed = seed * 1664525u + 1013904223u;
        size_t k = seed == 1013904223u ? n : 1 + (seed >> 16) % 13; /* seed 0: all at once */
        k = k < n ? k : n;
        if (seed & 2)
            buf_append_static(&in, sv_make((const char *)p, k));
        else
            buf_append(&in, p, k);
        turn(r, &in);
        p += k;
        n -= k;
    }
    buf_reset(&in);
    if (r->rc == 0)
        r->c->ops->feed_eof(r->c);
    r->c->ops->free(r->c);
    CHECK(!r->s && !r->hop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run whole, pieces;
    if (size < 2)
        return 0;
    run(&whole, data[0], 0, data + 2, size - 2);
    run(&pieces, data[0], data[1] * 2654435761u + 1, data + 2, size - 2);
    if (whole.rc == 0) {
        CHECK(pieces.rc == 0 && whole.log.n == pieces.log.n);
        CHECK(whole.log.n == 0 || memcmp(whole.log.p, pieces.log.p, whole.log.n) == 0);
    }
    strbuf_fini(&whole.log);
    strbuf_fini(&pieces.log);
    return 0;
}
