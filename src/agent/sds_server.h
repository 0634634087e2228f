/* Secrets for a proxy in another process: Envoy's SDS (StreamSecrets, DeltaSecrets)
 * on a Unix socket that only this user can open. It answers two names, as Istio's agent does:
 *
 *   default   TlsCertificate: chain and key of the workload
 *   ROOTCA    CertificateValidationContext: the mesh's roots
 *
 * Other names are answered as not existing. Streams that came before there is a certificate wait.
 * Thread: main (owning loop). */
#ifndef WEFT_AGENT_SDS_SERVER_H
#define WEFT_AGENT_SDS_SERVER_H

#include "base/error.h"
#include "net/loop.h"

struct sds_server;

#define SDS_CERT_NAME  "default"
#define SDS_ROOTS_NAME "ROOTCA"

/* Listens on the path (an old socket there is replaced). NULL + err. */
struct sds_server *sds_server_new(struct loop *l, const char *path, struct error *err);
/* Ends the streams, removes the socket. NULL is fine. */
void sds_server_free(struct sds_server *s);
/* Puts a new certificate in force and pushes it to every stream. The views are copied. */
void sds_server_set(struct sds_server *s, sv chain_pem, sv key_pem, sv roots_pem);
uint32_t sds_server_streams(const struct sds_server *s);

#endif
