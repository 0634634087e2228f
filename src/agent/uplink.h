/* The way out of a mesh network: a process that stays in the host's namespaces and carries TCP and
 * DNS for workloads, as root and as an ordinary user alike, changing nothing on the host.
 *
 *   workload -> eth0 -> bridge -> rules (mesh namespace): TCP to elsewhere -> 10.97.0.1:15099
 *                                                         UDP 53 to elsewhere -> 10.97.0.1:53
 *   sockets made in the mesh namespace, given to the uplink:
 *       15099  accepted connections are made again from the host to where they were going
 *       53     questions go to the host's own nameservers (also a stub on its loopback)
 *
 * Never reached through it: the host's loopback, link-local (and so cloud metadata), multicast
 * (attack case 37). UDP other than DNS, and IPv6, do not leave the mesh.
 * Thread: a process of its own. */
#ifndef WEFT_AGENT_UPLINK_H
#define WEFT_AGENT_UPLINK_H

#include <sys/types.h>
#include "base/error.h"

#define UPLINK_PORT 15099

/* Forks the process; it waits on *control for its sockets and ends when that closes, or with its
 * parent. Called in the host's namespaces. Returns its pid, or a negative code. */
pid_t uplink_start(int *control);
/* In the mesh's network namespace, once its addresses are up: makes the sockets and rules, and
 * hands the sockets over. Without it the mesh works, but nothing outside is reached. */
int uplink_connect(int control, struct error *err) MUST_CHECK;

#endif
