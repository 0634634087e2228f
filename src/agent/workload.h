/* `weft run`: any command becomes a workload of the mesh, unchanged.
 *
 *   join mesh network -> register -> own namespaces, rules, resolv.conf -> sidecar -> ready
 *     -> command
 *   ... a signal: not ready -> every proxy has heard it -> inbound drains, requests under way end
 *     -> the command is told -> it ends -> sidecar drains -> everything is gone
 *
 * A second signal does not wait. Requests under way have drain_s.
 *
 * The command keeps its user, environment, working directory, open files, terminal and exit code.
 * The sidecar is restarted when it dies. Nothing is left behind, also when this process is killed:
 * children die with it, and the kernel removes namespaces that nobody holds. Thread: main; the
 * process must be single-threaded. */
#ifndef WEFT_AGENT_WORKLOAD_H
#define WEFT_AGENT_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>
#include "agent/bootstrap.h"
#include "base/error.h"

struct workload_publish {
    uint16_t host_port, port;
};

struct workload_opts {
    const char *mesh, *name, *ns, *service_account;
    const struct bootstrap_label *labels;
    uint32_t n_labels;
    const uint16_t *ports; /* that the command listens on; ready when the first one accepts */
    uint32_t n_ports;
    const char *proxy; /* path of weft-proxy or envoy; NULL: weft-proxy beside this program */
    const char *agent; /* path of weft, which runs the agent beside an Envoy; NULL: this program */
    const char *proxy_log; /* file for the sidecar's output; NULL: standard error */
    const char *log_level; /* of the sidecar; NULL: warning */
    uint32_t concurrency;  /* workers of the sidecar, 0: 1 */
    uint32_t certificate_seconds;
    uint32_t
        drain_s; /* for requests under way, before the command is told to end and after it did */
    bool no_dns;
    const uint16_t *exclude_inbound_ports, *exclude_outbound_ports;
    uint32_t n_exclude_inbound_ports, n_exclude_outbound_ports;
    const sv *exclude_outbound_cidrs;
    uint32_t n_exclude_outbound_cidrs;
    /* Ports of this workload that are offered on the host's loopback: its own, its sidecar's admin.
     */
    const struct workload_publish *publish;
    uint32_t n_publish;
    char **command; /* NULL-terminated */
};

/* Runs to the command's end. Returns its exit code (128 + signal when it was killed), or 125 with
 * the sentence in err when it could not be started as a workload. */
int workload_run(const struct workload_opts *o, struct error *err);

#endif
