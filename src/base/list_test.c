#include "base/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

struct item {
    int v;
    struct list link;
};

static void walking(void **state)
{
    struct list head = LIST_INIT(head);
    struct item it[5];
    assert_null(list_first(&head));
    for (int i = 0; i < 5; i++) {
        it[i].v = i;
        list_push(&head, &it[i].link);
    }
    list_del(&it[0].link);
    list_push_front(&head, &it[0].link);
    int want = 0;
    list_each (n, &head) {
        assert_int_equal(container_of(n, struct item, link)->v, want++);
    }
    assert_int_equal(want, 5);
    list_each_safe (n, &head) {
        if (container_of(n, struct item, link)->v % 2)
            list_del(n);
    }
    list_del(&it[1].link); /* a second time does nothing */
    assert_ptr_equal(list_first(&head), &it[0].link);
    assert_ptr_equal(it[0].link.next, &it[2].link);
    list_each_safe (n, &head) {
        list_del(n);
    }
    assert_true(list_empty(&head));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(walking)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
