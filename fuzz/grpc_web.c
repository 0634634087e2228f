/* gRPC-Web bodies: a request's text is decoded the same whole and in pieces, or refused; a response
 * that is encoded as text and decoded again as a request is what it was. Options in the first byte,
 * the pieces' seed in the second. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "filters/http/grpc_web/grpc_web_testlib.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TEXT "application/grpc-web-text"

static void feed(struct grpc_web_rig *r, const char *p, size_t n, uint32_t seed)
{
    do {
        seed = seed * 1664525u + 1013904223u;
        size_t k = (seed >> 16) % 19;
        k = k < n ? k : n;
        if (!grpc_web_rig_request(r, p, k, k == n))
            return;
        p += k;
        n -= k;
    } while (n);
}

static void round_trip(const char *p, size_t n, uint32_t seed)
{
    static const char *const trailers[] = {"grpc-status", "0", "grpc-message", "a b", NULL};
    struct grpc_web_rig out, back;
    grpc_web_rig_init(&out, TEXT, TEXT);
    grpc_web_rig_answer(&out, 200, "application/grpc", false);
    for (size_t at = 0; at < n;) {
        seed = seed * 1664525u + 1013904223u;
        size_t k = 1 + (seed >> 16) % 19;
        k = k < n - at ? k : n - at;
        grpc_web_rig_response(&out, p + at, k, false);
        at += k;
    }
    grpc_web_rig_trailers(&out, trailers);
    grpc_web_rig_init(&back, TEXT, NULL);
    feed(&back, out.response.p, out.response.n, seed);
    static const char frame[] = "\x80\0\0\0\x21grpc-status:0\r\ngrpc-message:a b\r\n";
    if (back.replied || back.request.n != n + sizeof frame - 1 ||
        (n && memcmp(back.request.p, p, n) != 0) ||
        memcmp(back.request.p + n, frame, sizeof frame - 1) != 0)
        abort();
    grpc_web_rig_fini(&out);
    grpc_web_rig_fini(&back);
}

static void foreign(const char *p, size_t n)
{
    struct grpc_web_rig r;
    grpc_web_rig_init(&r, "application/grpc-web", NULL);
    grpc_web_rig_answer(&r, 503, "text/html", false);
    grpc_web_rig_response(&r, p, n, true);
    sv message = http_headers_get_sv(&r.resp.h, SV("grpc-message"));
    for (size_t i = 0; i < message.n; i++)
        if (message.p[i] < ' ' || message.p[i] > '~')
            abort();
    if (r.stopped || !http_headers_get_sv(&r.resp.h, SV("grpc-status")).n)
        abort();
    grpc_web_rig_fini(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct grpc_web_rig whole, parts;
    if (size < 2)
        return 0;
    const char *p = (const char *)data + 2;
    size_t n = size - 2;
    if (data[0] & 1)
        round_trip(p, n, data[1]);
    if (data[0] & 2)
        foreign(p, n);
    grpc_web_rig_init(&whole, TEXT, NULL);
    grpc_web_rig_init(&parts, TEXT, NULL);
    grpc_web_rig_request(&whole, p, n, true);
    feed(&parts, p, n, data[1]);
    if (whole.replied != parts.replied ||
        (!whole.replied &&
         (whole.request.n != parts.request.n ||
          (whole.request.n && memcmp(whole.request.p, parts.request.p, whole.request.n) != 0))))
        abort();
    grpc_web_rig_fini(&whole);
    grpc_web_rig_fini(&parts);
    return 0;
}
