#include "xds/xds_blob.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"

#define TAG(number) ((uint8_t)((number) << 3 | 2)) /* length-delimited */

static size_t varint(uint8_t *out, size_t v)
{
    size_t n = 0;
    while (v >= 0x80) {
        out[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    out[n++] = (uint8_t)v;
    return n;
}

static size_t varint_n(size_t v)
{
    uint8_t ignored[10];
    return varint(ignored, v);
}

static size_t field_n(size_t len)
{
    return 1 + varint_n(len) + len;
}

static uint8_t *head(uint8_t *p, unsigned number, size_t len)
{
    *p++ = TAG(number);
    return p + varint(p, len);
}

static uint8_t *field(uint8_t *p, unsigned number, sv v)
{
    p = head(p, number, v.n);
    if (v.n)
        memcpy(p, v.p, v.n);
    return p + v.n;
}

/* Resource: name = 3, version = 1, resource = 2; Any: type_url = 1, value = 2. */
static void encode(struct xds_blob *b, sv packed)
{
    sv url = xds_type_url(b->type);
    char text[17];
    size_t any = field_n(url.n) + field_n(packed.n), resource, total;
    uint8_t *start, *p;

    snprintf(text, sizeof text, "%016" PRIx64, b->version);
    resource = field_n(16) + field_n(any) + field_n(b->name.n);
    total = field_n(resource);
    p = start = buf_append_room(&b->bytes, total);
    p = head(p, 2, resource);
    p = field(p, 1, sv_make(text, 16));
    b->any_from = (size_t)(p - start);
    b->any_n = field_n(any);
    p = head(p, 2, any);
    p = field(p, 1, url);
    p = field(p, 2, packed);
    field(p, 3, b->name);
}

struct xds_blob *xds_blob_remake(struct xds_names *names, enum xds_type t, uint32_t id, sv packed,
                                 struct xds_blob *old)
{
    uint64_t version = sv_hash_stable(packed) | 1;
    struct xds_blob **latest = xds_names_latest(names, t, id);
    struct xds_blob *b = old && old->version == version ? old : *latest;

    if (b && b->version == version) {
        xds_names_unref(names, t, id);
        return xds_blob_ref(b);
    }
    b = mem_new(struct xds_blob);
    b->refs = 1;
    b->id = id;
    b->type = t;
    b->names = names;
    b->version = version;
    b->serial = xds_names_serial(names, t, id);
    b->name = xds_names_text(names, t, id);
    buf_init(&b->bytes);
    encode(b, packed);
    *latest = b;
    return b;
}

struct xds_blob *xds_blob_new(struct xds_names *names, enum xds_type t, sv name, sv packed)
{
    return xds_blob_remake(names, t, xds_names_get(names, t, name), packed, NULL);
}

struct xds_blob *xds_blob_ref(struct xds_blob *b)
{
    b->refs++;
    return b;
}

void xds_blob_unref(struct xds_blob *b)
{
    if (!b || --b->refs)
        return;
    struct xds_blob **latest = xds_names_latest(b->names, b->type, b->id);
    if (*latest == b)
        *latest = NULL;
    xds_names_unref(b->names, b->type, b->id);
    buf_reset(&b->bytes);
    free(b);
}
