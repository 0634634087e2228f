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

/* 32 bytes, since every connection and endpoint holds some. IPv4 and IPv6 are what the system
 * takes; a Unix path is kept here when it is short and else in a table of the process, where it
 * stays: what the system takes is made of it by addr_sockaddr. Bytes that mean nothing are 0. */
#define ADDR_NEAR 24
struct addr {
    socklen_t len; /* of the system's address; 0: unset */
    union {
        struct sockaddr sa; /* the family of any */
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
        struct {
            sa_family_t family;
            uint8_t n;            /* bytes of sun_path without a file's NUL; 0: has no name */
            bool abstract;        /* sun_path begins with a NUL */
            char near[ADDR_NEAR]; /* of up to ADDR_NEAR bytes; of more, the pointer to them */
        } un;
    };
};
_Static_assert(sizeof(struct addr) == 32, "addresses are many");

#define ADDR_TEXT_MAX 128
/* "10.0.0.1", "::1" with a port. IPv4-mapped IPv6 becomes IPv4. E_INVALID. */
int addr_ip(struct addr *a, sv ip, uint16_t port);
/* "10.0.0.1:80", "[::1]:80". E_INVALID. */
int addr_parse(struct addr *a, sv text);
int addr_unix(struct addr *a, sv path); /* '@' first: abstract. E_LIMIT when too long */
/* A path that the table cannot take any more (4,096 long ones) is cut. */
void addr_from_sockaddr(struct addr *a, const struct sockaddr *sa, socklen_t n);
/* The system's form of it; returns its length. */
socklen_t addr_sockaddr(const struct addr *a, struct sockaddr_storage *out);
/* A Unix address that names a file. */
bool addr_is_file(const struct addr *a);
/* Bytes that are equal for equal addresses, inside a. */
sv addr_key(const struct addr *a);
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
