/* What the files of src/net share about a loop. Nobody else includes this. */
#ifndef WEFT_NET_LOOP_PRIVATE_H
#define WEFT_NET_LOOP_PRIVATE_H

#include "net/loop.h"

/* State that another file keeps per loop and frees with it; NULL until it sets one. */
struct loop_part {
    void (*free)(struct loop_part *p);
};
struct loop_part **loop_files(struct loop *l);
struct loop_part **loop_signals(struct loop *l);

/* loop_stop was called and loop_run has not ended since. */
bool loop_stopped(const struct loop *l);

#endif
