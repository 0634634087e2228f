/* gRPC's bytes. The first byte chooses: message framing (whole and in pieces gives the same
 * messages and the same end), or what is written in fields (timeout, grpc-message, binary
 * metadata), where what is written must read back as it was. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/arena.h"
#include "grpc/grpc_frame.h"
#include "grpc/grpc_status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MESSAGE_MAX 4096

struct verdict {
    int code;
    uint32_t messages;
    uint64_t hash;
    bool done;
};

static struct verdict read_in_steps(const uint8_t *p, size_t n, size_t step)
{
    struct verdict v = {.code = E_AGAIN};
    struct grpc_reader r;
    grpc_reader_init(&r, MESSAGE_MAX);
    for (size_t i = 0; i < n && v.code == E_AGAIN; i += step) {
        struct buf b, msg;
        buf_init(&b);
        buf_append(&b, p + i, n - i < step ? n - i : step);
        grpc_reader_add(&r, &b);
        if (b.len)
            abort();
        for (;;) {
            buf_init(&msg);
            v.code = grpc_reader_next(&r, &msg);
            if (v.code)
                break;
            if (msg.len > MESSAGE_MAX)
                abort();
            v.hash = v.hash * 31 + sv_hash_stable(buf_pullup(&msg, msg.len)) + msg.len;
            v.messages++;
            buf_reset(&msg);
        }
        buf_reset(&msg);
    }
    v.done = v.code == E_AGAIN && grpc_reader_done(&r);
    grpc_reader_fini(&r);
    return v;
}

static void frames(const uint8_t *p, size_t n)
{
    struct verdict whole = read_in_steps(p, n, n ? n : 1);
    size_t step = n ? p[n - 1] % 13u + 1u : 1;
    struct verdict parts = read_in_steps(p, n, step);
    if (whole.code != parts.code || whole.messages != parts.messages || whole.hash != parts.hash ||
        whole.done != parts.done)
        abort();
}

static void fields(sv text)
{
    struct arena a;
    struct http_headers h;
    uint64_t ms, again;
    char out[16];
    int code;
    sv bytes;
    arena_init(&a);
    if (grpc_timeout_parse(text, &ms) == 0) {
        if (ms > GRPC_TIMEOUT_MAX_MS)
            abort();
        /* Eight digits of a coarser unit may say a little more, never less; then they are full. */
        if (grpc_timeout_parse(grpc_timeout_format(ms, out), &again) ||
            (again < ms && again < UINT64_C(99999999) * 3600000))
            abort();
    }
    if (text.n < 1024 && !sv_eq(grpc_message_decode(grpc_message_encode(text, &a), &a), text))
        abort();
    grpc_message_decode(text, &a);
    if (grpc_code_parse(text, &code) == 0 && (code < 0 || code > 16))
        abort();
    http_headers_init(&h, &a);
    http_headers_add(&h, SV("peer-bin"), text);
    if (grpc_metadata_get_bin(&h, SV("peer-bin"), &a, &bytes) == 0 && bytes.n > text.n)
        abort();
    grpc_metadata_add_bin(&h, SV("own-bin"), text);
    if (grpc_metadata_get_bin(&h, SV("own-bin"), &a, &bytes) || !sv_eq(bytes, text))
        abort();
    arena_free(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    if (data[0] & 1)
        fields(sv_make((const char *)data + 1, size - 1));
    else
        frames(data + 1, size - 1);
    return 0;
}
