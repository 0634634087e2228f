/* For tests of the session: frames written as text, a user that logs what it is told, and the
 * frames a codec wrote as text again.
 *
 * Script: frames separated by ';'. Words are separated by spaces:
 *   preface                               the client's 24 bytes
 *   settings [N=V ...] [ack]              SETTINGS
 *   headers ID [es] [-eh] [pad=N] [dep=N] FIELD=VALUE ...     literal fields; get/post stand for
 * the usual pseudo fields; _ in a value is a space cont ID [eh] FIELD=VALUE ... CONTINUATION data
 * ID [es] [pad=N] [N]              DATA of N bytes 'x' rst ID CODE | wu ID N | ping [ack] [TEXT] |
 * goaway ID CODE | priority ID DEP raw TYPE FLAGS ID HEX                 any frame hex HEX any
 * bytes N*FRAME                               the frame N times; $ in it counts up by 2 from 1
 * Thread: one. */
#ifndef WEFT_H2_H2_TESTLIB_H
#define WEFT_H2_H2_TESTLIB_H

#include "base/strbuf.h"
#include "h2/h2_session.h"

void script_bytes(struct buf *out, const char *script);

/* What a user does with what it gets. */
enum app {
    APP_LOG,         /* only logs */
    APP_ANSWER,      /* server: answers 200 "ok" when the request ended */
    APP_HEAD_ANSWER, /* server: answers whole at the head */
    APP_ECHO,        /* server: 200 at the head, the body back */
    APP_REFUSE,      /* on_stream false */
    APP_RESET,       /* resets at the head */
    APP_RESET_DATA,  /* resets at the first DATA */
};

struct side; /* a codec and its user */
struct side_stream {
    struct list link;
    struct side *side;
    struct http_stream *s;
    uint64_t got; /* body bytes */
    bool head, ended, reset;
    int closes, resets;
    unsigned status; /* client: of the final response */
};

struct side {
    struct http_codec *c;
    struct http_codec_stats stats;
    struct strbuf log; /* events and written frames, one a line */
    struct list streams;
    enum app app;
    bool quiet;
    int error; /* first one of feed */
    uint64_t now;
    struct buf in;
    struct hpack_decoder dec; /* of what the codec writes */
    struct buf frames;        /* written, not yet decoded */
    unsigned goaways, idles, outputs, max_streams;
    uint64_t got; /* body bytes of all streams */
};

extern const struct http_stream_events side_stream_events;

void side_init(struct side *t, bool server, const struct http_limits *l, enum app app);
void side_fini(struct side *t);
/* Feeds bytes, all at once or `step` at a time, as if nothing the codec writes were read. */
void side_feed(struct side *t, struct buf *bytes, size_t step);
void side_feed_script(struct side *t, const char *script, size_t step);
/* How a client begins. */
#define CLIENT_HELLO "preface;settings;settings ack;"
/* Takes what the codec wrote and logs its frames. */
void side_flush(struct side *t);
/* Opens a stream and sends a request: method, path, body bytes (negative: not ended). */
struct side_stream *side_request(struct side *t, const char *method, const char *path, long body);
/* One exchange of what both wrote, at most n bytes each way. False when there was nothing. */
bool sides_exchange(struct side *a, struct side *b, size_t n);

#endif
