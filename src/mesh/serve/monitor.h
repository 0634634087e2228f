/* What the control plane tells about itself on 15014: plain HTTP, read only.
 *
 *   /ready  /metrics  /debug/syncz  /debug/configz  /debug/registryz  /debug/problems  /
 * Thread: main. */
#ifndef WEFT_MESH_SERVE_MONITOR_H
#define WEFT_MESH_SERVE_MONITOR_H

#include "mesh/serve/services.h"
#include "mesh/source/file_source.h"
#include "serve/serve_http.h"

struct monitor {
    const struct push *push;
    const struct ca *ca;
    const struct ca_service *certificates;
    const struct file_source *files; /* NULL: none */
    const bool *ready;               /* what /ready answers */
    struct serve_http http;
};

/* Fills m->http, for serve_server_add(server, serve_http_accept, &m->http). */
void monitor_init(struct monitor *m, const struct push *p, const struct ca *ca,
                  const struct ca_service *certificates, const struct file_source *files,
                  const bool *ready);

#endif
