#include "agent/dns_msg.h"

#include <string.h>

#define HEADER    12
#define LABEL_MAX 63
#define WIRE_MAX  255 /* bytes of a name with its length bytes and the root */
#define CLASS_IN  1
#define OPT_BYTES 11
#define OUR_UDP   1232 /* what we say we take: fits any path unfragmented */
#define FLAG_QR   0x8000
#define FLAG_AA   0x0400
#define FLAG_TC   0x0200
#define FLAG_RD   0x0100
#define FLAG_RA   0x0080
#define FLAG_CD   0x0010

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

/* ---- names ---- */

struct name_out {
    char *text; /* NULL: only structure counts */
    size_t n;
};

static bool add_label(struct name_out *o, const uint8_t *p, size_t len)
{
    if (!o->text)
        return true;
    if (o->n)
        o->text[o->n++] = '.';
    for (size_t i = 0; i < len; i++) {
        uint8_t c = p[i];
        if (c <= 0x20 || c >= 0x7f || c == '.')
            return false;
        o->text[o->n++] = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
    }
    return true;
}

/* Reads the name at `at`; returns the offset behind it, 0 when it is malformed. Every pointer must
 * lead to before the labels that it follows: the offsets fall, so it ends. */
static size_t read_name(const uint8_t *msg, size_t n, size_t at, bool pointers, struct name_out *o)
{
    size_t end = 0, limit = at, wire = 1;
    while (at < n) {
        uint8_t len = msg[at];
        if (len == 0)
            return end ? end : at + 1;
        if ((len & 0xc0) == 0xc0) {
            if (!pointers || at + 2 > n)
                return 0;
            size_t to = (size_t)(len & 0x3f) << 8 | msg[at + 1];
            if (!end)
                end = at + 2;
            if (to >= limit || to < HEADER)
                return 0;
            at = limit = to;
            continue;
        }
        wire += len + 1u;
        if (len > LABEL_MAX || at + 1 + len > n || wire > WIRE_MAX)
            return 0;
        if (!add_label(o, msg + at + 1, len))
            return 0;
        at += 1u + len;
    }
    return 0;
}

int dns_name_normal(sv text, char out[DNS_NAME_MAX], size_t *n)
{
    size_t label = 0;
    if (text.n && text.p[text.n - 1] == '.')
        text.n--;
    if (text.n == 0 || text.n + 2 > WIRE_MAX)
        return E_INVALID;
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (c == '.') {
            if (label == 0)
                return E_INVALID;
            label = 0;
        } else if (c <= 0x20 || c >= 0x7f || ++label > LABEL_MAX) {
            return E_INVALID;
        }
        out[i] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
    }
    if (label == 0)
        return E_INVALID;
    out[text.n] = '\0';
    *n = text.n;
    return 0;
}

/* ---- records ---- */

struct record {
    uint16_t type, class;
    uint32_t ttl;
    bool root;
};

/* Offset behind the record at `at`, 0 when it is malformed. */
static size_t read_record(const uint8_t *msg, size_t n, size_t at, struct record *r)
{
    struct name_out nowhere = {0};
    r->root = at < n && msg[at] == 0;
    at = read_name(msg, n, at, true, &nowhere);
    if (!at || n - at < 10)
        return 0;
    r->type = get16(msg + at);
    r->class = get16(msg + at + 2);
    r->ttl = (uint32_t)get16(msg + at + 4) << 16 | get16(msg + at + 6);
    size_t len = get16(msg + at + 8);
    at += 10;
    return n - at < len ? 0 : at + len;
}

static int read_opt(struct dns_query *q, const struct record *r)
{
    if (!r->root || q->has_edns)
        return E_PROTOCOL;
    q->has_edns = true;
    q->udp_size = r->class < 512 ? 512 : r->class;
    q->edns_version = (uint8_t)(r->ttl >> 16);
    return 0;
}

/* ---- questions ---- */

static int read_question(struct dns_query *q, const uint8_t *msg, size_t n, size_t *at)
{
    struct name_out name = {q->name, 0};
    size_t end = read_name(msg, n, HEADER, false, &name);
    if (!end || n - end < 4)
        return E_PROTOCOL;
    q->name[name.n] = '\0';
    q->name_len = name.n;
    q->type = get16(msg + end);
    q->qclass = get16(msg + end + 2);
    q->question_len = end + 4 - HEADER;
    memcpy(q->question, msg + HEADER, q->question_len);
    *at = end + 4;
    return 0;
}

int dns_query_parse(struct dns_query *q, const void *bytes, size_t n)
{
    const uint8_t *msg = bytes;
    memset(q, 0, sizeof *q);
    q->udp_size = 512;
    if (n < HEADER || n > DNS_TCP_MAX || msg[2] & 0x80)
        return E_INVALID;
    uint16_t flags = get16(msg + 2);
    q->id = get16(msg);
    q->recursion_desired = flags & FLAG_RD;
    q->checking_disabled = flags & FLAG_CD;
    if (flags & 0x7800)
        return E_UNSUPPORTED;
    if (flags & FLAG_TC || get16(msg + 4) != 1 || get16(msg + 6) || get16(msg + 8))
        return E_PROTOCOL;
    size_t at;
    int code = read_question(q, msg, n, &at);
    for (uint16_t left = get16(msg + 10); !code && left; left--) {
        struct record r;
        at = read_record(msg, n, at, &r);
        if (!at)
            return E_PROTOCOL;
        if (r.type == DNS_OPT)
            code = read_opt(q, &r);
    }
    return code ? code : at == n ? 0 : E_PROTOCOL;
}

/* ---- responses of others ---- */

int dns_response_check(const void *bytes, size_t n, uint16_t id, const struct dns_query *q)
{
    const uint8_t *msg = bytes;
    struct dns_query asked;
    size_t at;
    if (n < HEADER || n > DNS_TCP_MAX || get16(msg) != id || !(msg[2] & 0x80) || msg[2] & 0x78)
        return E_INVALID;
    if (get16(msg + 4) != 1 || read_question(&asked, msg, n, &at))
        return E_INVALID;
    if (asked.type != q->type || asked.qclass != q->qclass || strcmp(asked.name, q->name) != 0)
        return E_INVALID;
    uint32_t left = (uint32_t)get16(msg + 6) + get16(msg + 8) + get16(msg + 10);
    for (; left; left--) {
        struct record r;
        at = read_record(msg, n, at, &r);
        if (!at)
            return E_INVALID;
    }
    return at == n ? 0 : E_INVALID;
}

bool dns_truncated(const void *msg)
{
    return ((const uint8_t *)msg)[2] & (FLAG_TC >> 8);
}

enum dns_rcode dns_rcode_of(const void *msg)
{
    return ((const uint8_t *)msg)[3] & 0x0f;
}

void dns_set_id(void *msg, uint16_t id)
{
    put16(msg, id);
}

/* ---- writing ---- */

void dns_write_begin(struct dns_writer *w, const struct dns_query *q, void *p, size_t max,
                     enum dns_rcode rcode, bool authoritative)
{
    *w = (struct dns_writer){.p = p, .max = max, .edns = q->has_edns};
    memset(w->p, 0, HEADER);
    put16(w->p, q->id);
    put16(w->p + 2, FLAG_QR | FLAG_RA | (authoritative ? FLAG_AA : 0) |
                        (q->recursion_desired ? FLAG_RD : 0) |
                        (q->checking_disabled ? FLAG_CD : 0) | ((unsigned)rcode & 0x0f));
    put16(w->p + 4, q->question_len ? 1 : 0);
    memcpy(w->p + HEADER, q->question, q->question_len);
    w->n = HEADER + q->question_len;
    if (w->edns)
        w->max -= OPT_BYTES;
    w->rcode_high = (uint8_t)((unsigned)rcode >> 4);
}

/* The owner's name and ten bytes of fixed fields, the last two for rdlength. False: no room. */
static bool put_name(struct dns_writer *w, const char *name)
{
    if (w->overflow)
        return false;
    if (!name) {
        if (w->max - w->n < 2)
            return !(w->overflow = true);
        put16(w->p + w->n, 0xc000 | HEADER);
        w->n += 2;
        return true;
    }
    size_t len = strlen(name);
    if (w->max - w->n < len + 2)
        return !(w->overflow = true);
    for (const char *label = name; *label;) {
        size_t k = strcspn(label, ".");
        w->p[w->n++] = (uint8_t)k;
        memcpy(w->p + w->n, label, k);
        w->n += k;
        label += k;
        if (*label)
            label++;
    }
    w->p[w->n++] = 0;
    return true;
}

static bool put_fixed(struct dns_writer *w, uint16_t type, uint32_t ttl_s)
{
    if (w->max - w->n < 10)
        return !(w->overflow = true);
    put16(w->p + w->n, type);
    put16(w->p + w->n + 2, CLASS_IN);
    put16(w->p + w->n + 4, ttl_s >> 16);
    put16(w->p + w->n + 6, ttl_s);
    w->n += 10;
    return true;
}

void dns_write_cname(struct dns_writer *w, const char *name, const char *target, uint32_t ttl_s)
{
    size_t begin = w->n;
    if (put_name(w, name) && put_fixed(w, DNS_CNAME, ttl_s)) {
        size_t data = w->n;
        if (put_name(w, target)) {
            put16(w->p + data - 2, (uint32_t)(w->n - data));
            w->answers++;
            return;
        }
    }
    w->n = begin;
}

void dns_write_addr(struct dns_writer *w, const char *name, const struct addr *a, uint32_t ttl_s)
{
    size_t begin = w->n;
    bool v4 = a->sa.sa_family == AF_INET;
    size_t len = v4 ? 4 : 16;
    if (put_name(w, name) && put_fixed(w, v4 ? DNS_A : DNS_AAAA, ttl_s)) {
        if (w->max - w->n >= len) {
            put16(w->p + w->n - 2, (uint32_t)len);
            memcpy(w->p + w->n,
                   v4 ? (const void *)&a->in4.sin_addr : (const void *)&a->in6.sin6_addr, len);
            w->n += len;
            w->answers++;
            return;
        }
        w->overflow = true;
    }
    w->n = begin;
}

static void put_opt(struct dns_writer *w, unsigned udp, uint8_t rcode_high)
{
    uint8_t *p = w->p + w->n;
    memset(p, 0, OPT_BYTES);
    put16(p + 1, DNS_OPT);
    put16(p + 3, udp);
    p[5] = rcode_high;
    w->n += OPT_BYTES;
    put16(w->p + 10, 1);
}

size_t dns_write_end(struct dns_writer *w)
{
    put16(w->p + 6, w->answers);
    if (w->overflow)
        w->p[2] |= FLAG_TC >> 8;
    if (w->edns)
        put_opt(w, OUR_UDP, w->rcode_high);
    return w->n;
}

size_t dns_error(const struct dns_query *q, enum dns_rcode rcode, void *p, size_t max)
{
    struct dns_writer w;
    dns_write_begin(&w, q, p, max, rcode, false);
    return dns_write_end(&w);
}

size_t dns_query_write(void *p, size_t max, uint16_t id, sv name, uint16_t type, bool edns)
{
    char text[DNS_NAME_MAX];
    size_t n;
    struct dns_writer w = {.p = p, .max = max, .n = HEADER};
    if (max < 512 || dns_name_normal(name, text, &n))
        return 0;
    memset(p, 0, HEADER);
    put16(w.p, id);
    put16(w.p + 2, FLAG_RD);
    put16(w.p + 4, 1);
    put_name(&w, text);
    put16(w.p + w.n, type);
    put16(w.p + w.n + 2, CLASS_IN);
    w.n += 4;
    if (edns)
        put_opt(&w, OUR_UDP, 0);
    return w.n;
}
