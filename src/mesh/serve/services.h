/* The gRPC services of the control plane. Each registers itself with a server and lives until
 * freed. Thread: main. */
#ifndef WEFT_MESH_SERVE_SERVICES_H
#define WEFT_MESH_SERVE_SERVICES_H

#include "grpc/grpc.h"
#include "mesh/ca/ca.h"
#include "mesh/push/push.h"

/* Aggregated discovery, delta and state of the world. A caller on a TLS connection must have proved
 * who it is (certificate or token); one on the plaintext port, which is loopback only, is believed.
 */
struct ads_service;
struct ads_service *ads_service_new(struct grpc_server *g, struct push *p, const struct ca *ca,
                                    struct loop *l);
void ads_service_free(struct ads_service *s); /* after the server's calls have ended */

/* istio.v1.auth.IstioCertificateService: certificates for callers that show a bootstrap token or a
 * certificate that is still valid. */
struct ca_service;
struct ca_service *ca_service_new(struct grpc_server *g, const struct ca *ca, struct loop *l);
void ca_service_free(struct ca_service *s);
uint64_t ca_service_signed(const struct ca_service *s);
uint64_t ca_service_refused(const struct ca_service *s);

/* The caller of a call: token of "authorization: Bearer …", certificate of the connection. */
struct ca_caller service_caller(const struct grpc_call *c);

#endif
