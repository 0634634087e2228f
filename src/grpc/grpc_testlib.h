/* Calls in memory: a serve_channel whose streams are those of an HTTP/2 client codec, wired to a
 * server codec whose streams go to a grpc_server. No sockets. Thread: one. */
#ifndef WEFT_GRPC_GRPC_TESTLIB_H
#define WEFT_GRPC_GRPC_TESTLIB_H

#include "grpc/grpc.h"

struct wire {
    struct serve_channel ch; /* first */
    struct loop *loop;
    struct http_codec *client, *server;
    struct buf to_client, to_server;
    struct serve_peer peer;
    serve_accept_fn accept;
    void *accept_user;
    struct list waiting;  /* opens that are held */
    struct list accepted; /* streams without head */
    bool hold, fail;      /* opens wait / are refused */
    size_t piece;         /* bytes carried at once */
};

void wire_init(struct wire *w, const struct http_limits *client, const struct http_limits *server,
               serve_accept_fn accept, void *user);
void wire_fini(struct wire *w);
/* Carries bytes and turns the loop until all is quiet. */
void wire_run(struct wire *w);
/* One step of it; false when nothing moved. */
bool wire_step(struct wire *w);
/* Lets the held opens go. */
void wire_release(struct wire *w);
/* The connection breaks. */
void wire_cut(struct wire *w);

#endif
