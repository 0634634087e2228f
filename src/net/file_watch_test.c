#include "net/loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct loop *l;
static char root[64];
static int calls;
static struct file_watch *free_in_call;

static void on_change(void *arg)
{
    calls++;
    assert_ptr_equal(arg, &calls);
    file_watch_free(free_in_call);
    free_in_call = NULL;
}

static const char *at(const char *name)
{
    static char p[4][256];
    static int i;
    i = (i + 1) % 4;
    snprintf(p[i], sizeof p[i], "%s/%s", root, name);
    return p[i];
}

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int up(void **state)
{
    l = loop_new(NULL);
    calls = 0;
    strcpy(root, "/tmp/weft_watch_XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int down(void **state)
{
    char cmd[100];
    loop_turn(l, 0);
    loop_free(l);
    snprintf(cmd, sizeof cmd, "rm -rf %s", root);
    return system(cmd);
}

/* How many calls come of what just happened. */
static int changes(void)
{
    int before = calls;
    uint64_t end = loop_clock_ns(l) + 80000000;
    while (loop_clock_ns(l) < end)
        loop_turn(l, 5000000);
    return calls - before;
}

static struct file_watch *watch(const char *path)
{
    struct error err = {0};
    struct file_watch *w = file_watch_new(l, path, on_change, &calls, &err);
    if (!w)
        print_error("%s\n", err.msg);
    assert_non_null(w);
    return w;
}

static void one_file(void **state)
{
    put(at("a"), "1");
    struct file_watch *w = watch(at("a"));
    assert_int_equal(changes(), 0);
    put(at("a"), "2");
    assert_int_equal(changes(), 1);
    for (int i = 0; i < 5; i++)
        put(at("a"), "burst");
    assert_int_equal(changes(), 1);
    put(at("b"), "somebody else");
    assert_int_equal(changes(), 0);
    rename(at("b"), at("a")); /* how careful writers replace a file */
    assert_int_equal(changes(), 1);
    unlink(at("a"));
    assert_int_equal(changes(), 1);
    put(at("a"), "back");
    assert_int_equal(changes(), 1);
    chmod(at("a"), 0600);
    assert_int_equal(changes(), 1);
    file_watch_free(w);
    put(at("a"), "3");
    assert_int_equal(changes(), 0);
    file_watch_free(NULL);
}

static void a_directory(void **state)
{
    mkdir(at("d"), 0700);
    struct file_watch *w = watch(at("d"));
    put(at("d/x"), "1");
    assert_int_equal(changes(), 1);
    put(at("d/x"), "2");
    assert_int_equal(changes(), 1);
    rename(at("d/x"), at("d/y"));
    assert_int_equal(changes(), 1);
    unlink(at("d/y"));
    assert_int_equal(changes(), 1);
    put(at("e"), "outside");
    assert_int_equal(changes(), 0);
    rmdir(at("d"));
    assert_int_equal(changes(), 1);
    mkdir(at("d"), 0700);
    assert_int_equal(changes(), 1);
    put(at("d/x"), "in the new one");
    assert_int_equal(changes(), 1);
    file_watch_free(w);
}

/* A mounted Secret: tls.crt -> ..data/tls.crt, ..data -> ..2026_1; an update makes ..2026_2 and
 * renames a new link over ..data. */
static void kubernetes_swaps_a_link(void **state)
{
    mkdir(at("..2026_1"), 0700);
    put(at("..2026_1/tls.crt"), "1");
    assert_int_equal(symlink("..2026_1", at("..data")), 0);
    assert_int_equal(symlink("..data/tls.crt", at("tls.crt")), 0);
    struct file_watch *file = watch(at("tls.crt"));
    for (int i = 2; i < 5; i++) {
        char dir[32], path[64];
        snprintf(dir, sizeof dir, "..2026_%d", i);
        snprintf(path, sizeof path, "%s/tls.crt", dir);
        mkdir(at(dir), 0700);
        put(at(path), "new");
        assert_int_equal(changes(), 0);
        assert_int_equal(symlink(dir, at("..tmp")), 0);
        assert_int_equal(rename(at("..tmp"), at("..data")), 0);
        assert_int_equal(changes(), 1);
        snprintf(path, sizeof path, "..2026_%d/tls.crt", i - 1);
        unlink(at(path));
        assert_int_equal(changes(), 0); /* the old one no longer matters */
        snprintf(path, sizeof path, "%s/tls.crt", dir);
        put(at(path), "in place");
        assert_int_equal(changes(), 1); /* the present one does */
    }
    struct file_watch *dir = watch(root);
    assert_int_equal(symlink("..2026_1", at("..tmp")), 0);
    assert_int_equal(rename(at("..tmp"), at("..data")), 0);
    assert_int_equal(changes(), 2); /* both */
    file_watch_free(dir);
    file_watch_free(file);
}

static void what_is_not_there_yet(void **state)
{
    struct file_watch *w = watch(at("x/y/z"));
    mkdir(at("x"), 0700);
    assert_int_equal(changes(), 1);
    mkdir(at("x/y"), 0700);
    assert_int_equal(changes(), 1);
    put(at("x/y/z"), "1");
    assert_int_equal(changes(), 1);
    put(at("x/y/z"), "2");
    assert_int_equal(changes(), 1);
    file_watch_free(w);
    assert_int_equal(symlink("loop", at("loop")), 0);
    w = watch(at("loop"));
    unlink(at("loop"));
    put(at("loop"), "1");
    assert_true(changes() >= 1);
    file_watch_free(w);
}

static void two_of_one_directory(void **state)
{
    put(at("a"), "1");
    put(at("b"), "1");
    struct file_watch *a = watch(at("a")), *b = watch(at("b"));
    put(at("a"), "2");
    put(at("b"), "2");
    assert_int_equal(changes(), 2);
    file_watch_free(a);
    put(at("b"), "3"); /* still watched though they shared a descriptor */
    assert_int_equal(changes(), 1);
    free_in_call = b;
    put(at("b"), "4");
    assert_int_equal(changes(), 1);
    put(at("b"), "5");
    assert_int_equal(changes(), 0);
    watch(at("a")); /* goes with the loop */
}

static void relative_paths(void **state)
{
    char before[4096];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(root), 0);
    struct file_watch *w = watch("./sub/../f");
    assert_int_equal(chdir(before), 0);
    mkdir(at("sub"), 0700);
    changes();
    put(at("f"), "1");
    assert_int_equal(changes(), 1);
    file_watch_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, up, down)
        T(one_file),
        T(a_directory),
        T(kubernetes_swaps_a_link),
        T(what_is_not_there_yet),
        T(two_of_one_directory),
        T(relative_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
