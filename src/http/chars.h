/* Byte classes of HTTP, shared by the codecs, the URI code and the validators, so that all of them
 * agree on what is allowed (attack case 16). Constant tables. Thread: any. */
#ifndef WEFT_HTTP_CHARS_H
#define WEFT_HTTP_CHARS_H

#include <stddef.h>
#include <stdint.h>

/* The lower-case form of a token byte (RFC 9110 5.6.2), 0 when it is none. */
extern const uint8_t http_token_lower[256];
/* 1 for bytes that no field value may have: controls except HTAB, DEL. */
extern const uint8_t http_value_bad[256];
/* 1 for bytes that may stand in a request target. */
extern const uint8_t http_target_ok[256];
/* The value of a hex digit plus one; 0 for every other byte. */
extern const uint8_t http_hex_plus1[256];

/* How many bytes from p are allowed in a field value: stops at CR, LF, NUL and other controls. */
size_t http_value_span(const char *p, size_t n);

#endif
