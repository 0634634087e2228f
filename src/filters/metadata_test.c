#include "filters/metadata.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "api/google.pb.h"
#include "api/pb_struct.h"

static struct arena a;
static struct stream_info si;

static void set(const char *key, const char *yaml, bool merge)
{
    void *v;
    struct error err = {0};
    if (pb_from_text(&google_Value_pb, sv_of(yaml), "f", &a, NULL, &v, &err) < 0)
        fail_msg("%s", err.msg);
    filter_metadata_set(&si, SV("n"), sv_of(key), v, merge);
}

static void is(const char *key, const char *want)
{
    const struct stream_meta *m = stream_info_meta_get(&si, SV("n"), sv_of(key));
    assert_non_null(m);
    assert_string_equal(arena_cstr(&a, m->text), want);
}

static void merging(void **state)
{
    stream_info_init(&si, &a);
    assert_false(filter_metadata_has(&si, SV("n")));
    set("k", "text", true);
    is("k", "text");
    set("k", "{a: 1, b: {c: [1], d: x}}", true); /* of another kind: in its place */
    is("k", "{\"a\":1,\"b\":{\"c\":[1],\"d\":\"x\"}}");
    set("k", "{b: {c: [{e: 2}], d: [y]}, z: null}", true);
    is("k", "{\"a\":1,\"b\":{\"c\":[1,{\"e\":2}],\"d\":[\"y\"]},\"z\":null}");
    set("k", "{b: true}", false);
    is("k", "{\"b\":true}");
    set("k", "[1]", true);
    is("k", "[1]");
    assert_true(filter_metadata_has(&si, SV("n")));
}

static void matching(void **state)
{
    void *route;
    struct error err = {0};
    stream_info_init(&si, &a);
    assert_int_equal(pb_from_text(&envoy_Metadata_pb,
                                  SV("filter_metadata: {envoy.lb: {stage: prod, version: v1}}"),
                                  "f", &a, NULL, &route, &err),
                     0);
    assert_ptr_equal(filter_metadata_match(&si, route), route);
    assert_null(filter_metadata_match(&si, NULL));
    stream_info_meta_set(&si, SV("envoy.lb"), SV("version"), SV("v2"));
    stream_info_meta_set_number(&si, SV("envoy.lb"), SV("shard"), 3);
    const struct envoy_Metadata *m = filter_metadata_match(&si, route);
    const struct google_Struct *lb = m->filter_metadata.v[0]->value;
    assert_int_equal(lb->fields.n, 3);
    assert_true(sv_eq(pb_struct_text(lb, SV("stage")), SV("prod")));
    assert_true(sv_eq(pb_struct_text(lb, SV("version")), SV("v2")));
    assert_true(pb_struct_get(lb, SV("shard"))->number_value == 3);
    m = filter_metadata_match(&si, NULL);
    assert_int_equal(m->filter_metadata.v[0]->value->fields.n, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(merging), cmocka_unit_test(matching)};
    arena_init_malloc(&a);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    arena_free(&a);
    return rc;
}
