/* An outbound cluster while it is made: each file applies the part of the policy that it knows.
 * Thread: main. */
#ifndef WEFT_MESH_TRANSLATE_CLUSTER_H
#define WEFT_MESH_TRANSLATE_CLUSTER_H

#include "mesh/translate/internal.h"

struct outbound {
    struct build *b;
    const struct model_service *svc;
    const struct model_port *port;
    sv subset; /* empty: the whole service */
    struct istio_TrafficPolicy policy;
    struct envoy_Cluster *c;
    struct envoy_upstreams_HttpProtocolOptions *http; /* NULL: the port is not HTTP */
    /* HTTP/2 is spoken to the endpoints, and so is offered by ALPN: where the client's own protocol
     * is spoken, an offer could be taken that is not meant. */
    bool h2;
    bool auto_sni, auto_san; /* the name in the request's host is sent, and verified */
};

/* cluster_pool.c: limits, time-outs, HTTP versions, outlier detection. */
void cluster_apply_pool(struct outbound *o);
void cluster_apply_outliers(struct outbound *o);
/* The protocol options of a port; also of inbound clusters, where policy is empty. */
void cluster_init_http(struct outbound *o);
void cluster_finish_http(struct outbound *o); /* packs them into the cluster */

/* cluster_lb.c */
void cluster_apply_balancer(struct outbound *o);

/* cluster_tls.c: transport sockets, the PROXY protocol around them. */
void cluster_apply_tls(struct outbound *o);
const struct envoy_TransportSocket *cluster_mesh_tls(struct outbound *o,
                                                     const struct istio_ClientTLSSettings *tls);

#endif
