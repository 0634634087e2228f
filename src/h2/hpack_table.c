#include "h2/hpack.h"

#include <stdlib.h>
#include "base/mem.h"

#define ENTRY_OVERHEAD 32
#define FIRST_BYTES    512
#define FIRST_RING     8

#define P(text, value, id)                                                                         \
    {                                                                                              \
        SV_INIT(text), SV_INIT(value), HPACK_##id                                                  \
    }
#define N(text, value, id)                                                                         \
    {                                                                                              \
        SV_INIT(text), SV_INIT(value), HTTP_H_##id                                                 \
    }
#define O(text)                                                                                    \
    {                                                                                              \
        SV_INIT(text), SV_INIT(""), HTTP_H_OTHER                                                   \
    }

/* RFC 7541 appendix A. */
const struct hpack_static hpack_static[62] = {
    [1] = P(":authority", "", AUTHORITY),
    [2] = P(":method", "GET", METHOD),
    [3] = P(":method", "POST", METHOD),
    [4] = P(":path", "/", PATH),
    [5] = P(":path", "/index.html", PATH),
    [6] = P(":scheme", "http", SCHEME),
    [7] = P(":scheme", "https", SCHEME),
    [8] = P(":status", "200", STATUS),
    [9] = P(":status", "204", STATUS),
    [10] = P(":status", "206", STATUS),
    [11] = P(":status", "304", STATUS),
    [12] = P(":status", "400", STATUS),
    [13] = P(":status", "404", STATUS),
    [14] = P(":status", "500", STATUS),
    [15] = O("accept-charset"),
    [16] = N("accept-encoding", "gzip, deflate", ACCEPT_ENCODING),
    [17] = O("accept-language"),
    [18] = O("accept-ranges"),
    [19] = N("accept", "", ACCEPT),
    [20] = O("access-control-allow-origin"),
    [21] = O("age"),
    [22] = O("allow"),
    [23] = N("authorization", "", AUTHORIZATION),
    [24] = O("cache-control"),
    [25] = O("content-disposition"),
    [26] = O("content-encoding"),
    [27] = O("content-language"),
    [28] = N("content-length", "", CONTENT_LENGTH),
    [29] = O("content-location"),
    [30] = O("content-range"),
    [31] = N("content-type", "", CONTENT_TYPE),
    [32] = N("cookie", "", COOKIE),
    [33] = N("date", "", DATE),
    [34] = O("etag"),
    [35] = N("expect", "", EXPECT),
    [36] = O("expires"),
    [37] = O("from"),
    [38] = N("host", "", HOST),
    [39] = O("if-match"),
    [40] = O("if-modified-since"),
    [41] = O("if-none-match"),
    [42] = O("if-range"),
    [43] = O("if-unmodified-since"),
    [44] = O("last-modified"),
    [45] = O("link"),
    [46] = N("location", "", LOCATION),
    [47] = O("max-forwards"),
    [48] = O("proxy-authenticate"),
    [49] = O("proxy-authorization"),
    [50] = O("range"),
    [51] = N("referer", "", REFERER),
    [52] = O("refresh"),
    [53] = O("retry-after"),
    [54] = N("server", "", SERVER),
    [55] = N("set-cookie", "", SET_COOKIE),
    [56] = O("strict-transport-security"),
    [57] = N("transfer-encoding", "", TRANSFER_ENCODING),
    [58] = N("user-agent", "", USER_AGENT),
    [59] = O("vary"),
    [60] = N("via", "", VIA),
    [61] = O("www-authenticate"),
};

unsigned hpack_id(sv name)
{
    if (name.n == 0 || name.p[0] != ':')
        return http_name_find(name);
    switch (name.n) {
    case 5:
        return sv_eq(name, SV(":path")) ? HPACK_PATH : HPACK_PSEUDO_UNKNOWN;
    case 7:
        return sv_eq(name, SV(":method"))   ? HPACK_METHOD
               : sv_eq(name, SV(":scheme")) ? HPACK_SCHEME
               : sv_eq(name, SV(":status")) ? HPACK_STATUS
                                            : HPACK_PSEUDO_UNKNOWN;
    case 9:
        return sv_eq(name, SV(":protocol")) ? HPACK_PROTOCOL : HPACK_PSEUDO_UNKNOWN;
    case 10:
        return sv_eq(name, SV(":authority")) ? HPACK_AUTHORITY : HPACK_PSEUDO_UNKNOWN;
    default:
        return HPACK_PSEUDO_UNKNOWN;
    }
}

void hpack_table_fini(struct hpack_table *t)
{
    free(t->ring);
    free(t->bytes);
    t->ring = NULL;
    t->bytes = NULL;
    t->ring_cap = t->bytes_cap = t->bytes_end = t->count = t->size = 0;
}

static void evict_to(struct hpack_table *t, uint32_t most)
{
    while (t->size > most) {
        const struct hpack_entry *e = hpack_table_at(t, t->count - 1);
        t->size -= e->name_bytes + e->value_bytes + ENTRY_OVERHEAD;
        t->count--;
    }
}

void hpack_table_set_max(struct hpack_table *t, uint32_t n)
{
    evict_to(t, n);
    t->max = n;
}

/* Room for one more entry; seq decides the slot, so entries move to their slots of the new ring. */
static void ring_grow(struct hpack_table *t)
{
    uint32_t cap = t->ring_cap ? t->ring_cap * 2 : FIRST_RING;
    struct hpack_entry *ring = mem_alloc(sizeof(*ring) * cap);
    for (uint32_t i = 0; i < t->count; i++)
        ring[(t->inserted - 1 - i) & (cap - 1)] = *hpack_table_at(t, i);
    free(t->ring);
    t->ring = ring;
    t->ring_cap = cap;
}

/* A fresh piece with the live bytes at its front and room for `more`. The old piece is returned:
 * what is to be added may lie in it. */
static char *bytes_renew(struct hpack_table *t, uint32_t more)
{
    uint32_t from = t->count ? hpack_table_at(t, t->count - 1)->off : t->bytes_end;
    uint32_t live = t->bytes_end - from, cap = FIRST_BYTES;
    while (cap < 2 * (live + more))
        cap *= 2;
    char *old = t->bytes, *fresh = mem_alloc(cap);
    if (live)
        memcpy(fresh, old + from, live);
    for (uint32_t i = 0; i < t->count; i++)
        hpack_table_at(t, i)->off -= from;
    t->bytes = fresh;
    t->bytes_cap = cap;
    t->bytes_end = live;
    return old;
}

struct hpack_entry *hpack_table_add(struct hpack_table *t, sv name, sv value)
{
    size_t need = name.n + value.n + ENTRY_OVERHEAD;
    if (need > t->max) {
        evict_to(t, 0);
        return NULL;
    }
    uint32_t bytes = (uint32_t)(name.n + value.n);
    evict_to(t, t->max - (uint32_t)need);
    if (t->count == t->ring_cap)
        ring_grow(t);
    char *old = t->bytes_cap - t->bytes_end < bytes || !t->bytes ? bytes_renew(t, bytes) : NULL;
    struct hpack_entry *e = &t->ring[t->inserted++ & (t->ring_cap - 1)];
    *e = (struct hpack_entry){
        .off = t->bytes_end, .name_bytes = (uint32_t)name.n, .value_bytes = (uint32_t)value.n};
    if (name.n)
        memcpy(t->bytes + t->bytes_end, name.p, name.n);
    if (value.n)
        memcpy(t->bytes + t->bytes_end + name.n, value.p, value.n);
    t->bytes_end += bytes;
    t->size += (uint32_t)need;
    t->count++;
    free(old);
    return e;
}
