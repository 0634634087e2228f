#include "filters/http/header_mutation/query.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "api/google.pb.h"

static struct arena a;
static struct error err;

static const struct query_mutations *build(const char *yaml)
{
    const struct query_mutations *m = NULL;
    void *out;
    err = (struct error){0};
    sv text = arena_printf(&a, "query_parameter_mutations: %s", yaml);
    if (pb_from_text(&envoy_Mutations_pb, text, "f", &a, NULL, &out, &err) < 0)
        fail_msg("%s", err.msg);
    const struct envoy_Mutations *all = out;
    if (query_mutations_build(all->query_parameter_mutations.v, all->query_parameter_mutations.n,
                              "q", &a, &m, &err) == 0)
        assert_int_equal(err.code, 0);
    return m;
}

static void turns(const struct query_mutations *m, const char *path, const char *want)
{
    struct stream_info si;
    stream_info_init(&si, &a);
    struct substitution_ctx c = {.si = &si};
    sv got = query_mutations_apply(m, sv_of(path), &c, &a);
    assert_string_equal(arena_cstr(&a, got), want);
}

static void changes(void **state)
{
    const struct query_mutations *m = build(
        "[{append: {record: {key: k, value: v}}},"
        " {append: {record: {key: once, value: '1'}, action: ADD_IF_ABSENT}},"
        " {append: {record: {key: 'set&', value: 'a b'}, action: OVERWRITE_IF_EXISTS_OR_ADD}},"
        " {append: {record: {key: over, value: new}, action: OVERWRITE_IF_EXISTS}},"
        " {remove: gone}]");
    turns(m, "/", "/?k=v&once=1&set%26=a%20b");
    turns(m, "/?", "/?k=v&once=1&set%26=a%20b");
    turns(m, "/a?z&b=%20&gone&gone=1&once=0&k=w&over=1&over=2",
          "/a?b=%20&k=w&k=v&once=0&over=new&set%26=a%20b&z=");
    turns(m, "/?set%26=0&g%6fne=1", "/?k=v&once=1&set%26=a%20b");
    turns(build("[{remove: a}]"), "/x?a=1", "/x");
}

/* Every beginning of a query, also one that ends within an escape. */
static void beginnings(void **state)
{
    const struct query_mutations *m = build("[{append: {record: {key: k, value: v}}}]");
    const char *all = "/p?a=%41&&=&%=%4&b%zz=1?2=3";
    struct stream_info si;
    stream_info_init(&si, &a);
    for (size_t n = 0; n <= strlen(all); n++) {
        char *exact = memcpy(arena_alloc(&a, n + 1), all, n);
        struct substitution_ctx c = {.si = &si};
        sv got = query_mutations_apply(m, sv_make(exact, n), &c, &a);
        assert_true(sv_find(got, 'k') >= 0);
    }
}

static void wrong(const char *yaml, const char *want)
{
    assert_null(build(yaml));
    assert_string_equal(err.msg, want);
}

static void errors(void **state)
{
    wrong("[{}]", "q[0]: one of append, remove must be set");
    wrong("[{remove: x}, {remove: x, append: {record: {key: k, value: v}}}]",
          "q[1]: one of append, remove must be set");
    wrong("[{append: {}}]", "q[0].append.record: must be set");
    wrong("[{append: {record: {value: v}}}]", "q[0].append.record.key: must not be empty");
    wrong("[{append: {record: {key: k, value: 1}}}]", "q[0].append.record.value: must be a string");
    wrong("[{append: {record: {key: k, value: '%NOPE%'}}}]",
          "q[0].append.record.value: '%NOPE%' is not an operator weft knows");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(changes), cmocka_unit_test(beginnings),
                                       cmocka_unit_test(errors)};
    arena_init_malloc(&a);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    arena_free(&a);
    return rc;
}
