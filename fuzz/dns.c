/* The sidecar's DNS messages: questions of applications and answers of other servers. What is read
 * as a question must come back from its own answer. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "agent/dns_msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void answer(const struct dns_query *q)
{
    uint8_t p[1024];
    struct dns_writer w;
    struct addr v4, v6;
    addr_ip(&v4, SV("192.0.2.1"), 0);
    addr_ip(&v6, SV("2001:db8::1"), 0);
    dns_write_begin(&w, q, p, sizeof p, DNS_OK, true);
    dns_write_cname(&w, NULL, "other.name", 30);
    for (int i = 0; i < 40; i++) {
        dns_write_addr(&w, "other.name", &v4, 30);
        dns_write_addr(&w, NULL, &v6, 30);
    }
    size_t n = dns_write_end(&w);
    if (n > sizeof p || dns_response_check(p, n, q->id, q))
        abort();
    n = dns_error(q, DNS_SERVFAIL, p, 512);
    if (n > 512 || dns_response_check(p, n, q->id, q))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dns_query q;
    int code = dns_query_parse(&q, data, size);
    if (code == 0) {
        if (strlen(q.name) != q.name_len)
            abort();
        answer(&q);
    } else if (code != E_INVALID) {
        uint8_t p[512];
        if (dns_error(&q, DNS_FORMERR, p, sizeof p) > sizeof p)
            abort();
    }
    /* The second half as an answer to the question that the first half may be. */
    memset(&q, 0, sizeof q);
    if (size > 16 && dns_query_parse(&q, data, size / 2) == 0)
        code |= dns_response_check(data + size / 2, size - size / 2, q.id, &q);
    if (size >= 12) {
        strcpy(q.name, "a.b");
        q.type = DNS_A;
        q.qclass = 1;
        code |= dns_response_check(data, size, (uint16_t)(data[0] << 8 | data[1]), &q);
    }
    return code > 0;
}
