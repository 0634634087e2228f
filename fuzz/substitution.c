/* Format strings and what they print: a log line never breaks, whatever the peer sent; JSON stays
 * JSON; header values stay header values.
 * Input: the format up to the first NUL; the rest is a peer's text that fills all views. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "http/substitution.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Metadata is JSON that this program wrote; the strings in it are the peer's. */
static sv table_of(sv peer, struct arena *a)
{
    struct strbuf s;
    strbuf_init(&s, 1 << 20);
    strbuf_add_c(&s, "{\"k\":{\"l\":");
    strbuf_add_json(&s, peer);
    strbuf_add_c(&s, ",\"m\":[");
    strbuf_add_json(&s, peer);
    strbuf_add_c(&s, ",1.5,null]}}");
    sv out = s.overflow ? SV("{}") : arena_sv(a, strbuf_sv(&s));
    strbuf_fini(&s);
    return out;
}

static void fill(struct stream_info *si, struct stream_conn *down, struct http_head *req, sv peer,
                 struct arena *a)
{
    stream_info_init(si, a);
    http_head_init(req, a);
    *down = (struct stream_conn){.local = peer, .remote = peer, .sni = peer};
    req->method = req->path = req->authority = peer;
    http_headers_add(&req->h, SV("user-agent"), peer);
    http_headers_add(&req->h, SV("traceparent"), peer);
    http_headers_add(&req->h, SV("content-type"), SV("application/grpc"));
    si->down = si->up = down;
    si->req = req;
    si->details = si->upstream_failure = si->route_name = si->request_id = peer;
    si->start_wall_ns = 1481814427871123456u;
    stream_info_meta_set(si, SV("a"), SV("b"), peer);
    stream_info_meta_set_json(si, SV("a"), SV("j"), table_of(peer, a));
}

/* No control byte but what the format itself has. */
static void check_line(const struct strbuf *out, sv format)
{
    for (size_t i = 0; i < out->n; i++) {
        char c = out->p[i];
        if (((uint8_t)c < 0x20 || c == 0x7f) && sv_find(format, c) < 0)
            abort();
    }
}

static void check_json(const struct strbuf *out)
{
    if (out->n >= 2 && out->p[0] == '"' &&
        (out->p[out->n - 1] != '"' || memchr(out->p, '\n', out->n)))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum substitution_use uses[] = {SUBSTITUTION_LOG, SUBSTITUTION_HEADER,
                                                 SUBSTITUTION_BODY};
    sv format, peer;
    sv_cut(sv_make((const char *)data, size), 0, &format, &peer);
    for (int i = 0; i < 3; i++) {
        struct arena a;
        struct error err = {0};
        const struct substitution *f = NULL;
        struct substitution_opts o = {.use = uses[i], .omit_empty = size & 1};
        arena_init(&a);
        if (substitution_compile(format, &o, &a, &f, &err) == 0) {
            struct stream_info si;
            struct stream_conn down;
            struct http_head req;
            struct strbuf out;
            fill(&si, &down, &req, peer, &a);
            struct substitution_ctx c = {.si = &si, .local_reply_body = peer};
            strbuf_init(&out, 1 << 20);
            substitution_eval(f, &c, &out);
            if (uses[i] == SUBSTITUTION_LOG)
                check_line(&out, format);
            strbuf_reset(&out);
            substitution_eval_json(f, &c, &out);
            check_json(&out);
            strbuf_fini(&out);
            sv v = substitution_eval_arena(f, &c, &a);
            if (uses[i] == SUBSTITUTION_HEADER && http_value_valid(format) && !http_value_valid(v))
                abort();
        } else if (err.msg[0] == 0) {
            abort();
        }
        arena_free(&a);
    }
    return 0;
}
