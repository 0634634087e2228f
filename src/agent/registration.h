/* A workload introduces itself to the control plane: one JSON line (weft.v1.WorkloadRegistration)
 * on control.sock of the mesh's runtime directory, one line back (weft.v1.WorkloadReply). The
 * connection is the lease: when it closes, the workload leaves the mesh. Blocking, with time-outs.
 * Thread: any, one caller. */
#ifndef WEFT_AGENT_REGISTRATION_H
#define WEFT_AGENT_REGISTRATION_H

#include "base/arena.h"
#include "base/error.h"

struct weft_WorkloadRegistration;
struct weft_WorkloadReply;

/* Connects and registers; waits up to wait_ms for a control plane that is still starting. *lease
 * gets the connection (close-on-exec), *reply lives in `a`. */
int registration_start(const char *dir, const struct weft_WorkloadRegistration *r, int wait_ms,
                       struct arena *a, const struct weft_WorkloadReply **reply, int *lease,
                       struct error *err) MUST_CHECK;
/* Says whether the workload takes requests from now on. Not ready is answered by a line on the
 * lease (weft.v1.WorkloadNotice), once every proxy has heard of it. */
int registration_update(int lease, bool ready);

#endif
