/* TLS as a conn (net/conn.h) stacked on another conn.
 *
 *   owner <- CONNECTED READ WRITE ERROR -- [ tls conn ] <- events -- [ lower conn ] -- socket
 *                                            in:  received ciphertext not yet decrypted
 *                                            out: ciphertext not yet accepted by the lower conn
 *
 * - The tls conn owns the lower conn: closing it closes both. Addresses and original_dst are
 * copied.
 * - The handshake starts when the lower conn is connected and runs on its events; CONN_EV_CONNECTED
 *   comes when it is done, CONN_EV_ERROR when it failed. A time limit is the owner's: it closes.
 * - Records are decrypted straight into the reader's chain. Writes gather slices into records of at
 *   most 16 KB; small slices share one; all records of a conn_write leave in one writev.
 * - After a second without traffic nothing is kept but OpenSSL's session state.
 * - End of data: close_notify is E_EOF. A transport that ends without it is E_RESET (truncated).
 * - conn_close sends close_notify and goes on flushing what was accepted, for at most 5 s, without
 *   the owner. conn_abort drops everything.
 * - A peer that makes this end answer (KeyUpdate, alerts) without reading is cut off at 256 KB.
 *
 * conn->error_text after a failure is Envoy's transport failure reason, so that dashboards and
 * scripts find what they look for:
 *   TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert
 *   failed: X509_verify_cert: certificate verification error at depth 0: certificate has
 *   expired:TLS_error_end
 * tls_conn_sentence() says the same for a person, naming the peer's certificate.
 * Thread: worker (owning loop). */
#ifndef WEFT_TLS_TLS_CONN_H
#define WEFT_TLS_TLS_CONN_H

#include "net/conn.h"
#include "tls/tls_ctx.h"
#include "tls/tls_info.h"

/* What one client connection says differently from its context. Zero-initialise; the views are
 * read during the call. */
struct tls_client_params {
    bool has_sni; /* true: `sni` replaces the context's; empty: none is sent (auto_sni,
                     auto_host_sni) */
    sv sni;
    const sv *alpn; /* replaces the context's list when n_alpn > 0 */
    size_t n_alpn;
    /* Instead of the context's matchers: the peer must have this DNS name or IP address
     * (auto_sni_san_validation). Empty: the context's matchers. */
    sv expect_name;
};

/* Both take over `lower` and a reference to ctx of their own. Events come later, never from inside
 * the call. `p` may be NULL. Never NULL. */
struct conn *tls_conn_client(struct conn *lower, struct tls_ctx *ctx,
                             const struct tls_client_params *p, conn_fn fn, void *user);
struct conn *tls_conn_server(struct conn *lower, struct tls_ctx *ctx, conn_fn fn, void *user);

/* Is this conn one of ours? */
bool tls_conn_is(const struct conn *c);
/* The conn under it; for conn_fd() and socket options. */
struct conn *tls_conn_lower(const struct conn *c);
/* Why the handshake failed, for counters; TLS_FAIL_NONE while it has not. */
enum tls_fail tls_conn_fail(const struct conn *c);
/* A sentence for a person, e.g. "the peer's certificate (CN=..., spiffe://...) expired on ...";
 * empty while there is no failure. Lives as long as the conn. */
sv tls_conn_sentence(const struct conn *c);
/* Bytes of ciphertext waiting for room below. */
size_t tls_conn_queued(const struct conn *c);

#endif
