/* What a server says by itself about a request that cannot be taken. */
#include "base/mem.h"
#include "h1/h1_encode.h"
#include "h1/h1_int.h"

/* As Envoy answers: the reason is the body, but for a missing Host. */
static sv body_of(const struct h1 *h, unsigned status)
{
    bool no_host = h->c.error_text && sv_eq(sv_of(h->c.error_text), SV("missing_host_header"));
    return no_host ? SV("") : h1_reason(status);
}

static void make_head(struct h1 *h, struct http_answer *a, unsigned status, size_t body)
{
    struct http_headers *to = &a->head.h;
    http_head_init(&a->head, &a->arena);
    a->head.status = (uint16_t)status;
    http_headers_add_id(to, HTTP_H_CONTENT_LENGTH, arena_printf(&a->arena, "%zu", body));
    if (body)
        http_headers_add_id(to, HTTP_H_CONTENT_TYPE, SV("text/plain"));
    if (h->c.error_fields)
        h->c.error_fields(h->c.user, to);
    http_headers_add_id(to, HTTP_H_CONNECTION, SV("close"));
}

void h1_answer(struct h1 *h, unsigned status)
{
    struct h1_style style = {.spelling = h->l.spelling};
    struct h1_scan scan;
    struct http_answer *a = mem_new(struct http_answer);
    sv body = body_of(h, status);
    arena_init(&a->arena);
    make_head(h, a, status, body.n);
    if (h1_scan_fields(&a->head.h, &scan) == 0) {
        struct h1_wrote w = h1_write_response(&h->c.out, &a->head, &scan, &style);
        a->field_bytes = w.fields;
        a->wire_bytes = w.all + body.n;
        a->body_bytes = body.n;
        buf_append_sv(&h->c.out, body);
    }
    if (h->s) {
        h->s->s.body_bytes_out += a->body_bytes;
        h->s->s.head_bytes_out += (uint32_t)a->field_bytes;
        h->s->s.wire_bytes_out += a->wire_bytes;
    }
    h->c.answer = a;
    h1_set_state(h, HTTP_CODEC_FLUSH);
}

void h1_answer_free(struct h1 *h)
{
    struct http_answer *a = h->c.answer;
    if (!a)
        return;
    arena_free(&a->arena);
    free(a);
    h->c.answer = NULL;
}
