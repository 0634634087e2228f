#include "net/addr.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"

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

/* ---- Unix paths ---- */

#define FAR_SLOTS 256
#define FAR_MAX   4096

struct far {
    struct far *next;
    size_t n;
    char p[];
};
static struct far *fars[FAR_SLOTS];
static unsigned n_fars;
static pthread_mutex_t fars_lock = PTHREAD_MUTEX_INITIALIZER;

/* The table's copy of it; NULL when the table is full. */
static const char *far_path(const char *p, size_t n)
{
    struct far **slot = &fars[sv_hash_stable(sv_make(p, n)) % FAR_SLOTS], *f;
    pthread_mutex_lock(&fars_lock);
    for (f = *slot; f && (f->n != n || memcmp(f->p, p, n) != 0); f = f->next)
        ;
    if (!f && n_fars < FAR_MAX) {
        f = mem_alloc(sizeof *f + n);
        *f = (struct far){.next = *slot, .n = n};
        memcpy(f->p, p, n);
        *slot = f;
        n_fars++;
    }
    pthread_mutex_unlock(&fars_lock);
    return f ? f->p : NULL;
}

/* What follows the NUL of an abstract name, or a file's path. False: only its front was kept. */
static bool set_un(struct addr *a, const char *p, size_t n, bool abstract)
{
    const char *far = n > ADDR_NEAR ? far_path(p, n) : NULL;
    bool whole = n <= ADDR_NEAR || far;
    if (!whole)
        n = ADDR_NEAR;
    memset(a, 0, sizeof *a);
    a->un.family = AF_UNIX;
    a->un.n = (uint8_t)n;
    a->un.abstract = abstract;
    if (far)
        memcpy(a->un.near, &far, sizeof far);
    else if (n)
        memcpy(a->un.near, p, n);
    a->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (n || abstract));
    return whole;
}

static sv un_path(const struct addr *a)
{
    const char *far;
    if (a->un.n <= ADDR_NEAR)
        return sv_make(a->un.near, a->un.n);
    memcpy(&far, a->un.near, sizeof far);
    return sv_make(far, a->un.n);
}

int addr_unix(struct addr *a, sv path)
{
    struct addr r;
    bool abstract = path.n && path.p[0] == '@';
    if (path.n == 0 || (!abstract && memchr(path.p, 0, path.n)))
        return E_INVALID;
    sv name = abstract ? sv_from(path, 1) : path;
    if (name.n + 1 > sizeof((struct sockaddr_un *)0)->sun_path || /* a NUL before or behind it */
        !set_un(&r, name.p, name.n, abstract))
        return E_LIMIT;
    *a = r;
    return 0;
}

static void from_un(struct addr *a, const struct sockaddr_un *un, size_t n)
{
    size_t head = offsetof(struct sockaddr_un, sun_path);
    if (n > sizeof *un)
        n = sizeof *un;
    n = n > head ? n - head : 0;
    if (n && un->sun_path[0])
        set_un(a, un->sun_path, strnlen(un->sun_path, n), false);
    else if (n > 1 && n < sizeof un->sun_path) /* of a whole one nobody knows where it ends */
        set_un(a, un->sun_path + 1, n - 1, true);
    else
        set_un(a, NULL, 0, false);
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
            from_un(&r, (const void *)sa, n);
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

socklen_t addr_sockaddr(const struct addr *a, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof *out);
    if (a->len && a->sa.sa_family == AF_UNIX) {
        struct sockaddr_un *un = (void *)out;
        sv path = un_path(a);
        un->sun_family = AF_UNIX;
        if (path.n)
            memcpy(un->sun_path + a->un.abstract, path.p, path.n);
    } else {
        memcpy(out, &a->sa, a->len);
    }
    return a->len;
}

bool addr_is_file(const struct addr *a)
{
    return a->len && a->sa.sa_family == AF_UNIX && a->un.n && !a->un.abstract;
}

sv addr_key(const struct addr *a)
{
    size_t n = !a->len                      ? 0
               : a->sa.sa_family == AF_INET ? offsetof(struct sockaddr_in, sin_zero)
                                            : sizeof a->in6;
    return sv_make((const char *)&a->sa, n);
}

bool addr_eq(const struct addr *a, const struct addr *b)
{
    return sv_eq(addr_key(a), addr_key(b));
}

uint64_t addr_hash(const struct addr *a)
{
    return sv_hash(addr_key(a));
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
    sv path = un_path(a);
    size_t at = 0;
    if (a->un.abstract)
        out[at++] = '@';
    if (path.n)
        memcpy(out + at, path.p, path.n);
    out[at + path.n] = 0;
    return sv_make(out, at + path.n);
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
