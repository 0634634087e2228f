/* For tests of this and other rooms: certificates made on the spot, and pairs of TLS connections
 * over a socketpair on one loop. Everything aborts the test when it cannot be made. */
#ifndef WEFT_TLS_TLS_TESTLIB_H
#define WEFT_TLS_TLS_TESTLIB_H

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/socket.h>
#include <unistd.h>
#include "net/conn.h"
#include "net/loop.h"
#include "tls/tls_cert.h"
#include "tls/tls_conn.h"
#include "tls/tls_ctx.h"

#define TT_DAY 86400ll

/* A root, or an intermediate when parent is given. */
struct tt_ca {
    struct tls_key *key;
    struct strbuf pem;
    struct tls_signer *signer;
};

static inline void tt_check(bool ok, const struct error *e, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "%s: %s\n", what, e ? e->msg : "");
    abort();
}

static inline void tt_ca_init(struct tt_ca *ca, struct tt_ca *parent, const char *name)
{
    struct error e = {0};
    ca->key = tls_key_generate(TLS_KEY_EC_P256, &e);
    strbuf_init(&ca->pem, 1 << 20);
    int code = parent ? tls_cert_make_intermediate(parent->signer, ca->key, SV("test"), sv_of(name),
                                                   time(NULL), 365 * TT_DAY, &ca->pem, &e)
                      : tls_cert_make_root(ca->key, SV("test"), sv_of(name), time(NULL),
                                           3650 * TT_DAY, &ca->pem, &e);
    tt_check(code == 0, &e, "CA");
    ca->signer = tls_signer_new(strbuf_sv(&ca->pem), ca->key, &e);
    tt_check(ca->signer, &e, "signer");
}

static inline void tt_ca_fini(struct tt_ca *ca)
{
    tls_signer_free(ca->signer);
    tls_key_unref(ca->key);
    strbuf_fini(&ca->pem);
}

struct tt_cert {
    struct tls_key *key;
    struct strbuf chain;
    struct tls_cert_opts opts;
};

/* name: "spiffe://..." makes a URI name, digits an IP address, else a DNS name. */
static inline struct tls_san tt_san(const char *name)
{
    bool ip = name[0] >= '0' && name[0] <= '9';
    return (struct tls_san){strstr(name, "://") ? TLS_SAN_URI
                            : ip                ? TLS_SAN_IP
                                                : TLS_SAN_DNS,
                            sv_of(name)};
}

/* With its intermediate's PEM behind it when that is no root. */
static inline void tt_cert_init_leaf(struct tt_cert *c, struct tt_ca *ca, struct tls_leaf leaf,
                                     enum tls_key_kind kind)
{
    struct error e = {0};
    c->key = tls_key_generate(kind, &e);
    strbuf_init(&c->chain, 1 << 20);
    int code = tls_cert_sign_key(ca->signer, c->key, &leaf, &c->chain, NULL, &e);
    tt_check(code == 0, &e, "leaf");
    const struct tls_cert_info *i = tls_signer_info(ca->signer);
    if (!sv_eq(i->subject, i->issuer))
        strbuf_add_sv(&c->chain, strbuf_sv(&ca->pem));
    c->opts = (struct tls_cert_opts){.chain_pem = strbuf_sv(&c->chain), .key = c->key};
}

static inline void tt_cert_init(struct tt_cert *c, struct tt_ca *ca, const char *name)
{
    struct tls_san san = tt_san(name);
    tt_cert_init_leaf(
        c, ca, (struct tls_leaf){.sans = &san, .n_sans = 1, .now_s = time(NULL), .ttl_s = TT_DAY},
        TLS_KEY_EC_P256);
}

static inline void tt_cert_fini(struct tt_cert *c)
{
    tls_key_unref(c->key);
    strbuf_fini(&c->chain);
}

/* ---- connections ---- */

struct tt_side {
    struct conn *c;
    struct buf in;
    unsigned seen;   /* events so far */
    unsigned writes; /* CONN_EV_WRITE so far */
    bool eof, paused;
    int error; /* of reading, or of the conn */
};

static inline void tt_read(struct tt_side *s)
{
    while (!s->paused && !s->eof && !s->error) {
        ssize_t n = conn_read(s->c, &s->in, 65536);
        if (n == E_EOF)
            s->eof = true;
        else if (n < 0 && n != E_AGAIN)
            s->error = (int)n;
        if (n <= 0)
            return;
        if (!s->c->readable)
            return;
    }
}

static inline void tt_event(struct conn *c, unsigned events, void *user)
{
    struct tt_side *s = user;
    s->seen |= events;
    s->writes += (events & CONN_EV_WRITE) != 0;
    if (events & CONN_EV_ERROR)
        s->error = c->error;
    else if (events & CONN_EV_READ)
        tt_read(s);
}

struct tt_pair {
    struct loop *loop;
    struct tt_side client, server;
};

static inline void tt_sockets(struct loop *l, struct conn *out[2])
{
    int fd[2];
    tt_check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) == 0, NULL,
             "socketpair");
    struct addr a;
    addr_ip(&a, SV("127.0.0.1"), 1);
    for (int i = 0; i < 2; i++)
        out[i] = conn_from_fd(l, fd[i], &a, &a, NULL, NULL);
}

static inline void tt_turns(struct loop *l, int n)
{
    while (n-- > 0)
        loop_turn(l, 2000000);
}

/* Turns until both sides are connected or failed, or for `max` turns. */
static inline bool tt_settle(struct tt_pair *p, int max)
{
    const unsigned done = CONN_EV_CONNECTED | CONN_EV_ERROR;
    while (max-- > 0 && !((p->client.seen & done) && (p->server.seen & done)))
        loop_turn(p->loop, 5000000);
    tt_turns(p->loop, 5); /* tickets and late alerts */
    return p->client.seen & CONN_EV_CONNECTED && p->server.seen & CONN_EV_CONNECTED &&
           !p->client.error && !p->server.error;
}

static inline bool tt_pair_init(struct tt_pair *p, struct loop *l, struct tls_ctx *client,
                                struct tls_ctx *server, const struct tls_client_params *params)
{
    struct conn *c[2];
    memset(p, 0, sizeof *p);
    p->loop = l;
    tt_sockets(l, c);
    p->client.c = tls_conn_client(c[0], client, params, tt_event, &p->client);
    p->server.c = tls_conn_server(c[1], server, tt_event, &p->server);
    return tt_settle(p, 200);
}

static inline void tt_side_fini(struct tt_side *s)
{
    if (s->c)
        conn_close(s->c);
    s->c = NULL;
    buf_reset(&s->in);
}

static inline void tt_pair_fini(struct tt_pair *p)
{
    tt_side_fini(&p->client);
    tt_side_fini(&p->server);
    tt_turns(p->loop, 3);
}

#endif
