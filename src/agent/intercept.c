#include "agent/intercept.h"

#include <nftables/libnftables.h>
#include <string.h>
#include "net/addr.h"

#define RULES_MAX 65536

static void ports(struct strbuf *s, const char *match, const uint16_t *v, uint32_t n)
{
    if (!n)
        return;
    strbuf_addf(s, "    %stcp dport { ", match);
    for (uint32_t i = 0; i < n; i++)
        strbuf_addf(s, "%s%u", i ? ", " : "", v[i]);
    strbuf_add_c(s, " } return\n");
}

/* A CIDR goes into the rules' text: only what parsed as one, and as it was parsed. */
static int cidrs(struct strbuf *s, const struct intercept *i, struct error *err)
{
    for (uint32_t k = 0; k < i->n_exclude_outbound_cidrs; k++) {
        struct cidr c;
        char text[ADDR_TEXT_MAX];
        struct addr a;
        sv v = i->exclude_outbound_cidrs[k];

        if (cidr_parse(&c, v))
            return error_set(err, E_INVALID, "'%.*s' is no CIDR to exclude", SV_ARG(v));
        memset(&a, 0, sizeof a);
        if (c.family_bytes == 4) {
            a.in4.sin_family = AF_INET;
            memcpy(&a.in4.sin_addr, c.ip, 4);
            a.len = sizeof a.in4;
        } else {
            a.in6.sin6_family = AF_INET6;
            memcpy(&a.in6.sin6_addr, c.ip, 16);
            a.len = sizeof a.in6;
        }
        strbuf_addf(s, "    %s daddr %.*s/%u return\n", c.family_bytes == 4 ? "ip" : "ip6",
                    SV_ARG(addr_ip_text(&a, text)), c.bits);
    }
    return 0;
}

int intercept_rules(const struct intercept *i, struct strbuf *s, struct error *err)
{
    static const uint16_t own[] = {15020, 15021, 15090};
    uint32_t mark = i->mark ? i->mark : INTERCEPT_MARK;
    int rc;

    strbuf_addf(s,
                "table inet weft {\n"
                "  chain output {\n"
                "    type nat hook output priority -100; policy accept;\n"
                "    meta mark %u return\n",
                mark);
    /* Before loopback: a local stub resolver on 127.0.0.53 is asked in vain inside a namespace. */
    if (i->dns_port)
        strbuf_addf(s, "    meta l4proto { tcp, udp } th dport 53 redirect to :%u\n", i->dns_port);
    strbuf_add_c(s, "    oifname \"lo\" return\n");
    ports(s, "", i->exclude_outbound_ports, i->n_exclude_outbound_ports);
    rc = cidrs(s, i, err);
    if (rc)
        return rc;
    strbuf_addf(s,
                "    meta l4proto tcp redirect to :%u\n"
                "  }\n"
                "  chain prerouting {\n"
                "    type nat hook prerouting priority -100; policy accept;\n"
                "    iifname \"lo\" return\n",
                i->outbound_port);
    ports(s, "", own, sizeof own / sizeof *own);
    ports(s, "", i->exclude_inbound_ports, i->n_exclude_inbound_ports);
    strbuf_addf(s,
                "    meta l4proto tcp redirect to :%u\n"
                "  }\n"
                "}\n",
                i->inbound_port);
    return s->overflow ? error_set(err, E_LIMIT, "too many exclusions") : 0;
}

static int run(const char *commands, struct error *err)
{
    struct nft_ctx *ctx = nft_ctx_new(NFT_CTX_DEFAULT);
    const char *why;
    int rc = 0;

    if (!ctx)
        return error_set(err, E_NO_MEMORY, "nftables: no context");
    nft_ctx_buffer_output(ctx);
    nft_ctx_buffer_error(ctx);
    if (nft_run_cmd_from_buffer(ctx, commands) != 0) {
        why = nft_ctx_get_error_buffer(ctx);
        rc = error_set(err, E_IO, "nftables refused the interception rules: %s",
                       why && *why ? why : "no reason given");
    }
    nft_ctx_free(ctx);
    return rc;
}

int intercept_apply(const struct intercept *i, struct error *err)
{
    struct strbuf s;
    int rc;

    strbuf_init(&s, RULES_MAX);
    /* One transaction: the table is there (perhaps empty), goes, and comes anew. */
    strbuf_add_c(&s, "table inet weft\ndelete table inet weft\n");
    rc = intercept_rules(i, &s, err);
    if (!rc)
        rc = run(s.p, err);
    strbuf_fini(&s);
    return rc;
}

int intercept_remove(struct error *err)
{
    return run("table inet weft\ndelete table inet weft\n", err);
}
