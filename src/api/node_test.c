#include <stdio.h>
#include "api/node.h"
#include "api/pb_test.h"

static const struct node *parse(const char *text)
{
    struct node *n;
    err = (struct error){0};
    int rc = node_parse(sv_of(text), "f.yaml", &a, &n, &err);
    if (rc < 0)
        fail_msg("%s", err.msg);
    return n;
}

static void fails(const char *text, const char *want)
{
    struct node *n = (struct node *)&err;
    err = (struct error){0};
    assert_true(node_parse(sv_of(text), "f.yaml", &a, &n, &err) < 0);
    assert_string_equal(err.msg, want);
    assert_ptr_equal(n, &err);
}

static void is_json(const char *text, const char *want)
{
    struct strbuf s;
    strbuf_init(&s, 1 << 20);
    node_to_json(parse(text), &s);
    assert_string_equal(s.p, want);
    strbuf_fini(&s);
}

static void yaml(void **state)
{
    const struct node *n = parse("# comment\n"
                                 "metadata:\n"
                                 "  name: flaskapp\n"
                                 "  labels: {version: v1, 'quoted': \"yes\"}\n"
                                 "list:\n"
                                 "- 1\n"
                                 "- ~\n"
                                 "-\n"
                                 "- |\n"
                                 "  two\n"
                                 "  lines\n"
                                 "on: true\n");
    assert_int_equal(n->kind, NODE_MAP);
    assert_int_equal(n->n, 3);
    assert_int_equal(n->line, 2);
    assert_string_equal(n->file, "f.yaml");
    assert_true(sv_eq(n->keys[1], SV("list")));
    assert_int_equal(n->key_lines[1], 5);
    const struct node *version = node_path(n, "metadata.labels.version");
    assert_true(sv_eq(version->text, SV("v1")));
    assert_int_equal(version->line, 4);
    assert_int_equal(version->column, 21);
    assert_false(version->quoted);
    assert_true(node_path(n, "metadata.labels.quoted")->quoted);
    const struct node *list = node_get(n, "list");
    assert_int_equal(list->kind, NODE_SEQ);
    assert_int_equal(list->n, 4);
    assert_int_equal(list->v[1]->kind, NODE_NULL);
    assert_int_equal(list->v[2]->kind, NODE_NULL);
    assert_true(sv_eq(list->v[3]->text, SV("two\nlines\n")));
    assert_true(list->v[3]->quoted);
    assert_null(node_get(n, "absent"));
    assert_null(node_get(NULL, "x"));
    assert_null(node_get(list, "x"));
    assert_null(node_path(n, "metadata.labels.version.deeper"));
    assert_true(node_bool(n, "on", false));
    assert_true(node_bool(n, "list", true)); /* no scalar: the default */
    assert_false(node_str(n, "list").p != NULL);
    assert_null(node_str(n, "absent").p);
}

static void scalars(void **state)
{
    const struct node *n = parse("{i: 42, neg: -7, s: '42', e: '', t: yes, f: Off, q: \"true\"}");
    assert_int_equal(node_int(n, "i", 0), 42);
    assert_int_equal(node_int(n, "neg", 0), -7);
    assert_int_equal(node_int(n, "s", 0), 42);
    assert_int_equal(node_int(n, "t", 5), 5);
    assert_non_null(node_str(n, "e").p);
    assert_int_equal(node_str(n, "e").n, 0);
    assert_true(node_bool(n, "t", false));
    assert_false(node_bool(n, "f", true));
    assert_false(node_bool(n, "q", false)); /* quoted: a string */
}

static void json(void **state)
{
    const struct node *n = parse(" {\"a\": [1, -2.5e3, true, null, {}, []],\r\n"
                                 "\t\"b\\u00e9\\n\": \"x\\\\\\\"\\/\\ud83d\\ude00\",\n"
                                 "  \"c\": {\"d\": \"e\"}}\n");
    assert_int_equal(n->n, 3);
    assert_int_equal(node_get(n, "a")->n, 6);
    assert_int_equal(node_get(n, "a")->v[3]->kind, NODE_NULL);
    assert_int_equal(node_get(n, "a")->v[4]->kind, NODE_MAP);
    assert_true(sv_eq(n->keys[1], SV("b\xc3\xa9\n")));
    assert_true(sv_eq(n->v[1]->text, SV("x\\\"/\xf0\x9f\x98\x80")));
    assert_int_equal(n->key_lines[2], 3);
    assert_int_equal(node_path(n, "c.d")->line, 3);
    assert_int_equal(node_path(n, "c.d")->column, 14);
    assert_true(node_path(n, "c.d")->quoted);
}

/* What is no strict JSON but still YAML is read as YAML. */
static void nearly_json(void **state)
{
    is_json("{\"a\": 1,}", "{\"a\":1}");
    is_json("{a: 1, # why\n b: [x, y,],}", "{\"a\":1,\"b\":[\"x\",\"y\"]}");
    is_json("{\"a\": 'single'}", "{\"a\":\"single\"}");
    fails("{\"a\": 1", "f.yaml:1: did not find expected ',' or '}', while parsing a flow mapping "
                       "that begins in line 1");
    fails("{\"a\": \"\\ud800\"}", "f.yaml:1: \\ud800 is not a character");
    fails("{\"a\": \"\\u0000\"}", "f.yaml:1: \\u0000 is not a character");
    fails("{\"a\": 1,\n \"b\": 2,\n\n \"a\": 3}",
          "f.yaml:4: key \"a\" is given twice (first in line 1)");
}

static void to_json(void **state)
{
    is_json("a: 1\nb: 'x\"y'\nc: [true, no, ~, 007, 1e3, .5, -0]\nd: {}\ne: []\n",
            "{\"a\":1,\"b\":\"x\\\"y\",\"c\":[true,false,null,\"007\",1e3,\".5\",-0],"
            "\"d\":{},\"e\":[]}");
    struct strbuf s;
    strbuf_init(&s, 100);
    node_to_json(NULL, &s);
    assert_string_equal(s.p, "null");
    strbuf_fini(&s);
}

static void errors(void **state)
{
    fails("a: 1\nb: 2\na: 3\n", "f.yaml:3: key \"a\" is given twice (first in line 1)");
    fails("a:\n  b: 1\n c: 2\n",
          "f.yaml:3: did not find expected key, while parsing a block mapping "
          "that begins in line 1");
    fails("a:\n\tb: 1\n",
          "f.yaml:2: found character that cannot start any token, while scanning for "
          "the next token that begins in line 2. Indent with spaces, YAML takes no tabs");
    fails("a: !!binary aGk=\n", "f.yaml:1: tag tag:yaml.org,2002:binary is not supported");
    fails("a: !local {}\n", "f.yaml:1: tag !local is not supported");
    fails("a: !local [1]\n", "f.yaml:1: tag !local is not supported");
    fails("a: \"x\\0y\"\n", "f.yaml:1: contains a NUL byte");
    fails("? [a]\n: 1\n", "f.yaml:1: a key must be a scalar");
    fails("a: *b\n", "f.yaml:1: an alias of an anchor that is not defined");
    fails("a: &x [*x]\n", "f.yaml:1: an alias inside the node that it names");
    fails("", "f.yaml:1: empty");
    fails("# nothing\n---\n...\n", "f.yaml:1: empty");
    fails("a: 1\n---\nb: 2\n", "f.yaml:3: a second document, where only one is expected");
    fails("a: \xff\n", "f.yaml:1: not valid UTF-8 text (invalid leading UTF-8 octet)");
    struct node *n;
    assert_int_equal(node_parse(SV("a: 1\nb: x\0y\n"), "f.yaml", &a, &n, &err), E_INVALID);
    assert_string_equal(err.msg, "f.yaml:2: contains a NUL byte");
}

static void many_keys(void **state)
{
    struct strbuf s;
    struct node *n;
    strbuf_init(&s, 1 << 20);
    for (int i = 0; i < 1000; i++)
        strbuf_addf(&s, "key%d: %d\n", i, i);
    assert_int_equal(node_parse(strbuf_sv(&s), "f.yaml", &a, &n, &err), 0);
    assert_int_equal(n->n, 1000);
    strbuf_addf(&s, "key500: x\n");
    assert_int_equal(node_parse(strbuf_sv(&s), "f.yaml", &a, &n, &err), E_INVALID);
    assert_string_equal(err.msg, "f.yaml:1001: key \"key500\" is given twice (first in line 501)");
    strbuf_fini(&s);
}

static void nested(const char *open, const char *close, int levels, int want)
{
    struct strbuf s;
    struct node *n;
    strbuf_init(&s, 1 << 22);
    for (int i = 0; i < levels; i++)
        strbuf_add_c(&s, open);
    for (int i = 0; i < levels; i++)
        strbuf_add_c(&s, close);
    assert_int_equal(node_parse(strbuf_sv(&s), "f.yaml", &a, &n, &err), want);
    strbuf_fini(&s);
}

static void depth(void **state)
{
    nested("[", "]", 100, 0);
    nested("[", "]", 101, E_LIMIT);
    assert_string_equal(err.msg, "f.yaml:1: nested deeper than 100");
    nested("[", "]", 100000, E_LIMIT);
    nested("{\"a\":", "}", 100000, E_LIMIT); /* not JSON: no value inside; the limit comes first */
    nested("{a: ", "}", 100, 0);
    nested("{a: ", "}", 101, E_LIMIT);
    nested("- ", "", 101, E_LIMIT);
}

static void size(void **state)
{
    struct node *n;
    assert_int_equal(node_parse(sv_make("", ((size_t)64 << 20) + 1), "f.yaml", &a, &n, &err),
                     E_LIMIT);
    assert_string_equal(err.msg, "f.yaml:1: larger than 64 MiB");
}

static void anchors(void **state)
{
    is_json("base: &b {x: 1, y: [2]}\ncopy: *b\nlist: [*b, &s str, *s]\n",
            "{\"base\":{\"x\":1,\"y\":[2]},\"copy\":{\"x\":1,\"y\":[2]},"
            "\"list\":[{\"x\":1,\"y\":[2]},\"str\",\"str\"]}");
    is_json("d: &d {x: 1, y: 2}\ne: {<<: *d, y: 3, z: 4}\n",
            "{\"d\":{\"x\":1,\"y\":2},\"e\":{\"y\":3,\"z\":4,\"x\":1}}");
    is_json("[{<<: [&p {x: 1}, &q {x: 2, y: 2}], z: 3}, *p, *q]",
            "[{\"z\":3,\"x\":1,\"y\":2},{\"x\":1},{\"x\":2,\"y\":2}]");
    fails("{<<: 1}", "f.yaml:1: \"<<\" needs a mapping or a list of mappings");
    fails("{a: &a 1, *a : 2}", "f.yaml:1: an alias cannot be a key");
}

/* Nine levels of nine: 3.8 * 10^8 nodes if they were written out. */
static void billion_laughs(void **state)
{
    struct strbuf s;
    struct node *n;
    strbuf_init(&s, 1 << 20);
    strbuf_add_c(&s, "a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for (int i = 1; i <= 8; i++) {
        strbuf_addf(&s, "a%d: &a%d [", i, i);
        for (int k = 0; k < 9; k++)
            strbuf_addf(&s, "%s*a%d", k ? ", " : "", i - 1);
        strbuf_add_c(&s, "]\n");
    }
    assert_int_equal(node_parse(strbuf_sv(&s), "f.yaml", &a, &n, &err), E_LIMIT);
    assert_string_equal(err.msg, "f.yaml:6: aliases expand to too much");
    strbuf_fini(&s);
}

static void documents(void **state)
{
    sv text = SV("# first\n"
                 "a: 1\n"
                 "---\n"
                 "---\n"
                 "# only a comment\n"
                 "--- # third\n"
                 "b: [broken\n"
                 "...\n"
                 "%YAML 1.2\n"
                 "--- {\"c\": 3}\n"
                 "---\n"
                 "d: |\n"
                 "  --- not a marker\n"
                 "---not-a-marker: 1\n");
    size_t pos = 0;
    uint32_t line = 1;
    struct node *n;
    assert_int_equal(node_parse_next(text, &pos, &line, "f", &a, &n, &err), 0);
    assert_true(sv_eq(n->keys[0], SV("a")));
    assert_int_equal(n->line, 2);
    assert_int_equal(line, 3);
    assert_int_equal(node_parse_next(text, &pos, &line, "f", &a, &n, &err), E_INVALID);
    assert_string_equal(err.msg, "f:8: did not find expected ',' or ']', while parsing a flow "
                                 "sequence that begins in line 7");
    /* The broken one is passed over; what follows it is read. */
    assert_int_equal(node_parse_next(text, &pos, &line, "f", &a, &n, &err), 0);
    assert_int_equal(node_int(n, "c", 0), 3);
    assert_int_equal(n->line, 10);
    assert_int_equal(node_parse_next(text, &pos, &line, "f", &a, &n, &err), 0);
    assert_int_equal(n->n, 2);
    assert_true(sv_eq(node_str(n, "d"), SV("--- not a marker\n")));
    assert_int_equal(n->key_lines[1], 14);
    assert_int_equal(node_parse_next(text, &pos, &line, "f", &a, &n, &err), E_EOF);
    assert_int_equal(pos, text.n);
}

/* Every prefix of a document parses or fails with a line; nothing else. */
static void every_prefix(void **state)
{
    static const char *const texts[] = {
        "a: &x {b: [1, \"two\", 'three'], c: |\n  text\n}\nd: *x\ne: >-\n  f\n--- \n- <<: {}\n",
        "{\"a\": [1, -2.5e3, true, null, {}, []], \"b\\u00e9\": \"\\ud83d\\ude00\"}"};
    for (int t = 0; t < 2; t++) {
        for (size_t n = 0; n <= strlen(texts[t]); n++) {
            char *copy = malloc(n ? n : 1);
            memcpy(copy, texts[t], n);
            size_t pos = 0;
            uint32_t line = 1;
            struct node *out;
            int rc;
            do {
                err = (struct error){0};
                rc = node_parse_next(sv_make(copy, n), &pos, &line, "f", &a, &out, &err);
                if (rc < 0 && rc != E_EOF)
                    assert_true(strncmp(err.msg, "f:", 2) == 0);
            } while (rc != E_EOF);
            free(copy);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(yaml),           TEST(scalars),   TEST(json),         TEST(nearly_json), TEST(to_json),
        TEST(errors),         TEST(many_keys), TEST(depth),        TEST(size),        TEST(anchors),
        TEST(billion_laughs), TEST(documents), TEST(every_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
