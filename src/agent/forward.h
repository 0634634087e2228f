/* A small TCP forwarder: what is accepted on one socket is connected elsewhere, and bytes go both
 * ways until both ends have closed. The two sockets may belong to different network namespaces:
 * that is its purpose. Half-closed connections stay half-closed; a side that does not read stops
 * the other at 256 KB; a target that cannot be reached ends the accepted connection with a reset.
 * Thread: the loop. */
#ifndef WEFT_AGENT_FORWARD_H
#define WEFT_AGENT_FORWARD_H

#include "base/error.h"
#include "net/conn.h"

struct forward;

struct forward_opts {
    struct loop *loop;
    int fd; /* listens, non-blocking; owned from now on, also on failure */
    /* Where a connection goes: false refuses it. NULL: always to `to`. */
    bool (*target)(void *arg, struct conn *accepted, struct addr *to);
    void *arg;
    struct addr to;
    uint32_t max_conns; /* 0: 1024; more are closed at once */
};
struct forward *forward_new(const struct forward_opts *o, struct error *err);
void forward_free(struct forward *f); /* ends its connections; NULL is fine */
uint32_t forward_conns(const struct forward *f);

#endif
