/* A TLS context that may name secrets, and is rebuilt when they change.
 *
 *   options + names of secrets -> tls_slot -> current tls_ctx  (NULL: not ready)
 *
 * Listeners' filter chains and clusters hold one slot each. Main makes and frees it; workers take
 * the current context for each new connection. A rotation swaps the context; connections that are
 * up keep theirs. If a new value cannot be built into a context the last good one stays in force
 * and slot_error tells why. Thread: main, except tls_slot_get (any). */
#ifndef WEFT_TLS_TLS_SLOT_H
#define WEFT_TLS_TLS_SLOT_H

#include "tls/tls_ctx.h"
#include "tls/tls_secret.h"

struct tls_slot;

/* A reference to a secret: SdsSecretConfig. */
struct tls_secret_name {
    sv name;
    sv config; /* packed ConfigSource, empty: static secret */
};

struct tls_slot_opts {
    struct tls_ctx_opts ctx; /* inline certificates and validation may be empty where secrets are */
    const struct tls_secret_name
        *certs; /* tls_certificate_sds_secret_configs, added to ctx.certs */
    size_t n_certs;
    /* validation_context_sds_secret_config, or the dynamic half of combined_validation_context:
     * then ctx.validation is its default half. Merged as protobuf does: values of the secret
     * replace, lists are appended. name empty: none. */
    struct tls_secret_name validation;
    struct tls_secret_name ticket_keys; /* name empty: none */
    struct tls_secret_store *store;     /* NULL: secrets must not be named */
    /* After every swap and failure (main thread). May be NULL. */
    void (*on_change)(struct tls_slot *s, void *arg);
    void *arg;
};

/* Copies all options. Fails when what is inline is wrong, or secrets are named without a store; a
 * secret that is not there yet is no failure, the slot is then not ready. */
struct tls_slot *tls_slot_new(const struct tls_slot_opts *o, struct error *err);
void tls_slot_free(struct tls_slot *s); /* NULL is fine */
bool tls_slot_ready(const struct tls_slot *s);
/* The current context with a reference for the caller, or NULL: refuse the connection and count
 * it (Envoy: ssl_context_update_by_sds, upstream_context_secrets_not_ready). Any thread. */
struct tls_ctx *tls_slot_get(struct tls_slot *s);
/* Number of contexts built so far: changes after each rotation. */
uint64_t tls_slot_generation(const struct tls_slot *s);
/* Why the last rebuild failed; empty when it did not. */
const char *tls_slot_error(const struct tls_slot *s);

#endif
