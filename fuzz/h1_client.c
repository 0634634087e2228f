/* The HTTP/1 client codec against any bytes of a server: the same bytes in other pieces give the
 * same events; a stream is closed once; a connection is only reused when nothing was left over.
 * Input: first byte = kind of request, second = seed of the pieces, rest = what the server sends.
 */
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

struct run {
    struct http_codec *c;
    struct http_stream *s;
    struct strbuf log;
    bool ended;
    int rc;
};

static void log_head(struct run *r, const char *kind, struct http_head *m)
{
    strbuf_addf(&r->log, "%s %u", kind, m->status);
    for (uint32_t i = 0; i < m->h.n; i++) {
        CHECK(http_name_lower_valid(m->h.v[i].name) && http_value_valid(m->h.v[i].value));
        strbuf_addf(&r->log, "|%.*s:%.*s", SV_ARG(m->h.v[i].name), SV_ARG(m->h.v[i].value));
    }
}
static void on_head(void *user, struct http_head *m, bool end)
{
    struct run *r = user;
    CHECK(r->s && m->status >= 101 && m->status < 600);
    log_head(r, "final", m);
    r->ended |= end;
}
static void on_info(void *user, struct http_head *m)
{
    CHECK(m->status < 200 && m->status != 101);
    log_head(user, "info", m);
}
static void on_data(void *user, struct buf *d, bool end)
{
    struct run *r = user;
    size_t n;
    char *p = buf_to_cstr(d, &n);
    CHECK(r->s && !r->ended && (n || end));
    strbuf_add(&r->log, p, n);
    free(p);
    r->ended |= end;
}
static void on_trailers(void *user, struct http_headers *t)
{
    struct run *r = user;
    CHECK(!r->ended && t->n);
    r->ended = true;
    for (uint32_t i = 0; i < t->n; i++)
        strbuf_addf(&r->log, "~%.*s:%.*s", SV_ARG(t->v[i].name), SV_ARG(t->v[i].value));
}
static void on_reset(void *user, enum http_reset why, const char *details)
{
    strbuf_addf(&((struct run *)user)->log, " reset %s", http_reset_text(why));
}
static void on_close(void *user)
{
    struct run *r = user;
    CHECK(r->s);
    r->s = NULL;
    strbuf_add_c(&r->log, " close\n");
}
static const struct http_stream_events stream_events = {.on_head = on_head,
                                                        .on_info = on_info,
                                                        .on_data = on_data,
                                                        .on_trailers = on_trailers,
                                                        .on_reset = on_reset,
                                                        .on_close = on_close};
static const struct http_codec_events events;

static void request(struct run *r, uint8_t kind)
{
    static const sv methods[] = {SV_INIT("GET"), SV_INIT("HEAD"), SV_INIT("POST"),
                                 SV_INIT("CONNECT")};
    struct http_head m;
    struct buf b;
    r->s = r->c->ops->open(r->c, &stream_events, r);
    CHECK(r->s);
    r->ended = false;
    http_head_init(&m, r->s->arena);
    m.method = methods[kind & 3];
    m.path = SV("/");
    m.authority = SV("a:80");
    m.upgrade = kind & 4;
    m.connect_protocol = kind & 4 ? SV("websocket") : SV("");
    CHECK(r->s->ops->send_head(r->s, &m, false) == 0);
    buf_init(&b);
    buf_append_sv(&b, SV("request body"));
    r->s->ops->send_data(r->s, &b, !(kind & 8));
}

static void flush(struct run *r)
{
    size_t n = r->c->out.len;
    buf_reset(&r->c->out);
    r->c->ops->wrote(r->c, n);
}

static void run(struct run *r, uint8_t kind, uint32_t seed, const uint8_t *p, size_t n)
{
    struct http_limits l;
    struct buf in;
    http_limits_default(&l);
    l.enable_trailers = kind & 16;
    l.max_headers = 20;
    l.max_head_bytes = l.max_uri_bytes = 2000;
    memset(r, 0, sizeof(*r));
    strbuf_init(&r->log, 1 << 24);
    r->c = h1_client_new(&l, &events, r);
    buf_init(&in);
    request(r, kind);
    flush(r);
    while (n && r->rc == 0) {
        seed = seed * 1664525u + 1013904223u;
        size_t k = seed == 1013904223u ? n : 1 + (seed >> 16) % 13;
        k = k < n ? k : n;
        if (seed & 2)
            buf_append_static(&in, sv_make((const char *)p, k));
        else
            buf_append(&in, p, k);
        p += k;
        n -= k;
        r->rc = r->c->ops->feed(r->c, &in);
        flush(r);
        CHECK(!r->c->ops->can_open(r->c) || (in.len == 0 && !r->s && r->ended));
    }
    buf_reset(&in);
    if (r->rc == 0)
        r->c->ops->feed_eof(r->c);
    if (r->s)
        r->s->ops->reset(r->s, HTTP_RESET_LOCAL);
    r->c->ops->free(r->c);
    CHECK(!r->s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run whole, pieces;
    if (size < 2)
        return 0;
    run(&whole, data[0], 0, data + 2, size - 2);
    run(&pieces, data[0], data[1] * 2654435761u + 1, data + 2, size - 2);
    if (whole.rc == 0 && pieces.rc == 0) {
        CHECK(whole.log.n == pieces.log.n);
        CHECK(whole.log.n == 0 || memcmp(whole.log.p, pieces.log.p, whole.log.n) == 0);
    }
    strbuf_fini(&whole.log);
    strbuf_fini(&pieces.log);
    return 0;
}
