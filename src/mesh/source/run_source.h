/* Workloads of `weft run`: they register on a Unix socket, and are part of the mesh as long as
 * their connection lasts. The protocol is in proto/weft/v1/registration.proto: JSON lines.
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
    /* A bootstrap token for the identity, allocated in `a`. */
    sv (*token)(void *arg, sv ns, sv service_account, struct arena *a);
    sv (*roots)(void *arg); /* PEM of the mesh's roots, borrowed */
    void *arg;
    sv discovery_address; /* as workloads reach it; lives as long as the source */
    sv trust_domain, domain_suffix;
};

struct run_source *run_source_new(const struct run_source_opts *o, struct error *err);
void run_source_free(struct run_source *s);
uint32_t run_source_count(const struct run_source *s);

#endif
