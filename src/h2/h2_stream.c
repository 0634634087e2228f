#include "h2/h2_session.h"

#include <assert.h>
#include <stdlib.h>
#include "base/mem.h"
#include "base/pool.h"

#ifdef WEFT_ASAN
#define KEEP_SPARES false /* so that a use after the free is found */
#else
#define KEEP_SPARES true
#endif
#define SPARES 32

/* ---- the table: open addressing, linear probing. Ids of a connection are consecutive odd
 * numbers, so id / 2 spreads them perfectly ---- */

static inline uint32_t slot_of(const struct h2_session *h, uint32_t id)
{
    return (id >> 1) & h->slot_mask;
}

struct h2_stream *h2_stream_find(const struct h2_session *h, uint32_t id)
{
    for (uint32_t i = slot_of(h, id); h->slots[i]; i = (i + 1) & h->slot_mask)
        if (h->slots[i]->s.id == id)
            return h->slots[i];
    return NULL;
}

static void table_put(struct h2_session *h, struct h2_stream *s)
{
    uint32_t i = slot_of(h, s->s.id);
    while (h->slots[i])
        i = (i + 1) & h->slot_mask;
    h->slots[i] = s;
}

static void table_resize(struct h2_session *h, uint32_t slots)
{
    struct h2_stream **old = h->slots;
    uint32_t n = h->slot_mask + 1;
    h->slots = mem_array(struct h2_stream *, slots);
    h->slot_mask = slots - 1;
    for (uint32_t i = 0; i < n; i++)
        if (old[i])
            table_put(h, old[i]);
    if (old != h->inline_slots)
        free(old);
}

static void table_fini(struct h2_session *h)
{
    if (h->slots != h->inline_slots)
        free(h->slots);
    memset(h->inline_slots, 0, sizeof h->inline_slots);
    h->slots = h->inline_slots;
    h->slot_mask = H2_INLINE_SLOTS - 1;
}

/* Linear probing without tombstones: what follows moves up when its own slot allows it. */
static void table_del(struct h2_session *h, uint32_t id)
{
    uint32_t i = slot_of(h, id), mask = h->slot_mask;
    while (h->slots[i] && h->slots[i]->s.id != id)
        i = (i + 1) & mask;
    if (!h->slots[i])
        return;
    h->slots[i] = NULL;
    h->in_table--;
    for (uint32_t j = (i + 1) & mask; h->slots[j]; j = (j + 1) & mask) {
        uint32_t home = slot_of(h, h->slots[j]->s.id);
        if (((j - home) & mask) >= ((j - i) & mask)) {
            h->slots[i] = h->slots[j];
            h->slots[j] = NULL;
            i = j;
        }
    }
    if (h->in_table == 0 && h->slots != h->inline_slots)
        table_fini(h);
}

/* ---- life ---- */

static void spares_free(struct h2_session *h)
{
    for (struct list *it; (it = list_first(&h->spare));) {
        list_del(it);
        free(container_of(it, struct h2_stream, all));
    }
    h->spares = 0;
}

struct h2_stream *h2_stream_new(struct h2_session *h)
{
    struct list *spare = list_first(&h->spare);
    struct h2_stream *s;
    if (spare) {
        list_del(spare);
        h->spares--;
        s = container_of(spare, struct h2_stream, all);
        memset(s, 0, sizeof *s);
    } else {
        s = mem_new(struct h2_stream);
    }
    arena_init(&s->arena);
    s->s.ops = &h2_stream_ops;
    s->s.codec = &h->c;
    s->s.arena = &s->arena;
    list_init(&s->all);
    list_init(&s->work);
    list_push(&h->all, &s->all);
    s->recv_window = h->my_window;
    s->content_left = -1;
    s->opened_ms = h2_now_ms(h);
    h->c.streams++;
    h->c.streams_total++;
    h->opened++;
    return s;
}

void h2_stream_insert(struct h2_session *h, struct h2_stream *s, uint32_t id)
{
    s->s.id = id;
    if ((h->in_table + 1) * 2 > h->slot_mask + 1)
        table_resize(h, (h->slot_mask + 1) * 2);
    h->in_table++;
    table_put(h, s);
}

void h2_stream_free(struct h2_session *h, struct h2_stream *s)
{
    assert(s->closed);
    arena_free(&s->arena);
    if (h->c.streams == 0) {
        spares_free(h);
        free(s);
    } else if (KEEP_SPARES && h->spares < SPARES) {
        h->spares++;
        list_push(&h->spare, &s->all);
    } else {
        free(s);
    }
}

void h2_streams_fini(struct h2_session *h)
{
    table_fini(h);
    spares_free(h);
}

void h2_stream_close(struct h2_session *h, struct h2_stream *s)
{
    if (s->closed)
        return;
    s->closed = true;
    if (s->s.id)
        table_del(h, s->s.id);
    list_del(&s->all);
    list_del(&s->work);
    list_push(&h->dead, &s->work);
    h->c.streams--;
    if (h->f.stream == s)
        h->f.stream = NULL;
    if (h->block.stream == s) {
        h->block.stream = NULL;
        h->block.kind = H2_BLOCK_IGNORE;
    }
    buf_reset(&s->pending);
    s->s.queued = 0;
    if (s->held) {
        uint32_t held = s->held;
        s->held = 0;
        h2_credit(h, NULL, held);
    }
}

void h2_stream_check_end(struct h2_session *h, struct h2_stream *s)
{
    if (s->s.recv_end && s->s.sent_end)
        h2_stream_close(h, s);
}

/* ---- resets ---- */

void h2_remember_reset(struct h2_session *h, uint32_t id)
{
    h->reset_ring[h->resets_kept++ % H2_RESET_RING] = id;
}

bool h2_was_reset(const struct h2_session *h, uint32_t id)
{
    uint32_t n = h->resets_kept < H2_RESET_RING ? h->resets_kept : H2_RESET_RING, oldest = id;
    for (uint32_t i = 0; i < n; i++) {
        if (h->reset_ring[i] == id)
            return true;
        if (h->reset_ring[i] < oldest)
            oldest = h->reset_ring[i];
    }
    /* Forgotten ones get the benefit of the doubt. */
    return h->resets_kept > H2_RESET_RING && oldest == id;
}

bool h2_was_skipped(const struct h2_session *h, uint32_t id)
{
    for (uint32_t i = 0; i < H2_SKIPPED; i++)
        if (id >= h->skipped[i].from && id <= h->skipped[i].to)
            return true;
    return false;
}

void h2_reset_unknown(struct h2_session *h, uint32_t id, enum h2_error code)
{
    h2_write_rst(&h->c.out, id, code);
    H2_COUNT(h, tx_reset);
    h2_count_control_out(h);
}

void h2_stream_gone(struct h2_session *h, struct h2_stream *s, enum http_reset why,
                    const char *details)
{
    if (s->closed)
        return;
    h2_stream_close(h, s);
    if (s->known && s->s.ev && s->s.ev->on_reset)
        s->s.ev->on_reset(s->s.user, why, details);
}

void h2_stream_error(struct h2_session *h, struct h2_stream *s, enum h2_error code,
                     enum http_reset why, const char *details)
{
    if (s->closed)
        return;
    uint32_t id = s->s.id;
    h2_stream_gone(h, s, why, details);
    if (!id || !h2_alive(h))
        return;
    h2_remember_reset(h, id);
    h2_reset_unknown(h, id, code);
}

enum h2_error h2_code_of(const struct h2_session *h, const struct h2_stream *s, enum http_reset r)
{
    switch (r) {
    case HTTP_RESET_REMOTE_REFUSED:
        return H2_REFUSED_STREAM;
    case HTTP_RESET_REMOTE_CANCEL:
    case HTTP_RESET_TIMEOUT: /* gRPC takes INTERNAL_ERROR for a fault of the server */
        return H2_CANCEL;
    case HTTP_RESET_PROTOCOL:
        return H2_PROTOCOL_ERROR;
    case HTTP_RESET_OVERFLOW:
        return H2_ENHANCE_YOUR_CALM;
    case HTTP_RESET_NO_ERROR:
        return H2_NO_ERROR;
    default:
        break;
    }
    if (!h->c.server)
        return H2_CANCEL;
    /* RFC 9113 8.1: after a whole response the client is merely asked to stop sending. */
    return s->s.sent_end ? H2_NO_ERROR : H2_INTERNAL_ERROR;
}

enum http_reset h2_reason_of(const struct h2_stream *s, uint32_t code)
{
    if (code == H2_REFUSED_STREAM)
        return HTTP_RESET_REMOTE_REFUSED;
    if (code == H2_CANCEL)
        return HTTP_RESET_REMOTE_CANCEL;
    if (code == H2_NO_ERROR && s->s.recv_end)
        return HTTP_RESET_NO_ERROR;
    return HTTP_RESET_REMOTE;
}
