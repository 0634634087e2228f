/* Between h1_head.c (syntax) and h1_framing.c (meaning). */
#ifndef WEFT_H1_H1_PARSE_INT_H
#define WEFT_H1_H1_PARSE_INT_H

#include "h1/h1_parse.h"

/* Fills err and returns its code: E_LIMIT for 414 and 431, else E_PROTOCOL. */
int h1_fail(struct h1_error *err, const char *text, const char *reason, uint16_t status);

int h1_read_field(const char **p, const char *end, const struct h1_limits *l,
                  struct http_codec_stats *st, struct http_headers *h, struct http_header **kept,
                  struct h1_error *err);

struct h1_use {
    struct http_head *m;
    struct h1_head_info *info;
    bool request;
};
/* Looks at one field as it was read (the last entry of h): Host is taken out, what frames the
 * message is noted. arg is a struct h1_use. */
int h1_use_field(void *arg, struct http_headers *h, struct http_header *e, struct h1_error *err);
/* What can only be said when all fields are known. */
int h1_request_meaning(const struct h1_limits *l, struct http_head *m, struct h1_head_info *info,
                       struct h1_error *err);
int h1_response_meaning(struct http_head *m, struct h1_head_info *info, struct h1_error *err);

#endif
