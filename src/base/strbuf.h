/* Growing byte string on malloc, with a mandatory maximum, for text that is made piece by piece
 * (JSON, stats pages, log lines, packed protobuf). Always NUL-terminated once anything was added.
 * Past the maximum further bytes are dropped and `overflow` is set: look before you use it.
 * Thread: any, one owner. */
#ifndef WEFT_BASE_STRBUF_H
#define WEFT_BASE_STRBUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"
#include "base/sv.h"

struct strbuf {
    char *p;
    size_t n, cap, max;
    bool overflow;
};

void strbuf_init(struct strbuf *s, size_t max);
void strbuf_fini(struct strbuf *s);  /* frees; s is as after init */
void strbuf_reset(struct strbuf *s); /* n = 0, memory kept */
void strbuf_add(struct strbuf *s, const void *p, size_t n);
void strbuf_add_sv(struct strbuf *s, sv v);
void strbuf_add_c(struct strbuf *s, const char *cstr);
void strbuf_add_ch(struct strbuf *s, char c);
/* The fewest digits, 15 to 17, that read back as the same number; "nan", "inf". */
void strbuf_add_double(struct strbuf *s, double d);
void strbuf_addf(struct strbuf *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
void strbuf_addv(struct strbuf *s, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);
/* A JSON string with quotes; bytes that are not UTF-8 become U+FFFD, controls \u00xx. */
void strbuf_add_json(struct strbuf *s, sv v);
/* Cuts back to n bytes (n <= s->n). */
void strbuf_cut(struct strbuf *s, size_t n);
static inline sv strbuf_sv(const struct strbuf *s)
{
    return sv_make(s->p, s->n);
}
/* Gives the malloc'd bytes to the caller (NUL-terminated, never NULL); s is empty afterwards. */
char *strbuf_steal(struct strbuf *s, size_t *n);

#endif
