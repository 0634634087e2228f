/* Listener filters: they look at a connection before a filter chain is chosen for it.
 *
 *   accept --> [F1] --> [F2] --> filter chain match
 *
 * They find out what the match needs: the original destination, server name, application
 * protocols, transport protocol, the address a PROXY protocol header claims. They run in order;
 * one that needs bytes says so and is called again when there are more. Bytes are looked at, not
 * taken, unless a filter says how many of them are its own (PROXY protocol).
 * A filter keeps what it must remember in a->state, and frees it in fini.
 * Thread: the connection's worker. */
#ifndef WEFT_FILTERS_LISTENER_H
#define WEFT_FILTERS_LISTENER_H

#include <stdbool.h>
#include <stdint.h>
#include "base/arena.h"
#include "base/error.h"
#include "base/sv.h"
#include "net/conn.h"

struct filter_ctx;
struct filter_worker;
struct listener_accept;

#define LISTENER_PEEK_MAX 65536 /* no filter sees more than this */
#define LISTENER_MAX_ALPN 32

enum listener_status {
    LISTENER_CONTINUE, /* this filter is done */
    LISTENER_MORE,     /* call again with more than a->seen bytes */
    LISTENER_CLOSE,    /* end the connection: a->why says why */
};

enum listener_hello {
    LISTENER_HELLO_MORE,
    LISTENER_HELLO_NO,
    LISTENER_HELLO_YES,
    LISTENER_HELLO_BAD
};

struct listener_accept_ops {
    /* Feeds the ClientHello parser of src/tls with all bytes seen so far; on YES the server name
     * and protocols are in a->sni and a->alpn. */
    enum listener_hello (*hello)(struct listener_accept *a, sv bytes, uint32_t max_bytes);
};

/* A connection that is being looked at. */
struct listener_accept {
    const struct listener_accept_ops *ops;
    struct conn *conn; /* addresses may be changed: conn->original_dst, conn->remote, conn->local */
    struct filter_worker *worker;
    struct arena *arena; /* until a chain is chosen */
    void *state;         /* of the running filter; NULL when it starts */
    /* What was found. */
    sv sni; /* lower case */
    sv alpn[LISTENER_MAX_ALPN];
    uint32_t n_alpn;
    sv transport;      /* "tls", or empty: not detected = "raw_buffer" */
    bool restored_dst; /* conn->original_dst is the destination the client meant */
    uint32_t consume;  /* set by on_bytes with CONTINUE: so many bytes belong to the filter */
    const char *why;   /* static; with CLOSE */
};

/* One kind of listener filter, as it stands in the registry. */
struct listener_filter_type {
    const char *name;
    const char *config_type; /* NULL: none */
    int (*parse)(const struct filter_ctx *x, sv packed, const void **config, struct error *err);
    /* Without bytes; NULL: goes to on_bytes at once. */
    enum listener_status (*on_accept)(const void *config, struct listener_accept *a);
    /* `bytes`: everything received so far, at most LISTENER_PEEK_MAX; `eof`: no more will come.
     * NULL: the filter needs none. */
    enum listener_status (*on_bytes)(const void *config, struct listener_accept *a, sv bytes,
                                     bool eof);
    void (*fini)(const void *config, struct listener_accept *a); /* a->state; may be NULL */
};

struct listener_filter {
    const struct listener_filter_type *type;
    const void *config;
    sv name;
};

#endif
