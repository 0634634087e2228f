#include "h1/h1_parse.h"
#include "http/chars.h"

/*   size BWS [ ; ext ] CRLF data CRLF   ...   0 [ ; ext ] CRLF trailers CRLF
 *
 * The size line is read byte by byte, data is moved as slices. Blanks behind a size are no part of
 * the grammar, but servers that write sizes of a fixed width pad with them, and everybody reads the
 * same number. */
enum { SIZE, BWS, EXT, LINE_LF, DATA, DATA_CR, DATA_LF, LAST };

/* Data shorter than this is copied together instead of sliced: a body in one-byte chunks must not
 * cost a slice a byte (attack case 10). */
#define COPY_MAX 256
/* A peer may spend this much framing more than 16 bytes and twice its data a chunk. */
#define OVERHEAD_MAX 16384

void h1_chunk_init(struct h1_chunk *k)
{
    *k = (struct h1_chunk){.state = SIZE};
}

static enum h1_chunk_result fail(struct h1_error *err, const char *reason)
{
    *err = (struct h1_error){E_PROTOCOL, "http1.codec_error", reason, 400};
    return H1_CHUNK_ERROR;
}

static const char *size_byte(struct h1_chunk *k, uint8_t c)
{
    if (http_hex_plus1[c]) {
        /* INT64_MAX is more than any body; past it sums could overflow. */
        if (k->left >> 59)
            return "chunk size is too large";
        k->left = k->left << 4 | (http_hex_plus1[c] - 1u);
        k->digits = true;
        return NULL;
    }
    if (!k->digits)
        return "chunk size is not a hexadecimal number";
    if (c == '\r')
        k->state = LINE_LF;
    else if (c == ';')
        k->state = EXT;
    else if (c == ' ' || c == '\t')
        k->state = BWS;
    else
        return "chunk size is not a hexadecimal number";
    return NULL;
}

/* One byte of a size line; NULL or what is wrong. */
static const char *line_byte(struct h1_chunk *k, uint8_t c)
{
    switch (k->state) {
    case SIZE:
        return size_byte(k, c);
    case BWS:
        if (c == ';')
            k->state = EXT;
        else if (c == '\r')
            k->state = LINE_LF;
        else if (c != ' ' && c != '\t')
            return "space behind a chunk size";
        return NULL;
    case EXT:
        if (c == '\r')
            k->state = LINE_LF;
        else if (http_value_bad[c])
            return "control character in a chunk extension";
        return NULL;
    default:
        return c == '\n' ? NULL : "chunk size line does not end with CRLF";
    }
}

/* After the LF of a size line. */
static const char *line_done(struct h1_chunk *k)
{
    uint64_t spent = k->overhead + k->line,
             earned = 16 + 2 * (k->left < 1u << 20 ? k->left : 1u << 20);
    k->overhead = spent > earned ? (uint32_t)(spent - earned) : 0;
    k->line = 0;
    k->digits = false;
    k->state = k->left ? DATA : LAST;
    return k->overhead > OVERHEAD_MAX ? "too much chunk framing for the data it carries" : NULL;
}

static enum h1_chunk_result read_line(struct h1_chunk *k, struct buf *in, uint32_t max_line,
                                      struct h1_error *err)
{
    sv v = buf_front(in);
    size_t i = 0;
    while (i < v.n) {
        const char *bad = line_byte(k, (uint8_t)v.p[i]);
        bool end = k->state == LINE_LF && v.p[i] == '\n';
        i++;
        if (!bad && ++k->line > max_line)
            bad = "chunk size line is too long";
        if (!bad && end)
            bad = line_done(k);
        if (bad)
            return fail(err, bad);
        if (end)
            break;
    }
    buf_drain(in, i);
    return H1_CHUNK_MORE;
}

static void take_data(struct h1_chunk *k, struct buf *in, struct buf *out)
{
    sv v = buf_front(in);
    size_t n = k->left < in->len ? (size_t)k->left : in->len;
    if (n <= COPY_MAX && n <= v.n) {
        buf_append(out, v.p, n);
        buf_drain(in, n);
    } else {
        buf_move_n(out, in, n);
    }
    k->left -= n;
    if (k->left == 0)
        k->state = DATA_CR;
}

enum h1_chunk_result h1_chunk_feed(struct h1_chunk *k, struct buf *in, struct buf *out,
                                   uint32_t max_line, struct h1_error *err)
{
    while (in->len) {
        if (k->state == DATA) {
            take_data(k, in, out);
        } else if (k->state == DATA_CR || k->state == DATA_LF) {
            char want = k->state == DATA_CR ? '\r' : '\n';
            if (buf_front(in).p[0] != want)
                return fail(err, "chunk data is not followed by CRLF");
            k->state = k->state == DATA_CR ? DATA_LF : SIZE;
            buf_drain(in, 1);
        } else {
            if (read_line(k, in, max_line, err) == H1_CHUNK_ERROR)
                return H1_CHUNK_ERROR;
            if (k->state == LAST)
                return H1_CHUNK_END;
        }
    }
    return H1_CHUNK_MORE;
}
