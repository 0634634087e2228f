#include "base/distance.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void distances(void **state)
{
    char letters[300];

    assert_int_equal(name_distance(SV(""), SV("")), 0);
    assert_int_equal(name_distance(SV("lbPolicy"), SV("LB_POLICY")), 0);
    assert_int_equal(name_distance(SV("VirtualServce"), SV("VirtualService")), 1);
    assert_int_equal(name_distance(SV("abc"), SV("")), 3);
    assert_int_equal(name_distance(SV("kitten"), SV("sitting")), 3);
    memset(letters, 'a', sizeof letters);
    assert_int_equal(name_distance(sv_make(letters, sizeof letters), SV("")), 128);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(distances)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
