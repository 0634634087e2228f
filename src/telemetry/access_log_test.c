/* access logs: formats, filters, files, what is refused. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "api/google.pb.h"
#include "telemetry/access_log.h"
#include "telemetry/access_log_file.h"
#include "telemetry/stats.h"

static struct arena a;
static struct error err;
static char dir[64];

static int setup(void **state)
{
    arena_init(&a);
    err = (struct error){0};
    strcpy(dir, "/tmp/weft-log-XXXXXX");
    assert_non_null(mkdtemp(dir));
    return 0;
}

static int teardown(void **state)
{
    char cmd[100];
    snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
    assert_int_equal(system(cmd), 0);
    arena_free(&a);
    return 0;
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

static const void *from_yaml(const struct pb_message *type, const char *text)
{
    void *m = NULL;
    if (pb_from_text(type, sv_of(text), "test", &a, NULL, &m, &err) != 0)
        fail_msg("%s\n%s", err.msg, text);
    return m;
}

static const char *read_all(const char *name)
{
    char path[200], *text = arena_zalloc(&a, 1 << 20);
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return "(no file)";
    ssize_t n = read(fd, text, (1 << 20) - 1);
    assert_true(n >= 0);
    close(fd);
    return text;
}

static void stream(struct stream_info *si, struct http_head *req, struct stream_conn *down)
{
    stream_info_init(si, &a);
    http_head_init(req, &a);
    *down = (struct stream_conn){.id = 7, .remote = SV("10.0.0.1:5")};
    req->method = SV("GET");
    req->path = SV("/p\"\n");
    req->authority = SV("h");
    si->req = req;
    si->down = down;
    si->response_code = 200;
    si->start_ns = 1000000;
    si->end_ns = 4000000;
    si->bytes_sent = 411;
}

/* ---- formats ---- */

static void assert_format(const char *yaml, const struct substitution_ctx *c, const char *want)
{
    struct log_format f;
    if (log_format_build(from_yaml(&envoy_SubstitutionFormatString_pb, yaml), SUBSTITUTION_LOG, "f",
                         &a, &f, &err) != 0)
        fail_msg("%s", err.msg);
    struct strbuf b;
    strbuf_init(&b, 10000);
    log_format_eval(&f, c, &b);
    assert_string_equal(b.p, want);
    strbuf_fini(&b);
}

/* Shapes as Envoy 1.40 printed them. */
static void test_json(void **state)
{
    struct stream_info si;
    struct http_head req;
    struct stream_conn down;
    stream(&si, &req, &down);
    struct substitution_ctx c = {.si = &si};
    assert_format(
        "{json_format: {z: '%RESPONSE_CODE%', a: '%PROTOCOL%', m: 'x%RESPONSE_CODE%', n: {q: "
        "'%REQ(nope)%', d: '%DURATION%', l: [1, true, '%BYTES_SENT%', null]}, f: "
        "'%RESPONSE_FLAGS%', b: true, k: 1.5, up: '%UPSTREAM_HOST%', e: '', pct: '100%%', mt: "
        "'%REQ(nope)%-%REQ(:PATH):3%', 'q\"': '%REQ(:PATH)%', big: 123456789012}}",
        &c,
        "{\"a\":\"HTTP/1.1\",\"b\":true,\"big\":123456789012,\"e\":\"\",\"f\":\"-\",\"k\":1.5,"
        "\"m\":\"x200\",\"mt\":\"--/p\\\"\",\"n\":{\"d\":3,\"l\":[1,true,411,null],\"q\":null},"
        "\"pct\":\"100%\",\"q\\\"\":\"/p\\\"\\n\",\"up\":null,\"z\":200}");
    assert_format("{omit_empty_values: true, json_format: {a: '%REQ(nope)%', b: {c: "
                  "'%REQ(nope)%'}, d: ['%REQ(nope)%'], e: '%RESPONSE_CODE%', f: "
                  "'%REQ(nope)%'}}",
                  &c, "{\"b\":{},\"d\":[null],\"e\":200}");
    assert_format("{json_format: {}}", &c, "{}");
    assert_format("{text_format_source: {inline_string: \"%REQ(:PATH)% %RESPONSE_CODE%\\n\"}}", &c,
                  "/p\\\"\\n 200\n");
    assert_format("{text_format: '<%REQ(nope)%>', omit_empty_values: true}", &c, "<>");
    assert_format("{text_format: '%REQ_WITHOUT_QUERY(:METHOD)%', formatters: [{name: x, "
                  "typed_config: {'@type': type.googleapis.com/"
                  "envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery}}]}",
                  &c, "GET");
}

static void test_refused(void **state)
{
    static const struct {
        const char *yaml, *want;
    } cases[] = {
        {"[{name: x}]", "log[0].typed_config: 'x' () is not a supported access log"},
        {"[{name: x, typed_config: {'@type': type.googleapis.com/google.protobuf.Empty}}]",
         "log[0].typed_config: 'x' (google.protobuf.Empty) is not"},
#define FILE_LOG(x)                                                                                \
    "[{typed_config: {'@type': type.googleapis.com/"                                               \
    "envoy.extensions.access_loggers.file.v3.FileAccessLog, path: /tmp/x, " x "}}]"
        {FILE_LOG("format: '%NOPE%'"), "log[0].typed_config.format: '%NOPE%' is not an operator"},
        {FILE_LOG("json_format: {a: {b: ['x', '%NOPE%']}}"),
         "log[0].typed_config.json_format.a.b[1]: '%NOPE%' is not an operator"},
        {FILE_LOG("log_format: {text_format_source: {inline_string: '%'}}"),
         "log[0].typed_config.log_format: '%' is no %OPERATOR"},
        {FILE_LOG("log_format: {}"), "log[0].typed_config.log_format: one of text_format_source"},
        {FILE_LOG("log_format: {text_format: a, formatters: [{name: cel}]}"),
         "log[0].typed_config.log_format.formatters[0]: 'cel' () is not supported"},
        {"[{typed_config: {'@type': type.googleapis.com/"
         "envoy.extensions.access_loggers.file.v3.FileAccessLog}}]",
         "log[0].typed_config.path: must not be empty"},
#define FILTER(x)                                                                                  \
    "[{filter: {" x "}, typed_config: {'@type': type.googleapis.com/"                              \
    "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog}}]"
        {FILTER(""), "log[0].filter: names no filter"},
        {FILTER("status_code_filter: {}"),
         "log[0].filter.status_code_filter.comparison.value: must be set"},
        {FILTER("and_filter: {filters: [{not_health_check_filter: {}}]}"),
         "log[0].filter.and_filter.filters: needs two or more"},
        {FILTER("or_filter: {filters: [{not_health_check_filter: {}}, {response_flag_filter: "
                "{flags: [UH, XX]}}]}"),
         "log[0].filter.or_filter.filters[1].response_flag_filter.flags[1]: 'XX' is no response"},
        {FILTER("header_filter: {}"), "log[0].filter.header_filter.header: must be set"},
        {FILTER("extension_filter: {name: lua}"),
         "log[0].filter.extension_filter: 'lua' () is not supported"},
        {FILTER("extension_filter: {typed_config: {'@type': type.googleapis.com/"
                "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter, expression: "
                "'request.pat == 1'}}"),
         "log[0].filter.extension_filter.typed_config.expression: at 9: 'request' has no 'pat'"},
        {FILTER("header_filter: {header: {name: ''}}"),
         "log[0].filter.header_filter.header.name: '' is no header name"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char yaml[2000];
        snprintf(yaml, sizeof(yaml), "{name: hcm, access_log: %s}", cases[i].yaml);
        const struct envoy_Listener *l = from_yaml(&envoy_Listener_pb, yaml);
        err = (struct error){0};
        assert_true(access_log_check(l->access_log.v, l->access_log.n, "log", &err) < 0);
        if (!strstr(err.msg, cases[i].want))
            fail_msg("'%s' lacks '%s'", err.msg, cases[i].want);
    }
    assert_int_equal(access_log_check(NULL, 0, "log", &err), 0);
}

/* ---- filters ---- */

static bool passes(const char *yaml, const struct substitution_ctx *c, uint64_t random)
{
    const struct access_log_filter *f = NULL;
    if (access_log_filter_build(from_yaml(&envoy_AccessLogFilter_pb, yaml), "f", NULL, &a, &f,
                                &err) != 0)
        fail_msg("%s: %s", yaml, err.msg);
    return access_log_filter_pass(f, c, random);
}

#define COMPARE(kind, op, v)                                                                       \
    "{" kind ": {comparison: {op: " op ", value: {default_value: " v ", runtime_key: k}}}}"

static void test_filters(void **state)
{
    struct stream_info si;
    struct http_head req;
    struct stream_conn down;
    stream(&si, &req, &down);
    struct substitution_ctx c = {.si = &si};
    assert_true(access_log_filter_pass(NULL, &c, 0));
    assert_true(passes(COMPARE("status_code_filter", "EQ", "200"), &c, 0));
    assert_false(passes(COMPARE("status_code_filter", "NE", "200"), &c, 0));
    assert_true(passes(COMPARE("status_code_filter", "GE", "200"), &c, 0));
    assert_false(passes(COMPARE("status_code_filter", "GE", "201"), &c, 0));
    assert_true(passes(COMPARE("duration_filter", "LE", "3"), &c, 0));
    assert_false(passes(COMPARE("duration_filter", "LE", "2"), &c, 0));
    assert_true(passes("{not_health_check_filter: {}}", &c, 0));
    si.health_check = true;
    assert_false(passes("{not_health_check_filter: {}}", &c, 0));
    assert_false(passes("{traceable_filter: {}}", &c, 0));
    assert_false(passes("{response_flag_filter: {}}", &c, 0));
    si.flags = STREAM_FLAG_UH;
    assert_true(passes("{response_flag_filter: {}}", &c, 0));
    assert_true(passes("{response_flag_filter: {flags: [UF, UH]}}", &c, 0));
    assert_false(passes("{response_flag_filter: {flags: [UF]}}", &c, 0));
    assert_true(passes("{header_filter: {header: {name: ':method', string_match: {exact: "
                       "GET}}}}",
                       &c, 0));
    assert_true(
        passes("{runtime_filter: {runtime_key: k, percent_sampled: {numerator: 30}}}", &c, 129));
    assert_false(
        passes("{runtime_filter: {runtime_key: k, percent_sampled: {numerator: 30}}}", &c, 130));
    si.request_id = SV("0000001d-rest"); /* 29: the id decides, unless told otherwise */
    assert_true(
        passes("{runtime_filter: {runtime_key: k, percent_sampled: {numerator: 30}}}", &c, 130));
    assert_false(passes("{runtime_filter: {runtime_key: k, percent_sampled: {numerator: 30}, "
                        "use_independent_randomness: true}}",
                        &c, 130));
    assert_false(passes("{runtime_filter: {runtime_key: k}}", &c, 0));
#define EXPRESSION(x)                                                                              \
    "{extension_filter: {name: x, typed_config: {'@type': type.googleapis.com/"                    \
    "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter, expression: \"" x "\"}}}"
    assert_true(passes(EXPRESSION("response.code == 200"), &c, 0));
    assert_false(passes(EXPRESSION("response.code != 200"), &c, 0));
    assert_false(passes(EXPRESSION("response.code"), &c, 0));
    assert_false(passes(EXPRESSION("request.headers['none'] == 'x'"), &c, 0));
    assert_false(passes(EXPRESSION("request.headers['none'] != 'x'"), &c, 0)); /* it fails */
    assert_true(passes(EXPRESSION("1/0 == 1 || request.method == 'GET'"), &c, 0));
    assert_true(passes("{grpc_status_filter: {statuses: [UNKNOWN]}}", &c, 0));
    assert_false(passes("{grpc_status_filter: {statuses: [UNKNOWN], exclude: true}}", &c, 0));
    assert_false(passes("{log_type_filter: {types: [DownstreamEnd]}}", &c, 0));
    c.log_type = "DownstreamEnd";
    assert_true(passes("{log_type_filter: {types: [DownstreamEnd]}}", &c, 0));
    assert_true(passes("{and_filter: {filters: [" COMPARE("status_code_filter", "EQ",
                                                          "200") ", "
                                                                 "{response_flag_filter: {}}]}}",
                       &c, 0));
    assert_false(passes("{and_filter: {filters: [" COMPARE("status_code_filter", "EQ",
                                                           "201") ", "
                                                                  "{response_flag_filter: {}}]}}",
                        &c, 0));
    assert_true(passes("{or_filter: {filters: [" COMPARE("status_code_filter", "EQ",
                                                         "201") ", "
                                                                "{response_flag_filter: {}}]}}",
                       &c, 0));
}

/* ---- files ---- */

static const struct access_log *build(struct access_log_sinks *s, struct arena *into)
{
    char yaml[1000];
    snprintf(yaml, sizeof(yaml),
             "{name: l, access_log: [{typed_config: {'@type': type.googleapis.com/"
             "envoy.extensions.access_loggers.file.v3.FileAccessLog, path: %s/one, format: "
             "\"%%RESPONSE_CODE%% %%REQ(:PATH)%%\\n\"}}, {filter: {response_flag_filter: {}}, "
             "typed_config: {'@type': type.googleapis.com/"
             "envoy.extensions.access_loggers.file.v3.FileAccessLog, path: %s/two, json_format: "
             "{c: '%%RESPONSE_CODE%%'}}}]}",
             dir, dir);
    const struct envoy_Listener *l = from_yaml(&envoy_Listener_pb, yaml);
    const struct access_log *log = NULL;
    if (access_log_build(l->access_log.v, l->access_log.n, s, "access_log", into, &log, &err) != 0)
        fail_msg("%s", err.msg);
    return log;
}

static void test_files(void **state)
{
    struct stats *st = stats_new();
    struct access_log_sinks *s = access_log_sinks_new(st);
    struct access_log_writer *w = access_log_writer_new(s);
    struct arena conf;
    arena_init_malloc(&conf);
    const struct access_log *log = build(s, &conf);
    struct stream_info si;
    struct http_head req;
    struct stream_conn down;
    stream(&si, &req, &down);
    struct substitution_ctx c = {.si = &si};
    access_log_write(log, w, &c, 0);
    access_log_write(NULL, w, &c, 0);
    assert_string_equal(read_all("one"), "");
    access_log_writer_flush(w);
    access_log_sinks_sync(s);
    assert_string_equal(read_all("one"), "200 /p\\\"\\n\n");
    assert_string_equal(read_all("two"), "");
    si.flags = STREAM_FLAG_UH;
    si.response_code = 503;
    access_log_write(log, w, &c, 0);
    /* The configuration goes away while its lines wait. */
    arena_free(&conf);
    access_log_writer_flush(w);
    access_log_writer_flush(w);
    access_log_sinks_sync(s);
    assert_string_equal(read_all("one"), "200 /p\\\"\\n\n503 /p\\\"\\n\n");
    assert_string_equal(read_all("two"), "{\"c\":503}\n");
    uint64_t v = 0;
    assert_true(stats_find(st, SV("filesystem.write_buffered"), &v));
    assert_int_equal(v, 3);
    assert_true(stats_find(st, SV("filesystem.flushed_by_timer"), &v));
    assert_int_equal(v, 3);
    assert_true(stats_find(st, SV("filesystem.write_total_buffered"), &v));
    assert_int_equal(v, 0);
    access_log_writer_free(w);
    access_log_writer_free(NULL);
    access_log_sinks_free(s);
    access_log_sinks_free(NULL);
    stats_free(st);
}

static void add_line(struct access_log_writer *w, struct access_log_sink *k, const char *text)
{
    strbuf_add_c(access_log_writer_buf(w, k), text);
    access_log_writer_done(w, k);
}

static struct access_log_sink *open_sink(struct access_log_sinks *s, const char *name)
{
    char path[200];
    struct access_log_sink *k = NULL;
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    if (access_log_sink_open(s, sv_of(path), &k, &err) != 0)
        fail_msg("%s", err.msg);
    return k;
}

static void test_reopen(void **state)
{
    struct access_log_sinks *s = access_log_sinks_new(NULL);
    struct access_log_writer *w = access_log_writer_new(s);
    struct access_log_sink *k = open_sink(s, "log"), *same = open_sink(s, "log");
    assert_ptr_equal(k, same);
    add_line(w, k, "before\n");
    access_log_writer_flush(w);
    access_log_sinks_sync(s);
    char from[200], to[200];
    snprintf(from, sizeof(from), "%s/log", dir);
    snprintf(to, sizeof(to), "%s/log.1", dir);
    assert_int_equal(rename(from, to), 0);
    access_log_sinks_reopen(s);
    access_log_sinks_sync(s);
    add_line(w, k, "after\n");
    access_log_sink_unref(k);
    access_log_sink_unref(same);
    access_log_writer_free(w); /* hands over what it has */
    access_log_sinks_free(s);  /* and this writes it */
    assert_string_equal(read_all("log.1"), "before\n");
    assert_string_equal(read_all("log"), "after\n");
}

static void test_cannot_open(void **state)
{
    struct access_log_sinks *s = access_log_sinks_new(NULL);
    struct access_log_sink *k = NULL;
    assert_int_equal(access_log_sink_open(s, SV("/nonexistent/dir/log"), &k, &err), E_IO);
    assert_string_equal(err.msg, "'/nonexistent/dir/log' cannot be opened for appending: No such "
                                 "file or directory");
    assert_int_equal(access_log_sink_open(s, (sv){0}, &k, &err), E_INVALID);
    assert_null(k);
    access_log_sinks_free(s);
}

#define THREADS 3
#define LINES   20000

struct load {
    struct access_log_sinks *s;
    struct access_log_sink *k;
    int id;
};

static void *log_lines(void *arg)
{
    struct load *l = arg;
    struct access_log_writer *w = access_log_writer_new(l->s);
    for (int i = 0; i < LINES; i++) {
        char text[100];
        snprintf(text, sizeof(text), "%d %d abcdefghijklmnopqrstuvwxyz\n", l->id, i);
        add_line(w, l->k, text);
        if (i % 5000 == 0)
            access_log_writer_flush(w);
    }
    access_log_writer_free(w);
    return NULL;
}

static void test_threads(void **state)
{
    struct access_log_sinks *s = access_log_sinks_new(NULL);
    struct load l[THREADS];
    pthread_t t[THREADS];
    for (int i = 0; i < THREADS; i++) {
        l[i] = (struct load){s, open_sink(s, i % 2 ? "odd" : "even"), i};
        pthread_create(&t[i], NULL, log_lines, &l[i]);
    }
    for (int i = 0; i < 10; i++)
        access_log_sinks_reopen(s);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(t[i], NULL);
        access_log_sink_unref(l[i].k);
    }
    access_log_sinks_free(s);
    /* Every line whole, each writer's in order. */
    int next[THREADS] = {0};
    for (int f = 0; f < 2; f++) {
        char path[200], line[200], want[200];
        snprintf(path, sizeof(path), "%s/%s", dir, f ? "odd" : "even");
        FILE *in = fopen(path, "r");
        while (fgets(line, sizeof(line), in)) {
            int id = line[0] - '0';
            assert_in_range(id, 0, THREADS - 1);
            snprintf(want, sizeof(want), "%d %d abcdefghijklmnopqrstuvwxyz\n", id, next[id]++);
            assert_string_equal(line, want);
        }
        fclose(in);
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(next[i], LINES);
}

/* A reader that does not keep up: lines are dropped and counted, the worker goes on. */
static void test_slow_sink(void **state)
{
    char path[200];
    snprintf(path, sizeof(path), "%s/pipe", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    int reader = open(path, O_RDONLY | O_NONBLOCK);
    assert_true(reader >= 0);
    struct stats *st = stats_new();
    struct access_log_sinks *s = access_log_sinks_new(st);
    struct access_log_writer *w = access_log_writer_new(s);
    struct access_log_sink *k = open_sink(s, "pipe");
    char line[1001];
    memset(line, 'x', 1000);
    line[999] = '\n';
    line[1000] = 0;
    for (int i = 0; i < 20000; i++)
        add_line(w, k, line);
    uint64_t dropped = 0, buffered = 0;
    assert_true(stats_find(st, SV("filesystem.write_dropped"), &dropped));
    assert_true(stats_find(st, SV("filesystem.write_total_buffered"), &buffered));
    assert_true(dropped > 1000);
    assert_true(buffered <= ACCESS_LOG_QUEUE_MAX);
    signal(SIGPIPE, SIG_IGN);
    close(reader); /* the thread gets EPIPE and is free again */
    access_log_sink_unref(k);
    access_log_writer_free(w);
    access_log_sinks_free(s);
    stats_free(st);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_json),   TEST(test_refused),     TEST(test_filters), TEST(test_files),
        TEST(test_reopen), TEST(test_cannot_open), TEST(test_threads), TEST(test_slow_sink),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
