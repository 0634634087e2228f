/* URI and header code against any bytes: canonical paths are stable and never climb, an authority
 * that parses has one canonical form, queries and escapes stay inside their input, field lists
 * behave under random operations. Input: first byte = options, rest = text. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include "http/headers.h"
#include "http/path.h"

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void paths(sv text, uint8_t options, struct arena *a)
{
    struct path_opts o = {.normalize = options & 1,
                          .merge_slashes = options & 2,
                          .escaped = (enum path_escaped_slashes)(options >> 2 & 3)};
    sv once, twice;
    if (path_canonical(text, &o, a, &once) == PATH_REJECT)
        return;
    CHECK(!memchr(once.p, '#', once.n) || once.n == 0);
    sv p = path_only(once), before, after;
    path_split(text, NULL, &before);
    path_split(once, NULL, &after);
    CHECK(sv_eq(before, after));
    if (o.normalize && !sv_eq(once, SV("*"))) {
        CHECK(p.n && p.p[0] == '/');
        CHECK(sv_find_sv(p, SV("/../")) < 0 && sv_find_sv(p, SV("/./")) < 0);
        CHECK(!sv_ends(p, SV("/..")) && !sv_ends(p, SV("/.")));
        CHECK(sv_find_sv(p, SV("%00")) < 0);
    }
    if (o.merge_slashes)
        CHECK(sv_find_sv(p, SV("//")) < 0);
    /* With escaped slashes decoded a second pass may decode what the first one uncovered. */
    if (o.escaped == PATH_SLASHES_KEEP) {
        CHECK(path_canonical(once, &o, a, &twice) == PATH_OK);
        CHECK(sv_eq(once, twice));
    }
}

static void authorities(sv text, struct arena *a)
{
    struct authority p, q;
    sv canon = authority_canonical(text, true, true, a);
    CHECK(sv_eq(canon, authority_canonical(canon, false, false, a)));
    if (authority_parse(text, &p) != 0)
        return;
    CHECK(p.host.n && p.host.p >= text.p && p.host.p + p.host.n <= text.p + text.n);
    CHECK(!memchr(text.p, '@', text.n) && !memchr(text.p, '/', text.n));
    CHECK(authority_parse(canon, &q) == 0 && q.port == 0 && q.is_ip6 == p.is_ip6);
    CHECK(authority_port(text, SV("https")) == (p.port ? p.port : 443));
}

static void urls(sv text, struct arena *a)
{
    struct path_url u;
    struct authority p;
    if (path_url_parse(text, a, &u) != 0)
        return;
    CHECK(path_is_absolute(text) && authority_parse(u.authority, &p) == 0);
    CHECK(u.path.n && u.path.p[0] == '/' && !memchr(u.path.p, '#', u.path.n));
}

static void queries(sv text, struct arena *a)
{
    sv rest = text, k, v;
    size_t seen = 0;
    while (path_query_next(&rest, &k, &v)) {
        CHECK(k.p >= text.p && k.p + k.n <= text.p + text.n);
        seen += k.n + v.n + (v.p != NULL);
        CHECK(path_query_get(text, k).p != NULL);
        CHECK(path_decode(k, true, a).n <= k.n);
        CHECK(sv_eq(path_decode(path_encode(v, NULL, a), false, a), v) || v.n == 0);
        if (seen > 4096)
            break;
    }
    CHECK(seen <= text.n + 4096);
}

/* The text is cut into fields at line ends; each one is an operation. */
static void fields(sv text, struct arena *a)
{
    struct http_headers h, copy;
    http_headers_init(&h, a);
    sv line, name, value;
    while (text.n && h.n < 500) {
        sv_cut(text, '\n', &line, &text);
        bool set = line.n && line.p[0] == '=', del = line.n && line.p[0] == '-';
        if (set || del)
            line = sv_from(line, 1);
        sv_cut(line, ':', &name, &value);
        if (!http_name_lower_valid(name) || !http_value_valid(value))
            continue;
        if (del) {
            http_headers_remove(&h, name);
            CHECK(http_headers_get_sv(&h, name).p == NULL);
        } else if (set) {
            http_headers_set(&h, name, value);
            CHECK(sv_eq(http_headers_joined(&h, name, a), value));
        } else {
            http_headers_add(&h, name, value);
            CHECK(http_headers_get_sv(&h, name).p != NULL);
            CHECK(http_headers_joined(&h, name, a).n >= value.n);
        }
    }
    http_headers_copy(&copy, &h, a);
    CHECK(copy.n == h.n && http_headers_bytes(&copy, true) == http_headers_bytes(&h, true));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a;
    if (size < 2 || size > 20000)
        return 0;
    arena_init(&a);
    sv text = sv_make((const char *)data + 1, size - 1);
    paths(text, data[0], &a);
    authorities(text, &a);
    urls(text, &a);
    queries(text, &a);
    fields(text, &a);
    arena_free(&a);
    return 0;
}
