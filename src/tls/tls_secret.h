/* Named secrets: certificates with keys, and validation contexts, as SDS delivers them.
 *
 *   supplier (xDS, agent, bootstrap) -> tls_secret_store_set -> [ store ] -> notify -> tls_slot ...
 *                ^                                                 |
 *                +------------- source->want(name, config) --------+   first user appears
 *
 * A secret is known by its name and the (packed) SDS configuration that says where it comes from;
 * static secrets of a bootstrap have an empty configuration. Values are immutable and refcounted;
 * setting a name again makes a new version, which every user of the name is told about, once, on
 * the loop's next step of the same call. A name without a value is "not ready": whoever needs it
 * refuses to serve (attack case 34), it is never replaced by a default.
 * Keys are wiped when the last reference to a value goes.
 * Thread: main. */
#ifndef WEFT_TLS_TLS_SECRET_H
#define WEFT_TLS_TLS_SECRET_H

#include "base/error.h"
#include "base/list.h"
#include "tls/tls_ctx.h"

struct tls_secret_store;

enum tls_secret_kind { TLS_SECRET_CERT, TLS_SECRET_VALIDATION, TLS_SECRET_TICKET_KEYS };
const char *tls_secret_kind_name(enum tls_secret_kind k); /* "tls_certificate" … */

/* One version of a secret: deep copies of what was given. */
struct tls_secret {
    struct refcount ref;
    enum tls_secret_kind kind;
    sv name;
    uint64_t version;                 /* counts up in the store from 1 */
    struct tls_cert_opts cert;        /* TLS_SECRET_CERT */
    struct tls_validation validation; /* TLS_SECRET_VALIDATION */
    const sv *ticket_keys;            /* TLS_SECRET_TICKET_KEYS */
    size_t n_ticket_keys;
    int64_t updated_s;
    void *storage; /* private */
};
struct tls_secret *tls_secret_ref(struct tls_secret *s);
void tls_secret_unref(struct tls_secret *s);

/* Whoever fetches secrets. want() is called when the first user of (name, config) appears,
 * unwant() when the last is gone; want() may answer at once through tls_secret_store_set_...; a
 * supplier that stops following a secret in unwant() also removes its value, so that the next user
 * does not get a stale one. The views live during the call. Outlives the store. */
struct tls_secret_source {
    void (*want)(void *self, sv name, sv config);
    void (*unwant)(void *self, sv name, sv config);
    void *self;
    /* Refuses, with a sentence, what could never come; NULL: everything may come. */
    int (*check)(void *self, sv name, sv config, struct error *err);
};

/* source NULL: only secrets that are set can be had; others stay not ready. */
struct tls_secret_store *tls_secret_store_new(const struct tls_secret_source *source);
/* Users must be gone. */
void tls_secret_store_free(struct tls_secret_store *st);

/* Sets or replaces a value. Checked first (PEM parses, key matches): on error, a sentence, the old
 * value stays. Equal bytes: nothing happens. now_s: for updated_s and validity. */
int tls_secret_store_set_cert(struct tls_secret_store *st, sv name, sv config,
                              const struct tls_cert_opts *c, int64_t now_s,
                              struct error *err) MUST_CHECK;
int tls_secret_store_set_validation(struct tls_secret_store *st, sv name, sv config,
                                    const struct tls_validation *v, int64_t now_s,
                                    struct error *err) MUST_CHECK;
int tls_secret_store_set_ticket_keys(struct tls_secret_store *st, sv name, sv config,
                                     const sv *keys, size_t n, int64_t now_s,
                                     struct error *err) MUST_CHECK;
/* Forgets the value (the server removed it). Slots that were built from it keep serving. */
void tls_secret_store_remove(struct tls_secret_store *st, sv name, sv config);
/* Whether that secret is there or may still come: for whoever validates a configuration. */
int tls_secret_store_check(struct tls_secret_store *st, sv name, sv config,
                           struct error *err) MUST_CHECK;
/* The current value, borrowed, or NULL. */
struct tls_secret *tls_secret_store_get(struct tls_secret_store *st, sv name, sv config);
/* All names known, with value NULL for those still awaited (config_dump, /certs). */
void tls_secret_store_each(struct tls_secret_store *st,
                           void (*fn)(void *arg, sv name, sv config, struct tls_secret *s),
                           void *arg);

/* A user of a secret: embedded in the user's object. on_change runs at every new value; it may
 * subscribe and unsubscribe. */
struct tls_secret_user {
    struct list link; /* private */
    void *entry;      /* private */
    void (*on_change)(struct tls_secret_user *u, struct tls_secret *now);
};
/* Subscribes; if there is a value it is returned (borrowed) and on_change is not called for it. */
struct tls_secret *tls_secret_subscribe(struct tls_secret_store *st, sv name, sv config,
                                        struct tls_secret_user *u);
void tls_secret_unsubscribe(struct tls_secret_user *u); /* fine on a zeroed one */

#endif
