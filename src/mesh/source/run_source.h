/* Workloads of `weft run`: they register on a Unix socket, and are part of the mesh as long as
 * their connection lasts. The protocol is in proto/weft/v1/registration.proto: JSON lines.
 *
 * A control plane that was started again meets workloads that run already: `expected` names them,
 * and the source is complete when each has registered anew or EXPECT_MS are over. Until then what
 * it tells is only a part, and nobody should be told.
 *
 * A workload that is registered gets a new token whenever it asks, on a connection of its own: the
 * first one has expired when its sidecar is started again, or has lost its certificate.
 *
 * Only the user who runs the control plane, and root, may register (peer credentials).
 * Thread: main. */
#ifndef WEFT_MESH_SOURCE_RUN_SOURCE_H
#define WEFT_MESH_SOURCE_RUN_SOURCE_H

#include "mesh/model/model.h"
#include "net/loop.h"

struct run_source;

struct run_source_opts {
    struct loop *loop;
    const char *socket_path;
    struct model_store *store;
    void (*changed)(void *arg);
    /* A bootstrap token for the identity, allocated in `a`, and how long it is good for. */
    sv (*token)(void *arg, sv ns, sv service_account, struct arena *a);
    uint32_t token_s;
    sv (*roots)(void *arg); /* PEM of the mesh's roots, borrowed */
    /* Every proxy has answered what follows from the store as it is. NULL: nobody is told. */
    bool (*settled)(void *arg);
    /* Workloads that should come: names (copied). With any, complete runs once, later
     * than run_source_new. */
    const char *const *expected;
    uint32_t n_expected;
    void (*complete)(void *arg);
    void *arg;
    sv discovery_address; /* as workloads reach it; lives as long as the source */
    sv trust_domain, domain_suffix;
};

struct run_source *run_source_new(const struct run_source_opts *o, struct error *err);
void run_source_free(struct run_source *s);

#endif
