/* Expressions and what they are worth; what is refused and where. Values are printed as Envoy
 * prints them: the table was compared with a real Envoy's %CEL(…)%. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "cel/cel.h"

/* r: {path: "/a/b", code: 200, h: {x: "1"}}, named by a callback; s: "text". */
static bool get_h(const struct cel_map *m, const struct cel_value *key, struct arena *a,
                  struct cel_value *out)
{
    (void)m;
    (void)a;
    if (key->type != CEL_STRING || !sv_eq(key->s, SV("x")))
        return false;
    *out = cel_string(SV("1"));
    return true;
}

static bool root(const struct cel_env *e, sv name, struct cel_value *out)
{
    static const struct cel_map h = {.get = get_h, .n = 1};
    static struct cel_entry fields[3];
    static const struct cel_map r = {.v = fields, .n = 3};
    (void)e;
    fields[0] = (struct cel_entry){cel_string(SV("path")), cel_string(SV("/a/b"))};
    fields[1] = (struct cel_entry){cel_string(SV("code")), cel_int(200)};
    fields[2] = (struct cel_entry){cel_string(SV("h")), {.type = CEL_MAP, .map = &h}};
    if (sv_eq(name, SV("r")))
        *out = (struct cel_value){.type = CEL_MAP, .map = &r};
    else if (sv_eq(name, SV("s")))
        *out = cel_string(SV("text"));
    else
        return false;
    return true;
}

static int check_name(sv name, sv field, struct error *err)
{
    if (!sv_eq(name, SV("r")) && !sv_eq(name, SV("s")) && !sv_eq(name, SV("absent")))
        return error_set(err, E_INVALID, "there is no '%.*s'", SV_ARG(name));
    if (sv_eq(field, SV("never")))
        return error_set(err, E_INVALID, "'%.*s' has no '%.*s'", SV_ARG(name), SV_ARG(field));
    return 0;
}

static const struct cel_opts plain = {.check = check_name};
static const struct cel_opts more = {
    .check = check_name, .string_conversion = true, .string_concat = true};

static void expect(const char *text, const struct cel_opts *o, const char *want, bool as_json)
{
    struct arena a;
    struct error err = {0};
    const struct cel *c = NULL;
    struct strbuf out;
    arena_init(&a);
    strbuf_init(&out, 65536);
    if (cel_compile(sv_of(text), o, &a, &c, &err) != 0)
        fail_msg("%s: %s", text, err.msg);
    struct cel_env e = {.root = root, .arena = &a};
    struct cel_value v = cel_eval(c, &e);
    if (as_json)
        cel_to_json(&v, &out);
    else if (v.type == CEL_ERROR)
        strbuf_add_ch(&out, '-');
    else
        cel_print(&v, &out);
    if (!sv_eq_c(strbuf_sv(&out), want))
        fail_msg("%s is '%.*s', not '%s'%s%s", text, SV_ARG(strbuf_sv(&out)), want,
                 v.type == CEL_ERROR ? ": " : "", v.type == CEL_ERROR ? v.why : "");
    strbuf_fini(&out);
    arena_free(&a);
}

static void values(void **state)
{
    static const char *const table[][2] = {
        /* literals */
        {"1", "1"},
        {"1u", "1"},
        {"0x1F", "31"},
        {"1.5", "1.5"},
        {"1e3", "1000"},
        {"1e100", "1e+100"},
        {"1234567.0", "1.23457e+06"},
        {"-9223372036854775808", "-9223372036854775808"},
        {"9223372036854775808u", "9223372036854775808"},
        {"'a'", "a"},
        {"\"a'b\"", "a'b"},
        {"'''a'b'''", "a'b"},
        {"'\\x41\\u00e4\\101'", "A\xc3\xa4"
                                "A"},
        {"'\\377'", "\xc3\xbf"},
        {"b'\\xff'", "\xff"},
        {"r'\\n'", "\\n"},
        {"bR'\\n'", "\\n"},
        {"true", "true"},
        {"null", "NULL"},
        {"[1,2,]", "CelList value"},
        {"{'a':1,}", "CelMap value"},
        {"1 // and so on", "1"},
        /* arithmetic */
        {"1+2*3-4", "3"},
        {"(1+2)*3", "9"},
        {"-7 / 2", "-3"},
        {"-7 % 3", "-1"},
        {"1/0", "-"},
        {"1%0", "-"},
        {"1u/0u", "-"},
        {"9223372036854775807 + 1", "-"},
        {"-9223372036854775808/-1", "-"},
        {"-(-9223372036854775808)", "-"},
        {"1u - 2u", "-"},
        {"2u * 3u", "6"},
        {"1 + 1u", "-"},
        {"1.0 + 1", "-"},
        {"-1u", "-"},
        {"-(-5)", "5"},
        {"--5", "5"},
        {"2.0/0.0", "inf"},
        {"0.0/0.0", "nan"},
        {"'a' + 'b'", "-"},
        {"[1] + [2]", "-"},
        {"1e308 * 10.0", "inf"},
        /* comparing */
        {"1 == 1.0", "true"},
        {"1 == 1u", "true"},
        {"1 == 'a'", "false"},
        {"1 != 'a'", "true"},
        {"null == null", "true"},
        {"null == 1", "false"},
        {"0.0 == -0.0", "true"},
        {"0.0/0.0 == 0.0/0.0", "false"},
        {"0.0/0.0 < 1.0", "false"},
        {"1 < 2.5", "true"},
        {"2 > 2.5", "false"},
        {"-1 < 0u", "true"},
        {"9007199254740993 > 9007199254740992.0", "true"},
        {"18446744073709551615u < 1e30", "true"},
        {"1.5 > 1", "true"},
        {"'a' < 'b'", "true"},
        {"b'a' < b'b'", "true"},
        {"false < true", "true"},
        {"null < null", "-"},
        {"[1] < [2]", "-"},
        {"1 > 'a'", "-"},
        {"[1, 'a'] == [1.0, 'a']", "true"},
        {"[1,2] == [1]", "false"},
        {"{'a':1} == {'a':1.0}", "true"},
        {"{'a':1} == {'a':1,'b':2}", "false"},
        {"{'a':1} == {'b':1}", "false"},
        /* logic: one side alone may decide */
        {"true || 1/0 == 1", "true"},
        {"1/0 == 1 || true", "true"},
        {"false && 1/0 == 1", "false"},
        {"1/0 == 1 && false", "false"},
        {"1/0 == 1 || false", "-"},
        {"true && 1/0 == 1", "-"},
        {"1 && false", "false"},
        {"true && 1", "-"},
        {"1 || true", "true"},
        {"false || 1", "-"},
        {"1 || 1", "-"},
        {"!true", "false"},
        {"!!true", "true"},
        {"!!!true", "false"},
        {"!1", "-"},
        {"1==1&&2==2||false", "true"},
        {"false && false || true", "true"},
        {"true ? 1 : 'a'", "1"},
        {"false ? 1 : true ? 2 : 3", "2"},
        {"true ? 1 : 1/0", "1"},
        {"1 ? 2 : 3", "-"},
        /* lists and maps */
        {"[1,2][1]", "2"},
        {"[1,2][1u]", "2"},
        {"[1,2][1.0]", "2"},
        {"[1,2][1.5]", "-"},
        {"[1,2][5]", "-"},
        {"[1,2][-1]", "-"},
        {"[1,2]['a']", "-"},
        {"'abc'[0]", "-"},
        {"{'a':1}.a", "1"},
        {"{'a':1}['a']", "1"},
        {"{1:'x'}[1]", "x"},
        {"{1:'x'}[1u]", "x"},
        {"{'a':1}.b", "-"},
        {"{'a':1,'a':2}", "-"},
        {"{1.0: 2}", "-"},
        {"{null: 2}", "-"},
        {"{'a': 1/0}", "-"},
        {"[1/0]", "-"},
        {"has({'a':1}.a)", "true"},
        {"has({'a':1}.b)", "false"},
        {"has('a'.b)", "-"},
        {"1 in [1,2]", "true"},
        {"1 in [1.0]", "true"},
        {"3 in [1,2]", "false"},
        {"'a' in {'a':2}", "true"},
        {"'abc' in 'abc'", "-"},
        {"1 in 1", "-"},
        /* functions */
        {"size('abc')", "3"},
        {"'\xc3\xa4"
         "b'.size()",
         "2"},
        {"size(b'\xc3\xa4"
         "b')",
         "3"},
        {"size([1,2])", "2"},
        {"size({'a':1})", "1"},
        {"size(1)", "-"},
        {"'abc'.contains('b')", "true"},
        {"'abc'.contains('')", "true"},
        {"'abc'.contains(1)", "-"},
        {"'abc'.startsWith('ab')", "true"},
        {"'abc'.endsWith('ab')", "false"},
        {"'abc'.matches('b')", "true"},
        {"'abc'.matches('^b$')", "false"},
        {"matches('abc', '^a.c$')", "true"},
        {"s.matches(s)", "true"},
        {"s.matches(r.path)", "false"},
        {"bool('true')", "true"},
        {"bool('x')", "-"},
        {"int('5')", "5"},
        {"int('x')", "-"},
        {"int(-5.9)", "-5"},
        {"int(1e30)", "-"},
        {"int(0.0/0.0)", "-"},
        {"uint(5)", "5"},
        {"uint(-1)", "-"},
        {"double('1.5')", "1.5"},
        {"double('x')", "-"},
        {"double(1) / 3.0", "0.333333"},
        {"bytes('a') == b'a'", "true"},
        {"dyn(1)", "1"},
        {"type(1) == int", "true"},
        {"type(r) == map", "true"},
        {"type('a') == bytes", "false"},
        {"type(null) == null_type", "true"},
        /* times */
        {"duration('1h30m')", "1h30m"},
        {"duration('1.5s')", "1.5s"},
        {"duration('-5ms')", "-5ms"},
        {"duration('-1h30m0.5s')", "-1h30m0.5s"},
        {"duration('0s')", "0"},
        {"duration('100h')", "100h"},
        {"duration('1us')", "1us"},
        {"duration('1ns')", "1ns"},
        {"duration('1ms500us')", "1.5ms"},
        {"duration('1.000000001s')", "1.000000001s"},
        {"duration('x')", "-"},
        {"duration('')", "-"},
        {"duration('5')", "-"},
        {"duration('1d')", "-"},
        {"duration('99999999999999999999h')", "-"},
        {"duration('1s') + duration('2s')", "3s"},
        {"duration('1h') > duration('1m')", "true"},
        {"duration('90m').getHours()", "1"},
        {"duration('90m').getMinutes()", "90"},
        {"duration('1.5s').getMilliseconds()", "500"},
        {"timestamp('2020-01-02T03:04:05Z')", "2020-01-02T03:04:05+00:00"},
        {"timestamp('2020-01-02T03:04:05.5Z')", "2020-01-02T03:04:05.5+00:00"},
        {"timestamp('2020-01-02T03:04:05+02:00')", "2020-01-02T01:04:05+00:00"},
        {"timestamp('2020-02-30T03:04:05Z')", "-"},
        {"timestamp('2020-01-02')", "-"},
        {"timestamp(0)", "1970-01-01T00:00:00+00:00"},
        {"timestamp(9223372036854775807)", "-"},
        {"int(timestamp('2020-01-02T03:04:05Z'))", "1577934245"},
        {"timestamp(0) - timestamp(1)", "-1s"},
        {"timestamp(0) + duration('1h')", "1970-01-01T01:00:00+00:00"},
        {"timestamp(0) - duration('1s')", "1969-12-31T23:59:59+00:00"},
        {"timestamp(0) + timestamp(0)", "-"},
        {"duration('1s') - timestamp(0)", "-"},
        {"timestamp('2020-01-02T03:04:05Z').getFullYear()", "2020"},
        {"timestamp('2020-01-02T03:04:05Z').getMonth()", "0"},
        {"timestamp('2020-01-02T03:04:05Z').getDate()", "2"},
        {"timestamp('2020-01-02T03:04:05Z').getDayOfMonth()", "1"},
        {"timestamp('2020-01-02T03:04:05Z').getDayOfWeek()", "4"},
        {"timestamp('2020-01-02T03:04:05Z').getDayOfYear()", "1"},
        {"timestamp('2020-01-02T03:04:05Z').getHours('+02:00')", "5"},
        {"timestamp('2020-01-02T03:04:05Z').getHours('Mars')", "-"},
        /* names */
        {"r.path", "/a/b"},
        {"r['path']", "/a/b"},
        {".r.path", "/a/b"},
        {"r.code >= 200 && r.code < 300u", "true"},
        {"r.nope", "-"},
        {"has(r.path)", "true"},
        {"has(r.nope)", "false"},
        {"has(r.h.x) && r.h.x == '1'", "true"},
        {"r.h['y']", "-"},
        {"'y' in r.h", "false"},
        {"size(r.h)", "1"},
        {"r.h == r.h", "-"},
        {"absent", "-"},
        {"absent.x || true", "true"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        expect(table[i][0], &plain, table[i][1], false);
}

static void options(void **state)
{
    (void)state;
    expect("'a' + 'b' + s", &more, "abtext", false);
    expect("b'a' + b'b'", &more, "ab", false);
    expect("'a' + b'b'", &more, "-", false);
    expect("string(1) + string(2u) + string(true) + string('x') + string(b'y')", &more, "12truexy",
           false);
    expect("string(1.5)", &more, "1.5", false);
    expect("string(duration('1.5s'))", &more, "1.500s", false);
    expect("string(timestamp(0))", &more, "1970-01-01T00:00:00Z", false);
    expect("string(b'\\xff')", &more, "-", false);
    expect("string(null)", &more, "-", false);
}

static void json(void **state)
{
    (void)state;
    expect("1", &plain, "1", true);
    expect("9223372036854775807", &plain, "9223372036854775807", true);
    expect("1.5", &plain, "1.5", true);
    expect("0.0/0.0", &plain, "\"NaN\"", true);
    expect("'a\"b'", &plain, "\"a\\\"b\"", true);
    expect("b'ab'", &plain, "\"YWI=\"", true);
    expect("true", &plain, "true", true);
    expect("null", &plain, "null", true);
    expect("[1,'a',{'k':[null]},{1:2}]", &plain, "[1,\"a\",{\"k\":[null]},{\"1\":2}]", true);
    expect("duration('-1.5s')", &plain, "\"-1.500s\"", true);
    expect("timestamp(0)", &plain, "\"1970-01-01T00:00:00Z\"", true);
    expect("r.h", &plain, "null", true);
    expect("[r.h]", &plain, "null", true);
    expect("1/0", &plain, "null", true);
    expect("int", &plain, "null", true);
}

static void from_json(void **state)
{
    struct arena a;
    struct strbuf out;
    (void)state;
    arena_init(&a);
    strbuf_init(&out, 1000);
    struct cel_value v =
        cel_from_json(SV("{\"a\":[1,2.5,\"x\",true,null],\"b\":{\"c\":\"true\"}}"), &a);
    assert_int_equal(v.type, CEL_MAP);
    assert_true(cel_to_json(&v, &out));
    assert_string_equal(out.p, "{\"a\":[1,2.5,\"x\",true,null],\"b\":{\"c\":\"true\"}}");
    assert_int_equal(cel_from_json(SV("7"), &a).type, CEL_DOUBLE);
    assert_int_equal(cel_from_json(SV(""), &a).type, CEL_ERROR);
    assert_int_equal(cel_from_json(SV("{"), &a).type, CEL_ERROR);
    strbuf_fini(&out);
    arena_free(&a);
}

static void refused(void **state)
{
    static const char *const table[][2] = {
        {"", "at 1: an expression is missing"},
        {"1 +", "at 4: an expression is missing"},
        {"'a' 'b'", "at 5: an operator is missing before ''b''"},
        {"(1", "at 3: ')' is missing"},
        {"[1", "at 3: ']' is missing"},
        {"{1", "at 3: ':' is missing"},
        {"{1:2", "at 5: '}' is missing"},
        {"f(1,)", "at 1: there is no function 'f'"},
        {"size(1,)", "at 8: an expression is missing before ')'"},
        {"r.", "at 3: the name of a field is missing"},
        {"r.1", "at 2: an operator is missing"},
        {"true ? 1", "at 9: ':' is missing"},
        {"'abc", "at 1: the string has no end"},
        {"'a\nb'", "at 1: the string has no end"},
        {"'a\\qb'", "at 3: is no escape"},
        {"b'\\u0041'", "at 3: is no escape"},
        {"'\\ud800'", "at 2: is no escape"},
        {"'\xff'", "at 1: the string is not UTF-8"},
        {"1 $ 2", "at 3: no expression has '$' here"},
        {"1 = 2", "at 3: no expression has '=' here"},
        {"99999999999999999999", "at 1: '99999999999999999999' is no number that fits"},
        {"9223372036854775808", "at 1: '9223372036854775808' is no number that fits"},
        {"if", "at 1: 'if' is a reserved word"},
        {"nope", "at 1: there is no 'nope'"},
        {"1 == nope.x", "at 6: there is no 'nope'"},
        {"r.never", "at 3: 'r' has no 'never'"},
        {"r['never']", "at 3: 'r' has no 'never'"},
        {"has(r)", "at 1: has() takes one field"},
        {"has(r.a, r.b)", "at 1: has() takes one field"},
        {"size()", "at 1: 'size' takes 1 argument, not 0"},
        {"'abc'.contains()", "at 7: 'contains' takes 1 argument, not 0"},
        {"contains('a', 'b')", "at 1: there is no function 'contains'"},
        {"'a'.foo()", "at 5: there is no function 'foo' of a value"},
        {"[1].all(x, x > 0)", "at 5: the macro 'all' over a list is not supported"},
        {"string(1)", "at 1: string() needs cel_config.enable_string_conversion"},
        {"'a'.matches('(')", "at 13: "},
        {"a[?1]", "at 1: there is no 'a'"},
        {"Foo{a: 1}", "at 1: there is no 'Foo'"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct arena a;
        struct error err = {0};
        const struct cel *c = NULL;
        arena_init(&a);
        if (cel_compile(sv_of(table[i][0]), &plain, &a, &c, &err) == 0)
            fail_msg("%s is accepted", table[i][0]);
        if (!sv_starts(sv_of(err.msg), sv_of(table[i][1])))
            fail_msg("%s: '%s', not '%s'", table[i][0], err.msg, table[i][1]);
        assert_null(c);
        arena_free(&a);
    }
}

/* unit n times, then the end. */
static int compile_many(const char *unit, int n, const char *middle, const char *end)
{
    struct arena a;
    struct error err = {0};
    const struct cel *c;
    struct strbuf text;
    arena_init(&a);
    strbuf_init(&text, 1 << 20);
    for (int i = 0; i < n; i++)
        strbuf_add_c(&text, unit);
    strbuf_add_c(&text, middle);
    for (int i = 0; *end && i < n; i++)
        strbuf_add_c(&text, end);
    int rc = cel_compile(strbuf_sv(&text), &plain, &a, &c, &err);
    if (rc == 0) {
        struct cel_env e = {.root = root, .arena = &a};
        (void)cel_eval(c, &e);
    }
    strbuf_fini(&text);
    arena_free(&a);
    return rc;
}

static void limits(void **state)
{
    (void)state;
    assert_int_equal(compile_many("(", 30, "1", ")"), 0);
    assert_int_equal(compile_many("(", 40, "1", ")"), E_LIMIT);
    assert_int_equal(compile_many("(", 10000, "1", ")"), E_LIMIT);
    assert_int_equal(compile_many("[", 40, "1", "]"), E_LIMIT);
    assert_int_equal(compile_many("true ? 1 : ", 40, "1", ""), E_LIMIT);
    assert_int_equal(compile_many("-", 10000, "1", ""), 0);
    assert_int_equal(compile_many("!", 10001, "true", ""), 0);
    assert_int_equal(compile_many("true && ", 150, "true", ""), 0);
    assert_int_equal(compile_many("true && ", 300, "true", ""), E_LIMIT);
    assert_int_equal(compile_many("1,", 0, "[1]", ""), 0);
    assert_int_equal(compile_many("1 +", 20000, "1", ""), E_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),    cmocka_unit_test(options), cmocka_unit_test(json),
        cmocka_unit_test(from_json), cmocka_unit_test(refused), cmocka_unit_test(limits),
    };
    return cmocka_run_group_tests_name("cel", tests, NULL, NULL);
}
