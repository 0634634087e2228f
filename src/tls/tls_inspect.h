/* Looks at the first bytes of a connection: is it TLS, and what does its ClientHello ask for?
 *
 *   record:    type(1)=22 version(2)=3.x length(2) fragment     RFC 8446 5.1, RFC 5246 6.2.1
 *   handshake: type(1)=1 length(3) ClientHello                   may span many records
 *   hello:     version(2) random(32) session_id<0..32> ciphers<2..> compression<1..> extensions
 *
 * Strict: every length must fit its container exactly, no extension occurs twice, a server name is
 * one host_name of 1..255 bytes without NUL, controls or spaces (RFC 6066 3), ALPN names are not
 * empty (RFC 7301). Bounded: a hello of more than max_bytes handshake bytes, an empty record or one
 * of more than 16 KB is refused; memory is one buffer of the hello's size, grown as bytes come.
 * Bytes that do not begin like a TLS record are NOT_TLS at the first byte that says so; bytes that
 * begin like a ClientHello and break the rules later are BROKEN, never NOT_TLS: they must not fall
 * into a plaintext chain (attack case 35).
 * GREASE and unknown extensions are passed over. Thread: owner. */
#ifndef WEFT_TLS_TLS_INSPECT_H
#define WEFT_TLS_TLS_INSPECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/sv.h"

enum tls_verdict {
    TLS_NEED_MORE,
    TLS_NOT_TLS,
    TLS_IS_TLS,
    TLS_BROKEN, /* `why` says what */
};

#define TLS_INSPECT_MAX      16384 /* default for max_bytes; Envoy's limit */
#define TLS_INSPECT_MAX_ALPN 32    /* more protocols than these are cut off */

struct tls_inspect {
    enum tls_verdict verdict;
    sv sni; /* lower case; empty: none. Views live until fini */
    sv alpns[TLS_INSPECT_MAX_ALPN];
    uint32_t n_alpns;
    uint16_t max_version; /* highest offered, 0x0304 = TLS 1.3 */
    const char *why;      /* static; for BROKEN */
    size_t seen;          /* bytes fed so far */
    /* private */
    uint8_t *buf;
    uint32_t n, cap, max, want;
    uint16_t record_left;
    uint8_t head[5], head_n;
};

void tls_inspect_init(struct tls_inspect *t, uint32_t max_bytes /* 0: TLS_INSPECT_MAX */);
/* Feeds the bytes that follow those fed before (a listener filter that peeks passes what lies
 * beyond t->seen). Once there is a verdict other than NEED_MORE further bytes change nothing. */
enum tls_verdict tls_inspect_feed(struct tls_inspect *t, const void *p, size_t n);
void tls_inspect_fini(struct tls_inspect *t);

#endif
