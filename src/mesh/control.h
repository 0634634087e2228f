/* The control plane as a whole: sources, push, certificate authority, and the ports they are served
 * on.
 *
 *   15010  ADS, plaintext, loopback only          15012  ADS and certificates, mTLS or token
 *   15014  /metrics /ready /debug/{syncz,configz,registryz,problems}
 *   control.sock  registration of `weft run`
 *
 * Thread: main, on the loop given. */
#ifndef WEFT_MESH_CONTROL_H
#define WEFT_MESH_CONTROL_H

#include "base/error.h"
#include "mesh/translate/translate.h"
#include "net/loop.h"

struct control;

struct control_opts {
    struct loop *loop;
    const char *config_dir;
    sv namespace;                   /* of objects that name none; empty: default */
    const char *state_dir;          /* the CA's root is kept here (0700) */
    const char *plain_address;      /* "127.0.0.1:15010"; NULL or empty: none */
    const char *tls_address;        /* "*:15012"; NULL or empty: none */
    const char *monitoring_address; /* "127.0.0.1:15014"; NULL or empty: none */
    int tls_fd;                     /* a listening socket besides (in the mesh network), or -1 */
    const char *run_socket;         /* registration; NULL: none */
    /* Workloads that run already, and will register anew with this control plane: discovery waits
     * for them (run_source.h). Copied. */
    const char *const *expected;
    uint32_t n_expected;
    sv discovery_address;           /* how workloads of weft run reach 15012 */
    sv trust_domain, domain_suffix; /* cluster.local */
    int64_t certificate_ttl_s;      /* 0: 24 h */
    uint32_t token_ttl_s;           /* of the tokens that weft run gets; 0: 1 h */
    struct translate_options translate;
};

struct control *control_new(const struct control_opts *o, struct error *err);
/* Ends every stream; proxies reconnect elsewhere or later. */
void control_free(struct control *c);

#endif
