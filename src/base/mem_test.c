#include "base/mem.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/strbuf.h"

static bool dead;     /* every allocation of the hook fails */
static bool no_piece; /* those of a piece of the reserve do */

bool mem_test_fails(size_t n)
{
    return n == MEM_PIECE ? no_piece : dead;
}

/* The exit status, or the signal that ended it. */
static int in_child(void (*fn)(void))
{
    int status;
    pid_t p = fork();
    if (p == 0) {
        dup2(open("/dev/null", O_WRONLY), 2);
        fn();
        _exit(0);
    }
    assert_int_equal(waitpid(p, &status, 0), p);
    return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

static void allocate(void)
{
    dead = true;
    free(mem_alloc(10));
}

static void without_a_reserve_it_aborts(void **state)
{
    assert_int_equal(in_child(allocate), SIGABRT);
    assert_false(mem_short());
}

static void all_of_it(void)
{
    mem_reserve_init();
    dead = no_piece = true;
    for (unsigned i = 0; i < MEM_PIECES; i++)
        free(mem_zalloc(10));
    if (!mem_short() || mem_failures() != MEM_PIECES)
        _exit(1);
}

static void once_more(void)
{
    all_of_it();
    free(mem_alloc(10));
}

static void the_reserve_has_an_end(void **state)
{
    assert_int_equal(in_child(all_of_it), 0);
    assert_int_equal(in_child(once_more), SIGABRT);
}

static void it_fills_up_again(void **state)
{
    mem_reserve_init();
    char *p = mem_zalloc(100);
    p[99] = 7;
    dead = no_piece = true;
    p = mem_realloc(p, 200); /* out of the reserve, with what was there */
    assert_int_equal(p[99], 7);
    free(mem_alloc(10));
    dead = false;
    assert_true(mem_short());
    assert_true(mem_short());
    no_piece = false;
    assert_true(mem_short()); /* gets the first piece back */
    assert_false(mem_short());
    assert_false(mem_short());
    assert_int_equal(mem_failures(), 2);
    free(p);
}

/* A text that grows big is cut, as at its maximum, and the reserve stays for others. */
static void big_texts_are_cut(void **state)
{
    struct strbuf s;
    strbuf_init(&s, 64u << 20);
    for (int i = 0; i < 1000; i++)
        strbuf_add_c(&s, "a hundred bytes are not many, but a thousand times as much does not fit "
                         "when there is nothing left");
    dead = true;
    for (int i = 0; i < 10000 && !s.overflow; i++)
        strbuf_add_c(&s, "more and more");
    dead = false;
    assert_true(s.overflow);
    assert_int_equal(strlen(s.p), s.n);
    assert_false(mem_short());
    strbuf_reset(&s);
    strbuf_add_c(&s, "again");
    assert_false(s.overflow);
    strbuf_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_reserve_it_aborts),
        cmocka_unit_test(the_reserve_has_an_end),
        cmocka_unit_test(it_fills_up_again),
        cmocka_unit_test(big_texts_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
