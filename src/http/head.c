/* Message heads: pseudo fields and ordinary ones under one naming, as matchers and logs see them.
 */
#include "http/headers.h"
#include "base/code.h"
#include "http/codec.h"
#include "base/error.h"

void http_head_init(struct http_head *m, struct arena *a)
{
    memset(m, 0, sizeof(*m));
    http_headers_init(&m->h, a);
    m->protocol = HTTP_11;
    m->content_length = -1;
}

static sv present(sv v)
{
    return v.n ? v : (sv){NULL, 0};
}

static sv pseudo_get(const struct http_head *m, sv name, struct arena *a)
{
    if (sv_eq(name, SV(":path")))
        return present(m->path);
    if (sv_eq(name, SV(":method")))
        return present(m->method);
    if (sv_eq(name, SV(":authority")))
        return present(m->authority);
    if (sv_eq(name, SV(":scheme")))
        return present(m->scheme);
    if (sv_eq(name, SV(":protocol")))
        return present(m->connect_protocol);
    if (sv_eq(name, SV(":status")) && m->status)
        return arena_printf(a, "%u", m->status);
    return (sv){NULL, 0};
}

sv http_head_get(const struct http_head *m, sv name, struct arena *a)
{
    if (name.n == 0)
        return (sv){NULL, 0};
    if (name.p[0] == ':')
        return pseudo_get(m, name, a);
    if (sv_eq(name, SV("host")))
        return present(m->authority);
    return http_headers_get_sv(&m->h, name);
}

static int status_set(struct http_head *m, sv value)
{
    uint64_t v;
    if (value.n != 3 || sv_to_u64(value, &v) != 0 || v < 100 || v > 599)
        return E_INVALID;
    m->status = (uint16_t)v;
    return 0;
}

int http_head_set(struct http_head *m, sv name, sv value)
{
    if (name.n == 0)
        return E_INVALID;
    if (name.p[0] != ':' && !sv_eq(name, SV("host"))) {
        http_headers_set(&m->h, name, value);
        return 0;
    }
    if (sv_eq(name, SV(":status")))
        return status_set(m, value);
    sv *field = sv_eq(name, SV(":path"))                                   ? &m->path
                : sv_eq(name, SV(":method"))                               ? &m->method
                : sv_eq(name, SV(":authority")) || sv_eq(name, SV("host")) ? &m->authority
                : sv_eq(name, SV(":scheme"))                               ? &m->scheme
                : sv_eq(name, SV(":protocol"))                             ? &m->connect_protocol
                                                                           : NULL;
    if (!field)
        return E_INVALID;
    *field = value;
    return 0;
}

HOT bool http_head_is_grpc(const struct http_head *m)
{
    static const sv grpc = SV_INIT("application/grpc");
    sv type = http_headers_get(&m->h, HTTP_H_CONTENT_TYPE);
    if (!sv_starts(type, grpc))
        return false;
    return type.n == grpc.n || type.p[grpc.n] == '+' || type.p[grpc.n] == ';';
}

static void add_size(struct http_head_size *size, sv name, size_t value)
{
    if (!value)
        return;
    size->n++;
    size->bytes += name.n + value;
}

struct http_head_size http_head_size(const struct http_head *m)
{
    if (!m)
        return (struct http_head_size){0};
    struct http_head_size size = {m->h.n, http_headers_bytes(&m->h, false)};
    add_size(&size, SV(":method"), m->method.n);
    add_size(&size, SV(":path"), m->path.n);
    add_size(&size, SV(":authority"), m->authority.n);
    add_size(&size, SV(":scheme"), m->scheme.n);
    add_size(&size, SV(":status"), m->status ? 3 : 0);
    if (m->upgrade && !http_headers_get(&m->h, HTTP_H_UPGRADE).p) {
        add_size(&size, SV("connection"), strlen("upgrade"));
        add_size(&size, SV("upgrade"), m->connect_protocol.n);
    }
    return size;
}

const char *http_reset_text(enum http_reset r)
{
    static const char *const text[] = {
#define X(id, text) text,
        HTTP_RESETS(X)
#undef X
    };
    return (unsigned)r < sizeof(text) / sizeof(text[0]) ? text[r] : "unknown_reset";
}
