/* A line of an access log, as a person pastes it, and the answer made of it: text that reaches a
 * terminal holds no control characters of the line. */
#include <stdint.h>
#include <stdlib.h>
#include "cli/live.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    struct live_line l;
    struct strbuf out;
    struct arena a;

    arena_init(&a);
    strbuf_init(&out, (size_t)16 << 20);
    if (live_parse(sv_make((const char *)data, size), &a, &l, &err) == 0) {
        const struct failure *f = failure_find(&l);
        failure_text(f->what, &l, &out);
        failure_text(f->todo, &l, &out);
        for (size_t i = 0; i < out.n; i++) {
            if ((unsigned char)out.p[i] < ' ' || out.p[i] == 127)
                abort();
        }
    } else if (!err.msg[0]) {
        abort();
    }
    strbuf_fini(&out);
    arena_free(&a);
    return 0;
}
