/* DNS messages, read strictly and written anew: RFC 1035 4, RFC 6891 (EDNS).
 *
 *   header(12)  id flags qdcount ancount nscount arcount
 *   question    name type class                              exactly one in what is taken here
 *   records     name type class ttl rdlength rdata           names may be compressed
 *
 * Reading checks every length, every label (1..63, whole names up to 255) and that compression
 * pointers only lead backwards, so that they cannot loop (attack case 44); bytes after the last
 * record, or counts that lie, make a message malformed. Names are kept as text in lower case:
 * labels joined by dots, without the last one; labels with dots, NUL or bytes above 0x7e in them
 * cannot be told apart as text and are refused.
 * Pure: no I/O, no allocation. Thread: any. */
#ifndef WEFT_AGENT_DNS_MSG_H
#define WEFT_AGENT_DNS_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "base/sv.h"
#include "net/addr.h"

#define DNS_NAME_MAX 254  /* text, with NUL */
#define DNS_UDP_MAX  4096 /* what is taken and given over UDP at most */
#define DNS_TCP_MAX  65535

enum dns_type { DNS_A = 1, DNS_CNAME = 5, DNS_PTR = 12, DNS_AAAA = 28, DNS_OPT = 41 };
enum dns_rcode {
    DNS_OK = 0,
    DNS_FORMERR = 1,
    DNS_SERVFAIL = 2,
    DNS_NXDOMAIN = 3,
    DNS_NOTIMP = 4,
    DNS_REFUSED = 5,
    DNS_BADVERS = 16 /* in the EDNS record's half */
};

struct dns_query {
    uint16_t id;
    uint16_t type, qclass;
    bool recursion_desired, checking_disabled;
    bool has_edns;
    uint16_t udp_size; /* of EDNS, at least 512; 512 without */
    uint8_t edns_version;
    char name[DNS_NAME_MAX]; /* empty: the root */
    size_t name_len;
    size_t question_len;
    uint8_t question[DNS_NAME_MAX + 6]; /* as received: answers repeat its letters' case */
};

/* 0; E_INVALID: not worth an answer (too short, a response); E_PROTOCOL: answer FORMERR (id and
 * flags are filled); E_UNSUPPORTED: another opcode, answer NOTIMP. */
int dns_query_parse(struct dns_query *q, const void *msg, size_t n) MUST_CHECK;

/* A response of another server to a query that was passed on: is it well-formed, a response, to
 * this id and question (compared without case)? 0 or E_INVALID. */
int dns_response_check(const void *msg, size_t n, uint16_t id,
                       const struct dns_query *q) MUST_CHECK;
/* Truncated flag, rcode of a message of at least 12 bytes. */
bool dns_truncated(const void *msg);
enum dns_rcode dns_rcode_of(const void *msg);
void dns_set_id(void *msg, uint16_t id);

/* ---- writing ---- */
struct dns_writer {
    uint8_t *p;
    size_t n, max;
    bool overflow; /* something did not fit: dns_write_end makes it a truncated answer */
    bool edns;
    uint16_t answers;
    uint8_t rcode_high;
};
/* Begins the answer to q with its question. max: room in p, at least 512. */
void dns_write_begin(struct dns_writer *w, const struct dns_query *q, void *p, size_t max,
                     enum dns_rcode rcode, bool authoritative);
/* name CNAME target: name NULL = the question's. */
void dns_write_cname(struct dns_writer *w, const char *name, const char *target, uint32_t ttl_s);
/* A or AAAA by the address' family. */
void dns_write_addr(struct dns_writer *w, const char *name, const struct addr *a, uint32_t ttl_s);
/* Finishes; returns the length. */
size_t dns_write_end(struct dns_writer *w);
/* An answer without records. */
size_t dns_error(const struct dns_query *q, enum dns_rcode rcode, void *p, size_t max);
/* A query of our own for a name as text. Returns its length, 0 when the name is none. */
size_t dns_query_write(void *p, size_t max, uint16_t id, sv name, uint16_t type, bool edns);
/* Text to a name that can be asked: lower case without the last dot. E_INVALID. */
int dns_name_normal(sv text, char out[DNS_NAME_MAX], size_t *n) MUST_CHECK;

#endif
