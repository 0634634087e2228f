/* The network of a mesh on one machine, and how workloads get into it.
 *
 *        holder process (keeps the namespaces, hands out addresses)
 *        +--- mesh network namespace --------------------------------+
 *        |   weft0 (bridge) 10.97.0.1/16                              |
 *        |     |            |             |                           |
 *        |   veth         veth          veth                          |
 *        +-----|------------|-------------|---------------------------+
 *            eth0         eth0          eth0      one namespace a workload: application + sidecar
 *         10.97.0.2    10.97.0.3     10.97.0.4
 *
 * As root the holder has a network namespace of its own; as an ordinary user it also has a user
 * namespace in which the user is itself (its id is mapped to itself), so that neither root nor a
 * setuid program is needed and files belong to whom they belong. Whoever uses the network keeps a
 * connection to the holder's socket in the runtime directory; when the last one is gone the holder
 * ends, and with it everything it made: the kernel removes links, rules and namespaces that nobody
 * holds.
 *
 *   runtime directory   /run/weft/MESH, or $XDG_RUNTIME_DIR/weft/MESH, or /tmp/weft-UID/MESH
 *     net.sock            the holder
 *     control.sock        the control plane: registration (registration.h)
 *     workloads/NAME      pid of the process that holds the workload's namespaces
 *
 * Thread: main, before any other thread runs (setns and unshare). */
#ifndef WEFT_AGENT_MESH_NET_H
#define WEFT_AGENT_MESH_NET_H

#include <sys/types.h>
#include "base/error.h"
#include "net/addr.h"

struct mesh_net; /* one user's connection to the holder */

#define MESH_NET_PATH_MAX 100 /* Unix socket paths are short */

/* The runtime directory of a mesh, made when it is missing (0700). E_DENIED, E_LIMIT, E_IO. */
int mesh_net_dir(const char *mesh, char out[MESH_NET_PATH_MAX], struct error *err) MUST_CHECK;

/* Connects to the holder; starts one when there is none. NULL and a sentence on failure. */
struct mesh_net *mesh_net_join(const char *mesh, struct error *err);
/* Only connects: E_NOT_FOUND when the mesh is not running. */
struct mesh_net *mesh_net_find(const char *mesh, struct error *err);
/* Closes the connection: addresses it took are free again. */
void mesh_net_leave(struct mesh_net *m);
int mesh_net_fd(const struct mesh_net *m); /* to be kept over fork, closed by exec */

/* Address of the mesh's side of the bridge, where the control plane listens. */
const struct addr *mesh_net_gateway(const struct mesh_net *m);
/* A free address for a workload, kept until this connection ends. */
int mesh_net_address(struct mesh_net *m, struct addr *out, struct error *err) MUST_CHECK;
/* A listening TCP socket inside the mesh network, for a process that stays outside. */
int mesh_net_listen(struct mesh_net *m, const struct addr *a, int *fd,
                    struct error *err) MUST_CHECK;

/* Moves the calling process into a new network and mount namespace that hangs on the bridge with
 * the address: lo and eth0 are up, the default route leads to the gateway. */
int mesh_net_enter_new(struct mesh_net *m, const struct addr *address,
                       struct error *err) MUST_CHECK;
/* Moves the calling process into the namespaces of a running workload. */
int mesh_net_enter_workload(const char *mesh, const char *workload, struct error *err) MUST_CHECK;

/* Notes that this process holds the workload's namespaces / no longer does. E_EXISTS when a living
 * process has that name. */
int mesh_net_claim_name(const char *mesh, const char *workload, struct error *err) MUST_CHECK;
void mesh_net_release_name(const char *mesh, const char *workload);
/* Calls fn for each running workload. */
void mesh_net_each(const char *mesh, void (*fn)(void *arg, const char *workload, pid_t pid),
                   void *arg);

#endif
