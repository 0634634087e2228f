#include "h2/h2_testlib.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/mem.h"

/* ---- scripts ---- */

static const char *const error_names[] = {"NO_ERROR",
                                          "PROTOCOL_ERROR",
                                          "INTERNAL_ERROR",
                                          "FLOW_CONTROL_ERROR",
                                          "SETTINGS_TIMEOUT",
                                          "STREAM_CLOSED",
                                          "FRAME_SIZE_ERROR",
                                          "REFUSED_STREAM",
                                          "CANCEL",
                                          "COMPRESSION_ERROR",
                                          "CONNECT_ERROR",
                                          "ENHANCE_YOUR_CALM",
                                          "INADEQUATE_SECURITY",
                                          "HTTP_1_1_REQUIRED"};

static size_t put_literal(uint8_t *p, sv name, sv value)
{
    uint8_t *at = p;
    *at++ = 0;
    *at++ = (uint8_t)(name.n < 127 ? name.n : 127);
    assert(name.n < 127);
    memcpy(at, name.p, name.n);
    at += name.n;
    size_t n = value.n;
    if (n < 127) {
        *at++ = (uint8_t)n;
    } else {
        *at++ = 127;
        for (n -= 127; n >= 128; n >>= 7)
            *at++ = (uint8_t)(0x80 | (n & 0x7f));
        *at++ = (uint8_t)n;
    }
    for (size_t i = 0; i < value.n; i++)
        *at++ = value.p[i] == '_' ? ' ' : (uint8_t)value.p[i];
    return (size_t)(at - p);
}

static size_t put_request(uint8_t *p, sv method)
{
    size_t n = put_literal(p, SV(":method"), method);
    n += put_literal(p + n, SV(":scheme"), SV("http"));
    n += put_literal(p + n, SV(":path"), SV("/"));
    n += put_literal(p + n, SV(":authority"), SV("a.test"));
    return n;
}

static size_t put_hex(uint8_t *p, sv text)
{
    size_t n = 0;
    for (size_t i = 0; i + 1 < text.n; i += 2) {
        char two[3] = {text.p[i], text.p[i + 1], 0};
        p[n++] = (uint8_t)strtoul(two, NULL, 16);
    }
    return n;
}

struct words {
    sv w[64];
    unsigned n;
};

static unsigned long num(sv v, unsigned count)
{
    return v.n && v.p[0] == '$' ? 1 + 2 * count : strtoul(v.p, NULL, 0);
}

static void frame(struct buf *out, unsigned type, unsigned flags, unsigned long id,
                  const uint8_t *p, size_t n)
{
    uint8_t header[H2_FRAME_HEADER];
    h2_put_header(header, (uint32_t)n, (enum h2_type)type, flags, (uint32_t)id);
    buf_append(out, header, sizeof header);
    buf_append(out, p, n);
}

static void headers_frame(struct buf *out, const struct words *w, unsigned count, bool cont)
{
    static uint8_t p[1 << 20];
    unsigned flags = cont ? 0 : H2_F_END_HEADERS;
    size_t at = 0;
    unsigned long pad = 0;
    for (unsigned i = 2; i < w->n; i++) {
        sv k, v, word = w->w[i];
        bool has = sv_cut(sv_from(word, word.p[0] == ':'), '=', &k, &v);
        if (word.p[0] == ':' && has)
            k = sv_make(word.p, k.n + 1);
        if (sv_eq(word, SV("es"))) {
            flags |= H2_F_END_STREAM;
        } else if (sv_eq(word, SV("eh"))) {
            flags |= H2_F_END_HEADERS;
        } else if (sv_eq(word, SV("-eh"))) {
            flags &= ~(unsigned)H2_F_END_HEADERS;
        } else if (sv_eq(word, SV("get")) || sv_eq(word, SV("post"))) {
            at += put_request(p + at, word.n == 3 ? SV("GET") : SV("POST"));
        } else if (has && sv_eq(k, SV("pad"))) {
            pad = num(v, count);
            flags |= H2_F_PADDED;
            p[at++] = (uint8_t)pad;
        } else if (has && sv_eq(k, SV("dep"))) {
            flags |= H2_F_PRIORITY;
            h2_put32(p + at, (uint32_t)num(v, count));
            p[at + 4] = 15;
            at += 5;
        } else if (has && sv_eq(k, SV("hex"))) {
            at += put_hex(p + at, v);
        } else if (has && sv_eq(k, SV("big"))) {
            static char big[1 << 19];
            memset(big, 'v', sizeof big);
            at += put_literal(p + at, SV("x-big"), sv_make(big, num(v, count)));
        } else if (has) {
            at += put_literal(p + at, k, v);
        }
    }
    memset(p + at, 0, pad);
    at += pad;
    frame(out, cont ? H2_CONTINUATION : H2_HEADERS, flags, num(w->w[1], count), p, at);
}

static void data_frame(struct buf *out, const struct words *w, unsigned count)
{
    static uint8_t p[1 << 20];
    unsigned flags = 0;
    unsigned long n = 0, pad = 0;
    for (unsigned i = 2; i < w->n; i++) {
        if (sv_eq(w->w[i], SV("es"))) {
            flags |= H2_F_END_STREAM;
        } else if (sv_starts(w->w[i], SV("pad="))) {
            flags |= H2_F_PADDED;
            pad = num(sv_from(w->w[i], 4), count);
        } else {
            n = num(w->w[i], count);
        }
    }
    memset(p, 'x', sizeof p);
    size_t at = 0;
    if (flags & H2_F_PADDED)
        p[at++] = (uint8_t)pad;
    frame(out, H2_DATA, flags, num(w->w[1], count), p, at + n + pad);
}

static void settings_frame(struct buf *out, const struct words *w)
{
    uint8_t p[6 * 64];
    unsigned flags = 0;
    size_t n = 0;
    for (unsigned i = 1; i < w->n; i++) {
        sv k, v;
        if (!sv_cut(w->w[i], '=', &k, &v)) {
            flags = H2_F_ACK;
            continue;
        }
        p[n] = 0;
        p[n + 1] = (uint8_t)num(k, 0);
        h2_put32(p + n + 2, (uint32_t)num(v, 0));
        n += 6;
    }
    frame(out, H2_SETTINGS, flags, 0, p, n);
}

static void one_frame(struct buf *out, const struct words *w, unsigned count)
{
    uint8_t p[4096];
    sv verb = w->w[0];
    unsigned long id = w->n > 1 ? num(w->w[1], count) : 0;
    unsigned long arg = w->n > 2 ? num(w->w[2], count) : 0;
    if (sv_eq(verb, SV("preface"))) {
        buf_append(out, H2_PREFACE, H2_PREFACE_BYTES);
    } else if (sv_eq(verb, SV("settings"))) {
        settings_frame(out, w);
    } else if (sv_eq(verb, SV("headers"))) {
        headers_frame(out, w, count, false);
    } else if (sv_eq(verb, SV("cont"))) {
        headers_frame(out, w, count, true);
    } else if (sv_eq(verb, SV("data"))) {
        data_frame(out, w, count);
    } else if (sv_eq(verb, SV("rst")) || sv_eq(verb, SV("wu"))) {
        h2_put32(p, (uint32_t)arg);
        frame(out, verb.n == 3 ? H2_RST_STREAM : H2_WINDOW_UPDATE, 0, id, p, 4);
    } else if (sv_eq(verb, SV("ping"))) {
        memcpy(p, "12345678", 8);
        bool ack = w->n > 1 && sv_eq(w->w[1], SV("ack"));
        if (w->n > 1u + ack)
            memcpy(p, w->w[1 + ack].p, 8);
        frame(out, H2_PING, ack ? H2_F_ACK : 0, 0, p, 8);
    } else if (sv_eq(verb, SV("goaway"))) {
        h2_put32(p, (uint32_t)id);
        h2_put32(p + 4, (uint32_t)arg);
        frame(out, H2_GOAWAY, 0, 0, p, 8);
    } else if (sv_eq(verb, SV("priority"))) {
        h2_put32(p, (uint32_t)arg);
        p[4] = 1;
        frame(out, H2_PRIORITY, 0, id, p, 5);
    } else if (sv_eq(verb, SV("raw"))) {
        size_t n = w->n > 4 ? put_hex(p, w->w[4]) : 0;
        frame(out, (unsigned)id, (unsigned)arg, num(w->w[3], count), p, n);
    } else if (sv_eq(verb, SV("hex"))) {
        buf_append(out, p, put_hex(p, w->w[1]));
    } else {
        fprintf(stderr, "script: %.*s\n", SV_ARG(verb));
        abort();
    }
}

void script_bytes(struct buf *out, const char *script)
{
    sv rest = sv_of(script), part;
    for (bool more = true; more;) {
        more = sv_cut(rest, ';', &part, &rest);
        part = sv_trim(part);
        struct words w = {.n = 0};
        for (sv word, tail = part; tail.n && w.n < 64;) {
            sv_cut(tail, ' ', &word, &tail);
            if (word.n)
                w.w[w.n++] = word;
        }
        if (w.n == 0)
            continue;
        unsigned times = 1;
        sv n, verb;
        if (sv_cut(w.w[0], '*', &n, &verb)) {
            times = (unsigned)strtoul(n.p, NULL, 10);
            w.w[0] = verb;
        }
        for (unsigned i = 0; i < times; i++)
            one_frame(out, &w, i);
    }
}

/* ---- the user ---- */

static void say(struct side *t, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void say(struct side *t, const char *fmt, ...)
{
    if (t->quiet)
        return;
    va_list ap;
    va_start(ap, fmt);
    strbuf_addv(&t->log, fmt, ap);
    va_end(ap);
    strbuf_add_ch(&t->log, '\n');
}

static void say_fields(struct side *t, const struct http_headers *h)
{
    for (uint32_t i = 0; i < h->n && !t->quiet; i++)
        say(t, "  %.*s: %.*s%s", SV_ARG(h->v[i].name), SV_ARG(h->v[i].value),
            h->v[i].flags & HTTP_HF_NEVER_INDEX ? " !" : "");
}

static void answer(struct side_stream *x, const char *text, bool end)
{
    struct http_head m;
    http_head_init(&m, x->s->arena);
    m.status = 200;
    http_headers_add(&m.h, SV("server"), SV("test"));
    if (x->s->ops->send_head(x->s, &m, end && !text) == 0 && text) {
        struct buf b;
        buf_init(&b);
        buf_append(&b, text, strlen(text));
        x->s->ops->send_data(x->s, &b, end);
    }
}

static void on_head(void *user, struct http_head *m, bool end)
{
    struct side_stream *x = user;
    struct side *t = x->side;
    x->head = true;
    x->ended = end;
    x->status = m->status;
    if (m->status)
        say(t, "%u head %u%s%s", x->s->id, m->status, m->upgrade ? " upgrade" : "",
            end ? " end" : "");
    else
        say(t, "%u head %.*s %.*s://%.*s%.*s%s%s", x->s->id, SV_ARG(m->method), SV_ARG(m->scheme),
            SV_ARG(m->authority), SV_ARG(m->path), m->upgrade ? " upgrade" : "", end ? " end" : "");
    say_fields(t, &m->h);
    if (t->app == APP_RESET)
        x->s->ops->reset(x->s, HTTP_RESET_LOCAL);
    else if (t->app == APP_HEAD_ANSWER || (t->app == APP_ANSWER && end))
        answer(x, "ok", true);
    else if (t->app == APP_ECHO)
        answer(x, NULL, end);
}

static void on_info(void *user, struct http_head *m)
{
    struct side_stream *x = user;
    say(x->side, "%u info %u", x->s->id, m->status);
}

static void ended(struct side_stream *x)
{
    x->ended = true;
    say(x->side, "%u body %llu end", x->s->id, (unsigned long long)x->got);
    if (x->side->app == APP_ANSWER)
        answer(x, "ok", true);
}

static void on_data(void *user, struct buf *data, bool end)
{
    struct side_stream *x = user;
    x->got += data->len;
    x->side->got += data->len;
    if (x->side->app == APP_RESET_DATA) {
        x->s->ops->reset(x->s, HTTP_RESET_LOCAL);
        return;
    }
    if (x->side->app == APP_ECHO)
        x->s->ops->send_data(x->s, data, end);
    if (end)
        ended(x);
}

static void on_trailers(void *user, struct http_headers *h)
{
    struct side_stream *x = user;
    say(x->side, "%u trailers", x->s->id);
    say_fields(x->side, h);
    if (x->side->app == APP_ECHO)
        x->s->ops->send_trailers(x->s, h);
    ended(x);
}

static void on_reset(void *user, enum http_reset why, const char *details)
{
    struct side_stream *x = user;
    x->reset = true;
    x->resets++;
    say(x->side, "%u reset %s %s", x->s->id, http_reset_text(why), details);
}

static void on_high(void *user)
{
    struct side_stream *x = user;
    say(x->side, "%u high", x->s->id);
    if (x->side->app == APP_ECHO)
        x->s->ops->pause(x->s, true);
}

static void on_low(void *user)
{
    struct side_stream *x = user;
    say(x->side, "%u low", x->s->id);
    if (x->side->app == APP_ECHO)
        x->s->ops->pause(x->s, false);
}

static void on_close(void *user)
{
    struct side_stream *x = user;
    x->closes++;
    say(x->side, "%u close", x->s->id);
    x->s = NULL;
}

const struct http_stream_events side_stream_events = {.on_head = on_head,
                                                      .on_info = on_info,
                                                      .on_data = on_data,
                                                      .on_trailers = on_trailers,
                                                      .on_reset = on_reset,
                                                      .on_high = on_high,
                                                      .on_low = on_low,
                                                      .on_close = on_close};

static struct side_stream *stream_of(struct side *t, struct http_stream *s)
{
    struct side_stream *x = mem_new(struct side_stream);
    x->side = t;
    x->s = s;
    list_push(&t->streams, &x->link);
    return x;
}

static bool on_stream(void *user, struct http_stream *s)
{
    struct side *t = user;
    if (t->app == APP_REFUSE)
        return false;
    http_stream_set_user(s, &side_stream_events, stream_of(t, s));
    return true;
}

static void on_output(void *user)
{
    ((struct side *)user)->outputs++;
}
static void on_goaway(void *user)
{
    struct side *t = user;
    t->goaways++;
    say(t, "on_goaway");
}
static void on_idle(void *user)
{
    ((struct side *)user)->idles++;
}
static void on_max_streams(void *user)
{
    ((struct side *)user)->max_streams++;
}
static uint64_t now_ms(void *user)
{
    return ((struct side *)user)->now;
}

static const struct http_codec_events codec_events = {.on_stream = on_stream,
                                                      .on_output = on_output,
                                                      .on_goaway = on_goaway,
                                                      .on_idle = on_idle,
                                                      .on_max_streams = on_max_streams};

void side_init(struct side *t, bool server, const struct http_limits *l, enum app app)
{
    struct http_limits def;
    http_limits_default(&def);
    memset(t, 0, sizeof *t);
    list_init(&t->streams);
    strbuf_init(&t->log, 1 << 24);
    hpack_decoder_init(&t->dec);
    t->app = app;
    t->now = 1;
    t->c = (server ? h2_server_new : h2_client_new)(l ? l : &def, &codec_events, t);
    t->c->stats = &t->stats;
    t->c->now_ms = now_ms;
}

void side_fini(struct side *t)
{
    t->c->ops->free(t->c);
    for (struct list *it; (it = list_first(&t->streams));) {
        struct side_stream *x = container_of(it, struct side_stream, link);
        /* Rule: on_close exactly once, on_reset at most once. */
        assert(x->closes == 1 && x->resets <= 1);
        list_del(it);
        free(x);
    }
    strbuf_fini(&t->log);
    hpack_decoder_fini(&t->dec);
    buf_reset(&t->in);
    buf_reset(&t->frames);
}

/* ---- the wire ---- */

void side_feed(struct side *t, struct buf *bytes, size_t step)
{
    while (bytes->len) {
        size_t n = bytes->len < step ? bytes->len : step;
        /* A block of its own for each piece: reads past it are seen by a sanitizer. */
        char *copy = malloc(n);
        buf_peek(bytes, 0, copy, n);
        buf_drain(bytes, n);
        buf_append(&t->in, copy, n);
        free(copy);
        int r = t->c->ops->feed(t->c, &t->in);
        if (r && !t->error) {
            t->error = r;
            assert(t->c->error_text);
        }
    }
}

void side_feed_script(struct side *t, const char *script, size_t step)
{
    struct buf b;
    buf_init(&b);
    script_bytes(&b, script);
    side_feed(t, &b, step);
}

static void say_field(void *user, const struct hpack_field *f)
{
    say(user, "    %.*s: %.*s", SV_ARG(f->name), SV_ARG(f->value));
}

static const char *code_name(uint32_t code)
{
    return code < sizeof error_names / sizeof *error_names ? error_names[code] : "?";
}

static void say_frame(struct side *t, unsigned type, unsigned flags, uint32_t id, const uint8_t *p,
                      size_t n)
{
    const char *end = flags & H2_F_END_STREAM ? " end" : "";
    switch (type) {
    case H2_DATA:
        say(t, "> DATA %u %zu%s", id, n, end);
        break;
    case H2_HEADERS:
        say(t, "> HEADERS %u%s", id, end);
        assert(flags & H2_F_END_HEADERS);
        assert(hpack_decode(&t->dec, p, n, true, say_field, t) >= 0);
        break;
    case H2_RST_STREAM:
        say(t, "> RST %u %s", id, code_name(h2_get32(p)));
        break;
    case H2_GOAWAY:
        say(t, "> GOAWAY %u %s", h2_get32(p), code_name(h2_get32(p + 4)));
        break;
    case H2_PING:
        say(t, "> PING%s", flags & H2_F_ACK ? " ack" : "");
        break;
    case H2_WINDOW_UPDATE:
        say(t, "> WU %u %u", id, h2_get32(p));
        break;
    case H2_SETTINGS:
        say(t, "> SETTINGS%s", flags & H2_F_ACK ? " ack" : "");
        break;
    default:
        say(t, "> frame %u", type);
    }
}

void side_flush(struct side *t)
{
    while (t->c->out.len) {
        size_t n = t->c->out.len;
        buf_move(&t->frames, &t->c->out);
        t->c->ops->wrote(t->c, n);
    }
    sv front = sv_first(buf_front(&t->frames), 4);
    if (sv_eq(front, SV("PRI ")))
        buf_drain(&t->frames, H2_PREFACE_BYTES);
    while (t->frames.len >= H2_FRAME_HEADER) {
        const uint8_t *p = (const uint8_t *)buf_pullup(&t->frames, H2_FRAME_HEADER).p;
        size_t n = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
        assert(t->frames.len >= H2_FRAME_HEADER + n);
        p = (const uint8_t *)buf_pullup(&t->frames, H2_FRAME_HEADER + n).p;
        say_frame(t, p[3], p[4], h2_get32(p + 5), p + H2_FRAME_HEADER, n);
        buf_drain(&t->frames, H2_FRAME_HEADER + n);
    }
}

struct side_stream *side_request(struct side *t, const char *method, const char *path, long body)
{
    struct side_stream *x = stream_of(t, NULL);
    x->s = t->c->ops->open(t->c, &side_stream_events, x);
    if (!x->s) {
        list_del(&x->link);
        free(x);
        return NULL;
    }
    struct http_head m;
    http_head_init(&m, x->s->arena);
    m.method = sv_of(method);
    m.scheme = SV("http");
    m.authority = SV("a.test");
    m.path = sv_of(path);
    http_headers_add(&m.h, SV("user-agent"), SV("test/1"));
    x->s->ops->send_head(x->s, &m, body == 0);
    if (body > 0) {
        static const char bytes[4096];
        struct buf b;
        buf_init(&b);
        for (long n = body; n > 0; n -= (long)sizeof bytes)
            buf_append(&b, bytes, n < (long)sizeof bytes ? (size_t)n : sizeof bytes);
        x->s->ops->send_data(x->s, &b, true);
    }
    return x;
}

static bool carry(struct side *from, struct side *to, size_t n)
{
    if (from->c->out.len == 0)
        return false;
    if (n > from->c->out.len)
        n = from->c->out.len;
    buf_move_n(&to->in, &from->c->out, n);
    from->c->ops->wrote(from->c, n);
    int r = to->c->ops->feed(to->c, &to->in);
    if (r && !to->error)
        to->error = r;
    return true;
}

bool sides_exchange(struct side *a, struct side *b, size_t n)
{
    bool any = carry(a, b, n);
    return carry(b, a, n) || any;
}
