/* What `weft run` asks the sidecar beside it, weft-proxy or Envoy alike: plain HTTP on the loopback
 * of the workload's network namespace. Blocking, a second at most for each question. Thread: any.
 */
#ifndef WEFT_AGENT_SIDECAR_H
#define WEFT_AGENT_SIDECAR_H

#include <stdbool.h>

/* GET /healthz/ready on its health port says 200. */
bool sidecar_ready(void);
/* Its inbound listeners tell their peers to go elsewhere: Connection: close, GOAWAY. They go on
 * accepting and answering. False when it does not answer. */
bool sidecar_drain_inbound(void);
/* Requests of others that the application has not answered yet; -1 when it does not answer. */
long sidecar_inbound_requests(void);

#endif
