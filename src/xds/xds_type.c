#include "xds/xds_type.h"

#include "api/envoy.pb.h"
#include "api/pb.h"

#define PREFIX "type.googleapis.com/"

static const struct {
    const char *brief;
    sv url;
    bool wildcard;
} types[XDS_TYPES] = {
#define X(id, name, wildcard) {#id, SV_INIT(PREFIX name), wildcard},
    XDS_TYPES_LIST(X)
#undef X
};

const char *xds_type_short(enum xds_type t)
{
    return types[t].brief;
}

sv xds_type_url(enum xds_type t)
{
    return types[t].url;
}

bool xds_type_find(sv url, enum xds_type *out)
{
    for (int i = 0; i < XDS_TYPES; i++) {
        if (sv_eq(url, types[i].url)) {
            *out = (enum xds_type)i;
            return true;
        }
    }
    return false;
}

bool xds_type_wildcard(enum xds_type t)
{
    return types[t].wildcard;
}

sv xds_host_table(sv name)
{
    ptrdiff_t slash = sv_rfind(name, '/');
    return slash < 0 ? (sv){NULL, 0} : sv_first(name, (size_t)slash);
}

/* Reads one varint; false at the end or when it is too long. */
static bool varint(const uint8_t **p, const uint8_t *end, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; *p < end && shift < 64; shift += 7) {
        uint8_t b = *(*p)++;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) {
            *out = v;
            return true;
        }
    }
    return false;
}

/* All named types keep their name in field 1, a string. Walking the wire form spares decoding the
 * whole resource just to learn what it is called. */
sv xds_resource_name(enum xds_type t, sv packed)
{
    sv name = {NULL, 0};
    const uint8_t *p = (const uint8_t *)packed.p, *end = p + packed.n;
    uint64_t tag, n;

    if (t == XDS_NDS)
        return name;
    while (p < end) {
        if (!varint(&p, end, &tag))
            return (sv){NULL, 0};
        switch (tag & 7) {
        case 0:
            if (!varint(&p, end, &n))
                return (sv){NULL, 0};
            break;
        case 1:
        case 5:
            n = (tag & 7) == 1 ? 8 : 4;
            if ((uint64_t)(end - p) < n)
                return (sv){NULL, 0};
            p += n;
            break;
        case 2:
            if (!varint(&p, end, &n) || (uint64_t)(end - p) < n)
                return (sv){NULL, 0};
            if (tag >> 3 == 1)
                name = sv_make((const char *)p, (size_t)n);
            p += n;
            break;
        default:
            return (sv){NULL, 0};
        }
    }
    return name;
}
