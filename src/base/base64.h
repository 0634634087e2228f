/* Base64 (RFC 4648), group by group: three bytes are four digits. What stands around the groups
 * (padding, other alphabets, line ends) is the caller's. Thread: any. */
#ifndef WEFT_BASE_BASE64_H
#define WEFT_BASE_BASE64_H

#include <stddef.h>

extern const char base64_standard[65]; /* section 4: ends with "+/" */
extern const char base64_url[65];      /* section 5: ends with "-_" */

/* The digits of up to three bytes (n > 3 counts as 3), filled up with '='. Returns how many are
 * digits: 2 to 4. */
size_t base64_group(const char *alphabet, const void *bytes, size_t n, char out[4]);
/* 0 to 63, or -1 for what is no digit of the standard alphabet. */
int base64_value(char c);

#endif
