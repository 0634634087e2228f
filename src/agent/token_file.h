/* The token of a workload in a file of memory, which its agent reads anew each time it needs one.
 *
 * Asked for again at half of its life by the wall clock, so that there is a good one whenever the
 * sidecar is started again, or has a certificate that ended while it could not be renewed: the
 * control plane was away, the machine slept. A token must not reach a disk. Thread: any, one
 * caller. */
#ifndef WEFT_AGENT_TOKEN_FILE_H
#define WEFT_AGENT_TOKEN_FILE_H

#include <stdbool.h>
#include <time.h>
#include "base/error.h"

struct weft_WorkloadReply;

struct token_file {
    int fd;         /* -1: there is none yet */
    time_t renew_s; /* wall time; 0: never */
};

/* Writes the reply's token in place of the one before. */
int token_file_put(struct token_file *f, const struct weft_WorkloadReply *r, time_t now_s,
                   struct error *err) MUST_CHECK;
/* Is it time to ask for the next one? */
bool token_file_due(const struct token_file *f, time_t now_s);
/* It could not be had: later. */
void token_file_later(struct token_file *f, time_t now_s);
void token_file_fini(struct token_file *f);

#endif
