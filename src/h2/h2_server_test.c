/* The server's reaction to frames: a table of scripts and what must be logged, each fed whole and
 * byte by byte. See h2_testlib.h for the script. The numbers are those of the attack cases. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "h2/h2_testlib.h"

#define HELLO "preface;settings;settings ack;"

struct reaction {
    const char *name, *script;
    enum app app;
    const char *wants[4]; /* lines that must come, in this order */
    const char *never;    /* text that must not come */
};

static const struct reaction table[] = {
    /* ---- what is fine ---- */
    {"get",
     HELLO "headers 1 es get",
     APP_ANSWER,
     {"1 head GET http://a.test/ end", "1 close", "> HEADERS 1\n    :status: 200\n    server: test",
      "> DATA 1 2 end"},
     "GOAWAY"},
    {"post",
     HELLO "headers 1 post;data 1 5;data 1 es 5",
     APP_ANSWER,
     {"1 body 10 end", "> DATA 1 2 end"},
     "RST"},
    {"padding and priority",
     HELLO "headers 1 pad=7 dep=3 post;data 1 pad=200 5;data 1 pad=0 es 0",
     APP_ANSWER,
     {"1 body 5 end"},
     "GOAWAY"},
    {"continuation",
     HELLO "headers 1 es -eh get;cont 1 a=b;cont 1 eh c=d",
     APP_LOG,
     {"1 head GET", "  a: b", "  c: d"},
     NULL},
    {"request trailers",
     HELLO "headers 1 post;data 1 3;headers 1 es x=y",
     APP_ANSWER,
     {"1 trailers", "  x: y", "1 body 3 end"},
     "RST"},
    {"content-length that fits",
     HELLO "headers 1 post content-length=5;data 1 2;data 1 es 3",
     APP_ANSWER,
     {"  content-length: 5", "1 body 5 end"},
     "RST"},
    {"ping", HELLO "ping", APP_LOG, {"> PING ack"}, NULL},
    {"unknown frame and flags",
     HELLO "raw 0x42 0xff 0 0102;raw 0x42 0 77;raw 6 0xfe 0 0102030405060708",
     APP_LOG,
     {"> PING ack"},
     "GOAWAY"},
    {"unknown setting",
     "preface;settings 99=1 0x1234=5;settings ack",
     APP_LOG,
     {"> SETTINGS ack"},
     "GOAWAY"},
    {"priority on idle stream",
     HELLO "priority 5 3;headers 7 es get",
     APP_ANSWER,
     {"> DATA 7 2 end"},
     "GOAWAY"},
    {"priority, window update, rst on closed",
     HELLO "headers 1 es get;priority 1 0;wu 1 5;rst 1 8;headers 3 es get",
     APP_HEAD_ANSWER,
     {"3 close"},
     "GOAWAY"},
    {"cookie crumbs",
     HELLO "headers 1 es get cookie=a=1 x=y cookie=b=2 cookie=c=3",
     APP_LOG,
     {"  cookie: a=1; b=2; c=3", "  x: y"},
     NULL},
    {"outer whitespace is trimmed",
     HELLO "headers 1 es get x=__y__",
     APP_LOG,
     {"  x: y\n"},
     NULL}, /* 17 */
    {"host stands for authority",
     HELLO "headers 1 es :method=GET :scheme=http :path=/ host=b.test",
     APP_LOG,
     {"1 head GET http://b.test/"},
     "  host"},
    {"host equal to authority",
     HELLO "headers 1 es get host=A.test",
     APP_LOG,
     {"1 head GET http://a.test/"},
     NULL},
    {"scheme in capitals",
     HELLO "headers 1 es :method=GET :scheme=HTtPs :path=/ :authority=b",
     APP_LOG,
     {"1 head GET https://b/"},
     NULL}, /* 28 */
    {"options *",
     HELLO "headers 1 es :method=OPTIONS :scheme=http :path=* :authority=b",
     APP_LOG,
     {"1 head OPTIONS"},
     NULL},
    {"connect",
     HELLO "headers 1 :method=CONNECT :authority=b:80;data 1 4",
     APP_LOG,
     {"1 head CONNECT"},
     "RST"},
    {"te trailers", HELLO "headers 1 es get te=trailers", APP_LOG, {"  te: trailers"}, NULL},
    {"reset by the peer",
     HELLO "headers 1 post;rst 1 8",
     APP_LOG,
     {"1 reset remote_cancel http2.remote_reset", "1 close"},
     NULL},
    {"refused by the user",
     HELLO "headers 1 es get",
     APP_REFUSE,
     {"> RST 1 REFUSED_STREAM"},
     "close"},
    {"reset by the user",
     HELLO "headers 1 post;data 1 5;headers 1 es x=y;headers 3 es get",
     APP_RESET,
     {"1 close", "3 head GET", "> RST 1 INTERNAL_ERROR"},
     "GOAWAY"},
    {"reset by the user in DATA",
     HELLO "headers 1 post;data 1 500;data 1 es 5;headers 3 es get",
     APP_RESET_DATA,
     {"1 close", "3 head GET", "> RST 1 INTERNAL_ERROR"},
     "STREAM_CLOSED"},

    /* ---- connection: preface, frames, ids ---- */
    {"not HTTP/2",
     "hex 474554202f20485454502f312e310d0a",
     APP_LOG,
     {"> SETTINGS", "> GOAWAY 0 PROTOCOL_ERROR"},
     NULL},
    {"settings must be first", "preface;ping", APP_LOG, {"> GOAWAY 0 PROTOCOL_ERROR"}, NULL},
    {"an ack is not settings",
     "preface;settings ack",
     APP_LOG,
     {"> GOAWAY 0 PROTOCOL_ERROR"},
     NULL},
    {"second ack", HELLO "settings ack", APP_LOG, {"> GOAWAY 0 PROTOCOL_ERROR"}, NULL},
    {"frame too large",
     HELLO "headers 1 post;raw 0 0 1;hex 004001000000000001",
     APP_LOG,
     {"> GOAWAY 1 FRAME_SIZE_ERROR"},
     NULL},
    {"even id", HELLO "headers 2 es get", APP_LOG, {"> GOAWAY 0 PROTOCOL_ERROR"}, "head"},
    {"headers on stream 0", HELLO "headers 0 es get", APP_LOG, {"> GOAWAY 0 PROTOCOL_ERROR"}, NULL},
    {"data on stream 0", HELLO "data 0 5", APP_LOG, {"> GOAWAY 0 PROTOCOL_ERROR"}, NULL},
    {"data on idle", HELLO "data 1 5", APP_LOG, {"> GOAWAY 0 PROTOCOL_ERROR"}, NULL},
    {"rst on idle", HELLO "rst 1 0", APP_LOG, {"> GOAWAY 0 PROTOCOL_ERROR"}, NULL},
    {"rst on stream 0", HELLO "rst 0 0", APP_LOG, {"> GOAWAY 0 PROTOCOL_ERROR"}, NULL},
    {"wu on idle", HELLO "wu 1 1", APP_LOG, {"> GOAWAY 0 PROTOCOL_ERROR"}, NULL},
    {"priority on stream 0", HELLO "priority 0 1", APP_LOG, {"> GOAWAY 0 PROTOCOL_ERROR"}, NULL},
    {"ping on a stream",
     HELLO "raw 6 0 1 0102030405060708",
     APP_LOG,
     {"> GOAWAY 0 PROTOCOL_ERROR"},
     NULL},
    {"ping of 7", HELLO "raw 6 0 0 01020304050607", APP_LOG, {"> GOAWAY 0 FRAME_SIZE_ERROR"}, NULL},
    {"rst of 3",
     HELLO "headers 1 post;raw 3 0 1 010203",
     APP_LOG,
     {"> GOAWAY 1 FRAME_SIZE_ERROR"},
     NULL},
    {"wu of 5", HELLO "raw 8 0 0 0102030405", APP_LOG, {"> GOAWAY 0 FRAME_SIZE_ERROR"}, NULL},
    {"goaway of 7",
     HELLO "raw 7 0 0 01020304050607",
     APP_LOG,
     {"> GOAWAY 0 FRAME_SIZE_ERROR"},
     NULL},
    {"goaway on a stream",
     HELLO "raw 7 0 1 0102030405060708",
     APP_LOG,
     {"> GOAWAY 0 PROTOCOL_ERROR"},
     NULL},
    {"goaway with debug data",
     HELLO "raw 7 0 0 00000000000000006869;headers 1 es get",
     APP_ANSWER,
     {"1 head GET"},
     "GOAWAY"},
    {"push promise", HELLO "raw 5 4 1 00000002", APP_LOG, {"> GOAWAY 0 PROTOCOL_ERROR"}, NULL},
    {"skipped id",
     HELLO "headers 5 es get;headers 3 es get",
     APP_HEAD_ANSWER,
     {"> GOAWAY 5 PROTOCOL_ERROR"},
     "3 head"},
    {"id used again",
     HELLO "headers 1 es get;headers 1 es get",
     APP_HEAD_ANSWER,
     {"> GOAWAY 1 STREAM_CLOSED"},
     NULL},

    /* ---- settings ---- */
    {"settings on a stream", "preface;raw 4 0 1", APP_LOG, {"> GOAWAY 0 PROTOCOL_ERROR"}, NULL},
    {"settings of 5",
     "preface;raw 4 0 0 0102030405",
     APP_LOG,
     {"> GOAWAY 0 FRAME_SIZE_ERROR"},
     NULL},
    {"ack with payload",
     HELLO "raw 4 1 0 000100000001",
     APP_LOG,
     {"> GOAWAY 0 FRAME_SIZE_ERROR"},
     NULL},
    {"enable push 2", "preface;settings 2=2", APP_LOG, {"> GOAWAY 0 PROTOCOL_ERROR"}, NULL},
    {"window over 2^31-1",
     "preface;settings 4=0x80000000",
     APP_LOG,
     {"> GOAWAY 0 FLOW_CONTROL_ERROR"},
     NULL},
    {"max frame too small",
     "preface;settings 5=16383",
     APP_LOG,
     {"> GOAWAY 0 PROTOCOL_ERROR"},
     NULL},
    {"max frame too large",
     "preface;settings 5=16777216",
     APP_LOG,
     {"> GOAWAY 0 PROTOCOL_ERROR"},
     NULL},
    {"connect protocol 2", "preface;settings 8=2", APP_LOG, {"> GOAWAY 0 PROTOCOL_ERROR"}, NULL},
    {"connect protocol taken back",
     "preface;settings 8=1;settings 8=0",
     APP_LOG,
     {"> GOAWAY 0 PROTOCOL_ERROR"},
     NULL},
    {"setting overflows a window",
     HELLO "headers 1 post;wu 1 0x7fff0000;settings 4=0x20000",
     APP_LOG,
     {"> GOAWAY 1 FLOW_CONTROL_ERROR"},
     NULL},

    /* ---- windows ---- */
    {"wu 0 on the connection", HELLO "wu 0 0", APP_LOG, {"> GOAWAY 0 PROTOCOL_ERROR"}, NULL},
    {"wu overflow of the connection",
     HELLO "wu 0 0x7fffffff",
     APP_LOG,
     {"> GOAWAY 0 FLOW_CONTROL_ERROR"},
     NULL},
    {"2: wu 0 on a stream",
     HELLO "headers 1 post;wu 1 0",
     APP_LOG,
     {"1 reset protocol_error", "1 close", "> RST 1 PROTOCOL_ERROR"},
     "GOAWAY"},
    {"2: wu overflow of a stream",
     HELLO "headers 1 post;wu 1 0x7fffffff",
     APP_LOG,
     {"1 reset", "> RST 1 FLOW_CONTROL_ERROR"},
     "GOAWAY"},
    {"2: data after the end",
     HELLO "headers 1 es post;data 1 1",
     APP_LOG,
     {"1 reset", "> RST 1 STREAM_CLOSED"},
     "GOAWAY"},
    {"2: headers after the end",
     HELLO "headers 1 es post;headers 1 es x=y",
     APP_LOG,
     {"1 reset", "> RST 1 STREAM_CLOSED"},
     "GOAWAY"},
    {"2: priority of 6",
     HELLO "headers 1 post;raw 2 0 1 000000000000",
     APP_LOG,
     {"1 reset", "> RST 1 FRAME_SIZE_ERROR"},
     "GOAWAY"},
    {"2: priority on itself",
     HELLO "headers 1 post;priority 1 1",
     APP_LOG,
     {"1 reset", "> RST 1 PROTOCOL_ERROR"},
     "GOAWAY"},
    {"2: headers depend on themselves",
     HELLO "headers 1 dep=1 post",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"priority on itself, idle",
     HELLO "priority 9 9",
     APP_LOG,
     {"> GOAWAY 0 PROTOCOL_ERROR"},
     NULL},
    {"data on closed",
     HELLO "headers 1 es get;data 1 4;headers 3 es get",
     APP_HEAD_ANSWER,
     {"3 head", "> RST 1 STREAM_CLOSED"},
     "GOAWAY"},

    /* ---- padding ---- */
    {"data padding too long",
     HELLO "headers 1 post;raw 0 8 1 05aabbcc",
     APP_LOG,
     {"> GOAWAY 1 PROTOCOL_ERROR"},
     NULL},
    {"data padding of nothing",
     HELLO "headers 1 post;raw 0 8 1",
     APP_LOG,
     {"> GOAWAY 1 FRAME_SIZE_ERROR"},
     NULL},
    {"headers padding too long",
     HELLO "raw 1 0xc 1 05aabbcc",
     APP_LOG,
     {"> GOAWAY 0 PROTOCOL_ERROR"},
     NULL},
    {"headers too short for priority",
     HELLO "raw 1 0x24 1 00000000",
     APP_LOG,
     {"> GOAWAY 0 FRAME_SIZE_ERROR"},
     NULL},

    /* ---- header blocks ---- */
    {"continuation without headers",
     HELLO "cont 1 eh a=b",
     APP_LOG,
     {"> GOAWAY 0 PROTOCOL_ERROR"},
     NULL},
    {"continuation after the end",
     HELLO "headers 1 post;cont 1 eh a=b",
     APP_LOG,
     {"> GOAWAY 1 PROTOCOL_ERROR"},
     NULL},
    {"continuation of another stream",
     HELLO "headers 1 -eh post;cont 3 eh a=b",
     APP_LOG,
     {"> GOAWAY 1 PROTOCOL_ERROR"},
     "head"},
    {"frame inside a block",
     HELLO "headers 1 -eh post;ping",
     APP_LOG,
     {"> GOAWAY 1 PROTOCOL_ERROR"},
     "head"},
    {"unknown frame inside a block",
     HELLO "headers 1 -eh post;raw 0x42 0 0 00",
     APP_LOG,
     {"> GOAWAY 1 PROTOCOL_ERROR"},
     NULL},
    {"bad index",
     HELLO "headers 1 es get hex=ff80",
     APP_LOG,
     {"> GOAWAY 1 COMPRESSION_ERROR"},
     NULL},
    {"cut block",
     HELLO "headers 1 es get hex=0003",
     APP_LOG,
     {"> GOAWAY 1 COMPRESSION_ERROR"},
     NULL},
    {"bad block on a dead stream",
     HELLO "headers 1 post;headers 1 es hex=80",
     APP_RESET,
     {"> GOAWAY 1 COMPRESSION_ERROR"},
     NULL},

    /* ---- malformed requests: stream errors ---- */
    {"unknown pseudo",
     HELLO "headers 1 es get :foo=bar",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"status in a request",
     HELLO "headers 1 es get :status=200",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"pseudo after a field",
     HELLO "headers 1 es :method=GET :scheme=http a=b :path=/",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"pseudo twice",
     HELLO "headers 1 es get :path=/x",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"no method",
     HELLO "headers 1 es :scheme=http :path=/",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"no scheme",
     HELLO "headers 1 es :method=GET :path=/",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"no path",
     HELLO "headers 1 es :method=GET :scheme=http",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"empty path",
     HELLO "headers 1 es :method=GET :scheme=http :path=",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"relative path",
     HELLO "headers 1 es :method=GET :scheme=http :path=x",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"fragment",
     HELLO "headers 1 es :method=GET :scheme=http :path=/x#y",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"}, /* 24 */
    {"space in the path",
     HELLO "headers 1 es :method=GET :scheme=http :path=/x_y",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"bad method",
     HELLO "headers 1 es :method=G_T :scheme=http :path=/",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"userinfo",
     HELLO "headers 1 es :method=GET :scheme=http :path=/ :authority=u@h",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"pseudo in trailers",
     HELLO "headers 1 post;headers 1 es :method=GET",
     APP_LOG,
     {"1 reset protocol_error", "> RST 1 PROTOCOL_ERROR"},
     "trailers"},
    {"content-length in trailers",
     HELLO "headers 1 post;headers 1 es content-length=5",
     APP_LOG,
     {"1 reset protocol_error", "> RST 1 PROTOCOL_ERROR"},
     "trailers"},
    {"trailers without end",
     HELLO "headers 1 post;headers 1 a=b",
     APP_LOG,
     {"1 reset protocol_error", "> RST 1 PROTOCOL_ERROR"},
     NULL},
    {"connect with path",
     HELLO "headers 1 :method=CONNECT :authority=b :path=/ :scheme=http",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"connect without authority",
     HELLO "headers 1 :method=CONNECT",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"extended connect that was not announced",
     HELLO "headers 1 :method=CONNECT :protocol=websocket :scheme=http :path=/ :authority=b",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {":protocol without connect",
     HELLO "headers 1 get :protocol=websocket",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"host that differs",
     HELLO "headers 1 es get host=evil.test",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"}, /* 25 */
    {"host twice",
     HELLO "headers 1 es get host=a.test host=a.test",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"16: upper case name",
     HELLO "headers 1 es get Abc=x",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"16: empty name", HELLO "headers 1 es get =x", APP_LOG, {"> RST 1 PROTOCOL_ERROR"}, "head"},
    {"16: space in a name",
     HELLO "headers 1 es get hex=000361206200",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"16: colon in a name",
     HELLO "headers 1 es get hex=0003613a6200",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"16: NUL in a value",
     HELLO "headers 1 es get hex=00016103780079",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"19: CR LF in a value",
     HELLO "headers 1 es get hex=00016104780d0a79",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"19: CR LF in the path",
     HELLO "headers 1 es :method=GET :scheme=http hex=04052f0d0a2f61",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"19: transfer-encoding",
     HELLO "headers 1 post transfer-encoding=chunked",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"19: connection",
     HELLO "headers 1 es get connection=close",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"19: keep-alive",
     HELLO "headers 1 es get keep-alive=1",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"19: proxy-connection",
     HELLO "headers 1 es get proxy-connection=close",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"19: upgrade",
     HELLO "headers 1 es get upgrade=websocket",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"te other than trailers",
     HELLO "headers 1 es get te=gzip",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"14: content-length twice",
     HELLO "headers 1 post content-length=3 content-length=3;data 1 es 3",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"14: content-length +5",
     HELLO "headers 1 post content-length=+5;data 1 es 5",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"14: content-length 5,5",
     HELLO "headers 1 post content-length=5,5;data 1 es 5",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"14: content-length overflow",
     HELLO "headers 1 post content-length=18446744073709551616",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"15: empty content-length",
     HELLO "headers 1 post content-length=;data 1 es 5",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"20: body shorter than content-length",
     HELLO "headers 1 post content-length=5;data 1 es 4",
     APP_LOG,
     {"1 reset protocol_error", "> RST 1 PROTOCOL_ERROR"},
     "end"},
    {"20: body longer than content-length",
     HELLO "headers 1 post content-length=5;data 1 6",
     APP_LOG,
     {"1 reset protocol_error", "> RST 1 PROTOCOL_ERROR"},
     NULL},
    {"20: headers only with content-length",
     HELLO "headers 1 es post content-length=5",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"20: trailers before all of the body",
     HELLO "headers 1 post content-length=5;data 1 4;headers 1 es a=b",
     APP_LOG,
     {"1 reset protocol_error"},
     "trailers"},
    /* ---- found by changing the code: what nothing had noticed ---- */
    {"trailers both ways",
     HELLO "headers 1 post;data 1 1;headers 1 es x=y",
     APP_ECHO,
     {"1 close", "> DATA 1 1\n> HEADERS 1 end\n    x: y"},
     "DATA 1 0"},
    {"trailers only",
     HELLO "headers 1 post;headers 1 es x=y",
     APP_ECHO,
     {"1 close", "> HEADERS 1\n", "> HEADERS 1 end\n    x: y"},
     "DATA"},
    {"connect protocol twice",
     "preface;settings 8=0;settings 8=1;settings 8=1;settings ack;ping",
     APP_LOG,
     {"> PING ack"},
     "GOAWAY"},
    {"window of 2^31-1",
     "preface;settings 4=0x7fffffff;settings ack;ping",
     APP_LOG,
     {"> PING ack"},
     "GOAWAY"},
    {"only one cookie is left",
     HELLO "headers 1 es get cookie=a=1 cookie=b=2",
     APP_LOG,
     {"  cookie: a=1; b=2"},
     "  cookie: b=2"},
    {"first violation is kept",
     HELLO "headers 1 es get A=b connection=close c=d",
     APP_LOG,
     {"> RST 1 PROTOCOL_ERROR"},
     "head"},
    {"field cut over many frames",
     HELLO "headers 1 es -eh get hex=00;cont 1 hex=01;cont 1 hex=61;cont 1 hex=05;cont 1 "
           "hex=6869;cont 1 hex=6a;cont 1 hex=6b;cont 1 hex=6c;cont 1 eh x=y",
     APP_LOG,
     {"  a: hijkl", "  x: y"},
     "GOAWAY"},
    {"field cut, the rest in one frame",
     HELLO "headers 1 es -eh get hex=000161ff00;cont 1 big=100 a=b;cont 1 eh c=d",
     APP_LOG,
     {"> GOAWAY 1 COMPRESSION_ERROR"},
     "head"},
};

static char *run(const struct reaction *r, size_t step, const struct http_limits *l)
{
    struct side t;
    side_init(&t, true, l, r->app);
    side_feed_script(&t, r->script, step);
    side_flush(&t);
    strbuf_addf(&t.log, "error %d\n", t.error);
    char *log = strdup(t.log.p);
    side_fini(&t);
    return log;
}

static void check(const struct reaction *r, const char *log)
{
    const char *at = log;
    for (int i = 0; i < 4 && r->wants[i]; i++) {
        at = strstr(at, r->wants[i]);
        if (!at)
            fail_msg("%s: '%s' is missing in\n%s", r->name, r->wants[i], log);
    }
    if (r->never && strstr(log, r->never))
        fail_msg("%s: '%s' must not be in\n%s", r->name, r->never, log);
    /* The connection ends when, and only when, GOAWAY says so. */
    assert_int_equal(strstr(log, "> GOAWAY") != NULL, strstr(log, "error 0") == NULL);
}

static void test_reactions(void **state)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char *whole = run(&table[i], SIZE_MAX, NULL), *bytes = run(&table[i], 1, NULL);
        check(&table[i], whole);
        if (strcmp(whole, bytes) != 0)
            fail_msg("%s: byte by byte it is\n%s\ninstead of\n%s", table[i].name, bytes, whole);
        free(whole);
        free(bytes);
    }
}

/* Every table script cut at every place: two pieces. */
static void test_cut_anywhere(void **state)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char *whole = run(&table[i], SIZE_MAX, NULL);
        for (size_t step = 2; step < 40; step += 3) {
            char *cut = run(&table[i], step, NULL);
            if (strcmp(whole, cut) != 0)
                fail_msg("%s: in steps of %zu it is\n%s\ninstead of\n%s", table[i].name, step, cut,
                         whole);
            free(cut);
        }
        free(whole);
    }
}

static void test_extended_connect(void **state)
{
    struct http_limits l;
    http_limits_default(&l);
    l.allow_connect = true;
    static const struct reaction r[] = {
        {"websocket",
         HELLO "headers 1 :method=CONNECT :protocol=websocket :scheme=http :path=/c "
               ":authority=b;data 1 4",
         APP_ECHO,
         {"1 head GET http://b/c upgrade", "> HEADERS 1\n    :status: 200", "> DATA 1 4"},
         "RST"},
        {"without path",
         HELLO "headers 1 :method=CONNECT :protocol=websocket :scheme=http :authority=b",
         APP_ECHO,
         {"> RST 1 PROTOCOL_ERROR"},
         "head"},
    };
    for (int i = 0; i < 2; i++) {
        char *log = run(&r[i], SIZE_MAX, &l);
        check(&r[i], log);
        free(log);
    }
}

static void test_underscores(void **state)
{
    struct http_limits l;
    http_limits_default(&l);
    struct side t;
    l.allow_underscores = false;
    side_init(&t, true, &l, APP_LOG);
    side_feed_script(&t, HELLO "headers 1 es get hex=0003615f6200 c=d", SIZE_MAX);
    assert_null(strstr(t.log.p, "a_b"));
    assert_non_null(strstr(t.log.p, "c: d"));
    assert_int_equal(t.stats.dropped_headers_with_underscores, 1);
    side_fini(&t);
    l.reject_underscores = true;
    side_init(&t, true, &l, APP_LOG);
    side_feed_script(&t, HELLO "headers 1 es get hex=0003615f6200 c=d", SIZE_MAX);
    side_flush(&t);
    assert_non_null(strstr(t.log.p, "> RST 1 PROTOCOL_ERROR"));
    assert_int_equal(t.stats.requests_rejected_with_underscores_in_headers, 1);
    side_fini(&t);
}

static void test_uri_limit(void **state)
{
    struct http_limits l;
    http_limits_default(&l);
    l.max_uri_bytes = 10;
    struct side t;
    side_init(&t, true, &l, APP_LOG);
    side_feed_script(&t,
                     HELLO "headers 1 es :method=GET :scheme=http :path=/234567890;"
                           "headers 3 es :method=GET :scheme=http :path=/2345678901",
                     SIZE_MAX);
    side_flush(&t);
    assert_non_null(strstr(t.log.p, "1 head GET"));
    assert_null(strstr(t.log.p, "3 head"));
    assert_non_null(strstr(t.log.p, "> HEADERS 3\n    :status: 431\n    content-length: 31\n"));
    side_fini(&t);
}

/* A stream has its own window, whatever the connection's. */
static void test_stream_window(void **state)
{
    struct http_limits l;
    http_limits_default(&l);
    l.initial_stream_window = 1000;
    for (int acked = 0; acked < 2; acked++) {
        struct side t;
        side_init(&t, true, &l, APP_LOG);
        side_feed_script(&t, acked ? HELLO : "preface;settings", SIZE_MAX);
        side_feed_script(&t, "headers 1 post", SIZE_MAX);
        struct http_stream *x = container_of(list_first(&t.streams), struct side_stream, link)->s;
        x->ops->pause(x, true);
        /* Before our SETTINGS are acknowledged 65,535 may come. */
        side_feed_script(&t, acked ? "data 1 600;data 1 400" : "4*data 1 16000;data 1 1535",
                         SIZE_MAX);
        side_flush(&t);
        assert_null(strstr(t.log.p, "> RST"));
        side_feed_script(&t, "data 1 1", SIZE_MAX);
        side_flush(&t);
        assert_non_null(strstr(t.log.p, "> RST 1 FLOW_CONTROL_ERROR"));
        assert_int_equal(t.error, 0);
        side_fini(&t);
    }
}

/* What was never to be indexed stays so from hop to hop (RFC 7541 6.2.3). */
static void test_never_indexed(void **state)
{
    struct side t;
    side_init(&t, true, NULL, APP_LOG);
    side_feed_script(&t, HELLO "headers 1 post hex=10017803616263 y=z", SIZE_MAX);
    assert_non_null(strstr(t.log.p, "  x: abc !\n  y: z\n"));
    side_fini(&t);
}

static void test_byte_counts(void **state)
{
    struct side t;
    side_init(&t, true, NULL, APP_LOG);
    side_feed_script(&t, HELLO "headers 1 post", SIZE_MAX);
    struct http_stream *s = container_of(list_first(&t.streams), struct side_stream, link)->s;
    assert_int_equal(s->head_bytes_in, 7 + 4 + 7 + 4 + 5 + 1 + 10 + 6);
    uint64_t head = s->wire_bytes_in;
    side_feed_script(&t, "data 1 pad=9 7;data 1 8", SIZE_MAX);
    assert_int_equal(s->body_bytes_in, 15);
    assert_int_equal(s->wire_bytes_in - head, 2 * H2_FRAME_HEADER + 1 + 9 + 15);
    side_fini(&t);
}

static void test_counters(void **state)
{
    static const struct {
        const char *script;
        size_t offset;
    } cases[] = {
#define C(name) offsetof(struct http_codec_stats, name)
        {HELLO "headers 1 post;rst 1 8", C(rx_reset)},
        {HELLO "headers 1 post;wu 1 0", C(tx_reset)},
        {HELLO "headers 1 es get A=b", C(invalid_header)},
        {HELLO "headers 1 post transfer-encoding=x", C(smuggling_rejected)},
        {HELLO "headers 1 post content-length=x", C(smuggling_rejected)},
        {HELLO "headers 1 es get connection=x", C(rx_messaging_error)},
        {HELLO "headers 1 post;headers 1 es a=b", C(trailers)},
        {HELLO "raw 6 0 0 00", C(framing_error)},
        {HELLO "raw 6 0 0 00", C(goaway_sent)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct side t;
        side_init(&t, true, NULL, APP_LOG);
        side_feed_script(&t, cases[i].script, SIZE_MAX);
        uint64_t *n = (uint64_t *)(void *)((char *)&t.stats + cases[i].offset);
        if (*n != 1)
            fail_msg("case %zu: counted %llu", i, (unsigned long long)*n);
        side_fini(&t);
    }
}

static void test_drain(void **state)
{
    struct side t;
    side_init(&t, true, NULL, APP_ANSWER);
    side_feed_script(&t, HELLO "headers 1 post", SIZE_MAX);
    t.c->ops->drain(t.c);
    side_flush(&t);
    assert_non_null(strstr(t.log.p, "> GOAWAY 2147483647 NO_ERROR\n> PING"));
    assert_int_equal(t.c->state, HTTP_CODEC_DRAINING);
    /* On its way before the client saw the notice: still served. */
    side_feed_script(&t, "headers 3 es get;ping ack weftdrai;headers 5 es get", SIZE_MAX);
    side_flush(&t);
    assert_non_null(strstr(t.log.p, "> GOAWAY 3 NO_ERROR"));
    assert_non_null(strstr(t.log.p, "> DATA 3 2 end"));
    assert_null(strstr(t.log.p, "5 head"));
    assert_int_equal(t.c->state, HTTP_CODEC_DRAINING);
    side_feed_script(&t, "data 1 es 3", SIZE_MAX);
    assert_int_equal(t.c->state, HTTP_CODEC_FLUSH);
    assert_int_equal(t.c->streams, 0);
    side_flush(&t);
    assert_non_null(strstr(t.log.p, "> DATA 1 2 end"));
    assert_int_equal(t.error, 0);
    side_fini(&t);

    /* Idle: the second call ends it at once. */
    side_init(&t, true, NULL, APP_ANSWER);
    side_feed_script(&t, HELLO, SIZE_MAX);
    t.c->ops->drain(t.c);
    assert_int_equal(t.c->state, HTTP_CODEC_DRAINING);
    t.c->ops->drain(t.c);
    assert_int_equal(t.c->state, HTTP_CODEC_FLUSH);
    side_fini(&t);
}

static bool pinged, ping_acked;
static void on_ping(void *user, bool acked)
{
    pinged = true;
    ping_acked = acked;
}

static void test_ping(void **state)
{
    struct side t;
    side_init(&t, true, NULL, APP_LOG);
    side_feed_script(&t, HELLO, SIZE_MAX);
    pinged = false;
    assert_int_equal(h2_ping(t.c, on_ping, NULL), 0);
    assert_int_equal(h2_ping(t.c, on_ping, NULL), E_BUSY);
    side_feed_script(&t, "ping ack 12345678", SIZE_MAX);
    assert_false(pinged);
    side_feed_script(&t, "ping ack weftping", SIZE_MAX);
    assert_true(pinged && ping_acked);
    pinged = false;
    assert_int_equal(h2_ping(t.c, on_ping, NULL), 0);
    t.c->ops->feed_eof(t.c);
    assert_true(pinged && !ping_acked);
    assert_int_equal(h2_ping(t.c, on_ping, NULL), E_CLOSED);
    side_fini(&t);
}

static void test_transport_dies(void **state)
{
    struct side t;
    side_init(&t, true, NULL, APP_LOG);
    side_feed_script(&t, HELLO "headers 1 post;headers 3 es get;headers 5 -eh get", SIZE_MAX);
    (t.c->ops->fail)(t.c, HTTP_RESET_CONN_FAILURE, "tls");
    assert_non_null(strstr(t.log.p, "1 reset connection_failure tls\n"));
    assert_non_null(strstr(t.log.p, "3 reset connection_failure tls\n"));
    assert_null(strstr(t.log.p, "5 "));
    assert_int_equal(t.c->state, HTTP_CODEC_DEAD);
    assert_int_equal(t.c->streams, 0);
    side_fini(&t);
}

/* Over the limit of streams: refused, and again taken when one has ended. */
static void test_concurrency(void **state)
{
    struct http_limits l;
    http_limits_default(&l);
    l.max_concurrent_streams = 2;
    struct side t;
    side_init(&t, true, &l, APP_ANSWER);
    side_feed_script(&t,
                     HELLO "headers 1 post;headers 3 post;headers 5 post;data 5 3;headers 5 es a=b;"
                           "data 1 es 1;headers 7 es get",
                     SIZE_MAX);
    side_flush(&t);
    assert_non_null(strstr(t.log.p, "> RST 5 REFUSED_STREAM"));
    assert_null(strstr(t.log.p, "5 head"));
    assert_non_null(strstr(t.log.p, "> DATA 7 2 end"));
    assert_int_equal(t.stats.stream_refused_errors, 1);
    assert_int_equal(t.error, 0);
    side_fini(&t);
}

static void test_preface_match(void **state)
{
    assert_int_equal(h2_preface_match(SV("")), 0);
    assert_int_equal(h2_preface_match(SV("PRI")), 0);
    assert_int_equal(h2_preface_match(SV("PUT")), -1);
    assert_int_equal(h2_preface_match(SV("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")), 1);
    assert_int_equal(h2_preface_match(SV("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore")), 1);
    assert_int_equal(h2_preface_match(SV("PRI * HTTP/2.0\r\n\r\nSM\r\n\rX")), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reactions),
        cmocka_unit_test(test_cut_anywhere),
        cmocka_unit_test(test_extended_connect),
        cmocka_unit_test(test_underscores),
        cmocka_unit_test(test_uri_limit),
        cmocka_unit_test(test_stream_window),
        cmocka_unit_test(test_never_indexed),
        cmocka_unit_test(test_byte_counts),
        cmocka_unit_test(test_counters),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_ping),
        cmocka_unit_test(test_transport_dies),
        cmocka_unit_test(test_concurrency),
        cmocka_unit_test(test_preface_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
