/* Between the files that make messages of nodes: pb_from_node.c (messages), pb_read_scalar.c
 * (scalars, errors with a place and a guess), pb_read_wkt.c (well-known types). Nobody else
 * includes this. All functions return 0 or E_INVALID with the sentence in r->err. Thread: any. */
#ifndef WEFT_API_PB_READER_H
#define WEFT_API_PB_READER_H

#include "api/node.h"
#include "api/pb_internal.h"

struct pb_reader {
    struct arena *a;
    const struct pb_opts *o;
    struct error *err;
    const struct node *any; /* the mapping whose "@type" an Any has read already */
};

/* "file:line: path: sentence" at a node; or at a key of a mapping, which `last` names. */
int pb_reader_fail(struct pb_reader *r, const struct node *n, const struct pb_frame *fr,
                   const char *fmt, ...) PRINTF_LIKE(4, 5);
int pb_reader_fail_at(struct pb_reader *r, const char *file, uint32_t line,
                      const struct pb_frame *fr, sv last, const char *fmt, ...) PRINTF_LIKE(6, 7);
/* E_INVALID "must be WHAT, is ..." unless n is of that kind. */
int pb_reader_need(struct pb_reader *r, const struct node *n, enum node_kind kind, const char *what,
                   const struct pb_frame *fr);
/* pb_opts.lenient */
static inline bool pb_reader_lenient(const struct pb_reader *r)
{
    return r->o && r->o->lenient;
}
/* How much of a scalar a message shows, for "%.*s". */
int pb_reader_shown(sv v);
/* Key i of n is no field of m: an error with a guess, or in tolerant mode a report and 0. */
int pb_reader_unknown_field(struct pb_reader *r, const struct pb_message *m, const struct node *n,
                            uint32_t i, const struct pb_frame *fr);
int pb_reader_unknown_type(struct pb_reader *r, sv type, const struct node *n,
                           const struct pb_frame *fr);

int pb_read_message(struct pb_reader *r, const struct pb_message *m, const struct node *n,
                    void *msg, const struct pb_frame *fr);
/* The same by the fields alone, also where the JSON form is another. */
int pb_read_fields(struct pb_reader *r, const struct pb_message *m, const struct node *n, void *msg,
                   const struct pb_frame *fr);
/* A message whose JSON form is its own (m->well_known). */
int pb_read_well_known(struct pb_reader *r, const struct pb_message *m, const struct node *n,
                       void *msg, const struct pb_frame *fr);
/* One value of f, whatever its kind, to `at`. */
int pb_read_value(struct pb_reader *r, const struct pb_field *f, const struct node *n, void *at,
                  const struct pb_frame *fr);
/* The same for every kind but PB_MESSAGE. */
int pb_read_scalar(struct pb_reader *r, const struct pb_field *f, const struct node *n, void *at,
                   const struct pb_frame *fr);
int pb_read_float(struct pb_reader *r, const struct pb_field *f, const struct node *n, double *out,
                  const struct pb_frame *fr);
int pb_read_bool(struct pb_reader *r, const struct node *n, bool *out, const struct pb_frame *fr);
/* Whether null says something other than "absent" for a field. */
bool pb_takes_null(const struct pb_field *f);

#endif
