#include "net/addr.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void set_in4(struct addr *a, const void *ip, uint16_t port)
{
    memset(a, 0, sizeof *a);
    a->len = sizeof a->in4;
    a->in4.sin_family = AF_INET;
    a->in4.sin_port = htons(port);
    memcpy(&a->in4.sin_addr, ip, 4);
}

static void set_in6(struct addr *a, const struct in6_addr *ip, uint32_t scope, uint16_t port)
{
    if (IN6_IS_ADDR_V4MAPPED(ip)) {
        set_in4(a, ip->s6_addr + 12, port);
        return;
    }
    memset(a, 0, sizeof *a);
    a->len = sizeof a->in6;
    a->in6.sin6_family = AF_INET6;
    a->in6.sin6_port = htons(port);
    a->in6.sin6_addr = *ip;
    a->in6.sin6_scope_id = scope;
}

/* "fe80::1%eth0" or "%2": the part after '%'. */
static int scope_parse(sv text, uint32_t *out)
{
    char name[IF_NAMESIZE];
    uint64_t n;
    if (sv_to_u64(text, &n) == 0 && n <= UINT32_MAX) {
        *out = (uint32_t)n;
        return 0;
    }
    if (text.n == 0 || text.n >= sizeof name)
        return E_INVALID;
    memcpy(name, text.p, text.n);
    name[text.n] = 0;
    *out = if_nametoindex(name);
    return *out ? 0 : E_INVALID;
}

int addr_ip(struct addr *a, sv ip, uint16_t port)
{
    char text[INET6_ADDRSTRLEN];
    struct in_addr v4;
    struct in6_addr v6;
    uint32_t scope = 0;
    sv bare, zone;
    bool zoned = sv_cut(ip, '%', &bare, &zone);
    if (bare.n == 0 || bare.n >= sizeof text || memchr(bare.p, 0, bare.n))
        return E_INVALID;
    memcpy(text, bare.p, bare.n);
    text[bare.n] = 0;
    if (!zoned && inet_pton(AF_INET, text, &v4) == 1) {
        set_in4(a, &v4, port);
        return 0;
    }
    if (inet_pton(AF_INET6, text, &v6) != 1 || (zoned && scope_parse(zone, &scope)))
        return E_INVALID;
    set_in6(a, &v6, scope, port);
    return 0;
}

int addr_parse(struct addr *a, sv text)
{
    sv ip, port;
    uint64_t n;
    if (text.n && text.p[0] == '[') {
        if (!sv_cut(sv_from(text, 1), ']', &ip, &port) || !port.n || port.p[0] != ':' ||
            sv_find(ip, ':') < 0)
            return E_INVALID;
        port = sv_from(port, 1);
    } else if (!sv_cut(text, ':', &ip, &port)) {
        return E_INVALID;
    }
    if (sv_to_u64(port, &n) || n > 65535)
        return E_INVALID;
    return addr_ip(a, ip, (uint16_t)n);
}

int addr_unix(struct addr *a, sv path)
{
    bool abstract = path.n && path.p[0] == '@';
    if (path.n == 0 || (!abstract && memchr(path.p, 0, path.n)))
        return E_INVALID;
    /* A file's path keeps room for its NUL. */
    if (path.n + (abstract ? 0 : 1) > sizeof a->un.sun_path)
        return E_LIMIT;
    memset(a, 0, sizeof *a);
    a->un.sun_family = AF_UNIX;
    memcpy(a->un.sun_path, path.p, path.n);
    if (abstract)
        a->un.sun_path[0] = 0;
    a->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.n + (abstract ? 0 : 1));
    return 0;
}

/* The length of an address whose sender did not say it. */
static socklen_t unix_len(const struct sockaddr_un *un, socklen_t n)
{
    size_t head = offsetof(struct sockaddr_un, sun_path);
    if (n <= head || un->sun_path[0] == 0)
        return n < sizeof *un ? n : (socklen_t)head; /* abstract, or an unnamed peer */
    return (socklen_t)(head + strnlen(un->sun_path, n - head) + 1);
}

void addr_from_sockaddr(struct addr *a, const struct sockaddr *sa, socklen_t n)
{
    struct addr r;
    memset(&r, 0, sizeof r);
    if (sa && n >= sizeof sa->sa_family) {
        if (sa->sa_family == AF_INET && n >= sizeof r.in4) {
            const struct sockaddr_in *in4 = (const void *)sa;
            set_in4(&r, &in4->sin_addr, ntohs(in4->sin_port));
        } else if (sa->sa_family == AF_INET6 && n >= sizeof r.in6) {
            const struct sockaddr_in6 *in6 = (const void *)sa;
            set_in6(&r, &in6->sin6_addr, in6->sin6_scope_id, ntohs(in6->sin6_port));
        } else if (sa->sa_family == AF_UNIX) {
            if (n > sizeof r.un)
                n = sizeof r.un;
            memcpy(&r.un, sa, n);
            r.len = n == sizeof r.un ? unix_len(&r.un, n) : n;
        }
    }
    *a = r;
}

uint16_t addr_port(const struct addr *a)
{
    if (a->len && a->sa.sa_family == AF_INET)
        return ntohs(a->in4.sin_port);
    if (a->len && a->sa.sa_family == AF_INET6)
        return ntohs(a->in6.sin6_port);
    return 0;
}

void addr_set_port(struct addr *a, uint16_t port)
{
    if (a->len && a->sa.sa_family == AF_INET)
        a->in4.sin_port = htons(port);
    else if (a->len && a->sa.sa_family == AF_INET6)
        a->in6.sin6_port = htons(port);
}

/* The bytes that make up an address: family, port, IP (or path). */
static size_t key_of(const struct addr *a, unsigned char out[sizeof(struct sockaddr_un) + 8])
{
    if (a->len == 0)
        return 0;
    memcpy(out, &a->sa.sa_family, 2);
    switch (a->sa.sa_family) {
    case AF_INET:
        memcpy(out + 2, &a->in4.sin_port, 2);
        memcpy(out + 4, &a->in4.sin_addr, 4);
        return 8;
    case AF_INET6:
        memcpy(out + 2, &a->in6.sin6_port, 2);
        memcpy(out + 4, &a->in6.sin6_addr, 16);
        memcpy(out + 20, &a->in6.sin6_scope_id, 4);
        return 24;
    default: {
        size_t n = a->len - offsetof(struct sockaddr_un, sun_path);
        memcpy(out + 2, a->un.sun_path, n);
        return 2 + n;
    }
    }
}

bool addr_eq(const struct addr *a, const struct addr *b)
{
    unsigned char ka[sizeof(struct sockaddr_un) + 8], kb[sizeof(struct sockaddr_un) + 8];
    size_t na = key_of(a, ka), nb = key_of(b, kb);
    return na == nb && memcmp(ka, kb, na) == 0;
}

uint64_t addr_hash(const struct addr *a)
{
    unsigned char k[sizeof(struct sockaddr_un) + 8];
    size_t n = key_of(a, k);
    return sv_hash(sv_make((const char *)k, n));
}

bool addr_is_loopback(const struct addr *a)
{
    if (a->len && a->sa.sa_family == AF_INET)
        return ntohl(a->in4.sin_addr.s_addr) >> 24 == 127;
    return a->len && a->sa.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&a->in6.sin6_addr);
}

bool addr_is_any(const struct addr *a)
{
    if (a->len && a->sa.sa_family == AF_INET)
        return a->in4.sin_addr.s_addr == 0;
    return a->len && a->sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr);
}

static sv unix_text(const struct addr *a, char out[ADDR_TEXT_MAX])
{
    size_t head = offsetof(struct sockaddr_un, sun_path), n = a->len > head ? a->len - head : 0;
    memcpy(out, a->un.sun_path, n);
    if (n && out[0] == 0)
        out[0] = '@';
    else
        n = strnlen(out, n);
    out[n] = 0;
    return sv_make(out, n);
}

static sv ip_text(const struct addr *a, bool with_port, char out[ADDR_TEXT_MAX])
{
    bool v6 = a->sa.sa_family == AF_INET6;
    size_t n = 0;
    if (v6 && with_port)
        out[n++] = '[';
    inet_ntop(a->sa.sa_family, v6 ? (void *)&a->in6.sin6_addr : (void *)&a->in4.sin_addr, out + n,
              INET6_ADDRSTRLEN);
    n += strlen(out + n);
    if (v6 && a->in6.sin6_scope_id)
        n += (size_t)snprintf(out + n, ADDR_TEXT_MAX - n, "%%%u", a->in6.sin6_scope_id);
    if (with_port)
        n += (size_t)snprintf(out + n, ADDR_TEXT_MAX - n, "%s:%u", v6 ? "]" : "", addr_port(a));
    return sv_make(out, n);
}

static sv text_of(const struct addr *a, bool with_port, char out[ADDR_TEXT_MAX])
{
    out[0] = 0;
    if (a->len == 0)
        return sv_make(out, 0);
    switch (a->sa.sa_family) {
    case AF_INET:
    case AF_INET6:
        return ip_text(a, with_port, out);
    case AF_UNIX:
        return unix_text(a, out);
    default:
        return sv_make(out, 0);
    }
}

sv addr_text(const struct addr *a, char out[ADDR_TEXT_MAX])
{
    return text_of(a, true, out);
}

sv addr_ip_text(const struct addr *a, char out[ADDR_TEXT_MAX])
{
    return text_of(a, false, out);
}

/* ---- ranges ---- */

static void clear_host_bits(struct cidr *c)
{
    for (unsigned i = 0; i < c->family_bytes; i++) {
        unsigned kept = c->bits > i * 8 ? c->bits - i * 8 : 0;
        if (kept < 8)
            c->ip[i] = (uint8_t)(c->ip[i] & (0xff00u >> kept));
    }
}

int cidr_make(struct cidr *c, sv ip, uint32_t bits)
{
    struct addr a;
    struct cidr r;
    if (addr_ip(&a, ip, 0))
        return E_INVALID;
    memset(&r, 0, sizeof r);
    bool v4 = a.sa.sa_family == AF_INET;
    /* "::ffff:10.0.0.0/104" names the same range as "10.0.0.0/8". */
    if (v4 && sv_find(ip, ':') >= 0) {
        if (bits < 96)
            return E_INVALID;
        bits -= 96;
    }
    if (bits > (v4 ? 32 : 128))
        return E_INVALID;
    r.family_bytes = v4 ? 4 : 16;
    r.bits = (uint8_t)bits;
    memcpy(r.ip, v4 ? (void *)&a.in4.sin_addr : (void *)&a.in6.sin6_addr, r.family_bytes);
    clear_host_bits(&r);
    *c = r;
    return 0;
}

int cidr_parse(struct cidr *c, sv text)
{
    sv ip, bits;
    uint64_t n = sv_find(text, ':') >= 0 ? 128 : 32;
    if (sv_cut(text, '/', &ip, &bits) && (sv_to_u64(bits, &n) || n > 128))
        return E_INVALID;
    return cidr_make(c, ip, (uint32_t)n);
}

bool cidr_has(const struct cidr *c, const struct addr *a)
{
    const uint8_t *ip;
    if (a->len && a->sa.sa_family == AF_INET && c->family_bytes == 4)
        ip = (const uint8_t *)&a->in4.sin_addr;
    else if (a->len && a->sa.sa_family == AF_INET6 && c->family_bytes == 16)
        ip = (const uint8_t *)&a->in6.sin6_addr;
    else
        return false;
    unsigned whole = c->bits / 8, rest = c->bits % 8;
    if (memcmp(ip, c->ip, whole) != 0)
        return false;
    return rest == 0 || (ip[whole] >> (8 - rest)) == (c->ip[whole] >> (8 - rest));
}
