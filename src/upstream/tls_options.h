/* Envoy's TLS messages in the form that src/tls takes, for clusters and for listeners.
 *
 *   UpstreamTlsContext / DownstreamTlsContext  ->  struct tls_slot_opts  ->  tls_slot_new
 *   Secret (SDS, static_resources.secrets)     ->  tls_secret_store_set_*
 *
 * Files named by the configuration are read here, once, in the call. What is parsed but not built
 * is refused with its field path. Results borrow from the message and live in the arena: keep both
 * until tls_slot_new has copied them.
 * Thread: main. */
#ifndef WEFT_UPSTREAM_TLS_OPTIONS_H
#define WEFT_UPSTREAM_TLS_OPTIONS_H

#include "api/envoy.pb.h"
#include "base/arena.h"
#include "tls/tls_slot.h"

/* A file that is too large to be a certificate, key or list of either. */
#define TLS_OPTIONS_MAX_FILE (16u << 20)

/* `path` is put in front of field names in errors ("cluster 'x': transport_socket"). Fills
 * out->ctx, certs, validation and ticket_keys; store, on_change and arg are the caller's. sni is in
 * ctx.sni; auto_host_sni and auto_sni_san_validation are left to the caller. */
int tls_options_upstream(const struct envoy_UpstreamTlsContext *u, const char *path,
                         struct arena *a, struct tls_slot_opts *out, struct error *err) MUST_CHECK;
/* require_sni is left to the caller, who sees the server name first. */
int tls_options_downstream(const struct envoy_DownstreamTlsContext *d, const char *path,
                           struct arena *a, struct tls_slot_opts *out,
                           struct error *err) MUST_CHECK;

/* Puts a secret into the store under its name. `config`: the packed ConfigSource that it came
 * from, empty for a static one. Generic secrets are refused by name. */
int tls_options_secret(const struct envoy_Secret *s, sv config, int64_t now_s,
                       struct tls_secret_store *store, struct error *err) MUST_CHECK;

/* One name of a peer: typed matcher as plain data. Regular expressions live in the arena. */
int tls_options_san(const struct envoy_SubjectAltNameMatcher *m, const char *path, struct arena *a,
                    struct tls_san_match *out, struct error *err) MUST_CHECK;

/* True when making a context could fail on what the message itself holds (certificates, keys,
 * ciphers …), so that validation has to try; false when all of it comes by SDS. */
bool tls_options_has_inline(const struct tls_slot_opts *o);

#endif
