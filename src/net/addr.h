/* Socket addresses: IPv4, IPv6, Unix paths; CIDR ranges. Values, no ownership. Thread: any. */
#ifndef WEFT_NET_ADDR_H
#define WEFT_NET_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "base/error.h"
#include "base/sv.h"

struct addr {
    socklen_t len; /* 0: unset */
    union {
        struct sockaddr sa;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
        struct sockaddr_un un; /* a path longer than sun_path is refused by addr_unix */
        char ss[sizeof(struct sockaddr_un)]; /* the bytes; smaller than sockaddr_storage:
                                                connections and endpoints hold many of these */
    };
};

#define ADDR_TEXT_MAX 128
/* "10.0.0.1", "::1" with a port. IPv4-mapped IPv6 becomes IPv4. E_INVALID. */
int addr_ip(struct addr *a, sv ip, uint16_t port);
/* "10.0.0.1:80", "[::1]:80". E_INVALID. */
int addr_parse(struct addr *a, sv text);
int addr_unix(struct addr *a, sv path); /* '@' first: abstract. E_LIMIT when too long */
void addr_from_sockaddr(struct addr *a, const struct sockaddr *sa, socklen_t n);
uint16_t addr_port(const struct addr *a); /* 0 for Unix */
void addr_set_port(struct addr *a, uint16_t port);
bool addr_eq(const struct addr *a, const struct addr *b);
uint64_t addr_hash(const struct addr *a);
bool addr_is_loopback(const struct addr *a);
bool addr_is_any(const struct addr *a); /* 0.0.0.0 or :: */
/* "10.0.0.1:80", "[::1]:80", the path; NUL-terminated; returns the view. */
sv addr_text(const struct addr *a, char out[ADDR_TEXT_MAX]);
/* Without the port and brackets. */
sv addr_ip_text(const struct addr *a, char out[ADDR_TEXT_MAX]);

struct cidr {
    uint8_t family_bytes; /* 4 or 16 */
    uint8_t bits;
    uint8_t ip[16];
};
int cidr_parse(struct cidr *c, sv text); /* "10.0.0.0/8", or an address alone = host */
int cidr_make(struct cidr *c, sv ip, uint32_t bits);
bool cidr_has(const struct cidr *c, const struct addr *a);

#endif
