/* Query mutations against any path: the parameters come out in order, what is removed is gone, what
 * is set stands once, what stays is what came, and a second pass changes nothing more. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "api/google.pb.h"
#include "api/pb.h"
#include "filters/http/header_mutation/query.h"
#include "http/path.h"

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char LIST[] =
    "{query_parameter_mutations: [{remove: gone}, {append: {record: {key: 's&t', value: 'a b'},"
    " action: OVERWRITE_IF_EXISTS_OR_ADD}}, {append: {record: {key: once, value: '1'},"
    " action: ADD_IF_ABSENT}}]}";

static const struct query_mutations *build(struct arena *a)
{
    const struct query_mutations *m = NULL;
    struct error err = {0};
    void *out;
    CHECK(pb_from_text(&envoy_Mutations_pb, SV(LIST), "f", a, NULL, &out, &err) >= 0);
    const struct envoy_Mutations *all = out;
    CHECK(query_mutations_build(all->query_parameter_mutations.v, all->query_parameter_mutations.n,
                                "q", a, &m, &err) == 0);
    return m;
}

/* How often a key stands in a query, and whether the keys are in order. */
static uint32_t count(sv query, sv key, bool *ordered, struct arena *a)
{
    sv one, k, v, before = {0};
    uint32_t n = 0;
    while (query.n) {
        sv_cut(query, '&', &one, &query);
        sv_cut(one, '=', &k, &v);
        k = path_decode(k, false, a);
        n += sv_eq(k, key);
        if (ordered && sv_cmp(before, k) > 0)
            *ordered = false;
        before = k;
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct stream_info si;
    struct arena a;
    sv bare, query, after, was;
    bool ordered = true;

    if (size > 1 << 16)
        return 0;
    arena_init_malloc(&a);
    stream_info_init(&si, &a);
    struct substitution_ctx c = {.si = &si};
    const struct query_mutations *m = build(&a);
    char *exact = memcpy(malloc(size + 1), data, size); /* its end is where the sanitizer looks */
    sv path = sv_make(exact, size);
    sv got = query_mutations_apply(m, path, &c, &a);
    sv_cut(path, '?', &was, &query);
    sv_cut(got, '?', &bare, &after);
    CHECK(sv_eq(bare, was));
    uint32_t had = count(query, SV("once"), NULL, &a);
    CHECK(count(after, SV("once"), &ordered, &a) == (had ? had : 1) && ordered);
    CHECK(count(after, SV("s&t"), NULL, &a) == 1);
    CHECK(count(after, SV("gone"), NULL, &a) == 0);
    CHECK(sv_eq(query_mutations_apply(m, got, &c, &a), got));
    free(exact);
    arena_free(&a);
    return 0;
}
