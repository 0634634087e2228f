/* The Date of responses (RFC 9110 5.6.7, IMF-fixdate), made once a second. Thread: any; the cache
 * is the calling thread's. */
#ifndef WEFT_HTTP_DATE_H
#define WEFT_HTTP_DATE_H

#include <stdint.h>
#include "base/sv.h"

#define HTTP_DATE_LEN 29
/* "Sun, 06 Nov 1994 08:49:37 GMT" for seconds since 1970. out gets HTTP_DATE_LEN bytes and a NUL.
 */
void http_date_format(uint64_t wall_s, char out[HTTP_DATE_LEN + 1]);
/* The same, from the thread's cache: the view changes at the next call with another second, so
 * whoever keeps it longer than the call copies it (the head encoders do). */
sv http_date(uint64_t wall_ns);

#endif
