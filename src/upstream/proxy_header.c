#include "upstream/proxy_header.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static bool known(const struct addr *a, const struct addr *b)
{
    return a && b && a->len && a->sa.sa_family == b->sa.sa_family &&
           (a->sa.sa_family == AF_INET || a->sa.sa_family == AF_INET6);
}

static const void *ip_of(const struct addr *a)
{
    return a->sa.sa_family == AF_INET ? (const void *)&a->in4.sin_addr
                                      : (const void *)&a->in6.sin6_addr;
}

static size_t write_v1(char *out, const struct addr *s, const struct addr *d)
{
    char from[INET6_ADDRSTRLEN], to[INET6_ADDRSTRLEN];
    if (!known(s, d))
        return (size_t)sprintf(out, "PROXY UNKNOWN\r\n");
    int family = s->sa.sa_family;
    inet_ntop(family, ip_of(s), from, sizeof from);
    inet_ntop(family, ip_of(d), to, sizeof to);
    return (size_t)snprintf(out, PROXY_HEADER_MAX, "PROXY TCP%c %s %s %u %u\r\n",
                            family == AF_INET ? '4' : '6', from, to, addr_port(s), addr_port(d));
}

static size_t write_v2(char *out, const struct addr *s, const struct addr *d)
{
    static const char signature[12] = "\r\n\r\n\0\r\nQUIT\n";
    bool told = known(s, d);
    size_t ip = !told ? 0 : s->sa.sa_family == AF_INET ? 4 : 16, body = told ? 2 * ip + 4 : 0;
    uint16_t ports[2] = {told ? htons(addr_port(s)) : 0, told ? htons(addr_port(d)) : 0};
    memcpy(out, signature, sizeof signature);
    out[12] = told ? 0x21 : 0x20; /* version 2, PROXY or LOCAL */
    out[13] = !told ? 0 : ip == 4 ? 0x11 : 0x21;
    out[14] = 0;
    out[15] = (char)body;
    if (told) {
        memcpy(out + 16, ip_of(s), ip);
        memcpy(out + 16 + ip, ip_of(d), ip);
        memcpy(out + 16 + 2 * ip, ports, sizeof ports);
    }
    return 16 + body;
}

size_t proxy_header_write(char out[PROXY_HEADER_MAX], unsigned version, const struct addr *source,
                          const struct addr *destination)
{
    return version == 1 ? write_v1(out, source, destination) : write_v2(out, source, destination);
}
