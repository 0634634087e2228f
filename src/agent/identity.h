/* A workload's identity: a key that never leaves this process's memory, and a certificate for it
 * that is renewed before it ends.
 *
 *   new key -> CSR -> CreateCertificate (token, or the present certificate) -> checked -> in force
 *      ^                                                                         |
 *      +------ at half of its life, +-5 % so that a fleet does not come at once <-+
 *
 * Failures are retried after 0.5 s, doubling to 60 s (5 s while there is no certificate, or none
 * that is still good), each +-20 %; what is in force stays in force. The answer comes from a
 * service whose certificate led to known roots, and is checked before it is believed: the leaf is
 * for our key and our name and leads to the roots that came with it.
 *
 * A certificate that has ended is never shown as a proof: then the token has to do, as at the
 * start, and whoever started the agent keeps a fresh one in token_file. So a workload that lost its
 * control plane for longer than its certificate lives is itself again soon after it is back. Wall
 * time may jump, and timers stand still while a machine sleeps: the date is looked at again at
 * least every 5 s. Thread: main (owning loop). */
#ifndef WEFT_AGENT_IDENTITY_H
#define WEFT_AGENT_IDENTITY_H

#include "base/error.h"
#include "net/loop.h"
#include "tls/tls_info.h"
#include "tls/tls_key.h"

struct identity;

struct identity_opts {
    struct loop *loop;
    sv ca_address; /* "IP:PORT" of the certificate service */
    sv ca_name;    /* DNS name in its certificate; empty: istiod.istio-system.svc */
    sv roots_pem;  /* that the service's certificate must lead to */
    sv token;      /* bootstrap token; may be empty when the service needs none */
    sv token_file; /* a file with it instead, read before each attempt; empty: none */
    sv trust_domain, ns, service_account;
    int64_t ttl_s; /* asked for; 0: the service's default */
    enum tls_key_kind key_kind;
    uint32_t mark; /* SO_MARK of its sockets */
    /* A new certificate is in force, or the roots changed. Main loop. */
    void (*on_change)(void *arg, struct identity *id);
    /* An attempt failed: why, and when the next one is. May be NULL. */
    void (*on_failure)(void *arg, const char *why, uint64_t retry_ms);
    void *arg;
};

/* Copies everything; the first attempt is made on the next turn. NULL + err when the options are
 * wrong. */
struct identity *identity_new(const struct identity_opts *o, struct error *err);
/* NULL is fine. Not from inside its callbacks. */
void identity_free(struct identity *id);

bool identity_ready(const struct identity *id);   /* there is a certificate */
bool identity_expired(const struct identity *id); /* there was one, and it has ended */
sv identity_uri(const struct identity *id);       /* spiffe://... */
/* What is in force; empty and NULL before it is ready. Valid until the next on_change. */
sv identity_chain_pem(const struct identity *id); /* leaf first */
sv identity_roots_pem(const struct identity *id);
struct tls_key *identity_key(const struct identity *id);              /* borrowed */
const struct tls_cert_info *identity_cert(const struct identity *id); /* the leaf */

struct identity_stats {
    uint64_t attempts, failures, rotations;
    int64_t not_after_s;  /* of the certificate in force, 0: none */
    int64_t next_s;       /* wall time of the next renewal or attempt */
    char last_error[256]; /* empty after a success */
};
const struct identity_stats *identity_stats(const struct identity *id);
/* Renews now (tests, SIGHUP). */
void identity_renew(struct identity *id);

#endif
