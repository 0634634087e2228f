/* Expressions: what compiles is evaluated, printed and written as JSON; errors are sentences with a
 * position. Input: the expression up to the first NUL; the rest is a peer's text, which names give.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "cel/cel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool get(const struct cel_map *m, const struct cel_value *key, struct arena *a,
                struct cel_value *out)
{
    const sv *peer = m->arg;
    if (key->type != CEL_STRING || key->s.n == 0)
        return false;
    switch (key->s.p[0]) {
    case 'j':
        *out = cel_from_json(*peer, a);
        return true;
    case 'm':
        *out = (struct cel_value){.type = CEL_MAP, .map = m};
        return true;
    case 't':
        *out = cel_timestamp_ns(1481814427871123456u);
        return true;
    default:
        *out = cel_string(*peer);
        return true;
    }
}

static bool root(const struct cel_env *e, sv name, struct cel_value *out)
{
    (void)name;
    struct cel_map *m = arena_new(e->arena, struct cel_map);
    *m = (struct cel_map){.get = get, .arg = e->arg};
    *out = (struct cel_value){.type = CEL_MAP, .map = m};
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sv text, peer;
    struct arena a;
    struct error err = {0};
    const struct cel *c = NULL;
    struct cel_opts o = {.string_conversion = size & 1, .string_concat = size & 2};
    sv_cut(sv_make((const char *)data, size), 0, &text, &peer);
    arena_init(&a);
    if (cel_compile(text, &o, &a, &c, &err) == 0) {
        struct strbuf out;
        struct cel_env e = {.root = root, .arg = &peer, .arena = &a};
        struct cel_value v = cel_eval(c, &e);
        strbuf_init(&out, 1 << 20);
        cel_print(&v, &out);
        if (v.type == CEL_ERROR && (out.n || !v.why))
            abort();
        strbuf_reset(&out);
        if (!cel_to_json(&v, &out) && !sv_eq(strbuf_sv(&out), SV("null")))
            abort();
        strbuf_fini(&out);
    } else if (err.msg[0] == 0 || c) {
        abort();
    }
    arena_free(&a);
    return 0;
}
