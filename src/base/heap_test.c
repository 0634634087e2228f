#include "base/heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/rand.h"

static void against_a_scan(void **state)
{
    enum { N = 200 };
    struct heap h;
    struct heap_node nodes[N] = {{0}};
    int in[N] = {0};
    struct rand_state r;
    rand_seed(&r, 11);
    heap_init(&h);
    assert_null(heap_top(&h));
    heap_remove(&h, &nodes[0]); /* zeroed, in no heap */
    for (int step = 0; step < 50000; step++) {
        size_t k = rand_below(&r, N);
        uint64_t key = rand_below(&r, 1000);
        switch (rand_below(&r, 3)) {
        case 0:
            if (!in[k]) {
                nodes[k].key = key;
                heap_push(&h, &nodes[k]);
            }
            in[k] = 1;
            break;
        case 1:
            heap_remove(&h, &nodes[k]);
            in[k] = 0;
            break;
        default:
            heap_update(&h, &nodes[k], key);
            in[k] = 1;
        }
        uint64_t least = UINT64_MAX;
        for (int i = 0; i < N; i++)
            if (in[i] && nodes[i].key < least)
                least = nodes[i].key;
        struct heap_node *top = heap_top(&h);
        assert_true(top ? top->key == least : least == UINT64_MAX);
    }
    uint64_t last = 0;
    for (struct heap_node *n; (n = heap_top(&h));) {
        assert_true(n->key >= last);
        last = n->key;
        heap_remove(&h, n);
        assert_int_equal(n->pos, HEAP_OUT);
    }
    heap_push(&h, &nodes[0]);
    heap_fini(&h);
    assert_int_equal(nodes[0].pos, HEAP_OUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(against_a_scan)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
