/* Authorities and absolute-form targets; declared in path.h. */
#include <arpa/inet.h>
#include "http/chars.h"
#include "base/code.h"
#include "http/path.h"

/* RFC 3986 3.2.2 reg-name without escapes: an escaped host would have a second spelling, and no
 * client sends one (attack case 25). */
static const uint8_t host_byte[256] = {
    ['a' ... 'z'] = 1, ['0' ... '9'] = 1, ['A' ... 'Z'] = 1, ['-'] = 1, ['.'] = 1,  ['_'] = 1,
    ['~'] = 1,         ['!'] = 1,         ['$'] = 1,         ['&'] = 1, ['\''] = 1, ['('] = 1,
    [')'] = 1,         ['*'] = 1,         ['+'] = 1,         [','] = 1, [';'] = 1,  ['='] = 1,
};

static int port_parse(sv text, uint16_t *out)
{
    uint64_t v = 0;
    if (text.n == 0) {
        *out = 0;
        return 0;
    }
    if (text.n > 5 || sv_to_u64(text, &v) != 0 || v == 0 || v > 65535)
        return E_INVALID;
    *out = (uint16_t)v;
    return 0;
}

static int ip6_parse(sv text, struct authority *out)
{
    const char *close = memchr(text.p, ']', text.n);
    char addr[INET6_ADDRSTRLEN];
    struct in6_addr bin;
    if (!close)
        return E_INVALID;
    sv host = sv_make(text.p + 1, (size_t)(close - text.p) - 1);
    sv rest = sv_from(text, host.n + 2);
    if (host.n == 0 || host.n >= sizeof(addr))
        return E_INVALID;
    memcpy(addr, host.p, host.n);
    addr[host.n] = 0;
    if (strlen(addr) != host.n || inet_pton(AF_INET6, addr, &bin) != 1)
        return E_INVALID;
    uint16_t port = 0;
    if (rest.n && (rest.p[0] != ':' || port_parse(sv_from(rest, 1), &port) != 0))
        return E_INVALID;
    *out = (struct authority){.host = host, .port = port, .is_ip6 = true};
    return 0;
}

HOT int authority_parse(sv text, struct authority *out)
{
    if (text.n == 0)
        return E_INVALID;
    if (text.p[0] == '[')
        return ip6_parse(text, out);
    size_t n = 0;
    while (n < text.n && host_byte[(uint8_t)text.p[n]])
        n++;
    uint16_t port = 0;
    if (n == 0 || (n < text.n && text.p[n] != ':'))
        return E_INVALID;
    if (n < text.n && port_parse(sv_from(text, n + 1), &port) != 0)
        return E_INVALID;
    *out = (struct authority){.host = sv_make(text.p, n), .port = port};
    return 0;
}

sv authority_canonical(sv text, bool strip_port, bool strip_dot, struct arena *a)
{
    struct authority parts;
    if (authority_parse(text, &parts) != 0)
        return arena_lower(a, text);
    size_t host_n = parts.host.n + (parts.is_ip6 ? 2 : 0);
    sv host = sv_make(text.p, host_n);
    bool dot = strip_dot && !parts.is_ip6 && host.n > 1 && host.p[host.n - 1] == '.';
    if (dot)
        host.n--;
    if (strip_port || host_n == text.n)
        return arena_lower(a, host);
    if (!dot)
        return arena_lower(a, text);
    /* "host.:80": the dot goes, the port stays. */
    char *out = arena_alloc(a, text.n);
    memcpy(out, host.p, host.n);
    memcpy(out + host.n, text.p + host_n, text.n - host_n);
    return arena_lower(a, sv_make(out, text.n - 1));
}

uint16_t authority_port(sv text, sv scheme)
{
    struct authority parts;
    if (authority_parse(text, &parts) == 0 && parts.port)
        return parts.port;
    if (sv_eq_icase(scheme, SV("https")))
        return 443;
    return sv_eq_icase(scheme, SV("http")) ? 80 : 0;
}

/* Length of the scheme before "://", 0 when there is none. */
static size_t scheme_len(sv v)
{
    size_t i = 0;
    while (i < v.n) {
        uint8_t c = (uint8_t)v.p[i];
        bool alpha = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
        bool more = (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
        if (!alpha && !(i > 0 && more))
            break;
        i++;
    }
    return v.n - i >= 3 && memcmp(v.p + i, "://", 3) == 0 ? i : 0;
}

bool path_is_absolute(sv target)
{
    return scheme_len(target) > 0;
}

int path_url_parse(sv text, struct arena *a, struct path_url *out)
{
    size_t n = scheme_len(text);
    sv scheme = sv_make(text.p, n);
    if (!sv_eq_icase(scheme, SV("http")) && !sv_eq_icase(scheme, SV("https")))
        return E_INVALID;
    sv rest = sv_from(text, n + 3);
    size_t end = 0;
    while (end < rest.n && rest.p[end] != '/' && rest.p[end] != '?' && rest.p[end] != '#')
        end++;
    sv authority = sv_make(rest.p, end), path = sv_from(rest, end);
    struct authority parts;
    if (authority_parse(authority, &parts) != 0 || (path.n && memchr(path.p, '#', path.n)))
        return E_INVALID;
    if (path.n == 0) {
        path = SV("/");
    } else if (path.p[0] == '?') {
        char *p = arena_alloc(a, path.n + 1);
        p[0] = '/';
        memcpy(p + 1, path.p, path.n);
        path = sv_make(p, path.n + 1);
    }
    *out = (struct path_url){.scheme = scheme, .authority = authority, .path = path};
    return 0;
}
