#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

LOG_COMPONENT(alpha);
LOG_COMPONENT(beta);
static struct log_component second_alpha = {.name = "alpha", .level = LOG_INFO};

static char path[] = "/tmp/weft_log_test_XXXXXX";

/* The text of the last line after the time, without the newline. */
static const char *last_line(void)
{
    static char all[65536];
    FILE *f = fopen(path, "r");
    size_t n = fread(all, 1, sizeof all - 1, f);
    fclose(f);
    all[n] = 0;
    assert_true(n > 26 && all[n - 1] == '\n');
    all[n - 1] = 0;
    char *nl = strrchr(all, '\n');
    char *line = nl ? nl + 1 : all;
    assert_int_equal(line[4], '-');
    assert_int_equal(line[10], 'T');
    assert_int_equal(line[23], 'Z');
    return line + 25;
}

static int open_log(void **state)
{
    close(mkstemp(path));
    return log_open(path);
}

static int close_log(void **state)
{
    unlink(path);
    return log_open(NULL);
}

static void the_line(void **state)
{
    log_info(&log_alpha, "listener added name=%s addr=%s n=%zu", "inbound", "0.0.0.0:80",
             (size_t)3);
    assert_string_equal(last_line(),
                        "info  alpha  listener added name=inbound addr=0.0.0.0:80 n=3");
    log_warn(&log_alpha, "%d%% %5.2f %lx %c %08u %lld %*d|%.*s", 50, 1.5, 255ul, 'z', 7u, -1ll, 4,
             2, 2, "abc");
    assert_string_equal(last_line(), "warning alpha  50%  1.50 ff z 00000007 -1    2|ab");
    errno = ENOENT;
    log_error(&log_beta, "open path=%s: %m", "/x");
    assert_string_equal(last_line(), "error beta   open path=/x: No such file or directory");
    assert_int_equal(errno, ENOENT);
}

static void no_line_is_forged(void **state)
{
    log_info(&log_alpha, "path=%s rest=%s", "/a\n2026 info  x  y", "b");
    assert_string_equal(last_line(), "info  alpha  path=\"/a\\n2026 info  x  y\" rest=b");
    log_info(&log_alpha, "host=%s", "a b=c\"d\\e\x1b");
    assert_string_equal(last_line(), "info  alpha  host=\"a b=c\\\"d\\\\e\\x1b\"");
    log_info(&log_alpha, "text %.*s k=%s", 3, "a\nb", "");
    assert_string_equal(last_line(), "info  alpha  text a\\nb k=\"\"");
    char big[6000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    log_info(&log_alpha, "%s", big);
    assert_int_equal(strlen(last_line()), 4096 - 1 - 25);
}

static void count(const char *name, enum log_level level, void *arg)
{
    (*(int *)arg)++;
}

static void levels(void **state)
{
    enum log_level l;
    assert_int_equal(log_level_parse(SV("Warn"), &l), 0);
    assert_int_equal(l, LOG_WARNING);
    for (int i = LOG_TRACE; i <= LOG_OFF; i++) {
        assert_int_equal(log_level_parse(sv_of(log_level_name((enum log_level)i)), &l), 0);
        assert_int_equal(l, i);
    }
    assert_int_equal(log_level_parse(SV("loud"), &l), E_INVALID);
    assert_int_equal(log_set_level("nobody", LOG_DEBUG), E_NOT_FOUND);
    assert_int_equal(log_set_level("alpha", LOG_ERROR), 0);
    log_component_register(&second_alpha);
    log_component_register(&second_alpha);
    assert_int_equal(second_alpha.level, LOG_ERROR); /* joins the level of its name */
    int n = 0;
    log_each_component(count, &n);
    assert_int_equal(n, 2);
    log_info(&log_beta, "before");
    log_info(&log_alpha, "hidden");
    assert_string_equal(last_line(), "info  beta   before");
    assert_int_equal(log_set_level(NULL, LOG_TRACE), 0);
    log_trace(&second_alpha, "shown");
    assert_string_equal(last_line(), "trace alpha  shown");
}

static void rotation(void **state)
{
    char moved[64];
    log_info(&log_alpha, "old");
    snprintf(moved, sizeof moved, "%s.1", path);
    rename(path, moved);
    assert_int_equal(log_reopen(), 0);
    log_info(&log_alpha, "new");
    assert_string_equal(last_line(), "info  alpha  new");
    unlink(moved);
    assert_int_equal(log_open("/nonexistent/dir/file"), E_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_line),
        cmocka_unit_test(no_line_is_forged),
        cmocka_unit_test(levels),
        cmocka_unit_test(rotation),
    };
    return cmocka_run_group_tests(tests, open_log, close_log);
}
